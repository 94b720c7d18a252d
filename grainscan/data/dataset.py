"""Labelled clips as a torch Dataset: what `train` draws its views from.

The whole training is one sequence of *draws*. Draw number d stands for a pass over the clips, a place in that pass,
and through (seed, d) for everything that is random about it: which window, which crop, which way round. Nothing depends
on workers, processes or batch sizes, so a batch of 8, two of 4 accumulated and two processes of 4 see the same views,
and a resumed run goes on where it was. Views are cut from native planes (`cache`) and never resampled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from grainscan.data.cache import ClipCache, Excerpt
from grainscan.data.labels import ClipPaths, read_labels
from grainscan.data.manifest import read_manifest
from grainscan.data.sources import Side, group_clips
from grainscan.errors import DataError, UsageError
from grainscan.tasks import AUGMENTATIONS, Augmentation, task_of
from grainscan.video import Block, PixelFormat, fill_indices
from grainscan.views.colour import to_rgb
from grainscan.views.crops import ViewSpec, fit

GAIN = 0.1  # brightness: pixel values times 1 +- GAIN, which changes grain by as little
COLOUR = 0.03  # each channel times 1 +- COLOUR
OFFSET = 0.02  # plus +- OFFSET, of the range [0, 1]
VALIDATION_VIEWS = 4  # of a clip, fewer where these pixels are used up before
_VALIDATION_PIXELS = 400_000
_TOGETHER = 4  # views converted at a time: as many as stay in a processor's cache

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class ClipSet:
    """Clips of a folder with what is known about them. Unknown labels and strengths are NaN."""

    folder: Path
    tasks: tuple[str, ...]
    names: tuple[str, ...]
    media: Path
    sources: tuple[str, ...]
    labels: NDArray[np.float32]  # (clips, tasks): 0, 1, NaN
    strength: NDArray[np.float32]  # (clips, tasks): log2(1 + strength), NaN

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.media / self.names[index]

    def side(self) -> Side:
        """What `leaks` compares."""
        sources = dict(zip(self.names, self.sources, strict=True))
        return Side(sources, ClipPaths(self.media, sources))

    def counts(self) -> NDArray[np.int64]:
        """(tasks, 2): clips with label 0 and with label 1."""
        return np.stack([(self.labels == label).sum(axis=0) for label in (0, 1)], axis=1)

    def subset(self, keep: Sequence[int]) -> ClipSet:
        rows = list(keep)
        return ClipSet(
            self.folder,
            self.tasks,
            tuple(self.names[i] for i in rows),
            self.media,
            tuple(self.sources[i] for i in rows),
            self.labels[rows],
            self.strength[rows],
        )


def read_clips(folder: Path, tasks: Sequence[str] | None = None, *, partly: bool = False) -> ClipSet:
    """The clips of a labelled folder with a label or a strength for one of `tasks` (None: all that the labels name).

    Strengths come from the manifest; a clip between clean and grainy has nothing else, and teaches all the same. Where
    a task has any, its clips with the label 0 and no entry have strength 0.
    Raises LabelsError, DataError without a known label, and UsageError for a task that no clip is labelled for, unless
    the folder may know the tasks `partly`.
    """
    found = read_labels(folder)
    manifest = read_manifest(folder, brief=True)
    tasks = tuple(tasks or found.tasks)
    unknown = [task for task in tasks if task not in found.tasks]
    if unknown and not partly:
        raise UsageError(
            f"{folder}: no clip has a label for {', '.join(unknown)}",
            hint=f"Labelled tasks: {', '.join(found.tasks) or 'none'}.",
        )
    entries = (manifest or {}).get("clips", {})
    names = tuple(name for name, labels in found.clips.items() if _says_something(labels, entries.get(name), tasks))
    if not any(task in found.clips[name] for name in names for task in tasks):
        raise DataError(f"{folder}: no clip has a known label", hint="Write 0 or 1 for some of them in labels.json.")
    labels = np.array([[found.clips[name].get(task, np.nan) for task in tasks] for name in names], dtype=np.float32)
    strength = _strengths(names, tasks, labels, entries)
    source = group_clips(found.clips, manifest)
    return ClipSet(folder, tasks, names, found.media, tuple(source[name] for name in names), labels, strength)


def _says_something(labels: Mapping[str, int], entry: Mapping[str, Any] | None, tasks: Sequence[str]) -> bool:
    strengths = (entry or {}).get("strength") or {}
    return any(task in labels or strengths.get(task) is not None for task in tasks)


def _strengths(
    names: Sequence[str], tasks: Sequence[str], labels: NDArray[np.float32], entries: dict[str, Any]
) -> NDArray[np.float32]:
    recorded = np.full(labels.shape, np.nan, dtype=np.float32)
    for row, name in enumerate(names):
        known = (entries.get(name) or {}).get("strength") or {}
        for column, task in enumerate(tasks):
            if known.get(task) is not None:
                recorded[row, column] = np.log2(1 + known[task])
    measured = np.isfinite(recorded).any(axis=0)
    recorded[(labels == 0) & np.isnan(recorded) & measured] = 0
    return recorded


def class_weights(labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probability of each clip in a class-balanced draw, (clips,): every class of every task is drawn equally often.

    A clip's weight is the mean, over its known labels, of one over the number of clips with that label; a clip with
    none counts as an average one.
    """
    weights = np.full(labels.shape, np.nan)
    for label in (0, 1):
        count = (labels == label).sum(axis=0)
        weights = np.where(labels == label, 1 / np.maximum(count, 1), weights)
    known = np.isfinite(weights)
    labelled = known.any(axis=1)
    weight = np.nansum(weights, axis=1) / np.maximum(known.sum(axis=1), 1)
    weight[~labelled] = weight[labelled].mean()
    return np.asarray(weight / weight.sum())


