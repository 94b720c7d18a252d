"""Banding: smooth surfaces in steps, because brightness or colour has too few levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import ndimage

from grainscan.data.synth.drawing import PLAIN, Span, draw_setting, pick
from grainscan.data.synth.encoding import surviving
from grainscan.data.synth.recipe import BaseRecipe, unknown
from grainscan.data.synth.stack import NEUTRAL, Array, Stack, blur, luma, pool
from grainscan.video import Block

REGIONS = {"all": 0.5, "smooth": 0.3, "shadows": 0.1, "highlights": 0.1}
STEP = Span(3, 24, log=True)  # 8-bit codes
SMOOTH = Span(0.7, 2.5)  # pixels
SETTING = replace(PLAIN, scene={**PLAIN.scene, "gradient": 0.45})
_FINE, _COARSE = 0.8, 65  # pixels: contours lie between the deviation of a blur and the side of a mean
_LEAST = 0.04  # share of the picture that is smooth, below which contours go unnoticed
_FLAT = 1.5  # codes per pixel: a course that is steeper hides its contours


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with levels of brightness `step` codes apart, or (0) as many as there are.

    Strengths are heights of steps in 8-bit codes: that of the even steps whose error has the energy of what is left of
    the contours where the picture is smooth. 1.5 is hardly more than the rounding to 8 bits.
    """

    task = "banding"
    visible = 3.0
    negligible = 1.5
    own_scene = frozenset({"gradient"})

    step: float = 0.0
    chroma: float = 0.0  # step of the colour differences, codes; 0: untouched
    smooth: float = 0.0  # blur before, pixels: noise would hide the contours
    region: str = "all"
    shift: float = 0.0  # of the levels, in steps

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        setting = draw_setting(rng, SETTING, width=width, height=height)
        step = STEP.draw(rng)
        return cls(
            step=step,
            chroma=step if rng.random() < 0.35 else 0.0,
            smooth=SMOOTH.draw(rng) if rng.random() < 0.75 else 0.0,
            region=pick(rng, REGIONS),
            shift=Span(0, 1).draw(rng),
            **setting,
        )

    def clean(self) -> Self:
        return replace(self, step=0.0, chroma=0.0, smooth=0.0, region="all", shift=0.0)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        if self.region not in REGIONS:
            raise unknown("region of banding", self.region)
        if not self.step:
            return stack
        mask = self._mask(luma(stack))
        planes = []
        for i, plane in enumerate(stack.planes):
            bright = i == 0 or stack.format.layout == "rgb"
            step = self.step if bright else self.chroma
            if not step:
                planes.append(plane)
                continue
            sub_w, sub_h = stack.subsampling(i)
            base, rest = (plane, self.shift) if bright else (plane - np.float32(NEUTRAL), 0.0)
            levels = np.round(self._calmed(base, sub_w) / np.float32(step) + np.float32(rest)) - np.float32(rest)
            changed = levels * np.float32(step) - base
            planes.append(plane + pool(mask, sub_w, sub_h) * changed)
        return Stack(tuple(planes), stack.format)

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        # Steps where nothing is smooth are seen as well, but people would call them something else: no label.
        elsewhere = math.sqrt(12) * surviving(reference, decoded, added)
        return max(contours(reference, decoded, added), min(elsewhere, (self.visible + self.negligible) / 2))

    def _calmed(self, plane: Array, sub_w: int) -> Array:
        """Without noise where the picture is smooth; edges stay sharp."""
        if not self.smooth:
            return plane
        calm = blur(plane, max(0.5, self.smooth / (1 << sub_w)))
        detail = np.abs(blur(plane - calm, 1.0))
        return calm + (plane - calm) * np.clip((detail - 2) * np.float32(0.5), 0, 1)

    def _mask(self, bright: Array) -> Array:
        """Where the levels are few: (frames, height, width) in [0, 1]."""
        if self.region == "all":
            return np.ones((1, *bright.shape[1:]), np.float32)
        if self.region == "smooth":
            return np.asarray(blur(_smooth(bright).astype(np.float32), 2.0))
        calm = blur(bright, 2.0)
        inside = (calm - 90) / 20 if self.region == "shadows" else (140 - calm) / 20
        return np.asarray(np.clip(1 - inside, 0, 1), np.float32)


def contours(reference: Block, decoded: Block, added: Array) -> float:
    """The height of steps whose even error has the energy that is left of `added` where the picture is smooth.

    An error spread evenly over a step of height h has the deviation h / sqrt(12). As in `surviving`, the covariance of
    what is left and what was put in is the energy that is left; here of both without noise and without slow changes.
    """
    where = _smooth(reference.luma8())
    if where.mean() < _LEAST:
        return 0.0
    left, put_in = (_band(field)[where] for field in (decoded.luma8() - reference.luma8(), added))
    kept, energy = float(np.mean(left * put_in)), float(np.mean(np.square(put_in)))
    return math.sqrt(12 * max(0.0, min(kept, float(np.mean(np.square(left))), energy)))


def _band(field: Array) -> Array:
    return np.asarray(blur(field, _FINE) - ndimage.uniform_filter(field, size=(1, _COARSE, _COARSE), mode="nearest"))


def _smooth(bright: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Where the picture changes slowly: (frames, height, width)."""
    calm = blur(bright, 2.0)
    slope = np.abs(np.gradient(calm, axis=-1)) + np.abs(np.gradient(calm, axis=-2))
    rough = ndimage.uniform_filter(np.square(bright - calm), size=(1, 9, 9), mode="nearest")
    return np.asarray((slope < _FLAT) & (rough < 4**2))
