"""Labelled clips as torch datasets of views, for training and validation.

The whole training is one sequence of *draws*. The number of a draw determines the pass over the clips and the place in
it; with the seed, also everything random: window, crop and augmentation. Nothing depends on workers, processes or batch
sizes, so a batch of 8, two accumulated ones of 4 and two processes with 4 each see the same views, and a resumed run
continues exactly. Views are cut from native planes (`cache`) and never resampled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from grainscan.data.cache import ClipCache, Excerpt
from grainscan.data.labels import read_labels
from grainscan.data.manifest import read_manifest
from grainscan.data.sources import Side, group_clips
from grainscan.errors import UnfitDataError, UsageError
from grainscan.tasks import AUGMENTATIONS, Augmentation, task_of
from grainscan.video import Block, PixelFormat, fill_indices
from grainscan.views.colour import to_rgb
from grainscan.views.crops import ViewSpec, fit

GAIN = 0.1  # brightness: pixel values times 1 +- GAIN, which changes grain as little
COLOUR = 0.03  # each channel times 1 +- COLOUR
OFFSET = 0.02  # added, +- OFFSET of the range [0, 1]
VALIDATION_VIEWS = 4  # per clip, or fewer of large views: at most _VALIDATION_PIXELS
_VALIDATION_PIXELS = 400_000
_TOGETHER = 4  # views converted at a time: as many as fit into a processor's cache

Batch = dict[str, Any]
Chooser = Callable[[Excerpt], "list[tuple[Cut | None, float]]"]
_NO_STATISTICS = np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)
class ClipSet:
    """Clips of a folder, their labels and strengths. Unknown ones are NaN."""

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
        return Side(dict(zip(self.names, self.sources, strict=True)), self.media)

    def counts(self) -> NDArray[np.int64]:
        """(tasks, 2): clips with label 0 and with label 1."""
        return np.stack([(self.labels == label).sum(axis=0) for label in (0, 1)], axis=1)

    def subset(self, keep: Sequence[int]) -> ClipSet:
        rows = list(keep)
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            sources=tuple(self.sources[i] for i in rows),
            labels=self.labels[rows],
            strength=self.strength[rows],
        )


def read_clips(folder: Path, tasks: Sequence[str] | None = None, *, partly: bool = False) -> ClipSet:
    """The clips of a labelled folder with a label or a strength for one of `tasks` (None: every labelled task).

    Strengths come from the manifest; a clip between clean and grainy has a strength but no label. If a task has any
    strengths, its clips with label 0 and without an entry have strength 0.
    Raises LabelsError, UnfitDataError if no label is known, and UsageError if no clip is labelled for one of the tasks,
    unless `partly` allows that.
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
    measured = {name: (entries.get(name) or {}).get("strength") or {} for name in found.clips}
    names = tuple(
        name
        for name, labels in found.clips.items()
        if any(task in labels or measured[name].get(task) is not None for task in tasks)
    )
    if not any(task in found.clips[name] for name in names for task in tasks):
        hint = "Write 0 or 1 for some of them in labels.json."
        raise UnfitDataError(f"{folder}: no clip has a known label", hint=hint)
    labels = np.array([[found.clips[name].get(task, np.nan) for task in tasks] for name in names], dtype=np.float32)
    strength = np.full(labels.shape, np.nan, dtype=np.float32)
    for row, name in enumerate(names):
        for column, task in enumerate(tasks):
            if (value := measured[name].get(task)) is not None:
                strength[row, column] = np.log2(1 + value)
    strength[(labels == 0) & np.isnan(strength) & np.isfinite(strength).any(axis=0)] = 0
    source = group_clips(found.clips, manifest)
    return ClipSet(folder, tasks, names, found.media, tuple(source[name] for name in names), labels, strength)


