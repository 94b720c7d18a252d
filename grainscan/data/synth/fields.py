"""Random fields with a given spectrum, for grain and frozen noise.

A field is drawn in the frequency domain, as independent coefficients times a transfer function, and transformed back.
It is periodic and Gaussian by the central limit theorem (each pixel is a sum over thousands of coefficients), with zero
mean in every picture and unit standard deviation. Frequencies are in cycles per pixel.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from grainscan.data.synth.stack import Array
from grainscan.grain.film import neighbours as neighbours

Transfer = NDArray[np.float32] | NDArray[np.complex64]  # (height, width // 2 + 1)

FWHM = 2 * math.sqrt(2 * math.log(2))  # full width at half maximum of a Gaussian of unit standard deviation
RINGING = 12.0  # largest amplification of an autoregressive filter; beyond, the field shows lines, not grain


@lru_cache(maxsize=64)
def frequencies(height: int, width: int) -> tuple[Array, Array]:
    """(vertical (height, 1), horizontal (1, width // 2 + 1)) frequencies of the half spectrum of a real field."""
    return np.fft.fftfreq(height).astype(np.float32)[:, None], np.fft.rfftfreq(width).astype(np.float32)[None, :]


def spectrum(rng: np.random.Generator, frames: int, height: int, width: int) -> NDArray[np.complex64]:
    """Independent random coefficients (frames, height, width // 2 + 1) of white fields of unit deviation."""
    shape = (frames, height, width // 2 + 1)
    words = rng.bit_generator.random_raw(math.prod(shape) // 4 + 1)
    octets = words.view(np.int8)[: 2 * math.prod(shape)]
    noise = octets.astype(np.float32).view(np.complex64).reshape(shape)
    # Real and imaginary part have variance 65535/12 each; in a real field of unit deviation they have height*width/2.
    noise *= np.float32(math.sqrt(height * width / 2 / (65535 / 12)))
    # Of columns that are their own mirror image, the inverse transform keeps only the real part: half of their power.
    noise[..., 0] *= np.float32(math.sqrt(2))
    if width % 2 == 0:
        noise[..., -1] *= np.float32(math.sqrt(2))
    return noise


def shaped(rng: np.random.Generator, shape: tuple[int, int, int], transfer: Transfer) -> Array:
    """`frames` independent fields (frames, height, width) whose spectrum is |transfer|^2, of unit deviation."""
    frames, height, width = shape
    coefficients = spectrum(rng, frames, height, width)
    coefficients *= normalised(transfer, height, width)
    return np.asarray(fft.irfft2(coefficients, s=(height, width), overwrite_x=True), np.float32)


def normalised(transfer: Transfer, height: int, width: int) -> Transfer:
    """The transfer function without a mean, scaled so that filtered white noise has unit deviation."""
    full: NDArray[Any] = np.array(np.broadcast_to(transfer, (height, width // 2 + 1)))
    full[0, 0] = 0
    power = np.abs(full) ** 2
    twice = power[:, 1:-1].sum() if width % 2 == 0 else power[:, 1:].sum()
    mean = (power.sum() + twice) / (height * width)
    if mean > 0:
        full /= math.sqrt(mean)
    return full


def gaussian(height: int, width: int, size: float, aspect: float = 1.0) -> Array:
    """White noise through a Gaussian blur of full width at half maximum `size` pixels (width over height: `aspect`)."""
    y, x = frequencies(height, width)
    wide, high = _deviations(size, aspect)
    return np.exp(-2 * math.pi**2 * ((wide * x) ** 2 + (high * y) ** 2))


def _deviations(size: float, aspect: float) -> tuple[float, float]:
    """(horizontal, vertical) standard deviation of a Gaussian grain, pixels."""
    return size * math.sqrt(aspect) / FWHM, size / math.sqrt(aspect) / FWHM


def band(height: int, width: int, size: float, aspect: float = 1.0, low: float = 0.0) -> Array:
    """A rectangle of frequencies, as between the cut-offs of the frequency-filtering model of H.274.

    The upper cut-offs are at 1 / (2 size) in both directions (`aspect` between them), the lower at `low` times these.
    """
    y, x = frequencies(height, width)
    right, top = 0.5 / size / math.sqrt(aspect), 0.5 / size * math.sqrt(aspect)
    passed = (np.abs(x) <= right) & (np.abs(y) <= top)
    stopped = (np.abs(x) < low * right) & (np.abs(y) < low * top)
    return (passed & ~stopped).astype(np.float32)


def discs(height: int, width: int, size: float, spread: float = 0.3) -> Array:
    """Clumps of silver: discs at random places, their diameters log-normal about `size` pixels.

    The spectrum of a Boolean model of discs is that of one disc, the squared jinc function, averaged over radii
    (Newson, Delon, Galerne: "A stochastic film grain model for resolution-independent rendering", 2017). A Gaussian of
    0.35 pixels models the aperture of the scanner.
    """
    y, x = frequencies(height, width)
    frequency = np.hypot(x, y)
    power = np.zeros_like(frequency)
    for quantile in (-1.2816, -0.5244, 0.0, 0.5244, 1.2816):  # deciles 1, 3, 5, 7, 9 of the normal distribution
        radius = size / 2 * math.exp(spread * quantile)
        phase = 2 * math.pi * radius * frequency + 1e-6
        power += (radius**2 * 2 * special.j1(phase) / phase).astype(np.float32) ** 2
    return np.sqrt(power) * np.exp(-2 * math.pi**2 * (0.35 * frequency) ** 2)


def autoregressive(height: int, width: int, coefficients: tuple[float, ...], lag: int) -> NDArray[np.complex64]:
    """The filter of AV1's film grain synthesis (specification, "Generate grain process"), in the frequency domain.

    There, grain(y, x) = white(y, x) + sum of c_k grain(y + dy_k, x + dx_k) over the causal neighbours in raster order,
    hence the transfer function 1 / (1 - sum of c_k exp(2 pi i (dy_k f_y + dx_k f_x))). See `neighbours`.
    """
    return (1 / _denominator(height, width, coefficients, lag)).astype(np.complex64)


def _denominator(height: int, width: int, coefficients: tuple[float, ...], lag: int) -> NDArray[np.complex128]:
    y, x = frequencies(height, width)
    places = np.array(neighbours(lag), float).reshape(-1, 2)
    vertical = np.exp(2j * math.pi * y * places[:, 0])  # (height, neighbours)
    horizontal = np.exp(2j * math.pi * x.T * places[:, 1])
    return 1 - np.einsum("yk,xk->yx", vertical * np.array(coefficients), horizontal)


@lru_cache(maxsize=256)
def fitted(lag: int, size: float, aspect: float) -> tuple[float, ...]:
    """Coefficients that approximate grain of this size, in steps of 1/128 as AV1 transmits them.

    An encoder estimates them from a picture by least squares (Norkin, Birkbeck: "Film grain synthesis for AV1 video
    codec", 2018); for a known covariance, here that of a Gaussian, this is the Yule-Walker system. They are scaled
    towards zero until the filter no longer rings.
    """
    if lag == 0:
        return ()
    places = np.array(neighbours(lag), float)
    wide, high = _deviations(size, aspect)

    def covariance(shift: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-(shift[..., 1] ** 2) / (4 * wide**2) - shift[..., 0] ** 2 / (4 * high**2))

    matrix = covariance(places[:, None] - places[None]) + 0.02 * np.eye(len(places))
    solved = np.linalg.solve(matrix, covariance(places))
    while True:
        steps = np.clip(np.round(solved * 128), -128, 127) / 128
        values = tuple(float(value) for value in steps)
        if np.abs(_denominator(64, 64, values, lag)).min() * RINGING >= 1:
            return values
        solved = solved * 0.96


def tiled(rng: np.random.Generator, pattern: Array, shape: tuple[int, int, int], side: int) -> Array:
    """Fill (frames, height, width) with square blocks from random places of a smaller pattern.

    Decoders do so: AV1 with blocks of 32 luma samples from a template of 73x82, new for each picture, H.274 with blocks
    of 8 from one pattern of 64x64. `pattern` is (n, h, w); picture t uses pattern t mod n.
    """
    frames, height, width = shape
    rows, columns = -(-height // side), -(-width // side)
    places = np.lib.stride_tricks.sliding_window_view(pattern, (side, side), axis=(1, 2))
    at_y = rng.integers(0, places.shape[1], (frames, rows, columns))
    at_x = rng.integers(0, places.shape[2], (frames, rows, columns))
    blocks = places[np.arange(frames)[:, None, None] % len(pattern), at_y, at_x]
    filled = blocks.transpose(0, 1, 3, 2, 4).reshape(frames, rows * side, columns * side)
    return filled[:, :height, :width]
