"""What a classifier of labels or of a number says, and that its card brings it back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.data.contract import PixelContract
from pellucid.data.task import LABELS, NUMBER, ONE_CLASS, Task
from pellucid.errors import WeightsError
from pellucid.model.classifier import Classifier, load
from pellucid.model.prediction import LabelsPrediction, NumberPrediction, Prediction, columns
from pellucid.model.zoo import Architecture, build

CONTRACT = PixelContract(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))


def classifier(task: Task, classes: tuple[str, ...]) -> Classifier:
    architecture = Architecture("spec", "conv4 relu globalpool")
    torch.manual_seed(0)
    return Classifier(
        build(architecture, input_shape=(1, 8, 8), num_classes=len(classes)), classes, CONTRACT, architecture, task=task
    )


@pytest.mark.parametrize("kind", [LABELS, NUMBER])
def test_answers_are_the_logits_in_their_unit(kind: str, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    task = Task(kind, "|", mean=100.0, std=20.0, margin=7.0)
    made = classifier(task, ("ink",) if kind == NUMBER else ("a", "b", "c"))
    made.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.task == task
    pixels = digits[0][:5, ..., None]
    with torch.inference_mode():
        logits = made.module(CONTRACT.tensor(torch.from_numpy(pixels)))
    expected = logits * 20 + 100 if kind == NUMBER else logits.sigmoid()
    np.testing.assert_allclose(loaded.predict_proba(pixels), expected.numpy(), rtol=1e-5)
    one = loaded.predict(digits[0][0])
    if isinstance(one, NumberPrediction):
        assert one.value == pytest.approx(float(expected[0]), rel=1e-5)
        assert (one.low, one.high) == (one.value - 7, one.value + 7)
    else:
        assert isinstance(one, LabelsPrediction)
        assert dict(one.top(3)) == pytest.approx(dict(zip("abc", expected[0].tolist(), strict=True)), rel=1e-5)


def test_a_card_from_before_is_of_classes(tmp_path: Path) -> None:
    classifier(ONE_CLASS, ("x", "y")).save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    del card["task"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert load(tmp_path).task == ONE_CLASS


def test_one_class_is_too_few_but_one_label_is_enough(tmp_path: Path) -> None:
    classifier(Task(LABELS), ("only",)).save(tmp_path)
    assert load(tmp_path).classes == ("only",)
    classifier(ONE_CLASS, ("only",)).save(tmp_path)
    with pytest.raises(WeightsError, match="2 or more"):
        load(tmp_path)


def test_labels_are_given_from_a_half_on() -> None:
    found = LabelsPrediction(("b", "c", "a"), (0.9, 0.5, 0.4))
    assert LabelsPrediction(("b", "c"), (0.9, 0.8), "|").cells(2)[0] == "b|c"
    assert found.given == ("b", "c")
    assert found.text(1) == "b 90.0%, c 50.0%"
    assert found.cells(3) == ["b;c", "0.400000", "0.900000", "0.500000"]
    assert columns(Task(LABELS), ("a", "b", "c"), 3) == ["labels", "probability_a", "probability_b", "probability_c"]
    assert found.to_dict()["probabilities"] == {"b": 0.9, "c": 0.5, "a": 0.4}
    assert found.rows(1) == ((("b", 0.9), ("c", 0.5)), 2)
    none = LabelsPrediction(("b", "a"), (0.3, 0.2))
    assert none.text(1) == "none (next b 30.0%)"
    assert none.to_dict()["labels"] == []
    assert none.rows(1) == ((("b", 0.3),), 0)


def test_numbers_are_written_as_precisely_as_they_matter() -> None:
    found = NumberPrediction("ink", 12.3456, 11.02, 13.7, step=0.05)
    assert str(found) == "ink 12.35 (11.02 to 13.70)"
    assert found.cells(1) == ["12.3456", "11.02", "13.7"]
    assert columns(Task(NUMBER), ("ink",), 3) == ["ink", "ink_low", "ink_high"]
    assert str(NumberPrediction("salt", 12345.6, None, None, step=40.0)) == "salt 12,346"
    assert NumberPrediction("salt", 1.0, None, None, step=40.0).cells(1) == ["1", "", ""]


def test_classes_are_as_they_were() -> None:
    found = Prediction(("x", "y"), (0.75, 0.25))
    assert found.to_dict() == {"labels": [{"label": "x", "probability": 0.75}, {"label": "y", "probability": 0.25}]}
    assert found.text(1) == "x 75.0%"
    assert found.rows(2) == ((("x", 0.75), ("y", 0.25)), 1)