def class_weights(labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probability of each clip, (clips,), in a draw where every class of every task is equally frequent.

    The weight of a clip is the mean, over its known labels, of one over the number of clips with that label; a clip
    without known labels has the mean weight.
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
    """Where a view lies in a clip's excerpt, and how it is augmented."""

    patch: int  # index of the block
    start: int  # first frame
    x: int
    y: int
    reverse: bool = False
    mirror: bool = False
    flip: bool = False
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: float = 0.0


def random_cut(
    excerpt: Excerpt, view: ViewSpec, rng: np.random.Generator, *, augment: Collection[Augmentation] = ()
) -> Cut:
    """A view anywhere in the excerpt, with each augmentation in `augment` applied at random.

    A view always uses the same random numbers, so that enabling an augmentation does not change the others.
    """
    u = rng.random(12).tolist()  # one call: calls cost more than numbers
    patch = int(u[0] * len(excerpt.shapes))
    frames, height, width = excerpt.shapes[patch]
    start = int(u[1] * (max(0, frames - view.frames) + 1))
    x = _on_grid(u[2], width - view.size, excerpt.format.sub_w)
    y = _on_grid(u[3], height - view.size, excerpt.format.sub_h)
    reverse, mirror = "reverse" in augment and u[4] < 0.5, "mirror" in augment and u[5] < 0.5
    flip = "flip" in augment and u[6] < 0.5
    if "light" not in augment:
        return Cut(patch, start, x, y, reverse, mirror, flip)
    gain = 1 + GAIN * (2 * u[7] - 1)
    red, green, blue = (gain * (1 + COLOUR * (2 * value - 1)) for value in u[8:11])
    return Cut(patch, start, x, y, reverse, mirror, flip, (red, green, blue), OFFSET * (2 * u[11] - 1))


def grid_cuts(excerpt: Excerpt, view: ViewSpec, count: int) -> list[Cut]:
    """`count` views spread evenly over blocks, time and picture: always the same ones."""
    cuts = []
    for i in range(count):
        patch = i * len(excerpt.shapes) // count
        frames, height, width = excerpt.shapes[patch]
        along = (i + 0.5) / count
        across = (i * 0.618034 + 0.5) % 1  # golden ratio: successive places are far apart
        start = round(along * max(0, frames - view.frames))
        x = _on_grid(across, width - view.size, excerpt.format.sub_w)
        y = _on_grid(along, height - view.size, excerpt.format.sub_h)
        cuts.append(Cut(patch, start, x, y))
    return cuts


def _on_grid(part: float, room: int, shift: int) -> int:
    """A coordinate at the fraction `part`, in [0, 1), of the room, on the chroma grid."""
    return int(part * ((max(0, room) >> shift) + 1)) << shift


def cut_block(excerpt: Excerpt, cut: Cut, view: ViewSpec) -> Block:
    """The native planes of a view. Short clips play back and forth, small pictures are mirrored at their edges."""
    block = excerpt.block(cut.patch, cut.start, view.frames)
    block = block.crop(cut.x, cut.y, min(view.size, block.width), min(view.size, block.height))
    if block.frames < view.frames:
        order = fill_indices(block.frames, view.frames, "mirror")
        block = Block(tuple(plane[order] for plane in block.planes), block.format)
    return fit(block, view.size).crop(0, 0, view.size, view.size)


def render(blocks: Sequence[Block], cuts: Sequence[Cut], view: ViewSpec) -> NDArray[np.float32]:
    """RGB of a batch of views, (n, frames, 3, size, size) float32 in [0, 1]."""
    views = np.empty((len(blocks), view.frames, 3, view.size, view.size), dtype=np.float32)
    groups: dict[PixelFormat, list[int]] = defaultdict(list)
    for i, block in enumerate(blocks):
        groups[block.format].append(i)
    for form, members in groups.items():
        for start in range(0, len(members), _TOGETHER):
            chunk = members[start : start + _TOGETHER]
            stacked = zip(*(_turned(blocks[i], cuts[i]) for i in chunk), strict=True)
            rgb = to_rgb(Block(tuple(np.concatenate(planes) for planes in stacked), form))
            for i, part in zip(chunk, rgb.reshape(len(chunk), *views.shape[1:]), strict=True):
                _colour(part, cuts[i], views[i])
    return views


def _colour(rgb: NDArray[np.float32], cut: Cut, out: NDArray[np.float32]) -> None:
    """Apply gain and offset to a view (frames, 3, size, size), into `out`."""
    if cut.gain == (1.0, 1.0, 1.0) and not cut.offset:
        out[...] = rgb
        return
    np.multiply(rgb, np.asarray(cut.gain, dtype=np.float32)[:, None, None], out=rgb)
    rgb += np.float32(cut.offset)
    np.clip(rgb, 0, 1, out=out)


def _turned(block: Block, cut: Cut) -> list[NDArray[Any]]:
    """The planes, reversed and flipped. Chroma stays aligned: views have even sides and lie on the chroma grid."""
    time, rows, columns = (slice(None, None, -1 if on else 1) for on in (cut.reverse, cut.flip, cut.mirror))
    return [plane[time, rows, columns] for plane in block.planes]


# ------------------------------------------------------------------------------------------------------ datasets


class _Views(Dataset[Any]):
    """Batches of samples, each {"views", "statistics", "labels", "strength", "clip"}, `clip` the index of the clip.

    Labels and strengths are NaN if they are unknown. `views` is None if no task that is learnt is judged by views.
    """

    def __init__(self, clips: ClipSet, cache: ClipCache) -> None:
        self.clips = clips
        self.cache = cache
        self.views = cache.wanted["views"]

    def __getitem__(self, item: int) -> Batch:
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int]) -> Batch:
        rows: list[int] = []
        statistics: list[NDArray[np.float32]] = []
        blocks: list[Block] = []
        cuts: list[Cut] = []
        for item in items:
            index, choose = self._choice(item)
            described, found, chosen = self._read(self.clips.path(index), choose)
            rows += [index] * len(described)
            statistics += described
            blocks += found
            cuts += chosen
        return {
            "views": torch.from_numpy(render(blocks, cuts, self.cache.view)) if self.views else None,
            "statistics": torch.from_numpy(np.stack(statistics)),
            "labels": torch.from_numpy(self.clips.labels[rows]),
            "strength": torch.from_numpy(self.clips.strength[rows]),
            "clip": torch.tensor(rows),
        }

    def _read(self, path: Path, choose: Chooser) -> tuple[list[NDArray[np.float32]], list[Block], list[Cut]]:
        """What `choose` selects of a clip: statistics, the views' planes if they are wanted, and their cuts.

        Raises VideoError, DataError.
        """
        excerpt = self.cache.read(path)
        try:
            return self._chosen(excerpt, choose)
        except OSError:  # another training that needed room has removed it
            self.cache.forget(path)
        return self._chosen(self.cache.read(path), choose)

    def _chosen(self, excerpt: Excerpt, choose: Chooser) -> tuple[list[NDArray[np.float32]], list[Block], list[Cut]]:
        table = excerpt.statistics
        chosen = choose(excerpt)
        statistics = [table[int(place * len(table))] if len(table) else _NO_STATISTICS for _, place in chosen]
        cuts = [cut for cut, _ in chosen if cut is not None]
        blocks = [cut_block(excerpt, cut, self.cache.view) for cut in cuts]
        return statistics, blocks, cuts

    def _choice(self, item: int) -> tuple[int, Chooser]:
        """The clip of an item, and a function that chooses its cuts, None without views, and a place in time for each,
        from 0 to below 1."""
        raise NotImplementedError


