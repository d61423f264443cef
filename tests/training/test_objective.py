"""Losses and scores of the three kinds of answers, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, log_loss

from pellucid.data.task import LABELS, NUMBER, Task
from pellucid.errors import ConfigError
from pellucid.training.objective import Objective, balanced_weights, refuse_for_numbers

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(40, 3, generator=GENERATOR)
CLASSES = torch.randint(0, 3, (40,), generator=GENERATOR)
SETS = (torch.rand(40, 3, generator=GENERATOR) < 0.4).float()


def test_classes_are_learned_by_cross_entropy() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5])
    objective = Objective(label_smoothing=0.1, weights=weights)
    expected = F.cross_entropy(LOGITS, CLASSES, weight=weights, label_smoothing=0.1)
    assert torch.equal(objective.loss(LOGITS, CLASSES), expected)
    assert Objective().total(LOGITS, CLASSES) / 40 == pytest.approx(
        log_loss(CLASSES, LOGITS.double().softmax(1)), rel=1e-5
    )
    assert objective.score(objective.answer(LOGITS), CLASSES) == pytest.approx(
        (LOGITS.argmax(1) == CLASSES).float().mean()
    )


def test_labels_are_learned_each_by_itself() -> None:
    objective = Objective(Task(LABELS))
    each = [log_loss(SETS[:, k], LOGITS[:, k].sigmoid()) for k in range(3)]
    assert float(objective.loss(LOGITS, SETS)) == pytest.approx(np.mean(each), rel=1e-5)
    assert objective.total(LOGITS, SETS) / 40 == pytest.approx(np.mean(each), rel=1e-5)
    assert objective.score(objective.answer(LOGITS), SETS) == pytest.approx(average_precision_score(SETS, LOGITS))


def test_a_label_on_every_picture_does_not_lift_the_score() -> None:
    sets = SETS.clone()
    sets[:, 1] = 1
    expected = np.mean([average_precision_score(sets[:, k], LOGITS[:, k]) for k in (0, 2)])
    assert Objective(Task(LABELS)).score(LOGITS, sets) == pytest.approx(expected)


def test_numbers_are_scored_in_their_unit() -> None:
    task = Task(NUMBER, mean=100.0, std=20.0)
    answers, truth = torch.tensor([[0.5], [-1.0]]), torch.from_numpy(task.scaled(np.array([[100.0], [120.0]])))
    objective = Objective(task)
    assert objective.score(answers, truth) == pytest.approx((10 + 40) / 2)
    assert float(objective.loss(answers, truth)) == pytest.approx(
        (0.5 * 0.5**2 + (2.0 - 0.5)) / 2
    )  # Girshick's smooth L1


@pytest.mark.parametrize(
    ("kind", "worse", "better"),
    [
        (LABELS, {"average_precision": 0.5, "loss": 0.1}, {"average_precision": 0.6, "loss": 0.3}),
        (NUMBER, {"mae": 5.0, "loss": 0.1}, {"mae": 4.0, "loss": 0.3}),
        (NUMBER, {"mae": 4.0, "loss": 0.3}, {"mae": 4.0, "loss": 0.2}),
    ],
)
def test_the_better_score_ranks_higher(kind: str, worse: dict[str, float], better: dict[str, float]) -> None:
    objective = Objective(Task(kind))
    assert objective.rank(better) > objective.rank(worse)


def test_balanced_labels_weigh_both_sides_alike() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 1]], np.float32)
    assert balanced_weights(targets, 3) == (3.0, 1.0, 1.0)  # the last one is on every picture


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.1, "class_weights": "none"},
                                      {"label_smoothing": None, "class_weights": "balanced"}])  # fmt: skip
def test_settings_about_classes_are_refused_for_numbers(settings: dict) -> None:
    refuse_for_numbers(Task(LABELS), **settings)
    with pytest.raises(ConfigError, match="a number is to be learned"):
        refuse_for_numbers(Task(NUMBER), **settings)
