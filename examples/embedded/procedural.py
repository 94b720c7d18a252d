"""Computed scenes: noise-free by construction, and full of what detectors mistake for noise.

The third stage of `material.py`. Every function takes a random generator, a size (width, height) and a number of frames
and returns frames (frames, height, width, 3), RGB in [0, 1]. Everything is drawn at twice the density and averaged, so
that fine detail moves without aliasing. `SCENES` lists the scenes by name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from camera import DENSITY, MOVES, Canvas, Frames, Picture, Pose, move, sample, shoot
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Size = tuple[int, int]
Rng = np.random.Generator

PALETTES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "leaves": ((0.10, 0.22, 0.05), (0.22, 0.42, 0.10), (0.42, 0.58, 0.18), (0.62, 0.68, 0.30)),
    "autumn": ((0.35, 0.12, 0.04), (0.62, 0.30, 0.06), (0.80, 0.55, 0.12), (0.45, 0.42, 0.12)),
    "stone": ((0.30, 0.29, 0.28), (0.46, 0.43, 0.40), (0.60, 0.58, 0.55), (0.50, 0.40, 0.32)),
    "sand": ((0.70, 0.60, 0.44), (0.78, 0.69, 0.52), (0.62, 0.53, 0.40), (0.84, 0.77, 0.62)),
    "bright": ((0.85, 0.20, 0.18), (0.16, 0.42, 0.78), (0.95, 0.80, 0.25), (0.25, 0.65, 0.40), (0.92, 0.92, 0.90)),
    "grey": ((0.25, 0.25, 0.26), (0.45, 0.45, 0.45), (0.68, 0.68, 0.67), (0.85, 0.85, 0.86)),
}


def _colours(rng: Rng, palette: str, count: int, spread: float = 0.06) -> NDArray[np.float64]:
    base = np.array(PALETTES[palette])
    mixed = base[rng.integers(len(base), size=count)] * rng.uniform(0.75, 1.2, (count, 1))
    return np.clip(mixed + rng.normal(0, spread, (count, 3)), 0, 1)


class _Painter:
    """Antialiased polygons and discs over a background, drawn by matplotlib's Agg at twice the density."""

    def __init__(self, size: Size) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        width, height = size[0] * DENSITY, size[1] * DENSITY
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        self.canvas = FigureCanvasAgg(figure)
        self.axes = figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, size[0])
        self.axes.set_ylim(size[1], 0)
        self.axes.axis("off")

    def polygons(self, colours: NDArray[Any], alpha: float = 1.0) -> Any:
        from matplotlib.collections import PolyCollection

        collection = PolyCollection([], facecolors=colours, linewidths=0, alpha=alpha, snap=False)
        self.axes.add_collection(collection)
        return collection

    def background(self, picture: Picture) -> None:
        width, height = picture.shape[1] / DENSITY, picture.shape[0] / DENSITY
        self.axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", aspect="auto", zorder=-1)

    def frame(self) -> Picture:
        self.canvas.draw()
        return _averaged(np.asarray(self.canvas.buffer_rgba())[..., :3].astype(np.float32) / 255)


def _averaged(drawn: Picture) -> Picture:
    """From the drawing density to that of the output."""
    height, width = drawn.shape[0] // DENSITY, drawn.shape[1] // DENSITY
    return drawn.reshape(height, DENSITY, width, DENSITY, 3).mean((1, 3))


def _gradient(rng: Rng, size: Size, low: float = 0.2, high: float = 0.9) -> Picture:
    """A smooth two-colour background at the drawing density."""
    first, second = rng.uniform(low, high, 3), rng.uniform(low, high, 3)
    x = np.linspace(-1, 1, size[0] * DENSITY)[None, :]
    y = np.linspace(-1, 1, size[1] * DENSITY)[:, None]
    turn = rng.uniform(0, 2 * np.pi)
    part = 0.5 + 0.35 * (np.cos(turn) * x + np.sin(turn) * y) * np.ones_like(x + y)
    return (first + part[..., None] * (second - first)).astype(np.float32)


