"""Fit what turns a file's views into a probability: the fraction of views that count, calibration, threshold.

Whole files go through the scanner, as in `predict`: a file is judged by the mean of some of its views, not by one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.console import Progress
from grainscan.data.labels import LabelSet, read_labels
from grainscan.evaluate import metrics
from grainscan.evaluate.thresholds import OperatingPoint, fit_platt, to_logits
from grainscan.files import write_json
from grainscan.model.spec import BLOCK, CONFIG_FILE, ModelSpec, read_spec
from grainscan.options import DeviceName
from grainscan.scan.engine import Outputs
from grainscan.scan.pooling import deciding, probability
from grainscan.scan.scanner import Scanner
from grainscan.tasks import task_of

PREVALENCE = 0.1  # of an artifact in the libraries that thresholds are chosen for
TRUSTED = 0.8  # AUROC on whole validation clips from which a task is not experimental
FALSE_ALARMS = 0.02  # share of the clips without an artifact that is experimental
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the views
_IDENTITY = (1.0, 0.0)  # what `fit_platt` gives where larger logits do not mean more positives


@dataclass(frozen=True)
class Calibrated:
    """The fitted specification, and for each task the number of clips that it was fitted on.

    `auroc` and `f1` at the threshold are of these clips as whole files; None where a class is missing.
    """

    spec: ModelSpec
    clips: dict[str, int]
    auroc: dict[str, float | None] = field(default_factory=dict)
    f1: dict[str, float | None] = field(default_factory=dict)

    @property
    def experimental(self) -> tuple[str, ...]:
        """Tasks that are not to be trusted yet."""
        return tuple(task for task, area in self.auroc.items() if area is not None and area < TRUSTED)


def calibrate(
    directory: Path,
    folder: Path,
    *,
    tasks: Collection[str] | None = None,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Calibrated:
    """Fit a model directory's aggregation, calibration and thresholds on the labelled clips of a folder, in place.

    Each task's fraction of views is the largest whose mean cross-entropy, after Platt scaling, is within one standard
    error of the least (Breiman et al. 1984). Not so where clips for calibration, which are often too short to show two
    moments, could not tell: where the record says that the highest views decide, it is the least one, since what is in
    one moment only must not be outvoted; all count for a task that is judged by statistics of the picture alone, of
    which each moment has one.
    Each task's threshold is the one with the best F1 if PREVALENCE of the clips had the artifact: labelled clips are
    balanced, but a library is mostly clean, and there every false alarm costs time. A task that ranks badly, with an
    AUROC below TRUSTED, calls at most FALSE_ALARMS of the clips without the artifact: what it then finds is worth a
    look. A measured task has a single score for a file, and no fraction. Tasks without both classes get the identity
    and 0.5. Measured ones keep what they have, also where their scores do not rank these clips: with faults between the
    windows, they say nothing of the formula. Clips that cannot be decoded are left out.
    The share of clips with the artifact is recorded for each task that Platt scaling succeeded for: its probabilities
    can be moved to another prevalence.
    tasks: those to fit, by default all; the others keep what they have. Raises ModelError, LabelsError.
    """
    progress = progress or Progress()
    before = read_spec(directory)
    tasks = [task for task in before.judged if tasks is None or task in tasks]
    spec = before.keeping(set(before.judged).difference(tasks))
    write_spec(directory, spec)  # so that the probability of a measured task is the plain sigmoid of its score
    samples = _samples(directory, read_labels(folder), tasks, spec, device, progress)
    fits = {}
    for task, known in samples.items():
        area = metrics.auroc(*zip(*((label, logits.mean()) for label, logits in known), strict=True)) if known else None
        if area is None:
            continue
        if task not in spec.measured:
            fits[task] = _choose([_fit(task, known, fraction) for fraction in _fractions(task, spec)])
        elif area >= TRUSTED:
            fits[task] = _fit(task, known, 1.0)
    same = before.keeping(set(before.measured).difference(fits))
    shares = {task: fit.prevalence for task, fit in fits.items() if fit.calibration != _IDENTITY}
    spec = spec.with_(
        aggregation=spec.aggregation | {task: fit.fraction for task, fit in fits.items() if task in spec.tasks},
        calibration=spec.calibration | same.calibration | {task: fit.calibration for task, fit in fits.items()},
        threshold=spec.threshold | same.threshold | {task: fit.threshold for task, fit in fits.items()},
        prevalence=spec.prevalence | same.prevalence | shares,
    )
    write_spec(directory, spec)
    figures = {task: _figures(task, known, spec) for task, known in samples.items()}
    return Calibrated(
        spec,
        {task: len(known) for task, known in samples.items()},
        {task: found["auroc"] for task, found in figures.items()},
        {task: found["f1"] for task, found in figures.items()},
    )


def _fractions(task: str, spec: ModelSpec) -> tuple[float, ...]:
    """Those among which to choose."""
    if task_of(task).decided_by == "highest":
        return FRACTIONS[:1]
    return FRACTIONS if spec.by_views(task) else FRACTIONS[-1:]


def write_spec(directory: Path, spec: ModelSpec) -> None:
    """Replace the `grainscan` block of a model directory's config.json."""
    path = directory / CONFIG_FILE
    values = json.loads(path.read_text(encoding="utf-8"))
    values[BLOCK] = spec.to_dict()
    write_json(path, values)


