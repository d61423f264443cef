"""Baselines against scikit-learn's neighbors, and features against the layer that they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import ShapeError
from pellucid.evaluation.baseline import FEATURES, PIXELS, features, nearest_baselines, nearest_labels, scored, some_of
from pellucid.evaluation.intervals import wilson
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import find_architecture

CLASSES = tuple("0123456789")


def test_the_nearest_are_scikit_learns(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    rows = images.reshape(len(images), -1).astype(np.float32)
    answers = nearest_labels(rows[:1000], labels[:1000], rows[1000:], 10)
    theirs = KNeighborsClassifier(5).fit(rows[:1000], labels[:1000])
    chances = theirs.predict_proba(rows[1000:])
    clear = np.sort(chances, axis=1)[:, -1] > np.sort(chances, axis=1)[:, -2]  # where no two classes have equally many
    assert clear.mean() > 0.95
    assert (answers[clear] == chances.argmax(1)[clear]).all()


def test_of_equally_frequent_classes_the_nearest_counts() -> None:
    known = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    assert nearest_labels(known, np.array([1, 0, 0, 1]), np.array([[0.0], [3.0]], np.float32), 2).tolist() == [1, 1]
    assert nearest_labels(known, np.array([0, 1, 1, 0]), np.array([[0.9]], np.float32), 2).tolist() == [1]


def test_a_baseline_has_intervals_and_n() -> None:
    labels, answers = np.repeat([0, 1], 20), np.zeros(40, int)
    baseline = scored("always", labels, answers, 2)
    assert baseline.accuracy == wilson(20, 40)
    assert baseline.macro_f1.value == pytest.approx((2 / 3 + 0) / 2)
    assert baseline.n == 40


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    contract = PixelContract(8, 8, 1, "stretch", (0.5,), (0.25,))
    return Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)), CLASSES, contract,
        find_architecture("dense12 relu"),
    )  # fmt: skip


def test_features_are_what_the_last_layer_receives(
    classifier: Classifier, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels = digits[0][:5, ..., None]
    with torch.no_grad():
        x = classifier.contract.tensor(torch.from_numpy(pixels)).flatten(1)
        expected = classifier.module[2](classifier.module[1](x))
    expected = expected / expected.norm(dim=1, keepdim=True)
    assert features(classifier, pixels) == pytest.approx(expected.numpy(), abs=1e-6)


def test_both_baselines_are_measured_and_a_network_without_dense_layer_has_one(
    classifier: Classifier, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits[0][..., None], digits[1]
    known, wanted = (images[:300], labels[:300]), (images[300:500], labels[300:500])
    found = nearest_baselines(classifier, known, wanted)
    assert list(found) == [PIXELS, FEATURES]
    assert found[PIXELS].accuracy.value > 0.8
    assert "5 nearest of 300 training pictures" in found[PIXELS].rule
    convolutions = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    without = Classifier(convolutions, CLASSES, classifier.contract, classifier.architecture)
    with pytest.raises(ShapeError):
        features(without, images[:2])
    assert list(nearest_baselines(without, known, wanted)) == [PIXELS]


def test_large_pictures_are_fewer() -> None:
    assert len(some_of(10_000, 32 * 32, most=5000)) == 5000
    assert len(some_of(10_000, 32 * 32)) == 10_000
    assert 200 <= len(some_of(10_000, 512 * 512)) < 1000
    assert len(np.unique(some_of(300, 10**9))) == 200
