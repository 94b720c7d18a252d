"""Native planes and how to read them: pixel formats, blocks and windows. Plain arrays; needs no FFmpeg."""

from __future__ import annotations

import functools
import math
import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grainscan.errors import UsageError

Layout = Literal["yuv", "gray", "rgb"]
Matrix = Literal["bt601", "bt709", "bt2020"]

_BEYOND = 1e-3  # how far floats may be outside 0 to 1, as resampling leaves them; they are clipped
_SUBSAMPLING = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}


@dataclass(frozen=True)
class PixelFormat:
    """How to read planes. `name` is FFmpeg's name of the planar format."""

    name: str
    layout: Layout
    depth: int = 8  # bits per sample
    sub_w: int = 0  # log2 of the horizontal chroma subsampling
    sub_h: int = 0
    matrix: Matrix = "bt709"
    full_range: bool = False

    @property
    def planes(self) -> int:
        return 1 if self.layout == "gray" else 3

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.depth == 8 else np.uint16

    @property
    def unit(self) -> int:
        """Native codes per 8-bit code."""
        return 1 << (self.depth - 8)

    @classmethod
    def of(cls, name: str, *, matrix: Matrix = "bt709", full_range: bool = False) -> PixelFormat:
        """The format that FFmpeg calls `name`: yuv420p10le, gray, gbrp, … Raises ValueError for other formats."""
        parts = parse_format(name)
        if parts is None:
            raise ValueError(f"{name} is not a planar format that grainscan reads")
        layout, depth, sub_w, sub_h = parts
        return cls(name, layout, depth, sub_w, sub_h, matrix, full_range or layout == "rgb")


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive pictures as native planes: each (frames, height, width), uint8 or, above 8 bits, uint16."""

    planes: tuple[NDArray[Any], ...]
    format: PixelFormat

    @property
    def frames(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[2])

    def crop(self, x: int, y: int, width: int, height: int, start: int = 0, frames: int | None = None) -> Block:
        """A part of the block, not copied. Off the chroma grid, chroma is shifted by less than one of its samples."""
        stop = None if frames is None else start + frames
        boxes = (plane_box(self.format, i, x, y, width, height) for i in range(len(self.planes)))
        planes = tuple(
            plane[start:stop, top:bottom, left:right]
            for plane, (left, top, right, bottom) in zip(self.planes, boxes, strict=True)
        )
        return Block(planes, self.format)

    def copy(self) -> Block:
        return Block(tuple(plane.copy() for plane in self.planes), self.format)

    def window(self, start: float = 0.0, end: float = 0.0) -> Window:
        """The same pictures as a window, not copied."""
        pictures = tuple(tuple(plane[t] for plane in self.planes) for t in range(self.frames))
        return Window(start, end, self.format, pictures)

    def luma8(self) -> NDArray[np.float32]:
        """Luma in 8-bit codes, float32 (frames, height, width), whatever the depth; BT.709 luma for RGB."""
        scale = np.float32(1.0 / self.format.unit)
        if self.format.layout == "rgb":
            red, green, blue = (plane.astype(np.float32) for plane in self.planes)
            return (0.2126 * red + 0.7152 * green + 0.0722 * blue) * scale
        return self.planes[0].astype(np.float32) * scale


class Stamp(NamedTuple):
    """When a frame is shown, and what the decoder says about it."""

    start: float  # seconds
    end: float  # by its own duration; the next frame may come earlier or later
    damaged: bool = False  # the decoder reports an error in it, or between it and the frame before it
    fresh: bool = False  # whether it is predicted from no other frame


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive frames of a file. `pictures[t][plane]` are arrays in the decoder's own buffers: nothing is copied.

    The first pictures have a stamp each; those without one fill a window that has too few.
    """

    start: float  # seconds
    end: float
    format: PixelFormat
    pictures: tuple[tuple[NDArray[Any], ...], ...]
    stamps: tuple[Stamp, ...] = ()
    follows: bool = False  # whether no frame lies between it and the window before it
    passed: bool = False  # whether its frames were decoded on the way to another window, and are only to be measured
    interlaced: bool = False  # whether the decoder calls a frame so, of all that it has decoded since the last seek

    @property
    def frames(self) -> int:
        return len(self.pictures)

    @property
    def height(self) -> int:
        return int(self.pictures[0][0].shape[0])

    @property
    def width(self) -> int:
        return int(self.pictures[0][0].shape[1])

    def block(self, x: int = 0, y: int = 0, width: int | None = None, height: int | None = None) -> Block:
        """A copy of a part of all pictures; of all of them by default."""
        width, height = width or self.width, height or self.height
        planes = []
        for i in range(self.format.planes):
            left, top, right, bottom = plane_box(self.format, i, x, y, width, height)
            planes.append(np.stack([picture[i][top:bottom, left:right] for picture in self.pictures]))
        return Block(tuple(planes), self.format)


