"""Checks before torch is loaded: a wrong folder, faulty labels, a run that exists. Well under a second.

`prepare` finds the same faults, but only after seconds of imports.
"""

from __future__ import annotations

from pathlib import Path

from grainscan.data.labels import LABELS_FILE, find_split, nothing_known, read_labels
from grainscan.data.manifest import read_manifest
from grainscan.model.spec import starting_spec
from grainscan.options import TrainConfig
from grainscan.train.roles import Roles, assign
from grainscan.train.run import find_run


def check(config: TrainConfig) -> None:
    """Raises LabelsError for data that cannot be trained on, ConfigError for a run that cannot be written.

    And what `assign` raises for tasks that cannot be learnt.
    """
    for folder in filter(None, split_folders(config.data)):
        read_labels(folder)
        read_manifest(folder, brief=True)
    find_run(config.runs, config.name, resume=config.resume, model=config.model)
    find_roles(config)


def find_roles(config: TrainConfig) -> Roles:
    """The role of each task. Raises LabelsError, ModelError, ConfigError, UsageError."""
    folder = split_folders(config.data)[0]
    labelled = read_labels(folder).tasks
    if not labelled:
        raise nothing_known(folder, "train again")
    start = None if config.scratch else starting_spec(config.model)
    return assign(config, labelled, start)


def split_folders(data: Path) -> tuple[Path, Path | None]:
    """The folders of the training and the validation clips (None: there are none). Raises LabelsError."""
    if not (data / "train" / LABELS_FILE).is_file():
        return find_split(data), None
    val = data / "val"
    return data / "train", val if (val / LABELS_FILE).is_file() else None
