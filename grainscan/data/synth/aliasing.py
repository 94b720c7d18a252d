"""Aliasing: pictures reduced without a low pass, so that edges are jagged and fine patterns turn into coarse ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from grainscan.data.synth.drawing import PLAIN, Span, draw_setting, pick
from grainscan.data.synth.optics import remaining, unfiltered
from grainscan.data.synth.recipe import BaseRecipe, unknown
from grainscan.data.synth.stack import Array, Stack, mapped, resample
from grainscan.video import Block

KINDS = {"points": 0.55, "lines": 0.2, "fields": 0.25}
FACTOR = Span(1.5, 4, log=True)
TAPS = {1: 0.4, 2: 0.3, 4: 0.3}  # of the enlargement: nearest, bilinear, bicubic


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe in which one of `factor` pixels is kept, or (1) all.

    Kinds: `points` keeps single pixels of both axes, `lines` skips lines, `fields` keeps every second line, in turn
    the upper and the lower ones, as a deinterlacer that doubles lines. Strengths are standard deviations of what is
    left of the change that no filter makes, in 8-bit luma codes (`optics.unfiltered`, `optics.remaining`): an encoder
    that merges both fields leaves a blur.
    """

    task = "aliasing"
    visible = 2.0
    negligible = 0.8
    undone = None

    kind: str = "points"
    factor: float = 1.0
    taps: int = 1
    shift: float = 0.0  # of the grid of what is kept, in its steps

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        setting = draw_setting(rng, PLAIN, width=width, height=height)
        kind = pick(rng, KINDS)
        factor = FACTOR.draw(rng)
        return cls(
            kind=kind,
            factor=2.0 if kind == "fields" else max(2.0, factor) if kind == "lines" else factor,
            taps=pick(rng, {1: 0.5, 2: 0.5} if kind == "fields" else TAPS),
            shift=Span(0, 1).draw(rng),
            **setting,
        )

    def clean(self) -> Self:
        return replace(self, kind="points", factor=1.0, taps=1, shift=0.0)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        if self.kind not in KINDS:
            raise unknown("kind of aliasing", self.kind)
        if self.factor == 1:
            return stack
        if self.kind == "fields":
            return mapped(stack, lambda plane, sub_w, sub_h: self._doubled(plane))
        axes = (-2, -1) if self.kind == "points" else (-2,)

        def kept(plane: Array, sub_w: int, sub_h: int) -> Array:
            for axis in axes:
                plane = self._kept(plane, axis, self.shift)
            return plane

        return mapped(stack, kept)

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return remaining(reference, decoded, added)

    def of_itself(self, added: Array, picture: Array) -> Array:
        return unfiltered(added, picture)

    def _doubled(self, plane: Array) -> Array:
        """Every second picture without its upper lines, the others without their lower ones."""
        out = np.empty_like(plane)
        first = int(self.shift * 2)
        for parity in (0, 1):
            out[parity::2] = self._kept(plane[parity::2], -2, ((first + parity) % 2) / 2)
        return out

    def _kept(self, plane: Array, axis: int, shift: float) -> Array:
        """One of `factor` samples, and the length as before."""
        length = plane.shape[axis]
        number = max(2, int(np.ceil(length / self.factor)))
        places: NDArray[np.intp] = np.floor((np.arange(number) + shift) * self.factor).astype(np.intp)
        small = np.take(plane, np.minimum(places, length - 1), axis=axis)
        wanted = np.asarray((np.arange(length) + 0.5) / self.factor, np.float64)
        if self.taps == 1:
            return np.take(small, np.minimum(wanted, number - 1).astype(np.intp), axis=axis)
        middle = 0.5 / self.factor if self.kind == "fields" else 0.0  # the lines of a field stay where they are
        return resample(small, wanted - shift - middle, self.taps, axis)
