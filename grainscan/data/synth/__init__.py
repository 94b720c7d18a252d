"""Artifact synthesis: clean clips in, clips with a known artifact out, labelled by what survives encoding.

In use:

    rng = np.random.default_rng(seed)
    recipe = draw("graininess", rng, width=128, height=128)
    pair = twin(block, recipe)  # pair.grainy, pair.clean, pair.strength, pair.label

The modules:

    recipe    what is done, as data                    grain       the grain itself
    drawing   the distribution of recipes              defects     dirt, scratches, flicker, frozen noise
    twins     carrying a recipe out, measuring         negatives   combs, fades, camera shake
    stack     float planes, filters, scaling           textures    foliage, water, gravel, fabric, text, screens
    fields    random fields with a given spectrum      process     sharpening, denoising, scaling after grain
"""

from __future__ import annotations

from grainscan.data.synth.drawing import TASKS, draw
from grainscan.data.synth.recipe import Effect, Generation, Grain, Recipe, Scale
from grainscan.data.synth.twins import CLEAN, GRAINY, Synthesis, Twin, apply, degrade, encode, label_of, surviving, twin

__all__ = [
    "CLEAN",
    "GRAINY",
    "TASKS",
    "Effect",
    "Generation",
    "Grain",
    "Recipe",
    "Scale",
    "Synthesis",
    "Twin",
    "apply",
    "degrade",
    "draw",
    "encode",
    "label_of",
    "surviving",
    "twin",
]
