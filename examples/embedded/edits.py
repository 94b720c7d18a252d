"""What happens to frames between camera and screen without being grain: fades, flicker, combs, bars, cuts, titles.

Used by `material.py`. Every function takes and returns frames (frames, height, width, 3), RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from camera import Frames
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from procedural import font_file, random_word
from scipy import ndimage

Rng = np.random.Generator


def fade(frames: Frames, rng: Rng) -> Frames:
    """A fade to or from black or white."""
    ramp = np.linspace(0, 1, len(frames), dtype=np.float32) ** rng.uniform(0.5, 2)
    ramp = (ramp if rng.random() < 0.5 else ramp[::-1])[:, None, None, None]
    return frames * ramp if rng.random() < 0.75 else 1 - (1 - frames) * ramp


def flicker(frames: Frames, rng: Rng) -> Frames:
    """Exposure that changes from frame to frame, as with hand-cranked cameras, lamps and flashes."""
    gains = 1 + rng.normal(0, rng.uniform(0.005, 0.06), len(frames))
    if rng.random() < 0.3:
        gains[rng.integers(len(frames))] *= 1.6
    return np.clip(frames * gains.astype(np.float32)[:, None, None, None], 0, 1)


def comb(frames: Frames, rng: Rng) -> Frames:
    """Interlacing: two fields from different moments in every frame, or in every other frame."""
    mixed = frames.copy()
    stop = len(frames) - 1
    step = 1 if rng.random() < 0.7 else 2
    mixed[:stop:step, 1::2] = frames[1 : stop + 1 : step, 1::2]
    return mixed


def bars(frames: Frames, rng: Rng) -> Frames:
    """Black bars above and below, or at the sides."""
    barred = frames.copy()
    height, width = frames.shape[1:3]
    if rng.random() < 0.75:
        depth = int(rng.uniform(0.05, 0.18) * height) // 2 * 2
        barred[:, :depth] = barred[:, height - depth :] = 0
    else:
        depth = int(rng.uniform(0.05, 0.2) * width) // 2 * 2
        barred[:, :, :depth] = barred[:, :, width - depth :] = 0
    return barred


def cut(frames: Frames, rng: Rng) -> Frames:
    """A cut: what follows is mirrored and exposed differently."""
    at = int(rng.integers(4, len(frames) - 3))
    return np.concatenate([frames[:at], np.clip(frames[at:, :, ::-1] * np.float32(rng.uniform(0.6, 1.2)), 0, 1)])


def repeat(frames: Frames, rng: Rng) -> Frames:
    """Repeated frames: a few, or every other one."""
    index = np.arange(len(frames))
    if rng.random() < 0.5:
        index = index // 2 * 2
    else:
        for at in rng.integers(1, len(frames), 3):
            index[at] = index[at - 1]
    return frames[index]


def titles(frames: Frames, rng: Rng) -> Frames:
    """A subtitle or a caption that does not move."""
    height, width = frames.shape[1:3]
    mask = Image.new("L", (width * 2, height * 2))
    font = ImageFont.truetype(str(font_file("DejaVuSans")), int(height * rng.uniform(0.04, 0.09)) * 2)
    words = " ".join(random_word(rng) for _ in range(int(rng.integers(2, 7))))
    at = int(0.1 * width), int(height * 2 * rng.choice([0.08, 0.82]))
    ImageDraw.Draw(mask).text(at, words, font=font, fill=255)
    cover = np.asarray(mask, np.float32).reshape(height, 2, width, 2).mean((1, 3)) / 255
    colour = np.array(rng.choice([0.95, 1.0]) * np.array([1, 1, rng.choice([0.3, 1.0])]), dtype=np.float32)
    return frames + cover[None, ..., None] * (colour - frames)


def passing(frames: Frames, rng: Rng) -> Frames:
    """Something passes in front of the camera: a soft-edged part of the picture, mirrored, darker or lighter."""
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn, radius = np.linspace(0, 2 * np.pi, 8), rng.uniform(0.08, 0.3) * height
    start, step = rng.uniform(0, 1, 2) * (width, height), rng.normal(0, 3, 2)
    bumps, phase = rng.uniform(0, 0.25), float(rng.choice(turn))
    gain = np.float32(rng.uniform(0.4, 1.3))
    result = frames.copy()
    for number, frame in enumerate(frames):
        dx, dy = x - start[0] - step[0] * number, y - start[1] - step[1] * number
        edge = radius * (1 + bumps * np.cos(3 * np.arctan2(dy, dx) + phase))
        cover = np.clip((edge - np.hypot(dx, dy)) / 1.5 + 0.5, 0, 1)[..., None]
        moved = ndimage.shift(frames[0, ::-1], (step[1] * number, step[0] * number, 0), order=1, mode="mirror")
        result[number] = frame + cover * (np.clip(moved * gain, 0, 1) - frame)
    return result


def beside_calm(frames: Frames, rng: Rng) -> Frames:
    """The scene in one part of the frame only, a smooth surface in the rest."""
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    line = np.cos(turn) * (x - width / 2) + np.sin(turn) * (y - height / 2)
    line += rng.uniform(0.02, 0.1) * height * np.sin(x * rng.uniform(0.005, 0.05) + turn)
    cover = np.clip((line - rng.uniform(-0.2, 0.2) * height) / rng.uniform(1, 6), 0, 1)[..., None]
    first, second = rng.uniform(0.05, 0.95, 3), rng.uniform(0.05, 0.95, 3)
    calm = (first + (y / height)[..., None] * (second - first)).astype(np.float32)
    return (frames + cover * (calm - frames)).astype(np.float32)


_Edit = Callable[[NDArray[np.float32], Rng], NDArray[np.float32]]
EDITS: tuple[tuple[_Edit, float], ...] = (  # in this order, with their probabilities
    (passing, 0.08), (cut, 0.05), (repeat, 0.04), (flicker, 0.08), (fade, 0.06), (titles, 0.06), (comb, 0.06),
    (bars, 0.06),
)  # fmt: skip


def draw(frames: Frames, rng: Rng) -> Frames:
    """Apply each edit with its probability; most clips pass unchanged."""
    for edit, probability in EDITS:
        if rng.random() < probability:
            frames = edit(frames, rng)
    return frames
