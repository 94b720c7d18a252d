"""What moves or changes every pixel without being an artifact: combs, fades, poor light, camera shake.

Each takes a stack and returns a stack of the same shape; it happens in front of the camera or in the edit, before
the artifact, in the clean and in the affected branch alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grainscan.data.synth.stack import NEUTRAL, Array, Stack, Step, cover, mapped, resample, taken
from grainscan.views.colour import levels


def comb(stack: Stack, rng: np.random.Generator, *, bottom_first: float) -> Stack:
    """Interlacing: the two fields of each picture come from different moments, half a pair apart.

    Every second line is taken from the next picture; still pictures stay as they are.
    """
    later = np.minimum(np.arange(stack.shape[0]) + 1, stack.shape[0] - 1)
    first = 0 if bottom_first >= 0.5 else 1

    def weave(plane: Array, sub_w: int, sub_h: int) -> Array:
        woven = plane.copy()
        woven[:, first::2] = plane[later, first::2]
        return woven

    return mapped(stack, weave)


def fade(stack: Stack, rng: np.random.Generator, *, level: float, depth: float, rising: float) -> Stack:
    """Fade towards a gray `level` (16: black, 235: white) by at most `depth` of the way, in or out."""
    course = np.linspace(0, depth, stack.shape[0], dtype=np.float32)[:, None, None]
    if rising >= 0.5:
        course = course[::-1]

    def towards(plane: Array, target: float) -> Array:
        return plane + course * (np.float32(target) - plane)

    chroma = level if stack.format.layout == "rgb" else 128.0
    planes = (towards(plane, level if i == 0 else chroma) for i, plane in enumerate(stack.planes))
    return Stack(tuple(planes), stack.format)


def dim(stack: Stack, rng: np.random.Generator, *, exposure: float) -> Stack:
    """Poor light: brightness and colour times `exposure`. What is added afterwards, as a sensor's noise, is not."""
    black = levels(stack.format)[0] >> (stack.format.depth - 8)
    rests = (black,) * 3 if stack.format.layout == "rgb" else (black, NEUTRAL, NEUTRAL)
    planes = (
        np.float32(rest) + np.float32(exposure) * (plane - np.float32(rest))
        for plane, rest in zip(stack.planes, rests, strict=False)
    )
    return Stack(tuple(planes), stack.format)


def dissolve(stack: Stack, rng: np.random.Generator, *, share: float) -> Stack:
    """Cross-fade with the same scene mirrored and played backwards, up to `share` of it."""
    course = np.linspace(0, share, stack.shape[0], dtype=np.float32)[:, None, None]
    return mapped(stack, lambda plane, sub_w, sub_h: plane + course * (plane[::-1, :, ::-1] - plane))


def shake(stack: Stack, rng: np.random.Generator, *, amplitude: float, smoothness: float, subpixel: float) -> Stack:
    """A hand-held camera: each picture shifted by a random walk pulled back to rest, deviation `amplitude` pixels.

    `smoothness` in [0, 1) is the correlation from picture to picture: 0 jitters, 0.9 sways. With `subpixel` >= 0.5
    shifts are fractional, which blurs every picture by another amount, as digital stabilisers do. Edges are repeated.
    """
    path = np.empty((stack.shape[0], 2))
    path[0] = rng.standard_normal(2)
    for frame in range(1, len(path)):
        kick = rng.standard_normal(2)
        path[frame] = smoothness * path[frame - 1] + np.sqrt(1 - smoothness**2) * kick
    path *= amplitude
    whole = max(1 << stack.format.sub_w, 1 << stack.format.sub_h)
    if subpixel < 0.5:
        path = np.round(path / whole) * whole

    def shifted(plane: Array, sub_w: int, sub_h: int) -> Array:
        frames, height, width = plane.shape
        moved = np.empty_like(plane)
        for frame in range(frames):
            rows = np.arange(height) + path[frame, 0] / (1 << sub_h)
            columns = np.arange(width) + path[frame, 1] / (1 << sub_w)
            moved[frame] = _at(_at(plane[frame], rows, 0), columns, 1)
        return moved

    return mapped(stack, shifted)


