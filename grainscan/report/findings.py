"""What people want to know from results: which tasks of a file to show, in which words, and how many files have what.

The page, the tables and the summary all ask here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from grainscan.report.words import verdict
from grainscan.results import Result

CLEAN = "clean"  # of a file in which none of several artifacts was found


@dataclass(frozen=True)
class Finding:
    """The verdict on one task of a file."""

    task: str
    label: int
    probability: float
    threshold: float
    strength: float | None
    word: str
    worst: float | None  # seconds at which the window with the highest probability begins


def findings(result: Result, tasks: Sequence[str]) -> list[Finding]:
    """The verdicts on those of `tasks` that were judged, likeliest first; none for an error."""
    judged = result.get("tasks", {})
    found = []
    for task in sorted((task for task in tasks if task in judged), key=lambda task: -judged[task]["probability"]):
        block, window = judged[task], worst_window(result, task)
        found.append(
            Finding(
                task=task,
                label=block["label"],
                probability=block["probability"],
                threshold=block["threshold"],
                strength=block.get("strength"),
                word=CLEAN if len(tasks) > 1 and not block["label"] else verdict(task, block["label"]),
                worst=window["start"] if window else None,
            )
        )
    return found


def worth_showing(ranked: Sequence[Finding]) -> list[Finding]:
    """Those that were found, else the likeliest."""
    return [finding for finding in ranked if finding.label] or list(ranked[:1])


def state(result: Result) -> Literal["found", "clean", "error"]:
    if result["status"] != "ok":
        return "error"
    return "found" if any(block["label"] for block in result["tasks"].values()) else "clean"


def overall_words(tasks: Sequence[str]) -> tuple[str, str]:
    """For files with and without findings: `grainy` and `clean` of a model with one task, else `found` and `clean`."""
    return (verdict(tasks[0], 1), verdict(tasks[0], 0)) if len(tasks) == 1 else ("found", CLEAN)


def tasks_of(results: Iterable[Result]) -> tuple[str, ...]:
    """The tasks in the order in which results first name them."""
    return tuple(dict.fromkeys(task for result in results for task in result.get("tasks", ())))


def worst_window(result: Result, task: str) -> dict[str, float] | None:
    """The window with the highest probability of a task, the first of equals."""
    windows = [window for window in result.get("windows", ()) if task in window]
    return max(windows, key=lambda window: window[task]) if windows else None


@dataclass
class Tally:
    """Files by what was found, counted as results come."""

    files: int = 0
    errors: int = 0
    found: int = 0  # files in which anything was found
    unreliable: int = 0
    tasks: dict[str, int] = field(default_factory=dict)  # files with each task
    models: dict[str, None] = field(default_factory=dict)  # their names, in order

    @classmethod
    def of(cls, results: Iterable[Result]) -> Tally:
        tally = cls()
        for result in results:
            tally.add(result)
        return tally

    def add(self, result: Result) -> None:
        self.files += 1
        if result["status"] != "ok":
            self.errors += 1
            return
        self.found += state(result) == "found"
        self.unreliable += bool(result.get("unreliable"))
        self.models.setdefault(str(result["model"]))
        for task, block in result["tasks"].items():
            self.tasks[task] = self.tasks.get(task, 0) + block["label"]

    @property
    def clean(self) -> int:
        return self.files - self.errors - self.found
