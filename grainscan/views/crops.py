"""Which crops of a window the model looks at. Pure arithmetic.

A view (the term of video classification) is one window x one crop: (frames, 3, size, size), RGB in [0, 1], cut at
native resolution, because resizing destroys the very noise that is sought. Half of a window's crops are the flattest at
each level of brightness, where grain is most visible (it may be visible only in the shadows or the midtones); the other
half lies on a grid, so that no part of the picture is overlooked. Black bars and crops without information are skipped.
The same window always yields the same views.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Block, Window
from grainscan.video.planes import one_in, plane_box
from grainscan.views.colour import brightness, levels, shows_something, to_rgb

_CELL = 8  # side of the cells whose means separate structure from grain, pixels: wider than grain, narrower than a view
BAR_TOLERANCE = 12  # 8-bit codes above black that a bar may reach: encoders ring at its edge
_EDGES: tuple[Any, ...] = (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])
_BAR_MOST = 0.75  # of a dimension; more is a dark picture, not a bar
_LEVELS_OF_BRIGHTNESS = 4  # the deviation of grain depends on it (Liu et al. 2006, noise level functions)


Area = tuple[int, int, int, int]  # x, y, width, height
Corner = tuple[int, int]  # x, y
Places = NDArray[np.int64]  # (n, 2): the corners of squares


@dataclass(frozen=True)
class ViewSpec:
    """How a file is sampled. The default is the pixel budget of the classic 32 frames of 224 x 224."""

    frames: int = 8  # consecutive frames of a window
    size: int = 64  # side of the square crop, native pixels
    windows: int = 4  # of a file
    crops: int = 12  # of a window
    flat: float = 0.5  # share of the crops taken where the picture is flattest

    def to_dict(self) -> dict[str, int | float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ViewSpec:
        known = {key: int(value) for key, value in values.items() if key != "flat"}
        return cls(**known, flat=float(values.get("flat", cls.flat)))


def fit(block: Block, size: int) -> Block:
    """Pad a block that is smaller than a crop to `size` x `size` by mirroring it at its right and bottom edges.

    Larger blocks are returned as they are. Mirrored noise keeps its statistics; a flat border would change them.
    """
    return pad(block, max(size, block.width), max(size, block.height), mode="symmetric")


def pad(block: Block, width: int, height: int, *, mode: Literal["symmetric", "edge"]) -> Block:
    """Grow a block to width x height at its right and bottom edges, by mirroring it or repeating the edge."""
    if (width, height) == (block.width, block.height):
        return block
    planes = []
    for i, plane in enumerate(block.planes):
        _, _, right, bottom = plane_box(block.format, i, 0, 0, width, height)
        planes.append(np.pad(plane, ((0, 0), (0, bottom - plane.shape[1]), (0, right - plane.shape[2])), mode=mode))
    return Block(tuple(planes), block.format)


def crop_views(window: Window, spec: ViewSpec, area: Area | None = None) -> tuple[NDArray[np.float32], list[Corner]]:
    """The views of a window, float32 RGB (n, frames, 3, size, size) in [0, 1], and their corners (see `view_boxes`)."""
    size, places = spec.size, view_boxes(window, spec, area)
    blocks = [window.block(x, y, min(size, window.width), min(size, window.height)) for x, y in places]
    blocks = [fit(block, size).crop(0, 0, size, size) for block in blocks]
    planes = tuple(np.concatenate(stack) for stack in zip(*(block.planes for block in blocks), strict=True))
    rgb = to_rgb(Block(planes, blocks[0].format))
    return rgb.reshape(len(blocks), window.frames, 3, size, size), places


def active_area(window: Window) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the picture without black bars, from its first, middle and last frame."""
    black, _ = levels(window.format)
    limit = black + BAR_TOLERANCE * window.format.unit
    pictures = [window.pictures[i] for i in sorted({0, window.frames // 2, window.frames - 1})]
    lumas = [brightness(picture, window.format) for picture in pictures]
    if all(any(luma[edge].max() > limit for luma in lumas) for edge in _EDGES):
        return 0, 0, window.width, window.height
    top, bottom = lit_part(np.max([luma.max(axis=1) for luma in lumas], axis=0) > limit)
    left, right = lit_part(np.max([luma.max(axis=0) for luma in lumas], axis=0) > limit)
    return left, top, right - left, bottom - top


def lit_part(lit: NDArray[np.bool_]) -> tuple[int, int]:
    """First and one past the last bright line; all lines where nearly everything is dark."""
    where = np.flatnonzero(lit)
    if not len(where) or len(lit) - (where[-1] + 1 - where[0]) > _BAR_MOST * len(lit):
        return 0, len(lit)
    return int(where[0]), int(where[-1]) + 1


def view_boxes(window: Window, spec: ViewSpec, area: Area | None = None) -> list[Corner]:
    """Corners (x, y) of up to `spec.crops` crops: the flattest ones by level of brightness, then those on a grid.

    `area` is the window's `active_area`, if it is known.

    A crop is flat if the means of its 8x8 cells have a small standard deviation: structure counts, grain averages out.
    A picture with room for fewer crops (at half overlap) has fewer. Corners are even: on the chroma grid of 4:2:0.
    """
    x, y, width, height = area or active_area(window)
    size = spec.size
    if width < size or height < size:
        x, y, width, height = 0, 0, window.width, window.height
    if width < size or height < size:
        return [(0, 0)]
    places = corners(x, y, width, height, size, spec.crops)
    flatness, level = _structure(window, places, size)
    informative = np.flatnonzero(shows_something(level, window.format))
    if not len(informative):
        informative = np.arange(len(places))
    count = min(spec.crops, len(informative))
    flat = _flattest(informative, flatness, level, int(spec.flat * count))
    unused = np.zeros(len(places), np.bool_)  # setdiff1d would import numpy.ma, which takes longer than a window
    unused[informative] = True
    unused[flat] = False
    rest = np.flatnonzero(unused)
    spread = rest[np.linspace(0, len(rest) - 1, count - len(flat)).round().astype(int)]
    return [(x, y) for x, y in places[[*flat, *spread]].tolist()]


def _flattest(
    crops: NDArray[np.intp], flatness: NDArray[np.float64], level: NDArray[np.float64], count: int
) -> NDArray[np.intp]:
    """The `count` flattest crops: a quarter from the darkest quarter of all crops, and so on to the brightest."""
    by_level = crops[np.argsort(level[crops], kind="stable")]
    parts = np.array_split(by_level, _LEVELS_OF_BRIGHTNESS)
    shares = np.diff(count * np.arange(_LEVELS_OF_BRIGHTNESS + 1) // _LEVELS_OF_BRIGHTNESS)
    flattest = (part[np.argsort(flatness[part], kind="stable")] for part in parts)
    return np.concatenate([part[:share] for part, share in zip(flattest, shares, strict=True)])


@functools.lru_cache(maxsize=16)
def corners(x: int, y: int, width: int, height: int, size: int, wanted: int) -> Places:
    """Evenly spread corners, row by row: side by side, or half overlapping where the picture is small. Read-only."""
    step = size if (width // size) * (height // size) >= 2 * wanted else size // 2
    columns = np.linspace(x, x + width - size, (width - size) // step + 1).astype(np.int64) // 2 * 2
    rows = np.linspace(y, y + height - size, (height - size) // step + 1).astype(np.int64) // 2 * 2
    places = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    places.setflags(write=False)
    return places


def _structure(window: Window, places: Places, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(standard deviation of the cell means, mean) of squares of the middle picture, native codes."""
    means = _cell_means(window)
    rows, columns = means.shape
    span = max(1, side // _CELL)
    row = np.minimum(places[:, 1] // _CELL, max(0, rows - span))
    column = np.minimum(places[:, 0] // _CELL, max(0, columns - span))
    high, wide = min(span, rows), min(span, columns)
    first, second = (_box_sums(values, high, wide)[row, column] / (high * wide) for values in (means, means * means))
    return np.sqrt(np.maximum(second - first**2, 0)), first


def _cell_means(window: Window) -> NDArray[np.float64]:
    """Means of the cells of the middle picture (rows, columns), in native codes."""
    luma = brightness(window.pictures[window.frames // 2], window.format)
    rows, columns = luma.shape[0] // _CELL, luma.shape[1] // _CELL
    # Eight of a cell's 64 samples suffice for its mean.
    used = luma[: rows * _CELL, : columns * _CELL]
    lines = np.add(*(one_in(2, used[i::_CELL]) for i in (1, 5)), dtype=np.uint32)
    return (lines[:, ::4] + lines[:, 1::4] + lines[:, 2::4] + lines[:, 3::4]) / 8


def _box_sums(values: NDArray[np.float64], high: int, wide: int) -> NDArray[np.float64]:
    """Sums over all boxes of high x wide values."""
    down, across = (side - length + 1 for side, length in zip(values.shape, (high, wide), strict=True))
    rows = functools.reduce(np.add, (values[i : i + down] for i in range(high)))
    return np.asarray(functools.reduce(np.add, (rows[:, i : i + across] for i in range(wide))))