# ---------------------------------------------------------------------------------------------------------- cuts


@dataclass(frozen=True)
class Cut:
    """Where a view lies in a clip's excerpt, and what is done to it. `patch` picks the excerpt's block."""

    patch: int
    start: int
    x: int
    y: int
    reverse: bool = False
    mirror: bool = False
    flip: bool = False
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: float = 0.0


def augmentations_for(tasks: Iterable[str]) -> frozenset[Augmentation]:
    """The augmentations that leave the labels of all these tasks true."""
    return AUGMENTATIONS.intersection(*(task_of(task).augmentations for task in tasks))


def random_cut(
    excerpt: Excerpt, view: ViewSpec, rng: np.random.Generator, *, augment: Collection[Augmentation] = ()
) -> Cut:
    """A view anywhere in the excerpt; `augment` says whether it may be reversed, flipped, or change its light."""
    u = rng.random(12).tolist()  # all at once: a call costs more than its numbers
    patch = int(u[0] * len(excerpt.shapes))
    frames, height, width = excerpt.shapes[patch]
    start = int(u[1] * (max(0, frames - view.frames) + 1))
    x = _on_grid(u[2], width - view.size, excerpt.format.sub_w)
    y = _on_grid(u[3], height - view.size, excerpt.format.sub_h)
    # Every draw takes the same numbers, so that one augmentation more or less does not move the others.
    reverse, mirror = "reverse" in augment and u[4] < 0.5, "mirror" in augment and u[5] < 0.5
    flip = "flip" in augment and u[6] < 0.5
    if "light" not in augment:
        return Cut(patch, start, x, y, reverse, mirror, flip)
    gain = 1 + GAIN * (2 * u[7] - 1)
    red, green, blue = (gain * (1 + COLOUR * (2 * value - 1)) for value in u[8:11])
    return Cut(patch, start, x, y, reverse, mirror, flip, (red, green, blue), OFFSET * (2 * u[11] - 1))


def grid_cuts(excerpt: Excerpt, view: ViewSpec, count: int) -> list[Cut]:
    """`count` views spread evenly over blocks, time and picture: the same ones every time."""
    cuts = []
    for i in range(count):
        patch = i * len(excerpt.shapes) // count
        frames, height, width = excerpt.shapes[patch]
        along = (i + 0.5) / count
        across = (i * 0.618034 + 0.5) % 1  # golden ratio: successive places stay far apart
        start = round(along * max(0, frames - view.frames))
        x = _on_grid(across, width - view.size, excerpt.format.sub_w)
        y = _on_grid(along, height - view.size, excerpt.format.sub_h)
        cuts.append(Cut(patch, start, x, y))
    return cuts


def _on_grid(part: float, room: int, shift: int) -> int:
    """A coordinate at `part` in [0, 1) of the room, on the chroma grid."""
    return int(part * ((max(0, room) >> shift) + 1)) << shift


def cut_block(excerpt: Excerpt, cut: Cut, view: ViewSpec) -> Block:
    """The native planes of a view. Short clips run back and forth, small pictures are mirrored at their edges."""
    block = excerpt.block(cut.patch, cut.start, view.frames)
    block = block.crop(cut.x, cut.y, min(view.size, block.width), min(view.size, block.height))
    if block.frames < view.frames:
        order = fill_indices(block.frames, view.frames, "mirror")
        block = Block(tuple(plane[order] for plane in block.planes), block.format)
    if block.width < view.size or block.height < view.size:
        block = fit(block, view.size).crop(0, 0, view.size, view.size)
    return block


def read_cuts(cache: ClipCache, path: Path, choose: Callable[[Excerpt], list[Cut]]) -> tuple[list[Block], list[Cut]]:
    """The views of a clip that `choose` picks. Raises VideoError, DataError."""
    excerpt = cache.read(path)
    cuts = choose(excerpt)
    try:
        return [cut_block(excerpt, cut, cache.view) for cut in cuts], cuts
    except OSError:  # removed since its header was read, by another training that needed room
        cache.forget(path)
    excerpt = cache.read(path)
    return [cut_block(excerpt, cut, cache.view) for cut in cuts], cuts


