"""The ten artifacts by other means than those of `grainscan.data.synth`, so that a test is not of that synthesis alone.

A class for each, in `OTHERS` by task: the recipe is a single number, `amount`, and a seed. What they do is chosen to
share nothing with the synthesiser of the same task but the unit in which strength is measured:

    graininess          photons counted (Poisson) instead of Gaussian or filtered fields
    blockiness          JPEG by libjpeg (Pillow) instead of FFmpeg's encoders and blocks of our own
    banding             few levels of R, G and B instead of luma and colour differences
    spatial_blur        an exponential kernel instead of Gaussian, disc, box and scaling
    motion_blur         copies along the motion that the clip has, instead of a drawn trail
    aliasing            Pillow's nearest neighbour and back
    dark_scenes         codes instead of light times a factor
    black_screen        single pictures here and there instead of one stretch
    frame_drop          pictures left out, and the clip is shorter
    transmission_error  slices overwritten by what belongs elsewhere, until they are sent anew
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from camera import to_block as from_rgb
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from grainscan.data.synth import BaseRecipe, synthesiser
from grainscan.data.synth.drawing import Span
from grainscan.data.synth.frame_drop import missed
from grainscan.data.synth.stack import NEUTRAL, Array, Stack, add_luma, blur, from_block, luma, mapped, pool, to_block
from grainscan.video import Block
from grainscan.views.colour import levels, to_rgb

_PHOTON_BLUR = 0.6  # pixels: of a sensor whose colours are interpolated
_SLICE = 32  # pixels: height of what is overwritten or not
_LAG = 2  # pictures between which motion is measured


@dataclass(frozen=True)
class Means(BaseRecipe):
    """A recipe with an artifact of the strength `amount`, or (0) without. Limits of labels are the synthesiser's."""

    span: ClassVar[Span]
    combines: ClassVar[bool] = True  # whether the clip keeps its length

    amount: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        return cls(amount=cls.span.draw(rng), seed=int(rng.integers(2**31)))

    def clean(self) -> Self:
        return replace(self, amount=0.0)

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return synthesiser(self.task)().strength(reference, decoded, added)

    def of_itself(self, added: Array, picture: Array) -> Array:
        return synthesiser(self.task)().of_itself(added, picture)


class Photons(Means):
    """`amount` photons in a white pixel."""

    task = "graininess"
    span = Span(60, 1500, log=True)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        light = np.clip(luma(stack), 0, 255) / 255
        counted = rng.poisson(light * self.amount) / self.amount
        return add_luma(stack, blur(np.asarray(255 * (counted - light), np.float32), _PHOTON_BLUR))


class Jpeg(Means):
    """Every picture a JPEG of quality `amount`."""

    task = "blockiness"
    stage = "delivery"
    span = Span(2, 12)

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        def coded(picture: NDArray[np.uint8]) -> Array:
            with io.BytesIO() as file:
                Image.fromarray(picture).save(file, "JPEG", quality=round(self.amount))
                return np.asarray(Image.open(file), np.float32)

        return to_block(mapped(from_block(block), lambda plane, *_: np.stack([*map(coded, _bytes(plane))])))


class Palette(Means):
    """`amount` levels of R, of G and of B."""

    task = "banding"
    span = Span(10, 40, log=True)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        number = round(self.amount)
        colours = np.moveaxis(to_rgb(to_block(stack)), 1, -1)
        few = np.minimum(np.floor(colours * number), number - 1) / np.float32(number - 1)
        return from_block(from_rgb(few.astype(np.float32), stack.format))


class Exponential(Means):
    """A blur whose kernel decays by e in `amount` pixels, along lines and columns."""

    task = "spatial_blur"
    span = Span(0.8, 4, log=True)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        def blurred(plane: Array, sub_w: int, sub_h: int) -> Array:
            for axis, sub in ((-1, sub_w), (-2, sub_h)):
                decay = self.amount / (1 << sub)
                reach = np.arange(-np.ceil(4 * decay), np.ceil(4 * decay) + 1)
                weights = np.exp(-np.abs(reach) / decay)
                plane = ndimage.correlate1d(plane, weights / weights.sum(), axis=axis, mode="mirror")
            return plane

        return mapped(stack, blurred)


class Exposure(Means):
    """Copies along `amount` pixels in the direction of the clip's own motion; if it has none, in any."""

    task = "motion_blur"
    span = Span(6, 30, log=True)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        heading = rng.uniform(-np.pi, np.pi)
        y, x = motion(luma(stack))
        length = np.hypot(y, x)
        if length < 0.5:
            y, x, length = np.sin(heading), np.cos(heading), 1.0
        along = np.linspace(-0.5, 0.5, round(self.amount) + 1) * self.amount / length

        def exposed(plane: Array, sub_w: int, sub_h: int) -> Array:
            _, height, width = plane.shape
            total = np.zeros_like(plane)
            for place in along:
                rows = np.clip(np.arange(height) + round(place * y / (1 << sub_h)), 0, height - 1)
                columns = np.clip(np.arange(width) + round(place * x / (1 << sub_w)), 0, width - 1)
                total += plane[:, rows][:, :, columns]
            return total / np.float32(len(along))

        return mapped(stack, exposed)


