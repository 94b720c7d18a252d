"""Which windows are looked at, where windows follow one another without a gap. Pure arithmetic.

A picture stays much the same while a shot lasts. All of it is looked at once a second, and whenever it changes far more
than before. In between, a window that is as calm as the last one looked at, and as fine, is not looked at: what was
found there holds. In others, statistics that take long are the last ones (`statistics.describe`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Window
from grainscan.views.colour import brightness
from grainscan.views.crops import Corner

Look = Literal["all", "changes", "nothing"]

_HOLDS = 1.0  # seconds
_LONGEST = 100  # windows in a row that are not looked at: timestamps may stand still
_ROUNDING = 1e-3  # of timestamps, seconds
_FAR = 2.5  # times the usual change of a row, and
_FARTHER = 1.0  # so many 8-bit codes more: a cut, a flash, lost blocks
_CALM = 1.25  # times the largest change of a cell in the last window looked at, and
_CALMER = 2.0  # so many codes more: damage, something that comes into the picture
_FINE = 0.3  # by which the fineness may differ: grain, another picture
_ROUND = 0.25  # 8-bit codes, added before a logarithm: about the deviation of rounding
_NOTHING: NDArray[np.float32] = np.empty((0, 0, 0), np.float32)


class Watch:
    """Looks at the windows of a file in order. `size` is the side of a view, pixels."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._form: Any = None  # of the pictures so far
        self._before = _NOTHING  # cells of the last one, (1, rows, columns)
        self._until = -math.inf  # the last close look holds until then, seconds
        self._usual = 0.0  # change in it, 8-bit codes
        self._most = 0.0  # largest change of a cell in the last window looked at
        self._places: Sequence[Corner] = ()  # of its views
        self._fineness = 0.0  # there
        self._passed = 0  # windows since then

    def look(self, window: Window, cells: NDArray[np.float32]) -> Look:
        """What to look at in a window; `cells` are its `measures.window_cells`. `seen` has to follow, but for nothing.

        All, if it does not follow the window before it, if the last close look was a second ago, or if pictures change
        far more than usual: the change of a frame is the mean over the row of cells that changes most, and the usual
        one is the median in the window of the last close look. One such change may be a cut, and the window after it is
        looked at; several are damage or flashes, and both are, since this one is no example for others.

        Nothing, if no cell changes more than in the last window looked at, and views in the places of then would be as
        fine: grain that comes or goes changes that at once.
        """
        form = (window.format, window.pictures[0][0].shape)
        follows = window.follows and form == self._form
        known = np.concatenate([self._before, cells]) if follows else cells
        self._form, self._before = form, cells[-1:].copy()
        changes = np.abs(np.diff(known, axis=0))
        change = changes.mean(axis=2).max(axis=1)  # of each frame
        far = int((change > _FAR * self._usual + _FARTHER).sum()) if follows else 0
        most = float(changes.max(initial=0))
        if follows and far < 2 and window.start < self._until - _ROUNDING:
            calm = not far and most <= _CALM * self._most + _CALMER
            if calm and self._passed < _LONGEST and self._as_fine(window):
                self._passed += 1
                return "nothing"
            self._until = -math.inf if far else self._until
            self._most = most
            return "changes"
        self._until = -math.inf if far else window.start + _HOLDS
        self._usual = float(np.sort(change)[len(change) // 2]) if len(change) else 0.0
        self._most = most
        return "all"

    def seen(self, window: Window, places: Sequence[Corner]) -> None:
        """A window was looked at, with views in these places."""
        self._places, self._passed = places, 0
        self._fineness = fineness(window, places, self._size)

    def _as_fine(self, window: Window) -> bool:
        return abs(fineness(window, self._places, self._size) - self._fineness) <= _FINE


def fineness(window: Window, places: Sequence[Corner], size: int) -> float:
    """log2 of the mean difference between pixels two apart in a square, 8-bit codes: its mean over these squares."""
    lumas = [brightness(picture, window.format) for picture in window.pictures]
    squares = np.stack([[luma[y : y + size, x : x + size] for luma in lumas] for x, y in places])
    steps = np.abs(np.subtract(squares[..., 2:], squares[..., :-2], dtype=np.int32))
    means = steps.sum(axis=(1, 2, 3)) / max(1, steps[0].size * window.format.unit)
    return float(np.log2(means + _ROUND).mean())
