"""The classifier: what it answers, through which doors, what loading refuses, and the layer table by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.decode import from_array
from pellucid.errors import ConfigError, PictureError, RunError, UnknownNameError, WeightsError
from pellucid.files import write_json
from pellucid.model.classifier import Classifier, Prediction, load
from pellucid.model.describe import summary_of
from pellucid.model.zoo import Architecture, build

CONTRACT = PixelContract(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
ARCHITECTURE = Architecture("fastnet", "fastnet-4-8")


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    module = build(ARCHITECTURE, input_shape=(1, 8, 8), num_classes=3)
    return Classifier(module, ("a", "b", "c"), CONTRACT, ARCHITECTURE)


def random_pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8)


def test_probabilities_are_the_softmax_of_the_modules_logits(classifier: Classifier) -> None:
    pixels = random_pixels(5)
    x = (pixels.transpose(0, 3, 1, 2) / 255 - 0.3) / 0.4
    with torch.no_grad():
        logits = classifier.module.eval()(torch.from_numpy(x).float()).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = classifier.predict_proba(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mirrored_classifier_answers_from_both_sides(classifier: Classifier, tmp_path: Path) -> None:
    pixels = random_pixels(5)
    with torch.no_grad():
        classifier.module.head.weight.mul_(100)  # the sides of an untrained network hardly differ
    both = replace(classifier, mirror=True)
    sides = np.log([classifier.predict_proba(side) for side in (pixels, pixels[:, :, ::-1])])
    expected = np.exp(sides.mean(0))
    expected /= expected.sum(1, keepdims=True)
    assert np.abs(sides[0] - sides[1]).max() > 0.01
    np.testing.assert_allclose(both.predict_proba(pixels), expected, atol=1e-5)
    both.save(tmp_path)
    assert np.array_equal(load(tmp_path).predict_proba(pixels), both.predict_proba(pixels))


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_no_picture_is_lost_between_batches(classifier: Classifier, count: int) -> None:
    pixels = random_pixels(count)
    found = classifier.predict_proba(pixels)
    assert found.shape == (count, 3)
    for i in {0, 255, 256, count - 1} & set(range(count)):
        np.testing.assert_allclose(found[i], classifier.predict_proba(pixels[i : i + 1])[0], atol=1e-5)


def test_batches_side_by_side_answer_as_one_after_another(classifier: Classifier) -> None:
    pixels = random_pixels(256 * 6)
    parts = [classifier.predict_proba(part) for part in np.array_split(pixels, 6)]
    threads = torch.get_num_threads()
    for _ in range(3):
        np.testing.assert_allclose(classifier.predict_proba(pixels), np.concatenate(parts), atol=1e-6)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("training", [True, False])
def test_answering_changes_nothing_in_the_module(classifier: Classifier, training: bool) -> None:
    classifier.module.train(training)
    before = {name: tensor.clone() for name, tensor in classifier.module.state_dict().items()}
    first = classifier.predict_proba(random_pixels(9))
    assert classifier.module.training is training
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.module.state_dict().items())
    assert np.array_equal(classifier.predict_proba(random_pixels(9)), first)


def test_the_mode_comes_back_after_an_error(classifier: Classifier) -> None:
    classifier.module.train()
    with pytest.raises(ValueError, match="expected uint8"):
        classifier.predict_proba(np.zeros((1, 8, 8, 3), np.uint8))
    assert classifier.module.training


def test_every_door_gives_the_same_answer(classifier: Classifier, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (11, 9), np.uint8)
    file = tmp_path / "a.png"
    Image.fromarray(pixels).save(file)
    doors = [file, str(file), file.read_bytes(), pixels, pixels[..., None], from_array(pixels)]
    answers = [classifier.predict(door) for door in doors]
    assert len({(answer.labels, answer.probabilities) for answer in answers}) == 1
    expected = classifier.predict_proba(CONTRACT.pixels(pixels[..., None])[None])[0]
    assert dict(answers[0].top(3)) == pytest.approx(dict(zip("abc", expected.tolist(), strict=True)))


def test_a_path_that_cannot_be_read(classifier: Classifier, tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.png", "No such file"), (tmp_path, "cannot be read")):
        with pytest.raises(PictureError, match=reason):
            classifier.predict(path)


def test_classes_are_ranked_and_ties_keep_their_order(classifier: Classifier) -> None:
    prediction = classifier.rank(np.array([0.25, 0.5, 0.25], np.float32))
    assert prediction.labels == ("b", "a", "c")
    assert prediction.probabilities == (0.5, 0.25, 0.25)
    assert (prediction.label, prediction.probability) == ("b", 0.5)


def test_a_prediction_tells_its_first_classes() -> None:
    prediction = Prediction(("x", "y", "z", "w"), (0.5, 0.25, 0.1875, 0.0625))
    assert prediction.top(2) == (("x", 0.5), ("y", 0.25))
    assert prediction.top(9) == prediction.top(4)
    assert len(prediction.to_dict()["labels"]) == 4
    assert str(prediction) == "x 50.0%, y 25.0%, z 18.8%"


def test_saved_and_loaded_it_is_the_same(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "run" / "model")
    for path in (tmp_path / "run", tmp_path / "run" / "model", str(tmp_path / "run")):
        again = load(path)
        assert np.array_equal(again.predict_proba(random_pixels(7)), classifier.predict_proba(random_pixels(7)))
        assert not again.module.training
        assert (again.classes, again.contract, again.architecture, again.weights) == (
            ("a", "b", "c"), CONTRACT, ARCHITECTURE, {"origin": "trained from scratch"}
        )  # fmt: skip
    assert str(again) == "fastnet-4-8 on 1x8x8 pixels, 3 classes"


def test_a_folder_without_a_classifier_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="it is no run folder"):
        load(tmp_path)
    write_json(tmp_path / "run.json", {"format": 1})
    with pytest.raises(RunError, match="its training has not saved a model yet"):
        load(tmp_path)


def test_a_missing_or_foreign_weights_file_is_damage(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "a")
    other = build(Architecture("fastnet", "fastnet-4"), input_shape=(1, 8, 8), num_classes=3)
    Classifier(other, ("a", "b", "c"), CONTRACT, Architecture("fastnet", "fastnet-4")).save(tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="SHA-256"):
        load(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="damaged"):
        load(tmp_path / "a")


def test_the_layer_table_of_a_classifier_counts_its_parameters(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path)
    expected = sum(parameter.numel() for parameter in classifier.module.parameters())
    assert summary_of(tmp_path).parameters == expected


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("dense5 relu", "1x4x4", (16 + 1) * 5 + (5 + 1) * 7),
        ("conv4 relu pool", "3x8x8", (3 * 9 + 1) * 4 + (4 * 3 * 3 + 1) * 7),  # the side: 8, 6, 3
        ("resnet18", None, 11_689_512 - 513 * 1000 + 513 * 7),  # the published count, with another last layer
    ],
)
def test_the_layer_table_of_a_network_that_was_never_trained(name: str, shape: str | None, parameters: int) -> None:
    assert summary_of(name, input_shape=shape, num_classes=7).parameters == parameters


@pytest.mark.parametrize("shape", ["32x32", "3x0x8", "3x8x8x8", "axbxc", "", "3x-8x8"])
def test_a_text_that_is_no_input(shape: str) -> None:
    with pytest.raises(ConfigError, match=f"--input is '{shape}'"):
        summary_of("fastnet", input_shape=shape)


def test_a_folder_that_is_none_is_read_as_a_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean resnet18"):
        summary_of("resnet81")


def test_a_module_of_any_make_can_be_wrapped() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].bias.copy_(torch.tensor([0.0, np.log(3.0)]))
    classifier = Classifier(module, ("no", "yes"), CONTRACT, Architecture("spec", "dense2"))
    assert classifier.predict(random_pixels(1)[0]).top(2) == (
        ("yes", pytest.approx(0.75)), ("no", pytest.approx(0.25))
    )  # fmt: skip
