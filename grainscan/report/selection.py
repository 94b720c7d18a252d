"""Which results are shown, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from grainscan.errors import UsageError, likely
from grainscan.results import Result, Verdict

ANY = "any"
ORDERS = ("path", "worst", "strength", "length")  # and the name of a task


def found(result: Result, tasks: Sequence[str]) -> bool:
    """Whether any of these artifacts was found in a file; `any` stands for all tasks."""
    judged = result.get("tasks", {})
    return any(block["label"] for task, block in judged.items() if task in tasks or ANY in tasks)


def in_order(results: Sequence[Result], order: str) -> list[Result]:
    """The results by path, worst first, strongest first, longest first, or by the probability of a task.

    Files without what they are sorted by come last, and equal ones stay in the order of their paths.
    """
    ranked = sorted(results, key=lambda result: result["path"])
    return ranked if order == "path" else sorted(ranked, key=lambda result: -_rank(result, order))


def check_tasks(flag: str, names: Sequence[str], tasks: Sequence[str], others: Sequence[str] = ()) -> None:
    """Raise UsageError for a name that is neither a task nor one of the other words."""
    unknown = [name for name in names if name not in (*tasks, *others)]
    if unknown or not names:
        what = f"the model has no task {unknown[0]!r}" if unknown else "names no task"
        hint = f"Use {', '.join((*others, *tasks))}."
        raise UsageError(f"{flag}: {what}", hint=likely(unknown[0], (*others, *tasks)) + hint if unknown else hint)


def margin(verdict: Verdict) -> float:
    """How far a probability is above (0 to 1) or below (-1 to 0) its threshold, in parts of what is possible."""
    probability, threshold = verdict["probability"], verdict["threshold"]
    if verdict["label"]:
        return (probability - threshold) / (1 - threshold) if threshold < 1 else 0.0
    return min(0.0, (probability - threshold) / threshold) if threshold > 0 else 0.0


def _rank(result: Result, order: str) -> float:
    judged = result.get("tasks", {})
    if order == "length":
        return float((result.get("video") or {}).get("duration") or 0.0)
    if order == "strength":
        return max((block["strength"] for block in judged.values() if "strength" in block), default=-1.0)
    if order == "worst":
        return max((margin(block) for block in judged.values()), default=-2.0)
    return judged[order]["probability"] if order in judged else -1.0
