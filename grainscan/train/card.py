"""The training's part of a model card: figures, data, options, versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grainscan.train.plan import Plan
from grainscan.train.run import verdict


def card_body(plan: Plan, config: str, metrics: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Markdown from TOML without paths (`config`), the run's metrics.json and the model's provenance (`origin`)."""
    versions = ", ".join(f"{name} {origin[name]}" for name in ("grainscan", "torch", "transformers"))
    return f"""
## Figures

{_figures(metrics)}

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


def _figures(metrics: Mapping[str, Any]) -> str:
    kept = metrics.get("validation")
    if kept is None:
        return "Trained without validation clips."
    lines = [f"| {kept['clips']} validation clips | before | after |", "|---|---|---|"]
    for key in [key for key in kept if key not in ("clips", "score")]:
        cells = [(metrics.get(when) or {}).get(key) for when in ("before", "after")]
        lines.append(f"| {key} | " + " | ".join("" if value is None else f"{value:.4g}" for value in cells) + " |")
    step = f"The weights are those of step {metrics['best_step']}."
    gain = verdict(metrics)
    lines += ["", f"{gain[0].upper()}{gain[1:]}. {step}" if gain else step]
    return "\n".join(lines)


def _data(plan: Plan) -> str:
    lines = ["| split | clips | sources | task | 0 | 1 | unknown |", "|---|---|---|---|---|---|---|"]
    for name, split in plan.splits.items():
        for task, count in split.prevalence.items():
            numbers = f"{count.negative} | {count.positive} | {count.unknown}"
            lines.append(f"| {name} | {split.clips} | {split.sources} | {task} | {numbers} |")
    lines += ["", *(f"- Leak: {leak}." for leak in plan.leaks)] if plan.leaks else []
    lines += ["", f"Left out because they cannot be decoded: {', '.join(plan.left_out)}."] if plan.left_out else []
    return "\n".join(lines)
