"""Every figure against a calculation by hand, and the resampled ones against scikit-learn."""

from __future__ import annotations

import time
import warnings
from functools import partial

import numpy as np
import pytest

from grainscan.errors import ConfigError, DataError
from grainscan.evaluate import bootstrap, metrics, thresholds

LABELS = [0, 0, 0, 1, 1]
PROBABILITIES = [0.1, 0.4, 0.8, 0.6, 0.9]


def test_scores_by_hand() -> None:
    figures = metrics.scores(LABELS, PROBABILITIES, 0.5)
    # called positive: 0.8 (wrong), 0.6, 0.9 -> tn 2, fp 1, fn 0, tp 2
    assert figures["confusion"] == [[2, 1], [0, 2]]
    assert figures["accuracy"] == pytest.approx(4 / 5)
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["recall"] == 1.0
    assert figures["f1"] == pytest.approx(4 / 5)
    # pairs (positive, negative): 0.6 beats 0.1 and 0.4, not 0.8; 0.9 beats all three -> 5 of 6
    assert figures["auroc"] == pytest.approx(5 / 6)
    # falling: 0.9 hit (1/1), 0.8 miss, 0.6 hit (2/3) -> (1 + 2/3) / 2
    assert figures["average_precision"] == pytest.approx(5 / 6)
    assert figures["brier"] == pytest.approx((0.01 + 0.16 + 0.64 + 0.16 + 0.01) / 5)
    # five clips in five different bins: the mean distance of probability and label
    assert figures["ece"] == pytest.approx((0.1 + 0.4 + 0.8 + 0.4 + 0.1) / 5)
    assert figures["prevalence"] == pytest.approx(2 / 5)
    assert figures["threshold"] == 0.5
    assert set(metrics.FIGURES) < set(figures)


def test_a_probability_at_the_threshold_is_positive() -> None:
    assert metrics.confusion([0, 1], [0.5, 0.5], 0.5) == [[0, 1], [0, 1]]


