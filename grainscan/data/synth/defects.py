"""Defects of a print, a transfer or a camera that are not grain: dirt, hairs, scratches, flicker, frozen noise.

They come after the artifact (dirt covers grain), in the clean branch too, so that no detector mistakes them for it.
Strengths are in 8-bit codes.
"""

from __future__ import annotations

import math

import numpy as np

from grainscan.data.synth import fields
from grainscan.data.synth.stack import Array, Stack, Step, add_luma, blur, cover, on_brightness


def dirt(stack: Stack, rng: np.random.Generator, *, density: float, size: float, opacity: float) -> Stack:
    """Specks of dust, dark or bright, each on one picture only; `density` of them per 100x100 pixels of a picture.

    Shapes are ragged: a disc of log-normal radius about `size` / 2, its edge disturbed by a few waves.
    """
    frames, height, width = stack.shape
    count = rng.poisson(density * height * width / 1e4 * frames)
    dark, bright = np.zeros(stack.shape, np.float32), np.zeros(stack.shape, np.float32)
    white = rng.random() < 0.5  # most prints show one kind: dust on the negative appears white, on the print black
    for _ in range(count):
        target = bright if (rng.random() < 0.85) == white else dark
        _speck(target[rng.integers(frames)], rng, size / 2 * rng.lognormal(0, 0.5))
    stack = cover(stack, dark * np.float32(opacity), float(rng.uniform(5, 40)))
    return cover(stack, bright * np.float32(opacity), float(rng.uniform(200, 250)))


def hairs(stack: Stack, rng: np.random.Generator, *, density: float, opacity: float) -> Stack:
    """Curled fibres, each on one picture; `density` of them per 100x100 pixels of a picture."""
    frames, height, width = stack.shape
    lines = np.zeros(stack.shape, np.float32)
    for _ in range(rng.poisson(density * height * width / 1e4 * frames)):
        length = int(rng.uniform(8, 40))
        turning = rng.normal(0, 0.12) + rng.normal(0, 0.08, length)
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(turning)
        rows = rng.uniform(0, height) + np.cumsum(np.sin(heading))
        columns = rng.uniform(0, width) + np.cumsum(np.cos(heading))
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        lines[rng.integers(frames), rows[inside].astype(np.intp), columns[inside].astype(np.intp)] = 1
    lines = np.minimum(blur(lines, 0.6) * 2, 1)
    return cover(stack, lines * np.float32(opacity), 20.0 if rng.random() < 0.6 else 230.0)


def scratches(stack: Stack, rng: np.random.Generator, *, number: float, contrast: float, width: float) -> Stack:
    """Vertical scratches, dark or bright, that last for many pictures, wander a little and break off.

    `number` is the mean count per 100 columns; `width` in pixels.
    """
    frames, rows, columns = stack.shape
    lines = np.zeros(stack.shape, np.float32)
    time = np.arange(frames)[:, None]
    for _ in range(max(1, rng.poisson(number * columns / 100))):
        wander = np.cumsum(rng.normal(0, 0.4, (frames, 1)), axis=0)
        slope = rng.normal(0, 0.01)
        place = rng.uniform(0, columns) + wander + slope * np.arange(rows)[None, :]  # (frames, rows)
        born, died = np.sort(rng.integers(-frames, 2 * frames, 2))
        top, bottom = np.sort(rng.uniform(-0.5, 1.5, 2) * rows)
        there = (time >= born) & (time <= died) & (np.arange(rows) >= top) & (np.arange(rows) <= bottom)
        depth = contrast * rng.uniform(0.5, 1.2) * (1 if rng.random() < 0.6 else -1)
        first = np.clip(int(place.min() - 2 * width - 1), 0, columns - 1)
        last = np.clip(int(place.max() + 2 * width + 2), first + 1, columns)
        across = (np.arange(first, last) - place[..., None]) / (width / fields.FWHM)
        lines[:, :, first:last] += (depth * there[..., None] * np.exp(-0.5 * across**2)).astype(np.float32)
    return add_luma(stack, lines)


def flicker(stack: Stack, rng: np.random.Generator, *, depth: float, unevenness: float) -> Stack:
    """Exposure that varies between pictures by the factor 1 + depth * normal, unevenly across the picture."""
    frames, height, width = stack.shape
    whole = rng.standard_normal((frames, 1, 1))
    down = np.linspace(-1, 1, height)[None, :, None] * rng.standard_normal((frames, 1, 1))
    across = np.linspace(-1, 1, width)[None, None, :] * rng.standard_normal((frames, 1, 1))
    gain = 1 + depth * (whole + unevenness * (down + across))
    factor = np.clip(gain, 0.4, 1.8).astype(np.float32)
    return on_brightness(stack, lambda plane: plane * factor)


def frozen(stack: Stack, rng: np.random.Generator, *, sigma: float, size: float) -> Stack:
    """Noise that stays in place: fixed-pattern noise of a sensor, a dirty lens, canvas. One field for all pictures."""
    _, height, width = stack.shape
    field = fields.shaped(rng, (1, height, width), fields.gaussian(height, width, size))
    return add_luma(stack, np.float32(sigma) * field)


DEFECTS: dict[str, Step] = {"dirt": dirt, "hairs": hairs, "scratches": scratches, "flicker": flicker, "frozen": frozen}


def _speck(picture: Array, rng: np.random.Generator, radius: float) -> None:
    """Paint one ragged disc into a mask (height, width), in place."""
    height, width = picture.shape
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    reach = int(1.6 * radius) + 2
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    rows = np.arange(top, min(height, int(y) + reach))[:, None] - y
    columns = np.arange(left, min(width, int(x) + reach))[None, :] - x
    angle = np.arctan2(rows, columns)
    edge = radius * (1 + 0.25 * np.sin(2 * angle + rng.uniform(0, 7)) + 0.15 * np.sin(5 * angle + rng.uniform(0, 7)))
    shape = np.clip(edge - np.hypot(rows, columns) + 0.5, 0, 1).astype(np.float32)
    part = picture[top : top + shape.shape[0], left : left + shape.shape[1]]
    np.maximum(part, shape, out=part)
