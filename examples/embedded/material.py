"""Make the clean material: `python examples/embedded/material.py DST [--videos DIR]`.

Fetches packages by name (`sources.py`), films the photographs in them (`camera.py`), computes hard negatives
(`procedural.py`), and writes lossless clips without grain:

    DST/scenes/     for training: `grainscan prep DST/scenes DATA --synthesize graininess`
    DST/large/      larger clips of other photographs, to train the artifacts that are seen in the whole picture
    DST/held-out/   other scenes, which training must never see: for `protocol.py`

Each folder has a labels.json (graininess 0 throughout) and a manifest.json with the source of every clip; names begin
with the scene, so that `grainscan split --group auto` keeps a scene on one side. Which scenes are held out depends on
their names alone. The same seed gives the same clips; clips that already exist are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import edits
import numpy as np
from camera import KERNELS, MOVES, Canvas, Frames, fitting_grade, move, open_canvas, residual, shoot, to_block
from common import TASK, Entry, log_to_stderr, logger, make_all, share, write_set
from PIL import Image
from procedural import SCENES, wobble
from sources import Source, collect

from grainscan.video import Block, PixelFormat, is_video_name, probe, read_clip, write_clip

TRAINING, LARGE, HELD_OUT = "scenes", "large", "held-out"
HELD_OUT_SHARE = {"photo": 0.30, "texture": 0.0, "art": 0.10}  # of the scenes of each kind
HELD_OUT_VIDEOS = ("citycc0", "jwpintro")  # how the stems of these files end
CLIPS = {"photo": 4, "texture": 1, "art": 1}  # training clips of one still
LARGE_CLIPS, LARGE_REDUCTION = 3, 1.25  # the same, in the folder of large clips: it is not for learning grain
COMPUTED = 9  # training clips of each kind of computed scene; one more is held out
FRAMES = {TRAINING: 24, LARGE: 24, HELD_OUT: 36}
SIZES = {
    TRAINING: ((640, 360), (512, 384), (576, 432), (480, 272), (768, 432)),
    LARGE: ((1280, 720), (1024, 576), (960, 540), (720, 576), (832, 468)),
    HELD_OUT: ((1280, 720), (1152, 648), (960, 540), (832, 468), (640, 480), (480, 384)),
}
MARGIN = 1.05  # a canvas is at least this much larger than the frame
FORMATS = (  # name, full range, weight
    ("yuv420p", False, 76), ("yuv420p10le", False, 8), ("yuv420p", True, 4), ("yuv422p", False, 3),
    ("yuv422p10le", False, 3), ("yuv444p", False, 3), ("gray", False, 2), ("yuv444p10le", False, 1),
)  # fmt: skip
VIDEO_FRAMES = 48
VIDEO_CLIPS = 3  # training clips of one video: see `_video`
SKIPS = ((1, 0.55), (2, 0.20), (3, 0.15), (4, 0.10))  # every Nth frame of a move is shot; with its probability


@dataclass(frozen=True)
class Job:
    """A clip to make. `path` is a still or a video, None for a computed scene."""

    folder: str
    scene: str
    kind: str  # photo, texture, art, video, or the name of a procedural scene
    number: int
    path: Path | None
    package: str
    seed: int

    def __str__(self) -> str:
        return self.scene

    @property
    def training(self) -> bool:
        return self.folder != HELD_OUT

    def rng(self) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}/{self.folder}/{self.scene}/{self.number}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path, metavar="DST")
    parser.add_argument("--videos", type=Path, help="folder of clean real videos to add to the training scenes")
    parser.add_argument("--packages", type=Path, help="folder in which packages are kept between runs")
    parser.add_argument(
        "--only", action="append", choices=(TRAINING, LARGE, HELD_OUT), help="make this folder, not all (repeatable)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    options = parser.parse_args()
    log_to_stderr()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch: the processes divide the processors among themselves
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="grainscan-packages-") as temporary:
        packages = options.packages or Path(temporary)
        packages.mkdir(parents=True, exist_ok=True)
        jobs = list(plan(collect(packages), options.videos, options.seed))
        for folder in options.only or (TRAINING, LARGE, HELD_OUT):
            chosen = [job for job in jobs if job.folder == folder]
            make(chosen, options.destination / folder, options.workers, options.seed)
    logger.info("%.0f s", time.monotonic() - started)
    return 0


# --------------------------------------------------------------------------------------------------------- planning


def plan(sources: list[Source], videos: Path | None, seed: int) -> Iterator[Job]:
    """Every clip of all folders."""
    for source in sources:
        folder = LARGE if source.large else HELD_OUT if _held_out(source.scene, source.kind) else TRAINING
        of_training = VIDEO_CLIPS if source.kind == "video" else CLIPS[source.kind]
        for number in range({TRAINING: of_training, LARGE: LARGE_CLIPS, HELD_OUT: 1}[folder]):
            yield Job(folder, source.scene, source.kind, number, source.path, source.package, seed)
    for kind in SCENES:
        for number in range(COMPUTED):
            yield Job(TRAINING, f"made-{kind}-{number:02d}", kind, 0, None, "computed", seed)
        yield Job(HELD_OUT, f"made-{kind}-test", kind, 0, None, "computed", seed)
    known = {source.path.stem.lower() for source in sources if source.kind == "video"}
    for path in sorted(videos.rglob("*")) if videos else ():
        same = any(f"_{path.stem}".lower().endswith(f"_{stem}") for stem in known)
        if is_video_name(path) and not same and not _held_out(path.stem, "video"):
            for number in range(VIDEO_CLIPS):
                yield Job(TRAINING, f"local-{path.stem}", "video", number, path, "local", seed)


def _held_out(scene: str, kind: str) -> bool:
    if kind == "video":
        return scene.lower().endswith(HELD_OUT_VIDEOS)
    return share(scene) < HELD_OUT_SHARE[kind]


# ----------------------------------------------------------------------------------------------------------- making


def make(jobs: list[Job], folder: Path, workers: int, seed: int) -> None:
    """Write the clips of one folder with its labels and manifest, in an order that makes any part of them varied."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = sorted(jobs, key=lambda job: job.rng().random())
    clips = make_all(_clip, jobs, folder, workers=workers)
    write_set(folder, clips, script="embedded/material.py", seed=seed)
    kinds = Counter(entry["kind"] for entry in clips.values())
    scenes = len({entry["source"] for entry in clips.values()})
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    logger.info("%s: %d clips of %d scenes (%s)", folder, len(clips), scenes, listed)


