"""Statistics of the picture: what tells blur, jagged edges, blocks, contours and damage. Pure arithmetic.

Grain is seen in a few small crops. Other artifacts are a property of the whole picture: how sharp its sharpest edges
are, whether steps come at every eighth pixel, whether what changes from frame to frame comes back. So a window is
described by one row of numbers, the same for every size of picture:

    tiles      squares of 64 x 64 native pixels on a grid, of two frames in turn: steps at several distances, spectrum,
               block grid, contours. Of each number: mean, quantiles, maximum, and the mean weighted by contrast.
    lines      whole rows and columns: patterns that repeat, as enlargement and doubled lines leave them
    levels     histogram of the luma, and how the light lies in the picture
    changes    from frame to frame, of means over cells and of the steps at the edges of blocks
    colours    the same of the colour differences

Most are base-2 logarithms of 8-bit codes. Sources: structure functions for sharpness at several scales (Kolmogorov;
for blur see Marziliano et al. 2002, edge widths), second differences that repeat after enlargement (Gallagher 2005),
steps at the 8 x 8 grid (Wang, Bovik and Evan 2000), contours as steps between flats (Tandon et al. 2021, CAMBI).
The same window always yields the same numbers.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from grainscan.video import PixelFormat, Window
from grainscan.video.planes import one_in
from grainscan.views.colour import brightness, levels
from grainscan.views.crops import Area, active_area
from grainscan.views.measures import cells_of
from grainscan.views.missing import median

TILE = 64  # pixels
_ROWS, _COLUMNS = 4, 8  # of tiles, at most
_GRID = 8  # pixels: side of the transform blocks of most codecs
_LARGE_GRID = 16  # pixels: of what decoders lose
_LINES = 128  # rows or columns that are looked at for patterns
_PARTS = 4  # of each side, between which the light is compared
_AROUND = 15  # places on either side whose median is the usual bend
_SAMPLES = 65_536  # of a histogram
_GROUP = 8  # values of which the highest says whether one of them may be among the highest of all
_CLIP = 12.0  # 8-bit codes: larger steps are edges of things, not of blocks
_FLOOR = 0.25  # 8-bit codes, added before a logarithm: about the deviation of rounding
_EDGES = (0.02, 0.06, 0.12, 0.18, 0.25, 0.32, 0.40, 0.51)  # of bands of the spectrum, cycles per pixel
_DIRECTIONS = (0, 45, 90, 135)  # degrees
_PERIODS = (  # pixels: bands in which a repeating pattern is sought
    (2, 2.05), (2.05, 2.5), (2.5, 2.95), (2.95, 3.05), (3.05, 3.6), (3.6, 3.97), (3.97, 4.03), (4.03, 5.5), (5.5, 7.9),
    (7.9, 8.1), (8.2, 15.8),
)  # fmt: skip
_QUANTILES = (0.1, 0.5, 0.9)

Floats = NDArray[np.float32]


def describe(
    window: Window, area: Area | None = None, *, cells: Floats | None = None, held: Floats | None = None
) -> Floats:
    """(COUNT,) float32, finite. `area` is the window's `active_area`, `cells` are its `window_cells`, if known.

    With `held`, the numbers of a window not long before, only changes of luma are computed: all else is taken from it.
    """
    area = area or active_area(window)
    if held is None:
        return _row(_describe(window, area, cells))
    lumas = _lumas(window, area)
    changes = _row(_over_time(lumas, _cells(lumas, window, cells), window.format))
    first = names().index("change")
    return np.concatenate([held[:first], changes, held[first + len(changes) :]])


def _row(found: Iterable[tuple[str, float]]) -> Floats:
    return np.array([value for _, value in found], np.float32)


@functools.lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """What the numbers are, in their order."""
    form = PixelFormat.of("yuv420p")
    picture = tuple(np.zeros((TILE >> shift, TILE >> shift), np.uint8) for shift in (0, 1, 1))
    window = Window(0.0, 0.1, form, (picture,) * 3)
    return tuple(name for name, _ in _describe(window, (0, 0, TILE, TILE)))


def _describe(window: Window, area: Area, cells: Floats | None = None) -> list[tuple[str, float]]:
    lumas, form = _lumas(window, area), window.format
    cells = _cells(lumas, window, cells)
    middle = len(lumas) // 2
    columns = [_columns(luma, form) for luma in (lumas[0], lumas[min(1, len(lumas) - 1)])]
    return [
        *_over_tiles(_tiles([lumas[0], lumas[middle]], form)),
        *_patterns("lines_x", _rows(lumas[0], form)),
        *_patterns("lines_y", columns[0]),
        *_doubled_lines(*columns),
        *_levels(lumas[0], form),
        *_light(cells[middle]),
        *_over_time(lumas, cells, form),
        *_colours(window, area),
    ]


def _over_time(lumas: list[NDArray[Any]], cells: Floats, form: PixelFormat) -> Iterator[tuple[str, float]]:
    """Changes of luma in the active area."""
    yield from _changes(cells)
    yield from _lost_blocks(lumas, form)


def _cells(lumas: list[NDArray[Any]], window: Window, cells: Floats | None) -> Floats:
    """Those of the active area; `cells` are those of the whole pictures, if known."""
    if cells is None or lumas[0].shape != (window.height, window.width):
        return np.stack([cells_of(luma, window.format) for luma in lumas])
    return cells


def _lumas(window: Window, area: Area) -> list[NDArray[Any]]:
    """The luma of all frames in the active area, from the block grid on, native codes; at least a tile large."""
    x, y, width, height = area
    left, top = (-(-corner // _GRID) * _GRID for corner in (x, y))
    lumas = [brightness(picture, window.format)[top : y + height, left : x + width] for picture in window.pictures]
    missing = [(0, max(0, TILE - side)) for side in lumas[0].shape]
    return [np.pad(luma, missing, mode="symmetric") for luma in lumas] if np.any(missing) else lumas


def _codes(values: NDArray[Any], form: PixelFormat) -> Floats:
    """Native codes as 8-bit ones."""
    return np.multiply(values, np.float32(1 / form.unit), dtype=np.float32)


def _log(values: Any) -> NDArray[np.float32]:
    return np.log2(np.asarray(values, np.float32) + np.float32(_FLOOR))


def _mean(values: Floats) -> Floats:
    """(n, ...) -> (n,)"""
    return np.asarray(np.einsum("ij->i", values.reshape(len(values), -1)) / np.float32(values[0].size))


def _share(mask: NDArray[np.bool_]) -> Floats:
    """(n, ...) -> (n,): how many are true."""
    ones = mask.reshape(len(mask), -1).view(np.uint8)
    return ones.sum(axis=1, dtype=np.uint32).astype(np.float32) / np.float32(ones.shape[1])


def _bends(values: Floats) -> Floats:
    """The size of the second differences along the last axis."""
    bend = values[..., 2:] - 2 * values[..., 1:-1]
    bend += values[..., :-2]
    return np.abs(bend, out=bend)


# --------------------------------------------------------------------------------------------------------------- tiles


def _tiles(lumas: list[NDArray[Any]], form: PixelFormat) -> Floats:
    """(n, TILE, TILE): an even grid, its corners on the grid of the codecs, one after another of the next frame."""
    height, width = lumas[0].shape
    tops = np.linspace(0, height - TILE, min(_ROWS, height // TILE)).astype(int) // _GRID * _GRID
    lefts = np.linspace(0, width - TILE, min(_COLUMNS, width // TILE)).astype(int) // _GRID * _GRID
    corners = itertools.product(enumerate(tops), enumerate(lefts))
    squares = [lumas[(i + j) % len(lumas)][y : y + TILE, x : x + TILE] for (i, y), (j, x) in corners]
    return _codes(np.stack(squares), form)


def _over_tiles(tiles: Floats) -> Iterable[tuple[str, float]]:
    """Every number of the tiles, summed up over all of them."""
    found: dict[str, Floats] = {}
    turned = np.ascontiguousarray(tiles.transpose(0, 2, 1))
    for axis, down in (("x", turned), ("y", tiles)):  # down the tiles, since whole rows are subtracted fastest
        found.update(_steps(axis, down))
        found.update(_block_grid(axis, down))
        found.update(_contours(f"{axis}1", down))
        for pool in (2, 4):
            down = _halved(down)
            found.update(_contours(f"{axis}{pool}", down))
    found.update(_inside_blocks(tiles))
    found.update(_spectrum(tiles))
    table = np.stack(list(found.values()))  # (numbers, tiles)
    contrast = np.exp2(found["steps_x8_peak"] + found["steps_y8_peak"])
    summaries = {
        "mean": table.mean(axis=1),
        "weighted": table @ (contrast / contrast.sum()),
        "highest": table.max(axis=1),
    }
    ordered = np.sort(table, axis=1)
    for part in _QUANTILES:
        summaries[f"{part:.0%}"] = ordered[:, _place(part, table.shape[1])]
    names = (f"{number}_{name}" for name in summaries for number in found)
    return zip(names, np.concatenate([*summaries.values()]).tolist(), strict=True)


def _steps(axis: str, tiles: Floats) -> dict[str, Floats]:
    """Steps over 1 to 8 pixels, their mean and their peak (of the fourth power): a blurred edge needs more pixels."""
    found: dict[str, Floats] = {}
    for distance in (1, 2, 4, 8):
        steps = tiles[:, distance:] - tiles[:, :-distance]
        np.abs(steps, out=steps)
        found[f"steps_{axis}{distance}_mean"] = _log(_mean(steps))
        steps *= steps
        flat = steps.reshape(len(tiles), 1, -1)
        fourth = np.matmul(flat, flat.transpose(0, 2, 1)).ravel() / np.float32(flat.shape[2])
        found[f"steps_{axis}{distance}_peak"] = _log(np.sqrt(np.sqrt(fourth)))
    for near, far in ((1, 2), (2, 4), (4, 8)):
        for kind in ("mean", "peak"):
            found[f"slope_{axis}{near}_{kind}"] = (
                found[f"steps_{axis}{near}_{kind}"] - found[f"steps_{axis}{far}_{kind}"]
            )
    return found


def _block_grid(axis: str, tiles: Floats) -> dict[str, Floats]:
    """Steps that stand out from their neighbours, by their place on the grid; repeated pixels; repeating patterns."""
    steps = tiles[:, 1:] - tiles[:, :-1]
    np.abs(steps, out=steps)
    flat = _share(steps < 0.5)
    found = {f"flat_{axis}": flat, f"small_{axis}": _share(steps < 1.5) - flat}
    np.clip(steps, 0, _CLIP, out=steps)
    beside = np.empty_like(steps)
    np.add(steps[:, :-2], steps[:, 2:], out=beside[:, 1:-1])
    beside[:, 1:-1] /= 2
    beside[:, 0], beside[:, -1] = steps[:, 1], steps[:, -2]
    excess = _mean_row(np.clip(steps - beside, 0, _CLIP))  # (n, TILE - 1)
    phases = np.stack([excess[:, phase::_GRID].mean(axis=1) for phase in range(_GRID)], axis=1) * 4
    ordered = np.sort(phases, axis=1)
    edge, half = _GRID - 1, _GRID // 2 - 1
    found[f"grid_{axis}_edge"] = _log(phases[:, edge])
    found[f"grid_{axis}_over_others"] = _log(phases[:, edge]) - _log(np.delete(phases, edge, axis=1).mean(axis=1))
    found[f"grid_{axis}_half"] = _log(phases[:, half]) - _log(np.delete(phases, [edge, half], axis=1).mean(axis=1))
    found[f"grid_{axis}_any"] = _log(ordered[:, -1]) - _log(ordered[:, :-2].mean(axis=1))
    bend = _mean_row(_bends(tiles.transpose(0, 2, 1)).transpose(0, 2, 1))
    bend /= bend.mean(axis=1, keepdims=True) + np.float32(0.05)
    waves = np.abs(np.fft.rfft(bend - bend.mean(axis=1, keepdims=True), n=TILE, axis=1)) * (10 / bend.shape[1])
    for low, high in ((9, 13), (13, 18), (18, 25), (25, 31), (31, 33)):
        found[f"waves_{axis}{low}"] = _log(waves[:, low:high].max(axis=1))
    found[f"waves_{axis}_grid"] = _log(waves[:, [8, 16, 24]].mean(axis=1))
    return found


def _mean_row(values: Floats) -> Floats:
    """(n, rows, columns) -> (n, rows)"""
    return np.asarray(values @ np.full(values.shape[2], 1 / values.shape[2], np.float32))


def _inside_blocks(tiles: Floats) -> Iterator[tuple[str, Floats]]:
    """Deviation inside blocks, and how much less it is than inside blocks that lie between them."""
    cells = [_pooled(each) for each in (tiles, tiles * tiles)]  # sums of 2 x 2 pixels
    for side in (4, _GRID, _LARGE_GRID):
        inside = _deviations([_pooled(each) for each in cells], side)
        between = _deviations([_pooled(each[:, 1:-1, 1:-1]) for each in cells], side)
        cells = [_pooled(each) for each in cells]
        yield f"inside_{side}", _log(_mean(inside))
        yield f"inside_{side}_over_between", _log(_mean(inside)) - _log(_mean(between))
        yield f"inside_{side}_flat", _share(inside < 0.7) - _share(between < 0.7)


def _deviations(sums: list[Floats], side: int) -> Floats:
    """(n, blocks down, blocks across): deviation inside blocks, by the sums of their pixels and of the squares."""
    mean, square = (each / np.float32(side * side) for each in sums)
    return np.sqrt(np.maximum(square - mean * mean, 0))


def _pooled(tiles: Floats) -> Floats:
    """Sums of 2 x 2."""
    rows = tiles[:, ::2] + tiles[:, 1::2]
    return np.asarray(rows[:, :, ::2] + rows[:, :, 1::2])


def _halved(tiles: Floats) -> Floats:
    """Means of 2 x 2 pixels."""
    return _pooled(tiles) * np.float32(0.25)


def _contours(name: str, tiles: Floats) -> dict[str, Floats]:
    """Steps between two flats, as coarse levels leave them in a gradient."""
    wide, reach = (2, 4) if tiles.shape[1] > TILE // 4 else (1, 2)  # of the step, and of the flats beside it
    length = tiles.shape[1] - 2 * reach - wide
    a, b, c, d = (tiles[:, start : start + length] for start in (0, reach, reach + wide, 2 * reach + wide))
    step, whole = np.abs(c - b), np.abs(d - a)
    slack = np.maximum(np.abs(b - a), np.abs(d - c))
    small = step <= 14
    contour = _share((step >= 1.5) & small & (slack <= step * np.float32(0.34)))
    gentle = _share((step >= 1) & small)
    return {
        f"contours_{name}": np.log2(contour + np.float32(1e-3)),
        f"contours_{name}_share": np.log2((contour + np.float32(1e-3)) / (gentle + np.float32(1e-2))),
        f"smooth_{name}": _share(whole < 14),
    }


@functools.lru_cache(maxsize=1)
def _bands() -> tuple[Floats, Floats]:
    """A window (TILE, TILE), and weights (frequencies, bands x directions + corner) of the spectrum's mean power."""
    rows, columns = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]
    radius, angle = np.hypot(rows, columns), np.degrees(np.arctan2(rows, columns)) % 180
    masks = []
    for low, high in itertools.pairwise(_EDGES):
        for direction in _DIRECTIONS:
            off = np.abs(angle - direction)
            masks.append((radius >= low) & (radius < high) & (np.minimum(off, 180 - off) <= 22.5))
    masks.append(radius > 0.5)
    weights = np.stack([mask.ravel() / mask.sum() for mask in masks], axis=1).astype(np.float32)
    return np.outer(np.hanning(TILE), np.hanning(TILE)).astype(np.float32), weights


