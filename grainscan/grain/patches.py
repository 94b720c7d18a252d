"""Which patches of a window show its grain best, and what is new in each from one frame to the next.

Grain is what remains of a patch when the same patch of the frame before, found by motion compensation, is subtracted:
the picture cancels, and two independent fields of grain add up to twice the variance. The blocks are matched on blurred
luma, where the picture outweighs its grain, and over a square wider than the patch: the best of many shifts of a patch
that is flat would otherwise be the one at which two fields of grain happen to agree. A shift of a fraction of a pixel
is taken out to first order along the blurred gradient (Lucas and Kanade 1981), since interpolation would smooth the
grain itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grainscan.grain import BANDS, WIDTH
from grainscan.video import Block, Window
from grainscan.views.colour import brightness, shows_something
from grainscan.views.crops import active_area, fit

Array = NDArray[np.float32]

SIDE = 32  # of a patch, luma pixels
MARGIN = 24  # around a patch, in which its match is sought
PER_BAND = 16  # patches of a window, at most
_OUTER = SIDE + 2 * MARGIN
_CELL = 8  # the means of such squares separate structure from grain
_REACH = 4  # pixels of the halved picture, in which the coarse search looks
_CONTEXT = 8  # pixels around a patch that take part in the fine search; in the coarse one, twice as many do
_GAIN = 0.8  # a shift must lower the error to this part of that without one: less is a coincidence of grain
_STIFF = 1e-3  # squared codes per pixel: gradients below its root say nothing about motion


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of a window, `n` of them, and the shares of the picture in each band of luma.

    luma: (n, frames, outer, outer), 8-bit codes, with a margin; chroma: the same of Cb and Cr, on their own grids.
    level, structure: (n,), mean code and variance of the means of 8x8 pixels.
    """

    luma: Array
    chroma: tuple[Array, ...]
    subsampling: tuple[int, int]  # log2, vertical and horizontal
    level: NDArray[np.float64]
    structure: NDArray[np.float64]
    shares: NDArray[np.float64]


