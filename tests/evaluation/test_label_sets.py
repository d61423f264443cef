"""Label sets: those of MAPIE, and the coverage that is promised."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import binom

from pellucid.evaluation.label_sets import find_rule, measure_sets


def pictures(n: int, *, seed: int = 0, num_classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, num_classes) of a classifier that is too sure of itself, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, num_classes))
    labels = np.array([rng.choice(num_classes, p=np.exp(z) / np.exp(z).sum()) for z in logits])
    p = np.exp(2 * logits)
    return p / p.sum(1, keepdims=True), labels


@pytest.mark.parametrize("coverage", [0.6, 0.9])
def test_the_sets_are_those_of_mapie(coverage: float) -> None:
    mapie = pytest.importorskip("mapie.classification")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Said(ClassifierMixin, BaseEstimator):
        """Its pictures are their probabilities."""

        classes_ = np.arange(6)
        fitted_ = True

        def fit(self, x: np.ndarray, y: np.ndarray) -> Said:
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(1)

    (p, labels), (new, _) = pictures(501), pictures(400, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = mapie.SplitConformalClassifier(Said(), confidence_level=coverage, conformity_score="lac", prefit=True)
        oracle.conformalize(p, labels)
        expected = oracle.predict_set(new)[1][:, :, 0]
    expected[np.arange(400), new.argmax(1)] = True  # ours are never empty
    np.testing.assert_array_equal(find_rule(p, labels, coverage, "lac").members(new), expected)


def test_adaptive_sets_are_worked_out_by_hand() -> None:
    said = np.array([[0.5, 0.3, 0.2]] * 9)  # scores of the true class: 0 six times, 0.5 twice, 0.8 once
    rule = find_rule(said, np.array([0] * 6 + [1] * 2 + [2]), 0.8, "aps")  # the 8th of 9
    assert rule.limit == pytest.approx(0.5)
    new = np.array([[0.1, 0.6, 0.3], [0.3, 0.4, 0.3], [0.9, 0.06, 0.04]])  # 0.9, 0, 0.6 / 0.4, 0, 0.7 / 0, 0.9, ...
    np.testing.assert_array_equal(rule.members(new), [[0, 1, 0], [1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_the_promised_coverage_holds_in_twenty_splits(method: str) -> None:
    p, labels = pictures(3000)
    held = []
    for seed in range(20):
        rows = np.random.default_rng(seed).permutation(3000)
        fit, test = rows[:1000], rows[1000:]
        score = measure_sets(find_rule(p[fit], labels[fit], 0.9, method), p[test], labels[test])
        assert (
            score.coverage.value >= binom.ppf(0.0005, 2000, 0.9) / 2000 - 0.03
        )  # the rule itself varies with its 1,000
        held.append(score.coverage.value)
    assert np.mean(held) >= 0.9 - 0.01
    assert np.mean(held) <= 0.91
    top = np.mean(p.argmax(1) == labels)
    assert top < 0.8  # negative control: the most probable class alone does not cover


def test_few_validation_pictures_promise_by_naming_every_class() -> None:
    p, labels = pictures(8)
    rule = find_rule(p, labels, 0.9)
    assert rule.members(p).all()
    assert rule.to_dict()["limit"] is None
    assert "at least 9 validation pictures, and there are 8" in str(rule)
    assert find_rule(*pictures(9), 0.9).limit < 1


def test_sets_are_counted_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.4, 0.35, 0.25]])
    rule = find_rule(np.array([[0.65, 0.35, 0.0]] * 9), np.full(9, 1), 0.9)  # LAC: from 0.35 on
    np.testing.assert_array_equal(rule.members(p), [[1, 0, 0], [1, 1, 0], [1, 1, 0]])
    score = measure_sets(rule, p, np.array([0, 2, 1]))
    assert (score.coverage.value, score.mean_size, score.single) == pytest.approx((2 / 3, 5 / 3, 1 / 3))


def test_a_set_is_never_empty() -> None:
    rule = find_rule(np.array([[0.99, 0.01]] * 50), np.zeros(50, int), 0.5)
    assert rule.members(np.array([[0.6, 0.4]])).tolist() == [[True, False]]
