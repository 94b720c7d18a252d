"""Grain: a random field for luma and chroma, whose amplitude depends on the brightness of the picture.

    picture + sigma * gain(luma) * field

The kinds (`KINDS`) differ in the field's spectrum and layout. Grain is independent from one picture to the next: noise
that stays in place belongs to `defects` or to the scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from grainscan.data.synth import fields
from grainscan.data.synth.stack import RGB_OF_CHROMA, Array, Stack, add_luma, luma, pool

Curve = tuple[tuple[float, float], ...]  # (luma level, gain), levels ascending
FLAT: Curve = ((0.0, 1.0), (255.0, 1.0))

AV1_TEMPLATE, AV1_BLOCK = (73, 82), 32
_AV1_GRID = (80, 84)  # the template is cut from a grid that suits the Fourier transform
H274_PATTERN, H274_BLOCK = (64, 64), 8
_GAIN_LIMITS = (0.2, 5.0)  # of the factor that brings the gain's root mean square over the clip to one
Shape = tuple[int, int, int]
Fields = tuple[Array, Array | None, Array | None]  # luma, Cb, Cr on the sampling grids of their planes


@dataclass(frozen=True)
class Grain:
    """A kind of grain (one of `KINDS`) and its parameters."""

    kind: str
    sigma: float  # standard deviation over the clip before the next steps, 8-bit luma codes
    size: float = 1.0  # width of a grain in pixels, full width at half maximum; fixed for white and sensor
    aspect: float = 1.0  # width over height
    gain: Curve = FLAT
    chroma: float = 0.0  # deviation of chroma grain over that of luma grain; 0: black and white
    coupling: float = 0.0  # correlation of chroma grain with luma grain
    skew: float = 0.0
    lag: int = 3  # autoregressive kind: 0 to 3
    low: float = 0.0  # band kind: lower over upper cut-off frequency


def add_grain(stack: Stack, grain: Grain, rng: np.random.Generator) -> Stack:
    """The pictures with grain whose luma has standard deviation `grain.sigma`, 8-bit codes, over the whole clip.

    The gain curve only distributes it: it is scaled to a root mean square of one over the clip (within limits, so that
    a black picture stays free of noise if the curve vanishes there).
    """
    brightness, blue, red = _fields(stack, grain, rng)
    gain = amplitude(luma(stack), grain.gain) * np.float32(grain.sigma)
    brightness = skewed(brightness, grain.skew) * gain
    if blue is None or red is None:
        return add_luma(stack, brightness)
    sub_w, sub_h = stack.subsampling(1)
    coarse = gain[:, :: 1 << sub_h, :: 1 << sub_w]
    blue, red = blue * coarse, red * coarse
    if stack.format.layout == "rgb":
        planes = [
            plane + brightness + np.float32(of_blue) * blue + np.float32(of_red) * red
            for plane, (of_blue, of_red) in zip(stack.planes, RGB_OF_CHROMA, strict=True)
        ]
    else:
        planes = [plane + field for plane, field in zip(stack.planes, (brightness, blue, red), strict=True)]
    return Stack(tuple(planes), stack.format)


def amplitude(brightness: Array, curve: Curve) -> Array:
    """The gain at each pixel: a piecewise linear function of luma, like AV1's scaling function, of unit mean square."""
    levels, values = zip(*curve, strict=True)
    table = np.interp(np.arange(256), levels, values).astype(np.float32)
    gain = np.take(table, np.clip(brightness, 0, 255).astype(np.uint8))
    root = math.sqrt(float(np.mean(np.square(gain[:, ::2, ::2]))))
    lowest, highest = _GAIN_LIMITS
    return np.asarray(gain * np.float32(min(max(1 / max(root, 1e-6), lowest), highest)), np.float32)