def _spectrum(tiles: Floats) -> dict[str, Floats]:
    """Power by frequency and direction; how it falls off, and how unequal the directions are, as motion makes them."""
    taper, weights = _bands()
    centred = (tiles - _mean(tiles)[:, None, None]) * taper
    waves = np.fft.rfft2(centred).reshape(len(tiles), -1)
    power = (np.square(waves.real) + np.square(waves.imag)).astype(np.float32) / np.float32(TILE * TILE)
    bands = np.log2(power @ weights + np.float32(0.05))  # (n, bands)
    found = {f"power_{number}": bands[:, number] for number in range(bands.shape[1])}
    of = bands[:, :-1].reshape(len(tiles), len(_EDGES) - 1, len(_DIRECTIONS))
    for number, fall in enumerate(np.diff(of.mean(axis=2), axis=1).T):
        found[f"fall_{number}"] = fall
    fine = of[:, 2:6].mean(axis=1)
    found["directions"] = fine.max(axis=1) - fine.min(axis=1)
    found["across_over_down"] = fine[:, 0] - fine[:, 2]
    found["across_or_down"] = np.abs(found["across_over_down"])
    return found


# --------------------------------------------------------------------------------------------------------------- lines


def _rows(luma: NDArray[Any], form: PixelFormat) -> Floats:
    """Some of the rows, (lines, length)."""
    return _codes(luma[_spread(luma.shape[0])], form)