def _field(rng: Rng, shape: tuple[int, int], scale: float, exponent: float = 1.6) -> NDArray[np.float32]:
    """Periodic smooth noise of zero mean and unit standard deviation, nothing finer than `scale` samples."""
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None, :]
    radius = np.hypot(fx, fy)
    envelope = np.where(radius > 0, np.maximum(radius, 1e-6) ** -exponent, 0) * np.exp(-((radius * scale) ** 2))
    spectrum = envelope * np.exp(2j * np.pi * rng.random(radius.shape))
    field = np.fft.irfft2(spectrum, shape)
    return (field / field.std()).astype(np.float32)


# ------------------------------------------------------------------------------------------- plants, things that fly


def foliage(rng: Rng, size: Size, frames: int) -> Frames:
    """Thousands of leaves that sway in gusts and cover each other."""
    scale = float(np.exp(rng.uniform(np.log(3.5), np.log(16))))  # half length of a leaf, pixels
    count = int(min(4500, 3.0 * size[0] * size[1] / scale**2))
    place = rng.uniform((-20, -20), (size[0] + 20, size[1] + 20), (count, 2))
    outline = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    width = rng.uniform(0.25, 0.5)
    leaf = np.stack([np.cos(outline), width * np.sin(outline) * (1 - 0.35 * np.cos(outline))], -1)
    length = scale * rng.lognormal(0, 0.3, count)
    angle = rng.normal(rng.uniform(0, np.pi), 0.8, count)
    depth = np.linspace(0.35, 1.15, count)[:, None]  # the first leaves are behind, in the shade
    colours = np.clip(_colours(rng, str(rng.choice(["leaves", "leaves", "autumn"])), count) * depth, 0, 1)
    wind, pace = rng.uniform(0.3, 3.0), rng.uniform(0.05, 0.22)
    phase, own = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.7, 1.4, count)
    painter = _Painter(size)
    painter.background(_gradient(rng, size, 0.02, 0.25) if rng.random() < 0.7 else _gradient(rng, size, 0.6, 0.95))
    drawn = painter.polygons(colours)
    result = []
    for number in range(frames):
        gust = np.sin(0.012 * place[:, 0] + 0.007 * place[:, 1] - 2 * np.pi * pace * 0.35 * number)
        swing = wind * (0.6 + 0.4 * gust) * np.sin(2 * np.pi * pace * own * number + phase)
        turned = angle + 0.06 * swing
        rotation = np.stack([np.cos(turned), -np.sin(turned), np.sin(turned), np.cos(turned)], -1).reshape(-1, 2, 2)
        moved = place + np.stack([swing + 1.5 * wind * gust, 0.5 * swing], -1)
        drawn.set_verts(np.einsum("nij,vj->nvi", rotation, leaf) * length[:, None, None] + moved[:, None])
        result.append(painter.frame())
    return np.stack(result)


def grass(rng: Rng, size: Size, frames: int) -> Frames:
    """Blades of grass that bend in travelling gusts."""
    count = int(rng.integers(1500, 4000))
    root = np.stack([rng.uniform(-30, size[0] + 30, count), rng.uniform(0.1, 1.35, count) * size[1]], -1)
    order = np.argsort(root[:, 1])
    root = root[order]
    nearness = 0.35 + 0.9 * root[:, 1] / size[1]
    length = rng.uniform(25, 90) * nearness * rng.uniform(0.6, 1.3, count)
    width = rng.uniform(0.5, 1.8) * nearness
    lean, phase = rng.normal(0, 0.25, count), rng.uniform(0, 2 * np.pi, count)
    colours = np.clip(_colours(rng, str(rng.choice(["leaves", "leaves", "sand"])), count) * nearness[:, None], 0, 1)
    wind, pace = rng.uniform(0.02, 0.25), rng.uniform(0.03, 0.15)
    painter = _Painter(size)
    painter.background(_gradient(rng, size, 0.05, 0.8))
    drawn = painter.polygons(colours)
    along = np.linspace(0, 1, 5)
    taper = np.concatenate([1 - along, -(1 - along[:-1])[::-1]])
    along = np.concatenate([along, along[:-1][::-1]])
    result = []
    for number in range(frames):
        gust = np.sin(0.015 * root[:, 0] - 2 * np.pi * pace * number) + 0.5 * np.sin(
            2 * np.pi * 2.3 * pace * number + phase
        )
        bend = (lean + wind * gust)[:, None]
        x = root[:, 0, None] + length[:, None] * bend * along**2 + width[:, None] * taper
        y = root[:, 1, None] - length[:, None] * along * (1 - 0.3 * bend**2)
        drawn.set_verts(np.stack([x, y], -1))
        result.append(painter.frame())
    return np.stack(result)