def _at(plane: Array, positions: NDArray[np.float64], axis: int) -> Array:
    if np.all(positions == np.round(positions)):
        return np.take(plane, np.clip(positions.astype(np.intp), 0, plane.shape[axis] - 1), axis=axis)
    return resample(plane, positions, 2, axis - 2)


def still(stack: Stack, rng: np.random.Generator) -> Stack:
    """The first picture throughout: a slide, a title, a paused player."""
    return taken(stack, np.zeros(stack.shape[0], np.intp))


def pan(stack: Stack, rng: np.random.Generator, *, speed: float, angle: float, bend: float, zoom: float) -> Stack:
    """A moving camera: `speed` pixels per picture towards `angle`, which turns by `bend` (both radians) per picture.

    `zoom` is the relative enlargement per picture. The picture is mirrored at its edges.
    """
    frames = stack.shape[0]
    heading = angle + bend * np.arange(frames)
    steps = speed * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    path = np.cumsum(steps, axis=0) - steps
    path -= path[frames // 2]
    scale = (1 + zoom) ** -(np.arange(frames) - frames // 2).astype(np.float64)

    def moved(plane: Array, sub_w: int, sub_h: int) -> Array:
        out = np.empty_like(plane)
        _, rows, columns = plane.shape
        for frame in range(frames):
            y = _places(rows, scale[frame], path[frame, 0] / (1 << sub_h))
            x = _places(columns, scale[frame], path[frame, 1] / (1 << sub_w))
            out[frame] = _mirrored(_mirrored(plane[frame], y, -2), x, -1)
        return out

    return mapped(stack, moved)


def _places(length: int, scale: float, shift: float) -> NDArray[np.float64]:
    middle = (length - 1) / 2
    return np.asarray((np.arange(length) - middle) * scale + middle + shift, np.float64)


def _mirrored(plane: Array, positions: NDArray[np.float64], axis: int) -> Array:
    """The plane at `positions` along an axis by cubic interpolation, mirrored at its edges."""
    length = plane.shape[axis]
    first, last = int(np.floor(positions.min())) - 2, int(np.ceil(positions.max())) + 3
    index = np.abs(np.arange(first, last + 1)) % max(1, 2 * length - 2)
    index = np.where(index < length, index, 2 * length - 2 - index)
    return resample(np.take(plane, index, axis=axis), positions - first, 4, axis)


def gradient(
    stack: Stack, rng: np.random.Generator, *, opacity: float, low: float, high: float, angle: float, shape: float
) -> Stack:
    """A smooth course of light, as of a sky, a wall or a vignette, from `low` to `high` (8-bit codes).

    It covers the picture with at most `opacity`. `shape` in [0, 3): linear towards `angle` (radians), the same over a
    part of the picture only, or round. It moves a little with the pictures; dither hides the steps of 8 bits.
    """
    frames, height, width = stack.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    course = np.hypot(x - np.float32(0.4 * np.cos(angle)), y - np.float32(0.4 * np.sin(angle))) if shape >= 2 else along
    course = (course - course.min()) / (np.ptp(course) + np.float32(1e-6))
    drift = np.linspace(0, rng.uniform(-0.1, 0.1), frames, dtype=np.float32)[:, None, None]
    value = np.float32(low) + np.float32(high - low) * np.clip(course + drift, 0, 1)
    value = value + rng.random(stack.shape, dtype=np.float32) - np.float32(0.5)
    mask = np.clip((along + np.float32(rng.uniform(0, 0.5))) * 4, 0, 1) if 1 <= shape < 2 else np.ones_like(along)
    tint = rng.normal(0, 6, 2)
    return cover(stack, (mask * np.float32(opacity))[None], value, (float(tint[0]), float(tint[1])))


SCENES: dict[str, Step] = {
    "comb": comb,
    "fade": fade,
    "dim": dim,
    "dissolve": dissolve,
    "shake": shake,
    "still": still,
    "pan": pan,
    "gradient": gradient,
}
