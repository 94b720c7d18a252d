"""Hard negatives painted into the picture: textures that look like grain in one picture but move with the scene.

Foliage, water, gravel, fabric, falling particles, text, screen content and dithered gradients. They happen before the
artifact, in the clean and in the affected branch alike. Natural textures modulate the brightness inside a soft mask
that rests; text and screens cover what was there.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from grainscan.data.synth import fields
from grainscan.data.synth.stack import Array, Stack, Step, add_luma, blur, cover, luma

_GRAVITY = 0.35  # of water waves, in pixels and frames: a wave of 20 pixels passes in about 19 frames


def foliage(
    stack: Stack, rng: np.random.Generator, *, contrast: float, coverage: float, size: float, speed: float
) -> Stack:
    """Leaves in wind: two layers of shaded, hard-edged blobs that sway on their own, the nearer hiding the farther."""
    far, _ = _leaves(stack, rng, 0.7 * size, speed)
    near, outline = _leaves(stack, rng, size, speed)
    lit = np.float32(rng.uniform(-1, 1))
    return _modulate(stack, rng, far + outline * (near + lit - far), contrast, coverage)


def water(
    stack: Stack, rng: np.random.Generator, *, contrast: float, coverage: float, size: float, speed: float
) -> Stack:
    """Waves that travel at the speed of their length: phases turn by sqrt(g k) a frame (dispersion of deep water).

    Tessendorf, "Simulating ocean water" (2001). The spectrum falls off beyond `size` pixels; crests glitter.
    """
    frames, height, width = stack.shape
    y, x = fields.frequencies(height, width)
    wave_number = 2 * math.pi * np.hypot(y, x)
    along = (2 * math.pi * np.abs(x) / np.maximum(wave_number, 1e-6)) ** 2 + 0.15  # the wind blows along the rows
    falloff = np.exp(-((wave_number * size / 6) ** 2)) / np.maximum(wave_number, 0.05)
    transfer = np.asarray(np.sqrt(along) * falloff, np.float32)
    coefficients = fields.spectrum(rng, 1, height, width)[0] * fields.normalised(transfer, height, width)
    turn = np.exp(np.complex64(-1j * speed) * np.sqrt(_GRAVITY * wave_number))
    turns = turn ** np.arange(frames, dtype=np.float32)[:, None, None]
    surface = np.asarray(fft.irfft2(coefficients * turns, s=(height, width)), np.float32)
    glitter = np.float32(rng.uniform(0, 0.8))
    crests = np.maximum(surface - 1, 0)
    return _modulate(stack, rng, surface + glitter * crests * 2, contrast, coverage)


def gravel(
    stack: Stack, rng: np.random.Generator, *, contrast: float, coverage: float, size: float, speed: float
) -> Stack:
    """Stones, sand, asphalt or grass seen from a panning camera: rough texture that drifts as one."""
    _, height, width = stack.shape
    transfer = fields.gaussian(height, width, size) * _rough(height, width)
    surface = np.tanh(1.2 * _panned(stack, rng, transfer, speed))
    return _modulate(stack, rng, surface, contrast, coverage)


def fabric(
    stack: Stack, rng: np.random.Generator, *, contrast: float, coverage: float, size: float, speed: float
) -> Stack:
    """A weave of `size` pixels a thread, its threads uneven, turned by a small angle, drifting as one."""
    frames, height, width = stack.shape
    angle = rng.uniform(-0.5, 0.5)
    path = _pan(rng, frames, speed)
    rows = np.arange(height, dtype=np.float32)[None, :, None] + path[:, 0, None, None]
    columns = np.arange(width, dtype=np.float32)[None, None, :] + path[:, 1, None, None]
    turn = np.float32(math.pi / size)
    u = turn * (np.float32(math.cos(angle)) * columns + np.float32(math.sin(angle)) * rows)
    v = turn * (np.float32(math.cos(angle)) * rows - np.float32(math.sin(angle)) * columns)
    weave = np.sin(u) * np.float32(1.4) * np.cos(v)
    transfer = fields.gaussian(height, width, 1.2 * size, 2.0)
    coefficients = fields.spectrum(rng, 1, height, width)[0] * fields.normalised(transfer, height, width)
    fibres = fields.drifting(coefficients, -path[:, 0], -path[:, 1], height, width)
    return _modulate(stack, rng, weave + np.float32(0.4) * fibres, contrast, coverage)


def particles(
    stack: Stack, rng: np.random.Generator, *, contrast: float, density: float, size: float, speed: float
) -> Stack:
    """Snow, rain, confetti or sparks: specks on straight lines, each at its own speed, wrapping at the edges.

    `density` is the number of specks in 100x100 pixels.
    """
    frames, height, width = stack.shape
    count = max(1, round(density * height * width / 1e4))
    start = rng.uniform(0, 1, (count, 2)) * (height, width)
    fall = rng.normal(0, 0.15, (count, 2)) * speed + np.array((1.0, rng.uniform(-0.5, 0.5))) * speed
    fall *= rng.uniform(0.6, 1.4, (count, 1))
    bright = rng.uniform(0.4, 1.0, count)
    time = np.arange(frames)[:, None]
    row = np.floor(start[:, 0] + fall[:, 0] * time).astype(np.intp) % height
    column = np.floor(start[:, 1] + fall[:, 1] * time).astype(np.intp) % width
    specks = np.zeros(stack.shape, np.float32)
    np.maximum.at(specks, (np.broadcast_to(time, row.shape), row, column), np.broadcast_to(bright, row.shape))
    spread = size / fields.FWHM
    specks = blur(specks, spread) * np.float32(max(1.0, 2 * math.pi * spread**2))
    return add_luma(stack, np.float32(contrast) * np.minimum(specks, 1.0))


def text(
    stack: Stack, rng: np.random.Generator, *, contrast: float, coverage: float, size: float, scroll: float
) -> Stack:
    """Lines of writing on a plain ground, still or scrolling by whole pixels; letters are random strokes."""
    frames, height, width = stack.shape
    page = _page(rng, height, width, max(5, round(size)))
    steps = np.round(np.arange(frames) * scroll).astype(np.intp)
    rows = (np.arange(height)[None, :] + steps[:, None]) % height
    paper = rng.uniform(30, 225)
    ink = np.clip(paper + (contrast if paper < 128 else -contrast), 0, 255)
    sheet = np.float32(paper) + np.float32(ink - paper) * page[rows]
    return cover(stack, _window(rng, height, width, coverage), sheet, tuple(rng.uniform(-20, 20, 2)))


def screen(
    stack: Stack, rng: np.random.Generator, *, contrast: float, coverage: float, size: float, speed: float
) -> Stack:
    """A desktop: flat panels with one-pixel frames, hatched areas and writing; one panel is dragged."""
    frames, height, width = stack.shape
    desk = np.full((height, width), rng.uniform(20, 235), np.float32)
    for _ in range(round(rng.integers(4, 10))):
        top, left, bottom, right = _rectangle(rng, height, width)
        tone = rng.uniform(20, 235)
        desk[top:bottom, left:right] = tone
        desk[[top, bottom - 1], left:right] = tone - np.sign(tone - 128) * contrast
        desk[top:bottom, [left, right - 1]] = tone - np.sign(tone - 128) * contrast
        if rng.random() < 0.4:  # hatching, or a checkerboard of single pixels
            step = int(rng.integers(2, 4))
            checks = (np.arange(top, bottom)[:, None] + np.arange(left, right)[None, :]) % step == 0
            desk[top:bottom, left:right] += checks * np.float32(rng.uniform(-1, 1) * contrast / 2)
    desk = desk + (np.float32(128) - desk) * _page(rng, height, width, max(5, round(size))) * (rng.random() < 0.6)
    sheet = np.repeat(desk[None], frames, axis=0)
    tall, wide = max(4, height // 3), max(4, width // 3)
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    panel = desk[top : top + tall, left : left + wide].copy()[::-1]
    for frame in range(frames):
        at = round(left + speed * frame) % (width - wide + 1)
        sheet[frame, top : top + tall, at : at + wide] = panel
    return cover(stack, _window(rng, height, width, coverage), sheet)


def dither(
    stack: Stack, rng: np.random.Generator, *, contrast: float, coverage: float, levels: float, speed: float
) -> Stack:
    """Computer graphics with few tones: a moving shaded ramp under an ordered 4x4 dither that rests (Bayer 1973)."""
    frames, height, width = stack.shape
    rows = np.arange(height, dtype=np.float32)[None, :, None] / height
    columns = np.arange(width, dtype=np.float32)[None, None, :] / width
    time = np.arange(frames, dtype=np.float32)[:, None, None] * np.float32(speed / max(height, width))
    tilt = np.float32(rng.uniform(0, 2 * math.pi))
    ramp = 0.5 + 0.5 * np.sin(2 * (np.cos(tilt) * rows + np.sin(tilt) * columns) + time + tilt)
    order = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32) / 16
    tiles = np.tile(order, (-(-height // 4), -(-width // 4)))[:height, :width]
    tones = np.floor(ramp * np.float32(levels) + tiles) / np.float32(levels)
    base = np.float32(rng.uniform(30, 220 - contrast))
    return cover(stack, _window(rng, height, width, coverage), base + np.float32(contrast) * tones)


TEXTURES: dict[str, Step] = {
    "foliage": foliage,
    "water": water,
    "gravel": gravel,
    "fabric": fabric,
    "particles": particles,
    "text": text,
    "screen": screen,
    "dither": dither,
}


def _modulate(stack: Stack, rng: np.random.Generator, scene: Array, contrast: float, coverage: float) -> Stack:
    """Add a texture, brought to unit deviation, inside a mask that covers about `coverage` of the picture.

    The texture darkens with the picture, so that shadows stay shadows.
    """
    scene = scene * np.float32(contrast / max(float(scene.std()), 1e-6))
    lit = np.clip(luma(stack) * np.float32(1 / 110), 0.25, 1.5)
    return add_luma(stack, scene * lit * _mask(rng, *stack.shape[1:], coverage))


def _mask(rng: np.random.Generator, height: int, width: int, coverage: float) -> Array:
    """(1, height, width) in [0, 1]: a smooth random region of about `coverage` of the picture, with soft edges."""
    if coverage >= 1:
        return np.ones((1, height, width), np.float32)
    hills = fields.shaped(rng, (1, height, width), fields.gaussian(height, width, min(height, width) / 2.5))
    level = np.quantile(hills, 1 - coverage)
    return np.clip((hills - np.float32(level)) * 6 + np.float32(0.5), 0, 1)


def _window(rng: np.random.Generator, height: int, width: int, coverage: float) -> Array:
    """(1, height, width): one upright rectangle of about `coverage` of the picture, opaque."""
    side = math.sqrt(min(max(coverage, 0.01), 1.0))
    tall, wide = max(1, round(height * side)), max(1, round(width * side))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    mask = np.zeros((1, height, width), np.float32)
    mask[:, top : top + tall, left : left + wide] = 1
    return mask


def _page(rng: np.random.Generator, height: int, width: int, size: int) -> Array:
    """(height, width) in [0, 1]: smoothed lines of letters `size` pixels high, each letter of up to five strokes."""
    stroke = max(1, size // 6)
    letter_width, pitch = max(3, size * 3 // 5), max(4, size * 4 // 5)
    columns, lines = -(-width // pitch), -(-height // (size + max(2, size // 2)))
    strokes = rng.random((lines, columns, 5)) < (0.6, 0.5, 0.6, 0.55, 0.55)  # top, middle, bottom, left, right
    written = rng.random((lines, columns)) < 0.82  # the rest are spaces
    page = np.zeros((lines * (size + max(2, size // 2)), columns * pitch), np.float32)
    for line in range(lines):
        top = line * (size + max(2, size // 2))
        for column in np.flatnonzero(written[line]):
            left = column * pitch
            letter = page[top : top + size, left : left + letter_width]
            over, middle, under, before, after = strokes[line, column]
            letter[:stroke] += over
            letter[size // 2 : size // 2 + stroke] += middle
            letter[-stroke:] += under
            letter[:, :stroke] += before
            letter[:, -stroke:] += after
    return blur(np.minimum(page, 1)[:height, :width], rng.uniform(0.25, 0.6))


def _rectangle(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    top, left = int(rng.integers(0, max(1, height - 4))), int(rng.integers(0, max(1, width - 4)))
    tall, wide = int(rng.integers(3, max(4, height // 2))), int(rng.integers(3, max(4, width // 2)))
    return top, left, min(height, top + tall), min(width, left + wide)


def _leaves(stack: Stack, rng: np.random.Generator, size: float, speed: float) -> tuple[Array, Array]:
    """(shade, outline in [0, 1]) of one swaying layer, each (frames, height, width)."""
    frames, height, width = stack.shape
    sway_x, sway_y = _sway(rng, frames, speed), 0.5 * _sway(rng, frames, speed)
    layers = []
    for finer in (0.6, 1.0):
        transfer = fields.gaussian(height, width, finer * size, rng.uniform(0.5, 2.0))
        coefficients = fields.spectrum(rng, 1, height, width)[0] * fields.normalised(transfer, height, width)
        layers.append(fields.drifting(coefficients, sway_y, sway_x, height, width))
    return np.clip(layers[0], -1.2, 1.2), np.clip(4 * layers[1] + 0.5, 0, 1)


def _rough(height: int, width: int) -> Array:
    """1/f amplitude above the lowest frequencies: the spectrum of natural surfaces."""
    y, x = fields.frequencies(height, width)
    return np.asarray(1 / np.maximum(np.hypot(y, x), 0.06), np.float32)


def _panned(stack: Stack, rng: np.random.Generator, transfer: Array, speed: float) -> Array:
    frames, height, width = stack.shape
    coefficients = fields.spectrum(rng, 1, height, width)[0] * fields.normalised(transfer, height, width)
    path = _pan(rng, frames, speed)
    return fields.drifting(coefficients, path[:, 0], path[:, 1], height, width)


def _pan(rng: np.random.Generator, frames: int, speed: float) -> Array:
    """(frames, 2) of (y, x): a steady pan in a random direction, a little unsteady, `speed` pixels a frame."""
    direction = rng.uniform(0, 2 * math.pi)
    steady = speed * np.array((0.4 * math.sin(direction), math.cos(direction)))
    unsteady = min(speed, 1.0) * rng.normal(0, 0.1, (frames, 2))
    return np.cumsum(steady + unsteady, axis=0).astype(np.float32)


def _sway(rng: np.random.Generator, frames: int, speed: float) -> Array:
    """(frames,) displacement: two slow sine waves whose fastest motion is about `speed` pixels a frame."""
    time = np.arange(frames)
    total = np.zeros(frames)
    for _ in range(2):
        pulse = rng.uniform(0.15, 0.7)
        total += 0.6 * speed / pulse * np.sin(pulse * time + rng.uniform(0, 2 * math.pi))
    return total.astype(np.float32)