def _columns(luma: NDArray[Any], form: PixelFormat) -> Floats:
    """Some of the columns, (lines, length)."""
    return _codes(np.ascontiguousarray(luma[:, _spread(luma.shape[1])].T), form)


def _spread(count: int) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, _LINES)).astype(np.int64)


def _patterns(name: str, lines: Floats) -> Iterator[tuple[str, float]]:
    """How strongly second differences repeat along the lines, by period, and in even against odd places."""
    bend = np.clip(_bends(lines), 0, 30).mean(axis=0)
    around = sliding_window_view(np.pad(bend, _AROUND, mode="edge"), 2 * _AROUND + 1)
    profile = np.minimum(bend / (np.partition(around, _AROUND, axis=1)[:, _AROUND] + np.float32(0.05)), 4)
    length = len(profile)
    waves = np.abs(np.fft.rfft((profile - profile.mean()) * np.hanning(length))) / length**0.5
    frequency = np.fft.rfftfreq(length)
    usual = median(waves) + 0.02
    for short, long in _PERIODS:
        there = waves[(frequency >= 1 / long - 1e-9) & (frequency <= 1 / short + 1e-9)]
        yield f"{name}_{short:g}", float(np.log2(there.max(initial=0) / usual + 0.1))
    yield f"{name}_even", _even_over_odd(profile, 0.05)
    yield f"{name}_usual", float(np.log2(usual))


