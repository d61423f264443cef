"""Silence: promises that are kept on new pictures, at any level, and no promise where none can be made."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from pellucid.evaluation.intervals import share
from pellucid.evaluation.silence import DELTA, Threshold, find_threshold, measure_silence, risk_coverage


def answers(n: int, *, seed: int, too_sure: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 2) from a half on, and labels that are right with them, less `too_sure` of what is claimed."""
    rng = np.random.default_rng(seed)
    said = 1 - 0.5 * rng.random(n) ** 2
    right = rng.random(n) < said - too_sure * (said - 0.5)
    return np.stack([said, 1 - said], axis=1), np.where(right, 0, 1)


def true_error(threshold: Threshold, too_sure: float = 0.0) -> float:
    """The share of wrong answers of `answers` from the threshold on, by integration."""
    said = 1 - 0.5 * ((np.arange(200_000) + 0.5) / 200_000) ** 2
    answered = said >= threshold.value
    return float((1 - said + too_sure * (said - 0.5))[answered].mean()) if answered.any() else 0.0


@pytest.mark.parametrize("too_sure", [0.0, 0.2])
@pytest.mark.parametrize("level", [0.02, 0.05, 0.1])
def test_the_promise_is_broken_as_rarely_as_it_says(level: float, too_sure: float) -> None:
    found = [find_threshold(*answers(1000, seed=seed, too_sure=too_sure), level) for seed in range(150)]
    broken = sum(true_error(threshold, too_sure) > level for threshold in found)
    assert broken <= binom.ppf(0.999, 150, DELTA)
    plain = 0  # negative control: the lowest threshold that looks good enough breaks the promise far more often
    for seed in range(150):
        p, labels = answers(1000, seed=seed, too_sure=too_sure)
        order = np.argsort(-p.max(1))
        error = np.cumsum(labels[order]) / np.arange(1, 1001)
        good = np.flatnonzero(error <= level)
        value = p.max(1)[order][good[-1]] if good.size else math.inf
        plain += true_error(Threshold(level, value, 1000, 1, 0), too_sure) > level
    assert plain > binom.ppf(0.999, 150, DELTA)


def test_it_answers_nearly_as_often_as_it_could() -> None:
    p, labels = answers(5000, seed=0)
    threshold = find_threshold(p, labels, 0.05)
    assert 0.035 < true_error(threshold) <= 0.05
    assert (threshold.n, threshold.answered) == (5000, int((p.max(1) >= threshold.value).sum()))
    assert threshold.wrong == int((labels[p.max(1) >= threshold.value] == 1).sum())


def test_an_easy_promise_leaves_nothing_unanswered() -> None:
    p, labels = answers(1000, seed=0)
    threshold = find_threshold(p, labels, 0.4)
    assert threshold.value == 0
    assert threshold.answered == 1000
    assert "It answers for every picture" in str(threshold)


def test_where_nothing_can_be_promised_it_is_silent_on_all() -> None:
    level = 0.05
    fewest = math.ceil(math.log(DELTA / 3) / math.log(1 - level))  # (1 - level)^n <= delta / 3
    p = np.tile([[0.999, 0.001]], (fewest, 1))
    assert math.isfinite(find_threshold(p, np.zeros(fewest, int), level).value)
    threshold = find_threshold(p[1:], np.zeros(fewest - 1, int), level)
    assert threshold.value == math.inf
    assert f"at least {fewest} answers without a mistake" in str(threshold)
    assert threshold.to_dict()["value"] is None
    measured = measure_silence(threshold, p, np.zeros(fewest, int))
    assert (measured.answered, measured.to_dict()["silent"], measured.to_dict()["error"]["value"]) == (0, fewest, None)
    assert str(measured) == f"It is silent on all {fewest} pictures here."


def test_groups_that_err_together_make_it_more_careful() -> None:
    rng = np.random.default_rng(0)
    broken = {True: 0, False: 0}
    for _ in range(100):  # 30 patients of 200 pictures; each has its own share of mistakes, 0.051 on average
        share = rng.beta(1, 1 / 0.051 - 1, 30)
        groups = np.repeat(np.arange(30), 200)
        labels = (rng.random(6000) < share[groups]).astype(int)
        p = np.tile([[0.99, 0.01]], (6000, 1))
        for known in broken:
            threshold = find_threshold(p, labels, 0.05, groups=groups if known else None)
            broken[known] += math.isfinite(threshold.value)
    assert broken[True] <= binom.ppf(0.999, 100, DELTA)
    assert broken[False] > binom.ppf(0.999, 100, DELTA)  # negative control
    few = find_threshold(p[:1800], np.zeros(1800, int), 0.05, groups=groups[:1800])
    assert few.value == math.inf
    assert "from 10 groups or more" in str(few)


def test_what_is_measured_is_counted_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    measured = measure_silence(Threshold(0.1, 0.7, 100, 90, 1), p, np.array([0, 1, 1, 0]))
    assert (measured.n, measured.answered, measured.wrong) == (4, 3, 1)
    assert measured.error.value == pytest.approx(1 / 3)


def test_the_risk_coverage_curve() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.7, 0.3]])
    curve = risk_coverage(p, np.array([0, 0, 0, 1]))  # right, wrong, then a tie of right and wrong
    np.testing.assert_allclose(curve.error, [0, 1 / 2, 1.5 / 3, 2 / 4])
    assert curve.area == pytest.approx((0 + 0.5 + 0.5 + 0.5) / 4)
    assert curve.best == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert curve.to_dict()["error_at_coverage"]["0.5"] == 0.5


def test_shares_are_resampled_by_group() -> None:
    hits = np.repeat([True, False, True, True], 50)
    alone, grouped = share(hits), share(hits, np.repeat(np.arange(4), 50))
    assert alone.value == grouped.value == 0.75
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)
