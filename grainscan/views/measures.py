"""What is measured in every decoded frame. Pure arithmetic.

A frame is reduced to *cells*, means of 4x4 samples that lie one in so many pixels apart (16 x 16 pixels in a picture of
1080 lines): enough to tell black from dark and a repeated picture from a moving one, far cheaper than decoding, and
blind to grain and coding noise, which average out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Window
from grainscan.video.planes import PixelFormat
from grainscan.views.colour import brightness, levels
from grainscan.views.crops import BAR_TOLERANCE, lit_part

_SIDE = 4  # of a cell, samples
_LINES = 270  # samples in the shorter side of a picture, at most
_MOST_OF_IT = 0.7  # share of a dark picture that has to be dark: night may have its lamps
_OUTLIERS = 1  # columns of cells that are left out of the range: a dead pixel is no picture

# Scores are logits: 0 is undecided, 3 nearly certain. Lengths in frames, differences in 8-bit codes (RMS of the cells).
_MOST = 8.0  # a score is at most this, and at least its negative
_NO_FAULT = -2.0  # of what looks like the artifact and is the material's own
_BLACK = 8.0  # the brightest cell of a black picture
_GREY, _FLAT = 24.0, 2.0  # a black that is raised, as by a wrong range: brightest cell and spread
_FADE = 24  # before or after a black stretch, a fade to or from black is looked for
_ABRUPT = 0.5  # of the brightness in that time, at the edge of a stretch that is no fade
_LONGEST_FADE = 2.0  # seconds: longer black is reported even between fades
_DARK = 52.0  # level below which a picture is rather dark
_DARK_STEEP = 10.0
_SCENE = 1.0  # seconds on either side whose median level is that of a scene
_MOVING = 0.4  # a step of which is motion, not noise; less hides a missing frame
_NEAR = 5  # neighbours on either side that say how fast the scene moves
_REMEMBERED = 100  # frames after which a still scene is one of its own
_STILL, _STILL_BEFORE_JUMP = 0.2, 0.5  # of their step: undecided whether a picture is repeated
_HOLD, _HELD = 3, 0.12  # from so many frames on, a picture that stands has steps of coding noise only, if that
_SURROUNDINGS, _MOSTLY = 250, 0.6  # frames around it; share that may stand, too: more are slides, not faults
_CUT = 2.5  # times their step: a still picture after that is another scene
_COHERENT = 0.6  # a steady motion adds at least this share of a step to the difference of frames two apart
_JUMP = 0.65  # excess of a step over the usual one, in units of what one missing frame would add
_OVER_ALL = 0.45  # its excess over all that are near
_UNSTEADY = 0.4  # by which the steps nearby may differ, in the same units
_AGAIN = 0.4  # of its size: a jump of the same kind
_EACH_MORE = 0.1  # required of each further step of a jump
_KEY_FRAMES = 4  # the nearest ones tell whether key frames look like jumps here
_LONGEST_PERIOD = 60  # frames
_FARTHEST = 2.5  # a larger one is a cut
_ONWARD, _NOISE = 1.2, 2.0  # times a step that two are in motion; steps without may be of noise up to so many codes
_GAP = 1.6  # times the usual distance of timestamps
_REGULAR = 0.8  # share of the distances nearby that are the usual one, where the rate is constant
_CADENCE = 24  # frames on either side in which repetitions are counted
_STEADY = 0.6  # share of their distances that are the usual one, in a regular pattern
_DENSE = 0.25  # share of repeated frames there that is the material's own rate


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
    damaged: NDArray[np.float64]  # 1 where the decoder reports an error
    fresh: NDArray[np.float64]  # 1 where a frame is predicted from no other

    def __len__(self) -> int:
        return len(self.start)

    def part(self, rows: slice) -> Frames:
        return Frames(*(getattr(self, each.name)[rows] for each in fields(self)))

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
        return Frames(
            start=np.array([stamp.start for stamp in stamps]),
            end=np.array([stamp.end for stamp in stamps]),
            level=np.partition(picture, most, axis=1)[:, most].astype(np.float64),
            peak=peak.astype(np.float64),
            spread=(peak - lowest).astype(np.float64),
            step=_differences(known, 1)[-len(cells) :],
            leap=_differences(known, 2)[-len(cells) :],
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
        return float(_darkness(_median(seen))) if len(seen) else -_MOST
    return float(scores.score.max())


# --------------------------------------------------------------------------------------------------- black and dark


def _blackness(frames: Frames) -> NDArray[np.float64]:
    black = _BLACK - frames.peak
    raised = np.minimum((_GREY - frames.peak) / 2, 4 * (_FLAT - frames.spread))
    return np.clip(np.maximum(black, raised), -_MOST, _MOST)


def _black(frames: Frames, *, whole: bool) -> NDArray[np.float64]:
    result = _blackness(frames)
    for first, last in _runs(result >= 0):
        if frames.end[last] - frames.start[first] > _LONGEST_FADE or last - first + 1 == len(frames):
            continue
        before = _abrupt(frames, first - 1, -1, whole=whole)
        after = _abrupt(frames, last + 1, 1, whole=whole)
        if not before and not after:
            result[first : last + 1] = _NO_FAULT
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
    return np.clip(_DARK_STEEP * np.log(_DARK / np.maximum(level, 1)), -_MOST, _MOST)


def _dark(frames: Frames) -> NDArray[np.float64]:
    result = np.full(len(frames), -_MOST)
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

    All three need motion (a median step of the frames nearby above 0.4 codes): in a static shot nothing is missed.
    Repeated: a run of frames whose steps are small beside those nearby, 4 ln(0.2 / ratio), or 0.5 before a jump. The
    picture must have come by the motion of the scene: a still one after a cut is a title; from three frames on it must
    stand entirely, in a clip that does not mostly stand. Repetitions that are regular (animation on twos,
    telecine) or as frequent as one frame in four are the material's cadence: -2 at most.
    Jump: a step that exceeds the usual one by what a missing frame would add, as the differences of frames two apart
    tell: 12 min(excess - 0.65, excess over all nearby - 0.45), in units of that. More than 2.5 is a cut;
    key frames, whose coding noise differs, must stand out from others; those that return regularly are a cadence, too.
    Gap: timestamps 1.6 times the usual distance or more apart where 80 % nearby have it; else the rate is variable.
    Nothing is counted in damaged pictures, nor beside them.
    """
    start, result = frames.start.copy(), np.full(len(frames), -_MOST)
    hurt = np.convolve(damage(frames), np.ones(3))[1:-1] > 0
    step = np.where(hurt, np.nan, frames.step)
    result = np.concatenate([_jumps(step[part], frames.leap[part], frames.fresh[part]) for part in _parts(frames)])
    for first, last, value in _repeats(frames, step, whole=whole):
        result[first : last + 1] = np.maximum(result[first : last + 1], value)
        if value > 0:
            result[last + 1 : last + 2] = -_MOST  # the jump after a repetition is part of it
    gaps = np.concatenate([_gaps(step[part], frames.leap[part], frames.start[part]) for part in _parts(frames)])
    late = np.flatnonzero(gaps > np.maximum(result, 0))
    start[late] = frames.start[late - 1] + _usual(frames)  # when the missing one was due
    ends[late] = frames.start[late]
    return Track(np.where(hurt, -_MOST, np.maximum(result, gaps)), start, ends)


