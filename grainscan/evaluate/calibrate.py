"""Fit what turns a file's views into a probability: the fraction of views that count, calibration, threshold.

Whole files go through the scanner, as in `predict`: a file is judged by the mean of some of its views, not by one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grainscan.console import Progress
from grainscan.data.labels import read_labels
from grainscan.evaluate.metrics import both_classes
from grainscan.evaluate.thresholds import OperatingPoint, fit_platt
from grainscan.files import write_json
from grainscan.model.spec import BLOCK, CONFIG_FILE, ModelSpec, read_spec
from grainscan.options import DeviceName
from grainscan.scan.engine import Outputs
from grainscan.scan.pooling import deciding
from grainscan.scan.scanner import Scanner

PREVALENCE = 0.1  # of an artifact in the libraries that thresholds are chosen for
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the views


@dataclass(frozen=True)
class Calibrated:
    """The fitted specification, and the number of clips that each task was fitted on."""

    spec: ModelSpec
    clips: dict[str, int]


def calibrate(
    directory: Path, folder: Path, *, device: DeviceName = "auto", progress: Progress | None = None
) -> Calibrated:
    """Fit a model directory's aggregation, calibration and thresholds on the labelled clips of a folder, in place.

    The fraction of views is the largest whose mean cross-entropy over the tasks, after Platt scaling, is within one
    standard error of the least (Breiman et al. 1984). Each task's threshold is the one with the best F1 if PREVALENCE
    of the clips had the artifact: labelled clips are balanced, but a library is mostly clean, and there every false
    alarm costs time. Tasks without both classes keep the identity and 0.5. Clips that cannot be decoded are left out.
    Raises ModelError, LabelsError.
    """
    progress = progress or Progress()
    spec = read_spec(directory).with_(calibration={}, threshold={}, aggregation=1.0)
    labels = read_labels(folder)
    seen: dict[str, Outputs] = {}
    names = {str(path): name for name, path in labels.path.items()}
    progress.stage("calibrating", len(names))
    with Scanner(directory, device=device, observe=seen.__setitem__) as scanner:
        for done, _ in enumerate(scanner.scan(names), 1):
            progress.advance(done)
    judged = [(labels.clips[names[path]], outputs) for path, outputs in sorted(seen.items())]
    best = _choose([_fit(spec, judged, fraction) for fraction in FRACTIONS])
    spec = spec.with_(aggregation=best.fraction, calibration=best.calibration, threshold=best.threshold)
    write_spec(directory, spec)
    return Calibrated(spec, best.clips)


def write_spec(directory: Path, spec: ModelSpec) -> None:
    """Replace the `grainscan` block of a model directory's config.json."""
    path = directory / CONFIG_FILE
    values = json.loads(path.read_text(encoding="utf-8"))
    values[BLOCK] = spec.to_dict()
    write_json(path, values)


@dataclass(frozen=True)
class _Fit:
    fraction: float
    losses: NDArray[np.float64]  # each labelled clip's share of the mean cross-entropy
    calibration: dict[str, tuple[float, float]]
    threshold: dict[str, float]
    clips: dict[str, int]


def _choose(fits: list[_Fit]) -> _Fit:
    """The largest fraction that is no worse than the best one beyond chance."""
    best = min(fits, key=lambda fit: fit.losses.sum())

    def as_good(fit: _Fit) -> bool:
        worse = fit.losses - best.losses
        return not len(worse) or bool(worse.sum() <= np.sqrt(len(worse)) * worse.std())

    return max(filter(as_good, fits), key=lambda fit: fit.fraction)


def _fit(spec: ModelSpec, judged: list[tuple[dict[str, int], Outputs]], fraction: float) -> _Fit:
    losses: list[NDArray[np.float64]] = []
    calibration: dict[str, tuple[float, float]] = {}
    threshold: dict[str, float] = {}
    clips: dict[str, int] = {}
    for column, task in enumerate(spec.tasks):
        known = [(labels[task], outputs.logits[:, column]) for labels, outputs in judged if task in labels]
        truth = np.array([label for label, _ in known], np.float64)
        means = [float(np.mean(views[deciding(views, fraction, task)])) for _, views in known]
        logits = np.array(means, np.float64)
        clips[task] = len(truth)
        if not both_classes(truth):
            continue
        a, b = calibration[task] = fit_platt(truth, logits)
        probability = 1 / (1 + np.exp(-(a * logits + b)))
        point = OperatingPoint("f1", prevalence=PREVALENCE)
        threshold[task] = round(point.threshold(truth, probability), 4)
        kept = np.clip(probability, 1e-6, 1 - 1e-6)
        losses.append(-(truth * np.log(kept) + (1 - truth) * np.log(1 - kept)) / len(truth))
    each = np.concatenate(losses) / len(losses) if losses else np.zeros(0)
    return _Fit(fraction, each, calibration, threshold, clips)
