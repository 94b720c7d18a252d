"""How recipes are drawn: the distribution of clips that the embedded model learned from, as tables.

It leans towards what is hard: weak to medium grain, coarse and soft grain, medium qualities of encoding. Strength and
quality are independent. Half of the recipes follow one of two looks whose parts go together in the real world: old
film, and cameras in poor light.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from grainscan.data.synth import grain as kinds
from grainscan.data.synth.recipe import FLAT, Curve, Effect, Generation, Grain, Recipe, Scale
from grainscan.errors import UsageError

Name = TypeVar("Name")

TASKS = ("graininess",)  # that can be synthesised


@dataclass(frozen=True)
class Span:
    """Values are drawn uniformly between the bounds, or log-uniformly."""

    low: float
    high: float
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        if self.log:
            return _short(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return _short(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Look:
    """How often what occurs in one sort of footage. Probabilities of effects are independent of each other."""

    share: float  # of all recipes
    kinds: Mapping[str, float]  # of grain, with weights
    sigma: Span
    size: Mapping[str, Span]  # by kind; others have a size of their own
    monochrome: float  # probability of grain in luma alone
    chroma: Span  # deviation of chroma grain over that of luma grain, where there is any
    scene: Mapping[str, float]
    defects: Mapping[str, float]
    process: Mapping[str, float]
    scale: float  # probability of scaling after grain


_FINE = {
    "gaussian": Span(0.5, 4, log=True),
    "band": Span(1, 4, log=True),
    "autoregressive": Span(0.8, 2.6, log=True),
    "film": Span(1, 4, log=True),
    "shot": Span(0.5, 1.5),
}
_COARSE = {"film": Span(1.8, 4.2), "gaussian": Span(1.8, 4), "band": Span(2, 4), "autoregressive": Span(1.6, 2.6)}
_SCENE = {
    "comb": 0.05, "fade": 0.05, "dim": 0.08, "dissolve": 0.03, "shake": 0.12, "still": 0.06,
    "foliage": 0.05, "water": 0.05, "gravel": 0.04, "fabric": 0.03, "particles": 0.03, "text": 0.03, "screen": 0.02,
    "dither": 0.02,
}  # fmt: skip

LOOKS = {
    "any": Look(
        0.5,
        {"white": 0.16, "gaussian": 0.24, "band": 0.12, "autoregressive": 0.19, "film": 0.16, "shot": 0.06,
         "sensor": 0.07},
        Span(0.8, 25, log=True),
        _FINE,
        0.45,
        Span(0.1, 0.85),
        _SCENE,
        {"dirt": 0.05, "hairs": 0.02, "scratches": 0.04, "flicker": 0.07, "frozen": 0.08},
        {"sharpen": 0.1, "soften": 0.07, "denoise": 0.07, "settle": 0.06, "grade": 0.08, "bleach": 0.04,
         "cadence": 0.05},
        0.15,
    ),
    "old film": Look(
        0.27,
        {"film": 0.45, "gaussian": 0.3, "band": 0.1, "autoregressive": 0.15},
        Span(1.2, 15, log=True),
        _COARSE,
        0.75,
        Span(0.1, 0.85),
        {"shake": 0.35, "still": 0.03, "fade": 0.03},
        {"dirt": 0.6, "hairs": 0.2, "scratches": 0.4, "flicker": 0.6, "frozen": 0.03},
        {"soften": 0.2, "sharpen": 0.1, "grade": 0.2, "settle": 0.05, "bleach": 0.6, "cadence": 0.2},
        0.15,
    ),
    "camera": Look(
        0.23,
        {"sensor": 0.45, "shot": 0.2, "gaussian": 0.35},
        Span(0.8, 18, log=True),
        {"gaussian": Span(0.8, 4, log=True), "shot": Span(0.5, 1.8)},
        0.2,
        Span(0.3, 1.6),
        {**_SCENE, "dim": 0.4, "shake": 0.3},
        {"frozen": 0.15, "flicker": 0.04},
        {"denoise": 0.15, "settle": 0.15, "sharpen": 0.25, "grade": 0.1},
        0.2,
    ),
}  # fmt: skip
ASPECT = Span(0.6, 2.4, log=True)  # analogue video blurs along its lines
TAILS, WIDEST = 0.2, Span(0.5, 50, log=True)  # part of the strengths drawn from the widest span, whatever the look

_TEXTURE = {"contrast": Span(4, 35, log=True), "coverage": Span(0.3, 1.3)}
_DRIFT = Span(0.1, 4, log=True)  # pixels a frame
VALUES: dict[str, dict[str, Span]] = {
    # scene
    "comb": {"bottom_first": Span(0, 1)},
    "fade": {"level": Span(16, 235), "depth": Span(0.2, 1), "rising": Span(0, 1)},
    "dim": {"exposure": Span(0.12, 0.7, log=True)},
    "dissolve": {"share": Span(0.3, 1)},
    "shake": {"amplitude": Span(0.3, 4, log=True), "smoothness": Span(0, 0.95), "subpixel": Span(0, 1)},
    "still": {},
    "foliage": {**_TEXTURE, "size": Span(2, 9, log=True), "speed": _DRIFT},
    "water": {**_TEXTURE, "size": Span(2, 12, log=True), "speed": Span(0.3, 2)},
    "gravel": {**_TEXTURE, "size": Span(0.8, 4, log=True), "speed": _DRIFT},
    "fabric": {**_TEXTURE, "size": Span(1.5, 6, log=True), "speed": _DRIFT},
    "particles": {"contrast": Span(10, 90), "density": Span(5, 200, log=True), "size": Span(1, 3.5), "speed": _DRIFT},
    "text": {"contrast": Span(30, 200), "coverage": Span(0.2, 1), "size": Span(6, 20), "scroll": Span(-1.5, 1.5)},
    "screen": {"contrast": Span(20, 120), "coverage": Span(0.4, 1), "size": Span(6, 14), "speed": Span(0, 4)},
    "dither": {"contrast": Span(10, 120), "coverage": Span(0.3, 1), "levels": Span(4, 40), "speed": Span(0, 4)},
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
}
REDUCED, ENLARGED = Span(0.5, 0.85), Span(1.15, 2.2, log=True)
TAPS = (2, 4, 6)
MIDDLE = 32  # pixels: enlarging leaves at least as much of the picture

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
_EVENLY = 0.25  # part of the qualities drawn evenly, so that the worst are learned too
_GENERATIONS = {1: 0.72, 2: 0.21, 3: 0.07}
_EFFORTS = {0: 0.06, 1: 0.44, 2: 0.5}  # usual, fast, fastest: the usual one costs most of the time of a synthesis


def draw(task: str, rng: np.random.Generator, *, width: int, height: int) -> Recipe:
    """A recipe for a grainy twin of a clean clip of this size. Raises UsageError for tasks without a synthesis."""
    if task not in TASKS:
        raise UsageError(f"{task} cannot be synthesised", hint=f"Tasks that can: {', '.join(TASKS)}.")
    look = LOOKS[_pick(rng, {name: look.share for name, look in LOOKS.items()})]
    return Recipe(
        task=task,
        grain=_draw_grain(rng, look),
        scene=_draw_effects(rng, look.scene),
        defects=_draw_effects(rng, look.defects),
        scale=_draw_scale(rng, min(width, height)) if rng.random() < look.scale else None,
        process=_draw_effects(rng, look.process),
        encode=_draw_encode(rng),
        seed=int(rng.integers(2**31)),
    )


def _draw_grain(rng: np.random.Generator, look: Look) -> Grain:
    kind = _pick(rng, look.kinds)
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
        skew=_short(skew),
        lag=int(rng.integers(4)) if kind == "autoregressive" else 3,
        low=Span(0, 0.4).draw(rng) if kind == "band" and rng.random() < 0.5 else 0.0,
    )


def _draw_gain(rng: np.random.Generator, kind: str) -> Curve:
    if kind == "film":
        curve = kinds.film_curve(rng.uniform(0.7, 1.6))
    elif kind == "shot":
        curve = kinds.shot_curve()
    elif kind == "sensor":
        curve = kinds.sensor_curve(math.exp(rng.uniform(math.log(0.005), math.log(0.3))))
    elif rng.random() < 0.4:
        return FLAT
    else:  # AV1 and H.274 send such a curve: a few points, joined by lines
        levels = np.sort(rng.choice(np.arange(20, 236), size=int(rng.integers(1, 5)), replace=False))
        curve = tuple((float(level), float(rng.uniform(0.25, 1))) for level in (0, *levels, 255))
    return tuple((level, _short(gain)) for level, gain in curve)


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
    """One to three generations; all but the last are of better quality, as masters and uploads are."""
    count = _pick(rng, _GENERATIONS)
    generations = []
    for number in range(count):
        codec = _pick(rng, {name: row[0] for name, row in CODECS.items()})
        _, best, usual, worst = CODECS[codec]
        low, high = sorted((best, worst))
        if low == high:
            generations.append(Generation(codec))
            continue
        drawn = rng.uniform(low, high) if rng.random() < _EVENLY else rng.triangular(low, usual, high)
        if number < count - 1:
            drawn = best + (drawn - best) * 0.5
        generations.append(Generation(codec, round(drawn), _draw_gop(rng), _pick(rng, _EFFORTS)))
    return tuple(generations)


def _draw_gop(rng: np.random.Generator) -> int | None:
    chance = rng.random()
    if chance < 0.7:
        return None
    return 1 if chance < 0.8 else int(rng.integers(2, 13))


def _pick(rng: np.random.Generator, weights: Mapping[Name, float]) -> Name:
    """A key, with a probability in proportion to its value."""
    level = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        level -= weight
        if level < 0:
            return name
    return list(weights)[-1]  # rounding left nothing


def _short(value: float) -> float:
    """Four significant digits: enough for any of these, and a manifest that people can read."""
    return float(f"{value:.4g}")