def particles(rng: Rng, size: Size, frames: int) -> Frames:
    """Confetti, snow, sparks or rain in front of a smooth background: small, bright, elsewhere in every frame."""
    kind = str(rng.choice(["confetti", "snow", "sparks", "rain"]))
    count = int(rng.integers(150, 1200))
    place = rng.uniform((0, 0), size, (count, 2))
    near = rng.uniform(0.4, 1.6, count)
    speed = {"confetti": (1, 3), "snow": (0.5, 2), "sparks": (1, -3), "rain": (1.5, 22)}[kind]
    drift = np.stack([rng.normal(0, speed[0], count), speed[1] * rng.uniform(0.6, 1.4, count)], -1) * near[:, None]
    reach = {"confetti": (3.0, 1.8), "snow": (1.6, 1.6), "sparks": (0.9, 0.9), "rain": (0.5, 9.0)}[kind]
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * reach
    if kind in ("snow", "sparks"):
        turn = np.linspace(0, 2 * np.pi, 9)[:-1]
        corners = np.stack([np.cos(turn), np.sin(turn)], -1) * reach
    spin, phase = rng.normal(0, 0.3, count), rng.uniform(0, 2 * np.pi, count)
    colours = _colours(rng, {"confetti": "bright", "sparks": "autumn"}.get(kind, "grey"), count)
    if kind == "sparks":
        colours = np.clip(colours + 0.35, 0, 1)
    painter = _Painter(size)
    painter.background(_gradient(rng, size, 0.02, 0.5))
    drawn = painter.polygons(colours, alpha=0.45 if kind == "rain" else 0.9)
    result = []
    for number in range(frames):
        now = (place + drift * number + np.array([40, 40])) % (np.array(size) + 80) - 40
        turned = phase + spin * number if kind == "confetti" else np.zeros(count)
        flat = np.cos(phase + 1.7 * spin * number) if kind == "confetti" else np.ones(count)
        shape = corners[None] * near[:, None, None] * np.stack([np.ones(count), flat], -1)[:, None]
        cosine, sine = np.cos(turned)[:, None], np.sin(turned)[:, None]
        x = cosine * shape[..., 0] - sine * shape[..., 1]
        y = sine * shape[..., 0] + cosine * shape[..., 1]
        drawn.set_verts(np.stack([x, y], -1) + now[:, None])
        result.append(painter.frame())
    return np.stack(result)


def shapes(rng: Rng, size: Size, frames: int) -> Frames:
    """Flat and shaded polygons that glide over each other, as in animation: sharp edges, empty surfaces."""
    count = int(rng.integers(20, 160))
    place = rng.uniform((0, 0), size, (count, 2))
    reach = np.exp(rng.uniform(np.log(6), np.log(120), count))
    sides = int(rng.integers(3, 8))
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False) + rng.uniform(0, 0.5, (count, sides))
    drift, spin = rng.normal(0, 1.5, (count, 2)), rng.normal(0, 0.02, count)
    painter = _Painter(size)
    painter.background(_gradient(rng, size))
    drawn = painter.polygons(_colours(rng, str(rng.choice(["bright", "grey", "stone"])), count))
    result = []
    for number in range(frames):
        angle = turn + (spin * number)[:, None]
        outline = np.stack([np.cos(angle), np.sin(angle)], -1) * reach[:, None, None]
        drawn.set_verts(outline + (place + drift * number)[:, None])
        result.append(painter.frame())
    return np.stack(result)


