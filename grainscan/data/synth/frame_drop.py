"""Dropped frames: pictures are missing, and motion jumps; or others are shown again in their place, and it freezes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from grainscan.data.synth.drawing import PLAIN, draw_setting, pick, short
from grainscan.data.synth.recipe import BaseRecipe, unknown
from grainscan.data.synth.stack import Array, Stack, from_block, squares, taken, to_block
from grainscan.video import Block

Kind = Literal["skip", "freeze", "stall", "scatter", "periodic"]
_KINDS: dict[Kind, float] = {"skip": 0.25, "freeze": 0.35, "stall": 0.15, "scatter": 0.1, "periodic": 0.15}

_SIDE = 8  # pixels: means over such squares move with the picture, not with its noise
_MOVING = 0.05  # share of the squares that has to move
_STILL, _MOTION = 0.7, 2.5  # 8-bit codes: less than the first cannot be seen, more than the second can
_JUMP = 1.4  # a step that much larger than its neighbours is a jump
_NEAR = 4  # frames: the neighbours of a gap
_REPEATED = 0.1  # a step that much smaller than the usual one is a repeat,
_FLAT = 3.0  # unless the picture is flat, as a black one: the deviation of its squares in 8-bit codes


@dataclass(frozen=True)
class Drop:
    """Which pictures are missing.

    kind: `skip` leaves out `count` pictures; `freeze` shows the one before in their place; `stall` does so, too, but
    goes on where it stopped; `scatter` freezes single pictures at `count` places; `periodic` one picture in `period`.
    `first` is a share of the clip.
    """

    kind: Kind
    first: float
    count: int = 1
    period: int = 6
    seed: int = 0


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with missing frames, or (None) without.

    Strengths are numbers of missing frames, each weighted by how well it can be seen (see `missed`). A gap where
    nothing moves is between visible and negligible.
    """

    task = "frame_drop"
    stage = "delivery"
    visible = 0.9
    negligible = 0.1

    drop: Drop | None = None
    late: bool = True  # after the shared encoders: repeated pictures are equal, and not only similar

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        """A recipe for a twin with missing frames."""
        drop = Drop(
            pick(rng, _KINDS),
            first=short(rng.uniform(0.1, 0.8)),
            count=int(rng.choice((1, 1, 1, 2, 2, 3, 4, 6))),
            period=int(rng.integers(3, 9)),
            seed=int(rng.integers(2**31)),
        )
        late = bool(rng.random() < 0.5)
        return cls(drop=drop, late=late, **draw_setting(rng, PLAIN, width=width, height=height))

    def clean(self) -> Self:
        return replace(self, drop=None)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        return stack if self.drop is None or self.late else taken(stack, timeline(self.drop, stack.shape[0]))

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        if self.drop is None or not self.late:
            return block
        return to_block(taken(from_block(block), timeline(self.drop, block.frames)))

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        if self.drop is None:
            return 0.0
        return missed(reference, timeline(self.drop, reference.frames), unseen=self.negligible)

    @classmethod
    def standing(cls, source: Block, decoded: Block) -> float:
        """Between visible and negligible if pictures of moving footage are repeated: it may be meant so."""
        steps = _steps(decoded)
        if not steps.size:
            return 0.0
        flat = squares(decoded.luma8(), _SIDE).std(axis=(1, 2))[1:] < _FLAT
        usual = float(np.median(steps))
        repeated = bool(((steps < _REPEATED * usual) & ~flat).any()) and usual >= _STILL
        return (cls.visible + cls.negligible) / 2 if repeated else 0.0

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values if values.get("drop") is None else {**values, "drop": Drop(**values["drop"])}


def timeline(drop: Drop, frames: int) -> NDArray[np.intp]:
    """(frames,) the number of the picture that is shown at each moment. Raises DataError for an unknown kind.

    The first picture remains. After a skip there are too few; the clip then runs backwards from its end.
    """
    numbers = np.arange(frames)
    if drop.kind not in _KINDS:
        raise unknown("kind of drop", drop.kind)
    if frames < 3:
        return numbers
    count = min(drop.count, max(1, (frames - 2) // 2))
    first = 1 + min(int(drop.first * frames), frames - 2 - count)  # of the missing
    first = max(1, first)
    if drop.kind == "skip":
        shown = np.where(numbers < first, numbers, numbers + count)
        return np.where(shown < frames, shown, 2 * (frames - 1) - shown)
    if drop.kind == "stall":
        return np.where(numbers < first, numbers, np.maximum(first - 1, numbers - count))
    if drop.kind == "freeze":
        hit = (numbers >= first) & (numbers < first + count)
    elif drop.kind == "periodic":
        hit = ((numbers - first) % max(2, drop.period) == 0) & (numbers > 0)
    else:
        hit = np.zeros(frames, bool)
        hit[np.random.default_rng(drop.seed).choice(np.arange(1, frames - 1), size=count, replace=False)] = True
    return np.maximum.accumulate(np.where(hit, 0, numbers))


def missed(reference: Block, shown: NDArray[np.intp], *, unseen: float) -> float:
    """The number of missing frames when the pictures `shown` of `reference` are shown, as far as that can be seen.

    The motion between two pictures is the mean difference of the twentieth of their 8 x 8 squares that changes most, in
    8-bit luma codes. A repeated picture is seen if its neighbours move: its weight rises from 0 at 0.7 codes to 1 at
    2.5. So does that of a jump, and only if it is 1.4 times as large as the steps around it. A frozen picture and the
    jump after it are the same missing frame. Frames that are missing, but cannot be seen, count `unseen` together.
    """
    means = squares(reference.luma8(), _SIDE)
    usual = _steps(reference)
    repeats, jumps, lost = 0.0, 0.0, 0
    for here, there in pairwise(shown):
        around = float(np.median(usual[max(0, here - _NEAR) : here + _NEAR + 1])) if usual.size else 0.0
        if here == there:
            lost += 1
            repeats += _weight(around)
        elif there > here + 1:
            lost += 1
            leap = float(_motion(means[here], means[there]))
            if leap > _JUMP * around:
                jumps += int(there - here - 1) * _weight(leap)
    return max(repeats, jumps, unseen) if lost else 0.0


def _weight(motion: float) -> float:
    return float(np.clip((motion - _STILL) / (_MOTION - _STILL), 0, 1))


def _steps(block: Block) -> Array:
    """Motion from each picture to the next, 8-bit luma codes: (frames - 1,)."""
    return np.array([_motion(*pair) for pair in pairwise(squares(block.luma8(), _SIDE))], np.float32)


def _motion(first: Array, second: Array) -> np.floating[Any]:
    change = np.sort(np.abs(second - first), axis=None)
    return np.mean(change[-max(1, round(_MOVING * change.size)) :])