def find(window: Window) -> Patches:
    """The flattest patches of a window in each band of luma. A picture smaller than a patch is mirrored."""
    if window.width < _OUTER or window.height < _OUTER:
        window = _enlarged(window)
    left, top, width, height = active_area(window)
    if width < _OUTER or height < _OUTER:
        left, top, width, height = 0, 0, window.width, window.height
    x, y = (np.arange(-(-(start + MARGIN) // _CELL), (start + size - MARGIN - SIDE) // _CELL + 1, SIDE // _CELL)
            for start, size in ((left, width), (top, height)))  # fmt: skip
    if not (len(x) and len(y)):
        x, y = (np.array([(start + MARGIN) // _CELL]) for start in (0, 0))
    unit = window.format.unit
    cells = [_cell_means(brightness(window.pictures[i], window.format)) / unit for i in _thirds(window.frames)]
    span = SIDE // _CELL
    squares = [np.lib.stride_tricks.sliding_window_view(each, (span, span))[np.ix_(y, x)] for each in cells]
    structure = np.mean([square.var(axis=(2, 3)) for square in squares], axis=0)
    middle = squares[len(squares) // 2]
    level = middle.mean(axis=(2, 3))
    shown = shows_something(level * unit, window.format)
    chosen = []
    for band in range(BANDS):
        rows, columns = np.nonzero((level // WIDTH == band) & shown)
        order = np.argsort(structure[rows, columns], kind="stable")[:PER_BAND]
        chosen += [(rows[i], columns[i]) for i in order]
    if not chosen:  # black or white throughout
        chosen = [(0, 0)]
    row, column = np.array(chosen).T
    corners = zip(x[column] * _CELL - MARGIN, y[row] * _CELL - MARGIN, strict=True)
    blocks = [window.block(int(a), int(b), _OUTER, _OUTER) for a, b in corners]
    picture = cells[len(cells) // 2][top // _CELL : (top + height) // _CELL, left // _CELL : (left + width) // _CELL]
    counts = np.bincount((np.clip(picture, 0, 255) // WIDTH).astype(np.intp).ravel(), minlength=BANDS)
    yuv = window.format.layout == "yuv"
    return Patches(
        np.stack([block.luma8() for block in blocks]),
        tuple(_plane(blocks, i) for i in (1, 2)) if yuv else (),
        (window.format.sub_h, window.format.sub_w),
        level[row, column],
        structure[row, column],
        counts / max(1, counts.sum()),
    )


def _enlarged(window: Window) -> Window:
    block = fit(window.block(), _OUTER)
    pictures = tuple(tuple(plane[i] for plane in block.planes) for i in range(window.frames))
    return Window(window.start, window.end, window.format, pictures)


def _thirds(frames: int) -> list[int]:
    return sorted({0, frames // 2, frames - 1})


def _cell_means(plane: NDArray[np.generic]) -> NDArray[np.float64]:
    rows, columns = plane.shape[0] // _CELL, plane.shape[1] // _CELL
    whole = plane[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
    return np.asarray(whole.mean(axis=(1, 3), dtype=np.float64))


def _plane(blocks: list[Block], number: int) -> Array:
    scale = np.float32(1 / blocks[0].format.unit)
    return np.stack([block.planes[number].astype(np.float32) for block in blocks]) * scale


@dataclass(frozen=True, eq=False)
class News:
    """What is new in each patch from frame to frame: (n, pairs, side, side) per plane, 8-bit codes, of zero mean.

    Of twice the variance of the grain. shifts: (n, pairs, 2), motion in luma pixels per frame, vertical and horizontal.
    leap: (n,), the energy of what is new over two frames, as a multiple of that over one. Fields of grain have nothing
    in common, whatever lies between them: 1. What the compensation misses of a moving picture adds up: more.
    """

    luma: Array
    chroma: tuple[Array, ...]
    shifts: Array
    leap: NDArray[np.float64]


def follow(patches: Patches) -> News:
    """Subtract from each patch what motion compensation predicts from the frame before."""
    smooth = blurred(patches.luma, 4)
    whole = _match(patches.luma, smooth)
    fraction = _fraction(smooth, whole)
    luma = _difference(patches.luma, smooth, whole, fraction, (MARGIN, MARGIN))
    motion = whole - fraction
    chroma = []
    for plane in patches.chroma:
        scale = np.array([1 << sub for sub in patches.subsampling])
        moved = motion / scale
        near = np.round(moved).astype(np.intp)
        rest = np.asarray(near - moved, np.float32)
        margin = MARGIN // int(scale[0]), MARGIN // int(scale[1])
        chroma.append(_difference(plane, blurred(plane, 2), near, rest, margin))
    return News(luma, tuple(chroma), np.asarray(motion, np.float32), _leap(patches.luma, smooth, whole, luma))


def _leap(field: Array, smooth: Array, whole: NDArray[np.intp], step: Array) -> NDArray[np.float64]:
    """`News.leap`, from every other pair of frames two apart, whose shifts are the sums of those between."""
    short, long = np.zeros((2, len(field)))
    shifts = np.clip(whole[:, :-1] + whole[:, 1:], _CONTEXT - MARGIN, MARGIN - _CONTEXT)
    for first in range(0, shifts.shape[1], 2):
        pair, shift = [first, first + 2], shifts[:, first : first + 1]
        luma, soft = field[:, pair], smooth[:, pair]
        change = _difference(luma, soft, shift, _fraction(soft, shift), (MARGIN, MARGIN))
        long += np.square(change).mean(axis=(1, 2, 3))
        short += np.square(step[:, first : first + 2]).mean(axis=(1, 2, 3))
    return np.divide(long, short, out=np.ones(len(field)), where=short > 0)


def blurred(field: Array, passes: int) -> Array:
    """Binomial blur of the last two axes by (1 2 1) / 4, `passes` times: variance `passes` / 2. Edges are repeated."""
    for _ in range(passes):
        for axis in (-2, -1):
            lines = np.moveaxis(field, axis, 0)
            total = 2 * lines
            total[1:] += lines[:-1]
            total[0] += lines[0]
            total[:-1] += lines[1:]
            total[-1] += lines[-1]
            total *= np.float32(0.25)
            field = np.moveaxis(total, 0, axis)
    return field


def centred(field: Array) -> Array:
    """Minus the mean over the last two axes."""
    return field - field.mean(axis=(-2, -1), keepdims=True)


def _energy(first: Array, second: Array) -> Array:
    return np.asarray(np.einsum("ntyx,ntyx->nt", first, second), np.float32)


def _match(luma: Array, smooth: Array) -> NDArray[np.intp]:
    """Whole-pixel shifts (n, pairs, 2) to the next frame: at half resolution first, then one pixel around."""
    halved = (luma[..., ::2, ::2] + luma[..., 1::2, ::2] + luma[..., ::2, 1::2] + luma[..., 1::2, 1::2]) / 4
    coarse = blurred(np.asarray(halved, np.float32), 2)
    steps = [(0, 0)] + [(y, x) for y in _around(_REACH) for x in _around(_REACH) if (y, x) != (0, 0)]
    found = 2 * _best(coarse, np.zeros((*luma.shape[:2], 2), np.intp)[:, 1:], steps, _REACH)
    near = [(0, 0)] + [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    return found + _best(smooth, found, near, MARGIN - _CONTEXT)


def _around(reach: int) -> range:
    return range(-reach, reach + 1)


def _best(field: Array, start: NDArray[np.intp], steps: list[tuple[int, int]], edge: int) -> NDArray[np.intp]:
    """The step (n, pairs, 2) from `start` that predicts best, or the first, none, unless another is clearly better."""
    side = field.shape[-1] - 2 * edge
    reference = centred(field[:, :-1, edge : edge + side, edge : edge + side])
    errors = []
    for step in steps:
        change = centred(_shifted(field, start + np.array(step), (edge, edge), side, side)) - reference
        errors.append(_energy(change, change))
    error = np.stack(errors)
    best = np.where(error.min(axis=0) < _GAIN * error[0], error.argmin(axis=0), 0)
    return np.array(steps)[best]


def _shifted(field: Array, shifts: NDArray[np.intp], edge: tuple[int, int], high: int, wide: int) -> Array:
    """(n, pairs, high, wide) of each frame but the first, at `edge` plus the shifts of its patch."""
    places = np.lib.stride_tricks.sliding_window_view(field[:, 1:], (high, wide), axis=(2, 3))
    patch, pair = np.indices(shifts.shape[:2])
    row = np.clip(edge[0] + shifts[..., 0], 0, places.shape[2] - 1)
    column = np.clip(edge[1] + shifts[..., 1], 0, places.shape[3] - 1)
    return np.asarray(places[patch, pair, row, column])


def _gradient(smooth: Array, edge: tuple[int, int], high: int, wide: int) -> tuple[Array, Array]:
    """Central differences (vertical, horizontal) of each frame but the last."""
    (y, x), field = edge, smooth[:, :-1]
    vertical = field[..., y + 1 : y + 1 + high, x : x + wide] - field[..., y - 1 : y - 1 + high, x : x + wide]
    horizontal = field[..., y : y + high, x + 1 : x + 1 + wide] - field[..., y : y + high, x - 1 : x - 1 + wide]
    half = np.float32(0.5)
    return centred(half * vertical), centred(half * horizontal)


def _fraction(smooth: Array, whole: NDArray[np.intp]) -> Array:
    """What is missing of the whole-pixel shifts: (n, pairs, 2), at most a pixel, by least squares on the gradient."""
    edge, side = MARGIN - _CONTEXT, SIDE + 2 * _CONTEXT
    reference = smooth[:, :-1, edge : edge + side, edge : edge + side]
    change = centred(_shifted(smooth, whole, (edge, edge), side, side) - reference)
    down, across = _gradient(smooth, (edge, edge), side, side)
    floor = np.float32(_STIFF * side**2)
    a, b, c = _energy(down, down) + floor, _energy(down, across), _energy(across, across) + floor
    u, v = _energy(down, change), _energy(across, change)
    determinant = a * c - b * b
    found = np.stack([(u * c - v * b) / determinant, (v * a - u * b) / determinant], axis=-1)
    return np.asarray(np.clip(found, -1, 1), np.float32)


def _difference(
    field: Array, smooth: Array, whole: NDArray[np.intp], fraction: Array, margin: tuple[int, int]
) -> Array:
    """The patch in the next frame minus the patch, of zero mean."""
    high, wide = field.shape[-2] - 2 * margin[0], field.shape[-1] - 2 * margin[1]
    reference = field[:, :-1, margin[0] : margin[0] + high, margin[1] : margin[1] + wide]
    change = _shifted(field, whole, margin, high, wide) - reference
    down, across = _gradient(smooth, margin, high, wide)
    predicted = fraction[..., :1, None] * down + fraction[..., 1:, None] * across
    return centred(np.asarray(change - predicted, np.float32))
