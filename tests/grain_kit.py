"""Pictures with known grain, and AV1's film grain synthesis, for the tests of `grainscan.grain`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grainscan.grain.film import neighbours
from grainscan.video import PixelFormat, Window
from grainscan.video.film_grain import FilmGrain

Array = NDArray[np.float64]


def smoothed(field: Array, width: float) -> Array:
    """Blurred by a Gaussian of full width `width` at half maximum, periodic, of unit deviation over the last axes."""
    rows, columns = np.fft.fftfreq(field.shape[-2])[:, None], np.fft.rfftfreq(field.shape[-1])[None]
    transfer = np.exp(-2 * (np.pi * width / 2.3548) ** 2 * (rows**2 + columns**2))
    soft = np.fft.irfft2(np.fft.rfft2(field) * transfer, s=field.shape[-2:])
    return np.asarray(soft / soft.std())


def picture(
    rng: np.random.Generator, *, frames: int = 8, width: int = 256, height: int = 192, motion: float = 0.0
) -> Array:
    """A picture (frames, height, width) with shading everywhere and texture in its right half, moved by `motion`."""
    wide = width + int(abs(motion) * frames) + 2
    x, y = np.meshgrid(np.arange(wide), np.arange(height))
    texture = smoothed(rng.standard_normal((height, wide)), 5) * 14 * (np.sin(x / 40) > 0)
    scene = 110 + 45 * np.sin(x / 60) + 20 * np.cos(y / 50) + texture
    spectrum, frequency = np.fft.rfft(scene, axis=1), np.fft.rfftfreq(wide)
    moved = [
        np.fft.irfft(spectrum * np.exp(2j * np.pi * frequency * motion * t), n=wide, axis=1) for t in range(frames)
    ]
    return np.stack(moved)[:, :, 1 : 1 + width]


def window(luma: Array, chroma: tuple[Array, Array] | None = None, *, depth: int = 8) -> Window:
    """A window of these planes, in 8-bit codes, rounded to those of `depth` bits. Neutral chroma by default."""
    form = PixelFormat.of("yuv420p" if depth == 8 else f"yuv420p{depth}le")
    neutral = np.full((len(luma), luma.shape[1] // 2, luma.shape[2] // 2), 128.0)
    top = (1 << depth) - 1
    planes = [np.clip(np.rint(plane * form.unit), 0, top).astype(form.dtype)
              for plane in (luma, *(chroma or (neutral, neutral)))]  # fmt: skip
    pictures = tuple(tuple(plane[t] for plane in planes) for t in range(len(luma)))
    return Window(0.0, len(luma) / 25, form, pictures)


def synthesise(grain: FilmGrain, luma: Array, rng: np.random.Generator) -> Array:
    """The luma (frames, height, width) of an AV1 decoder, in whole codes, without overlap of blocks.

    Specification, sections "Generate grain process", "Scaling lookup initialization" and "Add noise synthesis process".
    """
    levels, scaling = np.array(grain.y).T
    factor = np.interp(luma, levels, scaling)
    template, field = _templates(grain, len(luma), rng), np.empty_like(luma)
    for top in range(0, luma.shape[1], 32):
        for left in range(0, luma.shape[2], 32):
            y, x = 9 + 2 * rng.integers(16), 9 + 2 * rng.integers(16)
            part = field[:, top : top + 32, left : left + 32]
            part[...] = template[:, y : y + part.shape[1], x : x + part.shape[2]]
    return np.clip(luma + np.floor(factor * field / (1 << grain.scaling_shift) + 0.5), 0, 255)


def _templates(grain: FilmGrain, frames: int, rng: np.random.Generator) -> Array:
    """73 x 82 samples a frame: Gaussian noise of deviation 32 / 2^scale_shift, filtered in place in raster order."""
    template = np.round(rng.standard_normal((frames, 73, 82)) * 32 / (1 << grain.scale_shift))
    places = np.array(neighbours(grain.lag))
    weights = np.array(grain.coefficients_y) / (1 << grain.coefficient_shift)
    for y in range(3, 73):
        for x in range(3, 79):
            around = template[:, y + places[:, 0], x + places[:, 1]]
            template[:, y, x] = np.clip(np.round(template[:, y, x] + around @ weights), -128, 127)
    return template
