"""The folder of a training run, and what a finished training returns. Imports no torch."""

from __future__ import annotations

import csv
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from grainscan.errors import ConfigError
from grainscan.files import check_folder, replacing
from grainscan.model.last_run import last_run
from grainscan.results import Report

CONFIG = "config.toml"  # the options, for `--config`
METRICS = "metrics.json"  # steps, time, and validation figures before and after
HISTORY = "history.csv"  # figures by step
CURVES = "curves.png"  # the history as a picture
CARD = "README.md"  # the card of the model in `model/`
CHECKPOINTS = "checkpoints"  # for `--resume`
START = "start.safetensors"  # in CHECKPOINTS: the weights before the first step, if they can be kept
TENSORBOARD = "tensorboard"  # events, with `--tensorboard`


def world_size() -> int:
    """The number of processes of this training, which torchrun sets in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes the run."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, and the checkpoint to resume from (None: a fresh start)."""

    path: Path
    checkpoint: Path | None = None

    def options(self) -> dict[str, Any]:
        """The options that the run was started with; empty if they cannot be read."""
        try:
            return dict(tomllib.loads((self.path / CONFIG).read_text(encoding="utf-8"))["train"])
        except (OSError, KeyError, ValueError):
            return {}


def find_run(runs: Path, name: str | None, *, resume: str | None, model: str) -> RunFolder:
    """The folder of a new run or of the one to resume.

    Raises ConfigError if it exists or cannot be resumed, UsageError if it cannot be written. A new run without a name
    is named after its model, the date and the time.
    """
    if resume == "auto":
        if name:
            directory = runs / name
        elif last := last_run():
            directory = last.directory
        else:
            raise ConfigError("--resume auto: no run was started here", hint="Name the run with --name NAME.")
        return RunFolder(directory, _last_checkpoint(directory / CHECKPOINTS))
    if resume:
        checkpoint = Path(resume)
        if not (checkpoint / "trainer_state.json").is_file():
            hint = "Pass runs/NAME/checkpoints/checkpoint-N, or auto."
            raise ConfigError(f"--resume {checkpoint}: not a checkpoint", hint=hint)
        return RunFolder(checkpoint.absolute().parent.parent, checkpoint)
    if not name and world_size() > 1:
        raise ConfigError("a training of several processes needs a name", hint="Pass --name NAME.")
    name = name or f"{Path(model).name}-{datetime.now():%Y%m%d-%H%M%S}"
    directory = runs / name
    if name in (".", "..") or Path(name).name != name:
        raise ConfigError(f"--name {name}: not a plain name", hint="It becomes the name of a folder in --runs.")
    if is_main() and directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(f"{directory}: already exists", hint="Choose another --name, or add --resume auto.")
    check_folder(directory)
    return RunFolder(directory)


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run (Trainer writes trainer_state.json last)."""
    found = folder.glob("checkpoint-*/trainer_state.json")
    return max((path.parent for path in found), key=lambda path: int(path.name.split("-")[1]), default=None)


@dataclass(frozen=True)
class Run(Report):
    """A finished training: `metrics` as in metrics.json, `history` as in history.csv."""

    name: str
    directory: Path
    model: Path
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    seconds: float  # export and calibration included

    @property
    def verdict(self) -> str:
        """What the training gained on the validation clips; empty if nothing can be compared."""
        return verdict(self.metrics)


def verdict(metrics: Mapping[str, Any]) -> str:
    """From metrics.json: `no gain: 0.971 before, 0.942 after (validation AUROC); the starting model was kept`."""
    before, after = metrics.get("before"), metrics.get("after")
    if not before or not after:
        return ""
    names = [name for name in before if name.startswith("auroc_") and name in after] or ["loss"]
    if not before.keys() >= set(names):
        return ""
    first, last = (sum(figures[name] for name in names) / len(names) for figures in (before, after))
    quantity = "validation loss" if names == ["loss"] else "validation AUROC"
    kept = metrics["best_step"] == 0
    gained = last < first if names == ["loss"] else last > first
    text = f"{'gain' if gained and not kept else 'no gain'}: {first:.3f} before, {last:.3f} after ({quantity})"
    if kept:
        return f"{text}; the starting model was kept"
    if last == first and after["loss"] < before.get("loss", after["loss"]):
        return f"{text}, but the loss fell from {before['loss']:.3f} to {after['loss']:.3f}"
    return text


STRENGTH_ERROR = "strength error"  # mean absolute error of log2(1 + strength)
FIGURES = ("AUROC before", "AUROC after", STRENGTH_ERROR, "clips", "AUROC of clips", "F1", "threshold")


def task_figures(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By task, those of FIGURES that metrics.json holds.

    AUROC before and after and the strength error are of a few views of each validation clip; the others of whole clips,
    judged as in `predict`.
    """
    kept, before, after = (metrics.get(key) or {} for key in ("validation", "before", "after"))
    fitted = metrics.get("calibration") or {}
    names = [key.removeprefix(kind) for key in kept for kind in ("auroc_", "strength_error_") if key.startswith(kind)]
    found = {}
    for task in dict.fromkeys([*names, *fitted.get("clips", {})]):
        views = (before.get(f"auroc_{task}"), after.get(f"auroc_{task}"), kept.get(f"strength_error_{task}"))
        whole = (fitted.get(key, {}).get(task) for key in ("clips", "auroc", "f1", "threshold"))
        pairs = zip(FIGURES, (*views, *whole), strict=True)
        found[task] = {name: value for name, value in pairs if value is not None}
    return found


def write_history(path: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """Write one row per step, its losses and validation figures merged; columns in order of appearance."""
    merged: dict[int, dict[str, float]] = {}
    columns: dict[str, None] = {"step": None}
    for row in rows:
        merged.setdefault(int(row["step"]), {}).update(row)
        columns.update(dict.fromkeys(row))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(merged[step] for step in sorted(merged))
