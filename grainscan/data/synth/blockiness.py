"""Blockiness: coarse quantisation by real encoders, by a block transform of our own, and mosaics.

It happens at the end of the chain, or earlier: then the picture is scaled and encoded once more, and its blocks lie on
no codec's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from grainscan.data.synth.drawing import PLAIN, Span, draw_setting, pick
from grainscan.data.synth.encoding import Generation, encode
from grainscan.data.synth.recipe import BaseRecipe, unknown
from grainscan.data.synth.stack import Array, Stack, blur, from_block, mapped, squares, to_block
from grainscan.video import Block

# (weight, best, worst): the coarse end of each codec's scale, down to its very end
COARSE: dict[str, tuple[float, int, int]] = {
    "hevc": (0.3, 41, 51),
    "h264": (0.28, 39, 51),
    "mpeg2": (0.1, 18, 31),
    "mpeg4": (0.08, 18, 31),
    "mjpeg": (0.12, 14, 31),
    "vp9": (0.06, 54, 63),
    "av1": (0.06, 57, 63),
}
_SOURCES = {"codec": 0.72, "dct": 0.16, "mosaic": 0.12}
_EFFORTS = {0: 0.1, 1: 0.4, 2: 0.5}  # the fastest H.264 leaves out the deblocking filter
_LATE = 0.7  # share of blockiness by the last encoder of the chain
_STEP = Span(25, 110, log=True)
_OPACITY = Span(0.35, 1)

_SMOOTH = 1.5  # pixels: what a coarse quantiser does is larger than that, what a fine one does is not
_SIDE = 16  # pixels: side of the squares that are compared with each other
_DAMAGE = 30.0  # codes: no quantiser errs as much; the square shows something else
_GRID = 8  # pixels: the grid of most codecs
_GRID_FLOOR, _GRID_WEIGHT = 1.0, 0.5
_SAME = 12.0  # codes: two pictures further apart than this (means of squares) do not show the same


@dataclass(frozen=True)
class Grid:
    """Blocks without a codec. kind: `dct` quantises coefficients with a step of `amount` codes, coarser for higher
    frequencies; `mosaic` covers the picture with the means of its blocks, with the opacity `amount`."""

    kind: Literal["dct", "mosaic"]
    side: int
    amount: float


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with blocks from a coarse encoder or from a grid, or without.

    Strengths are those of `coding_loss`. On sixteen clips of all sorts, HEVC yields 1.0 to 2.1 at QP 32, where blocks
    cannot be seen, 2.5 to 5.6 at QP 42, and 4.0 to 7.1 at QP 47, where they can; on two clips with little in them, 0.8
    to 1 and 2.3 to 2.7.
    """

    task = "blockiness"
    stage = "delivery"
    visible = 4.0
    negligible = 2.2
    undone = None  # on a smooth picture, a small loss may show as blocks

    coarse: Generation | None = None
    grid: Grid | None = None
    late: bool = True  # after the shared encoders

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        """A recipe for a blocky twin of a clip of this size."""
        source = pick(rng, _SOURCES)
        coarse, grid = None, None
        if source == "codec":
            codec = pick(rng, {name: row[0] for name, row in COARSE.items()})
            _, best, worst = COARSE[codec]
            gop = None if rng.random() < 0.6 else int(rng.integers(1, 13))
            coarse = Generation(codec, int(rng.integers(best, worst + 1)), gop, pick(rng, _EFFORTS))
        elif source == "dct":
            grid = Grid("dct", int(rng.choice((8, 8, 8, 16, 4))), _STEP.draw(rng))
        else:
            grid = Grid("mosaic", int(rng.choice((4, 6, 8, 8, 12, 16))), _OPACITY.draw(rng))
        late = bool(rng.random() < _LATE)
        return cls(coarse=coarse, grid=grid, late=late, **draw_setting(rng, PLAIN, width=width, height=height))

    def clean(self) -> Self:
        return replace(self, coarse=None, grid=None)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        if self.late or self == self.clean():
            return stack
        return from_block(self._blocked(to_block(stack), rng))

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        return self._blocked(block, rng) if self.late else block

    def _blocked(self, block: Block, rng: np.random.Generator) -> Block:
        if self.coarse is not None:
            block = encode(block, (self.coarse,))
        if self.grid is not None:
            block = to_block(add_grid(from_block(block), self.grid, rng))
        return block

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return coding_loss(reference, decoded)

    @classmethod
    def standing(cls, source: Block, decoded: Block) -> float:
        """The loss by any encoder of the chain."""
        return coding_loss(source, decoded)

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        read: Mapping[str, Any] = {"coarse": Generation, "grid": Grid}
        return {**values, **{name: kind(**values[name]) for name, kind in read.items() if values.get(name) is not None}}


