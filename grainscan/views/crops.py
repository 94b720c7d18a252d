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

from grainscan.tasks import SCALES, Scale
from grainscan.video import Block, Window
from grainscan.video.planes import plane_box
from grainscan.views.colour import brightness, levels, shows_something

_CELL = 8  # side of the cells whose means separate structure from grain, pixels: wider than grain, narrower than a view
BAR_TOLERANCE = 12  # 8-bit codes above black that a bar may reach: encoders ring at its edge
_BAR_MOST = 0.75  # of a dimension; more is a dark picture, not a bar
_LEVELS_OF_BRIGHTNESS = 4  # the deviation of grain depends on it (Liu et al. 2006, noise level functions)


@dataclass(frozen=True)
class ViewSpec:
    """How a file is sampled. The default is the pixel budget of the classic 32 frames of 224 x 224."""

    frames: int = 8  # consecutive frames of a window
    size: int = 64  # side of the square crop, native pixels
    windows: int = 4  # of a file
    crops: int = 12  # of a window
    flat: float = 0.5  # share of the crops taken where the picture is flattest
    detail: int = 0  # further views of a window, for artifacts other than grain: see `SCALES` of `grainscan.tasks`
    quarter: int = 0
    whole: int = 0

    @property
    def counts(self) -> dict[Scale, int]:
        """The largest number of a window's views of each scale."""
        return {"native": self.crops, "detail": self.detail, "quarter": self.quarter, "whole": self.whole}

    @property
    def count(self) -> int:
        """The largest number of views of a window."""
        return sum(self.counts.values())

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The scales that a window's views have."""
        return tuple(scale for scale in SCALES if self.counts[scale])

    @property
    def larger(self) -> bool:
        """Whether some views show more of the picture than their own size."""
        return self.scales != ("native",)

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


def active_area(window: Window) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the picture without black bars, from its first, middle and last frame."""
    black, _ = levels(window.format)
    limit = black + BAR_TOLERANCE * window.format.unit
    pictures = [window.pictures[i] for i in sorted({0, window.frames // 2, window.frames - 1})]
    lumas = [brightness(picture, window.format) for picture in pictures]
    top, bottom = lit_part(np.max([luma.max(axis=1) for luma in lumas], axis=0) > limit)
    left, right = lit_part(np.max([luma.max(axis=0) for luma in lumas], axis=0) > limit)
    return left, top, right - left, bottom - top


def lit_part(lit: NDArray[np.bool_]) -> tuple[int, int]:
    """First and one past the last bright line; all lines where nearly everything is dark."""
    where = np.flatnonzero(lit)
    if not len(where) or len(lit) - (where[-1] + 1 - where[0]) > _BAR_MOST * len(lit):
        return 0, len(lit)
    return int(where[0]), int(where[-1]) + 1


Area = tuple[int, int, int, int]  # x, y, width, height
Places = NDArray[np.int64]  # (n, 2): the corners x, y of squares


def view_boxes(
    window: Window, spec: ViewSpec, area: Area | None = None, cells: Cells | None = None
) -> list[tuple[int, int]]:
    """Corners (x, y) of up to `spec.crops` crops: the flattest ones by level of brightness, then those on a grid.

    `area` is the window's `active_area` and `cells` its `Cells`, if they are known.

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
    flatness, level = (cells or Cells.of(window)).structure(places, size)
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


@dataclass(frozen=True, eq=False)
class Cells:
    """Means of the cells of a window's middle picture, and what follows from them, computed once for all scales.

    `means` (rows, columns) float64 in native codes.
    """

    means: NDArray[np.float64]

    @classmethod
    def of(cls, window: Window) -> Cells:
        luma = brightness(window.pictures[window.frames // 2], window.format)
        rows, columns = luma.shape[0] // _CELL, luma.shape[1] // _CELL
        # Eight of a cell's 64 samples suffice for its mean.
        used = luma[: rows * _CELL, : columns * _CELL]
        total = np.zeros((rows, columns), np.uint32)
        for i in (1, 5):
            for j in (0, 2, 4, 6):
                total += used[i::_CELL, j::_CELL]
        return cls(total / 8)

    def structure(self, places: Places, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(standard deviation of the cell means, mean) of squares, native codes."""
        first, second = (self._mean(sums, places, side) for sums in (self._sums, self._squares))
        return np.sqrt(np.maximum(second - first**2, 0)), first

    def roughness(self, places: Places, side: int) -> NDArray[np.float64]:
        """Mean absolute second difference of the cell means of squares, native codes."""
        return self._mean(self._bends, places, side)

    def _mean(self, sums: NDArray[np.float64], places: Places, side: int) -> NDArray[np.float64]:
        span = max(1, side // _CELL)
        high, wide = min(span, self.means.shape[0]), min(span, self.means.shape[1])
        row, column = first_cells(places, self.means.shape, span, _CELL)
        return np.asarray(box_sums(sums, row, column, high, wide) / (high * wide))

    @functools.cached_property
    def _sums(self) -> NDArray[np.float64]:
        return summed(self.means)

    @functools.cached_property
    def _squares(self) -> NDArray[np.float64]:
        return summed(self.means**2)

    @functools.cached_property
    def _bends(self) -> NDArray[np.float64]:
        means = self.means
        bend = np.zeros_like(means)
        bend[1:-1] += np.abs(means[2:] - 2 * means[1:-1] + means[:-2])
        bend[:, 1:-1] += np.abs(means[:, 2:] - 2 * means[:, 1:-1] + means[:, :-2])
        return summed(bend)


def first_cells(
    places: Places, shape: tuple[int, ...], span: int, pitch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the first cell of each square, so that `span` cells of `pitch` pixels lie inside `shape`."""
    row = np.minimum(places[:, 1] // pitch, max(0, shape[0] - span))
    return row, np.minimum(places[:, 0] // pitch, max(0, shape[1] - span))


def summed(values: NDArray[Any]) -> NDArray[Any]:
    """The summed-area table (Crow 1984) of the last two axes, one larger along both: its first line is zero."""
    *rest, rows, columns = values.shape
    table = np.zeros((*rest, rows + 1, columns + 1), values.dtype)
    inner = table[..., 1:, 1:]
    np.cumsum(values, axis=-2, out=inner)
    np.cumsum(inner, axis=-1, out=inner)
    return table


def box_sums(
    table: NDArray[Any], row: NDArray[np.int64], column: NDArray[np.int64], high: int, wide: int
) -> NDArray[Any]:
    """Sums over boxes of high x wide values from their summed-area table, (..., n)."""
    bottom, right = row + high, column + wide
    return table[..., bottom, right] - table[..., row, right] - table[..., bottom, column] + table[..., row, column]
