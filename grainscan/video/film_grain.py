"""The film-grain parameters that a stream carries: its encoder removed the grain, and decoders make it anew.

Plain data; needs no FFmpeg. FFmpeg hands the parameters over as the bytes of its `AVFilmGrainParams`, whose fields keep
their places within a major version of libavutil.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Points = tuple[tuple[int, int], ...]  # (level of luma, scaling), levels ascending

LIBAVUTIL = (58, 61)  # first major version with these fields, and the first that is not known to have them
_AV1, _H274 = 1, 2
# type, seed, width, height, subsampling (2), colour (4), depth (2); then, for AV1: luma points, chroma from luma,
# chroma points, scaling shift, lag, coefficients, their shift, scale shift, multipliers, offsets, overlap, limits
_HEAD = struct.Struct("@iQ10i")
_BODY = struct.Struct("@i28si2i40sii24s50si i 2i2i2i i i")


@dataclass(frozen=True)
class FilmGrain:
    """Parameters of AV1's film grain synthesis (specification, "Film grain params syntax"), of 8-bit scale.

    The decoder filters Gaussian noise, of standard deviation 32 / 2^scale_shift codes, by an autoregressive filter
    whose coefficients are in units of 2^-coefficient_shift, and adds it to the picture, times the scaling function of
    luma, over 2^scaling_shift. The last chroma coefficient is the weight of luma grain. The indices of the chroma
    scaling functions are luma times `luma_weights` (64 units are one) plus chroma times `chroma_weights` plus
    `offsets`, stored with 128 or 256 added.
    """

    y: Points
    cb: Points = ()
    cr: Points = ()
    coefficients_y: tuple[int, ...] = ()  # 2 lag (lag + 1), in raster order
    coefficients_cb: tuple[int, ...] = (0,)
    coefficients_cr: tuple[int, ...] = (0,)
    lag: int = 0
    coefficient_shift: int = 7
    scale_shift: int = 0
    scaling_shift: int = 8
    chroma_from_luma: bool = False
    overlap: bool = True
    chroma_weights: tuple[int, int] = (128, 128)  # Cb, Cr
    luma_weights: tuple[int, int] = (192, 192)
    offsets: tuple[int, int] = (256, 256)
    seed: int = 7391


@dataclass(frozen=True)
class Carried:
    """What a stream says about its grain: by which standard, and the parameters where they can be read (AV1)."""

    kind: Literal["av1", "h274", "unknown"]
    grain: FilmGrain | None = None


def parse(data: bytes, libavutil: int) -> Carried:
    """Read the bytes of FFmpeg's structure, given the major version of libavutil."""
    if not LIBAVUTIL[0] <= libavutil < LIBAVUTIL[1] or len(data) < _padded(_HEAD.size) + _BODY.size:
        return Carried("unknown")
    head = _HEAD.unpack_from(data)
    if head[0] != _AV1:
        return Carried("h274" if head[0] == _H274 else "unknown")
    body = _BODY.unpack_from(data, _padded(_HEAD.size))
    (points_y, y, from_luma, points_cb, points_cr, chroma, scaling_shift, lag, along_y, along_chroma, shift, scale,
     cb, cr, cb_luma, cr_luma, cb_offset, cr_offset, overlap, _) = body  # fmt: skip
    count = 2 * lag * (lag + 1)
    signed = struct.unpack("24b", along_y), struct.unpack("50b", along_chroma)
    grain = FilmGrain(
        y=tuple(_points(y, points_y)),
        cb=tuple(_points(chroma[:20], points_cb)),
        cr=tuple(_points(chroma[20:], points_cr)),
        coefficients_y=signed[0][:count],
        coefficients_cb=signed[1][: count + 1],
        coefficients_cr=signed[1][25 : 26 + count],
        lag=lag,
        coefficient_shift=shift,
        scale_shift=scale,
        scaling_shift=scaling_shift,
        chroma_from_luma=bool(from_luma),
        overlap=bool(overlap),
        chroma_weights=(cb + 128, cr + 128),
        luma_weights=(cb_luma + 128, cr_luma + 128),
        offsets=(cb_offset + 256, cr_offset + 256),
        seed=int(head[1]) & 0xFFFF,
    )
    return Carried("av1", grain)


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def _points(data: bytes, count: int) -> Iterator[tuple[int, int]]:
    return zip(data[0 : 2 * count : 2], data[1 : 2 * count : 2], strict=True)
