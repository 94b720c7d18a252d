"""Missing frames, by what they leave in the differences of pictures and in their times. Pure arithmetic.

`step` is the RMS difference of each picture from the one before it, `leap` from the one before that, in 8-bit codes;
NaN where there is none. Noise adds the same to the squares of both, so that motion is what their squares differ by: a
picture that moves on evenly differs twice as much after two steps, and four times as much in squares.

The scores are logits; `_drops` in `grainscan.views.measures` has the formula as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST = 8.0  # a score is at most this, and at least its negative
NO_FAULT = -2.0  # of what looks like the artifact and is the material's own
_HARDLY = 0.5  # of what too little is known about

# Lengths in frames, differences in 8-bit codes, sizes (and growth) in steps of motion.
_NEAR = 5  # neighbours on either side that say how fast the scene moves
_AROUND = 12  # those that say how evenly
_FEW = 5  # fewer neighbours do not say it
_COHERENT = 0.4  # share of a step that has to be motion
_FASTER = 0.85  # of the usual step beside a jump: if that exceeds the pace of the scene, its motion is faster there
_LEAST = 0.2  # motion in which a jump can be seen

_STEEP = 12.0  # of the score of a jump, for each step of motion
_JUMP = 0.55  # size of a jump: undecided
_UNEVEN, _CLEAR = 1.5, 0.3  # so many times the unevenness, and that much more: undecided, too
_ONWARD, _EACH = -0.1, 0.1  # growth with one more step: undecided; and more for each further step of its size
_BROAD, _STEEP_BROAD = 0.85, 40.0  # of the usual breadth: undecided; what changes in a part of the picture is damage
_NEAREST = 0.9  # of the nearest step, at least, is usual on its side; else the mean of the nearest two
_ALIKE = 0.6  # the usual steps on both sides: if one is less of the other, another scene begins
_CANDIDATE = 1.1  # times the usual step, in squares: less is no jump
_FARTHEST = 7.0  # a larger jump is a cut
_AGAIN = 0.4  # of its size: a jump of the same kind
_KEY_FRAMES = 4  # the nearest ones tell whether key frames look like jumps here
_PULSE = 4.0  # that much a key frame's coding noise may change a picture
_LONGEST_PERIOD = 60

_MOVING = 0.4  # a step of which is motion, not noise; less hides a missing frame
_REMEMBERED = 100  # frames after which a still scene is one of its own
_SMALL = 0.5  # of the steps nearby: a picture that may be repeated
_STILL, _STEEP_STILL = 0.2, 2.5  # of the second smallest step nearby: undecided whether a picture is repeated
_UNSURE = 0.6  # of the usual step: the smallest one where there are too few
_MADE_UP = 6.0  # what a jump that makes up for the repetition adds
_HOLD, _HELD, _HELD_SHARE = 3, 0.12, 0.1  # from so many frames on, a picture has to stand but for coding noise
_SURROUNDINGS, _MOSTLY = 250, 0.6  # frames around it; share that may stand, too: more are slides, not faults
_CUT = 4.0  # times their step: a still picture after that is another scene
_CADENCE = 24  # frames on either side in which repetitions are counted
_STEADY, _REGULARLY = 0.6, 3  # share and number of their distances that are the usual one, in a regular pattern
_DENSE = 0.25  # share of repeated frames there that is the material's own rate

_FURTHER, _NOISE = 1.2, 2.0  # times a step that two are in motion; steps without may be of noise up to so many codes
_GAP = 1.6  # times the usual distance of timestamps
_REGULAR = 0.8  # share of the distances nearby that are the usual one, where the rate is constant


@dataclass(frozen=True)
class _Motion:
    """How a scene moves: its steps, what they are without noise, and how uneven they are, in such steps."""

    pace: float  # 8-bit codes
    step: float  # 8-bit codes
    rough: float

    def more(self, value: float, usual: float) -> float:
        """By how many steps of motion a difference exceeds the usual one; at least -1.

        Where the usual one is larger than those of the scene, so is the motion.
        """
        step = self.step * max(1.0, _FASTER * usual / self.pace)
        return float(np.sqrt(max(0.0, 1 + (value**2 - usual**2) / step**2)) - 1)


def _motion(step: Array, leap: Array, first: int, stop: int) -> _Motion | None:
    """The motion beside the frames from `first` up to `stop`; None if there is none, or none that is known."""
    steps = known(np.concatenate([step[max(0, first - _NEAR) : first], step[stop : stop + _NEAR]]))
    leaps = known(np.concatenate([leap[max(0, first - _NEAR) : first], leap[stop + 1 : stop + 1 + _NEAR]]))
    if not len(steps) or not len(leaps):
        return None
    usual = median(steps) ** 2
    moved = (median(leaps) ** 2 - usual) / 3
    if not usual or moved <= _COHERENT**2 * usual:
        return None
    bends = np.sort(
        np.concatenate([_bends(step[max(0, first - _AROUND) : first]), _bends(step[stop : stop + _AROUND])])
    )
    rough = float(np.sqrt(1 + max(0.0, bends[-2]) / moved) - 1) if len(bends) > 1 else 0.0
    return _Motion(float(np.sqrt(usual)), float(np.sqrt(moved)), rough)


def _bends(step: Array) -> Array:
    """By how much each step exceeds the mean of its neighbours, in squares."""
    square = step**2
    return known(square[1:-1] - (square[:-2] + square[2:]) / 2)


# --------------------------------------------------------------------------------------------------------------- jumps


def jumps(step: Array, leap: Array, breadth: Array, fresh: Array) -> Array:
    """Scores of steps that are too large for the motion on both sides of them.

    All (n,), of frames between which none is left out. `breadth`: the mean difference as a share of `step`; `fresh`: 1
    for key frames.
    """
    before, after = _beside(step, -1), _beside(step, 1)
    usual = np.maximum(before, after)
    alike = np.minimum(before, after) > _ALIKE * usual
    size, result = np.where(np.isnan(usual), np.nan, 0.0), np.full(len(step), -MOST)
    for i in map(int, np.flatnonzero(alike & (step**2 > _CANDIDATE * usual**2))):
        motion = _motion(step, leap, i, i + 1)
        around = slice(max(0, i - _AROUND), i), slice(i + 1, i + 1 + _AROUND)
        others = sum(len(known(step[side])) for side in around)
        onward = known(leap[i : i + 2])
        if motion is None or motion.step < _LEAST or not len(onward):
            continue
        size[i] = motion.more(step[i], usual[i])
        growth = motion.more(onward.min(), usual[i]) - size[i]
        usually = median(known(np.concatenate([breadth[side] for side in around])))
        result[i] = min(
            _STEEP * (size[i] - _JUMP),
            _STEEP * (size[i] - _UNEVEN * motion.rough - _CLEAR),
            _STEEP * (growth - _ONWARD - _EACH * (size[i] - 1)),
            _STEEP_BROAD * (breadth[i] / max(usually, 1e-6) - _BROAD),
            2 * (_FARTHEST - size[i]),
            MOST if others >= 2 * _FEW else _HARDLY,
        )
    for i in map(int, np.flatnonzero(result > 0)):
        small = bool(step[i] ** 2 - usual[i] ** 2 < _PULSE**2)
        if _periodic(size, i) or (fresh[i] and _pulsing(size, fresh, i, small=small)):
            result[i] = NO_FAULT
    return np.clip(result, -MOST, MOST)


def _beside(step: Array, way: int) -> Array:
    """The usual step before (-1) or after (1) each, by the nearest two that are known; NaN without two."""
    result, places = np.full(len(step), np.nan), np.flatnonzero(~np.isnan(step))
    values = step[places][::-way]
    if len(values) > 2:
        result[places[::-way][2:]] = np.maximum(_NEAREST * values[1:-1], (values[1:-1] + values[:-2]) / 2)
    return result


def _periodic(size: Array, i: int) -> bool:
    """Whether the jump is one of many at one distance: by another frame rate, or key frames of a former codec."""
    for period in range(2, _LONGEST_PERIOD + 1):
        places = [i + k * period for k in (-3, -2, -1, 1, 2, 3)]
        sizes = known(size[[place for place in places if 0 <= place < len(size)]])
        if len(sizes) >= 2 and np.sort(sizes)[(len(sizes) - 1) // 2] > _AGAIN * size[i]:
            return True
    return False


def _pulsing(size: Array, fresh: Array, i: int, *, small: bool) -> bool:
    """Whether the nearest other key frames look like jumps, too: their coding noise differs.

    If there are none, whether this one is `small` enough for that.
    """
    others = np.flatnonzero((fresh > 0) & (size < _FARTHEST))
    others = others[others != i]
    nearest = size[others[np.argsort(np.abs(others - i))[:_KEY_FRAMES]]]
    return small if len(nearest) < 2 else bool(nearest.max() > _AGAIN * size[i])


# ------------------------------------------------------------------------------------------------------------- repeats


@dataclass(frozen=True)
class Repeat:
    """A run of pictures that hardly differ from the one before; `made_up`: a jump makes up for it."""

    first: int
    last: int
    score: float
    made_up: bool


def repeats(step: Array, leap: Array, parts: list[slice], *, whole: bool) -> list[Repeat]:
    """The repeated pictures in frames (n,) that are known in parts; `whole`: the frames are all of the file."""
    found = [run for part in parts for run in _runs_in(step[part], leap[part], part.start, whole=whole)]
    others = [run for run in found if not run.made_up]  # which may be the material's own
    repeated = np.zeros(len(step))
    for run in others:
        repeated[run.first : run.last + 1] = 1
    own = {run.first for number, run in enumerate(others) if _cadence(others, number, repeated)}
    return [
        Repeat(run.first, run.last, min(run.score, NO_FAULT), run.made_up) if run.first in own else run for run in found
    ]


def _runs_in(step: Array, leap: Array, offset: int, *, whole: bool) -> list[Repeat]:
    """The runs in one part, whose first frame has the number `offset`."""
    moving, found, i = step.copy(), [], 2
    while i < len(step):
        arrival, first = step[i - 1], i
        before = known(moving[max(0, i - 1 - _REMEMBERED) : i - 1])[-_NEAR:]
        usual = median(before) if len(before) else arrival
        near = min(usual, arrival)
        i += 1
        if not (step[first] < _SMALL * near and arrival <= _CUT * usual):
            continue
        while i < len(step) and step[i] < _SMALL * near:
            i += 1
        after = known(step[i : i + _NEAR])
        if not len(after) and (whole or not len(before)):
            continue  # a last picture that stands, or a scene that nothing is known of
        if len(after) and not len(before) and arrival > _CUT * median(after):
            i = first + 1  # after a cut
            continue
        if i - first >= _HOLD and _mostly_still(step, first, i - 1):
            continue  # slides
        moving[first:i] = np.nan
        found.append((first, i, min(near, after[0], median(after)) if len(after) else near))
    leap = np.where(np.isnan(moving) | np.isnan(np.append(np.nan, moving[:-1])), np.nan, leap)
    even = moving.copy()
    even[[stop for _, stop, _ in found if stop < len(step)]] = np.nan
    return [
        Repeat(first + offset, stop - 1 + offset, *_judged(step, moving, even, leap, first, stop, near))
        for first, stop, near in found
    ]


def _judged(
    step: Array, moving: Array, even: Array, leap: Array, first: int, stop: int, near: float
) -> tuple[float, bool]:
    """The score of a run of pictures whose neighbours have steps of `near`, and whether a jump makes up for it.

    `moving` and `leap` are NaN where pictures stand, and `even` right after that, too.
    """
    before, after = known(moving[max(0, first - _REMEMBERED) : first]), known(moving[stop : stop + _NEAR])
    motion = _motion(even, leap, first, stop + 1)
    size = 0.0
    if motion is not None and stop < len(step) and not np.isnan(moving[stop]):
        sides = known(even[max(0, first - _NEAR) : first])[-2:], known(even[stop : stop + _NEAR])[:2]
        size = motion.more(moving[stop], max([near, *(side.mean() for side in sides if len(side))]))
        size = size if size < _FARTHEST else 0.0  # more is a cut
    made_up = motion is not None and size - motion.rough > 0.5
    still = float(np.sort(step[first:stop])[(stop - first) // 2])
    if stop - first >= _HOLD and not made_up and still > max(_HELD, _HELD_SHARE * near):
        return -MOST, False  # motion that comes to rest
    others = np.sort(np.concatenate([before[-_NEAR:], after]))
    least = max(1e-6, min(near, others[1] if len(others) >= _FEW else _UNSURE * near))
    score = _STEEP_STILL * np.log(_STILL * least / max(still, 1e-3 * least)) + _MADE_UP * np.clip(size, 0, 1)
    if len(before) < 2 and not made_up:
        score = min(score, _HARDLY)
    moved = near + min(near, motion.step) if motion else near
    return float(np.clip(min(score, (moved - _MOVING) / 0.1), -MOST, MOST)), made_up


def _mostly_still(step: Array, first: int, last: int) -> bool:
    """Whether most pictures around a still stretch are still as well."""
    around = known(np.concatenate([step[max(0, first - _SURROUNDINGS) : first], step[last + 1 : last + _SURROUNDINGS]]))
    return bool((around < _HELD).mean() > _MOSTLY)


def _cadence(runs: list[Repeat], number: int, repeated: Array) -> bool:
    """Whether a run of repeated frames is one of many, or of a regular pattern."""
    first, last = runs[number].first, runs[number].last
    others = np.concatenate([repeated[max(0, first - _CADENCE) : first], repeated[last + 1 : last + 1 + _CADENCE]])
    if len(others) and others.mean() >= _DENSE:
        return True
    apart = np.diff([run.first for run in runs[max(0, number - 4) : number + 5]])
    usual = median(apart) if len(apart) else np.inf
    regular = len(apart) >= _REGULARLY and (np.abs(apart - usual) <= 1).mean() >= _STEADY
    return bool(regular and usual <= 1.25 * _CADENCE)


# ---------------------------------------------------------------------------------------------------------------- gaps


def gaps(step: Array, leap: Array, start: Array) -> Array:
    """Scores of timestamps (`start`, seconds) that come too late, each (n,)."""
    result = np.full(len(step), -MOST)
    apart = np.diff(start, prepend=np.nan)
    for i in np.flatnonzero(apart > _GAP * median(known(apart))) if len(apart) > 1 else ():
        near = apart[max(1, i - _CADENCE) : i + 1 + _CADENCE]
        near = known(near[near != apart[i]])
        usual = median(near) if len(near) else np.inf
        regular = (np.abs(near - usual) < 0.25 * usual).mean() if len(near) else 0.0
        sides = [known(step[max(0, i - _NEAR) : i]), known(step[i + 1 : i + 1 + _NEAR])]
        moving = min((median(side) for side in sides if len(side)), default=0.0)
        leaps = known(np.concatenate([leap[max(0, i - _NEAR) : i], leap[i + 2 : i + 2 + _NEAR]]))
        if not len(leaps) or median(leaps) < _FURTHER * moving:
            moving -= _NOISE
        in_order = not len(near) or near.min() >= 0  # else the stamps are those of another order, and tell nothing
        if apart[i] > _GAP * usual and regular >= _REGULAR and in_order:
            result[i] = min(6.0, (moving - _MOVING) / 0.1)
    return np.clip(result, -MOST, MOST)


def known(values: Array) -> Array:
    return values[~np.isnan(values)]


def median(values: NDArray[Any]) -> Any:
    """Along the last axis. `np.median` takes twenty times as long for a few values, and imports numpy.ma."""
    ordered = np.sort(values, axis=-1)
    half, odd = divmod(ordered.shape[-1], 2)
    return (ordered[..., half] if odd else (ordered[..., half - 1] + ordered[..., half]) / 2)[()]
