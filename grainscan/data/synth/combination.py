"""Several artifacts in one clip, as real footage has them: drawn, carried out, and labelled each by itself.

Artifacts of the source come before the encoders in random order, those of the delivery after them. Each is labelled by
comparison with the same clip made without it, and an artifact that another one or an encoder has undone is not
labelled 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Self

import numpy as np

from grainscan.data.synth.drawing import PLAIN, draw_setting, pick
from grainscan.data.synth.recipe import BaseRecipe, Surroundings
from grainscan.data.synth.twins import Artifacts, Branches, Label, label_of
from grainscan.errors import ConfigError
from grainscan.tasks import SYNTHESISED, task_of
from grainscan.video import Block

NUMBER = {1: 0.5, 2: 0.25, 3: 0.15, 4: 0.1}  # probability of so many artifacts, if so many are asked for


def synthesiser(task: str) -> type[BaseRecipe]:
    """The class of a task's recipes. Raises ConfigError for tasks that cannot be synthesised."""
    module = task_of(task).synthesiser
    if module is None:
        raise ConfigError(f"{task!r} cannot be synthesised", hint=f"Tasks that can: {', '.join(SYNTHESISED)}.")
    recipe: type[BaseRecipe] = import_module(f"{__package__}.{module}").Recipe
    return recipe


@dataclass(frozen=True)
class Combination(Surroundings):
    """A recipe with any number of artifacts in order. Of each, only its own fields and its seed matter."""

    artifacts: Artifacts = ()

    @classmethod
    def draw(cls, rng: np.random.Generator, tasks: Sequence[str], *, width: int, height: int) -> Self:
        """A random combination of some of `tasks` for a clip of this size."""
        number = pick(rng, {number: chance for number, chance in NUMBER.items() if number <= len(tasks)})
        chosen = [tasks[i] for i in rng.permutation(len(tasks))[:number]]
        setting = draw_setting(rng, PLAIN, width=width, height=height)
        artifacts = []
        for task in chosen:
            drawn = synthesiser(task).draw(rng, width=width, height=height)
            needed = tuple(effect for effect in drawn.scene if effect.kind in drawn.own_scene)
            kinds = {effect.kind for effect in needed}
            setting["scene"] = (*needed, *(effect for effect in setting["scene"] if effect.kind not in kinds))
            artifacts.append(replace(drawn, scene=(), defects=(), scale=None, process=(), encode=()))
        artifacts.sort(key=lambda one: one.stage == "delivery")  # stable: otherwise as drawn
        return cls(artifacts=tuple(artifacts), **setting)

    def clean(self) -> Self:
        """The same recipe without an artifact."""
        return replace(self, artifacts=())

    def to_dict(self) -> dict[str, Any]:
        """JSON values, from which the same pixels can be made again."""
        return {"seed": self.seed, "artifacts": [one.artifact() for one in self.artifacts], **self.shared()}

    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        artifacts = (synthesiser(record["task"]).from_dict(record) for record in values.get("artifacts", ()))
        return {**values, "artifacts": tuple(artifacts)}


@dataclass(frozen=True, eq=False)
class Made:
    """A clip at the end, and what is known of each task."""

    block: Block
    labels: Mapping[str, Label]
    strength: Mapping[str, float]


def combine(block: Block, recipe: Combination, tasks: Sequence[str]) -> tuple[Made, Made]:
    """Carry out the recipe without and with its artifacts: the clean clip and the affected one.

    Both are labelled for each of `tasks`. Raises DataError if an encoder refuses the clip.
    """
    branches = Branches(block, recipe)
    return _made(branches, (), tasks), _made(branches, recipe.artifacts, tasks)


def _made(branches: Branches, artifacts: Artifacts, tasks: Sequence[str]) -> Made:
    there = {one.task for one in artifacts}
    labels: dict[str, Label] = {}
    strengths: dict[str, float] = {}
    for task in tasks:
        recipe = synthesiser(task)
        strengths[task] = branches.strength(recipe, artifacts)
        labels[task] = label_of(recipe, strengths[task], put_in=task in there)
    return Made(branches.after(artifacts), labels, strengths)
