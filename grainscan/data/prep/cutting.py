"""One source to its clips. Everything here runs in a worker process.

A clip is a run of consecutive frames that starts at a key frame (as in `predict`), cropped to a square at native
resolution. A clean clip with twins passes through the encoders of the first one, so that the two differ only in the
artifact or, if several tasks are synthesised, in a combination of some of them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grainscan.data.prep.footage import Examined, reason_of
from grainscan.data.prep.selection import digest
from grainscan.data.sources import scene_of
from grainscan.errors import DataError, OutputError, VideoError
from grainscan.tasks import task_of
from grainscan.video import Block, Window, read_windows, write_clip
from grainscan.views.colour import brightness, shows_something
from grainscan.views.crops import active_area
from grainscan.workers import alive

if TYPE_CHECKING:
    from grainscan.data.synth import Made

log = logging.getLogger(__name__)

_FEW = 4096  # up to so many positions in a picture, all are considered
_TRIES = 16  # positions drawn for a crop; the best is used
_DRAWS = 3  # recipes tried for a twin: not every encoder accepts every picture
_WINDOW_BYTES, _SQUARE_BYTES = 6, 96  # per pixel: three planes of 16 bits; floats of synthesis and its encoders
_SEVERAL = "artifacts"  # in the names of twins for which several tasks were asked
_FPS = (Fraction(1), Fraction(240))  # outside this range, a container's frame rate is not trusted

Box = tuple[int, int, int, int]  # x, y, width, height
Entry = dict[str, Any]  # a clip in the manifest


@dataclass(frozen=True)
class Job:
    """What to cut from one source."""

    path: str
    name: str
    stem: str
    examined: Examined
    labels: dict[str, int]
    clips: dict[int, int]  # number of a clip -> number of its twins
    windows: int  # clips per source if nothing limits them
    frames: int
    size: int
    tasks: tuple[str, ...]  # to synthesise
    seed: int
    destination: str
    journal: str  # file in which finished clips are recorded

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        """Read a job that went through `dataclasses.asdict` and JSON."""
        clips = {int(clip): twins for clip, twins in values["clips"].items()}
        examined, tasks = Examined(**values["examined"]), tuple(values["tasks"])
        return cls(**{**values, "examined": examined, "clips": clips, "tasks": tasks})

    @property
    def memory(self) -> int:
        """Bytes needed beyond reading any file: for whole windows, and for crops as floats."""
        picture = self.examined.width * self.examined.height
        return self.frames * (_WINDOW_BYTES * picture + _SQUARE_BYTES * self.size**2)

    def names(self) -> Iterator[str]:
        """Names of the clips and their twins."""
        for clip, twins in self.clips.items():
            yield from (self.clip_name(clip, number) for number in range(twins + 1))

    def clip_name(self, clip: int, number: int = 0) -> str:
        """The name of a clip, or of its twin with that number (from 1)."""
        word = self.tasks[0] if len(self.tasks) == 1 else _SEVERAL
        return f"{self.stem}_c{clip:02d}" + (f"_{word}{number}" if number else "") + ".avi"


@dataclass(frozen=True)
class Cut:
    """The result of a job."""

    entries: dict[str, Entry]  # of the manifest, by name
    failed: dict[str, str]  # clip -> reason
    missing: int = 0  # clips for which the source has no place left


def cut_request(job: dict[str, Any]) -> dict[str, Any]:
    """`cut` in a worker process: job and result as JSON."""
    return asdict(cut(Job.from_dict(job)))


def cut(job: Job) -> Cut:
    """Write the clips of a source that do not exist yet. Faults of the footage are part of the result.

    Raises OutputError if the destination cannot be written.
    """
    entries, done = recall(job)
    failed = {}
    left = set(job.clips) - done
    try:
        for clip, window, box in _places(job, max(left, default=-1) + 1):
            if clip not in left:
                continue
            left.remove(clip)
            try:
                made = _write(job, clip, window, box)
            except DataError as error:
                failed[job.clip_name(clip)] = error.message
            else:
                entries |= made
                with Path(job.journal).open("ab") as file:
                    file.write(json.dumps({"clip": clip, "entries": made}).encode() + b"\n")
    except VideoError as error:
        reason = reason_of(job.path, error)
        return Cut(entries, failed | {job.clip_name(clip): reason for clip in sorted(left)})
    except OSError as error:
        raise OutputError(
            f"{job.destination}: cannot be written: {error.strerror or error}",
            hint="Finished clips are kept: the same command continues from here.",
        ) from None
    return Cut(entries, failed, len(left))


def recall(job: Job) -> tuple[dict[str, Entry], set[int]]:
    """The entries and numbers of finished clips: one line of the journal each, so that an interruption costs one."""
    journal = Path(job.journal)
    entries: dict[str, Entry] = {}
    done = set()
    intact = 0
    for line in journal.read_bytes().splitlines(keepends=True) if journal.is_file() else []:
        if not line.endswith(b"\n"):  # torn by a power cut
            os.truncate(journal, intact)
            break
        record = json.loads(line)
        intact += len(line)
        if all(Path(job.destination, name).is_file() for name in record["entries"]):
            done.add(record["clip"])
            entries |= record["entries"]
    return entries, done


def _places(job: Job, count: int) -> Iterator[tuple[int, Window, Box]]:
    """Up to `count` different clips as (number, window, box).

    Each window yields one clip; a source with fewer windows than clips is read again for other crops. The place of a
    clip does not depend on which others are wanted.
    """
    taken: dict[float, list[Box]] = {}
    clip = 0
    frames = min(job.frames, job.examined.frames)
    while clip < count:
        before = clip
        for window in read_windows(job.path, windows=job.windows, frames=frames, short="error"):
            alive()
            boxes = taken.setdefault(window.start, [])
            box = choose_box(window, job.size, np.random.default_rng(digest(job.seed, job.name, clip, "box")), boxes)
            if box is not None:
                boxes.append(box)
                yield clip, window, box
                clip += 1
            if clip == count:
                return
        if clip == before:
            return  # no place is left


def choose_box(window: Window, size: int, rng: np.random.Generator, taken: list[Box]) -> Box | None:
    """A square of `size` native pixels on the chroma grid, outside black bars; None if every place is taken.

    Of a few random places, the first that is not all black or white and overlaps least with those in `taken`. A picture
    smaller than the square is used whole.
    """
    left, top, width, height = active_area(window)
    if width < size or height < size:
        left, top, width, height = 0, 0, window.width, window.height
    side_x, side_y = min(size, width), min(size, height)
    columns = _starts(left, left + width - side_x, max(2, 1 << window.format.sub_w))
    rows = _starts(top, top + height - side_y, max(2, 1 << window.format.sub_h))
    places = len(columns) * len(rows)
    order = rng.permutation(places) if places <= _FEW else rng.integers(places, size=_TRIES)
    boxes = ((columns[i % len(columns)], rows[i // len(columns)], side_x, side_y) for i in order.tolist())
    free = islice((box for box in boxes if box not in taken), _TRIES)
    return min(free, key=lambda box: (not _shows(window, box), _overlap(box, taken)), default=None)


def _starts(first: int, last: int, step: int) -> range:
    """Positions on the chroma grid from `first` to `last`, or the one before `first` if there are none."""
    aligned = -(-first // step) * step
    return range(aligned, last + 1, step) if aligned <= last else range(first // step * step, first + 1, step)


def _shows(window: Window, box: Box) -> bool:
    """Whether the middle picture, in the box, is neither black nor white on average."""
    x, y, width, height = box
    luma = brightness(window.pictures[window.frames // 2], window.format)
    return bool(shows_something(luma[y : y + height : 4, x : x + width : 4].mean(), window.format))


def _overlap(box: Box, taken: list[Box]) -> int:
    """The largest number of pixels that a box shares with one of `taken`."""
    x, y, width, height = box
    shared = (
        max(0, min(x + width, left + w) - max(x, left)) * max(0, min(y + height, top + h) - max(y, top))
        for left, top, w, h in taken
    )
    return max(shared, default=0)


def _write(job: Job, clip: int, window: Window, box: Box) -> dict[str, Entry]:
    """Write a clip and its twins. Returns their manifest entries by name."""
    block = window.block(*box)
    entry: Entry = {
        "source": scene_of(job.name) or job.name,
        "file": job.name,
        "start": round(window.start, 6),
        "frames": block.frames,
        "box": list(box),
        "labels": dict(job.labels),
        "strength": {},
        "synthesis": None,
        "twin": None,
    }
    folder, fps = Path(job.destination), _frame_rate(job.examined.fps)
    twins = job.clips[clip]
    if not twins or not job.tasks:
        write_clip(folder / job.clip_name(clip), block, fps=fps)
        return {job.clip_name(clip): entry}
    entries: dict[str, Entry] = {}
    for number in range(1, twins + 1):
        alive()
        pair = _synthesise(job, clip, number, block)
        for made, own, other in zip(pair, (0, number), (1, 0), strict=True):
            if own == 0 and number > 1:
                continue  # the clean clip is that of the first twin
            recipe, result = made
            entries[job.clip_name(clip, own)] = entry | {
                "labels": dict(result.labels),
                "strength": {task: round(value, 4) for task, value in result.strength.items() if task_of(task).unit},
                "synthesis": recipe,
                "twin": job.clip_name(clip, other),
            }
            write_clip(folder / job.clip_name(clip, own), result.block, fps=fps)
    return entries


def _synthesise(job: Job, clip: int, number: int, block: Block) -> tuple[tuple[dict[str, Any], Made], ...]:
    """Draw a recipe and carry it out: the clean clip and the affected one, each with the recipe that makes it.

    If an encoder refuses this picture, another recipe is tried.
    """
    draws = 0
    while True:
        rng = np.random.default_rng(digest(job.seed, job.name, clip, "twin", number, draws))
        try:
            return _one(job.tasks[0], rng, block) if len(job.tasks) == 1 else _several(job.tasks, rng, block)
        except DataError as error:
            draws += 1
            if draws == _DRAWS:
                raise
            log.debug("%s, clip %d: %s", job.path, clip, error.message)


def _one(task: str, rng: np.random.Generator, block: Block) -> tuple[tuple[dict[str, Any], Made], ...]:
    from grainscan.data import synth  # only loaded if something is synthesised

    recipe = synth.synthesiser(task).draw(rng, width=block.width, height=block.height)
    pair = synth.twin(block, recipe)
    clean = synth.Made(pair.clean, {task: pair.clean_label}, {task: pair.clean_strength})
    affected = synth.Made(pair.affected, {task: pair.label}, {task: pair.strength})
    return (recipe.clean().to_dict(), clean), (recipe.to_dict(), affected)


def _several(tasks: tuple[str, ...], rng: np.random.Generator, block: Block) -> tuple[tuple[dict[str, Any], Made], ...]:
    from grainscan.data import synth

    recipe = synth.Combination.draw(rng, tasks, width=block.width, height=block.height)
    clean, affected = synth.combine(block, recipe, tasks)
    return (recipe.clean().to_dict(), clean), (recipe.to_dict(), affected)


def put_in(entry: Entry) -> tuple[str, ...]:
    """The tasks whose artifacts the recipe of a twin contains."""
    recipe = entry["synthesis"]
    return tuple(one["task"] for one in recipe["artifacts"]) if "artifacts" in recipe else (recipe["task"],)


def _frame_rate(text: str) -> Fraction:
    """The frame rate as .avi can store it, if it is plausible; else 25."""
    rate = Fraction(text) if text else Fraction(25)
    return rate.limit_denominator(1001) if _FPS[0] <= rate <= _FPS[1] else Fraction(25)