def _samples(
    directory: Path,
    labels: LabelSet,
    tasks: Collection[str],
    spec: ModelSpec,
    device: DeviceName,
    progress: Progress,
) -> dict[str, list[tuple[int, NDArray[np.float32]]]]:
    """By task, the label and the logits of each clip: of its views, or the score of a measured task.

    In the order of the clips' paths; without those that cannot be decoded.
    """
    names = {str(labels.path[name]): name for name, known in labels.clips.items() if any(t in known for t in tasks)}
    seen: dict[str, Outputs] = {}
    samples: dict[str, list[tuple[int, NDArray[np.float32]]]] = {task: [] for task in tasks}
    progress.stage("calibrating", len(names))
    with Scanner(directory, device=device, observe=seen.__setitem__) as scanner:
        results = []
        for done, result in enumerate(scanner.scan(names), 1):
            results.append(result)
            progress.advance(done)
    for result in sorted(results, key=itemgetter("path")):
        verdicts, outputs = result.get("tasks", {}), seen.get(result["path"])
        for task, label in labels.clips[names[result["path"]]].items():
            if task not in samples:
                continue
            if task in spec.measured and task in verdicts:
                score = to_logits(np.array([verdicts[task]["probability"]]))
                samples[task].append((label, score.astype(np.float32)))
            elif task in spec.tasks and outputs is not None:
                samples[task].append((label, outputs.logits[:, spec.tasks.index(task)]))
    return samples


def _figures(task: str, known: list[tuple[int, NDArray[np.float32]]], spec: ModelSpec) -> dict[str, Any]:
    """`metrics.scores` of the clips, with the fitted specification."""
    found = [probability(logits, task, spec) for _, logits in known]
    return metrics.scores([label for label, _ in known], found, spec.threshold_of(task))


@dataclass(frozen=True)
class _Fit:
    fraction: float
    losses: NDArray[np.float64]  # cross-entropy of each clip
    calibration: tuple[float, float]
    threshold: float
    prevalence: float  # share of the clips with the artifact, which the probabilities assume


def _choose(fits: list[_Fit]) -> _Fit:
    """The largest fraction that is no worse than the best one beyond chance."""
    best = min(fits, key=lambda fit: fit.losses.sum())

    def as_good(fit: _Fit) -> bool:
        worse = fit.losses - best.losses
        return bool(worse.sum() <= np.sqrt(len(worse)) * worse.std())

    return max(filter(as_good, fits), key=lambda fit: fit.fraction)


def _fit(task: str, known: list[tuple[int, NDArray[np.float32]]], fraction: float) -> _Fit:
    """Platt scaling and threshold for a fraction of the views, from each clip's label and logits."""
    truth = np.array([label for label, _ in known], np.float64)
    logits = np.array([float(np.mean(views[deciding(views, fraction, task)])) for _, views in known], np.float64)
    a, b = fit_platt(truth, logits)
    likely = 1 / (1 + np.exp(-(a * logits + b)))
    threshold = OperatingPoint("f1", prevalence=PREVALENCE).threshold(truth, likely)
    if (metrics.auroc(truth, logits) or 0.0) < TRUSTED:
        threshold = max(threshold, float(np.quantile(likely[truth == 0], 1 - FALSE_ALARMS)))
    kept = np.clip(likely, 1e-6, 1 - 1e-6)
    losses = -(truth * np.log(kept) + (1 - truth) * np.log(1 - kept))
    return _Fit(fraction, losses, (a, b), round(threshold, 4), round(float(truth.mean()), 6))
