"""Probabilities for a library in which an artifact is rarer, or more frequent, than in the clips of the calibration.

With the share P0 of the clips of the calibration that have the artifact, and the share P of the files that have it,
Bayes' rule gives logit(p') = logit(p) + logit(P) - logit(P0), if files with the artifact look alike in both, and files
without it, too: Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori
probabilities: a simple procedure", Neural Computation 14(1), 2002. Thresholds move along, so that labels and events
stay what they are. A finished row is moved as a whole: nothing that makes it knows of this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from grainscan.errors import UsageError
from grainscan.results import Result
from grainscan.scan.pooling import by_task

LEAST, MOST = 0.001, 0.999  # probabilities have six digits, of which enough must be left
_UNKNOWN = "no record says which share of the clips of the calibration had it"
_HINT = "A model that `grainscan train` calibrated on val clips records it, and so do the rows of its scans."


def parse_prevalence(text: str | None, tasks: Collection[str], calibrated: Collection[str]) -> dict[str, float]:
    """`0.1` for every calibrated task, or `graininess=0.1,banding=0.02`, or both. Raises UsageError.

    `calibrated` are those of the tasks whose probabilities assume a share that is known.
    """
    shares = by_task("prevalence", text, tasks, everywhere=calibrated, example=0.1, limits=(LEAST, MOST))
    if text and not shares:
        raise UsageError(f"prevalence {text}: {_UNKNOWN}, for any artifact", hint=_HINT)
    check_prevalence(shares, calibrated)
    return shares


def unreached(text: str | None, tasks: Collection[str], shares: Collection[str]) -> str:
    """A note on those of the tasks that a number for all of them leaves as they are; empty if there are none."""
    left = [task for task in tasks if task not in shares]
    if text is None or not left or all("=" in part for part in text.split(",") if part.strip()):
        return ""
    return f"--prevalence {text} leaves {', '.join(left)} as before: {_UNKNOWN}"


def check_prevalence(shares: Mapping[str, float], calibrated: Collection[str]) -> None:
    """Raise UsageError for a task that is not `calibrated`, and for a share that is out of reach."""
    for task, share in shares.items():
        if task not in calibrated:
            known = f" It is known for: {', '.join(calibrated)}." if calibrated else ""
            raise UsageError(f"prevalence of {task!r}: {_UNKNOWN}", hint=_HINT + known)
        if not LEAST <= share <= MOST:
            raise UsageError(
                f"prevalence {share:g} is not between {LEAST:g} and {MOST:g}", hint="0.1: one file in ten."
            )


def factor(share: float, assumed: float) -> float:
    """By how much the odds p / (1 - p) grow from a prevalence that is assumed to another."""
    return share / (1 - share) * (1 - assumed) / assumed


def moved(probability: float, by: float) -> float:
    """The probability with `by` times the odds; 0 and 1 stay."""
    kept = min(max(probability, 0.0), 1.0)  # other programs may have written it
    return kept * by / (kept * by + (1 - kept))


def written(probability: float, by: float) -> float:
    """The same with the six digits of a result."""
    return round(moved(probability, by), 6)


def move(row: Result, shares: Mapping[str, float]) -> None:
    """Move the probabilities and thresholds of a row, in place, to the prevalences that are asked for, by task.

    Labels, strengths and the times of events stay, and so does all of a task whose verdict has no prevalence.
    """
    factors = {}
    for task, verdict in row.get("tasks", {}).items():
        if task in shares and "prevalence" in verdict:
            by = factors[task] = factor(shares[task], verdict["prevalence"])
            verdict["probability"] = written(verdict["probability"], by)
            verdict["threshold"] = written(verdict["threshold"], by)
            verdict["prevalence"] = shares[task]
    for part in (*row.get("windows", ()), *row.get("map", ())):
        for task in factors.keys() & part.keys():
            part[task] = written(part[task], factors[task])
    for event in row.get("events", ()):
        if event["task"] in factors:
            event["probability"] = written(event["probability"], factors[event["task"]])
