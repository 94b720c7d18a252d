"""Learning curves as a picture, in the style of `eval --plots`: one panel per quantity, the starting point marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grainscan.evaluate.plots import MUTED, STYLE, line_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL, _HEIGHT = 4.8, 4.2  # inches
_AUROC = "Validation AUROC"
_MANY = 4  # more curves than this are named below their panel
_FEW = 30  # fewer points than this are marked one by one


def draw_curves(
    path: Path, history: Sequence[Mapping[str, float]], tasks: Sequence[str], *, best_step: int | None = None
) -> None:
    """Plot the losses and, for the validation clips, AUROC and strength error against the step.

    history: rows of history.csv; a validation at step 0 is that of the starting model. best_step: whose weights were
    kept.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    titles = {task: task.replace("_", " ") for task in tasks}
    panels = {
        "Loss": {"loss": "training", "val_loss": "validation"},
        _AUROC: {f"val_auroc_{task}": title for task, title in titles.items()},
        "Strength error": {f"val_strength_error_{task}": title for task, title in titles.items()},
    }
    drawn = {title: keys for title, keys in panels.items() if any(key in row for row in history for key in keys)}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_PANEL * len(drawn), _HEIGHT), layout="constrained")
        for axes, (title, series) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
            axes.set(title=title, xlabel="step")
            for index, (key, name) in enumerate(series.items()):
                _curve(axes, [(row["step"], row[key]) for row in history if key in row], name, index)
            if best_step is not None:
                label = f"weights kept (step {best_step})"
                axes.axvline(best_step, color=MUTED, linewidth=1, linestyle=":", label=label)
            if title == _AUROC:
                axes.set_ylim(top=1.01)
            if len(series) > _MANY:
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
            else:
                axes.legend(loc="best")
        save_figure(figure, path)


def _curve(axes: Axes, points: Sequence[tuple[float, float]], name: str, index: int) -> None:
    """Draw a line through the points, with an open marker at step 0."""
    if not points:
        return
    style = line_style(index)
    axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < _FEW else None, **style)
    if points[0][0] == 0:
        axes.plot(*points[0], "o", color="white", markeredgecolor=style["color"], markeredgewidth=2, zorder=4)
        axes.axhline(points[0][1], color=style["color"], linewidth=1, linestyle=":", alpha=0.6)
