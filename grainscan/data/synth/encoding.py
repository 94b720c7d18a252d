"""What encoders leave of a clip, and of what was added to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from grainscan.data.synth.stack import Array
from grainscan.video import Block, recode
from grainscan.views.crops import pad

LOSSLESS = frozenset({"ffv1"})

_SMALLEST = 64  # pixels: the shortest side that every encoder in use accepts
_STEP = 8  # sides are padded to a multiple of this, so that any chroma grid and any coding block fits
# Sides at which encoders read beyond the picture, so that their output differs from run to run, are avoided:
_SIXTEENS = frozenset({"prores", "av1"})  # those that are not multiples of 16
_TREES = frozenset({"hevc"})  # a picture of a single coding tree unit, 64 x 64
_BLOCK = 16  # pixels: side of the squares whose scatter gives the error of a covariance; wider than a grain


@dataclass(frozen=True)
class Generation:
    """One pass through an encoder. Names and quality scales are those of `video.CODECS`."""

    codec: str
    quality: int | None = None
    gop: int | None = None  # frames between key frames; None: the encoder's choice
    speed: int = 1  # 0 the encoder's usual effort, 2 the fastest


def encode(block: Block, generations: Sequence[Generation]) -> Block:
    """The block after a chain of encoders, in the same size and format. Raises DataError where one refuses it.

    Sides are padded for the encoders and cropped again. Lossless generations change nothing and are left out.
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
    for one in lossy:
        work = recode(work, one.codec, one.quality, fps=Fraction(25), gop=one.gop, speed=one.speed)
    return work.crop(0, 0, block.width, block.height).copy()


def surviving(reference: Block, decoded: Block, added: Array) -> float:
    """Standard deviation of what is left of `added` in `decoded`, in 8-bit luma codes, at least 0.

    With d the luma of `decoded` minus that of `reference` (the clean branch through the same encoders) and a what was
    `added`, (frames, height, width), both without their mean over the picture, it is the root of their covariance
    <d, a>. An encoder quantises: it keeps some coefficients and drops others. The output of an optimal quantiser has
    with its input the covariance that it has with itself (Gersho and Gray, "Vector Quantization and Signal
    Compression", 1992, section 6.2), so that <d, a> is the energy of what is left; the projection <d, a> / |a| would
    count the loss twice. Whatever else the encoders did differently to the two branches is uncorrelated with a and
    cancels, but for a sampling error, which the scatter of the products over blocks estimates: one standard error is
    subtracted. Grain that was only weakened deviates less than that root, and d never less than what is left of a: the
    result is at most the deviation of d.
    """
    difference = decoded.luma8() - reference.luma8()
    difference = difference - difference.mean(axis=(1, 2), keepdims=True)
    products = _block_means(difference * (added - added.mean(axis=(1, 2), keepdims=True)))
    error = products.std() / math.sqrt(products.size)
    return min(math.sqrt(max(0.0, float(products.mean() - error))), float(difference.std()))


def _block_means(field: Array) -> Array:
    """Means over the squares of _BLOCK pixels that fit, (frames, rows, columns), or smaller ones in a small picture."""
    frames, height, width = field.shape
    side = min(_BLOCK, height, width)
    whole = field[:, : height // side * side, : width // side * side]
    return np.asarray(whole.reshape(frames, height // side, side, width // side, side).mean(axis=(2, 4)))
