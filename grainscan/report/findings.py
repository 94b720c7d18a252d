"""Which tasks of a file to show and in which words, and counts of files: shared by the page and the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from grainscan.report.words import verdict
from grainscan.results import Event, Result, Verdict, too_weak
from grainscan.tasks import task_of

CLEAN = "clean"  # a file in which none of several artifacts was found


@dataclass(frozen=True)
class Finding:
    """The verdict on a file for one task."""

    task: str
    label: int
    probability: float
    threshold: float
    strength: float | None
    word: str
    worst: float | None  # start of the part where it is worst, in seconds: see `worst_part`
    experimental: bool = False
    least: float | None = None  # the least strength that counts, if the artifact is likely but too weak

    @property
    def marked(self) -> str:
        """The word, with an asterisk for an experimental task."""
        return self.word + "*" * (self.experimental and self.word != CLEAN)


def findings(result: Result, tasks: Sequence[str]) -> list[Finding]:
    """The verdicts for those of `tasks` that were judged, likeliest first; none for an error."""
    judged = result.get("tasks", {})
    found = []
    for task in sorted((task for task in tasks if task in judged), key=lambda task: -judged[task]["probability"]):
        block, part = judged[task], worst_part(result, task)
        label, worst = block["label"], part["start"] if part else None
        word = CLEAN if len(tasks) > 1 and not label else verdict(task, label)
        known = block["probability"], block["threshold"], block.get("strength")
        likely = block["probability"] >= block["threshold"]
        least = block["min_strength"] if likely and too_weak(block) else None
        found.append(Finding(task, label, *known, word, worst, bool(block.get("experimental")), least))
    return found


def is_found(result: Result, task: str) -> bool:
    """Whether the verdict on a file is that it has the artifact."""
    return bool(result.get("tasks", {}).get(task, {}).get("label"))


def stretches(result: Result, tasks: Sequence[str]) -> list[Event]:
    """Where artifacts are, in order of their starts.

    Of a file that was looked at as a whole, its events, also of artifacts that last too short for the verdict on the
    file; none of those that are too weak to count. Of others, the windows with a probability from the threshold on of
    what the verdict finds, those that touch each other as one.
    """
    verdicts = result.get("tasks", {})
    if "events" in result:
        tasks = [task for task in tasks if task in verdicts and not too_weak(verdicts[task])]
        return [event for event in result["events"] if event["task"] in tasks]
    tasks = [task for task in tasks if is_found(result, task)]
    found: list[Event] = []
    frame = 1 / ((result.get("video") or {}).get("fps") or 24.0)  # windows may be a frame apart
    for task in tasks:
        threshold = result["tasks"][task]["threshold"]
        before: Event | None = None
        for window in sorted(result.get("windows", ()), key=lambda window: window["start"]):
            if window.get(task, -1.0) < threshold:
                before = None
            elif before is not None and window["start"] <= before["end"] + frame:
                before["end"] = max(before["end"], window["end"])
                before["probability"] = max(before["probability"], window[task])
            else:
                before = {"task": task, "start": window["start"], "end": window["end"], "probability": window[task]}
                found.append(before)
    return sorted(found, key=lambda event: (event["start"], event["end"]))


def experimental_of(results: Iterable[Result]) -> tuple[str, ...]:
    """The tasks that are marked as experimental in any of the results."""
    marked = (task for result in results for task, block in result.get("tasks", {}).items() if "experimental" in block)
    return tuple(dict.fromkeys(marked))


def worth_showing(ranked: Sequence[Finding]) -> list[Finding]:
    """The artifacts found, else the likeliest one."""
    return [finding for finding in ranked if finding.label] or list(ranked[:1])


def state(result: Result) -> Literal["found", "clean", "error"]:
    if result["status"] != "ok":
        return "error"
    return "found" if any(block["label"] for block in result["tasks"].values()) else "clean"


def overall_words(tasks: Sequence[str]) -> tuple[str, str]:
    """Words for files with and without findings: those of a single task, else `found` and `clean`."""
    return (verdict(tasks[0], 1), verdict(tasks[0], 0)) if len(tasks) == 1 else ("found", CLEAN)


def verdicts_of(results: Iterable[Result], task: str) -> list[Verdict]:
    """The verdicts on all files that were judged for a task."""
    return [result["tasks"][task] for result in results if task in result.get("tasks", {})]


def tasks_of(results: Iterable[Result]) -> tuple[str, ...]:
    """The tasks in order of first appearance."""
    return tuple(dict.fromkeys(task for result in results for task in result.get("tasks", ())))


def worst_part(result: Mapping[str, Any], task: str) -> Mapping[str, Any] | None:
    """Where an artifact is worst: the window with the highest probability, the first in time if several are equal.

    The likeliest event stands for it if it is more exact, as that of an artifact which is measured frame by frame, or
    likelier, as an error that the decoder reports.
    """
    window, likeliest = _first_of_highest([each for each in result.get("windows", ()) if task in each], task)
    event, probability = _first_of_highest([e for e in result.get("events", ()) if e["task"] == task], "probability")
    return event if event and (task_of(task).measured or probability > likeliest) else window


def _first_of_highest(parts: Sequence[Mapping[str, Any]], key: str) -> tuple[Mapping[str, Any] | None, float]:
    """The first in time of those with the highest value, and that value."""
    part = min(parts, key=lambda each: (-each[key], each["start"]), default=None)
    return (part, part[key]) if part else (None, -1.0)


@dataclass
class Tally:
    """Numbers of files, counted as results come in."""

    files: int = 0
    errors: int = 0
    found: int = 0  # files with any artifact
    unreliable: int = 0
    tasks: dict[str, int] = field(default_factory=dict)  # files with each task
    models: list[str] = field(default_factory=list)  # names, in order of first appearance

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
        if (model := str(result["model"])) not in self.models:
            self.models.append(model)
        for task, block in result["tasks"].items():
            self.tasks[task] = self.tasks.get(task, 0) + block["label"]

    @property
    def clean(self) -> int:
        return self.files - self.errors - self.found
