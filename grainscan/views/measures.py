"""What is measured in every decoded frame. Pure arithmetic.

A frame is reduced to *cells*, means of 4x4 samples that lie one in so many pixels apart (16 x 16 pixels in a picture of
1080 lines): enough to tell black from dark and a repeated picture from a moving one, far cheaper than decoding, and
blind to grain and coding noise, which average out.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Window
from grainscan.video.planes import PixelFormat, one_in
from grainscan.views.colour import brightness, levels
from grainscan.views.crops import BAR_TOLERANCE, lit_part
from grainscan.views.missing import MOST, NO_FAULT, gaps, jumps, median, repeats

_SIDE = 4  # of a cell, samples
_LINES = 270  # samples in the shorter side of a picture, at most
_MOST_OF_IT = 0.7  # share of a dark picture that has to be dark: night may have its lamps
_OUTLIERS = 1  # columns of cells that are left out of the range: a dead pixel is no picture

_LACKING = 1.5  # frames, in which a duration and its frames may differ where none is missing but one

# Scores are logits: 0 is undecided, 3 nearly certain. Lengths in frames, differences in 8-bit codes (RMS of the cells).
_BLACK = 8.0  # the brightest cell of a black picture
_GREY, _FLAT = 24.0, 2.0  # a black that is raised, as by a wrong range: brightest cell and spread
_FADE = 24  # before or after a black stretch, a fade to or from black is looked for
_ABRUPT = 0.5  # of the brightness in that time, at the edge of a stretch that is no fade
_LONGEST_FADE = 2.0  # seconds: longer black is reported even between fades
_DARK = 52.0  # level below which a picture is rather dark
_DARK_STEEP = 10.0
_SCENE = 1.0  # seconds on either side whose median level is that of a scene


@dataclass(frozen=True, eq=False)
class Frames:
    """Measures of n frames in order of presentation, each (n,) float64; luma in 8-bit codes above black."""

    start: NDArray[np.float64]  # seconds
    end: NDArray[np.float64]  # of its own duration
    level: NDArray[np.float64]  # 70 % of the picture without black bars is darker
    peak: NDArray[np.float64]  # brightest cell
    spread: NDArray[np.float64]  # from the darkest cell to the brightest
    step: NDArray[np.float64]  # RMS difference from the frame before; NaN without one
    leap: NDArray[np.float64]  # RMS difference from the frame before that
    breadth: NDArray[np.float64]  # mean difference as a share of `step`: less where a part of the picture changes
    damaged: NDArray[np.float64]  # 1 where the decoder reports an error
    fresh: NDArray[np.float64]  # 1 where a frame is predicted from no other

    def __len__(self) -> int:
        return len(self.start)

    def part(self, rows: slice) -> Frames:
        return Frames(*(getattr(self, each.name)[rows] for each in fields(self)))

    def fill(self, duration: float | None) -> bool:
        """Whether they are all frames of a file of so many seconds, but for one at most."""
        if duration is None or np.isnan(self.step[1:]).any():
            return False
        return bool(duration - (self.end[-1] - self.start[0]) < _LACKING * duration / (len(self) + 1))

    def rows(self) -> list[list[float | None]]:
        """The measures frame by frame, for JSON; None for NaN."""
        table = np.stack([getattr(self, each.name) for each in fields(self)], axis=1).round(4)
        return [[None if math.isnan(value) else value for value in row] for row in table.tolist()]

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


_MAY_LACK = [number for number, each in enumerate(fields(Frames)) if each.name in ("step", "leap", "breadth")]


class Meter:
    """Measures the windows of a file in order; remembers the last two frames."""

    def __init__(self) -> None:
        self._before: list[NDArray[np.float32]] = []

    def measure(self, window: Window, cells: NDArray[np.float32] | None = None) -> Frames:
        """The measures of the frames of a window that have a stamp; `cells` are its `window_cells`, if known."""
        if not window.follows:
            self._before = []
        stamps = window.stamps
        cells = (window_cells(window) if cells is None else cells)[: len(stamps)]
        if self._before and self._before[-1].shape != cells[0].shape:
            self._before = []
        known = np.stack([*self._before, *cells]) if self._before else cells
        self._before = [*known[-2:]]
        top, bottom = lit_part(cells.max(axis=(0, 2)) > BAR_TOLERANCE)
        left, right = lit_part(cells.max(axis=(0, 1)) > BAR_TOLERANCE)
        picture = cells[:, top:bottom, left:right]
        picture = picture[:, ::2, ::2].reshape(len(cells), -1)
        most = int(_MOST_OF_IT * (picture.shape[1] - 1))
        beyond = min(_OUTLIERS, (cells.shape[2] - 1) // 2)
        lowest, peak = np.sort(cells.min(axis=1))[:, beyond], np.sort(cells.max(axis=1))[:, -1 - beyond]
        step, breadth = _steps(known, 1)
        leap, _ = _steps(known, 2)
        return Frames(
            start=np.array([stamp.start for stamp in stamps]),
            end=np.array([stamp.end for stamp in stamps]),
            level=np.partition(picture, most, axis=1)[:, most].astype(np.float64),
            peak=peak.astype(np.float64),
            spread=(peak - lowest).astype(np.float64),
            step=step[-len(cells) :],
            leap=leap[-len(cells) :],
            breadth=breadth[-len(cells) :],
            damaged=np.array([float(stamp.damaged) for stamp in stamps]),
            fresh=np.array([float(stamp.fresh) for stamp in stamps]),
        )


@dataclass(frozen=True, eq=False)
class Track:
    """The score (logit) of a task for each frame, and the time that it speaks for; each (n,)."""

    score: NDArray[np.float64]
    start: NDArray[np.float64]  # seconds
    end: NDArray[np.float64]

    def part(self, rows: slice) -> Track:
        return Track(self.score[rows], self.start[rows], self.end[rows])


def track(task: str, frames: Frames, *, whole: bool = False) -> Track:
    """The scores of a measured task frame by frame. `whole`: the frames are all of the file.

    black_screen: the brightest cell is under 8 codes, or the picture is flat and under 24 (a wrong range). A stretch of
    up to 2 s that a fade leads to and from (or that starts or ends the file on its other side) is editing.
    dark_scenes: 10 ln(52 / level), with the median level within a second: 70 % of the picture are darker, so that it
    may have a few lights. Black frames are none.
    frame_drop: see `_drops`.
    """
    ends = np.minimum(frames.end, np.append(frames.start[1:], np.inf))
    following = ~np.isnan(frames.step[1:])
    ends[:-1][following] = frames.start[1:][following]  # shown until then
    if task == "frame_drop":
        return _drops(frames, ends, whole=whole)
    if task == "black_screen":
        return Track(_black(frames, whole=whole), frames.start, ends)
    if task == "dark_scenes":
        return Track(_dark(frames), frames.start, ends)
    raise ValueError(f"{task} is not measured")


def score(task: str, frames: Frames, scores: Track) -> float:
    """The score (logit) of a measured task for some frames and their track: of the worst, or of the median level."""
    if task == "dark_scenes":
        seen = frames.level[_blackness(frames) < 0]
        return float(_darkness(median(seen))) if len(seen) else -MOST
    return float(scores.score.max())


# --------------------------------------------------------------------------------------------------- black and dark


def _blackness(frames: Frames) -> NDArray[np.float64]:
    black = _BLACK - frames.peak
    raised = np.minimum((_GREY - frames.peak) / 2, 4 * (_FLAT - frames.spread))
    return np.clip(np.maximum(black, raised), -MOST, MOST)


def _black(frames: Frames, *, whole: bool) -> NDArray[np.float64]:
    result = _blackness(frames)
    for first, last in _runs(result >= 0):
        if frames.end[last] - frames.start[first] > _LONGEST_FADE or last - first + 1 == len(frames):
            continue
        before = _abrupt(frames, first - 1, -1, whole=whole)
        after = _abrupt(frames, last + 1, 1, whole=whole)
        if not before and not after:
            result[first : last + 1] = NO_FAULT
    return result


def _abrupt(frames: Frames, edge: int, way: int, *, whole: bool) -> bool:
    """Whether the frame at the edge of a black stretch is as bright as those beyond it in this direction."""
    if not 0 <= edge < len(frames):
        return not whole
    beyond = [edge]
    while len(beyond) < _FADE and 0 <= (number := beyond[-1] + way) < len(frames):
        if np.isnan(frames.step[max(number, beyond[-1])]):
            break
        beyond.append(number)
    if np.isnan(frames.step[edge if way > 0 else edge + 1]):
        return True  # nobody knows what lies between
    return bool(frames.peak[edge] > _ABRUPT * frames.peak[beyond].max())


def _darkness(level: Any) -> Any:
    return np.clip(_DARK_STEEP * np.log(_DARK / np.maximum(level, 1)), -MOST, MOST)


def _dark(frames: Frames) -> NDArray[np.float64]:
    result = np.full(len(frames), -MOST)
    seen = np.flatnonzero(_blackness(frames) < 0)
    if len(seen):
        side = min(len(seen) - 1, max(1, round(_SCENE / _usual(frames))))
        padded = np.pad(frames.level[seen], side, mode="symmetric")
        around = np.lib.stride_tricks.sliding_window_view(padded, 2 * side + 1)
        result[seen] = _darkness(np.partition(around, side)[:, side])  # the median
    return result


# --------------------------------------------------------------------------------------------------- missing frames


def _drops(frames: Frames, ends: NDArray[np.float64], *, whole: bool) -> Track:
    """Missing frames, by what they leave: a repeated picture, a jump, or a gap between timestamps.

    Motion, m: from the medians s and l of the steps and leaps of the five frames on either side, m^2 = (l^2 - s^2) / 3,
    in which noise cancels. A step x is sqrt(1 + (x^2 - u^2) / m^2) - 1 steps of motion too large, u being the usual one
    beside it (the mean of two, on the faster side); that is 1 for one missing frame. Where 0.85 u exceeds s, m grows by
    as much. The unevenness is the same figure for the second largest excess of a step over the mean of its neighbours,
    among twelve frames on either side.
    Repeated: a run of frames whose steps are less than half of those nearby: 2.5 ln(0.2 least / step), where `least` is
    the second smallest step nearby, and 6 for each step of motion by which the next step is too large, up to one, for
    then the motion has gone on behind the picture. At most (step + m - 0.4) / 0.1: in a static shot nothing is missed.
    The picture must have come by the motion of the scene: a still one after a cut is a title; three frames and more
    must stand entirely, unless the motion has gone on, and in a clip that does not mostly stand. Repetitions that are
    regular or as frequent as one frame in four are the material's cadence (animation on twos, telecine): -2 at most,
    unless a jump of half a step of motion more than the unevenness makes up for them.
    Jump: a step that is too large by x steps of motion: the least of 12 (x - 0.55), 12 (x - 1.5 unevenness - 0.3),
    12 (g + 0.1 - 0.1 (x - 1)), 40 (b - 0.85) and 2 (7 - x). g: by how many steps of motion the leaps over it are larger
    still, as where motion goes on; b: the mean difference over the RMS one, as a share of what is usual nearby, for
    damage changes a part of the picture; seven steps and more are a cut. At most 0.5 where fewer than ten frames nearby
    are known; none where the steps before and after it differ much. Key frames, whose coding noise differs, must stand
    out from others; jumps that return regularly are a change of rate: -2.
    Gap: timestamps 1.6 times the usual distance or more apart where 80 % nearby have it; else the rate is variable.
    None before the last picture of a file.
    Nothing is counted in damaged pictures, nor beside them; black ones are not compared with others.
    """
    start = frames.start.copy()
    hurt = np.convolve(damage(frames), np.ones(3))[1:-1] > 0
    black = _blackness(frames) >= 0
    step = np.where(hurt | black | _later(black, 1), np.nan, frames.step)
    leap = np.where(black | _later(black, 2), np.nan, frames.leap)
    parts = _parts(frames)
    result = np.concatenate([jumps(step[part], leap[part], frames.breadth[part], frames.fresh[part]) for part in parts])
    for run in repeats(step, leap, parts, whole=whole):
        rows = slice(run.first, run.last + 1)
        result[rows] = np.maximum(result[rows], run.score)
        if run.score > 0 or run.made_up:
            result[run.last + 1 : run.last + 2] = -MOST  # the jump after a repetition is part of it
    late_by = np.concatenate([gaps(step[part], leap[part], frames.start[part]) for part in parts])
    if whole:
        late_by[-1] = -MOST  # a stream that was cut lacks what its last pictures need
    late = np.flatnonzero(late_by > np.maximum(result, 0))
    start[late] = frames.start[late - 1] + _usual(frames)  # when the missing one was due
    ends[late] = frames.start[late]
    return Track(np.where(hurt, -MOST, np.maximum(result, late_by)), start, ends)


def _later(mask: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    """The mask so many frames later."""
    return np.concatenate([np.zeros(frames, bool), mask])[: len(mask)]


def _parts(frames: Frames) -> list[slice]:
    """The frames between which none is missing from the measures: each part starts with one without a step."""
    starts = [0, *(np.flatnonzero(np.isnan(frames.step[1:])) + 1), len(frames)]
    return [slice(int(first), int(stop)) for first, stop in itertools.pairwise(starts)]


def damage(frames: Frames) -> NDArray[np.float64]:
    """1 for the frames that the decoder reports as damaged and for those predicted from them, else 0; (n,)."""
    result, hurt = np.zeros(len(frames)), False
    for number in range(len(frames)):
        hurt = bool(frames.damaged[number] or (hurt and not frames.fresh[number]))
        result[number] = hurt
    return result


def _usual(frames: Frames) -> float:
    """The usual distance of timestamps, seconds."""
    distances = np.diff(frames.start)[~np.isnan(frames.step[1:])]
    return float(max(1e-3, median(distances))) if len(distances) else 0.04


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]


def window_cells(window: Window) -> NDArray[np.float32]:
    """The cells of all pictures of a window, (frames, rows, columns)."""
    return np.stack([cells_of(brightness(picture, window.format), window.format) for picture in window.pictures])


def cells_of(luma: NDArray[Any], form: PixelFormat) -> NDArray[np.float32]:
    """Means of 4x4 samples in 8-bit codes above black, float32 (rows, columns)."""
    shorter = min(luma.shape)
    side = min(_SIDE, shorter)
    apart = max(1, -(-shorter // _LINES))
    apart = apart if shorter >= side * apart else 1
    rows, columns = luma.shape[0] // (side * apart), luma.shape[1] // (side * apart)
    kind = np.uint16 if form.depth <= 12 else np.uint32
    used = one_in(apart, luma[: rows * side * apart : apart, : columns * side * apart])
    lines: NDArray[Any] = used[::side].astype(kind)
    for i in range(1, side):
        lines += used[i::side]
    total = lines[:, ::side].astype(np.float32)
    for i in range(1, side):
        total += lines[:, i::side]
    black, _ = levels(form)
    result: NDArray[np.float32] = (total / np.float32(side * side) - np.float32(black)) / np.float32(form.unit)
    return result


def _steps(cells: NDArray[np.float32], distance: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RMS difference of each picture from the one `distance` before it, and the mean one as a share of that.

    Both (n,); NaN where there is none.
    """
    step, breadth = np.full((2, len(cells)), np.nan)
    if len(cells) > distance:
        change = (cells[distance:] - cells[:-distance]).reshape(len(cells) - distance, 1, -1)
        step[distance:] = np.sqrt(np.matmul(change, change.transpose(0, 2, 1)).ravel() / np.float32(cells[0].size))
        breadth[distance:] = np.abs(change).mean(axis=(1, 2)) / np.maximum(step[distance:], 1e-6)
    return step, breadth