@pytest.mark.parametrize("label", [0, 1])
def test_single_class_has_no_ranking_figures_and_no_warning(label: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = metrics.scores([label] * 3, [0.1, 0.2, 0.3], 0.5)
        drawn = bootstrap.intervals([label] * 3, [0.1, 0.2, 0.3], 0.5, resamples=50)
    assert figures["auroc"] is None and figures["average_precision"] is None
    assert figures["precision"] is None  # nothing was called positive
    assert figures["recall"] == (0.0 if label else None)
    assert figures["f1"] == (0.0 if label else None)
    assert figures["accuracy"] == (0.0 if label else 1.0)
    assert drawn["auroc"] is None and drawn["average_precision"] is None
    assert drawn["brier"] is not None


def test_no_clips() -> None:
    figures = metrics.scores([], [])
    assert all(figures[name] is None for name in metrics.FIGURES)
    assert figures["confusion"] == [[0, 0], [0, 0]] and figures["prevalence"] is None
    assert all(value is None for value in bootstrap.intervals([], []).values())


@pytest.mark.parametrize(
    ("labels", "values", "fault"),
    [
        ([0, 1], [0.5], "shape"),
        ([[0]], [[0.1]], "shape"),
        ([0, 2], [0.1, 0.2], "other than 0 and 1"),
        ([0, 1], [0.1, float("nan")], "not finite"),
    ],
)
def test_arrays_that_do_not_match_are_refused(labels: list, values: list, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        metrics.scores(labels, values)


def test_reliability_and_ece_by_hand() -> None:
    # bins of 1/15: [0, 1/15) holds two clips, the last one holds 0.95 and 1.0
    diagram = metrics.reliability([0, 1, 1, 1], [0.01, 0.03, 0.95, 1.0])
    assert diagram.count[0] == 2 and diagram.count[14] == 2 and diagram.count.sum() == 4
    assert diagram.probability[0] == pytest.approx(0.02) and diagram.observed[0] == pytest.approx(0.5)
    assert np.isnan(diagram.observed[7])
    assert diagram.ece == pytest.approx(0.5 * 0.48 + 0.5 * 0.025)
    assert metrics.ece([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75], bins=2) == pytest.approx(0.25)


def _random(n: int = 60, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(int)
    return labels, np.round(np.clip(0.35 * labels + 0.65 * rng.random(n), 0, 1), 2)  # rounded: equal scores


def test_weighted_figures_equal_scikit_learn() -> None:
    from sklearn import metrics as reference

    labels, probabilities = _random()
    weights = np.random.default_rng(0).integers(0, 4, (20, labels.size)).astype(float)
    ours = bootstrap._weighted_figures(
        labels.astype(float), probabilities, (probabilities >= 0.5).astype(float), weights
    )
    for row, weight in zip(ours, weights, strict=True):
        repeated = np.repeat(np.arange(labels.size), weight.astype(int))
        expected = metrics.scores(labels[repeated], probabilities[repeated], 0.5)
        assert row == pytest.approx([expected[name] for name in metrics.FIGURES])
        figures = dict(zip(metrics.FIGURES, row, strict=True))
        called = probabilities >= 0.5
        assert figures["f1"] == pytest.approx(reference.f1_score(labels, called, sample_weight=weight))
        assert figures["brier"] == pytest.approx(
            reference.brier_score_loss(labels, probabilities, sample_weight=weight)
        )
        assert figures["auroc"] == pytest.approx(reference.roc_auc_score(labels, probabilities, sample_weight=weight))


def test_intervals_hold_the_figure_narrow_with_n_and_repeat() -> None:
    few, many = _random(60), _random(2000)
    wide, narrow = bootstrap.intervals(*few, resamples=300), bootstrap.intervals(*many, resamples=300)
    point = metrics.scores(*few)
    for name in metrics.FIGURES:
        low, high = wide[name]
        assert low < high
        if name != "ece":  # the resampled calibration error is biased upwards, as that figure is
            assert low <= point[name] <= high
        assert narrow[name][1] - narrow[name][0] < 0.5 * (high - low)
    assert bootstrap.intervals(*few, resamples=300) == wide
    assert bootstrap.intervals(*few, resamples=300, seed=1) != wide


def test_auroc_interval_matches_the_general_one() -> None:
    labels, probabilities = _random()
    general = bootstrap.intervals(labels, probabilities, resamples=200)["auroc"]
    assert bootstrap.auroc_interval(labels, probabilities, resamples=200) == pytest.approx(general)
    assert bootstrap.auroc_interval(labels, 7 * probabilities - 3, resamples=200) == pytest.approx(general)


def test_clips_of_one_source_widen_the_interval() -> None:
    labels, probabilities = _random(40)
    groups = [f"scene{index}" for index in range(40)] * 5
    copies = np.tile(labels, 5), np.tile(probabilities, 5)
    alone = bootstrap.intervals(*copies, resamples=400)["auroc"]
    grouped = bootstrap.intervals(*copies, groups=groups, resamples=400)["auroc"]
    assert grouped[1] - grouped[0] > 1.7 * (alone[1] - alone[0])  # the square root of 5, less chance
    assert bootstrap.intervals(*copies, groups=["one"] * 200)["auroc"] is None
    with pytest.raises(ValueError, match="groups"):
        bootstrap.intervals(*copies, groups=["one"])


def test_resamples_of_ten_thousand_clips_take_milliseconds_each() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(10_000) < 0.3).astype(int)
    start = time.process_time()
    bootstrap.intervals(labels, rng.random(10_000), resamples=100)
    assert time.process_time() - start < 2


def test_compare() -> None:
    labels, probabilities = _random(200)
    noise = np.random.default_rng(5).random(200)
    same = bootstrap.compare(labels, probabilities, probabilities, resamples=200)
    assert same.difference == 0 and same.ci95 == [0, 0] and same.p_value == 1.0
    better = bootstrap.compare(labels, probabilities, noise, resamples=400)
    assert better.difference == pytest.approx(metrics.auroc(labels, probabilities) - metrics.auroc(labels, noise))
    assert better.ci95[0] > 0
    assert better.p_value == pytest.approx(2 / 401)
    other_way = bootstrap.compare(labels, noise, probabilities, resamples=400)
    assert other_way.ci95 == pytest.approx([-better.ci95[1], -better.ci95[0]])
    assert bootstrap.compare([1, 1], [0.1, 0.2], [0.3, 0.4]).p_value is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # falling: .9+ .8- .7+ .3+ .2-   precision 1 1/2 2/3 3/4 3/5   recall 1/3 1/3 2/3 1 1
        ("f1", 0.25),  # F1 .5 .4 .667 .857 .75: below 0.3
        ("recall=0.6", 0.5),  # two of three reach it: between 0.7 and 0.3
        ("recall=1", 0.25),
        ("precision=0.7", 0.25),
        ("precision=0.9", 0.85),
        ("precision=0.5", 0.2),  # every clip may be called positive: the lowest probability itself
    ],
)
def test_operating_points_by_hand(text: str, expected: float) -> None:
    point = thresholds.OperatingPoint.parse(text)
    assert point.threshold([1, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.3, 0.2]) == pytest.approx(expected)
    assert str(point) == text