def _jumps(step: NDArray[np.float64], leap: NDArray[np.float64], fresh: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(_jumps_over(1, step, leap, fresh), _jumps_over(2, step, leap, fresh))


def _jumps_over(
    count: int, step: NDArray[np.float64], leap: NDArray[np.float64], fresh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scores of jumps that are made in so many steps: frames that a codec predicts from both sides lie between them."""
    size, margin = np.full(len(step), np.nan), np.full(len(step), -np.inf)
    for i in np.flatnonzero(step > _MOVING):
        after = i + count
        sides = _known(step[max(0, i - _NEAR) : i]), _known(step[after : after + _NEAR])
        if min(len(side) for side in sides) < 2:
            continue
        most, steps = max(side.max() for side in sides), step[i:after]
        leaps = _known(np.concatenate([leap[max(0, i - _NEAR) : i], leap[after + 1 : after + 1 + _NEAR]]))
        if not steps.min() > most or not len(leaps):
            continue
        slower, faster = sorted(_median(side) for side in sides)
        unit = _median(leaps) - _median(np.concatenate(sides))
        steady = slower > _MOVING and unit > _COHERENT * slower and most < faster + _UNSTEADY * unit
        if steady and steps.max() < faster + _FARTHEST * unit:
            size[i], margin[i] = (steps.sum() - count * faster) / unit, (steps.sum() - count * most) / unit
    result = 12 * (np.fmin(size - _JUMP, margin - _OVER_ALL) - _EACH_MORE * (count - 1))
    for i in np.flatnonzero(result > 0):
        if _periodic(size, int(i)) or (fresh[i] and _pulsing(size, fresh, int(i))):
            result[i] = min(result[i], _NO_FAULT)
    return np.clip(np.nan_to_num(result, nan=-_MOST), -_MOST, _MOST)


def _periodic(size: NDArray[np.float64], i: int) -> bool:
    """Whether the jump is one of many at one distance: by another frame rate, or key frames of a former codec."""
    for period in range(2, _LONGEST_PERIOD + 1):
        places = [i + k * period for k in (-3, -2, -1, 1, 2, 3)]
        known = _known(size[[place for place in places if 0 <= place < len(size)]])
        if len(known) >= 2 and np.sort(known)[(len(known) - 1) // 2] > _AGAIN * size[i]:
            return True
    return False


def _pulsing(size: NDArray[np.float64], fresh: NDArray[np.float64], i: int) -> bool:
    """Whether the nearest other key frames look like jumps, too, or are unknown: their coding noise differs."""
    others = np.flatnonzero((fresh > 0) & ~np.isnan(size))
    others = others[others != i]
    nearest = size[others[np.argsort(np.abs(others - i))[:_KEY_FRAMES]]]
    return len(nearest) < 2 or bool(nearest.max() > _AGAIN * size[i])


def _repeats(frames: Frames, step: NDArray[np.float64], *, whole: bool) -> list[tuple[int, int, float]]:
    """(first, last, score) of each run of repeated frames."""
    found: list[tuple[int, int, float]] = []
    moving = step.copy()
    for part in _parts(frames):
        i = part.start + 2
        while i < part.stop:
            arrival = step[i - 1]
            before = _known(moving[max(part.start, i - 1 - _REMEMBERED) : i - 1])[-_NEAR:]
            usual = _median(before) if len(before) else arrival
            near = min(usual, arrival)
            if not step[i] < _STILL_BEFORE_JUMP * near or arrival > _CUT * usual:
                i += 1
                continue
            first = i
            while i < part.stop and step[i] < _STILL_BEFORE_JUMP * near:
                i += 1
            moving[first:i] = np.nan
            after = _known(step[i : min(part.stop, i + _NEAR)])
            if not len(after) and (whole or not len(before)):
                continue  # a last picture that stands, or a scene that nothing is known of
            if len(after) and not len(before) and arrival > _CUT * _median(after):
                moving[first:i], i = step[first:i], first + 1  # after a cut
                continue
            near = min([near, *([_median(after)] if len(after) else [])])
            if near <= _MOVING:
                continue
            leaps = _known(frames.leap[max(part.start, first - _NEAR) : first])
            unit = _median(leaps) - near if len(leaps) else 0.0
            jumped = len(after) > 0 and unit > _COHERENT * near and after[0] > near + 0.5 * unit
            still = _median(step[first:i])
            if i - first >= _HOLD and (still > _HELD or _mostly_still(step, first, i - 1)):
                continue  # motion that comes to rest, or slides
            ratio = still / max(near, 1e-6)
            value = 4 * np.log((_STILL_BEFORE_JUMP if jumped else _STILL) / max(ratio, 1e-3))
            found.append((first, i - 1, float(np.clip(min(value, (near - _MOVING) / 0.1), -_MOST, _MOST))))
    repeated = np.zeros(len(frames))
    for first, last, _ in found:
        repeated[first : last + 1] = 1
    return [
        (first, last, min(value, _NO_FAULT) if _cadence(found, number, repeated, frames) else value)
        for number, (first, last, value) in enumerate(found)
    ]


def _mostly_still(step: NDArray[np.float64], first: int, last: int) -> bool:
    """Whether most pictures around a still stretch are still as well."""
    around = _known(
        np.concatenate([step[max(0, first - _SURROUNDINGS) : first], step[last + 1 : last + _SURROUNDINGS]])
    )
    return bool((around < _HELD).mean() > _MOSTLY)


def _cadence(runs: list[tuple[int, int, float]], number: int, repeated: NDArray[np.float64], frames: Frames) -> bool:
    """Whether a run of repeated frames is one of many, or of a regular pattern."""
    first, last, _ = runs[number]
    others = np.concatenate([repeated[max(0, first - _CADENCE) : first], repeated[last + 1 : last + 1 + _CADENCE]])
    if len(others) and others.mean() >= _DENSE:
        return True
    starts = np.array([start for start, _, _ in runs[max(0, number - 4) : number + 5]])
    apart = np.diff(starts)
    usual = _median(apart) if len(apart) else np.inf
    return bool(len(apart) >= 4 and usual <= 1.25 * _CADENCE and (np.abs(apart - usual) <= 1).mean() >= _STEADY)


def _gaps(step: NDArray[np.float64], leap: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full(len(step), -_MOST)
    apart = np.diff(start, prepend=np.nan)
    for i in np.flatnonzero(apart > _GAP * _median(_known(apart))) if len(apart) > 1 else ():
        near = apart[max(1, i - _CADENCE) : i + 1 + _CADENCE]
        near = _known(near[near != apart[i]])
        usual = _median(near) if len(near) else np.inf
        regular = (np.abs(near - usual) < 0.25 * usual).mean() if len(near) else 0.0
        sides = [_known(step[max(0, i - _NEAR) : i]), _known(step[i + 1 : i + 1 + _NEAR])]
        moving = min((_median(side) for side in sides if len(side)), default=0.0)
        leaps = _known(np.concatenate([leap[max(0, i - _NEAR) : i], leap[i + 2 : i + 2 + _NEAR]]))
        if not len(leaps) or _median(leaps) < _ONWARD * moving:
            moving -= _NOISE
        if apart[i] > _GAP * usual and regular >= _REGULAR:
            result[i] = min(6.0, (moving - _MOVING) / 0.1)
    return np.clip(result, -_MOST, _MOST)


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _median(values: NDArray[np.float64]) -> float:
    """The median of values that are known. `np.median` takes twenty times as long, and imports numpy.ma."""
    ordered, half = np.sort(values), len(values) // 2
    return float(ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2)


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
    return float(max(1e-3, _median(distances))) if len(distances) else 0.04


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
    used = luma[: rows * side * apart : apart, : columns * side * apart]
    lines: NDArray[Any] = used[::side].astype(kind)
    for i in range(1, side):
        lines += used[i::side]
    lines = lines[:, ::apart]  # only now: whole lines are added faster than parts of them
    total = lines[:, ::side].astype(np.float32)
    for i in range(1, side):
        total += lines[:, i::side]
    black, _ = levels(form)
    result: NDArray[np.float32] = (total / np.float32(side * side) - np.float32(black)) / np.float32(form.unit)
    return result


def _differences(cells: NDArray[np.float32], distance: int) -> NDArray[np.float64]:
    """RMS difference of each picture from the one `distance` before it, (n,); NaN where there is none."""
    result = np.full(len(cells), np.nan)
    if len(cells) > distance:
        change = cells[distance:] - cells[:-distance]
        result[distance:] = np.sqrt(np.einsum("tij,tij->t", change, change, dtype=np.float64) / cells[0].size)
    return result
