"""The search score, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.explain.search_score import base_rate, mean_score, query_scores, weighted_score


def test_the_formula_on_a_hand_made_example() -> None:
    """Hits at ranks 0, 2 and 14 of 15: 15/15 + 13/15 + 1/15 = 29/15 of 120/15, that is 29/120."""
    hits = np.zeros(15, bool)
    hits[[0, 2, 14]] = True
    assert weighted_score(hits) == pytest.approx(100 * 29 / 120)
    assert weighted_score(np.ones(15, bool)) == 100
    assert weighted_score(np.zeros(15, bool)) == 0
    assert weighted_score(np.array([True, False])) == pytest.approx(100 * 15 / 29)


def line(*classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors on a line, one unit apart, and their labels."""
    return np.arange(len(classes), dtype=np.float32)[:, None], np.array(classes)


def test_the_query_never_counts() -> None:
    """Two pictures of a class each, as far apart as can be: every neighbor is a miss, where a score with the query begins at 12.5."""
    vectors, labels = line(0, *[1] * 16, 0)
    alone = np.arange(18)
    scores = query_scores(vectors, labels, np.array([0, 17]), alone, "euclidean")
    np.testing.assert_array_equal(scores, [0, 0])
    counted_with_itself = np.r_[True, np.zeros(14, bool)]
    assert weighted_score(counted_with_itself) == 12.5


def test_scores_of_a_line_by_hand() -> None:
    """From 0 on 0 0 1 0: hit, miss, hit of three ranks: (15 + 13) / (15 + 14 + 13)."""
    vectors, labels = line(0, 0, 1, 0)
    scores = query_scores(vectors, labels, np.array([0, 2]), np.arange(4), "euclidean")
    assert scores == pytest.approx([100 * 28 / 42, 0])


def test_pictures_of_the_own_group_are_passed_over_and_so_are_copies() -> None:
    vectors, labels = line(0, 0, 1, 0)
    groups = np.array([7, 7, 8, 9])  # the second is of the first one's patient
    assert query_scores(vectors, labels, np.array([0]), groups, "euclidean") == pytest.approx([100 * 14 / 29])
    assert base_rate(labels, np.array([0]), groups) == 50


def test_the_base_rate_is_the_share_of_the_class_among_the_others() -> None:
    labels = np.repeat(np.arange(10), 20)
    assert base_rate(labels, np.arange(200), np.arange(200)) == pytest.approx(100 * 19 / 199)


def test_chance_scores_the_base_rate() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 2000, p=[0.6, 0.3, 0.1])
    alone = np.arange(2000)
    scores = query_scores(rng.normal(size=(2000, 8)).astype(np.float32), labels, alone, alone, "cosine")
    assert scores.mean() == pytest.approx(base_rate(labels, alone, alone), abs=1.5)


def test_the_interval_is_that_of_the_mean_and_wider_for_few_groups() -> None:
    scores = np.random.default_rng(0).normal(60, 20, 1000).clip(0, 100)
    alone = mean_score(scores, np.arange(1000))
    half = 1.96 * scores.std() / np.sqrt(1000)
    assert alone.high - alone.low == pytest.approx(2 * half, rel=0.1)
    assert alone.low < scores.mean() < alone.high
    by_patient = np.sort(scores)  # pictures of one patient are alike
    grouped = mean_score(by_patient, np.arange(1000) // 50)
    assert grouped.high - grouped.low > 4 * (alone.high - alone.low)
    perfect = mean_score(np.full(50, 100.0), np.arange(50))
    assert perfect.low < 97, "fifty hits are no proof of a hundred"