# ------------------------------------------------------------------------------------------------ ground and surfaces


def gravel(rng: Rng, size: Size, frames: int) -> Frames:
    """Rounded stones, lit from one side, under a moving camera."""
    width, height = int(size[0] * DENSITY * 1.25), int(size[1] * DENSITY * 1.25)
    picture = np.zeros((height, width, 3), np.float32)
    palette = str(rng.choice(["stone", "sand", "grey"]))
    picture[:] = _colours(rng, palette, 1)[0] * 0.25
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.8, -0.2), 0.8])
    light /= np.linalg.norm(light)
    largest = float(np.exp(rng.uniform(np.log(5), np.log(40))))
    count = int(min(16000, 3.2 * width * height / (np.pi * (0.55 * largest) ** 2)))
    reach = np.sort(largest * rng.uniform(0.3, 1, count))[::-1]
    colours = _colours(rng, palette, count)
    relief = _field(rng, (256, 256), 2.0, 1.0)
    for radius, colour in zip(reach, colours, strict=True):
        _stone(picture, rng, radius, colour, light, relief)
    canvas = Canvas(np.clip(picture, 0, 1), 1.0, 0.0)
    return _filmed(canvas, rng, size, frames)


def _stone(picture: Picture, rng: Rng, radius: float, colour: Any, light: Any, relief: Any) -> None:
    height, width = picture.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    left, right = max(0, int(x - radius - 1)), min(width, int(x + radius + 2))
    top, bottom = max(0, int(y - radius - 1)), min(height, int(y + radius + 2))
    dx, dy = np.meshgrid((np.arange(left, right) - x) / radius, (np.arange(top, bottom) - y) / radius)
    turn, squash = rng.uniform(0, np.pi), rng.uniform(1, 1.8)
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, (np.cos(turn) * dy - np.sin(turn) * dx) * squash
    corners = 1 + 0.12 * np.cos(3 * np.arctan2(v, u) + turn * 7)
    distance = np.hypot(u, v) * corners
    cover = np.clip((1 - distance) * radius * 0.8, 0, 1)[..., None]
    bulge = np.sqrt(np.clip(1 - distance**2, 0.02, 1))
    offset = rng.integers(0, 256, 2)
    rows, columns = (np.arange(top, bottom) + offset[0]) % 256, (np.arange(left, right) + offset[1]) % 256
    shade = np.clip(0.25 + 0.9 * (dx * light[0] + dy * light[1] + bulge * light[2]), 0.05, 1.2)
    shade = shade * (1 + 0.05 * relief[np.ix_(rows, columns)])
    part = picture[top:bottom, left:right]
    part += cover * (shade[..., None] * colour - part)


def fabric(rng: Rng, size: Size, frames: int) -> Frames:
    """Woven cloth with folds that move slowly."""
    width, height = int(size[0] * DENSITY * 1.2), int(size[1] * DENSITY * 1.2)
    period = rng.uniform(2.2, 9) * DENSITY
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    warp, weft = x / period, y / (period * rng.uniform(0.8, 1.3))
    twill = int(rng.integers(1, 4))
    over = (np.floor(warp) + np.floor(weft)) % (twill + 1) < 1
    round_warp, round_weft = np.abs(np.sin(np.pi * warp)), np.abs(np.sin(np.pi * weft))
    shade = np.where(over, round_warp, round_weft) * 0.5 + 0.5
    yarn = np.where(over, rng.normal(0, 0.05, 4096)[np.floor(warp).astype(int)],
                    rng.normal(0, 0.05, 4096)[np.floor(weft).astype(int)])  # fmt: skip
    first, second = _colours(rng, str(rng.choice(["bright", "stone", "grey", "sand"])), 2)
    colour = np.where(over[..., None], first, second if rng.random() < 0.5 else first)
    folds = _field(rng, (height, width), 60.0, 2.2)
    picture = colour * ((shade + yarn) * np.clip(0.8 + 0.12 * folds, 0.3, 1.2))[..., None]
    picture = ndimage.gaussian_filter(np.clip(picture, 0, 1).astype(np.float32), (0.7, 0.7, 0))
    return _warped(picture, rng, size, frames, strength=rng.uniform(0.3, 4))


