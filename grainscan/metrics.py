"""Figures on labels and probabilities: scores, intervals, operating points, calibration.

The last arithmetic of `eval` and the model selection of `train`: plain arrays in, plain floats out, nothing
about videos. Point figures come from scikit-learn (imported on use); resampling is written out here because
it has to weigh thousands of resamples at once. A figure that is undefined (a class is missing, nothing was
called positive) is None, never a guess and never a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grainscan.errors import ConfigError, DataError

FIGURES = ("accuracy", "precision", "recall", "f1", "auroc", "average_precision", "brier", "ece")
BINS = 15  # of the calibration error, as in Guo et al. 2017
RESAMPLES = 1000
LEVEL = 0.95  # of every interval
_CHUNK = 4_000_000  # weights held at once while resampling: 32 MB

Floats = npt.NDArray[np.float64]
Interval = list[float]


def scores(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float = 0.5) -> dict[str, Any]:
    """Every figure of a binary task, with `threshold`, `prevalence` and `confusion` [[tn, fp], [fn, tp]].

    labels (n,) of 0 and 1, probabilities (n,) in [0, 1]; the label given is `probability >= threshold`.
    The ranking figures (auroc, average_precision) need both classes, precision something called positive,
    recall a positive clip, f1 either of them. Raises ValueError when the arrays do not match.
    """
    truth, probability = _arrays(labels, probabilities)
    table = confusion(truth, probability, threshold)
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
    return figures | {
        "threshold": float(threshold),
        "prevalence": _ratio(tp + fn, truth.size),
        "confusion": table,
    }


def auroc(labels: npt.ArrayLike, values: npt.ArrayLike) -> float | None:
    """Area under the ROC curve of any score (n,), larger meaning more positive; None with a single class."""
    truth, value = _arrays(labels, values)
    if not _both(truth):
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, value))


def average_precision(labels: npt.ArrayLike, values: npt.ArrayLike) -> float | None:
    """Average precision (the step-wise area under precision over recall); None with a single class."""
    truth, value = _arrays(labels, values)
    if not _both(truth):
        return None
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, value))


def confusion(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> list[list[int]]:
    """[[tn, fp], [fn, tp]] with `probability >= threshold` called positive."""
    truth, probability = _arrays(labels, probabilities)
    counts = np.bincount(2 * truth.astype(np.int64) + (probability >= threshold), minlength=4)
    return [[int(counts[0]), int(counts[1])], [int(counts[2]), int(counts[3])]]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: (bins,) arrays, mean `probability` and `observed` frequency NaN when empty."""

    edges: Floats  # (bins + 1,)
    count: npt.NDArray[np.int64]
    probability: Floats
    observed: Floats

    @property
    def ece(self) -> float | None:
        """Mean distance of the two, weighted by count."""
        total = int(self.count.sum())
        if not total:
            return None
        full = self.count > 0
        gaps = np.abs(self.probability[full] - self.observed[full])
        return float(np.sum(self.count[full] * gaps) / total)