def skewed(field: Array, skew: float) -> Array:
    """A Gaussian field of unit deviation given a skewness, to second order (Cornish, Fisher 1938)."""
    if skew == 0:
        return field
    bent = field + np.float32(skew / 6) * (np.square(field) - np.float32(1))
    return np.asarray(bent * np.float32(1 / math.sqrt(1 + skew**2 / 18)), np.float32)


def film_curve(peak: float = 1.0) -> Curve:
    """Boolean model of film: if a fraction u of the area is covered, the variance is u (1 - u) (Newson et al. 2017).

    `peak` > 1 moves the maximum to darker levels, as on prints.
    """
    return _curve(lambda level: math.sqrt(_cover(level, peak) * (1 - _cover(level, peak))))


def shot_curve() -> Curve:
    """Photon noise without a tone curve: variance proportional to the level."""
    return _curve(lambda level: math.sqrt(max(level - 8, 4) / 128))


def sensor_curve(read: float, gamma: float = 2.2) -> Curve:
    """Poisson-Gaussian noise of a sensor after the tone curve of a camera.

    In linear light the variance is a x + b (Foi, Trimeche, Katkovnik, Egiazarian: "Practical Poissonian-Gaussian noise
    modeling and fitting for single-image raw-data", 2008); `read` = b / a is the level at which both parts are equal.
    A tone curve x^(1/gamma) multiplies the deviation by its slope, which raises noise in the shadows.
    """

    def deviation(level: int) -> float:
        linear = max(level / 255, 0.03) ** gamma
        return math.sqrt(linear + read) * (linear ** (1 / gamma - 1) / gamma)

    return _curve(deviation)


def _curve(deviation: Callable[[int], float]) -> Curve:
    levels = (0, 16, 32, 48, 64, 96, 128, 160, 192, 224, 255)
    return tuple((float(level), deviation(level)) for level in levels)


def _cover(level: float, peak: float) -> float:
    return float(np.clip(((level - 8) / 235) ** (1 / peak), 0.03, 0.97)) if level > 8 else 0.03


# ---------------------------------------------------------------------------------------------------------- the kinds


def _white(rng: np.random.Generator, shape: Shape, grain: Grain) -> Array:
    return fields.shaped(rng, shape, np.ones((1, 1), np.float32))


def _gaussian(rng: np.random.Generator, shape: Shape, grain: Grain) -> Array:
    return fields.shaped(rng, shape, fields.gaussian(*shape[1:], grain.size, grain.aspect))


def _band(rng: np.random.Generator, shape: Shape, grain: Grain) -> Array:
    """Frequency-filtering model of ITU-T H.274 (film grain characteristics SEI) in the layout of SMPTE RDD 5.

    Blocks of 8x8 from random places of one 64x64 pattern with low and high cut-off frequencies, their edges smoothed.
    Real decoders smooth only vertical edges; with coarse grain the others would be visible.
    """
    pattern = fields.shaped(rng, (1, *H274_PATTERN), fields.band(*H274_PATTERN, grain.size, grain.aspect, grain.low))
    field = fields.tiled(rng, pattern, shape, H274_BLOCK).copy()
    _smooth_edges(field, H274_BLOCK)
    _smooth_edges(field.swapaxes(1, 2), H274_BLOCK)
    return field * np.float32(1 / field.std())