def render(blocks: Sequence[Block], cuts: Sequence[Cut], view: ViewSpec) -> NDArray[np.float32]:
    """RGB of a batch of views, (n, frames, 3, size, size) float32 in [0, 1]."""
    views = np.empty((len(blocks), view.frames, 3, view.size, view.size), dtype=np.float32)
    groups: dict[PixelFormat, list[int]] = defaultdict(list)
    for i, block in enumerate(blocks):
        groups[block.format].append(i)
    for form, members in groups.items():
        for start in range(0, len(members), _TOGETHER):
            some = members[start : start + _TOGETHER]
            stacked = zip(*(_turned(blocks[i], cuts[i]) for i in some), strict=True)
            rgb = to_rgb(Block(tuple(np.concatenate(planes) for planes in stacked), form))
            for i, part in zip(some, rgb.reshape(len(some), *views.shape[1:]), strict=True):
                _colour(part, cuts[i], views[i])
    return views


def _colour(rgb: NDArray[np.float32], cut: Cut, out: NDArray[np.float32]) -> None:
    """Gain and offset of a view (frames, 3, size, size), written to `out`."""
    if cut.gain == (1.0, 1.0, 1.0) and not cut.offset:
        out[...] = rgb
        return
    np.multiply(rgb, np.asarray(cut.gain, dtype=np.float32)[:, None, None], out=rgb)
    rgb += np.float32(cut.offset)
    np.clip(rgb, 0, 1, out=out)


def _turned(block: Block, cut: Cut) -> list[NDArray[Any]]:
    """The planes, reversed and flipped. Chroma planes flip with luma since views are even and on the chroma grid."""
    time, rows, columns = (slice(None, None, -1 if on else 1) for on in (cut.reverse, cut.flip, cut.mirror))
    return [plane[time, rows, columns] for plane in block.planes]


# ------------------------------------------------------------------------------------------------------ datasets


class TrainingViews(Dataset[Any]):
    """`draws` random views, one after another through shuffled (or class-balanced) passes over the clips.

    Fetched a batch at a time; every batch is {"views", "labels", "strength", "clip"} with NaN for what is unknown.
    """

    def __init__(
        self,
        clips: ClipSet,
        cache: ClipCache,
        *,
        draws: int,
        seed: int = 0,
        balanced: bool = False,
        augment: bool = True,
    ) -> None:
        self.clips = clips
        self.cache = cache
        self.draws = draws
        self.seed = seed % 2**63  # NumPy takes no negative ones
        self.augment = augmentations_for(clips.tasks) if augment else frozenset()
        self.weights = class_weights(clips.labels) if balanced else None
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __len__(self) -> int:
        return self.draws

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_order"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def clip_of(self, draw: int) -> int:
        """Index of the clip that a draw shows."""
        turn, place = divmod(draw, len(self.clips))
        return int(self._order(turn)[place])

    def _draw_order(self, turn: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self.seed, 0, turn))
        if self.weights is None:
            return rng.permutation(len(self.clips))
        return rng.choice(len(self.clips), size=len(self.clips), p=self.weights)

    def __getitem__(self, draw: int) -> Batch:
        return self.__getitems__([draw])

    def __getitems__(self, draws: Sequence[int]) -> Batch:
        indices = [self.clip_of(draw) for draw in draws]
        blocks: list[Block] = []
        cuts: list[Cut] = []
        for draw, index in zip(draws, indices, strict=True):
            some, chosen = read_cuts(self.cache, self.clips.path(index), partial(self._cut, draw))
            blocks += some
            cuts += chosen
        return _batch(self.clips, indices, render(blocks, cuts, self.cache.view))

    def _cut(self, draw: int, excerpt: Excerpt) -> list[Cut]:
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=draw))
        return [random_cut(excerpt, self.cache.view, rng, augment=self.augment)]


class ValidationViews(Dataset[Any]):
    """A few views of each clip, always the same: item i is clip i with all its views, fetched a batch at a time."""

    def __init__(self, clips: ClipSet, cache: ClipCache, *, count: int | None = None) -> None:
        self.clips = clips
        self.cache = cache
        pixels = cache.view.frames * cache.view.size**2
        self.count = count or max(1, min(VALIDATION_VIEWS, _VALIDATION_PIXELS // pixels))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Views of the clips one after another; `clip` tells to which each belongs."""
        blocks: list[Block] = []
        cuts: list[Cut] = []
        for index in indices:
            choose = partial(grid_cuts, view=self.cache.view, count=self.count)
            some, chosen = read_cuts(self.cache, self.clips.path(index), choose)
            blocks += some
            cuts += chosen
        owners = [index for index in indices for _ in range(self.count)]
        return _batch(self.clips, owners, render(blocks, cuts, self.cache.view))


def _batch(clips: ClipSet, indices: Sequence[int], views: NDArray[np.float32]) -> Batch:
    rows = list(indices)
    return {
        "views": torch.from_numpy(views),
        "labels": torch.from_numpy(clips.labels[rows]),
        "strength": torch.from_numpy(clips.strength[rows]),
        "clip": torch.tensor(rows),
    }


def as_is(batch: Any) -> Any:
    """Collate function: the data sets above already make whole batches."""
    return batch
