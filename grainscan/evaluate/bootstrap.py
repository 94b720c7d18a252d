"""Bootstrap intervals and paired comparisons.

scikit-learn and SciPy measure one resample at a time. Here a resample is a row of weights, so that thousands are
measured at once. Whole sources are drawn if they are known.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from grainscan.evaluate.metrics import BINS, FIGURES, Floats, as_arrays, auroc, bin_index
from grainscan.results import Report

RESAMPLES = 1000
LEVEL = 0.95  # of every interval
_CHUNK = 4_000_000  # weights held at once while resampling: 32 MB
Interval = list[float]


def intervals(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    threshold: float = 0.5,
    *,
    called: npt.ArrayLike | None = None,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """95 % percentile bootstrap intervals [low, high] of every figure in FIGURES; `called` as in `scores`.

    With `groups` (n,), whole groups are drawn with replacement instead of clips: clips of one source resemble each
    other, and drawing them singly would make the intervals too narrow. Resamples in which a figure is undefined are
    left out of its interval, which is None if they are more than half, or if there is nothing to draw from. Efron &
    Tibshirani, "An introduction to the bootstrap", 1993, chapter 13 (percentile method).
    """
    truth, probability = as_arrays(labels, probabilities)
    if truth.size == 0 or resamples == 0:
        return dict.fromkeys(FIGURES)
    labelled = probability >= threshold if called is None else np.asarray(called)
    measure = partial(_weighted_figures, truth, probability, labelled.astype(np.float64))
    drawn = _bootstrap(measure, truth.size, groups, resamples, seed)
    return {name: _percentiles(drawn[:, column]) for column, name in enumerate(FIGURES)}


def auroc_interval(
    labels: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The interval of the AUROC of any score (n,), such as a baseline's; drawn as in `intervals`."""
    truth, value = as_arrays(labels, values)
    if truth.size == 0 or resamples == 0:
        return None
    ranking = Ranking(value)
    drawn = _bootstrap(lambda w: ranking.auroc(truth, w)[:, None], truth.size, groups, resamples, seed)
    return _percentiles(drawn[:, 0])


@dataclass(frozen=True)
class Paired(Report):
    """Two scores on the same clips. Undefined figures are None: with a single class, all of them."""

    clips: int
    auroc: list[float | None]  # of the first and of the second score
    difference: float | None  # first - second
    ci95: Interval | None
    p_value: float | None


def compare(
    labels: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """The AUROC of two scores (n,) on the same clips, their difference, its interval and its p-value.

    Paired bootstrap: both are measured on the same resamples, so what the clips have in common cancels. The two-sided
    p-value is the smallest level at which the percentile interval of the difference excludes zero,
    2 min(P(d <= 0), P(d >= 0)), with one added to each count so that it is never zero.
    """
    truth, one = as_arrays(labels, first)
    _, two = as_arrays(labels, second)
    areas = [auroc(truth, one), auroc(truth, two)]
    if areas[0] is None or areas[1] is None:
        return Paired(truth.size, areas, None, None, None)
    interval, p_value = None, None
    if resamples:
        rank_one, rank_two = Ranking(one), Ranking(two)

        def difference(weights: Floats) -> Floats:
            return (rank_one.auroc(truth, weights) - rank_two.auroc(truth, weights))[:, None]

        drawn = _bootstrap(difference, truth.size, groups, resamples, seed)[:, 0]
        interval = _percentiles(drawn)
        if interval is not None:
            defined = drawn[~np.isnan(drawn)]
            below, above = np.sum(defined <= 0) + 1, np.sum(defined >= 0) + 1
            p_value = float(min(1.0, 2 * min(below, above) / (defined.size + 1)))
    return Paired(truth.size, areas, areas[0] - areas[1], interval, p_value)


def _bootstrap(
    statistic: Callable[[Floats], Floats], size: int, groups: Sequence[Hashable] | None, resamples: int, seed: int
) -> Floats:
    """(resamples, k): `statistic`, which maps weights (b, n), the draws of each clip, to figures (b, k)."""
    groups = range(size) if groups is None else groups
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
    return drawn if units > 1 else np.full_like(drawn, np.nan)  # drawing from one unit has no spread


def _percentiles(drawn: Floats) -> Interval | None:
    defined = drawn[~np.isnan(drawn)]
    if 2 * defined.size < drawn.size or defined.size == 0:
        return None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return [float(low), float(high)]


def _weighted_figures(truth: Floats, probability: Floats, called: Floats, weights: Floats) -> Floats:
    """Figures (b, len(FIGURES)), defined as in `scores`, of clips with weights (b, n); NaN where undefined."""
    errors = (probability - truth) ** 2
    columns = np.stack([truth * called, (1 - truth) * called, truth * (1 - called), errors], axis=1)
    tp, fp, fn, squares = (weights @ columns).T
    total = weights.sum(axis=1)
    ranking = Ranking(probability)
    bins = np.zeros((probability.size, BINS))
    bins[np.arange(probability.size), bin_index(probability, BINS)] = probability - truth
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            "accuracy": (total - fp - fn) / total,
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "auroc": ranking.auroc(truth, weights),
            "average_precision": ranking.average_precision(truth, weights),
            "brier": squares / total,
            "ece": np.abs(weights @ bins).sum(axis=1) / total,
        }
    return np.stack([figures[name] for name in FIGURES], axis=1)


class Ranking:
    """Clips in descending order of a score, equal scores together, for weighted areas under curves."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(-values, kind="stable")
        ordered = values[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of runs of equal scores

    def _weights(self, truth: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Weights of positives and of negatives (b, runs) at each distinct score, highest first."""
        ordered = weights[:, self.order]
        positive = ordered * truth[self.order]
        positives, negatives = (np.add.reduceat(w, self.starts, axis=1) for w in (positive, ordered - positive))
        return positives, negatives

    def auroc(self, truth: Floats, weights: Floats) -> Floats:
        """(b,): the probability that a positive outranks a negative, ties counting half (Mann-Whitney)."""
        positive, negative = self._weights(truth, weights)
        higher = np.cumsum(positive, axis=1) - positive / 2  # positives above each negative, equal ones half
        with np.errstate(invalid="ignore", divide="ignore"):
            return (higher * negative).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))

    def average_precision(self, truth: Floats, weights: Floats) -> Floats:
        """(b,): the sum over distinct scores of precision times the gain in recall; NaN with a single class."""
        positive, negative = self._weights(truth, weights)
        found, called = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        total = positive.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            area = (precision * positive).sum(axis=1) / total
        area[negative.sum(axis=1) == 0] = np.nan
        return area
