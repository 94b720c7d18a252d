"""What a training does with each task: learn it, keep it as it is, or measure it. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from grainscan.errors import ConfigError, UsageError
from grainscan.model.spec import TASK_NAME, ModelSpec
from grainscan.options import TrainConfig, names_in
from grainscan.tasks import task_of


@dataclass(frozen=True)
class Roles:
    """The tasks of the new model. Those of its network are the kept ones, then the learnt ones."""

    learnt: tuple[str, ...]  # from the labels
    kept: tuple[str, ...] = ()  # of the starting model: their adapters stay as they are
    measured: tuple[str, ...] = ()  # by a formula, which learns nothing
    fitted: tuple[str, ...] = ()  # calibrated on the validation clips

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those of the network."""
        return (*self.kept, *self.learnt)


def assign(config: TrainConfig, labelled: Sequence[str], start: ModelSpec | None) -> Roles:
    """The role of each task of a training on clips that are `labelled` for some tasks.

    By default the new model has the tasks that are labelled or named by --tasks, and no others; measured ones are
    calibrated on their labels. With --add-task it has those of the starting model, too, all of them as they were. With
    --tune picture it keeps the tasks that views alone judge, and every measured one; the others are learnt.

    labelled: the tasks with a known label, at least one.
    start: the specification of the starting model, None for a bare backbone.
    Raises ConfigError or UsageError if a task cannot have the role that the options ask for.
    """
    if config.add_task:
        return _added(names_in(config.add_task), labelled, start)
    wanted = names_in(config.tasks) or tuple(labelled)
    measured = tuple(task for task in wanted if task_of(task).measured)
    learnt = tuple(task for task in wanted if not task_of(task).measured)
    kept: tuple[str, ...] = ()
    if config.tune == "picture":
        if start is None or not start.statistics:
            hint = "Start from a model that reads them, such as the embedded one, or choose another --tune."
            raise ConfigError(f"--tune picture: {config.model} reads no statistics of the picture", hint=hint)
        kept = tuple(task for task in start.tasks if not start.by_statistics(task))
        measured = tuple(dict.fromkeys((*start.measured, *measured)))
        learnt = tuple(task for task in learnt if task not in kept)
    if not learnt:
        what = f"{', '.join(wanted)} {'is' if len(wanted) == 1 else 'are'} only kept or measured"
        hint = "A measured task is a formula, and a kept one stays as it is. Label or name an artifact that is learnt."
        raise UsageError(f"nothing to learn: {what}", hint=hint)
    return Roles(learnt, kept, measured, (*learnt, *(task for task in measured if task in labelled)))


def _added(names: Sequence[str], labelled: Sequence[str], start: ModelSpec | None) -> Roles:
    """The roles with --add-task."""
    flag = f"--add-task {','.join(names)}"
    if start is None:
        raise ConfigError(f"{flag}: the starting model has no tasks yet", hint="Train without --add-task.")
    for name in names:
        if not re.fullmatch(TASK_NAME, name):
            raise ConfigError(f"{flag}: {name!r} is not a name", hint="Write it in snake_case, such as vignette.")
        if name in start.tasks:
            hint = f"To train it further: train --tasks {name} without --add-task, which makes a model for it alone."
            raise ConfigError(f"{flag}: {start.name} knows {name} already", hint=hint)
        if task_of(name).measured:
            raise ConfigError(f"{flag}: {name} is measured by a formula, not learnt", hint="Choose another name.")
    unlabelled = [name for name in names if name not in labelled]
    if unlabelled:
        hint = f"Labelled tasks: {', '.join(labelled) or 'none'}."
        raise UsageError(f"{flag}: no clip has a label for {', '.join(unlabelled)}", hint=hint)
    return Roles(tuple(names), start.tasks, start.measured, tuple(names))
