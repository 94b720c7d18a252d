"""The figures of one task: scores with intervals, the classical baseline, mistakes, sources, strengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grainscan.evaluate import bootstrap, metrics
from grainscan.evaluate.bootstrap import Interval
from grainscan.evaluate.judging import Judged, Sample
from grainscan.evaluate.thresholds import Calibration, ChosenPoint, Fitted
from grainscan.options import EvalConfig
from grainscan.results import Report
from grainscan.tasks import task_of
from grainscan.views.estimators import ESTIMATORS


@dataclass(frozen=True)
class Strongest(Report):
    """The classical estimator that is best on these very clips: an upper bound, since it was chosen on them."""

    name: str
    auroc: float | None


@dataclass(frozen=True)
class Baseline(Report):
    """The classical estimator that the task's record names, chosen before these clips were measured."""

    name: str
    auroc: float | None
    ci95: dict[str, Interval | None]  # of "auroc"
    strongest: Strongest
    all: dict[str, float | None]  # AUROC of every estimator


@dataclass(frozen=True)
class Mistake(Report):
    """A clip with a wrong verdict. `label` is the true one."""

    name: str
    label: int
    probability: float
    source: str | None = None


@dataclass(frozen=True)
class Source(Report):
    """Figures for the clips of one source; `auroc` is None with a single class."""

    clips: int
    positives: int
    accuracy: float
    auroc: float | None
    brier: float


@dataclass(frozen=True)
class StrengthFigures(Report):
    """Estimated against true strength: rank correlation, and median absolute error in the strength's unit."""

    clips: int
    spearman: float | None
    median_error: float


@dataclass(frozen=True)
class TaskReport(Report):
    """Everything measured about one task. Undefined figures are None; see `metrics.scores`."""

    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None
    average_precision: float | None
    brier: float | None
    ece: float | None
    threshold: float
    prevalence: float | None
    confusion: list[list[int]]  # [[tn, fp], [fn, tp]]
    clips: int
    ci95: dict[str, Interval | None]  # of the first eight figures
    baseline: Baseline | None  # None: the task's record names no estimator, or there are no clips
    reliability: list[dict[str, float]]  # bins with clips: from, to, clips, mean probability, observed frequency
    mistakes: list[Mistake]  # farthest from the threshold first
    strength: StrengthFigures | None = None  # if a manifest has true strengths
    sources: dict[str, Source] | None = None  # the worst first, if sources are known
    operating_point: ChosenPoint | None = None
    calibration: Calibration | None = None
    assumed_prevalence: float | None = None  # by the probabilities, if that is known
    min_strength: float | None = None  # from which on a clip counts as positive, if that was asked for
    experimental: bool | None = None  # true if the model is not yet good at the task


def measure(
    sample: Sample, fitted: Fitted, judged: Judged, manifest: dict[str, Any] | None, config: EvalConfig
) -> TaskReport:
    """Measure one task on its labelled clips.

    Probabilities from the threshold on count as positive, unless the strength is too low.
    """
    drawing: dict[str, Any] = {"groups": sample.sources, "resamples": config.bootstrap, "seed": config.seed}
    truth, probability, threshold = sample.labels, sample.probabilities, fitted.threshold
    called = sample.called(threshold)
    return TaskReport(
        **metrics.scores(truth, probability, threshold, called=called),
        clips=len(sample.names),
        ci95=bootstrap.intervals(truth, probability, threshold, called=called, **drawing),
        baseline=_baseline(sample, judged, drawing),
        reliability=_reliability(truth, probability),
        mistakes=_mistakes(sample, threshold, config.mistakes),
        strength=_strength(sample, judged, manifest),
        sources=_sources(sample, threshold),
        operating_point=fitted.operating_point,
        calibration=fitted.calibration,
        assumed_prevalence=judged.prevalence.get(sample.task),
        min_strength=judged.min_strength.get(sample.task),
        experimental=True if sample.task in judged.experimental else None,
    )


def _baseline(sample: Sample, judged: Judged, drawing: dict[str, Any]) -> Baseline | None:
    chosen = task_of(sample.task).estimator
    if chosen is None or not sample.names:
        return None
    values = {name: np.array([judged.baseline[clip][name] for clip in sample.names]) for name in ESTIMATORS}
    areas = {name: metrics.auroc(sample.labels, value) for name, value in values.items()}
    best = max(areas, key=lambda name: areas[name] or 0.0)
    interval = bootstrap.auroc_interval(sample.labels, values[chosen], **drawing)
    return Baseline(chosen, areas[chosen], {"auroc": interval}, Strongest(best, areas[best]), areas)


def _strength(sample: Sample, judged: Judged, manifest: dict[str, Any] | None) -> StrengthFigures | None:
    """Figures for the clips with a true strength in the manifest; None without any."""
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
    error = float(np.median(np.abs(estimates - truths)))
    return StrengthFigures(len(pairs), metrics.spearman(estimates, truths), error)


def _reliability(truth: np.ndarray, probability: np.ndarray) -> list[dict[str, float]]:
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


def _mistakes(sample: Sample, threshold: float, most: int) -> list[Mistake]:
    wrong = np.flatnonzero(sample.called(threshold) != (sample.labels == 1))
    distance = np.abs(sample.probabilities[wrong] - threshold)
    sources: Sequence[str | None] = sample.sources or [None] * len(sample.names)
    return [
        Mistake(sample.names[k], int(sample.labels[k]), float(sample.probabilities[k]), sources[k])
        for k in wrong[np.argsort(-distance, kind="stable")][:most]
    ]


def _sources(sample: Sample, threshold: float) -> dict[str, Source] | None:
    if sample.sources is None:
        return None
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, source in enumerate(sample.sources):
        members[source].append(index)
    table, called = {}, sample.called(threshold)
    for source, indices in members.items():
        truth, probability = sample.labels[indices], sample.probabilities[indices]
        table[source] = Source(
            clips=len(indices),
            positives=int(truth.sum()),
            accuracy=float(np.mean(called[indices] == (truth == 1))),
            auroc=metrics.auroc(truth, probability),
            brier=float(np.mean((probability - truth) ** 2)),
        )
    return dict(sorted(table.items(), key=lambda item: (item[1].accuracy, -item[1].brier, item[0])))
