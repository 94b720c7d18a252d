"""A camera for stills: moves over a picture, resampled so that sharpness does not change from frame to frame.

The second stage of `material.py`. A still becomes a canvas at twice the density of the output (`Canvas`), `move` gives
a pose per frame, `shoot` takes the frames, `Grade` sets exposure and colour, `to_block` makes native planes.

Interpolation between the samples of a still blurs by an amount that depends on the subpixel position: a slow pan would
pulse, and pulsing detail looks like noise to a detector of noise. Here the kernel is as wide as an output pixel and is
evaluated at its exact position on a canvas twice as dense, where the rest of that effect lies above the output's
Nyquist frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, sparse

from grainscan.video import Block, PixelFormat
from grainscan.views.colour import LUMA_WEIGHTS, levels

DENSITY = 2  # canvas samples per output pixel
NOISE_LIMIT = 0.4  # 8-bit codes left in flat parts, above which a still is cored
KERNELS: dict[str, tuple[Callable[[NDArray[Any]], NDArray[Any]], float]] = {}

Picture = NDArray[np.float32]  # (height, width, 3), RGB in [0, 1]
Frames = NDArray[np.float32]  # (frames, height, width, 3)
Box = tuple[int, int, int, int]  # left, top, right, bottom, source pixels


@dataclass(frozen=True)
class Pose:
    """Where the camera looks: the centre in output pixels from the middle of the canvas, zoom, and angle in radians."""

    x: float
    y: float
    zoom: float = 1.0
    angle: float = 0.0


@dataclass(frozen=True)
class Canvas:
    """A still at `DENSITY` samples per output pixel.

    `reduction` is the side, in source pixels, of the square averaged into an output pixel.
    """

    picture: Picture
    reduction: float
    noise: float  # residual in flat parts at output density, 8-bit codes

    @property
    def width(self) -> int:
        return self.picture.shape[1] // DENSITY

    @property
    def height(self) -> int:
        return self.picture.shape[0] // DENSITY


def open_canvas(path: Path, reduction: float, *, core: bool = True, box: Box | None = None) -> Canvas:
    """Read a still and average `reduction` x `reduction` of its pixels into each output pixel.

    With `core`, noise that is left in flat parts is removed by coring: detail weaker than 1.5 standard
    deviations of that noise is taken out everywhere, stronger detail is reduced by as much.
    """
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as image:
        flat = image.convert("RGBA").convert("RGB") if image.mode in ("P", "LA", "PA") else image.convert("RGB")
    if box is not None:
        flat = flat.crop(box)
    size = (max(2, round(flat.width * DENSITY / reduction)), max(2, round(flat.height * DENSITY / reduction)))
    resample = Image.Resampling.BOX if reduction >= DENSITY else Image.Resampling.BICUBIC
    if flat.width * flat.height > 4 * size[0] * size[1]:  # a first step in whole numbers, much faster
        flat = flat.reduce(int((flat.width * flat.height / size[0] / size[1]) ** 0.5))
    planes = [Image.fromarray(np.asarray(band, dtype=np.float32)).resize(size, resample) for band in flat.split()]
    picture = np.stack([np.asarray(plane, dtype=np.float32) for plane in planes], axis=-1) / np.float32(255)
    np.clip(picture, 0, 1, out=picture)
    noise = residual(luma(picture)[None], DENSITY)
    if core and noise > NOISE_LIMIT:
        picture = _core(picture, 1.5 * min(noise, 1.5) / 255)
        noise = residual(luma(picture)[None], DENSITY)
    return Canvas(picture, reduction, noise)


def luma(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """BT.709 luma of RGB in [0, 1]."""
    return picture @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def residual(y: NDArray[np.float32], density: int = 1) -> float:
    """Standard deviation in 8-bit codes of detail of a pixel or two, in the flattest twentieth of the 16x16 blocks.

    `y` is luma in [0, 1], (frames, height, width). Blocks are ranked by their low-passed deviation, which noise
    hardly changes, so that the ranking does not favour blocks that happen to be quiet. In a picture without flat parts
    this measures texture, and so is an upper bound.
    """
    side = 16
    values = []
    for plane in y:
        plane = _reduce(plane, density) * 255
        low, high = ndimage.gaussian_filter(plane, 2), plane - ndimage.gaussian_filter(plane, 1)
        rough, fine, level = _blocks(low, side).std(1), _blocks(high, side).std(1), _blocks(plane, side).mean(1)
        usable = (level > 12) & (level < 243)
        if usable.sum() < 20:
            continue
        order = np.argsort(rough[usable])[: max(10, int(usable.sum()) // 20)]
        values.append(float(np.median(fine[usable][order])))
    return float(np.mean(values)) if values else 0.0


def _core(picture: Picture, threshold: float) -> Picture:
    """Soft-threshold two bands of luma detail; noise is weaker in the coarser one, hence its smaller threshold."""
    y = luma(picture)
    smooth, coarse = ndimage.gaussian_filter(y, 1.2, truncate=3), ndimage.gaussian_filter(y, 3.0, truncate=3)
    fine, middle = y - smooth, smooth - coarse
    # What soft thresholding takes from a band is the band itself, clipped.
    taken = np.clip(fine, -1.6 * threshold, 1.6 * threshold) + np.clip(middle, -0.4 * threshold, 0.4 * threshold)
    return np.clip(picture - taken[..., None], 0, 1)


def _reduce(plane: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = plane.shape[0] // factor * factor, plane.shape[1] // factor * factor
    return plane[:height, :width].reshape(height // factor, factor, width // factor, factor).mean((1, 3))


def _blocks(plane: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    height, width = plane.shape[0] // side, plane.shape[1] // side
    cut = plane[: height * side, : width * side].reshape(height, side, width, side)
    return cut.transpose(0, 2, 1, 3).reshape(height * width, side * side)


# -------------------------------------------------------------------------------------------------------- moves

MOVES = ("tripod", "pan", "drift", "zoom", "handheld", "rotation", "whip")


def move(kind: str, rng: np.random.Generator, *, frames: int, slack: tuple[float, float]) -> list[Pose]:
    """Poses of a move that stays within `slack` output pixels to either side of the middle where it can.

    Speeds are in output pixels per frame: pan 0.3-6, drift 0.02-0.3, whip 8-24; zooms by up to 1 % and rotations by up
    to 0.25 degrees per frame; handheld is a sum of slow and fast sway.
    """
    time = np.arange(frames, dtype=np.float64)
    x, y = np.zeros(frames), np.zeros(frames)
    zoom, angle = np.ones(frames), np.zeros(frames)
    direction = rng.uniform(0, 2 * np.pi)
    if kind in ("pan", "drift", "whip"):
        low, high = {"pan": (0.3, 6), "drift": (0.02, 0.3), "whip": (8, 24)}[kind]
        speed = np.exp(rng.uniform(np.log(low), np.log(high)))
        x, y = speed * np.cos(direction) * time, 0.6 * speed * np.sin(direction) * time
    elif kind == "zoom":
        zoom = np.exp(rng.choice([-1, 1]) * rng.uniform(0.001, 0.01) * (time - frames / 2))
        zoom = zoom / zoom.min()
    elif kind == "rotation":
        angle = np.deg2rad(rng.uniform(-0.25, 0.25)) * time + np.deg2rad(rng.uniform(-8, 8))
        x = rng.uniform(-1, 1) * time
    if kind == "handheld" or (kind in ("pan", "zoom") and rng.random() < 0.4):
        for amplitude, low, high in ((rng.uniform(1, 8), 0.01, 0.05), (rng.uniform(0.2, 1.5), 0.1, 0.35)):
            for axis in (x, y):
                for frequency in rng.uniform(low, high, 3):
                    axis += amplitude / 2 * np.sin(2 * np.pi * (frequency * time + rng.random()))
    x, y = (_place(axis, room, rng) for axis, room in zip((x, y), slack, strict=True))
    return [Pose(*values) for values in zip(x, y, zoom, angle, strict=True)]


def _place(axis: NDArray[np.float64], room: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Shift a path to a random place where it stays within -room..room; a longer one turns back at the edges."""
    low, high = axis.min(), axis.max()
    if high - low > 2 * room:
        period = 4 * max(room, 0.25)
        return np.abs((axis + rng.uniform(0, period)) % period - period / 2) - period / 4
    return axis + rng.uniform(-room - low, room - high)


