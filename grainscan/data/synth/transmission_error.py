"""Transmission errors: real streams that lose data on the way to a real decoder, and damage drawn by hand.

The drawn kinds imitate other decoders than FFmpeg's: parts of the picture that stay as they were, slip, smear, or turn
gray, green or pink, and errors that the motion of the next pictures carries along until a key frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from grainscan.data.synth.drawing import PLAIN, Span, draw_setting, pick
from grainscan.data.synth.encoding import Generation, encode
from grainscan.data.synth.recipe import BaseRecipe, unknown
from grainscan.data.synth.stack import NEUTRAL, Array, Stack, blur, from_block, to_block
from grainscan.video import Block, Damage, DamageKind

Filling = Literal["stale", "shifted", "coloured", "smeared", "gray", "garbage"]
Shape = Literal["run", "rows", "scattered"]

# (weight, best, worst) on the codec's own scale
CODERS: dict[str, tuple[float, int, int]] = {
    "h264": (0.4, 20, 36),
    "hevc": (0.2, 20, 36),
    "mpeg2": (0.25, 2, 10),
    "mpeg4": (0.15, 2, 8),
}
_DAMAGES: dict[DamageKind, float] = {"slice": 0.3, "cut": 0.25, "flip": 0.2, "tail": 0.15, "frame": 0.1}
_FILLINGS: dict[Filling, float] = {
    "stale": 0.2, "shifted": 0.2, "coloured": 0.2, "smeared": 0.12, "gray": 0.14, "garbage": 0.14,
}  # fmt: skip
_SHAPES: dict[Shape, float] = {"run": 0.45, "rows": 0.3, "scattered": 0.25}
_STREAM = 0.6  # share of errors in real streams
_AREA = Span(0.01, 0.8, log=True)
_AMOUNT = Span(0.08, 1, log=True)

_MACROBLOCK = 16  # pixels
_COLOURS = ((0.0, 0.0, 0.0), (128.0, 128.0, 128.0), (16.0, 128.0, 128.0), (170.0, 160.0, 170.0))  # Y, Cb, Cr: green, …
_HEALED = 0.06  # share of the damaged macroblocks that each later picture encodes anew
_SEEN = 12.0  # 8-bit codes: a difference as large as this, after a blur of one pixel, is visible


@dataclass(frozen=True)
class Scar:
    """Drawn damage. The pictures from the share `first` of the clip on are damaged anew, as many as `frames` says, in
    the share `area` of their macroblocks; those after them inherit it, up to the next key frame, `healed` later."""

    shape: Shape
    filling: Filling
    first: float
    frames: int
    healed: int
    area: float


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A recipe with damage to the stream of one more encoder, with a scar, or with neither.

    Strengths are the largest share of a picture, in percent, that differs visibly from the undamaged branch.
    """

    task = "transmission_error"
    stage = "delivery"
    visible = 1.0
    negligible = 0.1

    coder: Generation | None = None
    damage: Damage | None = None
    scar: Scar | None = None
    late: bool = True  # a scar after the shared encoders

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Self:
        """A recipe for a damaged twin of a clip of this size."""
        # The first picture is a key frame: its errors last until the next.
        first = 0.0 if rng.random() < 0.2 else Span(0, 0.9).draw(rng)
        late = bool(rng.random() < 0.75)
        if rng.random() < _STREAM:
            codec = pick(rng, {name: row[0] for name, row in CODERS.items()})
            _, best, worst = CODERS[codec]
            gop = int(rng.choice((4, 8, 12, 25, 50)))
            coder = Generation(codec, int(rng.integers(best, worst + 1)), gop, int(rng.integers(1, 3)))
            kind = pick(rng, _DAMAGES)
            frames = int(rng.choice((1, 1, 2, 3, 5, 12)))
            own: dict[str, Any] = {
                "coder": coder,
                "damage": Damage(kind, first, frames, _AMOUNT.draw(rng), int(rng.integers(2**31))),
            }
        else:
            frames = int(rng.choice((1, 1, 2, 4, 100)))
            healed = int(rng.choice((0, 0, 3, 8, 20)))
            scar = Scar(pick(rng, _SHAPES), pick(rng, _FILLINGS), first, frames, healed, _AREA.draw(rng))
            own = {"scar": scar, "late": late}
        return cls(**own, **draw_setting(rng, PLAIN, width=width, height=height))

    def clean(self) -> Self:
        return replace(self, coder=None, damage=None, scar=None)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        return stack if self.scar is None or self.late else add_scar(stack, self.scar, rng)

    def deliver(self, block: Block, rng: np.random.Generator) -> Block:
        if self.coder is not None:
            block = encode(block, (self.coder,), damage=self.damage)
        if self.scar is None or not self.late:
            return block
        return to_block(add_scar(from_block(block), self.scar, rng))

    def strength(self, reference: Block, decoded: Block, added: Array) -> float:
        share = damaged_share(reference, decoded)
        if self.coder is None or share < self.negligible:
            return share
        return min(share, damaged_share(encode(reference, (self.coder,)), decoded))  # without what the encoder changed

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        read: Mapping[str, Any] = {"coder": Generation, "damage": Damage, "scar": Scar}
        return {**values, **{name: kind(**values[name]) for name, kind in read.items() if values.get(name) is not None}}


