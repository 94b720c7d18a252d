"""Black screens: some pictures or all are black, exactly or nearly, at once or after a fade."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from grainscan.data.synth.drawing import PLAIN, Span, draw_setting
from grainscan.data.synth.recipe import BaseRecipe
from grainscan.data.synth.stack import NEUTRAL, Array, Stack, from_block, to_block
from grainscan.video import Block
from grainscan.views.colour import levels

_LIMIT = 10.0  # 8-bit codes above black: 99 of 100 pixels of a black picture are darker,
_SCATTER = 3.0  # and their standard deviation is less
_WHOLE = 0.2  # share of clips that are black throughout
_LENGTH = Span(0.03, 0.8, log=True)
_NOISE = Span(0.3, 1.5)


@dataclass(frozen=True)
class Black:
    """When and how the picture is black. Times are shares of the clip; at least one picture is."""

    first: float
    length: float
    level: float = 0.0  # 8-bit codes above the black of the format; limited range allows down to -16
    noise: float = 0.0  # standard deviation of its luma, 8-bit codes
    fade: float = 0.0  # time of the fade before and after
    bars: float = 0.0  # share of the height, in bars above and below, that stays at black itself


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with black pictures, or (None) without. Strengths are the share of black pictures in percent."""

    task = "black_screen"
    stage = "delivery"
    visible = 0.5
    negligible = 0.01
    undone = None  # black with grain or damage on it

    black: Black | None = None
    late: bool = True  # after the shared encoders

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        """A recipe for a twin with a black screen."""
        length = 1.0 if rng.random() < _WHOLE else _LENGTH.draw(rng)
        level = float(rng.choice((0.0, 0.0, 0.0, -16.0, *np.round(rng.uniform(-8, 4, 3), 1))))
        black = Black(
            first=Span(0, max(0.01, 1 - length)).draw(rng),
            length=length,
            level=level,
            noise=_NOISE.draw(rng) if rng.random() < 0.3 else 0.0,
            fade=Span(0.05, 0.3).draw(rng) if rng.random() < 0.25 else 0.0,
            bars=Span(0.1, 0.3).draw(rng) if level > 0 and rng.random() < 0.3 else 0.0,
        )
        late = bool(rng.random() < 0.5)
        return cls(black=black, late=late, **draw_setting(rng, PLAIN, width=width, height=height))

    def clean(self) -> Self:
        return replace(self, black=None)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        return stack if self.black is None or self.late else blacken(stack, self.black, rng)

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        if self.black is None or not self.late:
            return block
        return to_block(blacken(from_block(block), self.black, rng))

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return self.standing(reference, decoded)

    @classmethod
    def standing(cls, source: Block, decoded: Block) -> float:
        """The share of black pictures, whoever made them: percent."""
        return 100 * float(is_black(decoded).mean())

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values if values.get("black") is None else {**values, "black": Black(**values["black"])}


def blacken(stack: Stack, black: Black, rng: np.random.Generator) -> Stack:
    """Cover pictures with black, and fade to it and from it."""
    frames, height, _ = stack.shape
    first = min(frames - 1, int(black.first * frames))
    last = min(frames, first + max(1, round(black.length * frames))) - 1
    numbers = np.arange(frames)
    away = np.maximum(0, np.maximum(first - numbers, numbers - last))
    alpha = np.maximum(0, 1 - away / (1 + black.fade * frames)) if black.fade else (away == 0)
    alpha = alpha.astype(np.float32)[:, None, None]

    rest = levels(stack.format)[0] / stack.format.unit
    bar = round(black.bars * height / 2)
    rows = np.full((1, height, 1), max(0.0, rest + black.level), np.float32)
    rows[:, :bar], rows[:, height - bar :] = rest, rest
    field = rows + np.float32(black.noise) * rng.standard_normal(stack.shape, np.float32) if black.noise else rows
    luma_only = stack.format.layout == "yuv"
    planes = (
        plane + alpha * ((np.float32(NEUTRAL) if i and luma_only else field) - plane)
        for i, plane in enumerate(stack.planes)
    )
    return Stack(tuple(planes), stack.format)


def is_black(block: Block) -> NDArray[np.bool_]:
    """(frames,) which pictures show nothing: 99 % of their luma within 10 codes of black, with a scatter below 3."""
    luma = block.luma8()
    limit = levels(block.format)[0] / block.format.unit + _LIMIT
    dark = (luma <= limit).mean(axis=(1, 2)) >= 0.99
    return np.asarray(dark & (np.minimum(luma, limit).std(axis=(1, 2)) < _SCATTER))