# ----------------------------------------------------------------------------------------------------- shooting


def lanczos(radius: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda x: np.where(np.abs(x) < radius, np.sinc(x) * np.sinc(x / radius), 0.0)


def mitchell(x: NDArray[Any]) -> NDArray[Any]:
    """Mitchell and Netravali's cubic with B = C = 1/3."""
    x = np.abs(x)
    near = (7 * x**3 - 12 * x**2 + 16 / 3) / 6
    far = (-7 / 3 * x**3 + 12 * x**2 - 20 * x + 32 / 3) / 6
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def gaussian(x: NDArray[Any]) -> NDArray[Any]:
    return np.exp(-0.5 * (x / 0.6) ** 2)


KERNELS |= {"lanczos": (lanczos(2), 2.0), "mitchell": (mitchell, 2.0), "gaussian": (gaussian, 2.0)}


def shoot(
    canvas: Canvas, poses: Sequence[Pose], size: tuple[int, int], *, kernel: str = "lanczos", shutter: float = 0.0
) -> Frames:
    """Frames of `size` (width, height), one per pose; motion blurs over the part `shutter` of the frame interval."""
    frames = np.empty((len(poses), size[1], size[0], 3), dtype=np.float32)
    for number, pose in enumerate(poses):
        following = poses[min(number + 1, len(poses) - 1)]
        length = shutter * float(np.hypot(following.x - pose.x, following.y - pose.y))
        steps = min(6, 1 + int(length / 1.5))  # closer steps make no visible difference
        taken = [_between(pose, following, shutter * step / steps) for step in range(steps)]
        frames[number] = np.mean([_frame(canvas.picture, item, size, kernel) for item in taken], axis=0)
    return np.clip(frames, 0, 1, out=frames)


def _between(pose: Pose, following: Pose, part: float) -> Pose:
    return Pose(pose.x + part * (following.x - pose.x), pose.y + part * (following.y - pose.y), pose.zoom, pose.angle)


def _frame(picture: Picture, pose: Pose, size: tuple[int, int], kernel: str) -> Picture:
    if pose.angle:
        return _rotated(picture, pose, size)
    rows = _weights(picture.shape[0], pose.y, pose.zoom, size[1], kernel)
    columns = _weights(picture.shape[1], pose.x, pose.zoom, size[0], kernel)
    (top, bottom), (left, right) = _extent(rows), _extent(columns)
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    tall = rows[:, top:bottom] @ part.reshape(bottom - top, -1)
    wide = tall.reshape(size[1], right - left, 3).transpose(1, 0, 2).reshape(right - left, -1)
    result = columns[:, left:right] @ wide
    return np.asarray(result.reshape(size[0], size[1], 3).transpose(1, 0, 2), dtype=np.float32)


def _weights(available: int, offset: float, zoom: float, count: int, kernel: str) -> Any:
    """Sparse (count, available) matrix that resamples an axis; beyond the ends the picture is mirrored."""
    function, support = KERNELS[kernel]
    step = DENSITY / zoom
    middle = (available - 1) / 2 + offset * DENSITY
    positions = middle + (np.arange(count) - (count - 1) / 2) * step
    taps = np.arange(2 * int(np.ceil(support * step)) + 1)
    index = np.floor(positions - support * step).astype(int)[:, None] + taps
    weights = function((index - positions[:, None]) / step)
    weights /= weights.sum(1, keepdims=True)
    index = np.abs(index) % (2 * available - 2)
    index = np.minimum(index, 2 * available - 2 - index)
    row = np.repeat(np.arange(count), len(taps))
    return sparse.csr_matrix((weights.ravel().astype(np.float32), (row, index.ravel())), shape=(count, available))


def _extent(matrix: Any) -> tuple[int, int]:
    return int(matrix.indices.min()), int(matrix.indices.max()) + 1


def _rotated(picture: Picture, pose: Pose, size: tuple[int, int]) -> Picture:
    """The average of four bicubic samples per output pixel: the general and slower way."""
    step = 1 / pose.zoom
    across = (np.arange(2 * size[0]) - (2 * size[0] - 1) / 2) * step + pose.x * DENSITY
    down = (np.arange(2 * size[1]) - (2 * size[1] - 1) / 2) * step + pose.y * DENSITY
    cosine, sine = np.cos(pose.angle), np.sin(pose.angle)
    x = cosine * across[None] - sine * down[:, None]
    y = sine * across[None] + cosine * down[:, None]
    return sample(picture, x + (picture.shape[1] - 1) / 2, y + (picture.shape[0] - 1) / 2)


def sample(picture: Picture, x: NDArray[Any], y: NDArray[Any]) -> Picture:
    """Bicubic samples of a picture at x, y (index units, twice the output's density), averaged two by two."""
    import torch

    height, width = picture.shape[:2]
    grid = np.empty((*x.shape, 2), dtype=np.float32)
    grid[..., 0], grid[..., 1] = (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
    source = torch.from_numpy(picture).permute(2, 0, 1)[None]
    taken = torch.nn.functional.grid_sample(
        source, torch.from_numpy(grid)[None], mode="bicubic", padding_mode="reflection", align_corners=False
    )
    halved = torch.nn.functional.avg_pool2d(taken, 2)[0]
    return np.clip(halved.permute(1, 2, 0).numpy(), 0, 1)


# -------------------------------------------------------------------------------------------- colour and planes


@dataclass(frozen=True)
class Grade:
    """Exposure and colour. Neutral by default."""

    gain: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    lift: float = 0.0
    saturation: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def apply(self, frames: Frames) -> Frames:
        graded = (frames * np.array(self.tint, dtype=np.float32) * np.float32(self.gain)) ** np.float32(self.gamma)
        graded = (graded - 0.5) * np.float32(self.contrast) + np.float32(0.5 + self.lift)
        grey = luma(graded)[..., None]
        graded = grey + np.float32(self.saturation) * (graded - grey)
        return np.clip(graded, 0, 1, out=graded)

    def keeps(self, frames: Frames) -> bool:
        """Whether something is left to see: most of a frame is neither black nor white."""
        level = luma(self.apply(frames[:1, ::4, ::4].copy()))
        return float(((level > 0.03) & (level < 0.97)).mean()) > 0.6


def fitting_grade(frames: Frames, rng: np.random.Generator) -> Grade:
    """A random grade that leaves something of these frames to see; the neutral one if a few draws fail."""
    drawn = (draw_grade(rng) for _ in range(6))
    return next((grade for grade in drawn if grade.keeps(frames)), Grade())


def draw_grade(rng: np.random.Generator) -> Grade:
    """A random grade: mostly mild; one in six dark, one in ten of hard contrast, one in twelve without colour."""
    dark = rng.random() < 1 / 6
    hard = rng.random() < 0.1
    return Grade(
        gain=float(rng.uniform(0.18, 0.5) if dark else rng.uniform(0.75, 1.15)),
        gamma=float(rng.uniform(0.75, 1.35)),
        contrast=float(rng.uniform(1.3, 1.8) if hard else rng.uniform(0.7, 1.15)),
        lift=float(rng.uniform(-0.04, 0.02) if dark else rng.uniform(-0.05, 0.05)),
        saturation=float(0.0 if rng.random() < 1 / 12 else rng.uniform(0.5, 1.3)),
        tint=tuple(float(value) for value in rng.uniform(0.93, 1.07, 3)),  # type: ignore[arg-type]
    )


def to_block(frames: Frames, form: PixelFormat) -> Block:
    """RGB in [0, 1] as native planes, the inverse of `grainscan.views.colour.to_rgb`.

    Chroma is averaged over the pixels of each sample; codes are rounded without dither.
    """
    unit, top = form.unit, (1 << form.depth) - 1
    black, white = levels(form)
    chroma_span = top if form.full_range else 224 * unit
    if form.layout == "rgb":
        planes = [frames[..., channel] * np.float32(top) for channel in range(3)]
        return Block(tuple(_codes(plane, form) for plane in planes), form)
    red, blue = LUMA_WEIGHTS[form.matrix]
    y = frames @ np.array([red, 1 - red - blue, blue], dtype=np.float32)
    first = _codes(black + (white - black) * y, form)
    if form.layout == "gray":
        return Block((first,), form)
    chroma = []
    for channel, weight in ((2, blue), (0, red)):
        difference = (frames[..., channel] - y) / np.float32(2 * (1 - weight))
        chroma.append(_codes(128 * unit + chroma_span * _average(difference, form), form))
    return Block((first, *chroma), form)


def _codes(values: NDArray[np.float32], form: PixelFormat) -> NDArray[Any]:
    return np.clip(np.rint(values), 0, (1 << form.depth) - 1).astype(form.dtype)


def _average(plane: NDArray[np.float32], form: PixelFormat) -> NDArray[np.float32]:
    frames, height, width = plane.shape
    across, down = 1 << form.sub_w, 1 << form.sub_h
    return plane.reshape(frames, height // down, down, width // across, across).mean((2, 4))
