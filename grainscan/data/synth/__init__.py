"""Artifact synthesis: clean clips in, clips with known artifacts out, labelled by what survives encoding.

    recipe = synthesiser("graininess").draw(rng, width=128, height=128)
    pair = twin(block, recipe)  # pair.affected, pair.clean, pair.strength, pair.label
    several = Combination.draw(rng, ("banding", "spatial_blur"), width=384, height=384)
    clean, affected = combine(block, several, ("banding", "spatial_blur"))  # each with labels and strengths

To synthesise another artifact, write a module with a class `Recipe` derived from `BaseRecipe` and name the module in
the task's record, as `spatial_blur` does (or `graininess`, with `grain` for its random fields). What they share:

    recipe       what is done, as data                 process     sharpening, denoising, scaling after the artifact
    drawing      how often and how strongly            defects     dirt, scratches, flicker, frozen noise
    twins        all branches, strength and label      scene       combs, fades, poor light, camera motion
    combination  several artifacts in one clip         fields      random fields with a given spectrum
    encoding     chains of encoders, what survives     stack       float planes, filters, scaling
"""

from __future__ import annotations

from grainscan.data.synth.combination import Combination, Made, combine, synthesiser
from grainscan.data.synth.encoding import Generation, encode, surviving
from grainscan.data.synth.recipe import BaseRecipe, Effect, Scale
from grainscan.data.synth.twins import Synthesis, Twin, apply, twin

__all__ = [
    "BaseRecipe",
    "Combination",
    "Effect",
    "Generation",
    "Made",
    "Scale",
    "Synthesis",
    "Twin",
    "apply",
    "combine",
    "encode",
    "surviving",
    "synthesiser",
    "twin",
]
