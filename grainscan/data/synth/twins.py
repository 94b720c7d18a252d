"""Carrying out a recipe: a clean clip becomes a pair that differs only in the artifact, labelled by what survives.

Both branches go through the same scene, defects, processing and encoders. Their difference before encoding is the
artifact; how much of it survives is measured on their difference after decoding. Neither strength nor label depends on
the strength that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from grainscan.data.synth.defects import DEFECTS
from grainscan.data.synth.encoding import encode
from grainscan.data.synth.process import PROCESSES, enlarge, rescale, widen
from grainscan.data.synth.recipe import BaseRecipe, Stage, unknown
from grainscan.data.synth.scene import SCENES
from grainscan.data.synth.stack import Array, Stack, Step, from_block, to_block
from grainscan.errors import DataError
from grainscan.video import Block

_EFFECTS: Mapping[Stage, Mapping[str, Step]] = {"scene": SCENES, "defects": DEFECTS, "process": PROCESSES}
_STREAMS = {"scene": 1, "artifact": 2, "defects": 3, "process": 4}  # each stage has its own random numbers


@dataclass(frozen=True, eq=False)
class Synthesis:
    """Both branches before encoding. `added`: (frames, height, width), affected minus clean luma, 8-bit codes."""

    affected: Block
    clean: Block
    added: Array


@dataclass(frozen=True, eq=False)
class Twin:
    """Both branches after encoding, and the strength and label of `affected`."""

    clean: Block
    affected: Block
    strength: float  # what is left of the artifact, in the unit of the task's record
    label: Literal[0, 1] | None  # None: in between


def apply(block: Block, recipe: BaseRecipe) -> Synthesis:
    """Carry out the recipe up to the encoders. Raises DataError if it contains an unknown step."""
    scene = _through(from_block(block), recipe, "scene")
    if recipe.scale is not None and recipe.scale.factor < 1:
        scene = widen(scene, recipe.scale.factor)
    clean = to_block(_finished(scene, recipe.clean(), block))
    if recipe == recipe.clean():
        return Synthesis(clean, clean, np.zeros(clean.planes[0].shape, np.float32))
    stack = recipe.affect(scene, _stream(recipe, "artifact"))
    affected = to_block(_finished(stack, recipe, block))
    return Synthesis(affected, clean, affected.luma8() - clean.luma8())


def twin(block: Block, recipe: BaseRecipe) -> Twin:
    """Carry out the recipe on both branches and measure what survives. Raises DataError if an encoder refuses."""
    made = apply(block, recipe)
    clean = encode(made.clean, recipe.clean().encode)
    if recipe == recipe.clean():
        return Twin(clean, clean, 0.0, 0)
    affected = encode(made.affected, recipe.encode)
    strength = recipe.strength(clean, affected, made.added)
    return Twin(clean, affected, strength, recipe.label_of(strength))


def _finished(stack: Stack, recipe: BaseRecipe, block: Block) -> Stack:
    """The steps after the artifact: defects, scaling and processing."""
    stack = _through(stack, recipe, "defects")
    if recipe.scale is not None:
        if recipe.scale.factor < 1:
            stack = rescale(stack, block.height, block.width, recipe.scale.taps)
        else:
            stack = enlarge(stack, recipe.scale.factor, recipe.scale.taps)
    return _through(stack, recipe, "process")


def _through(stack: Stack, recipe: BaseRecipe, stage: Stage) -> Stack:
    known = _EFFECTS[stage]
    for number, effect in enumerate(getattr(recipe, stage)):
        if effect.kind not in known:
            raise unknown(f"step of {stage}", effect.kind)
        rng = _stream(recipe, stage, number)
        try:
            stack = known[effect.kind](stack, rng, **effect.values)
        except TypeError as error:
            raise DataError(f"the recipe's {effect.kind} has wrong values: {error}") from error
    return stack


def _stream(recipe: BaseRecipe, stage: str, number: int = 0) -> np.random.Generator:
    return np.random.default_rng((recipe.seed, _STREAMS[stage], number))