class TrainingViews(_Views):
    """`draws` random views, in shuffled (or class-balanced) passes over the clips."""

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
        super().__init__(clips, cache)
        self.draws = draws
        self.seed = seed % 2**63  # NumPy accepts no negative seeds
        self.augment = augment
        self.weights = class_weights(clips.labels) if balanced else None
        self.known = np.isfinite(clips.labels) | np.isfinite(clips.strength)
        self._orders: dict[int, NDArray[np.int64]] = {}  # of the current passes

    def __len__(self) -> int:
        return self.draws

    def clip_of(self, draw: int) -> int:
        """Index of the clip that a draw shows."""
        turn, place = divmod(draw, len(self.clips))
        if turn not in self._orders:
            if len(self._orders) > 1:
                self._orders.clear()
            rng = np.random.default_rng((self.seed, 0, turn))
            number = len(self.clips)
            self._orders[turn] = (
                rng.permutation(number) if self.weights is None else rng.choice(number, size=number, p=self.weights)
            )
        return int(self._orders[turn][place])

    def _choice(self, item: int) -> tuple[int, Chooser]:
        clip = self.clip_of(item)
        return clip, partial(self._cut, item, clip)

    def _cut(self, draw: int, clip: int, excerpt: Excerpt) -> list[tuple[Cut | None, float]]:
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=draw))
        if not self.views:
            return [(None, float(rng.random()))]
        cut = random_cut(excerpt, self.cache.view, rng, augment=self.augmentations(clip))
        return [(cut, float(rng.random()))]

    def augmentations(self, clip: int) -> frozenset[Augmentation]:
        """Those that keep true what is known of a clip."""
        if not self.augment:
            return frozenset()
        known = zip(self.clips.tasks, self.known[clip], strict=True)
        return AUGMENTATIONS.intersection(*(task_of(task).augmentations for task, one in known if one))


class ValidationViews(_Views):
    """A few views of each clip, always the same: item i is clip i with all its views, one after another."""

    def __init__(self, clips: ClipSet, cache: ClipCache, *, count: int | None = None) -> None:
        super().__init__(clips, cache)
        pixels = cache.view.frames * cache.view.size**2
        self.count = count or max(1, min(VALIDATION_VIEWS, _VALIDATION_PIXELS // pixels))

    def __len__(self) -> int:
        return len(self.clips)

    def _choice(self, item: int) -> tuple[int, Chooser]:
        return item, self._cuts

    def _cuts(self, excerpt: Excerpt) -> list[tuple[Cut | None, float]]:
        cuts = grid_cuts(excerpt, self.cache.view, self.count) if self.views else [None] * self.count
        return [(cut, i / self.count) for i, cut in enumerate(cuts)]


def as_is(batch: Any) -> Any:
    """Collate function: the datasets above already return whole batches."""
    return batch