def _doubled_lines(first: Floats, second: Floats) -> Iterator[tuple[str, float]]:
    """In columns (lines, length) of two frames in a row: steps from even to odd rows against those from odd to even
    ones; second differences at even rows against those at odd ones, as interpolated lines have them, and those of the
    change between the frames, in which fields flicker; and combs."""
    yield from _lines_differ("doubled", [_apart(columns, 1).mean(axis=0) for columns in (first, second)])
    bends = [_bends(columns).mean(axis=0) for columns in (first, second)]
    yield from _lines_differ("bent", bends)
    change = second - first
    bend = _log(_bends(change).mean())
    yield "flicker", float(bend - _log(np.abs(change).mean()))
    yield "flicker_of_two", float(bend - _log(_apart(change, 2).mean()))
    yield "comb", float(np.log2((bends[0].mean() / 2 + 0.1) / (_apart(first, 2).mean() + 0.1)))


def _apart(values: Floats, distance: int) -> Floats:
    """The size of the differences along the last axis over so many places."""
    steps = values[:, distance:] - values[:, :-distance]
    return np.abs(steps, out=steps)


def _lines_differ(name: str, frames: list[Floats]) -> Iterator[tuple[str, float]]:
    """Values at even rows against those at odd ones, in two frames, and whether both agree."""
    first, second = (_even_over_odd(values, 0.1) for values in frames)
    yield name, abs(first)
    yield f"{name}_next", abs(second)
    yield f"{name}_alike", first * second


