"""Artifact synthesis: clean clips in, clips with a known artifact out, labelled by what survives encoding.

    recipe = synthesiser("graininess").draw(rng, width=128, height=128)
    pair = twin(block, recipe)  # pair.affected, pair.clean, pair.strength, pair.label

To synthesise another artifact, write a module with a class `Recipe` derived from `BaseRecipe` and name the module in
the task's record, as `graininess` does (with `grain` for its random fields). What synthesisers share:

    recipe    what is done, as data                    process     sharpening, denoising, scaling after the artifact
    drawing   how often and how strongly               defects     dirt, scratches, flicker, frozen noise
    twins     both branches, strength and label        scene       combs, fades, poor light, camera shake
    encoding  chains of encoders, what survives them   fields      random fields with a given spectrum
    stack     float planes, filters, scaling
"""

from __future__ import annotations

from importlib import import_module

from grainscan.data.synth.encoding import Generation, encode, surviving
from grainscan.data.synth.recipe import BaseRecipe, Effect, Scale
from grainscan.data.synth.twins import Synthesis, Twin, apply, twin
from grainscan.errors import ConfigError
from grainscan.tasks import SYNTHESISED, task_of

__all__ = [
    "BaseRecipe",
    "Effect",
    "Generation",
    "Scale",
    "Synthesis",
    "Twin",
    "apply",
    "encode",
    "surviving",
    "synthesiser",
    "twin",
]


def synthesiser(task: str) -> type[BaseRecipe]:
    """The class of a task's recipes. Raises ConfigError for tasks that cannot be synthesised."""
    module = task_of(task).synthesiser
    if module is None:
        raise ConfigError(f"{task!r} cannot be synthesised", hint=f"Tasks that can: {', '.join(SYNTHESISED)}.")
    recipe: type[BaseRecipe] = import_module(f"{__name__}.{module}").Recipe
    return recipe
