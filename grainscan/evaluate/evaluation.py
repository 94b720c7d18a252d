"""Figures of a model on labelled clips: what `grainscan eval` reports.

Clips go through the same Scanner as in `predict`, so what is measured here is what people get. The classical
baselines are computed on the very windows that the model sees. The report is the JSON contract of `eval`:

    {"schema": 1, "split": "test", "clips": 91, "model": "grainscan-s",
     "tasks": {"graininess": {"auroc": 0.97, …, "ci95": {…}, "baseline": {"name": …, "auroc": …}}}, "errors": []}

with, where they apply, `strength`, `reliability`, `sources` and `mistakes` in a task, and `compare` beside the tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from grainscan.data.labels import LabelSet, find_split, read_labels
from grainscan.data.manifest import read_manifest
from grainscan.data.sources import group_clips
from grainscan.errors import DataError, UsageError
from grainscan.evaluate import bootstrap, metrics
from grainscan.evaluate.thresholds import OperatingPoint, fit_temperature
from grainscan.model.last_run import last_run
from grainscan.options import EvalConfig
from grainscan.scan.scanner import Scanner
from grainscan.tasks import task_of
from grainscan.views import estimators as baseline

SCHEMA = 1
POINT_SPLIT = "val"  # where thresholds and temperatures are chosen
_LEAST_PROBABILITY = 1e-6  # a logit is taken back from a probability, which may have been rounded to 0 or 1

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # clips done, clips in all, what is being done


@dataclass
class Judged:
    """What a model said of the clips of a folder, by name of the clip."""

    model: str
    tasks: tuple[str, ...]
    thresholds: dict[str, float]
    probability: dict[str, dict[str, float]] = field(default_factory=dict)
    strength: dict[str, dict[str, float]] = field(default_factory=dict)
    baseline: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """The judged clips with a known label of one task; arrays and lists (n,) in the order of the names."""

    task: str
    names: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    sources: list[str] | None  # None: no clip has a known source

    @classmethod
    def of(cls, task: str, labels: LabelSet, judged: Judged, sources: Mapping[str, str] | None) -> Sample:
        names = [name for name in judged.probability if task in labels.clips[name]]
        return cls(
            task,
            names,
            np.array([labels.clips[name][task] for name in names], dtype=np.int64),
            np.array([judged.probability[name][task] for name in names], dtype=np.float64),
            None if sources is None else [sources[name] for name in names],
        )


def evaluate(config: EvalConfig, *, progress: Progress | None = None) -> dict[str, Any]:
    """Measure a model on the labelled clips of a split and report as in the module's docstring.

    Model and data default to those of the last training in the working directory, the model else to the embedded one.
    A clip that cannot be decoded stands under `errors` and takes no part in the figures. Raises UsageError when
    there is no data, LabelsError, ModelError, and DataError when model and labels have no task in common, or when the
    operating point of the only task is out of reach; of several tasks, those keep the model's threshold.
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
    tell = progress or (lambda done, total, note: None)

    folder = find_split(data, config.split)
    labels = read_labels(folder)
    manifest = read_manifest(folder, brief=True)
    val = read_labels(find_split(data, POINT_SPLIT)) if point else None

    judged = judge(config, labels, tell, baselines=True)
    tasks = [task for task in judged.tasks if task in labels.tasks]
    chosen = judge(config, val, tell) if val else None
    other = judge(replace(config, model=config.compare), labels, tell) if config.compare else None
    sources = known_sources(labels, manifest)
    samples = {task: Sample.of(task, labels, judged, sources) for task in tasks}

    report: dict[str, Any] = {
        "schema": SCHEMA,
        "split": config.split or folder.name,
        "clips": len(judged.probability),
        "model": judged.model,
        "data": str(folder),
        "tasks": {},
        "errors": judged.errors,
    }
    for task, sample in samples.items():
        threshold = judged.thresholds[task]
        fitted: dict[str, Any] = {}
        if point and chosen and val:
            try:
                threshold, fitted = operate(point, Sample.of(task, val, chosen, None))
            except DataError as error:
                if len(samples) == 1:
                    raise
                log.warning("%s. The model's own threshold is used for it.", error.message)
        report["tasks"][task] = {**figures(sample, threshold, judged, manifest, config), **fitted}
    left_out = sorted(set(labels.tasks) - set(tasks))
    if left_out:
        report["not_judged"] = left_out
    if other:
        report["compare"] = compared(samples, other, config)
    if config.plots:
        from grainscan.evaluate.plots import draw

        report["plots"] = [str(path) for path in draw(config.plots, *_curves(samples, judged, other, report))]
    return report