def damaged_share(reference: Block, decoded: Block) -> float:
    """The largest share of a picture and plane, in percent, that differs from `reference` by 12 codes or more.

    The codes are of 8 bits; the difference is blurred by a pixel, so that the noise of an encoder does not count.
    """
    unit, worst = np.float32(1 / reference.format.unit), 0.0
    for before, after in zip(reference.planes, decoded.planes, strict=True):
        difference = blur((after.astype(np.float32) - before.astype(np.float32)) * unit, 1.0)
        worst = max(worst, float((np.abs(difference) >= _SEEN).mean(axis=(1, 2)).max()))
    return 100 * worst


def add_scar(stack: Stack, scar: Scar, rng: np.random.Generator) -> Stack:
    """Damage macroblocks of some pictures, and carry the errors on. Raises DataError for an unknown kind."""
    if scar.filling not in _FILLERS or scar.shape not in _SHAPES:
        raise unknown("kind of damage", f"{scar.shape} {scar.filling}")
    frames, height, width = stack.shape
    grid = -(-height // _MACROBLOCK), -(-width // _MACROBLOCK)
    first = min(int(scar.first * frames), frames - 1)
    hit = range(first, min(first + scar.frames, frames))
    masks = [_mask(scar.shape, scar.area, grid, rng) for _ in hit]
    drift = rng.integers(-3, 4, size=2) * 2  # pixels a picture, that motion carries the errors
    seed = int(rng.integers(2**31))

    planes = []
    for number, plane in enumerate(stack.planes):
        own = np.random.default_rng(seed)  # the same damage in all planes
        out = plane.copy()
        shift = drift >> np.array(stack.subsampling(number)[::-1])
        for picture, mask in zip(hit, masks, strict=True):
            site = _Site(plane, picture, mask, number, stack, own)
            covered = site.spread(mask)
            out[picture] = np.where(covered, _FILLERS[scar.filling](site), plane[picture])
        for picture in range(hit.stop, min(hit.stop + scar.healed, frames)):
            error = np.roll(out[picture - 1] - plane[picture - 1], tuple(shift), axis=(0, 1))
            healed = own.random(grid) < _HEALED
            out[picture] = plane[picture] + np.where(_spread(healed, plane, stack, number), 0, error)
        planes.append(out)
    return Stack(tuple(planes), stack.format)


def _mask(shape: str, area: float, grid: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which macroblocks are lost: a run in reading order, ends of rows, or single ones."""
    rows, columns = grid
    count = max(1, round(area * rows * columns))
    mask = np.zeros(rows * columns, bool)
    if shape == "run":
        start = int(rng.integers(mask.size - count + 1))
        mask[start : start + count] = True
    elif shape == "scattered":
        mask[rng.choice(mask.size, size=count, replace=False)] = True
    else:
        for row in rng.permutation(rows)[: max(1, round(min(1.0, 1.5 * area) * rows))]:
            mask[row * columns + int(rng.integers(columns)) : (row + 1) * columns] = True
    return mask.reshape(grid)


def _spread(mask: NDArray[np.bool_], plane: Array, stack: Stack, number: int) -> NDArray[np.bool_]:
    """A mask of macroblocks on the pixels of a plane: (height, width)."""
    sub_w, sub_h = stack.subsampling(number)
    tall = np.repeat(mask, _MACROBLOCK >> sub_h, axis=0)
    return np.repeat(tall, _MACROBLOCK >> sub_w, axis=1)[: plane.shape[1], : plane.shape[2]]


@dataclass(frozen=True, eq=False)
class _Site:
    """Where damage is drawn: a picture of a plane, and its random numbers, the same for all planes."""

    plane: Array
    picture: int
    mask: NDArray[np.bool_]
    number: int  # of the plane
    stack: Stack
    rng: np.random.Generator

    def spread(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return _spread(mask, self.plane, self.stack, self.number)

    def blocks(self, values: Array) -> Array:
        """Values of macroblocks on the pixels of the plane."""
        sub_w, sub_h = self.stack.subsampling(self.number)
        tall = np.repeat(values, _MACROBLOCK >> sub_h, axis=0)
        return np.repeat(tall, _MACROBLOCK >> sub_w, axis=1)[: self.plane.shape[1], : self.plane.shape[2]]

    def ago(self, pictures: int) -> Array:
        """An earlier picture of the plane, or a later one at the start of the clip."""
        number = self.picture - pictures
        return self.plane[number if number >= 0 else min(pictures, len(self.plane) - 1)]


def _stale(site: _Site) -> Array:
    """What was there some pictures ago."""
    return site.ago(int(site.rng.integers(2, 9)))


def _shifted(site: _Site) -> Array:
    """Macroblocks of the last picture, fetched from the wrong places: all from one, or each from its own."""
    sub_w, sub_h = site.stack.subsampling(site.number)
    source = site.ago(1)
    height, width = source.shape
    reach, each = 48, site.rng.random() < 0.5
    vectors = site.rng.integers(-reach, reach + 1, size=(2, *site.mask.shape)).astype(np.float32)
    if not each:
        vectors[:] = vectors[:, :1, :1]
    rows = np.arange(height)[:, None] + site.blocks(vectors[0]) / (1 << sub_h)
    columns = np.arange(width)[None, :] + site.blocks(vectors[1]) / (1 << sub_w)
    return source[np.clip(rows, 0, height - 1).astype(np.intp), np.clip(columns, 0, width - 1).astype(np.intp)]


def _coloured(site: _Site) -> Array:
    """The colour of memory that was never written, or of a failed concealment."""
    colour = _COLOURS[int(site.rng.integers(len(_COLOURS)))]
    level = _as_rgb(colour)[site.number] if site.stack.format.layout == "rgb" else colour[site.number]
    return np.full_like(site.plane[site.picture], level)


def _smeared(site: _Site) -> Array:
    """The pixels before the loss, drawn out to the right or downwards."""
    picture, covered = site.plane[site.picture], site.spread(site.mask)
    axis = int(site.rng.random() < 0.5)
    numbers = np.arange(picture.shape[axis])
    numbers = numbers[:, None] if axis == 0 else numbers[None, :]
    last = np.maximum.accumulate(np.where(covered, 0, numbers), axis=axis)
    return np.take_along_axis(picture, last, axis=axis)


def _gray(site: _Site) -> Array:
    """Gray, and what has changed since the last picture: the reference was lost, its changes arrived."""
    picture = site.plane[site.picture]
    gain = float(site.rng.uniform(0.5, 2))
    return np.float32(NEUTRAL) + np.float32(gain) * (picture - site.ago(3))


def _garbage(site: _Site) -> Array:
    """Waves of wrong coefficients, and levels that a run of wrong predictions drives away from the picture's."""
    picture = site.plane[site.picture]
    shape = site.mask.shape
    levels = np.cumsum(site.rng.normal(0, 14, size=shape), axis=1).astype(np.float32)
    heights = site.rng.exponential(25, size=shape).astype(np.float32)
    waves = site.rng.integers(0, 5, size=(2, *shape)).astype(np.float32)
    sub_w, sub_h = site.stack.subsampling(site.number)
    y = np.arange(picture.shape[0])[:, None] % (_MACROBLOCK >> sub_h) / (_MACROBLOCK >> sub_h)
    x = np.arange(picture.shape[1])[None, :] % (_MACROBLOCK >> sub_w) / (_MACROBLOCK >> sub_w)
    wave = np.cos(np.pi * site.blocks(waves[0]) * y) * np.cos(np.pi * site.blocks(waves[1]) * x)
    sign = -1 if site.number == 1 else 1
    return np.asarray(picture + sign * site.blocks(levels) + site.blocks(heights) * wave, np.float32)


def _as_rgb(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """R, G, B of a limited-range BT.709 colour; full range, not clipped."""
    level, blue, red = 1.164 * (colour[0] - 16), colour[1] - 128, colour[2] - 128
    return level + 1.793 * red, level - 0.213 * blue - 0.533 * red, level + 2.112 * blue


_FILLERS: dict[str, Callable[[_Site], Array]] = {
    "stale": _stale,
    "shifted": _shifted,
    "coloured": _coloured,
    "smeared": _smeared,
    "gray": _gray,
    "garbage": _garbage,
}
