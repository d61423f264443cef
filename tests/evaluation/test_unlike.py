"""The flag of pictures unlike the training: a hundredth of the known ones, and scikit-learn's AUROC."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pellucid.evaluation.unlike import find_unlike, measure_unlike, unlikeness


def logits(n: int, largest: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1, (n, 5)).astype(np.float32)
    z[np.arange(n), rng.integers(0, 5, n)] += largest
    return z


def test_the_score_is_the_energy() -> None:
    z = logits(20, 3, 0)
    np.testing.assert_allclose(unlikeness(z), -torch.logsumexp(torch.from_numpy(z).double(), 1).numpy())


def test_a_hundredth_of_the_validation_pictures_is_flagged() -> None:
    for n in (100, 1000, 1234):
        rule = find_unlike(logits(n, 5, 0))
        assert rule is not None
        assert int(rule.flags(logits(n, 5, 0)).sum()) == (n - 1) // 100
    assert find_unlike(logits(99, 5, 0)) is None


@pytest.mark.parametrize("grouped", [False, True])
def test_the_area_is_that_of_scikit_learn(grouped: bool) -> None:
    inside, outside = np.round(logits(300, 4, 1), 1), np.round(logits(200, 2, 2), 1)  # with ties
    rule = find_unlike(inside)
    assert rule is not None
    score = measure_unlike(rule, "others", inside, outside, [str(i // 100) for i in range(300)] if grouped else None)
    truth = np.repeat([0, 1], [300, 200])
    expected = roc_auc_score(truth, np.concatenate([unlikeness(inside), unlikeness(outside)]))
    assert score.auroc.value == pytest.approx(expected)
    assert score.auroc.low < expected < score.auroc.high
    assert score.auroc.high - score.auroc.low < 0.12
    assert (score.n, score.flagged) == (200, float(rule.flags(outside).mean()))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rule = find_unlike(logits(500, 4, 0))
    assert rule is not None
    truth = measure_unlike(rule, "", logits(20_000, 4, 1), logits(20_000, 2, 2)).auroc.value
    held = 0
    for seed in range(100):
        found = measure_unlike(rule, "", logits(150, 4, 2 * seed + 10), logits(100, 2, 2 * seed + 11)).auroc
        held += found.low <= truth <= found.high
    assert 87 <= held <= 100


def test_sets_that_are_told_apart_always_prove_no_certainty() -> None:
    rule = find_unlike(logits(100, 9, 0))
    assert rule is not None
    score = measure_unlike(rule, "far", logits(100, 30, 0), logits(10, 0, 1))
    assert score.auroc.value == 1
    assert 0.6 < score.auroc.low < 0.8