def add_grid(stack: Stack, grid: Grid, rng: np.random.Generator) -> Stack:
    """The pictures in blocks, whose grid begins anywhere. Raises DataError for an unknown kind."""
    if grid.kind not in ("dct", "mosaic"):
        raise unknown("kind of grid", grid.kind)
    top, left = (int(start) for start in rng.integers(grid.side, size=2))

    def blocked(plane: Array, sub_w: int, sub_h: int) -> Array:
        tall, wide = (grid.side, grid.side) if grid.kind == "dct" else (grid.side >> sub_h, grid.side >> sub_w)
        tall, wide = max(2, tall), max(2, wide)
        frames, height, width = plane.shape
        before = (top >> sub_h) % tall, (left >> sub_w) % wide
        after = -(height + before[0]) % tall, -(width + before[1]) % wide
        padded = np.pad(plane, ((0, 0), (before[0], after[0]), (before[1], after[1])), mode="edge")
        rows, columns = padded.shape[1] // tall, padded.shape[2] // wide
        tiles = padded.reshape(frames, rows, tall, columns, wide)
        tiles = _quantised(tiles, grid.amount) if grid.kind == "dct" else _averaged(tiles, grid.amount)
        whole = tiles.reshape(padded.shape)
        return np.ascontiguousarray(whole[:, before[0] : before[0] + height, before[1] : before[1] + width])

    return mapped(stack, blocked)


def _quantised(tiles: Array, step: float) -> Array:
    """Coefficients rounded to multiples of `step`, times up to three towards the highest frequency."""
    coefficients = fft.dctn(tiles, axes=(2, 4), norm="ortho")
    tall, wide = tiles.shape[2], tiles.shape[4]
    course = np.arange(tall)[:, None, None] / tall + np.arange(wide)[None, None, :] / wide
    steps = (step * (1 + course)).astype(np.float32)
    return np.asarray(fft.idctn(np.round(coefficients / steps) * steps, axes=(2, 4), norm="ortho"), np.float32)


def _averaged(tiles: Array, opacity: float) -> Array:
    means = tiles.mean(axis=(2, 4), keepdims=True)
    return np.asarray(tiles + np.float32(opacity) * (means - tiles), np.float32)


def coding_loss(reference: Block, decoded: Block) -> float:
    """How coarsely `decoded` was coded, compared with `reference`, in 8-bit luma codes, at least 0.

    The error of a fine quantiser is noise from pixel to pixel; a coarse one errs over whole blocks. So the error is
    blurred by 1.5 pixels, freed of its mean over the picture, and taken as the root of its mean square in squares of
    16 x 16 pixels; the strength of a picture is the upper quartile of them. To it is added half of what the luma steps
    across a grid of 8 pixels have gained over the steps beside it, from one code on: deblocking filters remove these,
    older codecs have none. The result is the lower quartile of the pictures: all are coded alike.

    A picture is compared with the most similar one of `reference`, so that repeated and dropped frames do not matter.
    One that resembles none, as a black one, is passed over, as are squares with something else, left by a transmission
    error. Without any other, the loss is 0.
    """
    before, after = reference.luma8(), decoded.luma8()
    nearest, distance = _nearest(squares(before, _GRID), squares(after, _GRID))
    known = distance < _SAME
    if not known.any():
        return 0.0
    before, after = before[nearest[known]], after[known]
    error = blur(after - before, _SMOOTH)
    error = error - error.mean(axis=(1, 2), keepdims=True)
    spread = np.sqrt(squares(np.square(error), _SIDE))
    loss = np.array([np.percentile(one[one < _DAMAGE], 75) if (one < _DAMAGE).any() else 0.0 for one in spread])
    excess = np.maximum(0.0, _grid_excess(after) - _grid_excess(before) - _GRID_FLOOR)
    return float(np.percentile(loss + _GRID_WEIGHT * excess, 25))


def _nearest(before: Array, after: Array) -> tuple[NDArray[np.intp], Array]:
    """For each picture of `after` the number of the most similar one of `before`, and their mean difference."""
    distances = np.stack([np.abs(before - picture).mean(axis=(1, 2)) for picture in after])
    nearest = distances.argmin(axis=1)
    return nearest, distances[np.arange(len(after)), nearest]


def _grid_excess(luma: Array) -> NDArray[np.float64]:
    """Mean absolute luma step across the grid minus that beside it, of each picture, in 8-bit codes.

    The grid begins where that is largest: pictures are cropped.
    """
    total = np.zeros(len(luma))
    for axis in (1, 2):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=3 - axis, dtype=np.float64)
        if steps.shape[1] < 2 * _GRID:
            continue
        phases = np.stack([steps[:, phase::_GRID].mean(axis=1) for phase in range(_GRID)], axis=1)
        total += phases.max(axis=1) - np.median(phases, axis=1)
    return total / 2
