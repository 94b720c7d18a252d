"""How recipes are drawn, as tables: what surrounds an artifact, how often and how strongly, and the encoders.

It favours medium encoding qualities; strength and quality are independent. What concerns only one artifact is in its
synthesiser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from grainscan.data.synth.encoding import Generation
from grainscan.data.synth.recipe import Effect, Scale

Name = TypeVar("Name")


@dataclass(frozen=True)
class Span:
    """A range from which values are drawn uniformly or log-uniformly."""

    low: float
    high: float
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        if self.log:
            return short(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return short(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Setting:
    """Probabilities of effects, independent of each other, in one sort of footage."""

    share: float  # of all recipes
    scene: Mapping[str, float]
    defects: Mapping[str, float]
    process: Mapping[str, float]
    scale: float  # probability of scaling after the artifact


# Probabilities of effects in front of the camera or in the edit.
SCENE = {"comb": 0.05, "fade": 0.05, "dim": 0.08, "dissolve": 0.03, "shake": 0.12, "still": 0.06}
# Pan and gradient are also in clips without an artifact: neither moving cameras nor smooth skies are one.
PLAIN = Setting(  # nothing that belongs to any artifact
    share=1,
    scene={"fade": 0.03, "dissolve": 0.02, "shake": 0.06, "still": 0.02, "pan": 0.08, "gradient": 0.06},
    defects={"dirt": 0.03, "scratches": 0.02, "flicker": 0.04, "frozen": 0.03},
    process={"sharpen": 0.1, "grade": 0.08, "bleach": 0.03},
    scale=0.0,
)
VALUES: dict[str, dict[str, Span]] = {
    # scene
    "comb": {"bottom_first": Span(0, 1)},
    "fade": {"level": Span(16, 235), "depth": Span(0.2, 1), "rising": Span(0, 1)},
    "dim": {"exposure": Span(0.12, 0.7, log=True)},
    "dissolve": {"share": Span(0.3, 1)},
    "shake": {"amplitude": Span(0.3, 4, log=True), "smoothness": Span(0, 0.95), "subpixel": Span(0, 1)},
    "still": {},
    "pan": {"speed": Span(0.3, 12, log=True), "angle": Span(-3.1416, 3.1416), "bend": Span(-0.15, 0.15),
            "zoom": Span(-0.008, 0.008)},
    "gradient": {"opacity": Span(0.4, 1), "low": Span(20, 120), "high": Span(30, 225), "angle": Span(-3.1416, 3.1416),
                 "shape": Span(0, 3)},
    # defects
    "dirt": {"density": Span(0.1, 4, log=True), "size": Span(1.5, 7, log=True), "opacity": Span(0.3, 1)},
    "hairs": {"density": Span(0.02, 0.3, log=True), "opacity": Span(0.2, 0.8)},
    "scratches": {"number": Span(0.3, 4, log=True), "contrast": Span(5, 50, log=True), "width": Span(1, 3)},
    "flicker": {"depth": Span(0.003, 0.08, log=True), "unevenness": Span(0, 0.8)},
    "frozen": {"sigma": Span(1, 15, log=True), "size": Span(0.5, 4, log=True)},
    # process
    "sharpen": {"amount": Span(0.2, 1.8), "radius": Span(0.5, 2)},
    "soften": {"radius": Span(0.35, 1.2)},
    "denoise": {"threshold": Span(1, 8, log=True), "radius": Span(0.7, 2)},
    "settle": {"strength": Span(0.3, 0.85), "threshold": Span(3, 20, log=True)},
    "grade": {"contrast": Span(0.6, 1.5), "lift": Span(-25, 25)},
    "bleach": {"saturation": Span(0, 0.3)},
    "cadence": {"hold": Span(0.6, 4.4)},
}  # fmt: skip
REDUCED, ENLARGED = Span(0.5, 0.85), Span(1.15, 2.2, log=True)
TAPS = (2, 4, 6)
MIDDLE = 32  # pixels: at least so much of the picture remains when it is enlarged

# (weight, best, most frequent, worst) on the codec's own scale
CODECS: dict[str, tuple[float, int, int, int]] = {
    "h264": (0.29, 17, 24, 43),
    "hevc": (0.29, 17, 25, 47),
    "vp9": (0.05, 15, 32, 58),
    "av1": (0.05, 15, 30, 58),
    "mpeg2": (0.04, 2, 5, 20),
    "mpeg4": (0.04, 2, 4, 18),
    "mjpeg": (0.06, 2, 4, 16),
    "prores": (0.05, 3, 2, 0),
    "ffv1": (0.13, 0, 0, 0),
}
_EVENLY = 0.25  # share of qualities drawn evenly, so that the worst are learnt, too
_GENERATIONS = {1: 0.72, 2: 0.21, 3: 0.07}
_EFFORTS = {0: 0.06, 1: 0.44, 2: 0.5}  # usual, fast, fastest: the usual one would dominate the time of synthesis


def draw_setting(rng: np.random.Generator, setting: Setting, *, width: int, height: int) -> dict[str, Any]:
    """The shared fields of a recipe for a clip of this size. Their order is that of the random numbers."""
    return {
        "scene": _draw_effects(rng, setting.scene),
        "defects": _draw_effects(rng, setting.defects),
        "scale": _draw_scale(rng, min(width, height)) if rng.random() < setting.scale else None,
        "process": _draw_effects(rng, setting.process),
        "encode": _draw_encode(rng),
        "seed": int(rng.integers(2**31)),
    }


def _draw_effects(rng: np.random.Generator, chances: Mapping[str, float]) -> tuple[Effect, ...]:
    occurring = [name for name, chance in chances.items() if rng.random() < chance]
    order = rng.permutation(len(occurring))
    return tuple(
        Effect(occurring[i], {key: span.draw(rng) for key, span in VALUES[occurring[i]].items()}) for i in order
    )


def _draw_scale(rng: np.random.Generator, side: int) -> Scale | None:
    taps = int(rng.choice(TAPS))
    if rng.random() < 0.4:
        return Scale(REDUCED.draw(rng), taps)
    factor = min(ENLARGED.draw(rng), side / MIDDLE)
    return Scale(factor, taps) if factor > 1 else None


def _draw_encode(rng: np.random.Generator) -> tuple[Generation, ...]:
    """One to three generations; all but the last have better quality, as masters and uploads do."""
    count = pick(rng, _GENERATIONS)
    generations = []
    for number in range(count):
        codec = pick(rng, {name: row[0] for name, row in CODECS.items()})
        _, best, usual, worst = CODECS[codec]
        low, high = sorted((best, worst))
        if low == high:  # lossless
            generations.append(Generation(codec))
            continue
        drawn = rng.uniform(low, high) if rng.random() < _EVENLY else rng.triangular(low, usual, high)
        if number < count - 1:
            drawn = best + (drawn - best) * 0.5
        generations.append(Generation(codec, round(drawn), _draw_gop(rng), pick(rng, _EFFORTS)))
    return tuple(generations)


def _draw_gop(rng: np.random.Generator) -> int | None:
    chance = rng.random()
    if chance < 0.7:
        return None
    return 1 if chance < 0.8 else int(rng.integers(2, 13))


def pick(rng: np.random.Generator, weights: Mapping[Name, float]) -> Name:
    """A key, with a probability in proportion to its value."""
    level = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        level -= weight
        if level < 0:
            return name
    return list(weights)[-1]  # after rounding


def short(value: float) -> float:
    """Four significant digits keep the manifest readable."""
    return float(f"{value:.4g}")
