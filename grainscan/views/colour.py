"""Native planes to RGB, and the codes of black and white. Pure arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.video import Block, PixelFormat

LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # Kr, Kb
_CLIPPED = 3  # 8-bit codes from black or white within which a mean level counts as black or white


def to_rgb(block: Block) -> NDArray[np.float32]:
    """RGB in [0, 1] from native planes: (frames, height, width) each -> (frames, 3, height, width) float32.

    Y'CbCr to R'G'B' by the block's matrix and range (ITU-R BT.601, 709, 2020, non-constant luminance), clipped to
    [0, 1]; chroma is repeated, not interpolated, so that no filter touches the noise. Gray becomes three equal planes.
    """
    form = block.format
    unit = np.float32(form.unit)
    white = np.float32((1 << form.depth) - 1)
    if form.layout == "rgb":
        rgb = np.stack(block.planes, axis=1).astype(np.float32)
        rgb /= white
        return rgb
    black, top = levels(form)
    luma_span = np.float32(top - black)
    chroma_span = white if form.full_range else 224 * unit
    luma = np.subtract(block.planes[0], np.float32(black), dtype=np.float32)
    luma *= 1 / luma_span
    if form.layout == "gray":
        return np.repeat(np.clip(luma, 0, 1, out=luma)[:, None], 3, axis=1)
    # The contribution of chroma to each colour is computed on chroma's own, coarser grid.
    kr, kb = LUMA_WEIGHTS[form.matrix]
    blue, red = (np.subtract(plane, 128 * unit, dtype=np.float32) for plane in block.planes[1:])
    red *= np.float32(2 * (1 - kr)) / chroma_span
    blue *= np.float32(2 * (1 - kb)) / chroma_span
    green = (np.float32(kr) * red + np.float32(kb) * blue) * np.float32(-1 / (1 - kr - kb))
    rgb = np.empty((block.frames, 3, block.height, block.width), np.float32)
    for number, colour in enumerate((red, green, blue)):
        np.add(_upsampled(colour, form, block.height, block.width), luma, out=rgb[:, number])
    return np.clip(rgb, 0, 1, out=rgb)


def _upsampled(plane: NDArray[np.float32], form: PixelFormat, height: int, width: int) -> NDArray[np.float32]:
    if form.sub_h:
        plane = np.repeat(plane, 1 << form.sub_h, axis=1)
    if form.sub_w:
        plane = np.repeat(plane, 1 << form.sub_w, axis=2)
    return plane[:, :height, :width]


def levels(form: PixelFormat) -> tuple[int, int]:
    """Native codes of black and white, of luma or of R, G and B."""
    return (0, (1 << form.depth) - 1) if form.full_range else (16 * form.unit, 235 * form.unit)


def brightness(picture: tuple[NDArray[Any], ...], form: PixelFormat) -> NDArray[Any]:
    """The plane (height, width) that stands for brightness: luma, or green."""
    return picture[1] if form.layout == "rgb" else picture[0]


def shows_something(level: NDArray[np.float64], form: PixelFormat) -> NDArray[np.bool_]:
    """Which mean levels of `brightness`, in native codes, are neither black nor white."""
    black, white = levels(form)
    margin = _CLIPPED * form.unit
    return (level > black + margin) & (level < white - margin)
