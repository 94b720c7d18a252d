"""Views of every scale. Pure arithmetic.

Grain needs native pixels where the picture is flattest (`crops`). Other artifacts are structure: a block edge, a jagged
line, a contour in the sky, a smear. They are sought in further views of the same window, all of one shape:

    native    crops for noise, as ever
    detail    native crops on the 8-pixel grid of most codecs: where structure is strongest, and where it is smoothest
    quarter   crops of the picture averaged 4 x 4: where structure is strongest, where change is sudden, and a grid
    whole     the whole picture, averaged

The same window always yields the same views.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.tasks import SCALES, Scale, task_of
from grainscan.video import Block, PixelFormat, Window
from grainscan.video.planes import plane_box
from grainscan.views.colour import brightness, to_rgb
from grainscan.views.crops import (
    Area,
    Cells,
    Places,
    ViewSpec,
    active_area,
    box_sums,
    corners,
    first_cells,
    fit,
    summed,
    view_boxes,
)

QUARTER = 4  # pixels averaged along each side
_GRID = 8  # pixels: side of the transform blocks of most codecs
_SAMPLES = 8  # per cell and direction, of the whole picture: the mean of 64 samples
_CELL = 8  # pixels between the samples in which sudden change is sought
_STRUCTURED = (1.0, 40.0)  # deviation of cell means in a smooth gradient, 8-bit codes

Corner = tuple[int, int]  # x, y


@dataclass(frozen=True, eq=False)
class Views:
    """The views of a window: `rgb` float32 (n, frames, 3, size, size) in [0, 1], the corners of what they show in
    pixels, and `scales` int64 (n,), positions in SCALES."""

    rgb: NDArray[np.float32]
    corners: list[Corner]
    scales: NDArray[np.int64]


def views_of(window: Window, spec: ViewSpec, scales: Collection[Scale] = SCALES) -> Views:
    """The views of a window, in the order of SCALES; of some scales only, if `scales` says so."""
    area, cells = active_area(window), Cells.of(window)
    parts = []
    places: list[Corner] = []
    numbers: list[int] = []
    for number, scale in enumerate(SCALES):
        if scale not in scales or scale not in spec.scales:
            continue
        found = corners_of(window, spec, scale, area, cells)
        parts.append(render(window, spec, scale, found, area))
        places += found
        numbers += [number] * len(found)
    return Views(np.concatenate(parts), places, np.array(numbers, np.int64))


def scales_of(task: str, view: ViewSpec) -> tuple[Scale, ...]:
    """The scales of the views that show a task: those in its record, or all that there are if none of these is."""
    return tuple(scale for scale in view.scales if scale in task_of(task).scales) or view.scales


def side_of(scale: Scale, spec: ViewSpec) -> int | None:
    """Side in pixels of the square of the picture that a view shows; None: all of it."""
    return {"native": spec.size, "detail": spec.size, "quarter": QUARTER * spec.size, "whole": None}[scale]


def corners_of(window: Window, spec: ViewSpec, scale: Scale, area: Area, cells: Cells | None = None) -> list[Corner]:
    """Where the views of a scale lie in the window's active area, at most as many as the specification says.

    `cells` are the window's, if they are known.
    """
    if scale == "native":
        return view_boxes(window, spec, area, cells)
    side, wanted = side_of(scale, spec), spec.counts[scale]
    if side is None:
        return [area[:2]]
    if area[2] < side or area[3] < side:
        area = (0, 0, window.width, window.height)
    if area[2] < side or area[3] < side:
        return [(0, 0)]
    places, cells = _on_grid(area, side, wanted), cells or Cells.of(window)
    contrast, _ = cells.structure(places, side)
    sharpest = np.argsort(-contrast, kind="stable")
    if scale == "detail":
        low, high = (limit * window.format.unit for limit in _STRUCTURED)
        roughness = cells.roughness(places, side)
        smooth = np.where((contrast >= low) & (contrast <= high), roughness / np.maximum(contrast, low), np.inf)
        aims = [sharpest, np.argsort(smooth, kind="stable")]
    else:
        sudden = np.argsort(-_bursts(window, places, side), kind="stable")
        spread = np.linspace(0, len(places) - 1, min(wanted, len(places))).round().astype(int)
        aims = [sharpest, sudden, spread]
    return _apart(aims, [(x, y) for x, y in places.tolist()], side, wanted)


def render(window: Window, spec: ViewSpec, scale: Scale, places: list[Corner], area: Area) -> NDArray[np.float32]:
    """(len(places), frames, 3, size, size) float32 RGB in [0, 1] of the views at some corners, or of the area."""
    size, side = spec.size, side_of(scale, spec)
    if side is None:
        blocks = [averaged(window, area, size)]
    else:
        blocks = []
        for x, y in places:
            block = fit(window.block(x, y, min(side, window.width), min(side, window.height)), side)
            block = block.crop(0, 0, side, side)
            blocks.append(shrunk(block, QUARTER) if scale == "quarter" else block)
    planes = tuple(np.concatenate(stack) for stack in zip(*(block.planes for block in blocks), strict=True))
    rgb = to_rgb(Block(planes, blocks[0].format))
    return rgb.reshape(len(blocks), window.frames, 3, size, size)


def shrunk(block: Block, factor: int) -> Block:
    """A block averaged over squares of factor x factor luma pixels: float32 planes of equal size.

    Its sides must be multiples of the factor, and the factor one of the chroma subsampling.
    """
    planes = []
    for number, plane in enumerate(block.planes):
        sub_w, sub_h = (block.format.sub_w, block.format.sub_h) if number else (0, 0)
        rows, columns = factor >> sub_h, factor >> sub_w
        planes.append(_means(plane, plane.shape[1] // rows, plane.shape[2] // columns))
    return Block(tuple(planes), _whole_chroma(block.format))


def averaged(window: Window, box: Area, size: int) -> Block:
    """A box (x, y, width, height) of the picture averaged to size x size: float32 planes of equal size.

    Each pixel is the mean of up to 64 samples, evenly spread over its cell.
    """
    planes = []
    for number in range(window.format.planes):
        left, top, right, bottom = plane_box(window.format, number, *box)
        rows, columns = _samples(top, bottom, size), _samples(left, right, size)
        stack = np.stack([picture[number][rows][:, columns] for picture in window.pictures])
        planes.append(_means(stack, size, size))
    return Block(tuple(planes), _whole_chroma(window.format))


def _means(pictures: NDArray[Any], rows: int, columns: int) -> NDArray[np.float32]:
    """(frames, height, width) -> (frames, rows, columns): means over equal cells.

    Sums of rows (at most 8), in integers, and a matrix product: many times as fast as `mean` over two axes.
    """
    _, height, width = pictures.shape
    high, wide = height // rows, width // columns
    sums: NDArray[Any] = pictures[:, ::high].astype(np.uint16 if pictures.dtype == np.uint8 else np.uint32)
    for i in range(1, high):
        sums += pictures[:, i::high]
    weights = np.repeat(np.eye(columns, dtype=np.float32), wide, axis=0) / np.float32(wide * high)
    return np.asarray(sums.astype(np.float32) @ weights)


def _samples(first: int, last: int, size: int) -> NDArray[np.intp]:
    """Positions of the samples along one side: the same number in each of `size` cells."""
    each = min(_SAMPLES, max(1, -(-(last - first) // size)))
    return np.asarray(first + (np.arange(size * each) + 0.5) * (last - first) / (size * each)).astype(np.intp)


def _whole_chroma(form: PixelFormat) -> PixelFormat:
    return replace(form, sub_w=0, sub_h=0)


@functools.lru_cache(maxsize=8)
def _on_grid(area: Area, side: int, wanted: int) -> Places:
    """Corners in an area, each moved up and left to the codecs' grid unless that lies outside of it. Read-only."""
    moved = np.maximum(corners(*area, side, wanted) // _GRID * _GRID, area[:2])
    places = np.array(list(dict.fromkeys((x, y) for x, y in moved.tolist())), np.int64)
    places.setflags(write=False)
    return places


def _bursts(window: Window, places: Places, side: int) -> NDArray[np.float64]:
    """How much more the largest change from frame to frame is than the usual one in each square, native codes."""
    if window.frames < 2:
        return np.zeros(len(places))
    half = _CELL // 2
    kind = np.int32 if window.format.depth <= 8 else np.int64  # holds the sum over a picture
    pictures = (brightness(picture, window.format)[half::_CELL, half::_CELL] for picture in window.pictures)
    samples = np.stack([picture.astype(kind) for picture in pictures])
    span = max(1, min(side // _CELL, *samples.shape[1:]))
    row, column = first_cells(places, samples.shape[1:], span, _CELL)
    changes = box_sums(summed(np.abs(np.diff(samples, axis=0))), row, column, span, span) / span**2
    changes.sort(axis=0)
    usual = (changes[(len(changes) - 1) // 2] + changes[len(changes) // 2]) / 2  # np.median would import numpy.ma
    return np.asarray(changes[-1] - usual)


def _apart(aims: list[NDArray[np.intp]], places: list[Corner], side: int, wanted: int) -> list[Corner]:
    """The best squares by each aim in turn, none of which overlaps another if there are enough."""
    chosen: list[int] = []
    for overlapping in (False, True):
        queues = [iter(aim.tolist()) for aim in aims]
        while queues:
            for queue in list(queues):
                for i in queue:
                    if i not in chosen and (overlapping or not _overlaps(i, chosen, places, side)):
                        chosen.append(i)
                        break
                else:
                    queues.remove(queue)
                if len(chosen) == wanted:
                    return [places[i] for i in chosen]
    return [places[i] for i in chosen]


def _overlaps(index: int, chosen: list[int], places: list[Corner], side: int) -> bool:
    x, y = places[index]
    return any(abs(x - places[i][0]) < side and abs(y - places[i][1]) < side for i in chosen)
