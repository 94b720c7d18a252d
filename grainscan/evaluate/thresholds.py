"""Operating points and calibration: choose thresholds, and fit probabilities to observed frequencies."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from grainscan.errors import ConfigError, DataError, UnfitDataError
from grainscan.evaluate.bootstrap import Ranking
from grainscan.evaluate.metrics import Floats, as_arrays, both_classes, ece
from grainscan.results import Report

if TYPE_CHECKING:
    from grainscan.evaluate.judging import Sample

POINT_SPLIT = "val"  # where thresholds and temperatures are chosen
_LEAST_PROBABILITY = 1e-6  # for logits of probabilities that were rounded to 0 or 1


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold is chosen for: the best `f1`, or a `target` for `precision` or `recall`.

    With `prevalence`, precision is what it would be if that share of the clips were positive.
    """

    kind: str
    target: float = 1.0
    prevalence: float | None = None

    @classmethod
    def parse(cls, text: str) -> OperatingPoint:
        """Parse `f1`, `precision=0.95` or `recall=0.9`. Raises ConfigError."""
        if text.strip() == "f1":
            return cls("f1")
        kind, _, number = text.strip().partition("=")
        with contextlib.suppress(ValueError):
            if kind in ("precision", "recall") and 0 < float(number) <= 1:
                return cls(kind, float(number))
        hint = "Use f1, precision=P or recall=R, with P and R above 0 and at most 1."
        raise ConfigError(f"operating point is {text!r}", hint=hint)

    def __str__(self) -> str:
        return self.kind if self.kind == "f1" else f"{self.kind}={self.target:g}"

    def threshold(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
        """The threshold for these clips, halfway between the two probabilities that it separates.

        f1: the threshold with the largest F1, and of several the highest. precision: the lowest that reaches the
        target, for the most recall. recall: the highest that reaches it, for the most precision. Raises DataError
        without a positive clip, or if no threshold reaches the precision.
        """
        truth, probability = as_arrays(labels, probabilities)
        if not truth.any():
            hint = "The split for choosing the threshold needs clips of both labels."
            raise UnfitDataError(f"operating point {self}: there is no positive clip", hint=hint)
        ranking = Ranking(probability)
        distinct = probability[ranking.order][ranking.starts]
        ends = np.r_[ranking.starts[1:], truth.size]  # clips called positive with each score as the threshold
        found = np.cumsum(truth[ranking.order])[ends - 1]
        recall, precision = found / truth.sum(), found / ends
        if self.prevalence is not None:
            alarms = (ends - found) / max(1.0, (1 - truth).sum())
            precision = self.prevalence * recall / (self.prevalence * recall + (1 - self.prevalence) * alarms)
        index = self._choose(precision, recall)
        if index + 1 == distinct.size:
            return float(distinct[index])
        middle = (distinct[index] + distinct[index + 1]) / 2
        return float(middle if middle > distinct[index + 1] else distinct[index])

    def _choose(self, precision: Floats, recall: Floats) -> int:
        if self.kind == "recall":
            return int(np.flatnonzero(recall >= self.target)[0])
        if self.kind == "precision":
            reached = np.flatnonzero(precision >= self.target)
            if reached.size:
                return int(reached[-1])
            best = f"out of reach, the best precision is {precision.max():.3f}"
            raise DataError(f"operating point {self}: {best}", hint="Ask for less, or train a better model first.")
        return int(np.argmax(precision * recall / np.maximum(precision + recall, 1e-12)))  # half the F1


@dataclass(frozen=True)
class ChosenPoint(Report):
    """The origin of a threshold that is not the model's own."""

    name: str
    split: str
    clips: int


@dataclass(frozen=True)
class Calibration(Report):
    """The temperature that divides the logits, and the calibration error without and with it.

    A temperature near 1 means that the probabilities were right.
    """

    split: str
    temperature: float
    ece: float | None
    ece_scaled: float | None


@dataclass(frozen=True)
class Fitted:
    """A threshold: the model's own, or one chosen on other clips."""

    threshold: float
    operating_point: ChosenPoint | None = None
    calibration: Calibration | None = None


def operate(point: OperatingPoint, sample: Sample) -> Fitted:
    """Choose the threshold on the clips of `sample` (val). Raises DataError if the point is out of reach there."""
    try:
        threshold = point.threshold(sample.labels, sample.probabilities)
    except DataError as error:
        raise type(error)(f"{sample.task} on {POINT_SPLIT}: {error.message}", hint=error.hint) from None
    logits = to_logits(sample.probabilities)
    slope, _ = fit_platt(sample.labels, logits, intercept=False)
    scaled = 1 / (1 + np.exp(-slope * logits))
    errors = ece(sample.labels, sample.probabilities), ece(sample.labels, scaled)
    chosen = ChosenPoint(str(point), POINT_SPLIT, len(sample.names))
    return Fitted(threshold, chosen, Calibration(POINT_SPLIT, 1 / slope, *errors))


def to_logits(probabilities: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), finite at 0 and 1."""
    kept = np.clip(probabilities, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def fit_platt(labels: npt.ArrayLike, logits: npt.ArrayLike, *, intercept: bool = True) -> tuple[float, float]:
    """(a, b) such that sigmoid(a * logit + b) is calibrated on these clips.

    Platt, "Probabilistic outputs for support vector machines", 1999: logistic regression on the logit against smoothed
    targets, (n+ + 1) / (n+ + 2) and 1 / (n- + 2), which keep it finite if the classes separate. The identity (1, 0)
    with a single class, or if larger logits do not mean more positives: another slope would invert the ranking.
    Without an intercept b is 0 and a is 1 / T, the temperature scaling of Guo et al. 2017.
    """
    truth, logit = as_arrays(labels, logits)
    spread = float(np.sqrt(np.mean(logit**2))) if logit.size else 0.0
    if not both_classes(truth) or spread == 0:
        return 1.0, 0.0
    from sklearn.linear_model import LogisticRegression

    positives = truth.sum()
    negatives = truth.size - positives
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    column = np.r_[logit, logit][:, None] / spread  # every clip once as a positive, once as a negative
    classes = np.repeat([1, 0], truth.size)
    model = LogisticRegression(C=1e6, fit_intercept=intercept, max_iter=1000, tol=1e-8)
    model.fit(column, classes, sample_weight=np.r_[target, 1 - target])
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        return 1.0, 0.0
    return slope, float(np.ravel(model.intercept_)[0])