def _even_over_odd(values: Floats, floor: float) -> float:
    """log2 of the mean of every second value over that of the others."""
    even = len(values) // 2 * 2
    return float(np.log2((values[:even:2].mean() + floor) / (values[1:even:2].mean() + floor)))


def _levels(luma: NDArray[Any], form: PixelFormat) -> Iterator[tuple[str, float]]:
    """Gaps in the histogram, as few levels leave them."""
    apart = max(1, int((luma.size / _SAMPLES) ** 0.5))
    counts = np.bincount(luma[::apart, ::apart].ravel(), minlength=256)
    codes = np.arange(len(counts)) / form.unit
    weights = counts / counts.sum()
    share = np.bincount(np.clip(np.rint(codes), 0, 255).astype(np.int64), weights, minlength=256)
    for width in (5, 13):
        smooth = np.convolve(share, np.full(width, 1 / width), mode="same")
        yield f"histogram_{width}", float(np.abs(share - smooth).sum())
    yield "histogram_entropy", float(-(share * np.log2(share + 1e-9)).sum())
    yield "histogram_highest", float(share.max())
    level = float(weights @ codes)
    yield "level", level / 64
    yield "deviation", float(_log(np.sqrt(weights @ (codes - level) ** 2)))


def _light(cells: Floats) -> Iterator[tuple[str, float]]:
    """How the light lies in the picture: its rim against its middle, its upper and left parts against the others."""
    parts = np.array(
        [
            [part.mean() if part.size else 0 for part in np.array_split(row, _PARTS, axis=1)]
            for row in np.array_split(cells, _PARTS)
        ]
    )
    middle = _log(parts[1:-1, 1:-1].mean().clip(0))
    rims = {
        "corners": parts[[0, 0, -1, -1], [0, -1, 0, -1]],
        "sides": parts[1:-1, [0, -1]],
        "top_and_bottom": parts[[0, -1], 1:-1],
    }
    for name, rim in rims.items():
        yield f"light_{name}", float(_log(rim.mean().clip(0)) - middle)
    half = _PARTS // 2
    for name, one, other in (("upper", parts[:half], parts[half:]), ("left", parts[:, :half], parts[:, half:])):
        yield f"light_{name}", float(_log(one.mean().clip(0)) - _log(other.mean().clip(0)))


