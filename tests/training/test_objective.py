"""Losses and scores of the three kinds of answers, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score, log_loss

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
    right = (LOGITS.argmax(1) == CLASSES).float().mean()
    assert objective.scores(objective.answer(LOGITS), CLASSES) == {"accuracy": pytest.approx(right)}


def test_the_focal_loss_is_that_of_its_paper() -> None:
    """Two classes are one logit's yes and no, for which torchvision has it; without its second factor it is the cross-entropy."""
    from torchvision.ops import sigmoid_focal_loss

    z, yes = LOGITS[:, 0], SETS[:, 0]
    expected = sigmoid_focal_loss(z, yes, alpha=-1, gamma=2, reduction="mean")
    two = torch.stack([torch.zeros_like(z), z], dim=1)
    assert float(Objective(focal=True).loss(two, yes.long())) == pytest.approx(float(expected), rel=1e-5)
    mixed = F.one_hot(yes.long(), 2).float()
    assert float(Objective(focal=True).loss(two, mixed)) == pytest.approx(float(expected), rel=1e-5)
    each = [sigmoid_focal_loss(LOGITS[:, k], SETS[:, k], alpha=-1, gamma=2, reduction="mean") for k in range(3)]
    assert float(Objective(Task(LABELS), focal=True).loss(LOGITS, SETS)) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_balanced_training_is_ranked_by_macro_f1() -> None:
    objective = Objective(macro=True)
    scores = objective.scores(LOGITS.argmax(1), CLASSES)
    assert scores["macro_f1"] == pytest.approx(f1_score(CLASSES, LOGITS.argmax(1), average="macro"))
    worse = {"macro_f1": 0.5, "accuracy": 0.9, "loss": 0.1}
    better = {"macro_f1": 0.6, "accuracy": 0.8, "loss": 0.3}
    assert objective.rank(better) > objective.rank(worse)
    assert Objective().rank(better) < Objective().rank(worse)


def test_labels_are_learned_each_by_itself() -> None:
    objective = Objective(Task(LABELS))
    each = [log_loss(SETS[:, k], LOGITS[:, k].sigmoid()) for k in range(3)]
    assert float(objective.loss(LOGITS, SETS)) == pytest.approx(np.mean(each), rel=1e-5)
    assert objective.total(LOGITS, SETS) / 40 == pytest.approx(np.mean(each), rel=1e-5)
    scores = objective.scores(objective.answer(LOGITS), SETS)
    assert scores == {"average_precision": pytest.approx(average_precision_score(SETS, LOGITS))}


def test_a_label_on_every_picture_does_not_lift_the_score() -> None:
    sets = SETS.clone()
    sets[:, 1] = 1
    expected = np.mean([average_precision_score(sets[:, k], LOGITS[:, k]) for k in (0, 2)])
    assert Objective(Task(LABELS)).scores(LOGITS, sets)["average_precision"] == pytest.approx(expected)


def test_numbers_are_scored_in_their_unit() -> None:
    task = Task(NUMBER, mean=100.0, std=20.0)
    answers, truth = torch.tensor([[0.5], [-1.0]]), torch.from_numpy(task.scaled(np.array([[100.0], [120.0]])))
    objective = Objective(task)
    assert objective.scores(answers, truth) == {"mae": pytest.approx((10 + 40) / 2)}
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


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.1, "balance": "none"},
                                      {"label_smoothing": None, "balance": "weights"}])  # fmt: skip
def test_settings_about_classes_are_refused_for_numbers(settings: dict) -> None:
    refuse_for_numbers(Task(LABELS), **settings)
    with pytest.raises(ConfigError, match="a number is to be learned"):
        refuse_for_numbers(Task(NUMBER), **settings)
