"""Carrying out recipes: a clean clip becomes clips that differ only in their artifacts, labelled by what survives.

All branches of a clip go through the same scene, defects, processing and encoders. For each artifact, the clip is made
once more without it. The difference of the two before encoding is the artifact; how much of it survives is measured on
their difference at the end. Neither strength nor label depends on the strength that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from grainscan.data.synth.defects import DEFECTS
from grainscan.data.synth.encoding import encode
from grainscan.data.synth.process import PROCESSES, enlarge, rescale, widen
from grainscan.data.synth.recipe import BaseRecipe, Steps, Surroundings, unknown
from grainscan.data.synth.scene import SCENES
from grainscan.data.synth.stack import Array, Stack, Step, from_block, to_block
from grainscan.errors import DataError
from grainscan.video import Block

_EFFECTS: Mapping[Steps, Mapping[str, Step]] = {"scene": SCENES, "defects": DEFECTS, "process": PROCESSES}
# Each step has its own random numbers.
_STREAMS = {"scene": 1, "artifact": 2, "defects": 3, "process": 4, "delivery": 5}

Artifacts = tuple[BaseRecipe, ...]
Label = Literal[0, 1] | None  # None: in between


@dataclass(frozen=True, eq=False)
class Synthesis:
    """Both branches before encoding. `added`: (frames, height, width), affected minus clean luma, 8-bit codes."""

    affected: Block
    clean: Block
    added: Array


@dataclass(frozen=True, eq=False)
class Twin:
    """Both branches at the end, with their strengths and labels."""

    clean: Block
    affected: Block
    strength: float  # of the artifact in `affected`, in the unit of the task's record
    label: Label
    clean_strength: float = 0.0  # in `clean`: what footage or encoders do by themselves
    clean_label: Label = 0


@dataclass(eq=False)
class Branches:
    """The branches of a clip, which differ in their artifacts alone. Nothing is carried out twice.

    Branches are known by the identity of their artifacts: recipes cannot be hashed, and live as long as the caller.
    """

    block: Block
    surroundings: Surroundings
    _scene: Stack | None = None
    _before: dict[tuple[int, ...], Block] = field(default_factory=dict)
    _encoded: list[tuple[Block, Block]] = field(default_factory=list)
    _after: dict[tuple[int, ...], Block] = field(default_factory=dict)

    def before(self, artifacts: Iterable[BaseRecipe]) -> Block:
        """The clip with these artifacts, in this order, up to the encoders. Raises DataError for an unknown step."""
        acting = tuple(one for one in artifacts if type(one).affect is not BaseRecipe.affect)
        key = tuple(map(id, acting))
        if key not in self._before:
            stack = self._in_front()
            for one in acting:
                stack = one.affect(stack, _stream(one, "artifact"))
            self._before[key] = to_block(_finished(stack, self.surroundings, self.block))
        return self._before[key]

    def after(self, artifacts: Artifacts) -> Block:
        """The clip at the end. Raises DataError if an encoder refuses it."""
        key = tuple(map(id, artifacts))
        if key not in self._after:
            block = self._through_encoders(self.before(artifacts))
            for one in artifacts:
                block = one.deliver(block, _stream(one, "delivery"))
            self._after[key] = block
        return self._after[key]

    def strength(self, recipe: type[BaseRecipe], artifacts: Artifacts) -> float:
        """How strong the artifact of `recipe` is in the clip with `artifacts`."""
        decoded = self.after(artifacts)
        strength = recipe.standing(self.before(artifacts), decoded)
        for one in artifacts:
            if one.task == recipe.task:
                others = tuple(other for other in artifacts if other is not one)
                picture = self.before(others).luma8()
                added = one.of_itself(self.before(artifacts).luma8() - picture, picture)
                strength = max(strength, one.strength(self.after(others), decoded, added))
        return strength

    def _in_front(self) -> Stack:
        if self._scene is None:
            self._scene = _through(from_block(self.block), self.surroundings, "scene")
            scale = self.surroundings.scale
            if scale is not None and scale.factor < 1:
                self._scene = widen(self._scene, scale.factor)
        return self._scene

    def _through_encoders(self, block: Block) -> Block:
        for known, encoded in self._encoded:
            if all(map(np.array_equal, known.planes, block.planes)):
                return encoded
        self._encoded.append((block, encode(block, self.surroundings.encode)))
        return self._encoded[-1][1]


def label_of(recipe: type[BaseRecipe], strength: float, *, put_in: bool) -> Label:
    """The label of a clip. What was put in and is gone may be a label of 0 or none: `undone` says."""
    label = recipe.label_of(strength)
    return recipe.undone if put_in and label == 0 else label


def apply(block: Block, recipe: BaseRecipe) -> Synthesis:
    """Carry out the recipe up to the encoders. Raises DataError if it contains an unknown step."""
    branches = Branches(block, recipe)
    clean = branches.before(())
    if recipe == recipe.clean():
        return Synthesis(clean, clean, np.zeros(clean.planes[0].shape, np.float32))
    affected = branches.before((recipe,))
    return Synthesis(affected, clean, affected.luma8() - clean.luma8())


def twin(block: Block, recipe: BaseRecipe) -> Twin:
    """Carry out the recipe on both branches and measure what survives. Raises DataError if an encoder refuses."""
    branches, kind = Branches(block, recipe), type(recipe)
    clean, standing = branches.after(()), branches.strength(kind, ())
    if recipe == recipe.clean():
        return Twin(clean, clean, standing, kind.label_of(standing), standing, kind.label_of(standing))
    strength = branches.strength(kind, (recipe,))
    label = label_of(kind, strength, put_in=True)
    return Twin(clean, branches.after((recipe,)), strength, label, standing, kind.label_of(standing))


def _finished(stack: Stack, recipe: Surroundings, block: Block) -> Stack:
    """The steps after the artifact: defects, scaling and processing."""
    stack = _through(stack, recipe, "defects")
    if recipe.scale is not None:
        if recipe.scale.factor < 1:
            stack = rescale(stack, block.height, block.width, recipe.scale.taps)
        else:
            stack = enlarge(stack, recipe.scale.factor, recipe.scale.taps)
    return _through(stack, recipe, "process")


def _through(stack: Stack, recipe: Surroundings, step: Steps) -> Stack:
    known = _EFFECTS[step]
    for number, effect in enumerate(getattr(recipe, step)):
        if effect.kind not in known:
            raise unknown(f"step of {step}", effect.kind)
        rng = _stream(recipe, step, number)
        try:
            stack = known[effect.kind](stack, rng, **effect.values)
        except TypeError as error:
            raise DataError(f"the recipe's {effect.kind} has wrong values: {error}") from error
    return stack


def _stream(recipe: Surroundings, step: str, number: int = 0) -> np.random.Generator:
    return np.random.default_rng((recipe.seed, _STREAMS[step], number))
