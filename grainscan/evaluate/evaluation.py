"""`grainscan eval`: a model measured on labelled clips.

`judging` scans the clips, `figures` measures each task, `comparison` compares a second model. As JSON the report is

    {"schema": 1, "split": "test", "clips": 91, "model": "grainscan-s",
     "tasks": {"graininess": {"auroc": 0.97, …, "ci95": {…}, "baseline": {"name": …, "auroc": …}}}, "errors": []}

and, where they apply, `strength`, `sources`, `operating_point` and `calibration` in a task, and `compare`, `plots` and
`not_judged` beside the tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from grainscan.console import Progress
from grainscan.data.labels import find_split, read_labels
from grainscan.data.manifest import read_manifest
from grainscan.errors import DataError, UsageError, require
from grainscan.evaluate import plots
from grainscan.evaluate.comparison import Comparison, compare_models
from grainscan.evaluate.figures import TaskReport, measure
from grainscan.evaluate.judging import ClipError, Judged, Sample, judge, known_sources
from grainscan.evaluate.thresholds import POINT_SPLIT, Fitted, OperatingPoint, operate
from grainscan.files import unwritable
from grainscan.model.last_run import last_run
from grainscan.model.spec import find_model, read_spec
from grainscan.options import EvalConfig, names_in
from grainscan.results import SCHEMA, Report
from grainscan.scan.prevalence import unreached

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalReport(Report):
    """The report of `evaluate`."""

    schema: int
    split: str
    clips: int  # judged, without those under `errors`
    model: str
    data: Path
    tasks: dict[str, TaskReport]
    errors: list[ClipError]
    not_judged: list[str] | None = None  # tasks with labels that the model does not know
    compare: Comparison | None = None
    plots: list[Path] | None = None


def evaluate(config: EvalConfig, *, progress: Progress | None = None) -> EvalReport:
    """Measure a model on the labelled clips of a split.

    Model and data default to those of the last training in the working directory, the model else to the embedded one.
    A clip that cannot be decoded is listed under `errors` and has no part in the figures. Raises LabelsError,
    ModelError, OutputError, DependencyError, UsageError without data, and DataError if model and labels have no task in
    common or the operating point of the only task is out of reach (one of several tasks keeps the model's threshold).
    """
    require("eval", "sklearn", "scipy", *(["matplotlib"] if config.plots is not None else []))
    run = last_run()
    data = config.data or (run.data if run else None)
    if data is None:
        hint = "Name a labelled folder: grainscan eval DATA --split test."
        raise UsageError("no data to evaluate on, and nothing was trained in this directory", hint=hint)
    progress = progress or Progress()
    if config.model is None and run is not None:
        config = replace(config, model=str(run.model))
        progress.say(f"model: {run.model}, the last run here")
    point = OperatingPoint.parse(config.operating_point) if config.operating_point else None
    if config.plots is not None:
        try:  # before the work, not after it
            config.plots.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(config.plots, error) from None
    folder = find_split(data, config.split)
    labels = read_labels(folder)
    manifest = read_manifest(folder, brief=True)
    val = read_labels(find_split(data, POINT_SPLIT)) if point else None

    judged = judge(config, labels, progress, baselines=True)
    if note := unreached(config.prevalence, judged.tasks, judged.prevalence):
        progress.say(note)
    on_val = judge(config, val, progress) if val else None
    other = judge(_for_other(config, config.compare), labels, progress) if config.compare else None
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
                log.warning("%s. The model's own threshold is used.", error.message)
        tasks[task] = measure(sample, fitted, judged, manifest, config)
    report = EvalReport(
        schema=SCHEMA,
        split=config.split or folder.name,
        clips=len(judged.probability),
        model=judged.model,
        data=folder,
        tasks=tasks,
        errors=judged.errors,
        not_judged=sorted(set(labels.tasks) - set(judged.known)) or None,
        compare=compare_models(samples, other, config) if other else None,
    )
    if config.plots is None:
        return report
    return replace(report, plots=plots.draw(config.plots, *_curves(samples, judged, other, tasks)))


def _for_other(config: EvalConfig, model: str) -> EvalConfig:
    """The same evaluation of another model, on those of the tasks asked for that it knows, if any.

    Without a prevalence, which it may not know and which does not change a ranking.
    """
    known = read_spec(find_model(model)).judged
    shared = [task for task in names_in(config.tasks) if task in known]
    return replace(config, model=model, tasks=",".join(shared) if shared else config.tasks, prevalence=None)


def _curves(
    samples: Mapping[str, Sample], judged: Judged, other: Judged | None, tasks: Mapping[str, TaskReport]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """The arguments of `plots.draw`: labels, named scores (the model's first) and thresholds, by task."""
    scores: dict[str, dict[str, np.ndarray]] = {}
    for task, sample in samples.items():
        curves = scores[task] = {judged.model: sample.probabilities}
        if other and task in other.tasks and all(task in other.probability.get(name, ()) for name in sample.names):
            name = f"{other.model} (compared)" if other.model == judged.model else other.model
            curves[name] = np.array([other.probability[clip][task] for clip in sample.names])
        if baseline := tasks[task].baseline:
            for name in dict.fromkeys((baseline.name, baseline.strongest.name)):
                curves[f"baseline {name}"] = np.array([judged.baseline[clip][name] for clip in sample.names])
    labels = {task: sample.labels for task, sample in samples.items()}
    return labels, scores, {task: block.threshold for task, block in tasks.items()}