def reliability(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Predicted against observed frequency of the positive class in `bins` bins of equal width."""
    truth, probability = _arrays(labels, probabilities)
    index = _bin_index(probability, bins)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Reliability(
            edges=np.linspace(0.0, 1.0, bins + 1),
            count=count,
            probability=np.bincount(index, weights=probability, minlength=bins) / count,
            observed=np.bincount(index, weights=truth, minlength=bins) / count,
        )


def ece(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> float | None:
    """Expected calibration error of the positive class's probability, in 15 bins of equal width over [0, 1].

    Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015,
    in the binary form; the number of bins is that of Guo et al., "On calibration of modern neural networks",
    ICML 2017.
    """
    return reliability(labels, probabilities, bins).ece


# Intervals --------------------------------------------------------------------------------------------------


def intervals(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    threshold: float = 0.5,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """95 % percentile bootstrap intervals [low, high] of every figure of FIGURES.

    With `groups` (n,), whole groups are drawn with replacement instead of clips: clips of one source resemble
    each other, and drawing them singly would make the intervals too narrow. Resamples in which a figure is
    undefined are left out of its interval; None when that is more than half of them, or when there is nothing
    to draw from. Efron & Tibshirani, "An introduction to the bootstrap", 1993, chapter 13 (percentile
    method).
    """
    truth, probability = _arrays(labels, probabilities)
    if truth.size == 0 or resamples == 0:
        return dict.fromkeys(FIGURES)

    def figures(weights: Floats) -> Floats:
        return _weighted_figures(truth, probability, threshold, weights)

    drawn = _bootstrap(figures, truth.size, groups, resamples, seed)
    return {name: _percentiles(drawn[:, column]) for column, name in enumerate(FIGURES)}


def auroc_interval(
    labels: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The interval of the AUROC of any score, such as a baseline's, drawn as in `intervals`."""
    truth, value = _arrays(labels, values)
    if truth.size == 0 or resamples == 0:
        return None
    ranking = _Ranking(value)
    drawn = _bootstrap(lambda w: ranking.auroc(truth, w)[:, None], truth.size, groups, resamples, seed)
    return _percentiles(drawn[:, 0])


def compare(
    labels: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Two scores on the same clips: AUROC of each, their difference (first - second), its interval and
    p-value.

    Paired bootstrap: both are measured on the same resamples, so what the clips have in common cancels. The
    two-sided p-value is the smallest level at which the percentile interval of the difference leaves out
    zero, 2 min(P(d <= 0), P(d >= 0)), with one added to each count so that it is never zero.
    """
    truth, one = _arrays(labels, first)
    _, two = _arrays(labels, second)
    areas = auroc(truth, one), auroc(truth, two)
    report: dict[str, Any] = {"auroc": list(areas), "difference": None, "ci95": None, "p_value": None}
    if areas[0] is None or areas[1] is None:
        return report
    report["difference"] = areas[0] - areas[1]
    if resamples == 0:
        return report
    rank_one, rank_two = _Ranking(one), _Ranking(two)

    def difference(weights: Floats) -> Floats:
        return (rank_one.auroc(truth, weights) - rank_two.auroc(truth, weights))[:, None]

    drawn = _bootstrap(difference, truth.size, groups, resamples, seed)[:, 0]
    report["ci95"] = _percentiles(drawn)
    if report["ci95"] is not None:
        defined = drawn[~np.isnan(drawn)]
        below, above = np.sum(defined <= 0) + 1, np.sum(defined >= 0) + 1
        report["p_value"] = float(min(1.0, 2 * min(below, above) / (defined.size + 1)))
    return report


def _bootstrap(
    statistic: Callable[[Floats], Floats],
    size: int,
    groups: Sequence[Hashable] | None,
    resamples: int,
    seed: int,
) -> Floats:
    """`statistic` (b, n) -> (b, k) over all resamples: (resamples, k). Weights count each clip's draws."""
    if groups is None:
        member = np.arange(size)
    else:
        if len(groups) != size:
            raise ValueError(f"{len(groups)} groups for {size} clips")
        number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
        member = np.array([number[group] for group in groups])
    units = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(size, units))
    parts = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = rng.integers(0, units, size=(rows, units)) + units * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * units).reshape(rows, units)
        parts.append(statistic(counts[:, member].astype(np.float64)))
    drawn = np.concatenate(parts)
    return drawn if units > 1 else np.full_like(drawn, np.nan)  # one unit drawn again and again says nothing


def _percentiles(drawn: Floats) -> Interval | None:
    defined = drawn[~np.isnan(drawn)]
    if 2 * defined.size < drawn.size or defined.size == 0:
        return None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return [float(low), float(high)]


def _weighted_figures(truth: Floats, probability: Floats, threshold: float, weights: Floats) -> Floats:
    """Figures (b, len(FIGURES)) of clips weighted by weights (b, n); NaN where undefined. Equals `scores`."""
    called = (probability >= threshold).astype(np.float64)
    errors = (probability - truth) ** 2
    columns = np.stack([truth * called, (1 - truth) * called, truth * (1 - called), errors], axis=1)
    tp, fp, fn, squares = (weights @ columns).T
    total = weights.sum(axis=1)
    ranking = _Ranking(probability)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            "accuracy": (total - fp - fn) / total,
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "auroc": ranking.auroc(truth, weights),
            "average_precision": ranking.average_precision(truth, weights),
            "brier": squares / total,
            "ece": _weighted_ece(truth, probability, weights),
        }
    return np.stack([figures[name] for name in FIGURES], axis=1)


def _weighted_ece(truth: Floats, probability: Floats, weights: Floats) -> Floats:
    """|sum of w (p - y)| of each bin, added up over the bins and divided by the total weight: (b,)."""
    bins = np.zeros((probability.size, BINS))
    bins[np.arange(probability.size), _bin_index(probability, BINS)] = probability - truth
    return np.abs(weights @ bins).sum(axis=1) / weights.sum(axis=1)


class _Ranking:
    """Clips in falling order of a score, equal scores together, for weighted areas under curves."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(-values, kind="stable")
        ordered = values[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of runs of equal scores

    def _weights(self, truth: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of positives and negatives (b, runs) at each distinct score, highest first."""
        ordered = weights[:, self.order]
        positive = ordered * truth[self.order]
        return (
            np.add.reduceat(positive, self.starts, axis=1),
            np.add.reduceat(ordered - positive, self.starts, axis=1),
        )

    def auroc(self, truth: Floats, weights: Floats) -> Floats:
        """Probability that a positive outranks a negative, ties counting half (Mann-Whitney): (b,)."""
        positive, negative = self._weights(truth, weights)
        higher = np.cumsum(positive, axis=1) - positive / 2  # positives above each negative, equal ones half
        with np.errstate(invalid="ignore", divide="ignore"):
            return (higher * negative).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))

    def average_precision(self, truth: Floats, weights: Floats) -> Floats:
        """Sum of precision times gain of recall over the distinct scores: (b,); NaN with a single class."""
        positive, negative = self._weights(truth, weights)
        found, called = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        total = positive.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            area = (precision * positive).sum(axis=1) / total
        area[negative.sum(axis=1) == 0] = np.nan
        return area


