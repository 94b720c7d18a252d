"""The part of a model card that a training writes: figures, data, options, versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grainscan.train.plan import Plan
from grainscan.train.run import verdict


def card_body(plan: Plan, config: str, metrics: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Markdown. `config` is TOML without paths, `metrics` that of the run, `origin` the model's provenance."""
    steps = f"{origin['steps']} steps of {plan.views_per_step} views in {plan.precision}"
    return "\n".join(
        (
            *("", "## Figures", "", *_figures(metrics)),
            *("", "## Data", "", *_data(plan)),
            *("", "## Training", ""),
            f"{steps}; {plan.trainable:,} of {plan.parameters:,} parameters trained.",
            *("", "```toml", config.rstrip(), "```", ""),
            "Versions: " + ", ".join(f"{name} {origin[name]}" for name in ("grainscan", "torch", "transformers")) + ".",
            "",
        )
    )


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    kept = metrics.get("validation")
    if kept is None:
        return ["Trained without validation clips."]
    before, after = metrics.get("before") or {}, metrics.get("after") or {}
    rows = [
        f"| {key} | {_cell(before.get(key))} | {_cell(after.get(key))} |"
        for key in kept
        if key not in ("clips", "score")
    ]
    step = f"The weights are those of step {metrics['best_step']}."
    said = verdict(metrics)
    return [
        f"| {kept['clips']} validation clips | before | after |",
        "|---|---|---|",
        *rows,
        "",
        f"{said[0].upper()}{said[1:]}. {step}" if said else step,
    ]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _data(plan: Plan) -> list[str]:
    lines = ["| split | clips | sources | task | 0 | 1 | unknown |", "|---|---|---|---|---|---|---|"]
    for name, split in plan.splits.items():
        for task, count in split.prevalence.items():
            numbers = f"{count.negative} | {count.positive} | {count.unknown}"
            lines.append(f"| {name} | {split.clips} | {split.sources} | {task} | {numbers} |")
    lines += ["", *(f"- Leak: {leak}." for leak in plan.leaks)] if plan.leaks else []
    lines += ["", f"Left out, since they cannot be decoded: {', '.join(plan.left_out)}."] if plan.left_out else []
    return lines
