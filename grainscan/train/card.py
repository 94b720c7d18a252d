"""The training's part of a model card: figures, data, options, versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from grainscan.evaluate.calibrate import TRUSTED
from grainscan.train.plan import Plan
from grainscan.train.run import FIGURES, task_figures, verdict


def card_body(plan: Plan, config: str, metrics: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Markdown from TOML without paths (`config`), the run's metrics.json and the model's provenance (`origin`)."""
    versions = ", ".join(f"{name} {origin[name]}" for name in ("grainscan", "torch", "transformers"))
    return f"""
{_roles(plan, origin)}
## Figures

{_figures(metrics, origin["experimental"])}

## Data

{_data(plan)}

## Training

{origin["steps"]} steps of {plan.views_per_step} views in {plan.precision}; \
{plan.trainable:,} of {plan.parameters:,} parameters trained.

```toml
{config.rstrip()}
```

Versions: {versions}.
"""


def _roles(plan: Plan, origin: Mapping[str, Any]) -> str:
    """What was learnt and what was not, where the two differ."""
    roles = plan.roles
    lines = {}
    if roles.kept:
        lines["Learnt here"] = roles.learnt
        lines[f"As in `{origin['base']}`, to the last bit of weights, calibration and threshold"] = roles.kept
    lines["Measured by a formula, not learnt"] = roles.measured
    return "".join(f"\n{text}: {_names(tasks)}.\n" for text, tasks in lines.items() if tasks)


def _names(tasks: Sequence[str]) -> str:
    return ", ".join(f"`{task}`" for task in tasks)


def _figures(metrics: Mapping[str, Any], experimental: Collection[str]) -> str:
    kept = metrics.get("validation")
    if kept is None:
        return "Trained without validation clips."
    rows = task_figures(metrics)
    shown = [name for name in FIGURES if any(name in row for row in rows.values())]
    lines = [f"| task | {' | '.join(shown)} | |", "|---" * (len(shown) + 2) + "|"]
    for task, row in rows.items():
        cells = (f"{row[name]:.4g}" if name in row else "" for name in shown)
        flag = "experimental" if task in experimental else ""
        lines.append(f"| `{task}` | {' | '.join(cells)} | {flag} |")
    step = f"The weights are those of step {metrics['best_step']}."
    gain = verdict(metrics)
    lines += ["", f"{gain[0].upper()}{gain[1:]}. {step}" if gain else step]
    lines += [f"{kept['clips']} validation clips. {_EXPLAINED}"]
    if experimental:
        lines += [f"Experimental, its AUROC being below {TRUSTED}: {_names(list(experimental))}."]
    return "\n".join(lines)


_EXPLAINED = (
    "AUROC before and after and the error of log2(1 + strength) are of a few views of each; the other figures are of "
    "whole clips, as `predict` judges them, on which the threshold was chosen."
)


def _data(plan: Plan) -> str:
    lines = ["| split | clips | sources | task | 0 | 1 | unknown |", "|---|---|---|---|---|---|---|"]
    for name, split in plan.splits.items():
        for task, count in split.prevalence.items():
            numbers = f"{count.negative} | {count.positive} | {count.unknown}"
            lines.append(f"| {name} | {split.clips} | {split.sources} | {task} | {numbers} |")
    lines += ["", *(f"- Leak: {leak}." for leak in plan.leaks)] if plan.leaks else []
    lines += ["", f"Left out because they cannot be decoded: {', '.join(plan.left_out)}."] if plan.left_out else []
    return "\n".join(lines)
