"""Calibration: the temperature of scikit-learn, accuracy left alone, and nothing learned from chance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.data.contract import PixelContract
from pellucid.data.task import LABELS, NUMBER, ONE_CLASS, Task
from pellucid.errors import WeightsError
from pellucid.evaluation.confidence import score_probabilities
from pellucid.model.calibration import FEWEST, Calibration, fit_calibration
from pellucid.model.classifier import Classifier, load
from pellucid.model.validation import Validation
from pellucid.model.zoo import Architecture, build


def honest(n: int, *, temperature: float = 1.0, num_classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, num_classes) whose labels are drawn from the softmax of logits / temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, num_classes)).astype(np.float32)
    p = torch.from_numpy(logits / temperature).double().softmax(1).numpy()
    return logits, (p.cumsum(1) < rng.random((n, 1))).sum(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_that_of_scikit_learn_and_of_the_truth(temperature: float) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    if not any("temperature" in c.options for c in CalibratedClassifierCV._parameter_constraints["method"]):
        pytest.skip("this scikit-learn has no temperature scaling")
    logits, labels = honest(4000, temperature=temperature)
    found = fit_calibration(ONE_CLASS, logits, labels)
    assert found is not None
    assert len(found.scale) == 1
    assert found.offset == (0.0,)
    assert 1 / found.scale[0] == pytest.approx(temperature, rel=0.1)
    identity = LogisticRegression()
    identity.classes_, identity.coef_, identity.intercept_ = np.arange(5), np.eye(5), np.zeros(5)
    oracle = CalibratedClassifierCV(FrozenEstimator(identity), method="temperature", ensemble=False).fit(logits, labels)
    beta = oracle.calibrated_classifiers_[0].calibrators[0].beta_
    assert found.scale[0] == pytest.approx(beta, rel=0.01)  # one picture in 4,002 of smoothing
    assert str(found) == f"temperature {1 / found.scale[0]:.2f}"


def test_a_temperature_halves_the_calibration_error_and_changes_no_answer() -> None:
    for temperature in (0.4, 3.0):  # too modest and too sure
        logits, labels = honest(6000, temperature=temperature)
        fitted = fit_calibration(ONE_CLASS, logits[:3000], labels[:3000])
        assert fitted is not None
        test = torch.from_numpy(logits[3000:])
        before, after = (z.softmax(1).numpy() for z in (test, fitted(test)))
        assert (before.argmax(1) == after.argmax(1)).all()
        first, second = (score_probabilities(p, labels[3000:]) for p in (before, after))
        assert second.ece <= first.ece / 2
        assert second.nll < first.nll
        assert second.brier < first.brier


def test_classes_get_their_own_scale_only_where_that_is_clearly_better() -> None:
    logits, labels = honest(4000)
    shared = fit_calibration(ONE_CLASS, logits, labels)
    assert shared is not None
    assert len(shared.scale) == 1
    tilted = logits + np.array([4, 0, 0, 0, 0], np.float32)  # the first class is said far too often
    each = fit_calibration(ONE_CLASS, tilted, labels)
    assert each is not None
    assert len(each.scale) == len(each.offset) == 5
    assert each.offset[0] - np.mean(each.offset[1:]) == pytest.approx(-4, abs=0.5)
    assert str(each).startswith("vector scaling")
    of_two = logits[:, :2] + np.array([4, 0], np.float32)
    two = fit_calibration(ONE_CLASS, of_two[labels < 2], labels[labels < 2])
    assert two is not None
    assert (len(two.scale), len(two.offset)) == (1, 2), "of two classes only the difference counts"
    assert two.offset[0] - two.offset[1] == pytest.approx(-4, abs=0.5)
    assert "and an offset for each class" in str(two)
    only = fit_calibration(ONE_CLASS, tilted, labels, only_temperature=True)
    assert only is not None
    assert len(only.scale) == 1


def test_without_any_mistake_certainty_stays_bounded() -> None:
    logits = 3 * np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    fitted = fit_calibration(ONE_CLASS, logits, np.arange(100) % 4)
    assert fitted is not None
    sure = fitted(torch.from_numpy(logits)).softmax(1).max(1).values
    assert 0.97 < float(sure.min()) <= float(sure.max()) < 0.9999


def test_labels_keep_what_is_given_and_numbers_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2000, 3)).astype(np.float32)
    truth = (rng.random((2000, 3)) < 1 / (1 + np.exp(-logits / [3, 1, 0.5]))).astype(np.float32)
    fitted = fit_calibration(Task(LABELS), logits, truth)
    assert fitted is not None
    assert [1 / scale for scale in fitted.scale] == pytest.approx([3, 1, 0.5], rel=0.2)
    assert ((fitted(torch.from_numpy(logits)) >= 0).numpy() == (logits >= 0)).all()
    assert fit_calibration(Task(NUMBER), logits[:, :1], truth[:, :1]) is None


def test_few_pictures_teach_nothing() -> None:
    logits, labels = honest(FEWEST)
    assert fit_calibration(ONE_CLASS, logits[:-1], labels[:-1]) is None
    assert fit_calibration(ONE_CLASS, logits, labels) is not None


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    architecture = Architecture("fastnet", "fastnet-4")
    module = build(architecture, input_shape=(1, 8, 8), num_classes=3)
    with torch.no_grad():
        module.head.weight.mul_(50)
    return Classifier(module, ("a", "b", "c"), PixelContract(height=8, width=8, channels=1), architecture)


def test_the_calibrated_probability_is_what_every_door_says_and_is_saved(
    classifier: Classifier, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)
    logits = classifier.predict_logits(pixels).double().numpy()
    soft = replace(classifier, calibration=Calibration((0.5, 1.0, 1.0), (0.0, 0.0, 1.0), 80))
    expected = np.exp(logits * [0.5, 1, 1] + [0, 0, 1])
    expected /= expected.sum(1, keepdims=True)
    assert np.abs(expected - classifier.predict_proba(pixels)).max() > 0.05
    validation = Validation(logits.astype(np.float32), np.arange(9) % 3, np.arange(9) // 2)
    replace(soft, validation=validation).save(tmp_path)
    loaded = load(tmp_path)
    for door in (soft, loaded):
        np.testing.assert_allclose(door.predict_proba(pixels), expected, atol=1e-5)
        assert dict(door.predict(pixels[0]).top(3)) == pytest.approx(
            dict(zip("abc", expected[0], strict=True)), abs=1e-5
        )
    assert loaded.calibration == soft.calibration
    assert loaded.validation is not None
    for name in ("logits", "targets", "groups"):
        np.testing.assert_array_equal(getattr(loaded.validation, name), getattr(validation, name))


def test_a_card_from_before_is_not_calibrated(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    del card["calibration"], card["validation"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    loaded = load(tmp_path)
    assert loaded.calibration is None
    assert loaded.validation is None


def test_damage_is_told(classifier: Classifier, tmp_path: Path) -> None:
    whole = replace(classifier, validation=Validation(np.zeros((2, 3), np.float32), np.zeros(2, np.int64)))
    whole.save(tmp_path)
    (tmp_path / "validation.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"validation\.safetensors' is damaged"):
        load(tmp_path)
    for bad in ({"scale": [0], "offset": [0], "n": 1}, {"scale": ["x"], "offset": [0], "n": 1}, {"scale": [1]}):
        whole.save(tmp_path)
        card = json.loads((tmp_path / "card.json").read_text()) | {"calibration": bad}
        (tmp_path / "card.json").write_text(json.dumps(card))
        with pytest.raises(WeightsError, match="damaged"):
            load(tmp_path)


def test_very_many_pictures_are_kept_in_part() -> None:
    many = Validation(np.arange(3_000_000, dtype=np.float32).reshape(-1, 1000), np.arange(3000), np.arange(3000))
    assert len(many.kept()) == 3000
    wide = Validation(np.zeros((1200, 5000), np.float32), np.arange(1200))
    assert len(wide.kept()) == 1000
    assert len(set(wide.kept().targets.tolist())) == 1000