@dataclass(frozen=True, eq=False)
class Pictures:
    """A clip in memory: RGB `frames` (n, height, width, 3), uint8, uint16 (to 65535) or float (to 1)."""

    name: str
    frames: NDArray[Any]
    fps: Fraction

    @classmethod
    def of(cls, name: str, frames: NDArray[Any], fps: float) -> Pictures:
        """Nothing is copied. Raises UsageError for another shape, type or range."""
        hint = "Give RGB frames of shape (frames, height, width, 3), in uint8, uint16 or float from 0 to 1."
        if frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
            raise UsageError(f"{name}: an array of shape {frames.shape} is not a clip", hint=hint)
        if frames.dtype.kind not in "uf" or (frames.dtype.kind == "u" and frames.dtype.itemsize > 2):
            raise UsageError(f"{name}: an array of {frames.dtype} is not a clip", hint=hint)
        if frames.dtype.kind == "f":
            low, high = float(frames.min()), float(frames.max())
            if not -_BEYOND <= low <= high <= 1 + _BEYOND:  # also for numbers that are none
                raise UsageError(f"{name}: values from {low:g} to {high:g} are not between 0 and 1", hint=hint)
        if not 0 < fps < math.inf:
            raise UsageError(f"{name}: {fps:g} frames per second", hint="Use a number greater than zero.")
        return cls(name, frames, Fraction(fps).limit_denominator(1001))

    @property
    def format(self) -> PixelFormat:
        return PixelFormat.of("gbrp" if self.frames.dtype == np.uint8 else "gbrp16le")

    def planes(self, number: int) -> tuple[NDArray[Any], ...]:
        """Red, green and blue of a frame, each (height, width), in codes of `format`: floats are rounded to 16 bits."""
        frame = self.frames[number]
        if frame.dtype.kind == "f":
            frame = np.rint(np.clip(frame.astype(np.float64), 0, 1) * 65535).astype(np.uint16)
        return frame[..., 0], frame[..., 1], frame[..., 2]


def one_in(apart: int, rows: NDArray[Any]) -> NDArray[Any]:
    """One in so many samples of rows (n, width), from the first on; the width is a multiple of `apart`.

    Where so many samples are a word, casting words keeps the first of each, in half the time that picking them takes.
    """
    word = rows.itemsize * apart
    if word in (2, 4, 8) and rows.strides[1] == rows.itemsize and sys.byteorder == "little":
        return rows.view(f"u{word}").astype(rows.dtype)
    return rows[:, ::apart]


@functools.lru_cache(maxsize=64)
def parse_format(name: str) -> tuple[Layout, int, int, int] | None:
    """(layout, depth, sub_w, sub_h) of a planar little-endian format whose planes are used as they are; else None."""
    match = re.fullmatch(r"(?:yuva?(420|422|444|440|411|410)p|(gray)|gbra?p)(?:(9|10|12|14|16)le)?", name)
    if match is None:
        return None
    depth = int(match[3] or 8)
    if match[1]:
        return "yuv", depth, *_SUBSAMPLING[match[1]]
    return "gray" if match[2] else "rgb", depth, 0, 0


def plain_name(name: str) -> str:
    """The name without the mark of full range, which `PixelFormat.full_range` carries instead."""
    return name.replace("yuvj", "yuv")


def plane_box(form: PixelFormat, plane: int, x: int, y: int, w: int, h: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a luma box in a plane; chroma is rounded up to cover odd sizes."""
    if plane == 0 or form.layout != "yuv":
        return x, y, x + w, y + h
    left, top = x >> form.sub_w, y >> form.sub_h
    return left, top, left - (-w >> form.sub_w), top - (-h >> form.sub_h)
