"""Which crops of a window the model sees, and how native planes become RGB. Pure arithmetic.

A view is one window x one crop: (frames, 3, size, size), RGB in [0, 1], cut at native resolution, since a resized
picture has lost the very noise that is looked for. Half of a window's crops are the flattest of each level of
brightness, where grain shows best, and it may show in the shadows or the midtones alone; the other half lies on a grid,
so that no part of the picture is overlooked. Bars and crops without information are passed over. The same window always
gives the same views.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Block, PixelFormat, Window

_LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # Kr, Kb

_CELL = 8  # side of the cells whose means tell structure from grain, pixels: wider than grain, narrower than a view
_BAR_TOLERANCE = 12  # 8-bit codes above black that a bar may reach: ringing of the encoder at its edge
_BAR_MOST = 0.75  # of a dimension; what is darker still is a dark picture, not a bar
_LEVELS_OF_BRIGHTNESS = 4  # the deviation of grain depends on it (Liu et al. 2006, noise level functions)
_CLIP_TOLERANCE = 3  # 8-bit codes from black or white within which a crop counts as clipped


@dataclass(frozen=True)
class ViewSpec:
    """How a file is sampled. The default is the pixel budget of the classic 32 frames of 224 x 224."""

    frames: int = 8  # consecutive frames of a window
    size: int = 64  # side of the square crop, native pixels
    windows: int = 4  # of a file
    crops: int = 12  # of a window

    def to_dict(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ViewSpec:
        return cls(**{key: int(value) for key, value in values.items()})


def to_rgb(block: Block) -> NDArray[np.float32]:
    """RGB in [0, 1] of native planes: (frames, height, width) each -> (frames, 3, height, width) float32.

    Y'CbCr to R'G'B' by the block's matrix and range (ITU-R BT.601, 709, 2020, non-constant luminance), clipped to
    [0, 1]; chroma is repeated, not interpolated, so that no filter touches the noise. Gray gives three equal planes.
    """
    form = block.format
    unit = np.float32(1 << (form.depth - 8))  # one 8-bit code
    white = np.float32((1 << form.depth) - 1)
    if form.layout == "rgb":
        rgb = np.stack(block.planes, axis=1).astype(np.float32)
        rgb /= white
        return rgb
    black, luma_span, chroma_span = (0, white, white) if form.full_range else (16 * unit, 219 * unit, 224 * unit)
    luma = np.subtract(block.planes[0], np.float32(black), dtype=np.float32)
    luma *= 1 / luma_span
    if form.layout == "gray":
        return np.repeat(np.clip(luma, 0, 1, out=luma)[:, None], 3, axis=1)
    # What chroma adds to each colour is computed on its own, coarser grid.
    kr, kb = _LUMA_WEIGHTS[form.matrix]
    blue, red = (np.subtract(plane, 128 * unit, dtype=np.float32) for plane in block.planes[1:])
    red *= np.float32(2 * (1 - kr)) / chroma_span
    blue *= np.float32(2 * (1 - kb)) / chroma_span
    green = (np.float32(kr) * red + np.float32(kb) * blue) * np.float32(-1 / (1 - kr - kb))
    rgb = np.empty((block.frames, 3, block.height, block.width), np.float32)
    for number, colour in enumerate((red, green, blue)):
        np.add(_upsampled(colour, form, block.height, block.width), luma, out=rgb[:, number])
    return np.clip(rgb, 0, 1, out=rgb)


def _upsampled(plane: NDArray[np.float32], form: PixelFormat, height: int, width: int) -> NDArray[np.float32]:
    if form.sub_h:
        plane = np.repeat(plane, 1 << form.sub_h, axis=1)
    if form.sub_w:
        plane = np.repeat(plane, 1 << form.sub_w, axis=2)
    return plane[:, :height, :width]


def fit(block: Block, size: int) -> Block:
    """Pad a block that is smaller than a crop to `size` x `size` by mirroring at its right and bottom edge.

    Larger blocks are returned as they are. Mirrored noise keeps its statistics, which a flat border would not.
    """
    if block.width >= size and block.height >= size:
        return block
    width, height = max(size, block.width), max(size, block.height)
    planes = []
    for i, plane in enumerate(block.planes):
        sub_w, sub_h = (block.format.sub_w, block.format.sub_h) if i and block.format.layout == "yuv" else (0, 0)
        right, bottom = -(-width >> sub_w) - plane.shape[2], -(-height >> sub_h) - plane.shape[1]
        planes.append(np.pad(plane, ((0, 0), (0, bottom), (0, right)), mode="symmetric"))
    return Block(tuple(planes), block.format)


def active_area(window: Window) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the picture without black bars, from its first, middle and last frame."""
    black, _ = _levels(window.format)
    limit = black + _BAR_TOLERANCE * (1 << (window.format.depth - 8))
    pictures = [window.pictures[i] for i in sorted({0, window.frames // 2, window.frames - 1})]
    lumas = [picture[1] if window.format.layout == "rgb" else picture[0] for picture in pictures]
    top, bottom = _lit(np.max([luma.max(axis=1) for luma in lumas], axis=0) > limit)
    left, right = _lit(np.max([luma.max(axis=0) for luma in lumas], axis=0) > limit)
    return left, top, right - left, bottom - top


def _lit(lit: NDArray[np.bool_]) -> tuple[int, int]:
    """First and one past the last bright line; the whole length where nearly everything is dark."""
    where = np.flatnonzero(lit)
    if not len(where) or len(lit) - (where[-1] + 1 - where[0]) > _BAR_MOST * len(lit):
        return 0, len(lit)
    return int(where[0]), int(where[-1]) + 1


def view_boxes(window: Window, spec: ViewSpec) -> list[tuple[int, int]]:
    """Corners (x, y) of up to `spec.crops` crops: the flattest half, by levels of brightness, then that on a grid.

    Flatness is the standard deviation of the means of 8x8 cells: structure counts, grain averages out. A picture with
    room for fewer crops (at half overlap) gives fewer. Corners lie on even pixels, hence on the chroma grid of 4:2:0.
    """
    x, y, width, height = active_area(window)
    size = spec.size
    if width < size or height < size:
        x, y, width, height = 0, 0, window.width, window.height
    if width < size or height < size:
        return [(0, 0)]
    corners = _corners(x, y, width, height, size, spec.crops)
    flatness, level = _structure(window, corners, size)
    black, white = _levels(window.format)
    margin = _CLIP_TOLERANCE * (1 << (window.format.depth - 8))
    informative = np.flatnonzero((level > black + margin) & (level < white - margin))
    if not len(informative):
        informative = np.arange(len(corners))
    count = min(spec.crops, len(informative))
    flat = _flattest(informative, flatness, level, count // 2)
    rest = np.setdiff1d(informative, flat)
    spread = rest[np.linspace(0, len(rest) - 1, count - len(flat)).round().astype(int)]
    return [corners[i] for i in [*flat, *spread]]


def _flattest(
    crops: NDArray[np.intp], flatness: NDArray[np.float64], level: NDArray[np.float64], count: int
) -> NDArray[np.intp]:
    """The `count` flattest crops: a quarter of them from the darkest quarter, and so on to the brightest."""
    by_level = crops[np.argsort(level[crops], kind="stable")]
    chosen: list[NDArray[np.intp]] = []
    for number, part in enumerate(np.array_split(by_level, _LEVELS_OF_BRIGHTNESS)):
        share = count * (number + 1) // _LEVELS_OF_BRIGHTNESS - count * number // _LEVELS_OF_BRIGHTNESS
        chosen.append(part[np.argsort(flatness[part], kind="stable")][:share])
    return np.concatenate(chosen)


def views_of(window: Window, spec: ViewSpec) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """The views of a window, (crops, frames, 3, size, size) float32 RGB in [0, 1], and their corners (x, y)."""
    boxes = view_boxes(window, spec)
    size = spec.size
    blocks = [fit(window.block(x, y, min(size, window.width), min(size, window.height)), size) for x, y in boxes]
    planes = tuple(np.concatenate(stack) for stack in zip(*(block.planes for block in blocks), strict=True))
    rgb = to_rgb(Block(planes, window.format).crop(0, 0, size, size))
    return rgb.reshape(len(boxes), window.frames, 3, size, size), boxes


def _corners(x: int, y: int, width: int, height: int, size: int, wanted: int) -> list[tuple[int, int]]:
    """Evenly spread corners row by row; side by side, or half overlapping where the picture is small."""
    step = size if (width // size) * (height // size) >= 2 * wanted else size // 2
    columns = np.linspace(x, x + width - size, (width - size) // step + 1)
    rows = np.linspace(y, y + height - size, (height - size) // step + 1)
    return [(int(column) // 2 * 2, int(row) // 2 * 2) for row in rows for column in columns]


def _structure(
    window: Window, corners: list[tuple[int, int]], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(deviation of the cell means, mean) of each crop in the middle picture, native codes."""
    picture = window.pictures[window.frames // 2]
    luma = picture[1] if window.format.layout == "rgb" else picture[0]
    rows, columns = luma.shape[0] // _CELL, luma.shape[1] // _CELL
    # Eight of a cell's 64 samples are enough for its mean.
    used = luma[: rows * _CELL, : columns * _CELL]
    samples = np.stack([used[i::_CELL, j::_CELL] for i in (1, 5) for j in (0, 2, 4, 6)])
    means: NDArray[np.float64] = samples.mean(axis=0, dtype=np.float64)
    span = max(1, size // _CELL)
    corner = np.array(corners)
    row = np.minimum(corner[:, 1] // _CELL, max(0, rows - span))
    column = np.minimum(corner[:, 0] // _CELL, max(0, columns - span))
    count = min(span, rows) * min(span, columns)
    first, second = (_box_sums(values, row, column, span) / count for values in (means, means**2))
    return np.sqrt(np.maximum(second - first**2, 0)), first


def _box_sums(
    values: NDArray[np.float64], row: NDArray[np.int64], column: NDArray[np.int64], span: int
) -> NDArray[np.float64]:
    """Sums over span x span boxes by a summed-area table (Crow 1984)."""
    table = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    bottom = np.minimum(row + span, values.shape[0])
    right = np.minimum(column + span, values.shape[1])
    return table[bottom, right] - table[row, right] - table[bottom, column] + table[row, column]


def _levels(form: PixelFormat) -> tuple[int, int]:
    """Codes of black and white."""
    unit = 1 << (form.depth - 8)
    return (0, (1 << form.depth) - 1) if form.full_range else (16 * unit, 235 * unit)
