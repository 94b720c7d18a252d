"""Processing between the artifact and the encoder: scaling, sharpening, softening, denoising, grading, repeated frames.

The artifact passes through it with the picture; only what remains can be found later.
"""

from __future__ import annotations

import numpy as np

from grainscan.data.synth.stack import NEUTRAL, Array, Stack, Step, blur, luma, mapped, on_brightness, resample, taken


def enlarge(stack: Stack, factor: float, taps: int) -> Stack:
    """The middle of the picture scaled up by `factor` > 1 to the old size: grain becomes coarser."""

    def scaled(plane: Array, sub_w: int, sub_h: int) -> Array:
        for axis in (-2, -1):
            length = plane.shape[axis]
            positions = (np.arange(length, dtype=np.float64) + 0.5) / factor - 0.5 + (length - length / factor) / 2
            plane = resample(plane, positions, taps, axis)
        return plane

    return mapped(stack, scaled)


def widen(stack: Stack, factor: float) -> Stack:
    """Before a reduction by `factor` < 1: the whole picture on a finer grid, to which grain is then added."""
    _, height, width = stack.shape
    cell_h, cell_w = 1 << stack.format.sub_h, 1 << stack.format.sub_w
    return rescale(stack, cell_h * round(height / factor / cell_h), cell_w * round(width / factor / cell_w), 4)


def rescale(stack: Stack, height: int, width: int, taps: int) -> Stack:
    """The whole picture scaled to (height, width). A reduction low-passes: grain becomes finer and weaker."""

    def scaled(plane: Array, sub_w: int, sub_h: int) -> Array:
        for axis, target in ((-2, -(-height // (1 << sub_h))), (-1, -(-width // (1 << sub_w)))):
            ratio = plane.shape[axis] / target
            positions = (np.arange(target) + 0.5) * ratio - 0.5
            plane = resample(plane, positions, taps, axis, stretch=max(1.0, ratio))
        return plane

    return mapped(stack, scaled)


def sharpen(stack: Stack, rng: np.random.Generator, *, amount: float, radius: float) -> Stack:
    """Unsharp mask on brightness: x + amount (x - blur(x))."""
    return on_brightness(stack, lambda plane: plane + np.float32(amount) * (plane - blur(plane, radius)))


def soften(stack: Stack, rng: np.random.Generator, *, radius: float) -> Stack:
    """Gaussian blur of `radius` pixels: an old lens, a defocused scan, a cheap scaler."""
    return mapped(stack, lambda plane, sub_w, sub_h: blur(plane, max(radius / (1 << sub_w), 0.3)))


def denoise(stack: Stack, rng: np.random.Generator, *, threshold: float, radius: float) -> Stack:
    """Coring: detail (what a blur of `radius` removes) below `threshold` codes is suppressed."""

    def cored(plane: Array) -> Array:
        smooth = blur(plane, radius)
        detail = plane - smooth
        energy = np.square(detail)
        return smooth + detail * (energy / (energy + np.float32(threshold**2)))

    return on_brightness(stack, cored)


def settle(stack: Stack, rng: np.random.Generator, *, strength: float, threshold: float) -> Stack:
    """Recursive temporal denoiser: each picture is blended with the previous result where the two differ little.

    The weight of the past is strength / (1 + (difference / threshold)^2), the difference smoothed over 3x3 pixels.
    """

    def settled(plane: Array) -> Array:
        out = np.empty_like(plane)
        out[0] = plane[0]
        for frame in range(1, len(plane)):
            change = out[frame - 1] - plane[frame]
            distance = blur(np.abs(change), 0.8) * np.float32(1 / threshold)
            out[frame] = plane[frame] + np.float32(strength) * change / (1 + np.square(distance))
        return out

    return on_brightness(stack, settled)


def grade(stack: Stack, rng: np.random.Generator, *, contrast: float, lift: float) -> Stack:
    """Colour correction: brightness scaled about middle gray by `contrast` and raised by `lift` codes."""
    return on_brightness(stack, lambda plane: (plane - 118) * np.float32(contrast) + np.float32(118 + lift))


def bleach(stack: Stack, rng: np.random.Generator, *, saturation: float) -> Stack:
    """Less saturated colour: 0 is black and white, 1 leaves it."""
    if stack.format.layout == "rgb":
        gray = luma(stack)
        return Stack(tuple(gray + np.float32(saturation) * (plane - gray) for plane in stack.planes), stack.format)
    chroma = (NEUTRAL + np.float32(saturation) * (plane - np.float32(NEUTRAL)) for plane in stack.planes[1:])
    return Stack((stack.planes[0], *chroma), stack.format)


def cadence(stack: Stack, rng: np.random.Generator, *, hold: float) -> Stack:
    """Frames repeated, as from a lower frame rate: in every hold + 1 pictures, the last repeats the one before it.

    `hold` 1 doubles every picture (12 to 24 per second), 2 is 16 to 24, 4 is 24 to 30. Grain is repeated, too.
    """
    period = round(hold) + 1
    numbers = np.arange(stack.shape[0])
    start = int(rng.integers(period))
    repeated = ((numbers + start) % period == period - 1) & (numbers > 0)
    return taken(stack, numbers - np.cumsum(repeated))


_ALL: tuple[Step, ...] = (sharpen, soften, denoise, settle, grade, bleach, cadence)
PROCESSES = {step.__name__: step for step in _ALL}
