"""What makes a verdict unreliable: kinds of pictures that models are not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.video.planes import Window, one_in

TOO_SMALL = "too small"  # smaller than a view, which is then filled by mirroring
FEW_COLOURS = "few colours"  # palettes and dithering: their dots look like noise
INTERLACED = "interlaced"  # combs: two fields of different times in one frame

_PALETTES = frozenset(["gif", "pal8", "monow", "monob"])
_CELL = 16  # side of the cells that are tested for combs, pixels
_STEP = _CELL // 2  # one in so many columns of a cell is examined: combs are wide
_MOVES = 6  # mean difference between two frames above which a cell is moving, 8-bit codes
_COMB = 1.6  # least ratio of line differences between fields to those within one; noise: about 1, pictures: less
_LEAST = 8  # least mean difference between the lines of a comb, 8-bit codes
_SHARE = 0.05  # least share of moving cells that are combed in an interlaced file; progressive files: below 0.01
_CELLS = 8  # least number of combed cells in an interlaced file


@dataclass
class Doubts:
    """The reasons to doubt a file's verdict, collected from its windows; those of its parts can be added."""

    small: bool = False  # smaller than a view
    few: bool = False  # colours
    moving: int = 0  # cells
    combed: int = 0  # ones among them

    @classmethod
    def of(cls, codec: str, pix_fmt: str) -> Doubts:
        """Those that the kind of stream raises."""
        from grainscan.video.frames import bit_depth  # PyAV, which those who only add doubts do not need

        return cls(few=codec in _PALETTES or pix_fmt in _PALETTES or 1 <= bit_depth(pix_fmt) < 8)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Doubts:
        """What `dataclasses.asdict` made a dictionary of. Raises ValueError, TypeError or LookupError for others."""
        return cls(bool(values["small"]), bool(values["few"]), int(values["moving"]), int(values["combed"]))

    def look(self, window: Window, *, size: int) -> None:
        """Take a window into account: every frame if the decoder calls it interlaced, else the one in the middle.

        `size` is the side of a view, pixels.
        """
        self.small |= min(window.width, window.height) < size
        middle = max(1, window.frames // 2)
        for frame in range(1, window.frames) if window.interlaced else range(middle, min(middle + 1, window.frames)):
            moving, combed = _combs(window, frame)
            self.moving += moving
            self.combed += combed

    def __add__(self, other: Doubts) -> Doubts:
        return Doubts(
            self.small or other.small, self.few or other.few, self.moving + other.moving, self.combed + other.combed
        )

    def reasons(self) -> list[str]:
        """Why the verdict is unreliable, in stable words; usually empty."""
        combs = self.combed >= max(_CELLS, _SHARE * self.moving)
        found = {TOO_SMALL: self.small, FEW_COLOURS: self.few, INTERLACED: combs and not self.few}
        return [reason for reason, holds in found.items() if holds]


def _combs(window: Window, frame: int) -> tuple[int, int]:
    """(moving cells, combed ones among them) of a frame, compared with the one before it.

    In a comb, neighbouring lines come from different fields and differ more than lines of the same field. So do
    patterns of horizontal lines, but they do not move.
    """
    luma = 1 if window.format.layout == "rgb" else 0
    now, before = window.pictures[frame][luma], window.pictures[frame - 1][luma]
    rows, columns = now.shape[0] // _CELL, now.shape[1] // _CELL
    if not rows or not columns:
        return 0, 0
    kind: Any = np.int16 if window.format.depth <= 10 else np.int32  # holds sums over a cell
    lines, former = (
        one_in(_STEP, picture[: rows * _CELL, : columns * _CELL]).astype(kind).reshape(rows, _CELL, -1)
        for picture in (now, before)
    )
    unit = window.format.unit

    def per_cell(differences: NDArray[Any]) -> NDArray[np.float64]:
        sums = np.abs(differences).sum(axis=1, dtype=kind)
        return np.add(sums[:, ::2], sums[:, 1::2], dtype=np.float64) / (2 * differences.shape[1])

    moving = per_cell(lines - former) > _MOVES * unit
    if not moving.any():
        return 0, 0
    near, far = per_cell(lines[:, 1:] - lines[:, :-1]), per_cell(lines[:, 2:] - lines[:, :-2])
    return int(moving.sum()), int((moving & (near > _COMB * far) & (near > _LEAST * unit)).sum())
