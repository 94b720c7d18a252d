"""What blurs have in common: kernels in luma pixels, convolution, blur in linear light, and what is no blur."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, ndimage

from grainscan.data.synth.encoding import surviving
from grainscan.data.synth.stack import Array, Stack
from grainscan.video import Block

_GAMMA = 2.2
_ENOUGH = 0.5  # share of the energy put in from which all that is left counts
_REACH = 4  # pixels on either side that a filter sees: as far apart as the pixels that aliasing keeps
_PLACES = 20_000  # pixels, drawn at random, from which a filter with 81 weights is estimated


def remaining(reference: Block, decoded: Block, added: Array) -> float:
    """`surviving`, in 8-bit codes, times twice the share of its energy in that of `added`, at most once.

    What an encoder has mostly undone, or has done to the reference as well, counts for less than it measures.
    """
    left = surviving(reference, decoded, added)
    put_in = float(np.square(added - added.mean(axis=(1, 2), keepdims=True)).mean())
    return left * min(1.0, left**2 / (_ENOUGH * put_in)) if put_in else 0.0


def unfiltered(change: Array, picture: Array) -> Array:
    """The part of a change (frames, height, width) that no linear filter of the `picture` makes, of the same shape.

    A blur, a sharpening or a shift weights the frequencies that the picture has; what aliasing adds comes from other
    ones. The filter of 9 x 9 pixels, the same everywhere, that explains most of the change is estimated by least
    squares in places that are always the same, and what it explains is taken away.
    """
    side = 2 * _REACH + 1
    if min(picture.shape[1:]) < 2 * side:
        return change
    around = sliding_window_view(picture, (side, side), axis=(1, 2))
    inner = change[:, _REACH:-_REACH, _REACH:-_REACH]
    places = np.unravel_index(np.random.default_rng(0).integers(inner.size, size=_PLACES), inner.shape)
    weights, *_ = np.linalg.lstsq(around[places].reshape(_PLACES, -1), inner[places], rcond=None)
    made = ndimage.correlate(picture, weights.reshape(1, side, side), mode="nearest")
    return np.asarray(change - made, np.float32)


def in_light(plane: Array, function: Callable[[Array], Array]) -> Array:
    """`function` of linear light instead of codes (a gamma of 2.2): bright points spread as they do in a lens."""
    light = np.power(np.clip(plane, 0, 255) * np.float32(1 / 255), np.float32(_GAMMA))
    return np.power(np.maximum(function(light), 0), np.float32(1 / _GAMMA)) * np.float32(255)


def convolved(stack: Stack, kernel: Callable[[int, int], Array], *, linear: bool = False) -> Stack:
    """Every plane with `kernel(sub_w, sub_h)`, (frames or 1, side, side), odd, its sum 1. Edges are mirrored."""
    planes = []
    for i, plane in enumerate(stack.planes):
        weights = kernel(*stack.subsampling(i))
        light = linear and (i == 0 or stack.format.layout == "rgb")
        planes.append(in_light(plane, partial(_filter, kernel=weights)) if light else _filter(plane, weights))
    return Stack(tuple(planes), stack.format)


def _filter(plane: Array, kernel: Array) -> Array:
    _, height, width = plane.shape
    radius = kernel.shape[-1] // 2
    padded = np.pad(plane, ((0, 0), (radius, radius), (radius, radius)), mode="symmetric")
    rows, columns = (fft.next_fast_len(length, real=True) for length in padded.shape[1:])
    spectrum = fft.rfft2(padded, s=(rows, columns)) * fft.rfft2(kernel, s=(rows, columns))
    out = fft.irfft2(spectrum, s=(rows, columns))[:, 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]
    return np.ascontiguousarray(out, np.float32)


def disc(radius: float) -> Array:
    """A disc of this radius in pixels with a soft edge: (1, side, side)."""
    reach = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    weights = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return np.asarray(weights / weights.sum(), np.float32)[None]


def trail(paths: NDArray[np.float64]) -> Array:
    """Kernels of a point that moves evenly through `paths` (frames, points, 2: y and x in pixels from the middle)."""
    frames, points, _ = paths.shape
    reach = int(np.ceil(np.abs(paths).max())) + 1
    side = 2 * reach + 1
    places = paths + reach
    whole = np.floor(places).astype(np.intp)
    rest = places - whole
    out = np.zeros((frames, side * side), np.float64)
    number = np.repeat(np.arange(frames), points)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - rest[..., 0]) * np.abs(1 - dx - rest[..., 1])
            index = (whole[..., 0] + dy) * side + whole[..., 1] + dx
            np.add.at(out, (number, index.ravel()), weight.ravel())
    out = out.reshape(frames, side, side) / points
    return np.asarray(out, np.float32)
