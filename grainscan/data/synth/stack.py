"""The working representation of synthesis: the planes of a block as float32 in 8-bit codes.

Every step accepts a `Stack` and returns a new one, for any bit depth, subsampling and layout. Planes are never changed
in place, so that the clean and the affected branch can share them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from grainscan.video import Block, PixelFormat

Array = NDArray[np.float32]

NEUTRAL = 128.0  # chroma without colour, 8-bit codes
# R, G, B from a change of Y, Cb, Cr (ITU-R BT.709, full range): only used to add luma-chroma noise to RGB blocks.
RGB_OF_CHROMA = ((0.0, 1.5748), (-0.1873, -0.4681), (1.8556, 0.0))


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes (frames, height, width), float32, 8-bit codes, not yet clipped."""

    planes: tuple[Array, ...]
    format: PixelFormat

    @property
    def shape(self) -> tuple[int, int, int]:
        frames, height, width = self.planes[0].shape
        return frames, height, width

    def subsampling(self, plane: int) -> tuple[int, int]:
        """(horizontal, vertical) log2 of a plane's subsampling."""
        return (self.format.sub_w, self.format.sub_h) if plane and self.format.layout == "yuv" else (0, 0)


Step = Callable[..., Stack]  # (stack, rng, **values) -> stack


def from_block(block: Block) -> Stack:
    scale = np.float32(1.0 / block.format.unit)
    planes = (plane.astype(np.float32) for plane in block.planes)
    return Stack(tuple(plane if scale == 1 else plane * scale for plane in planes), block.format)


def to_block(stack: Stack) -> Block:
    """Round and clip to the codes of the format; this happens nowhere else."""
    scale = np.float32(stack.format.unit)
    largest = np.float32((1 << stack.format.depth) - 1)
    planes = []
    for plane in stack.planes:
        codes = plane * scale + np.float32(0.5)
        planes.append(np.clip(codes, 0, largest, out=codes).astype(stack.format.dtype))
    return Block(tuple(planes), stack.format)


def luma(stack: Stack) -> Array:
    """Luma in 8-bit codes; BT.709 luma if RGB."""
    if stack.format.layout == "rgb":
        red, green, blue = stack.planes
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return stack.planes[0]


def add_luma(stack: Stack, field: Array) -> Stack:
    """Add a field (broadcastable to (frames, height, width)) to the brightness; colour differences stay."""
    return on_brightness(stack, lambda plane: plane + field)


def on_brightness(stack: Stack, function: Callable[[Array], Array]) -> Stack:
    """`function` of luma alone, or of R, G and B."""
    number = 3 if stack.format.layout == "rgb" else 1
    return Stack((*map(function, stack.planes[:number]), *stack.planes[number:]), stack.format)


def cover(stack: Stack, alpha: Array, value: Array | float, colour: tuple[float, float] = (0.0, 0.0)) -> Stack:
    """Paint luma `value` and a colour (Cb, Cr around neutral) with opacity `alpha` (frames or 1, height, width)."""
    planes = []
    for i, plane in enumerate(stack.planes):
        if stack.format.layout == "rgb":
            blue_difference, red_difference = RGB_OF_CHROMA[i]
            target: Array | float = value + blue_difference * colour[0] + red_difference * colour[1]
            mask = alpha
        elif i == 0:
            target, mask = value, alpha
        else:
            target, mask = NEUTRAL + colour[i - 1], pool(alpha, *stack.subsampling(i))
        planes.append(plane + mask * (np.asarray(target, np.float32) - plane))
    return Stack(tuple(planes), stack.format)


def mapped(stack: Stack, function: Callable[..., Array]) -> Stack:
    """`function(plane, sub_w, sub_h)` of every plane; the subsampling as log2."""
    return Stack(tuple(function(plane, *stack.subsampling(i)) for i, plane in enumerate(stack.planes)), stack.format)


def taken(stack: Stack, frames: NDArray[np.intp]) -> Stack:
    """The pictures with these numbers, in this order."""
    return Stack(tuple(plane[frames] for plane in stack.planes), stack.format)


def pool(field: Array, sub_w: int, sub_h: int) -> Array:
    """Means over the luma samples of each chroma sample; chroma sizes are rounded up, as in every codec."""
    for axis, sub in ((-1, sub_w), (-2, sub_h)):
        step = 1 << sub
        if step == 1:
            continue
        short = -field.shape[axis] % step
        if short:
            last = np.take(field, [-1], axis=axis)
            field = np.concatenate([field] + [last] * short, axis=axis)
        parts = (np.take(field, range(i, field.shape[axis], step), axis=axis) for i in range(step))
        field = np.asarray(np.float32(1 / step) * sum(parts), np.float32)
    return field


def squares(field: Array, side: int) -> Array:
    """Means over squares of `side` pixels, or smaller ones in a small picture: (frames, rows, columns).

    What is left at the right and lower edges is passed over.
    """
    frames, height, width = field.shape
    side = min(side, height, width)
    whole = field[:, : height // side * side, : width // side * side]
    return np.asarray(whole.reshape(frames, height // side, side, width // side, side).mean(axis=(2, 4)))


def blur(field: Array, sigma: float, axes: tuple[int, ...] = (-2, -1)) -> Array:
    """Gaussian blur of standard deviation `sigma` pixels over the last two axes, edges repeated."""
    radius = max(1, round(3 * sigma))
    positions = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (positions / sigma) ** 2)
    weights /= weights.sum()
    for axis in axes:
        field = ndimage.correlate1d(field, weights, axis=axis, mode="nearest")
    return field


def resample(field: Array, positions: NDArray[np.float64], taps: int, axis: int, stretch: float = 1.0) -> Array:
    """Sample one of the last two axes at fractional positions.

    `taps` selects the kernel: 2 bilinear, 4 bicubic (Catmull-Rom), 6 Lanczos with three lobes. `stretch` > 1 widens it
    by the factor of a reduction, to remove frequencies that the coarser grid cannot hold. Edges are repeated.
    """
    reach = int(np.ceil(taps / 2 * stretch))
    first = np.floor(positions).astype(np.intp) - reach + 1
    weights = [_kernel((first + tap - positions) / stretch, taps) for tap in range(2 * reach)]
    total = sum(weights)
    out: Any = 0.0
    for tap, weight in enumerate(weights):
        share = (weight / total).astype(np.float32)
        index = np.clip(first + tap, 0, field.shape[axis] - 1)
        out = out + np.take(field, index, axis=axis) * (share if axis == -1 else share[:, None])
    return np.asarray(out, np.float32)


def _kernel(x: NDArray[np.float64], taps: int) -> NDArray[np.float64]:
    distance = np.abs(x)
    if taps == 2:
        return np.maximum(0.0, 1 - distance)
    if taps == 4:
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    if taps == 6:
        return np.where(distance < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    raise ValueError(f"no interpolation kernel with {taps} taps")
