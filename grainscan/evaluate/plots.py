"""Pictures of an evaluation: ROC curve, precision over recall, reliability diagram.

Drawn by `evaluate` into the folder of `--plots`, one PNG a task and kind. Matplotlib is imported on use, with its
file-only backend: no display is needed and none is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grainscan.errors import OutputError
from grainscan.evaluate import metrics
from grainscan.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, MUTED, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_COLOURS = ("#d9480f", "#1971c2", "#868e96", "#2b8a3e")  # the model first
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
_INCHES, _DPI = (5.4, 5.0), 150


def draw(
    folder: Path,
    truths: Mapping[str, np.ndarray],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    thresholds: Mapping[str, float],
) -> list[Path]:
    """Write `TASK_roc.png`, `TASK_pr.png` and `TASK_reliability.png`; the paths written.

    truths[task] (n,) of 0 and 1; scores[task] names scores (n,), the model's probabilities first, to compare.
    Tasks with a single class have no curves and get the reliability diagram alone. Raises OutputError.
    """
    import matplotlib as mpl

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            for task, truth in truths.items():
                if not truth.size:
                    continue
                if 0 < truth.sum() < truth.size:
                    written.append(save(_roc(task, truth, scores[task], thresholds[task]), folder, f"{task}_roc"))
                    written.append(save(_pr(task, truth, scores[task], thresholds[task]), folder, f"{task}_pr"))
                probability = next(iter(scores[task].values()))
                written.append(save(_reliability(task, truth, probability), folder, f"{task}_reliability"))
    except OSError as error:
        raise OutputError(
            f"{folder}: pictures cannot be written: {error.strerror or error}",
            hint="Name a folder that can be written.",
        ) from None
    return written


def _roc(task: str, truth: np.ndarray, scores: Mapping[str, np.ndarray], threshold: float) -> Figure:
    from sklearn.metrics import roc_curve

    figure, axes = _square(f"ROC · {_title(task)}", "false positive rate", "true positive rate (recall)")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    for index, (name, score) in enumerate(scores.items()):
        x, y, _ = roc_curve(truth, score, drop_intermediate=False)
        area = metrics.auroc(truth, score)
        axes.plot(x, y, label=f"{_plain(name)}   AUROC {area:.3f}", **line_style(index))
    (tn, fp), (fn, tp) = metrics.confusion(truth, next(iter(scores.values())), threshold)
    _mark(axes, fp / (fp + tn), tp / (tp + fn), threshold)
    axes.legend(loc="lower right")
    return figure


def _pr(task: str, truth: np.ndarray, scores: Mapping[str, np.ndarray], threshold: float) -> Figure:
    from sklearn.metrics import precision_recall_curve

    figure, axes = _square(f"Precision and recall · {_title(task)}", "recall", "precision")
    axes.axhline(truth.mean(), color=MUTED, linewidth=1, linestyle=":")
    axes.annotate(f"prevalence {truth.mean():.2f}", (0.01, truth.mean() + 0.012), color=MUTED, fontsize=9)
    for index, (name, score) in enumerate(scores.items()):
        precision, recall, _ = precision_recall_curve(truth, score)
        area = metrics.average_precision(truth, score)
        axes.step(recall[::-1], precision[::-1], label=f"{_plain(name)}   AP {area:.3f}", **line_style(index))
    (_, fp), (fn, tp) = metrics.confusion(truth, next(iter(scores.values())), threshold)
    if tp + fp:
        _mark(axes, tp / (tp + fn), tp / (tp + fp), threshold)
    axes.legend(loc="best")
    return figure


def _reliability(task: str, truth: np.ndarray, probability: np.ndarray) -> Figure:
    """Observed against predicted frequency above, the number of clips in each bin below."""
    from matplotlib.figure import Figure

    diagram = metrics.reliability(truth, probability)
    full = diagram.count > 0
    centre, width = (diagram.edges[:-1] + diagram.edges[1:]) / 2, 0.9 * np.diff(diagram.edges)
    figure = Figure(figsize=_INCHES, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    upper.set(title=f"Reliability · {_title(task)}   ECE {diagram.ece:.3f}", ylabel="observed frequency")
    upper.bar(centre[full], diagram.observed[full], width[full], color=_COLOURS[0], alpha=0.28)
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    error = _wilson(diagram.observed[full], diagram.count[full])
    upper.errorbar(
        diagram.probability[full], diagram.observed[full], error, fmt="o", color=_COLOURS[0], elinewidth=1, markersize=5
    )
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
    lower.bar(centre, diagram.count, width, color=MUTED)
    lower.set(xlabel="predicted probability", ylabel="clips")
    return figure


def _wilson(part: np.ndarray, count: np.ndarray, z: float = 1.96) -> np.ndarray:
    """Distances (2, n) from a frequency to the ends of its 95 % interval (Wilson, JASA 22, 1927)."""
    centre = (part + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(part * (1 - part) / count + z**2 / (4 * count**2))
    return np.maximum(0, np.stack([part - (centre - half), centre + half - part]))


def _square(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def line_style(index: int) -> dict[str, Any]:
    """How the curve with this number is drawn: the first one is bold."""
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "linewidth": 2.4 if index == 0 else 1.6,
        "linestyle": "-" if index == 0 else "--",
        "zorder": 3 if index == 0 else 2,
    }


def _mark(axes: Axes, x: float, y: float, threshold: float) -> None:
    """The point where the model works."""
    axes.plot(x, y, "o", color="white", markeredgecolor=_COLOURS[0], markeredgewidth=2, markersize=8, zorder=4)
    right = x > 0.7
    axes.annotate(
        f"threshold {threshold:.2g}",
        (x, y),
        xytext=(-10 if right else 10, -14),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=9,
    )


def _title(task: str) -> str:
    return task.replace("_", " ")


def _plain(name: str) -> str:
    """A name as it is: no mathematics between dollars, and no leading underscore, which hides a curve."""
    return name.replace("$", r"\$").lstrip("_")


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write FOLDER/NAME.png as a whole; the path. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    path = folder / f"{name}.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)
    return path
