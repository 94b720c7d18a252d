"""Which windows are looked at closely, where windows follow one another without a gap. Pure arithmetic.

A picture stays much the same while a shot lasts: all its statistics are computed once a second, and whenever it changes
more than before. In between, those that take long are the last ones (`statistics.describe`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Window

_HOLDS = 1.0  # seconds
_ROUNDING = 1e-3  # of timestamps, seconds
_FAR = 2.5  # times the usual change of a row, and
_FARTHER = 1.0  # so many 8-bit codes more: a cut, a flash, lost blocks
_NOTHING: NDArray[np.float32] = np.empty((0, 0, 0), np.float32)


class Watch:
    """Looks at the windows of a file in order."""

    def __init__(self) -> None:
        self._form: Any = None  # of the pictures so far
        self._before = _NOTHING  # cells of the last one, (1, rows, columns)
        self._until = -math.inf  # the last close look holds until then, seconds
        self._usual = 0.0  # change in it, 8-bit codes

    def closely(self, window: Window, cells: NDArray[np.float32]) -> bool:
        """Whether a window has to be looked at closely; `cells` are its `measures.window_cells`.

        That is so if it does not follow the window before it, if the last close look was a second ago, or if pictures
        change far more than usual: the change of a frame is the mean over the row of cells that changes most, and the
        usual one is the median in the window of the last close look. One such change may be a cut, and the window after
        it is looked at; several are damage or flashes, and both are, since this one is no example for others.
        """
        form = (window.format, window.pictures[0][0].shape)
        follows = window.follows and form == self._form
        known = np.concatenate([self._before, cells]) if follows else cells
        self._form, self._before = form, cells[-1:].copy()
        change = np.abs(np.diff(known, axis=0)).mean(axis=2).max(axis=1)  # of each frame
        far = int((change > _FAR * self._usual + _FARTHER).sum()) if follows else 0
        if follows and far < 2 and window.start < self._until - _ROUNDING:
            self._until = -math.inf if far else self._until
            return False
        self._until = -math.inf if far else window.start + _HOLDS
        self._usual = float(np.sort(change)[len(change) // 2]) if len(change) else 0.0
        return True