# ------------------------------------------------------------------------------------------------------------- changes


def _changes(cells: Floats) -> Iterator[tuple[str, float]]:
    """What changes from frame to frame in means over cells (frames, rows, columns), and whether it comes back."""
    cells = _at_least_three(cells)
    each = np.abs(np.diff(cells, axis=0))
    change = each.mean(axis=(1, 2))
    usual = _log(median(change))
    over_two = _log(np.abs(cells[2:] - cells[:-2]).mean(axis=(1, 2))) - _log((change[:-1] + change[1:]) / 2)
    beside = _log((change[:-2] + change[2:]) / 2) if len(change) > 2 else _log(change)
    against = _log(change[1:-1] if len(change) > 2 else change) - beside
    yield "change", float(usual)
    yield "change_highest", float(_log(change.max()) - usual)
    yield "change_lowest", float(_log(change.min()) - usual)
    yield "change_spread", float(_log(change).std())
    yield "change_jump", float(against.max())
    yield "change_hold", float(against.min())
    for name, value in (("lowest", over_two.min()), ("highest", over_two.max()), ("mean", over_two.mean())):
        yield f"change_over_two_{name}", float(value)
    yield from _upper("sudden", each.max(axis=0) - _middle(each))
    peaks = _quantile(0.99, each)
    yield "sudden_frame", float(_log(peaks.max()) - _log(median(peaks)))
    yield "sudden_none", float(_log(peaks.min()) - _log(median(peaks)))
    before, here, after = cells[:-2], cells[1:-1], cells[2:]
    returning = np.minimum(np.abs(here - before), np.abs(here - after)) - np.abs(after - before)
    yield from _upper("returning", np.clip(returning, 0, 255))
    odd = _quantile(0.99, np.abs(cells - _middle(cells)))
    yield "odd_frame", float(_log(odd.max()) - _log(median(odd)))
    still = (each < 0.05).reshape(len(each), -1).mean(axis=1)
    yield "still_cells", float(median(still))
    yield "still_cells_more", float(still.max() - median(still))
    rows = each.mean(axis=2)
    yield "change_of_a_row", float((_log(rows.max(axis=1)) - _log(median(rows))).max())
    border = np.abs(np.diff(rows, axis=1)).max(axis=1) if rows.shape[1] > 1 else np.zeros(len(rows), np.float32)
    yield "change_beside_a_row", float(_log(border.max()) - _log(median(border)))


def _lost_blocks(lumas: list[NDArray[Any]], form: PixelFormat) -> Iterator[tuple[str, float]]:
    """Steps at the edges of large blocks that come in some frames only."""
    edge, last = _LARGE_GRID - 1, (lumas[0].shape[0] - 1) // _LARGE_GRID * _LARGE_GRID
    width = lumas[0].shape[1] // _LARGE_GRID * _LARGE_GRID
    pieces = np.stack(
        [
            _piecewise(luma[edge:last:_LARGE_GRID, :width], luma[edge + 1 : last + 1 : _LARGE_GRID, :width])
            for luma in lumas
        ]
    ) / np.float32(form.unit)  # (frames, edges, pieces)
    yield from _upper("edges_sudden", pieces.max(axis=0) - _middle(pieces))
    rows = pieces.mean(axis=2)
    yield "edges_of_a_row", float(_log((rows.max(axis=0) - _middle(rows)).max()))
    yield "edges_highest", float(_log(_quantile(0.995, pieces[None])[0]))


