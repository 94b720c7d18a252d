"""Fit what turns the views of a file into a probability: how many views count, calibration, threshold.

Works on whole files through the scanner, as `predict` does, because that is where the probability has to be right: a
file is judged by the mean of some of its views, not by one view.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.console import Progress
from grainscan.data.labels import read_labels
from grainscan.evaluate.thresholds import OperatingPoint, fit_platt
from grainscan.files import write_json
from grainscan.model.spec import BLOCK, CONFIG_FILE, ModelSpec, read_spec
from grainscan.options import DeviceName
from grainscan.scan.engine import Outputs
from grainscan.scan.pooling import deciding
from grainscan.scan.scanner import Scanner

PREVALENCE = 0.1  # of an artifact in the libraries that thresholds are chosen for
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the views, the lowest first
_PLAIN = {"calibration": {}, "threshold": {}, "aggregation": 1.0}


@dataclass(frozen=True)
class Calibrated:
    """A specification with its fitted parts, and for each task the number of clips that it was fitted on."""

    spec: ModelSpec
    clips: dict[str, int]


def calibrate(
    directory: Path, folder: Path, *, device: DeviceName = "auto", progress: Progress | None = None
) -> Calibrated:
    """Fit a model directory's aggregation, calibration and thresholds on the labelled clips of a folder, in place.

    The fraction of views is the largest whose cross-entropy after Platt scaling, the mean over the tasks, lies within
    one standard error of the least (Breiman et al. 1984). Each task's threshold is the one with the best F1 where
    PREVALENCE of the clips have the artifact: labelled clips are balanced, a library is mostly clean, and there every
    false alarm costs somebody's time. Tasks without both classes keep the identity and 0.5. Clips that cannot be
    decoded are left out. Raises ModelError, LabelsError.
    """
    progress = progress or Progress()
    spec = read_spec(directory).with_(**_PLAIN)
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
    losses: NDArray[np.float64]  # the share of each labelled clip in the mean cross-entropy
    calibration: dict[str, tuple[float, float]]
    threshold: dict[str, float]
    clips: dict[str, int]


def _choose(fits: list[_Fit]) -> _Fit:
    """The largest fraction that is not worse than the best one by more than chance."""
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
    point = OperatingPoint("f1", prevalence=PREVALENCE)
    for task, truth, logits in _samples(spec, judged, fraction):
        clips[task] = len(truth)
        if len(np.unique(truth)) < 2:
            continue
        a, b = fit_platt(truth, logits)
        probability = 1 / (1 + np.exp(-(a * logits + b)))
        calibration[task] = (a, b)
        threshold[task] = round(point.threshold(truth, probability), 4)
        losses.append(_cross_entropy(truth, probability) / len(truth))
    each = np.concatenate(losses) / len(losses) if losses else np.zeros(0)
    return _Fit(fraction, each, calibration, threshold, clips)


def _samples(
    spec: ModelSpec, judged: list[tuple[dict[str, int], Outputs]], fraction: float
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """(task, labels, file logits) of the files whose label is known."""
    for column, task in enumerate(spec.tasks):
        known: list[tuple[Any, Any]] = [
            (labels[task], outputs.logits[:, column]) for labels, outputs in judged if task in labels
        ]
        truth = np.array([label for label, _ in known], dtype=np.float64)
        means = [float(np.mean(views[deciding(views, fraction, task)])) for _, views in known]
        logits = np.array(means, dtype=np.float64)
        yield task, truth, logits


def _cross_entropy(truth: NDArray[np.float64], probability: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.asarray(-(truth * np.log(kept) + (1 - truth) * np.log(1 - kept)))