def _clip(job: Job, folder: Path) -> dict[str, Entry]:
    """Make a clip; its entry in the manifest by its name, or nothing where the source does not allow such a clip."""
    return _video(job, folder) if job.kind == "video" else _filmed(job, folder)


def _entry(job: Job, **more: object) -> Entry:
    labels = {"labels": {TASK: 0}, "strength": {TASK: 0.0}}
    return {"source": job.scene, "kind": job.kind, "package": job.package, **more, **labels}


def _filmed(job: Job, folder: Path) -> dict[str, Entry]:
    """A clip of a still or of a computed scene."""
    rng = job.rng()
    canvas: Canvas | None = None
    if job.path is None:
        sizes = SIZES[job.folder] if job.training else ((640, 480), (832, 468))
        size = sizes[int(rng.integers(len(sizes)))]
    else:
        canvas, size = _canvas(job, rng)
    name = f"{job.scene}_{size[0]}x{size[1]}_{job.number}.mkv"
    frames = FRAMES[job.folder]
    entry = _entry(job, frames=frames)
    if canvas is not None:
        entry |= {"reduction": round(canvas.reduction, 2), "residual": round(canvas.noise, 2)}
    if (folder / name).is_file():
        return {name: entry}
    if canvas is None:
        taken = SCENES[job.kind](rng, size, frames)
        if job.training and rng.random() < 0.5:
            taken = edits.beside_calm(taken, rng)
    elif rng.random() < {"photo": 0.06, "texture": 0.25}.get(job.kind, 0.0):
        taken = wobble(canvas, rng, size, frames)
    else:
        taken = _moved(canvas, rng, size, frames, fast=job.training)
    if job.training:
        taken = edits.draw(taken, rng)
    graded = fitting_grade(taken, rng).apply(taken) if job.training else taken
    write_clip(folder / name, to_block(graded, _format(rng, job.folder)))
    return {name: entry}


