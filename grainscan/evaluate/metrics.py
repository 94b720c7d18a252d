"""Figures from labels and probabilities: arrays in, floats out, nothing about videos.

Point figures come from scikit-learn and SciPy (imported on use). An undefined figure (a class is missing, nothing was
called positive) is None, never a guess and never a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FIGURES = ("accuracy", "precision", "recall", "f1", "auroc", "average_precision", "brier", "ece")
BINS = 15  # of the calibration error, as in Guo et al. 2017

Floats = npt.NDArray[np.float64]


def scores(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float = 0.5, *, called: npt.ArrayLike | None = None
) -> dict[str, Any]:
    """Every figure of a binary task, with `threshold`, `prevalence` and `confusion` [[tn, fp], [fn, tp]].

    labels (n,) of 0 and 1, probabilities (n,) in [0, 1]; the predicted label is `probability >= threshold`, or that of
    `called` (n,), where more than the probability decides. The ranking
    figures (auroc, average_precision) need both classes, precision a clip called positive, recall a positive clip,
    f1 either of them. Raises ValueError if the arrays do not match.
    """
    truth, probability = as_arrays(labels, probabilities)
    table = confusion(truth, *((probability, threshold) if called is None else (called, 1)))
    (tn, fp), (fn, tp) = table
    figures: dict[str, Any] = {
        "accuracy": _ratio(tp + tn, truth.size),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "auroc": auroc(truth, probability),
        "average_precision": average_precision(truth, probability),
        "brier": float(np.mean((probability - truth) ** 2)) if truth.size else None,
        "ece": ece(truth, probability),
    }
    return figures | {"threshold": float(threshold), "prevalence": _ratio(tp + fn, truth.size), "confusion": table}


def auroc(labels: npt.ArrayLike, values: npt.ArrayLike) -> float | None:
    """Area under the ROC curve of any score (n,), where larger means more positive; None with a single class."""
    truth, value = as_arrays(labels, values)
    if not both_classes(truth):
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, value))


def average_precision(labels: npt.ArrayLike, values: npt.ArrayLike) -> float | None:
    """Average precision (the step-wise area under precision over recall); None with a single class."""
    truth, value = as_arrays(labels, values)
    if not both_classes(truth):
        return None
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, value))


def confusion(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> list[list[int]]:
    """[[tn, fp], [fn, tp]] with `probability >= threshold` called positive."""
    truth, probability = as_arrays(labels, probabilities)
    counts = np.bincount(2 * truth.astype(np.int64) + (probability >= threshold), minlength=4)
    table: list[list[int]] = counts.reshape(2, 2).tolist()
    return table


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: arrays (bins,); mean `probability` and `observed` frequency are NaN in empty bins."""

    edges: Floats  # (bins + 1,)
    count: npt.NDArray[np.int64]
    probability: Floats
    observed: Floats

    @property
    def ece(self) -> float | None:
        """The mean distance of the two, weighted by count; None without clips."""
        total = int(self.count.sum())
        if not total:
            return None
        full = self.count > 0
        gaps = np.abs(self.probability[full] - self.observed[full])
        return float(np.sum(self.count[full] * gaps) / total)


def reliability(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Predicted against observed frequency of the positive class in `bins` bins of equal width."""
    truth, probability = as_arrays(labels, probabilities)
    index = bin_index(probability, bins)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Reliability(
            edges=np.linspace(0.0, 1.0, bins + 1),
            count=count,
            probability=np.bincount(index, weights=probability, minlength=bins) / count,
            observed=np.bincount(index, weights=truth, minlength=bins) / count,
        )


def ece(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> float | None:
    """Expected calibration error of the positive class's probability, in bins of equal width over [0, 1].

    The binary form of Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015, with the 15 bins of Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    return reliability(labels, probabilities, bins).ece


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Spearman's rank correlation of two arrays (n,), ties sharing their mean rank; None if either is constant."""
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise ValueError(f"shapes {one.shape} and {two.shape} do not match")
    if one.size < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(one, two).statistic)


def as_arrays(labels: npt.ArrayLike, values: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Labels and values as arrays (n,). Raises ValueError for other shapes, other labels, values not finite."""
    truth, value = np.asarray(labels, np.float64), np.asarray(values, np.float64)
    if truth.ndim != 1 or truth.shape != value.shape:
        raise ValueError(f"labels of shape {truth.shape} for values of shape {value.shape}")
    if not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("labels other than 0 and 1")
    if not np.isfinite(value).all():
        raise ValueError("values that are not finite")
    return truth, value


def both_classes(truth: npt.NDArray[Any]) -> bool:
    """Whether labels (n,) of 0 and 1 include both."""
    return bool(truth.any() and not truth.all())


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def bin_index(probability: Floats, bins: int) -> npt.NDArray[np.int64]:
    """Bin k covers [k / bins, (k + 1) / bins); the last one includes 1."""
    return np.clip((probability * bins).astype(np.int64), 0, bins - 1)
