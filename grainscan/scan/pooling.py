"""From the outputs of a model for a file's views to the verdict on the file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.errors import UsageError, likely
from grainscan.model.spec import ModelSpec
from grainscan.options import names_in
from grainscan.results import Verdict, too_weak
from grainscan.scan.engine import Outputs
from grainscan.tasks import task_of


def deciding(logits: NDArray[np.float32], part: float, task: str) -> NDArray[np.intp]:
    """Indices of the views that decide a task: those with the lowest or highest `part` of the logits, at least one.

    Grain is everywhere in a picture and texture only in places, so that the least grainy views count most; a
    transmission error is in one place only. The task's record says which views decide.
    """
    count = max(1, round(part * len(logits)))
    order = np.argsort(logits, kind="stable")
    return order[:count] if task_of(task).decided_by == "lowest" else order[-count:]


def probability(logits: NDArray[np.float32], task: str, spec: ModelSpec) -> float:
    """Calibrated probability for a set of views: sigmoid(a * logit + b), with the mean logit of those that decide."""
    return calibrated(
        float(np.mean(logits[deciding(logits, spec.aggregation_of(task), task)], dtype=np.float64)), task, spec
    )


def calibrated(logit: float, task: str, spec: ModelSpec) -> float:
    """sigmoid(a * logit + b) with the calibration of a task."""
    a, b = spec.calibration_of(task)
    return float(0.5 * (1.0 + np.tanh(0.5 * (a * logit + b))))  # the sigmoid, without overflow


def aggregate(
    outputs: Outputs,
    spec: ModelSpec,
    thresholds: Mapping[str, float] | None = None,
    chosen: Iterable[str] | None = None,
    min_strength: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The `tasks` object of a result, from all views of a file; of the `chosen` tasks, or of all.

    Strength is 2^m - 1 in the unit of the task, where m is the mean output of the deciding views; tasks without a
    strength have none. `min_strength` is the least one that counts, by task: below it the label is 0.
    """
    tasks: dict[str, Any] = {}
    for column, task in enumerate(spec.tasks):
        if chosen is not None and task not in chosen:
            continue
        logits = outputs.logits[:, column]
        threshold = (thresholds or {}).get(task, spec.threshold_of(task))
        value = probability(logits, task, spec)
        tasks[task] = {"label": int(value >= threshold), "probability": round(value, 6), "threshold": threshold}
        if task in spec.strength:
            estimates = outputs.strength[:, column][deciding(logits, spec.aggregation_of(task), task)]
            tasks[task]["strength"] = round(max(0.0, float(np.exp2(np.mean(estimates, dtype=np.float64))) - 1.0), 3)
        if min_strength and task in min_strength:
            tasks[task]["min_strength"] = min_strength[task]
            relabel(tasks[task])
    return tasks


def relabel(verdict: Verdict) -> None:
    """Give a verdict the label that its probability, threshold and strength call for."""
    verdict["label"] = 1 if verdict["probability"] >= verdict["threshold"] and not too_weak(verdict) else 0


def parse_thresholds(text: str | None, tasks: Iterable[str]) -> dict[str, float]:
    """`0.7` for every task, or `graininess=0.7,banding=0.4`. Raises UsageError."""
    known = tuple(tasks)
    return by_task("threshold", text, known, everywhere=known, example=0.7, limits=(0, 1))


def by_task(
    option: str,
    text: str | None,
    known: Collection[str],
    *,
    everywhere: Collection[str],
    example: float,
    limits: tuple[float, float],
) -> dict[str, float]:
    """Numbers by task from `0.7`, which is for the tasks in `everywhere`, or `graininess=0.7,banding=0.4`, or both.

    Raises UsageError, which names the option, for a task that is not known and a number out of the limits.
    """
    one = next(iter(everywhere or known), "TASK")
    hint = f"Write --{option} {example:g}, or --{option} {one}={example:g}."
    low, high = limits
    numbers: dict[str, float] = {}
    for part in (text or "").split(","):
        name, found, number = part.rpartition("=")
        name = name.strip()
        if not part.strip():
            continue
        if found and name not in known:
            hint = f"{likely(name, known)}The model has {', '.join(known) or 'no tasks'}."
            raise UsageError(f"{option} of {name!r}: the model has no such task", hint=hint)
        try:
            value = float(number)
        except ValueError:
            raise UsageError(f"{option} {part.strip()!r} is not a number", hint=hint) from None
        if not low <= value <= high:
            raise UsageError(f"{option} {value:g} is not between {low:g} and {high:g}", hint=hint)
        numbers.update(dict.fromkeys([name] if found else everywhere, value))
    return numbers


def parse_strengths(text: str | None) -> dict[str, float]:
    """`graininess=2,banding=0.5` by task, each in the unit of its strength. Raises UsageError."""
    strengths: dict[str, float] = {}
    for part in names_in(text):
        name, _, number = (each.strip() for each in part.rpartition("="))
        if not name:
            raise UsageError(f"minimum strength {part!r} names no task", hint="Write --min-strength graininess=2.")
        try:
            strengths[name] = float(number)
        except ValueError:
            strengths[name] = math.nan
        if not 0 <= strengths[name] < math.inf:
            raise UsageError(
                f"minimum strength of {name!r} is {number!r}",
                hint=f"Use a number that is at least 0: --min-strength {name}=2.",
            )
    return strengths


def check_strengths(strengths: Iterable[str], measured: Iterable[str]) -> None:
    """Raise UsageError for a task that has no strength, or that is not judged; `measured` are those that qualify."""
    known = tuple(measured)
    for task in strengths:
        if task not in known:
            raise UsageError(
                f"minimum strength of {task!r}: no strength is measured for it",
                hint=f"Tasks with a strength: {', '.join(known) or 'none'}.",
            )
