"""Graininess: the recipes of grainy twins, and how much surviving grain counts as grainy.

The distribution favours what is hard: weak to medium, coarse and soft grain. Half of the recipes follow one of two
looks whose parts occur together in reality: old film, and cameras in poor light.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from grainscan.data.synth.drawing import SCENE, Setting, Span, draw_setting, pick, short
from grainscan.data.synth.grain import FLAT, KINDS, Curve, Grain, add_grain, film_curve, sensor_curve, shot_curve
from grainscan.data.synth.recipe import BaseRecipe, unknown
from grainscan.data.synth.stack import Stack


@dataclass(frozen=True)
class Look(Setting):
    """The grain in one sort of footage, and its setting."""

    kinds: Mapping[str, float]  # weights
    sigma: Span
    size: Mapping[str, Span]  # by kind; other kinds have a fixed size
    monochrome: float  # probability of grain in luma alone
    chroma: Span  # deviation of chroma grain over that of luma grain, otherwise


_FINE = {
    "gaussian": Span(0.5, 4, log=True),
    "band": Span(1, 4, log=True),
    "autoregressive": Span(0.8, 2.6, log=True),
    "film": Span(1, 4, log=True),
    "shot": Span(0.5, 1.5),
}
_COARSE = {"film": Span(1.8, 4.2), "gaussian": Span(1.8, 4), "band": Span(2, 4), "autoregressive": Span(1.6, 2.6)}

LOOKS = {
    "any": Look(
        share=0.5,
        kinds={"white": 0.16, "gaussian": 0.24, "band": 0.12, "autoregressive": 0.19, "film": 0.16, "shot": 0.06,
               "sensor": 0.07},
        sigma=Span(0.8, 25, log=True),
        size=_FINE,
        monochrome=0.45,
        chroma=Span(0.1, 0.85),
        scene=SCENE,
        defects={"dirt": 0.05, "hairs": 0.02, "scratches": 0.04, "flicker": 0.07, "frozen": 0.08},
        process={"sharpen": 0.1, "soften": 0.07, "denoise": 0.07, "settle": 0.06, "grade": 0.08, "bleach": 0.04,
                 "cadence": 0.05},
        scale=0.15,
    ),
    "old film": Look(
        share=0.27,
        kinds={"film": 0.45, "gaussian": 0.3, "band": 0.1, "autoregressive": 0.15},
        sigma=Span(1.2, 15, log=True),
        size=_COARSE,
        monochrome=0.75,
        chroma=Span(0.1, 0.85),
        scene={"shake": 0.35, "still": 0.03, "fade": 0.03},
        defects={"dirt": 0.6, "hairs": 0.2, "scratches": 0.4, "flicker": 0.6, "frozen": 0.03},
        process={"soften": 0.2, "sharpen": 0.1, "grade": 0.2, "settle": 0.05, "bleach": 0.6, "cadence": 0.2},
        scale=0.15,
    ),
    "camera": Look(
        share=0.23,
        kinds={"sensor": 0.45, "shot": 0.2, "gaussian": 0.35},
        sigma=Span(0.8, 18, log=True),
        size={"gaussian": Span(0.8, 4, log=True), "shot": Span(0.5, 1.8)},
        monochrome=0.2,
        chroma=Span(0.3, 1.6),
        scene={**SCENE, "dim": 0.4, "shake": 0.3},
        defects={"frozen": 0.15, "flicker": 0.04},
        process={"denoise": 0.15, "settle": 0.15, "sharpen": 0.25, "grade": 0.1},
        scale=0.2,
    ),
}  # fmt: skip
ASPECT = Span(0.6, 2.4, log=True)  # analogue video blurs along its lines
TAILS, WIDEST = 0.2, Span(0.5, 50, log=True)  # share of strengths drawn from the widest span instead of the look's


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with grain, or (None) without.

    Strengths are standard deviations of surviving grain in 8-bit luma codes. That of rounding is 0.29, and a good
    encode differs from its input by about 0.5: grain below 0.6 is invisible and cannot be distinguished from them.
    From 1.5 on, two to three times that floor, it is visible on a flat surface.
    """

    task = "graininess"
    visible = 1.5
    negligible = 0.6

    grain: Grain | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        """A recipe for a grainy twin of a clip of this size."""
        look = LOOKS[pick(rng, {name: look.share for name, look in LOOKS.items()})]
        return cls(grain=_draw_grain(rng, look), **draw_setting(rng, look, width=width, height=height))

    def clean(self) -> Self:
        return replace(self, grain=None)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        if self.grain is None:
            return stack
        if self.grain.kind not in KINDS:
            raise unknown("kind of grain", self.grain.kind)
        return add_grain(stack, self.grain, rng)

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("grain") is None:
            return values
        gain = tuple((float(level), float(factor)) for level, factor in values["grain"]["gain"])
        return {**values, "grain": Grain(**{**values["grain"], "gain": gain})}


def _draw_grain(rng: np.random.Generator, look: Look) -> Grain:
    kind = pick(rng, look.kinds)
    sigma = (WIDEST if rng.random() < TAILS else look.sigma).draw(rng)
    skew = {"film": rng.uniform(-0.6, 0.6), "shot": sigma / 128}.get(kind, 0.0)
    return Grain(
        kind=kind,
        sigma=sigma,
        size=look.size[kind].draw(rng) if kind in look.size else 1.0,
        aspect=ASPECT.draw(rng) if kind in ("gaussian", "band", "autoregressive") else 1.0,
        gain=_draw_gain(rng, kind),
        chroma=0.0 if rng.random() < look.monochrome else look.chroma.draw(rng),
        coupling=Span(-0.4, 0.7).draw(rng) if kind in ("band", "autoregressive") else 0.0,
        skew=short(skew),
        lag=int(rng.integers(4)) if kind == "autoregressive" else 3,
        low=Span(0, 0.4).draw(rng) if kind == "band" and rng.random() < 0.5 else 0.0,
    )


def _draw_gain(rng: np.random.Generator, kind: str) -> Curve:
    if kind == "film":
        curve = film_curve(rng.uniform(0.7, 1.6))
    elif kind == "shot":
        curve = shot_curve()
    elif kind == "sensor":
        curve = sensor_curve(math.exp(rng.uniform(math.log(0.005), math.log(0.3))))
    elif rng.random() < 0.4:
        return FLAT
    else:  # AV1 and H.274 transmit such a curve: a few points, joined by lines
        levels = np.sort(rng.choice(np.arange(20, 236), size=int(rng.integers(1, 5)), replace=False))
        curve = tuple((float(level), float(rng.uniform(0.25, 1))) for level in (0, *levels, 255))
    return tuple((level, short(gain)) for level, gain in curve)