def _canvas(job: Job, rng: np.random.Generator) -> tuple[Canvas, tuple[int, int]]:
    """The still, reduced enough to hide its sensor noise, and a frame size that it fills."""
    assert job.path is not None
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(job.path) as image:
        width, height = image.size
    box = None
    if width > 6000:  # of a panorama, a part
        part = min(height, 4 * width // 10) * 6 // 10, min(height * 3 // 4, width // 4)
        part = (min(width, part[1] * 16 // 9), part[1])
        left, top = int(rng.integers(width - part[0])), (height - part[1]) // 2
        box = (left, top, left + part[0], top + part[1])
        width, height = part
    least = LARGE_REDUCTION if job.folder == LARGE else 2.0 if width >= 1900 else 1.5 if width >= 1000 else 1.0
    fitting = [size for size in SIZES[job.folder] if _room(width, height, size) >= least] or [
        _own_size(width, height, least)
    ]
    size = fitting[int(rng.integers(len(fitting)))] if job.training else fitting[0]
    most = max(least, min(_room(width, height, size), 5.0))
    reduction = float(np.exp(rng.uniform(np.log(least), np.log(most)))) if job.training else least
    return open_canvas(job.path, reduction, core=job.kind == "photo", box=box), size


def _room(width: int, height: int, size: tuple[int, int]) -> float:
    """The largest reduction at which a picture still fills frames of `size` with some room to move."""
    return min(width / (size[0] * MARGIN), height / (size[1] * MARGIN))


def _own_size(width: int, height: int, reduction: float) -> tuple[int, int]:
    """For a small or narrow still: nearly all of it, on a grid of 16."""
    size = int(width / reduction / MARGIN) // 16 * 16, int(height / reduction / MARGIN) // 16 * 16
    if min(size) < 192:
        raise ValueError(f"{width}x{height} is too small")
    return min(size[0], 768), min(size[1], 432)


def _moved(canvas: Canvas, rng: np.random.Generator, size: tuple[int, int], frames: int, *, fast: bool) -> Frames:
    """A move over a still. With `fast`, some moves skip frames: details jump by many pixels per frame."""
    slack = max(0.0, (canvas.width - size[0]) / 2 - 2), max(0.0, (canvas.height - size[1]) / 2 - 2)
    kind = str(rng.choice(MOVES, p=(0.14, 0.30, 0.16, 0.12, 0.18, 0.05, 0.05)))
    if kind == "rotation" and size[0] * size[1] > 300_000:  # too slow to compute
        kind = "handheld"
    skips, weights = zip(*SKIPS, strict=True)
    skip = int(rng.choice(skips, p=weights)) if fast and kind != "whip" else 1
    poses = move(kind, rng, frames=frames * skip, slack=slack)[::skip]
    kernel = str(rng.choice(list(KERNELS)))
    return shoot(canvas, poses, size, kernel=kernel, shutter=float(rng.choice([0.0, 0.4, 0.8])))


def _format(rng: np.random.Generator, folder: str) -> PixelFormat:
    if folder == HELD_OUT:
        return PixelFormat.of("yuv420p")
    weights = np.array([weight for _, _, weight in FORMATS], dtype=float)
    name, full, _ = FORMATS[int(rng.choice(len(FORMATS), p=weights / weights.sum()))]
    return PixelFormat.of(name, full_range=full, matrix="bt601" if rng.random() < 0.2 else "bt709")


def _video(job: Job, folder: Path) -> dict[str, Entry]:
    """A clip of a video; for the held-out folder, a part of it.

    For training, number 0 is the file as it is; number 1, of large videos, a part at half size, free of codec noise;
    number 2 a part of which only every third or fourth frame is kept, so that everything that moves moves far.
    """
    assert job.path is not None
    about = probe(job.path)
    entry = _entry(job)
    if job.number == 0 and job.training:
        name = f"{job.scene}_{about.width}x{about.height}_0{job.path.suffix}"
        if not (folder / name).is_file():
            shutil.copyfile(job.path, folder / name)
        return {name: entry}
    if job.number == 1 and min(about.width, about.height) < 400:
        return {}
    rng = job.rng()
    start = int(rng.integers(max(1, min(about.frames or 0, 400) - VIDEO_FRAMES)))
    if job.number == 2:
        skip = int(rng.integers(3, 5))
        block = read_clip(job.path, start=start, frames=VIDEO_FRAMES // 2 * skip)
        block = Block(tuple(plane[::skip] for plane in block.planes), block.format)
        if block.frames < FRAMES[TRAINING] // 2:
            return {}
    else:
        block = read_clip(job.path, start=start, frames=VIDEO_FRAMES)
    if job.number == 1:
        block = _halved(block)
    name = f"{job.scene}_{block.width}x{block.height}_{job.number}.mkv"
    if not (folder / name).is_file():
        write_clip(folder / name, block, fps=about.fps or Fraction(25))
    return {name: entry | {"frames": block.frames, "residual": round(residual(block.luma8()[:2] / np.float32(255)), 2)}}


def _halved(block: Block) -> Block:
    """Every plane averaged two by two."""
    width, height = block.width // 8 * 8, block.height // 8 * 8
    planes = []
    for plane in block.crop(0, 0, width, height).planes:
        frames, rows, columns = plane.shape
        mean = plane.reshape(frames, rows // 2, 2, columns // 2, 2).mean((2, 4), dtype=np.float32)
        planes.append(np.rint(mean).astype(block.format.dtype))
    return Block(tuple(planes), block.format)


if __name__ == "__main__":
    raise SystemExit(main())