def _smooth_edges(field: Array, side: int) -> None:
    """(1, 2, 1) / 4 on the adjoining columns of neighbouring blocks, in place."""
    inner = field[..., side : side * (field.shape[-1] // side) : side].shape[-1]  # edges with a whole block after them
    before, left, right, after = (field[..., side + k :: side][..., :inner] for k in (-2, -1, 0, 1))
    smoother = (before + 2 * left + right) / 4, (left + 2 * right + after) / 4
    left[...], right[...] = smoother


def _autoregressive(rng: np.random.Generator, shape: Shape, grain: Grain) -> Array:
    """AV1: an autoregressively filtered template, its 32x32 blocks placed at random, without overlap."""
    coefficients = fields.fitted(grain.lag, grain.size, grain.aspect)
    transfer = fields.autoregressive(*_AV1_GRID, coefficients, grain.lag)
    template = fields.shaped(rng, (shape[0], *_AV1_GRID), transfer)[:, : AV1_TEMPLATE[0], : AV1_TEMPLATE[1]]
    return fields.tiled(rng, template, shape, AV1_BLOCK)


def _film(rng: np.random.Generator, shape: Shape, grain: Grain) -> Array:
    return fields.shaped(rng, shape, fields.discs(*shape[1:], grain.size))


# Kinds whose luma and chroma are independent fields with one spectrum. `shot` is white or slightly blurred; its gain
# and its skewness (1 / sqrt(m) for a Poisson variable of mean m) make it shot noise.
_SCALAR: dict[str, Callable[[np.random.Generator, Shape, Grain], Array]] = {
    "white": _white,
    "gaussian": _gaussian,
    "band": _band,
    "autoregressive": _autoregressive,
    "film": _film,
    "shot": _gaussian,
}
KINDS = (*_SCALAR, "sensor")


def _fields(stack: Stack, grain: Grain, rng: np.random.Generator) -> Fields:
    if grain.kind == "sensor":
        return _sensor(stack, grain, rng)
    make = _SCALAR[grain.kind]
    brightness = make(rng, stack.shape, grain)
    if grain.chroma == 0 or stack.format.layout == "gray":
        return brightness, None, None
    sub_w, sub_h = stack.subsampling(1)
    shape = (stack.shape[0], -(-stack.shape[1] // (1 << sub_h)), -(-stack.shape[2] // (1 << sub_w)))
    finer = replace(grain, size=grain.size / math.sqrt((1 << sub_w) * (1 << sub_h)))
    own, shared = math.sqrt(1 - grain.coupling**2) * grain.chroma, grain.coupling * grain.chroma
    chroma = []
    for _ in range(2):
        field = np.float32(own) * make(rng, shape, finer)
        chroma.append(field if shared == 0 else field + np.float32(shared) * pool(brightness, sub_w, sub_h))
    return brightness, chroma[0], chroma[1]


def _sensor(stack: Stack, grain: Grain, rng: np.random.Generator) -> Fields:
    """White noise on a Bayer mosaic, RGGB, through white balance and a bilinear demosaic, as luma and chroma.

    Demosaicing is linear, so noise passes through it without the picture. White balance amplifies red and blue. The
    mosaic determines the size. ITU-R BT.709 coefficients.
    """
    height, width = stack.shape[1:]
    noise = _white(rng, stack.shape, grain)
    row, column = np.arange(height)[:, None] % 2, np.arange(width)[None, :] % 2
    red = _spread(noise * np.float32(1.8) * ((row == 0) & (column == 0)))
    blue = _spread(noise * np.float32(1.6) * ((row == 1) & (column == 1)))
    sites = noise * (row != column)
    green = sites + np.float32(0.25) * (
        np.roll(sites, 1, 1) + np.roll(sites, -1, 1) + np.roll(sites, 1, 2) + np.roll(sites, -1, 2)
    )
    brightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    scale = np.float32(1 / brightness.std())
    if grain.chroma == 0 or stack.format.layout == "gray":
        return brightness * scale, None, None
    blue, red = (pool(colour - brightness, *stack.subsampling(1)) for colour in (blue, red))
    return (brightness * scale, *(field * np.float32(grain.chroma / field.std()) for field in (blue, red)))


def _spread(sites: Array) -> Array:
    """Bilinear interpolation of a colour that every fourth site has: (1 2 1) / 2 in both directions."""
    wide = sites + np.float32(0.5) * (np.roll(sites, 1, 2) + np.roll(sites, -1, 2))
    return wide + np.float32(0.5) * (np.roll(wide, 1, 1) + np.roll(wide, -1, 1))
