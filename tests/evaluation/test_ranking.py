"""ROC and precision-recall against scikit-learn; thresholds by counting."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from pellucid.errors import ConfigError
from pellucid.evaluation.ranking import areas, choose_threshold, operating_point, rankings


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random((300, 2)) < [0.3, 0.6]
    return truth, np.round((truth + rng.normal(size=truth.shape)) / 4, 1) + 0.5  # rounded, so that many are equal


def test_weighted_areas_are_scikit_learns(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = answers
    weight = np.random.default_rng(1).integers(0, 4, (3, 300)).astype(float)
    found = areas(truth, scores, weight)
    for d, one in enumerate(weight):
        for k in range(2):
            assert found.auc[d, k] == pytest.approx(sk.roc_auc_score(truth[:, k], scores[:, k], sample_weight=one))
            expected = sk.average_precision_score(truth[:, k], scores[:, k], sample_weight=one)
            assert found.average_precision[d, k] == pytest.approx(expected)


def test_the_curve_is_scikit_learns_where_it_is_short(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, scores = answers
    each, mean = rankings(truth, scores, ["a", "b"])
    curve = each[0].curve
    false, found, _ = sk.roc_curve(truth[:, 0], scores[:, 0], drop_intermediate=False)
    assert curve[:, :2] == pytest.approx(np.stack([found, false], axis=1))
    assert np.trapezoid(curve[:, 0], curve[:, 1]) == pytest.approx(each[0].auc.value)
    assert mean.value == pytest.approx((each[0].auc.value + each[1].auc.value) / 2)
    assert each[0].auc.low < each[0].auc.value < each[0].auc.high


def test_a_long_curve_is_thinned_and_keeps_its_area() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((20_000, 1)) < 0.1
    scores = truth + rng.normal(size=truth.shape)
    each, _ = rankings(truth, scores, ["a"])
    assert len(each[0].curve) <= 202
    assert np.trapezoid(each[0].curve[:, 0], each[0].curve[:, 1]) == pytest.approx(each[0].auc.value, abs=1e-3)


def test_a_class_that_all_or_none_are_has_no_area() -> None:
    truth = np.array([[True, False], [True, False]])
    each, mean = rankings(truth, np.array([[0.9, 0.1], [0.4, 0.6]]), ["a", "b"])
    assert str(mean) == str(each[0].auc) == str(each[1].average_precision) == "not measured"
    assert not len(each[0].curve)


@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.95, 1.0])
def test_the_threshold_is_the_highest_with_the_sensitivity(wanted: float) -> None:
    rng = np.random.default_rng(4)
    truth, scores = rng.random(200) < 0.4, rng.random(200).astype(np.float32)
    threshold = choose_threshold(truth, scores, sensitivity=wanted, specificity=None)
    assert (scores[truth] >= threshold).mean() >= wanted
    above = scores[truth][scores[truth] > threshold]
    assert len(above) / truth.sum() < wanted


@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_the_threshold_is_the_lowest_with_the_specificity(wanted: float) -> None:
    rng = np.random.default_rng(4)
    truth, scores = rng.random(200) < 0.4, rng.random(200).astype(np.float32)
    threshold = choose_threshold(truth, scores, sensitivity=None, specificity=wanted)
    assert (scores[~truth] < threshold).mean() >= wanted
    lower = np.sort(scores[~truth])[::-1]
    lower = lower[lower < threshold][0]  # one picture less would be below it
    assert (scores[~truth] < lower).mean() < wanted


def test_no_positive_picture_leaves_nothing_to_choose_on() -> None:
    with pytest.raises(ConfigError, match="no picture of the positive class"):
        choose_threshold(np.zeros(3, bool), np.ones(3), sensitivity=0.9, specificity=None)


def test_the_point_is_counted_by_hand() -> None:
    truth = np.array([True, True, True, False, False, False, False])
    scores = np.array([0.9, 0.6, 0.2, 0.7, 0.3, 0.2, 0.1])
    point = operating_point(truth, scores, 0.6, positive="ill", aim="", chosen_on="")
    assert point.sensitivity.value == pytest.approx(2 / 3)
    assert point.specificity.value == pytest.approx(3 / 4)
    assert point.precision.value == pytest.approx(2 / 3)
    assert point.negative_predictive_value.value == pytest.approx(3 / 4)
    grouped = operating_point(
        truth, scores, 0.6, positive="", aim="", chosen_on="", groups=np.array([0, 1, 1, 2, 3, 4, 5])
    )
    assert (grouped.sensitivity.low, grouped.sensitivity.high) == (0.5, 1.0)  # either group alone
