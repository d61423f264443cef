"""Suspect labels: the scores are those of the paper, and planted wrong labels of real pictures come first."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from pellucid.evaluation.suspects import label_scores


def planted(labels: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which so many are moved to another class, and which: int (N,), bool (N,)."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.permutation(len(labels))[: round(share * len(labels))]] = True
    return np.where(
        wrong, (labels + rng.integers(1, labels.max() + 1, len(labels))) % (labels.max() + 1), labels
    ), wrong


def test_the_score_is_the_normalized_margin() -> None:
    scores, suggested = label_scores(np.array([0, 0, 2]), np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.1, 0.4]]))
    assert scores == pytest.approx([0.75, 0.25, 0.45])
    assert suggested.tolist() == [1, 1, 0]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_planted_wrong_labels_of_digits_come_first(digits: tuple[np.ndarray, np.ndarray], share: float) -> None:
    images, truth = digits[0].reshape(-1, 64) / 255, digits[1]
    labels, wrong = planted(truth, share)
    model = LogisticRegression(C=0.3, max_iter=200)
    out_of_fold = cross_val_predict(model, images, labels, cv=5, method="predict_proba")
    scores, suggested = label_scores(labels, out_of_fold)
    assert roc_auc_score(wrong, -scores) >= 0.97
    doubted = scores < 0.5
    assert doubted[wrong].mean() >= 0.9
    assert doubted[~wrong].mean() <= 0.1
    assert (suggested == truth)[wrong].mean() >= 0.9


def test_a_network_that_has_learned_the_labels_does_not_see_them(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """The control: scores of pictures that were learned from find next to none; out of fold is what makes it work."""
    images, truth = digits[0].reshape(-1, 64) / 255, digits[1]
    labels, wrong = planted(truth, 0.1)
    learned = DecisionTreeClassifier(random_state=0).fit(images, labels).predict_proba(images)
    assert (label_scores(labels, learned)[0] < 0.5)[wrong].mean() < 0.1
