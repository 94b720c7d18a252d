"""Chains of encoders, and what they leave of an artifact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from grainscan.data.synth.stack import Array, squares
from grainscan.video import Block, Damage, recode
from grainscan.views.crops import pad

LOSSLESS = frozenset({"ffv1"})

_SMALLEST = 64  # pixels: the shortest side that every encoder accepts
_STEP = 8  # sides are padded to a multiple of this, which suits every chroma grid and coding block
# Some encoders read beyond the picture at certain sizes, so that their output varies between runs. Avoided are
_SIXTEENS = frozenset({"prores", "av1", "mpeg2", "mpeg4"})  # sides that are not multiples of 16, and
_TREES = frozenset({"hevc"})  # a picture of a single coding tree unit, 64 x 64
_BLOCK = 16  # pixels: side of the squares whose scatter estimates the error of a covariance; wider than a grain


@dataclass(frozen=True)
class Generation:
    """One pass through an encoder. Names and quality scales are those of `video.CODECS`."""

    codec: str
    quality: int | None = None
    gop: int | None = None  # frames between key frames; None: the encoder's choice
    speed: int = 1  # 0 the encoder's usual effort, 2 the fastest


def encode(block: Block, generations: Sequence[Generation], *, damage: Damage | None = None) -> Block:
    """The block after a chain of encoders, in the same size and format. Raises DataError if one refuses it.

    It is padded for the encoders and cropped again. Lossless generations are skipped: they change nothing. The stream
    of the last encoder suffers the `damage`.
    """
    lossy = [generation for generation in generations if generation.codec not in LOSSLESS]
    if not lossy:
        return block
    codecs = {generation.codec for generation in lossy}
    step = 16 if codecs & _SIXTEENS else _STEP
    width, height = (max(_SMALLEST, -(-side // step) * step) for side in (block.width, block.height))
    if codecs & _TREES and width == height == _SMALLEST:
        width += step
    work = pad(block, width, height, mode="edge")
    for number, one in enumerate(lossy, 1):
        lost = damage if number == len(lossy) else None
        work = recode(work, one.codec, one.quality, fps=Fraction(25), gop=one.gop, speed=one.speed, damage=lost)
    return work.crop(0, 0, block.width, block.height).copy()


def surviving(reference: Block, decoded: Block, added: Array) -> float:
    """Standard deviation of what is left of `added` in `decoded`, in 8-bit luma codes, at least 0.

    Let d be the luma of `decoded` minus that of `reference` (the clean branch through the same encoders), and a be
    `added` (frames, height, width), both without their mean over the picture. The result is the root of their
    covariance <d, a>. An encoder quantises: it keeps some coefficients and drops others. The covariance of the output
    of an optimal quantiser with its input is the variance of the output (Gersho and Gray, "Vector Quantization and
    Signal Compression", 1992, section 6.2), so <d, a> is the energy of what is left; the projection <d, a> / |a| would
    count the loss twice. Other differences between the branches are uncorrelated with a and cancel, up to a sampling
    error estimated from the scatter of the products over blocks: one standard error is subtracted. The result is at
    most the deviation of d, which is smaller than the root if grain was only weakened.
    """
    difference = decoded.luma8() - reference.luma8()
    difference = difference - difference.mean(axis=(1, 2), keepdims=True)
    products = squares(difference * (added - added.mean(axis=(1, 2), keepdims=True)), _BLOCK)
    error = products.std() / math.sqrt(products.size)
    return min(math.sqrt(max(0.0, float(products.mean() - error))), float(difference.std()))