# Operating points and calibration ---------------------------------------------------------------------------


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold is chosen for: the best `f1`, or a `target` of `precision` or `recall`.

    With `prevalence` precision is what it would be where that share of the clips is positive, not as many as here.
    """

    kind: str
    target: float = 1.0
    prevalence: float | None = None

    @classmethod
    def parse(cls, text: str) -> OperatingPoint:
        """Read `f1`, `precision=0.95` or `recall=0.9`; raises ConfigError."""
        kind, separator, number = text.strip().partition("=")
        hint = "Use f1, precision=P or recall=R, with P and R above 0 and at most 1."
        if kind == "f1" and not separator:
            return cls("f1")
        try:
            target = float(number)
        except ValueError:
            raise ConfigError(f"operating point is {text!r}", hint=hint) from None
        if kind not in ("precision", "recall") or not 0 < target <= 1:
            raise ConfigError(f"operating point is {text!r}", hint=hint)
        return cls(kind, target)

    def __str__(self) -> str:
        return self.kind if self.kind == "f1" else f"{self.kind}={self.target:g}"

    def threshold(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
        """The threshold on these clips, half-way between the two probabilities that it separates.

        f1: the largest F1 (of equal ones the highest threshold). precision: the lowest threshold that reaches
        it, for the most recall. recall: the highest that reaches it, for the most precision. Raises DataError
        when there is no positive clip or the precision is reached nowhere.
        """
        truth, probability = _arrays(labels, probabilities)
        if not truth.any():
            raise DataError(
                f"operating point {self}: there is no positive clip to choose a threshold on",
                hint="The split it is chosen on needs clips of both labels.",
            )
        ranking = _Ranking(probability)
        distinct = probability[ranking.order][ranking.starts]
        ends = np.r_[ranking.starts[1:], truth.size]  # clips called positive when the threshold is that score
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
            raise DataError(
                f"operating point {self}: out of reach, the best precision is {precision.max():.3f}",
                hint="Ask for less precision, or train a better model first.",
            )
        return int(np.argmax(precision * recall / np.maximum(precision + recall, 1e-12)))  # half the F1


def fit_platt(labels: npt.ArrayLike, logits: npt.ArrayLike) -> tuple[float, float]:
    """(a, b) such that sigmoid(a * logit + b) is calibrated on these clips.

    Platt, "Probabilistic outputs for support vector machines", 1999: logistic regression on the logit against
    smoothed targets, (n+ + 1) / (n+ + 2) and 1 / (n- + 2), which keeps it finite when the classes separate.
    The identity (1, 0) when there is a single class, or when larger logits do not mean more positives: a
    slope that is not positive would turn the ranking round.
    """
    return _fit_logistic(labels, logits, intercept=True)


def fit_temperature(labels: npt.ArrayLike, logits: npt.ArrayLike) -> tuple[float, float]:
    """(1 / T, 0): temperature scaling (Guo et al. 2017) on Platt's smoothed targets; else as fit_platt."""
    return _fit_logistic(labels, logits, intercept=False)


def _fit_logistic(labels: npt.ArrayLike, logits: npt.ArrayLike, *, intercept: bool) -> tuple[float, float]:
    truth, logit = _arrays(labels, logits)
    spread = float(np.sqrt(np.mean(logit**2))) if logit.size else 0.0
    if not _both(truth) or spread == 0:
        return 1.0, 0.0
    from sklearn.linear_model import LogisticRegression

    positives = truth.sum()
    negatives = truth.size - positives
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    column = np.r_[logit, logit][:, None] / spread  # every clip once as positive, once as negative
    classes = np.repeat([1, 0], truth.size)
    model = LogisticRegression(C=1e6, fit_intercept=intercept, max_iter=1000, tol=1e-8)
    model.fit(column, classes, sample_weight=np.r_[target, 1 - target])
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        return 1.0, 0.0
    return slope, float(model.intercept_[0]) if intercept else 0.0


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None when either is constant."""
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise ValueError(f"shapes {one.shape} and {two.shape} do not match")
    ranks = _mean_ranks(one), _mean_ranks(two)
    if one.size < 2 or np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _mean_ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _arrays(labels: npt.ArrayLike, values: npt.ArrayLike) -> tuple[Floats, Floats]:
    truth, value = np.asarray(labels, np.float64), np.asarray(values, np.float64)
    if truth.ndim != 1 or truth.shape != value.shape:
        raise ValueError(f"labels of shape {truth.shape} for values of shape {value.shape}")
    if not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("labels other than 0 and 1")
    if not np.isfinite(value).all():
        raise ValueError("values that are not finite")
    return truth, value


def _both(truth: Floats) -> bool:
    return bool(truth.size) and bool(truth.any()) and not bool(truth.all())


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _bin_index(probability: Floats, bins: int) -> npt.NDArray[np.int64]:
    """Bin k holds [k / bins, (k + 1) / bins); the last one holds 1 as well."""
    return np.clip((probability * bins).astype(np.int64), 0, bins - 1)
