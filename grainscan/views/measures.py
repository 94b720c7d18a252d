"""What is measured in every decoded frame. Pure arithmetic.

A frame is reduced to *cells*, means of 4x4 samples that lie one in so many pixels apart (16 x 16 pixels in a picture of
1080 lines): enough to tell black from dark and a repeated picture from a moving one, far cheaper than decoding, and
blind to grain and coding noise, which average out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Window
from grainscan.video.planes import PixelFormat
from grainscan.views.colour import brightness, levels

_SIDE = 4  # of a cell, samples
_LINES = 270  # samples in the shorter side of a picture, at most
_BAR = 12  # 8-bit codes above black that a black bar may reach: encoders ring at its edge
_BAR_MOST = 0.75  # of a dimension; more is a dark picture, not a bar
_OUTLIERS = 1000  # one cell in so many is left out of the range: a dead pixel


@dataclass(frozen=True, eq=False)
class Frames:
    """Measures of n frames in order of presentation, each (n,) float64; luma in 8-bit codes above black."""

    start: NDArray[np.float64]  # seconds
    end: NDArray[np.float64]  # of its own duration
    level: NDArray[np.float64]  # log-average of the picture without black bars
    peak: NDArray[np.float64]  # brightest cell
    spread: NDArray[np.float64]  # from the darkest cell to the brightest
    step: NDArray[np.float64]  # RMS difference from the frame before; NaN without one
    leap: NDArray[np.float64]  # RMS difference from the frame before that
    damaged: NDArray[np.float64]  # 1 where the decoder reports an error
    fresh: NDArray[np.float64]  # 1 where a frame is predicted from no other

    def __len__(self) -> int:
        return len(self.start)

    def rows(self) -> list[list[float | None]]:
        """The measures frame by frame, for JSON; None for NaN."""
        table = np.stack([getattr(self, each.name) for each in fields(self)], axis=1).round(4)
        return [[None if np.isnan(value) else float(value) for value in row] for row in table]

    @classmethod
    def of(cls, rows: list[list[float | None]]) -> Frames:
        """What `rows` returned. Raises ValueError or TypeError for anything else."""
        table = np.array(rows, np.float64).reshape(-1, len(fields(cls)))  # None becomes NaN
        if np.isinf(table).any() or np.isnan(np.delete(table, _MAY_LACK, axis=1)).any():
            raise ValueError("these are not the measures of frames")
        return cls(*table.T)

    @classmethod
    def join(cls, parts: list[Frames]) -> Frames:
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


_MAY_LACK = [number for number, each in enumerate(fields(Frames)) if each.name in ("step", "leap")]


class Meter:
    """Measures the windows of a file in order; remembers the last two frames."""

    def __init__(self) -> None:
        self._before: list[NDArray[np.float32]] = []

    def measure(self, window: Window) -> Frames:
        """The measures of the frames of a window that have a stamp."""
        if not window.follows:
            self._before = []
        stamps = window.stamps
        pictures = window.pictures[: len(stamps)]
        cells = np.stack([_cells(brightness(picture, window.format), window.format) for picture in pictures])
        if self._before and self._before[-1].shape != cells[0].shape:
            self._before = []
        known = np.stack([*self._before, *cells]) if self._before else cells
        self._before = [*known[-2:]]
        top, bottom = _lit(cells.max(axis=(0, 2)))
        left, right = _lit(cells.max(axis=(0, 1)))
        picture = cells[:, top:bottom, left:right]
        flat = np.sort(cells.reshape(len(cells), -1), axis=1)
        beyond = flat.shape[1] // _OUTLIERS
        peak, lowest = flat[:, -1 - beyond], flat[:, beyond]
        return Frames(
            start=np.array([stamp.start for stamp in stamps]),
            end=np.array([stamp.end for stamp in stamps]),
            level=np.expm1(np.log1p(np.maximum(picture, 0)).mean(axis=(1, 2), dtype=np.float64)),
            peak=peak.astype(np.float64),
            spread=(peak - lowest).astype(np.float64),
            step=_differences(known, 1)[-len(cells) :],
            leap=_differences(known, 2)[-len(cells) :],
            damaged=np.array([float(stamp.damaged) for stamp in stamps]),
            fresh=np.array([float(stamp.fresh) for stamp in stamps]),
        )


def _cells(luma: NDArray[Any], form: PixelFormat) -> NDArray[np.float32]:
    """Means of 4x4 samples in 8-bit codes above black, float32 (rows, columns)."""
    shorter = min(luma.shape)
    side = min(_SIDE, shorter)
    apart = max(1, -(-shorter // _LINES))
    apart = apart if shorter >= side * apart else 1
    rows, columns = luma.shape[0] // (side * apart), luma.shape[1] // (side * apart)
    kind = np.uint16 if form.depth <= 12 else np.uint32
    used = luma[: rows * side * apart, : columns * side * apart : apart]
    lines = used[:: side * apart].astype(kind)
    for i in range(1, side):
        lines += used[i * apart :: side * apart]
    total = lines[:, ::side].astype(np.float32)
    for i in range(1, side):
        total += lines[:, i::side]
    black, _ = levels(form)
    result: NDArray[np.float32] = (total / np.float32(side * side) - np.float32(black)) / np.float32(form.unit)
    return result


def _lit(brightest: NDArray[np.float32]) -> tuple[int, int]:
    """First and one past the last line of cells that is no black bar; all lines where nearly everything is dark."""
    where = np.flatnonzero(brightest > _BAR)
    if not len(where) or len(brightest) - (where[-1] + 1 - where[0]) > _BAR_MOST * len(brightest):
        return 0, len(brightest)
    return int(where[0]), int(where[-1]) + 1


def _differences(cells: NDArray[np.float32], distance: int) -> NDArray[np.float64]:
    """RMS difference of each picture from the one `distance` before it, (n,); NaN where there is none."""
    result = np.full(len(cells), np.nan)
    if len(cells) > distance:
        change = cells[distance:] - cells[:-distance]
        result[distance:] = np.sqrt(np.einsum("tij,tij->t", change, change, dtype=np.float64) / cells[0].size)
    return result
