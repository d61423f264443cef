"""Scores of several labels at once against scikit-learn's, and intervals that know about groups."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_score, recall_score

from pellucid.errors import DataError
from pellucid.evaluation.intervals import resamples
from pellucid.evaluation.labels import average_precision_interval, evaluate_labels
from pellucid.evaluation.ranking import areas

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    """Labels (400, 3) and probabilities that know something about them, rounded so that many are equal."""
    rng = np.random.default_rng(0)
    truth = (rng.random((400, 3)) < [0.5, 0.2, 0.05]).astype(float)
    return truth, np.round(np.clip(0.35 * truth + rng.beta(2, 3, (400, 3)), 0, 1), 2)


def paths(n: int) -> list[str]:
    return [f"{i}.png" for i in range(n)]


def test_scores_are_scikit_learns(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = answers
    given = probabilities >= 0.5
    e = evaluate_labels(truth, probabilities, NAMES, paths=paths(400))
    assert e.average_precision.value == pytest.approx(average_precision_score(truth, probabilities))
    assert e.subset_accuracy.value == accuracy_score(truth, given)
    assert e.micro_f1.value == pytest.approx(f1_score(truth, given, average="micro"))
    assert e.macro_f1.value == pytest.approx(f1_score(truth, given, average="macro"))
    assert e.micro_precision == pytest.approx(precision_score(truth, given, average="micro"))
    for k, score in enumerate(e.per_label):
        assert score.average_precision.value == pytest.approx(average_precision_score(truth[:, k], probabilities[:, k]))
        assert score.precision.value == pytest.approx(precision_score(truth[:, k], given[:, k]))
        assert score.recall.value == pytest.approx(recall_score(truth[:, k], given[:, k]))
        assert score.f1.value == pytest.approx(f1_score(truth[:, k], given[:, k]))
        assert (score.n, score.missed) == (truth[:, k].sum(), (truth[:, k] > given[:, k]).sum())
        assert score.average_precision.low < score.average_precision.value < score.average_precision.high
    json.dumps(e.to_dict(), allow_nan=False)


def test_a_draw_is_a_weighted_score(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = answers
    weight = next(resamples(400, draws=5))
    found = areas(truth > 0, probabilities, weight).average_precision
    for row, one in zip(found, weight, strict=True):
        expected = [average_precision_score(truth[:, k], probabilities[:, k], sample_weight=one) for k in range(3)]
        assert row == pytest.approx(expected)


def test_intervals_hold_the_truth_of_fresh_pictures() -> None:
    """About 95 in 100 intervals of samples hold the average precision of a very large one."""
    rng = np.random.default_rng(1)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.random((n, 1)) < 0.3
        return truth, rng.normal(truth * 1.2)

    truth, scores = sample(200_000)
    expected = average_precision_score(truth, scores)
    held = [i.low <= expected <= i.high for i in (average_precision_interval(*sample(150)) for _ in range(100))]
    assert 87 <= sum(held) <= 100


def test_groups_make_intervals_wider() -> None:
    """Twenty patients with twenty alike pictures each tell as much as twenty pictures."""
    rng = np.random.default_rng(2)
    truth = (rng.random((20, 2)) < 0.5).repeat(20, axis=0)
    probabilities = np.clip(0.3 * truth + rng.random((20, 2)).repeat(20, axis=0) * 0.7, 0, 1)
    groups = [f"patient {i // 20}" for i in range(400)]
    alone = evaluate_labels(truth, probabilities, NAMES[:2], paths=paths(400))
    grouped = evaluate_labels(truth, probabilities, NAMES[:2], paths=paths(400), groups=groups)
    for name in ("average_precision", "subset_accuracy", "micro_f1"):
        narrow, wide = getattr(alone, name), getattr(grouped, name)
        assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert grouped.interval_method == "bootstrap over 20 groups"


def test_labels_on_all_or_no_picture_are_told_and_not_counted(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth = np.column_stack([answers[0][:, :1], np.zeros(400), np.ones(400)])
    e = evaluate_labels(truth, answers[1], NAMES, paths=paths(400))
    assert e.average_precision.value == pytest.approx(average_precision_score(truth[:, 0], answers[1][:, 0]))
    assert str(e.per_label[1].recall) == str(e.per_label[2].average_precision) == "not measured"
    assert [note for note in e.notes if "on no picture here" in note and "'b'" in note]
    assert [note for note in e.notes if "on every picture here" in note and "'c'" in note]
    json.dumps(e.to_dict(), allow_nan=False)


def test_the_baseline_gives_the_frequent_labels_of_the_training() -> None:
    truth = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
    e = evaluate_labels(truth, truth * 0.9, NAMES[:2], paths=paths(4), training=np.array([[1, 0]] * 2 + [[1, 1]]))
    assert e.baseline["labels"] == ["a"]
    assert e.baseline["subset_accuracy"] == 0.5
    assert e.baseline["micro_f1"] == pytest.approx(f1_score(truth, [[1, 0]] * 4, average="micro"))


def test_the_most_confident_mistakes_come_first() -> None:
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    e = evaluate_labels(truth, np.array([[0.9, 0.6, 0.1], [0.02, 0.9, 0.1], [0.05, 0.9, 0.1]]), NAMES, paths=paths(3))
    assert [(m.path, m.label, m.predicted) for m in e.worst] == [("2.png", "a, b", "b"), ("0.png", "a", "a, b")]
    assert [m.probability for m in e.worst] == pytest.approx([0.95, 0.6])
    assert e.num_right == 1


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(2, 3\) .*\(2, 2\) .*3 labels"):
        evaluate_labels(np.zeros((2, 3)), np.zeros((2, 2)), NAMES, paths=paths(2))