def _piecewise(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """(edges, width) each -> (edges, pieces): means of the steps over every second pixel of each block."""
    steps = one_in(2, above).astype(np.float32)
    steps -= one_in(2, below)
    np.abs(steps, out=steps)
    half = _LARGE_GRID // 2
    return np.asarray(steps.reshape(len(steps), -1, half) @ np.full(half, 1 / half, np.float32))


def _colours(window: Window, area: Area) -> Iterator[tuple[str, float]]:
    """The colour differences, their steps, and their sudden changes."""
    found = _colour_cells(window, area)  # (frames, 2, rows, columns)
    if found is None:
        found = np.zeros((3, 2, 2, 2), np.float32)
    found = _at_least_three(found)
    size = np.abs(found)
    yield "colour", float(_log(size.mean()))
    yield "colour_deviation", float(_log(found.std(axis=(2, 3)).mean()))
    yield "colour_steps", float(_log(np.abs(np.diff(found[0], axis=2)).mean()))
    strongest = _quantile(0.99, size)
    yield "colour_highest", float(_log(strongest.max()))
    yield "colour_of_a_frame", float(_log(strongest.max()) - _log(median(strongest)))
    each = np.abs(np.diff(found, axis=0)).sum(axis=1)
    yield from _upper("colour_sudden", each.max(axis=0) - _middle(each))


def _colour_cells(window: Window, area: Area) -> Floats | None:
    """(frames, 2, rows, columns): colour differences in 8-bit codes, averaged over 4 x 4 samples; None without."""
    form = window.format
    if form.planes < 3:
        return None
    x, y, width, height = area
    parts = (slice(y >> form.sub_h, (y + height) >> form.sub_h), slice(x >> form.sub_w, (x + width) >> form.sub_w))
    black, _ = levels(form)
    frames = []
    for picture in window.pictures:
        if form.layout == "rgb":
            red, green, blue = (cells_of(plane[parts], form) for plane in picture[:3])
            frames.append(np.stack([blue - green, red - green]) / 2)
        else:
            neutral = np.float32(128 - black / form.unit)  # `cells_of` counts from black
            frames.append(np.stack([cells_of(plane[parts], form) - neutral for plane in picture[1:3]]))
    return np.stack(frames)


def _at_least_three(frames: Floats) -> Floats:
    """A clip of one or two frames, repeated."""
    return frames if len(frames) >= 3 else np.concatenate([frames] * 3)[:3]


def _middle(values: NDArray[Any]) -> NDArray[Any]:
    """The median over the first axis (the lower of two), for a few rows many times as fast as NumPy's."""
    rows = list(values)
    for _ in range((len(values) - 1) // 2):  # the least of the rows is taken away in all places
        least, others = rows[0], []
        for row in rows[1:]:
            others.append(np.maximum(least, row))
            least = np.minimum(least, row)
        rows = others
    return np.asarray(functools.reduce(np.minimum, rows))


def _quantile(part: float, values: NDArray[Any]) -> NDArray[Any]:
    """(n, ...) -> (n,): a high quantile of each."""
    rows = values.reshape(len(values), -1)
    return np.array([_from_the_top(row, rows.shape[1] - _place(part, rows.shape[1])) for row in rows])


def _from_the_top(values: NDArray[Any], number: int) -> Any:
    """The highest value (number 1), the second highest, and so on."""
    groups = values[: len(values) // _GROUP * _GROUP].reshape(_GROUP, -1).max(axis=0)
    if number <= len(groups):  # so many groups have a value of at least `least`: what is below it need not be sorted
        least = np.partition(groups, -number)[-number]
        values = values[values >= least]
    return np.partition(values, -number)[-number]


def _upper(name: str, values: NDArray[Any]) -> Iterator[tuple[str, float]]:
    """The upper end of some values."""
    parts = (0.8, 0.95, 0.99, 1.0)
    places = [_place(part, values.size) for part in parts]
    ordered = np.partition(values.ravel(), places)
    for part, place in zip(parts, places, strict=True):
        yield f"{name}_{part:.0%}", float(_log(ordered[place]))


def _place(part: float, count: int) -> int:
    """Index of a quantile among so many sorted values."""
    return round(part * (count - 1))


COUNT = 787  # numbers of a window; a model is made for them
