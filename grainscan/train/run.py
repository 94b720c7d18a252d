"""A training run as files: its history, its learning curves, its card."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grainscan.files import replacing

HISTORY_FILE = "history.csv"
METRICS_FILE = "metrics.json"
CONFIG_NAME = "config.toml"
CURVES_FILE = "curves.png"
CARD_FILE = "README.md"
CHECKPOINTS = "checkpoints"


class Progress:
    """What happens during a training, for whoever wants to show it. Each method may be overridden, none has to be."""

    def decoding(self, done: int, total: int) -> None:
        """`done` of `total` clips of a split are in the cache."""

    def begin(self, summary: Mapping[str, Any]) -> None:
        """Training starts; `summary` is what a dry run prints."""

    def step(self, step: int, total: int) -> None:
        """An optimiser step was made."""

    def row(self, row: Mapping[str, float]) -> None:
        """Figures for history.csv: loss, learning_rate and grad_norm, or validation (keys starting with `val_`)."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass(frozen=True)
class Run:
    """A finished training."""

    name: str
    directory: Path
    model: Path  # model directory
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    seconds: float


# ------------------------------------------------------------------------------------------------------- history


def write_history(path: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """One row a step, its losses and validation figures merged; columns in the order in which they appear."""
    merged: dict[int, dict[str, float]] = {}
    columns: dict[str, None] = {"step": None}
    for row in rows:
        merged.setdefault(int(row["step"]), {}).update(row)
        columns.update(dict.fromkeys(row))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(merged[step] for step in sorted(merged))


def read_history(path: Path) -> list[dict[str, float]]:
    """Rows of a history.csv; figures that a row has not are absent."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def draw_curves(path: Path, history: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> None:
    """Learning curves as a picture: losses, validation AUROC of each task, learning rate and gradient norm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("loss", {"loss": "training", "val_loss": "validation"}, "linear"),
        ("validation AUROC", {f"val_auroc_{task}": task for task in tasks}, "linear"),
        ("learning rate, gradient norm", {"learning_rate": "learning rate", "grad_norm": "gradient norm"}, "log"),
    )
    for axis, (title, series, scale) in zip(figure.subplots(1, 3), panels, strict=True):
        for key, name in series.items():
            points = [(row["step"], row[key]) for row in history if row.get(key) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None)
        axis.set(title=title, xlabel="step", yscale=scale)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


# ---------------------------------------------------------------------------------------------------------- card


def card_body(summary: Mapping[str, Any], figures: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """The part of a model card that tells of its training: figures, data, configuration, versions."""
    parts = ["", "## Figures", "", *_figures_table(figures), "", "## Data", "", *_data_table(summary["data"])]
    parts += [f"- {leak}" for leak in summary["data"]["leaks"]]
    if summary["left_out"]:
        parts.append(f"- left out, cannot be decoded: {', '.join(summary['left_out'])}")
    model = summary["model"]
    parts += [
        "",
        "## Training",
        "",
        f"{origin['steps']} steps of {summary['views_per_step']} views in {summary['precision']}, "
        f"{model['trainable']:,} of {model['parameters']:,} parameters trained.",
        "",
        "```toml",
        summary["config"].rstrip(),
        "```",
        "",
        "Versions: " + ", ".join(f"{name} {origin[name]}" for name in ("grainscan", "torch", "transformers")) + ".",
        "",
    ]
    return "\n".join(parts)


def _figures_table(figures: Mapping[str, Any]) -> list[str]:
    validation = figures.get("validation")
    if validation is None:
        return ["Trained without validation clips."]
    rows = [f"| {key} | {value:.4f} |" for key, value in validation.items() if isinstance(value, float)]
    head = f"| validation, {validation['clips']} clips, step {figures['best_step']} | |"
    return [head, "|---|---|", *rows]


def _data_table(data: Mapping[str, Any]) -> list[str]:
    lines = ["| split | clips | sources | task | 0 | 1 | unknown |", "|---|---|---|---|---|---|---|"]
    for split, clips in data["splits"].items():
        for task, counts in clips["tasks"].items():
            numbers = " | ".join(str(counts[key]) for key in ("negative", "positive", "unknown"))
            lines.append(f"| {split} | {clips['clips']} | {clips['sources']} | {task} | {numbers} |")
    return lines
