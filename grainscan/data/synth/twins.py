"""A recipe carried out: a clean clip becomes a pair that differs in grain alone, labelled by what survives.

Both branches see the same scene, the same defects, the same processing and the same chain of encoders. The grain that
went in is known as the difference of the two before encoding; how much of it comes out is measured on their difference
after decoding. Neither the strength nor the label knows what was put in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from grainscan.data.synth.defects import DEFECTS
from grainscan.data.synth.grain import add_grain
from grainscan.data.synth.negatives import MOTIONS
from grainscan.data.synth.process import PROCESSES, enlarge, reduce, widen
from grainscan.data.synth.recipe import Effect, Recipe
from grainscan.data.synth.stack import Array, Stack, Step, from_block, to_block
from grainscan.data.synth.textures import TEXTURES
from grainscan.errors import DataError
from grainscan.video import Block, recode

# Standard deviations of surviving grain in 8-bit luma codes. Rounding alone has 0.29, and a good encode differs from
# what it was given by about 0.5: below CLEAN nobody sees grain and nothing tells it from those. From GRAINY on it shows
# on a flat surface, at two to three times that floor. Between the two people disagree, and so would labels: such clips
# have a strength but no label.
GRAINY = 1.5
CLEAN = 0.6

SCENES = {**MOTIONS, **TEXTURES}
LOSSLESS = frozenset({"ffv1"})
Family = Mapping[str, Step]

_SMALLEST = 64  # pixels: the least side that every encoder in use accepts
_BLOCK = 16  # pixels: the side of the squares that tell the error of a covariance; wider than grain
_EVEN = 8  # sides are padded to a multiple of this for encoding, so that any chroma grid and any block fits
_STAGES = {"scene": 1, "grain": 2, "defects": 3, "process": 4}  # each stage has its own stream of random numbers


@dataclass(frozen=True, eq=False)
class Synthesis:
    """Both branches before encoding. `added`: (frames, height, width), grainy minus clean luma, 8-bit codes."""

    block: Block
    clean: Block
    added: Array


@dataclass(frozen=True, eq=False)
class Twin:
    """Both branches after encoding, and what is left of the grain.

    `strength` is the standard deviation of the surviving grain in 8-bit luma codes; `label` is 1 (grainy), 0 (clean)
    or None (in between) for the block `grainy`. `clean` is always clean.
    """

    clean: Block
    grainy: Block
    strength: float
    label: Literal[0, 1] | None


def apply(block: Block, recipe: Recipe) -> Synthesis:
    """Carry out the recipe up to the encoders. Raises DataError for a recipe that names what does not exist."""
    scene = _prepared(block, recipe)
    clean = to_block(_finished(scene, recipe, block))
    if recipe.grain is None:
        return Synthesis(clean, clean, np.zeros(clean.planes[0].shape, np.float32))
    rng = _stream(recipe, "grain")
    try:
        grainy = add_grain(scene, recipe.grain, rng)
    except KeyError:
        raise _unknown("kind of grain", recipe.grain.kind) from None
    made = to_block(_finished(grainy, recipe, block))
    return Synthesis(made, clean, made.luma8() - clean.luma8())


def encode(block: Block, recipe: Recipe) -> Block:
    """The block after the recipe's chain of encoders; same size, same format.

    Sides are padded for the encoders' sake and cut again. Lossless generations change nothing and are passed over.
    """
    lossy = [generation for generation in recipe.encode if generation.codec not in LOSSLESS]
    if not lossy:
        return block
    work = _padded(block)
    for step in lossy:
        work = recode(work, step.codec, step.quality, fps=Fraction(25), gop=step.gop, speed=step.speed)
    return work.crop(0, 0, block.width, block.height).copy()


def degrade(block: Block, recipe: Recipe) -> Block:
    """The clean branch alone: everything in the recipe but its grain. For clean clips of the same quality."""
    scene = _prepared(block, recipe)
    return encode(to_block(_finished(scene, recipe, block)), recipe)


def twin(block: Block, recipe: Recipe) -> Twin:
    """Carry out the recipe on both branches and measure what survived."""
    made = apply(block, recipe)
    clean = encode(made.clean, recipe)
    if recipe.grain is None:
        return Twin(clean, clean, 0.0, 0)
    grainy = encode(made.block, recipe)
    strength = surviving(clean, grainy, made.added)
    return Twin(clean, grainy, strength, label_of(strength))


def surviving(reference: Block, decoded: Block, added: Array) -> float:
    """Standard deviation of what is left of `added` in `decoded`, 8-bit luma codes, at least 0.

    With d the luma of `decoded` minus that of `reference` (the clean branch through the same encoders) and a the grain
    added, both without their mean over the picture, it is the root of their covariance <d, a>. An encoder quantises: it
    keeps some coefficients and drops others. What a quantiser puts out has with its input the covariance that it has
    with itself (Gersho, Gray: "Vector quantization and signal compression", 1992, section 6.2), so that <d, a> is the
    energy of what is left; the projection <d, a> / |a| would count it twice as lost. What else the encoders did
    differently to the two branches is no part of a and cancels in the product, but for an error that the products of
    blocks tell: one standard error is taken off. Grain that was only weakened has less deviation than that root, and
    d has never less than what is left of a: the result is at most the deviation of d.
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