def judge(config: EvalConfig, labels: LabelSet, progress: Progress, *, baselines: bool = False) -> Judged:
    """Scan the clips that have a label for one of the model's tasks. Raises DataError when there are none."""
    with Scanner.from_config(config, baseline=baselines) as scanner:
        tasks = scanner.spec.tasks
        names = [name for name, known in labels.clips.items() if any(task in known for task in tasks)]
        if not names:
            raise DataError(
                f"{labels.folder}: no label for what {scanner.spec.name} detects ({', '.join(tasks)})",
                hint=f"The labels are of: {', '.join(labels.tasks) or 'nothing'}.",
            )
        judged = Judged(scanner.spec.name, tasks, {task: scanner.spec.threshold_of(task) for task in tasks})
        note = f"{scanner.spec.name} on {labels.folder.name}"
        progress(0, len(names), note)
        results = scanner.scan([labels.path[name] for name in names])
        for done, (name, result) in enumerate(zip(names, results, strict=True), 1):
            _record(judged, name, result)
            progress(done, len(names), note)
    return judged


def _record(judged: Judged, name: str, result: Mapping[str, Any]) -> None:
    if result["status"] != "ok":
        judged.errors.append({"name": name, "path": result["path"], **result["error"]})
        return
    tasks = result["tasks"]
    judged.probability[name] = {task: tasks[task]["probability"] for task in judged.tasks}
    judged.strength[name] = {
        task: tasks[task]["strength"] for task in judged.tasks if tasks[task].get("strength") is not None
    }
    judged.baseline[name] = result.get("baseline", {})


def known_sources(labels: LabelSet, manifest: dict[str, Any] | None) -> dict[str, str] | None:
    """The source of each clip, as `split` sees it; None when every clip would be a source of its own."""
    sources = group_clips(labels.clips, manifest, "auto")
    return sources if any(source != name for name, source in sources.items()) else None


def figures(
    sample: Sample, threshold: float, judged: Judged, manifest: dict[str, Any] | None, config: EvalConfig
) -> dict[str, Any]:
    """The block of one task: scores, intervals, and what is known beyond the contract."""
    drawing: dict[str, Any] = {"groups": sample.sources, "resamples": config.bootstrap, "seed": config.seed}
    truth, probability = sample.labels, sample.probabilities
    block = {
        **metrics.scores(truth, probability, threshold),
        "clips": len(sample.names),
        "ci95": bootstrap.intervals(truth, probability, threshold, **drawing),
        "baseline": _baseline(sample, judged, drawing),
        "reliability": _reliability(truth, probability),
        "mistakes": _mistakes(sample, threshold, config.mistakes),
    }
    strength = _strength(sample, judged, manifest)
    if strength:
        block["strength"] = strength
    if sample.sources is not None:
        block["sources"] = _sources(sample, threshold)
    return block


def _baseline(sample: Sample, judged: Judged, drawing: dict[str, Any]) -> dict[str, Any] | None:
    """The classical detector that was chosen before anything was measured, and `all` of them by AUROC.

    `strongest` is the best of them on these very clips: an upper bound, since it was chosen by what it is judged on.
    """
    chosen = task_of(sample.task).estimator
    if chosen is None or not sample.names:
        return None
    values = {name: np.array([judged.baseline[clip][name] for clip in sample.names]) for name in baseline.ESTIMATORS}
    areas = {name: metrics.auroc(sample.labels, value) for name, value in values.items()}
    best = max(areas, key=lambda name: areas[name] or 0.0)
    return {
        "name": chosen,
        "auroc": areas[chosen],
        "ci95": {"auroc": bootstrap.auroc_interval(sample.labels, values[chosen], **drawing)},
        "strongest": {"name": best, "auroc": areas[best]},
        "all": areas,
    }


