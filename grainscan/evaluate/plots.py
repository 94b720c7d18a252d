"""Pictures of an evaluation: ROC curve, precision over recall, reliability diagram.

`draw` writes one PNG per task and kind into the folder of `--plots`. The learning curves of `train` share the style:
draw inside `matplotlib.rc_context(STYLE)`, with `line_style`, and end with `save_figure`. Matplotlib is imported on
use, with its file-only backend: no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from grainscan.evaluate import metrics
from grainscan.files import replacing, unwritable
from grainscan.tasks import task_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#d9480f", "#1971c2", "#868e96", "#2b8a3e")  # of curves, the most important one first
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
_INCHES, _DPI = (5.4, 5.0), 150
_LINE, _TITLE_LINE = 46, 38  # characters that fit across a picture


def draw(
    folder: Path,
    truths: Mapping[str, np.ndarray],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    thresholds: Mapping[str, float],
) -> list[Path]:
    """Write `TASK_roc.png`, `TASK_pr.png` and `TASK_reliability.png` and return their paths.

    truths[task] (n,) of 0 and 1; scores[task] maps names to scores (n,), the model's probabilities first. A task with a
    single class has no curves, only the reliability diagram; one without clips has no picture. Raises OutputError.
    """
    import matplotlib as mpl

    figures = {}
    with mpl.rc_context(STYLE):
        for task, truth in truths.items():
            if metrics.both_classes(truth):
                figures[f"{task}_roc"] = _roc(task, truth, scores[task], thresholds[task])
                figures[f"{task}_pr"] = _pr(task, truth, scores[task], thresholds[task])
            if truth.size:
                figures[f"{task}_reliability"] = _reliability(task, truth, next(iter(scores[task].values())))
        return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG, whole or not at all. Raises OutputError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=_DPI)
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def _roc(task: str, truth: np.ndarray, scores: Mapping[str, np.ndarray], threshold: float) -> Figure:
    from sklearn.metrics import roc_curve

    figure, axes = _square(f"ROC · {task_of(task).title}", "false positive rate", "true positive rate (recall)")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    for index, (name, score) in enumerate(scores.items()):
        x, y, _ = roc_curve(truth, score, drop_intermediate=False)
        area = metrics.auroc(truth, score)
        axes.plot(x, y, label=f"{_plain(name)}   AUROC {area:.3f}", **line_style(index))
    (tn, fp), (fn, tp) = metrics.confusion(truth, next(iter(scores.values())), threshold)
    _mark(axes, fp / (fp + tn), tp / (tp + fn), threshold)
    return _with_legend(figure, axes)


def _pr(task: str, truth: np.ndarray, scores: Mapping[str, np.ndarray], threshold: float) -> Figure:
    from sklearn.metrics import precision_recall_curve

    figure, axes = _square(f"Precision and recall · {task_of(task).title}", "recall", "precision")
    axes.axhline(truth.mean(), color=MUTED, linewidth=1, linestyle=":")
    axes.annotate(f"prevalence {truth.mean():.2f}", (0.01, truth.mean() + 0.012), color=MUTED, fontsize=9)
    for index, (name, score) in enumerate(scores.items()):
        precision, recall, _ = precision_recall_curve(truth, score)
        area = metrics.average_precision(truth, score)
        axes.step(recall[::-1], precision[::-1], label=f"{_plain(name)}   AP {area:.3f}", **line_style(index))
    (_, fp), (fn, tp) = metrics.confusion(truth, next(iter(scores.values())), threshold)
    if tp + fp:
        _mark(axes, tp / (tp + fn), tp / (tp + fp), threshold)
    return _with_legend(figure, axes)


def _reliability(task: str, truth: np.ndarray, probability: np.ndarray) -> Figure:
    """Observed against predicted frequency, above the number of clips per bin."""
    from matplotlib.figure import Figure

    diagram = metrics.reliability(truth, probability)
    full = diagram.count > 0
    centre, width = (diagram.edges[:-1] + diagram.edges[1:]) / 2, 0.9 * np.diff(diagram.edges)
    figure = Figure(figsize=_INCHES, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    title = fill(f"Reliability · {task_of(task).title} · ECE {diagram.ece:.3f}", _TITLE_LINE)
    upper.set(title=title, ylabel="observed frequency")
    upper.bar(centre[full], diagram.observed[full], width[full], color=COLOURS[0], alpha=0.28)
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
    error = _wilson(diagram.observed[full], diagram.count[full])
    upper.errorbar(
        diagram.probability[full], diagram.observed[full], error, fmt="o", color=COLOURS[0], elinewidth=1, markersize=5
    )
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
    lower.bar(centre, diagram.count, width, color=MUTED)
    lower.set(xlabel="predicted probability", ylabel="clips")
    return figure


def _wilson(part: np.ndarray, count: np.ndarray, z: float = 1.96) -> np.ndarray:
    """Distances (2, n) from frequencies (n,) to the ends of their 95 % intervals (Wilson, JASA 22, 1927)."""
    centre = (part + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(part * (1 - part) / count + z**2 / (4 * count**2))
    return np.maximum(0, np.stack([part - (centre - half), centre + half - part]))


def _square(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(title=fill(title, _TITLE_LINE), xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    """Add the legend below the axes, where it hides no curve, and make room for its lines."""
    lines = sum(label.count("\n") + 1 for label in axes.get_legend_handles_labels()[1])
    figure.set_figheight(_INCHES[1] + 0.22 * lines)
    figure.legend(loc="outside lower center")
    return figure


def line_style(index: int) -> dict[str, Any]:
    """The style of the curve with this index: the first one is bold. A dozen can be told apart."""
    dashes = ("--", ":", "-.")[index // len(COLOURS) % 3]
    style = {"linewidth": 1.6, "linestyle": dashes, "zorder": 2} if index else {"linewidth": 2.4, "zorder": 3}
    return {"color": COLOURS[index % len(COLOURS)], **style}


def _mark(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot(x, y, "o", color="white", markeredgecolor=COLOURS[0], markeredgewidth=2, markersize=8, zorder=4)
    right = x > 0.7
    axes.annotate(
        f"threshold {threshold:.2g}",
        (x, y),
        xytext=(-10 if right else 10, -14),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=9,
    )


def _plain(name: str) -> str:
    """A name for the legend, folded; without mathematics between dollars or the leading underscore that hides it."""
    return fill(name.replace("$", r"\$").lstrip("_"), _LINE)
