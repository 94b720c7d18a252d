"""A model's verdicts on labelled clips, paired with the labels.

Clips go through the same Scanner as in `predict`, so the figures describe what users get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from grainscan.console import Progress, count
from grainscan.data.labels import LabelSet
from grainscan.data.sources import group_clips
from grainscan.errors import UnfitDataError
from grainscan.options import EvalConfig
from grainscan.results import Failure, Result, too_weak
from grainscan.scan.scanner import Scanner


class ClipError(Failure):
    """A clip that could not be judged; it has no part in any figure."""

    name: str
    path: str


@dataclass
class Judged:
    """A model's verdicts on the clips of a folder, by name of the clip, then by task or baseline."""

    model: str
    tasks: tuple[str, ...]
    thresholds: dict[str, float]
    experimental: tuple[str, ...] = ()  # the tasks that the model is not yet good at
    known: tuple[str, ...] = ()  # all tasks of the model
    probability: dict[str, dict[str, float]] = field(default_factory=dict)
    strength: dict[str, dict[str, float]] = field(default_factory=dict)
    weak: dict[str, set[str]] = field(default_factory=dict)  # the tasks whose strength is too low to count
    min_strength: dict[str, float] = field(default_factory=dict)  # by task, where one was asked for
    prevalence: dict[str, float] = field(default_factory=dict)  # that the probabilities assume, by task, where known
    baseline: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: list[ClipError] = field(default_factory=list)

    def record(self, name: str, result: Result) -> None:
        """Add the result of one clip."""
        if result["status"] != "ok":
            self.errors.append({"name": name, "path": result["path"], **result["error"]})
            return
        verdicts = {task: result["tasks"][task] for task in self.tasks if task in result["tasks"]}
        self.probability[name] = {task: verdict["probability"] for task, verdict in verdicts.items()}
        self.strength[name] = {
            task: verdict["strength"] for task, verdict in verdicts.items() if verdict.get("strength") is not None
        }
        self.weak[name] = {task for task, verdict in verdicts.items() if too_weak(verdict)}
        self.baseline[name] = result.get("baseline", {})


@dataclass(frozen=True)
class Sample:
    """The judged clips with a known label for one task; arrays and lists (n,) in the order of the names."""

    task: str
    names: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    weak: np.ndarray  # of bool: whether the strength is too low to count
    sources: list[str] | None  # None: no clip has a known source

    @classmethod
    def of(cls, task: str, labels: LabelSet, judged: Judged, sources: Mapping[str, str] | None) -> Sample:
        names = [name for name, known in judged.probability.items() if task in known and task in labels.clips[name]]
        return cls(
            task,
            names,
            np.array([labels.clips[name][task] for name in names], dtype=np.int64),
            np.array([judged.probability[name][task] for name in names], dtype=np.float64),
            np.array([task in judged.weak.get(name, ()) for name in names], dtype=np.bool_),
            None if sources is None else [sources[name] for name in names],
        )

    def called(self, threshold: float) -> np.ndarray:
        """The labels by the model (n,), as bool."""
        found: np.ndarray = (self.probabilities >= threshold) & ~self.weak
        return found


def judge(config: EvalConfig, labels: LabelSet, progress: Progress, *, baselines: bool = False) -> Judged:
    """Scan the clips with a label for one of the tasks to judge. Raises UnfitDataError if there are none."""
    with Scanner.from_config(config, baseline=baselines) as scanner:
        spec, tasks = scanner.spec, scanner.tasks
        names = [name for name, known in labels.clips.items() if any(task in known for task in tasks)]
        if not names:
            hint = f"The labels are for: {', '.join(labels.tasks) or 'nothing'}."
            what = f"no labels for the tasks of {spec.name} ({', '.join(tasks)})"
            raise UnfitDataError(f"{labels.folder}: {what}", hint=hint)
        judged = Judged(
            spec.name,
            tasks,
            {task: scanner.threshold_of(task) for task in tasks},
            spec.experimental,
            spec.judged,
            min_strength=scanner.min_strength,
            prevalence=spec.prevalence | scanner.prevalence,
        )
        progress.stage(f"{spec.name} on {labels.folder.name}", len(names))
        results: Any = scanner.scan([labels.path[name] for name in names])
        for done, (name, result) in enumerate(zip(names, results, strict=True), 1):
            judged.record(name, result)
            progress.advance(done, count(len(judged.errors), "error") if judged.errors else "")
    return judged


def known_sources(labels: LabelSet, manifest: dict[str, Any] | None) -> dict[str, str] | None:
    """The source of each clip, as in `split`; None if every clip would be its own source."""
    sources = group_clips(labels.clips, manifest, "auto")
    return sources if any(source != name for name, source in sources.items()) else None