def label_of(strength: float) -> Literal[0, 1] | None:
    """1 from GRAINY on, 0 below CLEAN, None between."""
    if strength >= GRAINY:
        return 1
    return 0 if strength < CLEAN else None


def _prepared(block: Block, recipe: Recipe) -> Stack:
    """The scene, on the finer grid when the picture is to be reduced after grain."""
    stack = _through(from_block(block), recipe, "scene", recipe.scene, SCENES)
    if recipe.scale is not None and recipe.scale.factor < 1:
        return widen(stack, recipe.scale.factor)
    return stack


def _finished(stack: Stack, recipe: Recipe, block: Block) -> Stack:
    """Defects, scaling and processing: what follows grain, or would."""
    stack = _through(stack, recipe, "defects", recipe.defects, DEFECTS)
    if recipe.scale is not None:
        if recipe.scale.factor < 1:
            stack = reduce(stack, block.height, block.width, recipe.scale.taps)
        else:
            stack = enlarge(stack, recipe.scale.factor, recipe.scale.taps)
    return _through(stack, recipe, "process", recipe.process, PROCESSES)


def _through(stack: Stack, recipe: Recipe, stage: str, effects: Sequence[Effect], family: Family) -> Stack:
    for number, effect in enumerate(effects):
        if effect.kind not in family:
            raise _unknown(f"step of {stage}", effect.kind)
        rng = _stream(recipe, stage, number)
        try:
            stack = family[effect.kind](stack, rng, **effect.values)
        except TypeError as error:
            raise DataError(f"the recipe's {effect.kind} has wrong values: {error}") from error
    return stack


def _stream(recipe: Recipe, stage: str, number: int = 0) -> np.random.Generator:
    return np.random.default_rng((recipe.seed, _STAGES[stage], number))


def _unknown(what: str, name: str) -> DataError:
    return DataError(f"the recipe names an unknown {what}: {name}", hint="It comes from another version of grainscan.")


def _padded(block: Block) -> Block:
    height, width = (max(_SMALLEST, -(-side // _EVEN) * _EVEN) for side in (block.height, block.width))
    if (height, width) == (block.height, block.width):
        return block
    planes = []
    for number, plane in enumerate(block.planes):
        sub = (block.format.sub_h, block.format.sub_w) if number and block.format.layout == "yuv" else (0, 0)
        missing = [(0, (side >> s) - have) for side, s, have in zip((height, width), sub, plane.shape[1:], strict=True)]
        planes.append(np.pad(plane, [(0, 0), *missing], mode="edge"))
    return Block(tuple(planes), block.format)