def test_false_alarms_weigh_more_where_positives_are_rare() -> None:
    labels, scores = [0, 0, 0, 1, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert thresholds.OperatingPoint("f1").threshold(labels, scores) == pytest.approx(0.35)  # F1 8 / 9 against 6 / 7
    # One clip in ten: at 0.35 a false alarm for 4 clean ones in 9 tenths, F1 2 / (2 + 9 / 4); at 0.55 still 6 / 7.
    assert thresholds.OperatingPoint("f1", prevalence=0.1).threshold(labels, scores) == pytest.approx(0.55)
    assert thresholds.OperatingPoint("f1", prevalence=0.5).threshold(labels, scores) == pytest.approx(0.35)


def test_operating_point_separates_neighbouring_floats() -> None:
    low = 0.3
    high = float(np.nextafter(low, 1))
    threshold = thresholds.OperatingPoint("f1").threshold([0, 1], [low, high])
    assert low < threshold <= high


@pytest.mark.parametrize("text", ["", "f2", "f1=0.5", "precision", "precision=", "recall=0", "recall=1.1", "auc=nan"])
def test_unknown_operating_points_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        thresholds.OperatingPoint.parse(text)


def test_operating_points_out_of_reach() -> None:
    with pytest.raises(DataError, match=r"best precision is 0\.500"):
        thresholds.OperatingPoint("precision", 0.9).threshold([0, 1], [0.9, 0.1])
    with pytest.raises(DataError, match="no positive clip"):
        thresholds.OperatingPoint("f1").threshold([0, 0], [0.9, 0.1])


def test_platt_recovers_a_known_calibration() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))).astype(int)
    a, b = thresholds.fit_platt(labels, logits)
    assert a == pytest.approx(0.5, abs=0.03) and b == pytest.approx(-1, abs=0.08)
    calibrated = 1 / (1 + np.exp(-(a * logits + b)))
    assert metrics.ece(labels, calibrated) < 0.02 < metrics.ece(labels, 1 / (1 + np.exp(-logits)))


def test_platt_in_the_one_case_with_a_closed_form() -> None:
    # logits -1 and 1, two clips each, separated: targets 1/4 and 3/4 are met exactly by a = ln 3, b = 0
    a, b = thresholds.fit_platt([0, 0, 1, 1], [-1, -1, 1, 1])
    assert a == pytest.approx(np.log(3), rel=1e-3) and b == pytest.approx(0, abs=1e-3)
    assert thresholds.fit_platt([0, 0, 1, 1], [-1, -1, 1, 1], intercept=False)[0] == pytest.approx(np.log(3), rel=1e-3)


def test_temperature_has_no_offset() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-logits / 2))).astype(int)
    a, b = thresholds.fit_platt(labels, logits, intercept=False)
    assert a == pytest.approx(0.5, abs=0.03) and b == 0.0


@pytest.mark.parametrize("intercept", [True, False])
def test_nothing_to_calibrate_gives_the_identity(intercept: bool) -> None:
    fit = partial(thresholds.fit_platt, intercept=intercept)
    assert fit([1, 1], [0.3, 2.0]) == (1.0, 0.0)
    assert fit([], []) == (1.0, 0.0)
    assert fit([0, 1], [0.0, 0.0]) == (1.0, 0.0)
    assert fit([0, 0, 1, 1], [2.0, 1.0, -1.0, -2.0]) == (1.0, 0.0)  # the wrong way round


def test_spearman_by_hand() -> None:
    assert metrics.spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert metrics.spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # d = 1, 1, 0, 0: 1 - 6 * 2 / (4 * 15)
    assert metrics.spearman([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(0.8)
    # ranks 1.5 1.5 3 and 1 2 3: covariance 1.5, variances 1.5 and 2
    assert metrics.spearman([5, 5, 7], [1, 2, 3]) == pytest.approx(1.5 / np.sqrt(1.5 * 2))
    assert metrics.spearman([1, 1], [1, 2]) is None
    assert metrics.spearman([1], [1]) is None
    with pytest.raises(ValueError, match="match"):
        metrics.spearman([1, 2], [1, 2, 3])