def water(rng: Rng, size: Size, frames: int) -> Frames:
    """A rippled surface that mirrors a sky: a spectrum of waves, each at its own speed, seen at a slant."""
    side = 512
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :]
    radius = np.hypot(fx, fy)
    heading = rng.uniform(0, 2 * np.pi)
    facing = np.abs(np.cos(np.arctan2(fy, fx) - heading)) ** rng.uniform(0.5, 4)
    longest, finest = rng.uniform(40, 220), rng.uniform(2.5, 6)
    safe = np.maximum(radius, 1e-6)
    envelope = safe**-1.9 * facing * np.exp(-((1 / (longest * safe)) ** 2) - (finest * radius) ** 2)
    envelope[0, 0] = 0
    amplitude = envelope * (rng.normal(size=radius.shape) + 1j * rng.normal(size=radius.shape))
    pace = rng.uniform(0.15, 0.6) * np.sqrt(safe * 512) / 4  # deep water: frequency as the root of the wave number
    horizon, tilt = rng.uniform(0.3, 0.9), rng.uniform(0.2, 1.4)
    steepness = rng.uniform(0.12, 0.5)
    sky = [_colours(rng, "grey", 1)[0] * np.array([0.8, 0.95, 1.1]), np.array([0.9, 0.93, 0.95])]
    deep = np.array([0.02, 0.10, 0.12]) + rng.uniform(0, 0.12, 3)
    rows = np.arange(size[1] * DENSITY) / (size[1] * DENSITY)
    distance = 1 / (horizon + (1 - horizon) * rows + 0.05) ** tilt
    x = (np.arange(size[0] * DENSITY) - size[0])[None, :] * distance[:, None] * 0.8 / DENSITY * 2
    y = (np.cumsum(distance) * 1.1)[:, None] * np.ones_like(x)
    fade = np.clip(1.6 / distance, 0.2, 1)[:, None]
    result = []
    norm = None
    for number in range(frames):
        now = amplitude * np.exp(1j * pace * number)
        across, along = np.real(np.fft.ifft2(2j * np.pi * fx * now)), np.real(np.fft.ifft2(2j * np.pi * fy * now))
        norm = norm or float(np.hypot(across, along).std())
        at = [y % side, x % side]
        sx, sy = (
            ndimage.map_coordinates(plane / norm * steepness, at, order=1, mode="grid-wrap") * fade
            for plane in (across, along)
        )
        facing_up = 1 / np.sqrt(1 + sx**2 + sy**2)
        fresnel = np.clip(0.04 + 0.96 * (1 - np.clip(0.35 + 0.8 * sy * facing_up, 0, 1)) ** 4, 0, 1)[..., None]
        height = np.clip(0.5 + 1.2 * sy + 0.5 * sx, 0, 1)[..., None]
        colour = deep * (1 - fresnel) + fresnel * (sky[0] + height * (sky[1] - sky[0]))
        glint = np.clip((sx * 0.6 + sy - 0.9 * steepness) * 3, 0, 1)[..., None] ** 3
        result.append(_averaged(np.clip(colour + 0.7 * glint, 0, 1).astype(np.float32)))
    return np.stack(result)


