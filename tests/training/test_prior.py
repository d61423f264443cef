"""The prior of a balanced training: the arithmetic by Bayes' rule, and the choice by counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, recall_score

from pellucid.data.task import LABELS, NUMBER, ONE_CLASS, Task
from pellucid.training.prior import choose_prior, prior_offsets, shares


def test_offsets_are_bayes_rule() -> None:
    """p(class | picture) for equal shares times the data's shares, normalized."""
    targets = np.repeat([0, 1, 2], [70, 20, 10])
    offsets = prior_offsets(ONE_CLASS, targets, 3)
    logits = np.random.default_rng(0).normal(size=(20, 3))
    expected = softmax(logits, axis=1) * [0.7, 0.2, 0.1]
    assert softmax(logits + offsets, axis=1) == pytest.approx(expected / expected.sum(1, keepdims=True))
    assert shares(ONE_CLASS, targets, 3).tolist() == [0.7, 0.2, 0.1]
    assert prior_offsets(ONE_CLASS, np.array([0, 0, 1]), 3)[2] == -30  # a class without pictures


def test_offsets_of_labels_are_log_odds() -> None:
    targets = np.zeros((10, 2), np.float32)
    targets[:2, 0] = targets[:5, 1] = 1
    assert prior_offsets(Task(LABELS), targets, 2) == pytest.approx([np.log(2 / 8), 0])


@pytest.mark.parametrize("asked", ["auto", "data", "equal"])
def test_both_are_measured_and_the_better_macro_f1_is_taken_unless_asked(asked: str) -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random(400) < 0.1).astype(np.int64)
    logits = rng.normal(size=(400, 2)) + 1.0 * np.eye(2)[targets]
    offsets = prior_offsets(ONE_CLASS, targets, 2)
    prior = choose_prior(ONE_CLASS, logits, targets, offsets, asked=asked)
    assert prior is not None
    for name, shifted in (("equal", logits), ("data", logits + offsets)):
        assert prior.macro_f1[name] == pytest.approx(f1_score(targets, shifted.argmax(1), average="macro"))
        assert prior.recall[name] == pytest.approx(recall_score(targets, shifted.argmax(1), average=None))
    better = max(prior.macro_f1, key=lambda name: prior.macro_f1[name])
    assert prior.taken == (better if asked == "auto" else asked)
    assert prior.recall["equal"][1] > prior.recall["data"][1]  # what it is about
    sentences = prior.reasons(("often", "rare"), shares(ONE_CLASS, targets, 2))
    assert sentences[1].index("rare (") < sentences[1].index("often (")


def test_a_number_has_no_prior() -> None:
    assert choose_prior(Task(NUMBER), np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(1), asked="auto") is None