class Nearest(Means):
    """The picture reduced by `amount` without a low pass, and enlarged again by one of two filters."""

    task = "aliasing"
    span = Span(1.8, 4, log=True)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        filtered = Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BILINEAR

        def jagged(picture: Array) -> Array:
            whole = Image.fromarray(picture)
            small = round(whole.width / self.amount), round(whole.height / self.amount)
            return np.asarray(whole.resize(small, Image.Resampling.NEAREST).resize(whole.size, filtered))

        return mapped(stack, lambda plane, *_: np.stack([*map(jagged, plane)]))


class Dimmed(Means):
    """All codes `amount` times as far from black and from neutral."""

    task = "dark_scenes"
    span = Span(0.08, 0.35, log=True)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        black = levels(stack.format)[0] / stack.format.unit
        rests = (black, NEUTRAL, NEUTRAL) if stack.format.layout == "yuv" else (black,) * 3
        pairs = zip(stack.planes, rests, strict=False)
        planes = (np.float32(rest) + np.float32(self.amount) * (plane - np.float32(rest)) for plane, rest in pairs)
        return Stack(tuple(planes), stack.format)


class Blinks(Means):
    """`amount` pictures, chosen at random, are black."""

    task = "black_screen"
    stage = "delivery"
    span = Span(1, 5)

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        hit = rng.permutation(block.frames)[: round(self.amount)]
        black, done = levels(block.format)[0], block.copy()
        for number, plane in enumerate(done.planes):
            plane[hit] = 128 * block.format.unit if number and block.format.layout == "yuv" else black
        return done


class Deleted(Means):
    """`amount` pictures in a row are left out."""

    task = "frame_drop"
    stage = "delivery"
    span = Span(1, 6)
    combines = False

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        kept = self.kept(block.frames)
        return Block(tuple(plane[kept] for plane in block.planes), block.format)

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        return missed(reference, self.kept(reference.frames), unseen=synthesiser(self.task).negligible)

    def kept(self, frames: int) -> NDArray[np.intp]:
        """The numbers of the pictures that are left."""
        count = min(round(self.amount), max(1, frames - 2))
        first = int(np.random.default_rng(self.seed).integers(1, max(2, frames - count)))
        return np.delete(np.arange(frames), range(first, min(first + count, frames - 1)))


class Overwritten(Means):
    """Slices of some pictures, `amount` of the height, show another part of an earlier one in a wrong colour."""

    task = "transmission_error"
    stage = "delivery"
    span = Span(0.06, 0.6, log=True)

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        rows = -(-block.height // _SLICE)
        lost = rng.permutation(rows)[: max(1, round(self.amount * rows))]
        first = int(rng.integers(1, max(2, block.frames - 1)))
        hit = slice(first, first + int(rng.integers(1, 9)))
        down, right = int(rng.integers(1, max(2, rows))), int(rng.integers(2, 12)) * 16
        tint = float(rng.uniform(0.2, 1.0))

        def damaged(plane: Array, sub_w: int, sub_h: int) -> Array:
            slices = np.isin(np.arange(plane.shape[1]) // (_SLICE >> sub_h), lost)
            wrong = np.roll(plane[first - 1], (down * _SLICE >> sub_h, right >> sub_w), axis=(0, 1))
            if sub_w:
                wrong = np.float32(NEUTRAL) + np.float32(tint) * (np.float32(NEUTRAL) - wrong)
            out = plane.copy()
            out[hit, slices] = wrong[slices]
            return out

        return to_block(mapped(from_block(block), damaged))


OTHERS: dict[str, type[Means]] = {
    kind.task: kind
    for kind in (
        Photons, Jpeg, Palette, Exponential, Exposure, Nearest, Dimmed, Blinks, Deleted, Overwritten,
    )
}  # fmt: skip


def motion(bright: Array) -> tuple[float, float]:
    """The usual motion (y, x) of the whole picture in pixels a picture, by phase correlation of halved pictures.

    Kuglin and Hines, "The phase correlation image alignment method", 1975.
    """
    small = pool(bright, 1, 1)
    small = small - small.mean(axis=(1, 2), keepdims=True)
    spectra = fft.rfft2(small * np.outer(np.hanning(small.shape[1]), np.hanning(small.shape[2])).astype(np.float32))
    cross = spectra[_LAG:] * np.conj(spectra[:-_LAG])
    peaks = fft.irfft2(cross / (np.abs(cross) + np.float32(1e-3)), s=small.shape[1:])
    if not len(peaks):
        return 0.0, 0.0
    places = np.stack(np.unravel_index(peaks.reshape(len(peaks), -1).argmax(axis=1), small.shape[1:]), axis=1)
    size = np.array(small.shape[1:])
    y, x = np.median((places + size // 2) % size - size // 2, axis=0) * 2 / _LAG
    return float(y), float(x)


def _bytes(plane: Array) -> NDArray[np.uint8]:
    return np.clip(np.rint(plane), 0, 255).astype(np.uint8)