def clouds(rng: Rng, size: Size, frames: int) -> Frames:
    """Slow, smooth drift, as of fog or defocus: gradients, and the bands that rounding leaves in them."""
    shape = (size[1] * DENSITY * 5 // 4, size[0] * DENSITY * 5 // 4)
    first, second = (_field(rng, shape, rng.uniform(20, 80), 2.0) for _ in range(2))
    low, high = rng.uniform(0.02, 0.5, 3), rng.uniform(0.2, 0.95, 3)
    mixed = np.clip(0.5 + 0.22 * first, 0, 1)[..., None]
    canvas = Canvas((low + mixed * (high - low) + 0.02 * second[..., None]).clip(0, 1).astype(np.float32), 1.0, 0.0)
    return _filmed(canvas, rng, size, frames)


# ---------------------------------------------------------------------------------------------------------- screens


def text(rng: Rng, size: Size, frames: int) -> Frames:
    """Pages of words, terminals, credits; still, scrolling by whole pixels, or gliding."""
    width, height = size[0] * DENSITY, int(size[1] * DENSITY * 2.2)
    dark = rng.random() < 0.5
    paper = rng.uniform(0, 0.15, 3) if dark else rng.uniform(0.88, 1, 3)
    ink = rng.uniform(0.7, 1, 3) if dark else rng.uniform(0, 0.25, 3)
    image = Image.new("RGB", (width, height), _rgb(paper))
    draw = ImageDraw.Draw(image)
    points = int(rng.integers(9, 22)) * DENSITY
    font = ImageFont.truetype(str(font_file(str(rng.choice(["DejaVuSans", "DejaVuSansMono", "DejaVuSerif"])))), points)
    inset = int(rng.uniform(0.02, 0.2) * width)
    for top in range(points, height, int(points * rng.uniform(1.2, 1.6))):
        line = " ".join(random_word(rng) for _ in range(int(rng.integers(1, 14))))
        shade = ink if rng.random() < 0.8 else _colours(rng, "bright", 1)[0]
        draw.text((inset, top), line, font=font, fill=_rgb(shade))
    canvas = Canvas(np.asarray(image, np.float32) / np.float32(255), 1.0, 0.0)
    step = float(rng.choice([0.0, 1.0, 2.0, 3.0, rng.uniform(0.2, 5)]))
    start = -(height / DENSITY - size[1]) / 2
    poses = [Pose(0.0, start + min(step * number, -2 * start)) for number in range(frames)]
    return shoot(canvas, poses, size, kernel="mitchell")


def screen(rng: Rng, size: Size, frames: int) -> Frames:
    """A desktop: windows with text, lists and charts, one of them dragged, a pointer that moves."""
    width, height = size[0] * DENSITY, size[1] * DENSITY
    base = Image.fromarray((_gradient(rng, size) * 255).astype(np.uint8))
    for _ in range(int(rng.integers(1, 5))):
        window = _window(rng, (int(rng.uniform(0.25, 0.6) * width), int(rng.uniform(0.25, 0.6) * height)))
        base.paste(window, (int(rng.uniform(0, 0.7) * width), int(rng.uniform(0, 0.7) * height)))
    moving = _window(rng, (int(rng.uniform(0.2, 0.45) * width), int(rng.uniform(0.2, 0.45) * height)))
    x, y = rng.uniform(0, 0.5) * width, rng.uniform(0, 0.5) * height
    vx, vy = rng.normal(0, 3, 2) * DENSITY * (rng.random() < 0.6)
    result = []
    for number in range(frames):
        image = base.copy()
        at = int(x + vx * number) // DENSITY * DENSITY, int(y + vy * number) // DENSITY * DENSITY
        image.paste(moving, at)
        tip = np.array(at) + 30
        pointer = [tuple(tip), tuple(tip + [0, 26]), tuple(tip + [18, 18])]
        ImageDraw.Draw(image).polygon(pointer, fill="white", outline="black")
        result.append(_averaged(np.asarray(image, np.float32) / 255))
    return np.stack(result)


def _window(rng: Rng, size: Size) -> Image.Image:
    dark = rng.random() < 0.4
    image = Image.new("RGB", size, (38, 40, 44) if dark else (250, 250, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, size[0], 22 * DENSITY), fill=_rgb(_colours(rng, "grey", 1)[0]))
    font = ImageFont.truetype(str(font_file("DejaVuSansMono")), int(rng.integers(8, 13)) * DENSITY)
    ink = (220, 220, 220) if dark else (30, 30, 30)
    if rng.random() < 0.5:
        for top in range(28 * DENSITY, size[1], 15 * DENSITY):
            draw.text((8 * DENSITY, top), " ".join(random_word(rng) for _ in range(12)), font=font, fill=ink)
        return image
    for colour in _colours(rng, "bright", 3):
        values = np.cumsum(rng.normal(0, 1, 40))
        values = (values - values.min()) / np.ptp(values)
        points = [(size[0] * i / 39, size[1] * (0.95 - 0.7 * value)) for i, value in enumerate(values)]
        draw.line(points, fill=_rgb(colour), width=2 * DENSITY)
    for i in range(1, 8):
        draw.line((0, size[1] * i / 8, size[0], size[1] * i / 8), fill=(128, 128, 128), width=1)
    return image


def random_word(rng: Rng) -> str:
    letters = "etaoinshrdlucmfwypvbgkjqxz0123456789"
    weights = np.linspace(2, 0.1, len(letters))
    return "".join(rng.choice(list(letters), size=int(rng.integers(1, 10)), p=weights / weights.sum()))


def _rgb(colour: Any) -> tuple[int, int, int]:
    red, green, blue = (int(np.clip(value, 0, 1) * 255) for value in colour)
    return red, green, blue


@cache
def font_file(name: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


# -------------------------------------------------------------------------------------------------- shared by scenes


def _filmed(canvas: Canvas, rng: Rng, size: Size, frames: int) -> Frames:
    slack = max(0.0, (canvas.width - size[0]) / 2 - 4), max(0.0, (canvas.height - size[1]) / 2 - 4)
    kind = str(rng.choice([name for name in MOVES if name != "rotation"]))
    poses = move(kind, rng, frames=frames, slack=slack)
    return shoot(canvas, poses, size, shutter=float(rng.choice([0.0, 0.5])))


def _warped(picture: Picture, rng: Rng, size: Size, frames: int, *, strength: float) -> Frames:
    """A picture under a smooth displacement that changes with time: cloth, or anything seen through heat or water."""
    across = (np.arange(size[0] * DENSITY) + (picture.shape[1] - size[0] * DENSITY) / 2)[None, :]
    down = (np.arange(size[1] * DENSITY) + (picture.shape[0] - size[1] * DENSITY) / 2)[:, None]
    waves = [
        (rng.uniform(-0.02, 0.02, 2), rng.uniform(-0.25, 0.25), rng.uniform(0, 2 * np.pi), rng.normal(0, 1, 2))
        for _ in range(5)
    ]
    drift = rng.normal(0, 0.6, 2) * DENSITY
    result = []
    for number in range(frames):
        x, y = across + drift[0] * number + 0 * down, down + drift[1] * number + 0 * across
        for (kx, ky), pace, phase, (ax, ay) in waves:
            wave = strength * DENSITY * np.sin(kx * across + ky * down + pace * number + phase)
            x, y = x + ax * wave, y + ay * wave
        result.append(sample(picture, x, y))
    return np.stack(result)


def wobble(canvas: Canvas, rng: Rng, size: Size, frames: int) -> Frames:
    """A photograph under a smooth moving displacement, as foliage in wind or a surface seen through water."""
    return _warped(canvas.picture, rng, size, frames, strength=float(rng.uniform(0.2, 2.0)))


SCENES: dict[str, Callable[[Rng, Size, int], Frames]] = {
    "foliage": foliage,
    "grass": grass,
    "gravel": gravel,
    "water": water,
    "fabric": fabric,
    "particles": particles,
    "shapes": shapes,
    "clouds": clouds,
    "text": text,
    "screen": screen,
}
