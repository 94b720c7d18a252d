"""What is refused before torch is loaded: a wrong folder, faulty labels, a run that exists. Takes well under a second.

`setup` meets the same faults later; the command line asks here first, so that nobody waits for an error message.
"""

from __future__ import annotations

from pathlib import Path

from grainscan.data.labels import LABELS_FILE, find_split, read_labels
from grainscan.data.manifest import read_manifest
from grainscan.options import TrainConfig
from grainscan.train.run import find_run


def check(config: TrainConfig) -> None:
    """Raises LabelsError for data that cannot be trained on, ConfigError for a run that cannot be written."""
    for folder in split_folders(config.data):
        if folder is not None:
            read_labels(folder)
            read_manifest(folder, brief=True)
    find_run(config.runs, config.name, resume=config.resume, model=config.model)


def split_folders(data: Path) -> tuple[Path, Path | None]:
    """The folders to train on and to validate on; None for data that is not split. Raises LabelsError."""
    if not (data / "train" / LABELS_FILE).is_file():
        return find_split(data), None
    val = data / "val"
    return data / "train", val if (val / LABELS_FILE).is_file() else None