def _strength(sample: Sample, judged: Judged, manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """Estimated against true strength, of clips whose manifest tells: rank correlation and median error."""
    entries = (manifest or {}).get("clips", {})
    pairs = []
    for name in sample.names:
        true = (entries.get(name, {}).get("strength") or {}).get(sample.task)
        estimate = judged.strength[name].get(sample.task)
        if true is not None and estimate is not None:
            pairs.append((estimate, true))
    if not pairs:
        return None
    estimates, truths = np.array(pairs, dtype=np.float64).T
    return {
        "clips": len(pairs),
        "spearman": metrics.spearman(estimates, truths),
        "median_error": float(np.median(np.abs(estimates - truths))),
    }


def _reliability(truth: np.ndarray, probability: np.ndarray) -> list[dict[str, Any]]:
    """The bins of the reliability diagram that hold a clip."""
    diagram = metrics.reliability(truth, probability)
    return [
        {
            "from": round(float(diagram.edges[k]), 6),
            "to": round(float(diagram.edges[k + 1]), 6),
            "clips": int(diagram.count[k]),
            "probability": float(diagram.probability[k]),
            "observed": float(diagram.observed[k]),
        }
        for k in np.flatnonzero(diagram.count)
    ]


def _mistakes(sample: Sample, threshold: float, most: int) -> list[dict[str, Any]]:
    """The wrong verdicts, farthest from the threshold first."""
    wrong = np.flatnonzero((sample.probabilities >= threshold) != (sample.labels == 1))
    distance = np.abs(sample.probabilities[wrong] - threshold)
    return [
        {
            "name": sample.names[k],
            "label": int(sample.labels[k]),
            "probability": float(sample.probabilities[k]),
            **({"source": sample.sources[k]} if sample.sources else {}),
        }
        for k in wrong[np.argsort(-distance, kind="stable")][:most]
    ]


def _sources(sample: Sample, threshold: float) -> dict[str, dict[str, Any]]:
    """Accuracy, mean probability and (with both classes) AUROC of each source, the worst first."""
    members: dict[str, list[int]] = {}
    for index, source in enumerate(sample.sources or []):
        members.setdefault(source, []).append(index)
    table: dict[str, dict[str, Any]] = {}
    for source, indices in members.items():
        truth, probability = sample.labels[indices], sample.probabilities[indices]
        table[source] = {
            "clips": len(indices),
            "positives": int(truth.sum()),
            "accuracy": float(np.mean((probability >= threshold) == (truth == 1))),
            "auroc": metrics.auroc(truth, probability),
            "brier": float(np.mean((probability - truth) ** 2)),
        }
    return dict(sorted(table.items(), key=lambda item: (item[1]["accuracy"], -item[1]["brier"], item[0])))


def operate(point: OperatingPoint, sample: Sample) -> tuple[float, dict[str, Any]]:
    """The threshold of an operating point, and the temperature, both fitted on the clips of `sample` (val).

    The temperature divides the logit of the reported probability; one near 1 says that the probabilities were right.
    Raises DataError when the point is out of reach there.
    """
    try:
        threshold = point.threshold(sample.labels, sample.probabilities)
    except DataError as error:
        raise DataError(f"{sample.task} on {POINT_SPLIT}: {error.message}", hint=error.hint) from None
    logits = to_logits(sample.probabilities)
    slope, _ = fit_temperature(sample.labels, logits)
    scaled = 1 / (1 + np.exp(-slope * logits))
    return threshold, {
        "operating_point": {"name": str(point), "split": POINT_SPLIT, "clips": len(sample.names)},
        "calibration": {
            "split": POINT_SPLIT,
            "temperature": 1 / slope,
            "ece": metrics.ece(sample.labels, sample.probabilities),
            "ece_scaled": metrics.ece(sample.labels, scaled),
        },
    }


def to_logits(probabilities: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), finite at 0 and 1."""
    kept = np.clip(probabilities, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def compared(samples: Mapping[str, Sample], other: Judged, config: EvalConfig) -> dict[str, Any]:
    """Both models on the clips that both could judge, task by task, with a paired bootstrap."""
    tasks: dict[str, Any] = {}
    for task, sample in samples.items():
        if task not in other.tasks:
            continue
        keep = [k for k, name in enumerate(sample.names) if name in other.probability]
        second = np.array([other.probability[sample.names[k]][task] for k in keep])
        groups = [sample.sources[k] for k in keep] if sample.sources else None
        tasks[task] = {
            "clips": len(keep),
            **bootstrap.compare(
                sample.labels[keep],
                sample.probabilities[keep],
                second,
                groups=groups,
                resamples=config.bootstrap,
                seed=config.seed,
            ),
        }
    return {"model": other.model, "tasks": tasks, "errors": other.errors}


def _curves(
    samples: Mapping[str, Sample], judged: Judged, other: Judged | None, report: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """What `plots.draw` wants: labels, named scores (the model's first) and thresholds, by task."""
    truths, scores, thresholds = {}, {}, {}
    for task, sample in samples.items():
        block = report["tasks"][task]
        truths[task], thresholds[task] = sample.labels, block["threshold"]
        scores[task] = {judged.model: sample.probabilities}
        if other and task in other.tasks and all(name in other.probability for name in sample.names):
            values = [other.probability[name][task] for name in sample.names]
            scores[task][_apart(other.model, scores[task])] = np.array(values)
        if block["baseline"]:
            for name in dict.fromkeys((block["baseline"]["name"], block["baseline"]["strongest"]["name"])):
                values = [judged.baseline[clip][name] for clip in sample.names]
                scores[task][f"baseline {name}"] = np.array(values)
    return truths, scores, thresholds


def _apart(name: str, taken: Iterable[str]) -> str:
    return f"{name} (compared)" if name in taken else name
