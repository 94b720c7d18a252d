"""`grainscan eval`: a model measured on labelled clips.

`judging` scans the clips, `figures` measures each task, `comparison` sets a second model beside the first. The report
is the JSON contract of `eval`:

    {"schema": 1, "split": "test", "clips": 91, "model": "grainscan-s",
     "tasks": {"graininess": {"auroc": 0.97, …, "ci95": {…}, "baseline": {"name": …, "auroc": …}}}, "errors": []}

with, where they apply, `strength`, `sources`, `operating_point` and `calibration` in a task, and `compare`, `plots` and
`not_judged` beside the tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from grainscan.data.labels import find_split, read_labels
from grainscan.data.manifest import read_manifest
from grainscan.errors import DataError, UsageError
from grainscan.evaluate import plots
from grainscan.evaluate.comparison import Comparison, compare_models
from grainscan.evaluate.figures import TaskReport, measure
from grainscan.evaluate.judging import ClipError, Judged, Progress, Sample, judge, known_sources
from grainscan.evaluate.thresholds import POINT_SPLIT, Fitted, OperatingPoint, operate
from grainscan.model.last_run import last_run
from grainscan.options import EvalConfig
from grainscan.results import SCHEMA, Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalReport(Report):
    """What `evaluate` measured."""

    schema: int
    split: str
    clips: int  # judged; those under `errors` not counted
    model: str
    data: Path
    tasks: dict[str, TaskReport]
    errors: list[ClipError]
    not_judged: list[str] | None = None  # tasks with labels that the model does not know
    compare: Comparison | None = None
    plots: list[Path] | None = None


def evaluate(config: EvalConfig, *, progress: Progress | None = None) -> EvalReport:
    """Measure a model on the labelled clips of a split.

    Model and data default to those of the last training in the working directory, the model otherwise to the embedded
    one. A clip that cannot be decoded is listed under `errors` and takes no part in the figures. Raises UsageError when
    there is no data, LabelsError, ModelError, OutputError, and DataError when model and labels have no task in common,
    or when the operating point of the only task is out of reach; of several tasks, those keep the model's threshold.
    """
    run = last_run()
    data = config.data or (run.data if run else None)
    if data is None:
        raise UsageError(
            "no data to evaluate on, and nothing was trained in this directory",
            hint="Name a labelled folder: grainscan eval DATA --split test.",
        )
    if config.model is None and run is not None:
        config = replace(config, model=str(run.model))
    point = OperatingPoint.parse(config.operating_point) if config.operating_point else None
    progress = progress or (lambda done, total, note: None)
    if config.plots is not None:
        plots.make_folder(config.plots)

    folder = find_split(data, config.split)
    labels = read_labels(folder)
    manifest = read_manifest(folder, brief=True)
    val = read_labels(find_split(data, POINT_SPLIT)) if point else None

    judged = judge(config, labels, progress, baselines=True)
    on_val = judge(config, val, progress) if val else None
    other = judge(replace(config, model=config.compare), labels, progress) if config.compare else None
    sources = known_sources(labels, manifest)
    samples = {task: Sample.of(task, labels, judged, sources) for task in judged.tasks if task in labels.tasks}

    tasks: dict[str, TaskReport] = {}
    for task, sample in samples.items():
        fitted = Fitted(judged.thresholds[task])
        if point and on_val and val:
            try:
                fitted = operate(point, Sample.of(task, val, on_val, None))
            except DataError as error:
                if len(samples) == 1:
                    raise
                log.warning("%s. The model's own threshold is used for it.", error.message)
        tasks[task] = measure(sample, fitted, judged, manifest, config)
    report = EvalReport(
        schema=SCHEMA,
        split=config.split or folder.name,
        clips=len(judged.probability),
        model=judged.model,
        data=folder,
        tasks=tasks,
        errors=judged.errors,
        not_judged=sorted(set(labels.tasks) - set(tasks)) or None,
        compare=compare_models(samples, other, config) if other else None,
    )
    if config.plots is None:
        return report
    return replace(report, plots=plots.draw(config.plots, *_curves(samples, judged, other, tasks)))


def _curves(
    samples: Mapping[str, Sample], judged: Judged, other: Judged | None, tasks: Mapping[str, TaskReport]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """What `plots.draw` wants: labels, named scores (the model's first) and thresholds, by task."""
    scores: dict[str, dict[str, np.ndarray]] = {}
    for task, sample in samples.items():
        curves = scores[task] = {judged.model: sample.probabilities}
        if other and task in other.tasks and all(name in other.probability for name in sample.names):
            values = [other.probability[name][task] for name in sample.names]
            curves[_distinct(other.model, curves)] = np.array(values)
        if baseline := tasks[task].baseline:
            for name in dict.fromkeys((baseline.name, baseline.strongest.name)):
                curves[f"baseline {name}"] = np.array([judged.baseline[clip][name] for clip in sample.names])
    labels = {task: sample.labels for task, sample in samples.items()}
    return labels, scores, {task: block.threshold for task, block in tasks.items()}


def _distinct(name: str, taken: Iterable[str]) -> str:
    return f"{name} (compared)" if name in taken else name
