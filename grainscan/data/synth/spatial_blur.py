"""Spatial blur: pictures out of focus, of a poor lens, or enlarged from too few pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import ndimage

from grainscan.data.synth.drawing import PLAIN, Span, draw_setting, pick
from grainscan.data.synth.optics import convolved, disc, remaining
from grainscan.data.synth.process import rescale
from grainscan.data.synth.recipe import BaseRecipe, unknown
from grainscan.data.synth.stack import Array, Stack, blur, mapped
from grainscan.video import Block

KINDS = {"gaussian": 0.35, "disc": 0.25, "box": 0.1, "scale": 0.3}
SIGMA = Span(0.8, 6, log=True)
PULLED = 0.15  # share of recipes whose focus changes
_LEVELS = 4  # sigmas along a change of focus
_PULL = Span(0.1, 0.9)


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with a blur of deviation `sigma` pixels, or (0) without.

    Strengths are what the picture has lost, in 8-bit luma codes (standard deviation); of a loss that the encoders
    inflict on sharp pictures as well, less (`optics.remaining`). A good encode differs from its input by about 0.5.
    """

    task = "spatial_blur"
    visible = 1.8
    negligible = 0.7
    undone = None  # a coarse encode blurs both branches alike

    kind: str = "gaussian"
    sigma: float = 0.0
    taps: int = 4  # of the enlargement, kind "scale"
    linear: bool = False  # in linear light, kind "disc"
    pull: float = 1.0  # share of the blur at one end of the clip
    rising: bool = True  # whether that is the beginning

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        setting = draw_setting(rng, PLAIN, width=width, height=height)
        kind = pick(rng, KINDS)
        return cls(
            kind=kind,
            sigma=min(SIGMA.draw(rng), min(width, height) / 16),
            taps=int(rng.choice([2, 4, 6])),
            linear=bool(rng.random() < 0.5),
            pull=_PULL.draw(rng) if kind != "scale" and rng.random() < PULLED else 1.0,
            rising=bool(rng.random() < 0.5),
            **setting,
        )

    def clean(self) -> Self:
        return replace(self, kind="gaussian", sigma=0.0, taps=4, linear=False, pull=1.0, rising=True)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        if self.kind not in KINDS:
            raise unknown("kind of blur", self.kind)
        if not self.sigma:
            return stack
        if self.pull == 1:
            return self._blurred(stack, self.sigma)
        course = np.linspace(self.pull, 1, min(_LEVELS, stack.shape[0]))
        parts = np.array_split(np.arange(stack.shape[0]), len(course))
        done = [
            self._blurred(Stack(tuple(plane[part] for plane in stack.planes), stack.format), self.sigma * share)
            for part, share in zip(parts, course if self.rising else course[::-1], strict=True)
        ]
        planes = zip(*(part.planes for part in done), strict=True)
        return Stack(tuple(np.concatenate(plane) for plane in planes), stack.format)

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return remaining(reference, decoded, added)

    def _blurred(self, stack: Stack, sigma: float) -> Stack:
        if self.kind == "disc":  # of the same deviation along each axis: half its radius
            return convolved(stack, lambda sub_w, sub_h: disc(2 * sigma / (1 << sub_w)), linear=self.linear)
        if self.kind == "scale":
            _, height, width = stack.shape
            factor = max(1.2, 2 * sigma)
            small = rescale(stack, max(8, round(height / factor)), max(8, round(width / factor)), self.taps)
            return rescale(small, height, width, self.taps)
        if self.kind == "box":
            return mapped(stack, lambda plane, sub_w, sub_h: _boxed(plane, sigma / (1 << sub_w)))
        return mapped(stack, lambda plane, sub_w, sub_h: blur(plane, max(sigma / (1 << sub_w), 0.3)))


def _boxed(plane: Array, sigma: float) -> Array:
    """A mean over a square of this deviation along each axis."""
    side = max(2, round(sigma * 12**0.5))
    return np.asarray(ndimage.uniform_filter(plane, size=(1, side, side), mode="nearest"), np.float32)
