"""Transfer: the fitted layer is scikit-learn's logistic regression on timm's own features, and features are kept."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, log_loss
from torch import nn

import pellucid
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.data.task import LABELS, NUMBER, Task
from pellucid.errors import ShapeError, UnknownNameError
from pellucid.model.pretrained import find_pretrained
from pellucid.model.zoo import build
from pellucid.training.transfer import HeadFit, fit_head

NETWORK = "test_resnet"  # timm's smallest
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.4, 0.3)
CONTRACT = PixelContract(height=32, width=32, channels=3, mean=MEAN, std=STD)
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small timm network, as a file that says what it is."""
    torch.manual_seed(0)
    state = timm.create_model(NETWORK, num_classes=7).state_dict()
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    metadata = {
        "architecture": NETWORK, "input_size": "3, 32, 32", "mean": str(list(MEAN)), "std": str(list(STD)),
        "origin": "drawn at random",
    }  # fmt: skip
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file, metadata)
    return file


@pytest.fixture(scope="module")
def pictures(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (240, 32, 32, 3), int64 (240,): the digits 0 to 2, enlarged fourfold, in three shades."""
    chosen = np.flatnonzero(digits[1] < 3)[:240]
    grey = digits[0][chosen].repeat(4, axis=1).repeat(4, axis=2)
    return np.stack([grey, grey // 2, 255 - grey], axis=-1), digits[1][chosen]


def network(weights: Path, num_classes: int) -> nn.Module:
    pretrained = find_pretrained(str(weights), "auto")
    torch.manual_seed(1)
    module = build(pretrained.architecture, input_shape=(3, 32, 32), num_classes=num_classes)
    pretrained.load_into(module)
    return module


def fitted(
    module: nn.Module, pixels: np.ndarray, labels: np.ndarray, num_classes: int, **settings: Any
) -> tuple[HeadFit | None, list[dict[str, Any]]]:
    """The head of `module` fitted on the first two thirds, with the rest for validation."""
    border = len(labels) * 2 // 3
    events: list[dict[str, Any]] = []
    arguments: dict[str, Any] = {
        "contract": CONTRACT, "num_classes": num_classes, "weights": "some", "device": torch.device("cpu"),
        "contents": [f"picture {i}" for i in range(len(labels))], "precision": "fp32", "balance": "none", "seed": 0,
        "on_event": events.append,
    }  # fmt: skip
    fit = fit_head(
        module, Pictures(pixels, labels, np.arange(border)), Pictures(pixels, labels, np.arange(border, len(labels))),
        **(arguments | settings),
    )  # fmt: skip
    return fit, events


@torch.inference_mode()
def probabilities(module: nn.Module, pixels: np.ndarray) -> np.ndarray:
    return module.eval()(CONTRACT.tensor(pixels)).softmax(1).numpy()


@torch.inference_mode()
def timm_features(module: Any, pixels: np.ndarray) -> np.ndarray:
    module.eval()
    return module.forward_head(module.forward_features(CONTRACT.tensor(pixels)), pre_logits=True).numpy()


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_network_answers_as_scikit_learn_does_on_its_features(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], num_classes: int, balanced: bool
) -> None:
    keep = pictures[1] < num_classes
    keep[: len(keep) // 2] &= (pictures[1][: len(keep) // 2] != 1) | (np.arange(len(keep) // 2) % 3 == 0)  # rarer ones
    pixels, labels = pictures[0][keep], pictures[1][keep]
    module = network(weights, num_classes)
    features = timm_features(module, pixels)
    border = len(labels) * 2 // 3
    mean, std = features[:border].mean(0), features[:border].std(0) + 1e-6
    x = (features - mean) / std

    answers = {}
    for strength in STRENGTHS:
        model = LogisticRegression(
            C=strength, max_iter=1000, tol=1e-5, class_weight="balanced" if balanced else None
        ).fit(x[:border], labels[:border])
        answers[strength] = model.predict_proba(x)
    losses = {strength: log_loss(labels[border:], answer[border:]) for strength, answer in answers.items()}

    fit, events = fitted(module, pixels, labels, num_classes, balance="weights" if balanced else "none")
    assert fit is not None
    assert fit.strength == min(losses, key=lambda strength: losses[strength])
    assert fit.scores["loss"] == pytest.approx(losses[fit.strength], rel=5e-3)  # of features as halves
    found = probabilities(module, pixels)
    np.testing.assert_allclose(found, answers[fit.strength], atol=2e-3)
    assert fit.scores["accuracy"] == pytest.approx(np.mean(found[border:].argmax(1) == labels[border:]))
    tried = {event["strength"] for event in events if event["event"] == "head"}
    place = STRENGTHS.index(fit.strength)
    assert tried >= set(STRENGTHS[max(place - 1, 0) : place + 2])  # its neighbors were worse


def test_frozen_layers_stay_as_they_are(weights: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    module = network(weights, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fitted(module, *pictures, 3)
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_stop_on_the_way_gives_nothing_and_changes_nothing(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    module = network(weights, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fit, events = fitted(module, *pictures, 3, should_stop=lambda: True)
    assert fit is None
    assert len(events) == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert fitted(module, *pictures, 3)[0] is not None  # nothing half-seen was kept as whole


def test_when_the_time_is_up_fewer_pictures_and_strengths_do(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    module = network(weights, 3)
    fit, events = fitted(module, *pictures, 3, deadline=time.monotonic() - 1)
    told = [event for event in events if event["event"] == "time_is_up"]
    assert told == [{"event": "time_is_up", "done": 112, "total": 240}]  # 80 to validate on, 30 to learn from, by 8
    assert sum(event["event"] == "head" for event in events) == 1
    assert fit is not None
    answers = probabilities(module, pictures[0])[160:].argmax(1)
    assert fit.scores["accuracy"] == pytest.approx(np.mean(answers == pictures[1][160:]))
    assert fit.scores["accuracy"] > 0.6
    other, events = fitted(network(weights, 3), *pictures, 3, deadline=time.monotonic() - 1, seed=1)
    assert other is not None
    (told,) = [event for event in events if event["event"] == "time_is_up"]
    assert 112 < told["done"] < 240  # those of the first time are known now, and used
    assert other.scores["loss"] != fit.scores["loss"]  # the seed decides which pictures


def test_with_time_enough_a_deadline_changes_nothing(weights: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    plain, limited = network(weights, 3), network(weights, 3)
    fit, _ = fitted(plain, *pictures, 3)
    again, events = fitted(limited, *pictures, 3, deadline=time.monotonic() + 3600)
    assert fit is not None and again is not None
    assert (fit.strength, fit.scores) == (again.strength, again.scores)
    assert not any(event["event"] == "time_is_up" for event in events)
    np.testing.assert_array_equal(probabilities(plain, pictures[0]), probabilities(limited, pictures[0]))


@pytest.mark.parametrize("present", [(0, 2), (0, 1, 2)])
def test_a_class_without_training_pictures_never_wins(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], present: tuple[int, ...]
) -> None:
    keep = np.isin(pictures[1], present)
    labels = pictures[1][keep] * 2  # of seven classes 0, 2 and 4 at most have pictures
    module = network(weights, 7)
    fitted(module, pictures[0][keep], labels, 7)
    found = probabilities(module, pictures[0])
    absent = sorted(set(range(7)) - {2 * k for k in present})
    assert found[:, absent].max() < 1e-6
    assert np.mean(found[keep].argmax(1) == labels) > 0.8


def test_training_with_weights_tells_where_they_come_from(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    events: list[dict[str, Any]] = []
    data = pellucid.open_dataset(pictures)
    run = pellucid.train(
        data, weights=str(weights), freeze=True, precision="fp32", out=tmp_path / "run", on_event=events.append
    )
    content = run.read()
    assert content["recipe"] is None
    assert (content["state"], content["epochs"]) == ("finished", None)
    classifier = pellucid.load(run.path)
    assert classifier.weights == {"origin": "drawn at random"}
    assert classifier.contract == replace(CONTRACT, fit="crop")
    heads = [event for event in events if event["event"] == "head"]
    best = min(heads, key=lambda event: event["valid_loss"])
    assert content["valid"]["accuracy"]["value"] == pytest.approx(best["valid_accuracy"])


def test_weights_that_are_not_frozen_are_trained_on(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    data = pellucid.open_dataset(pictures)
    run = pellucid.train(
        data, weights=str(weights), freeze=False, epochs=1, batch_size=64, precision="fp32", out=tmp_path / "run"
    )
    assert run.read()["recipe"]["optimizer"] == "adamw"
    before, after = network(weights, 3).state_dict(), pellucid.load(run.path).module.state_dict()
    convolutions = [name for name, tensor in before.items() if tensor.ndim == 4]
    assert not any(torch.equal(before[name], after[name]) for name in convolutions)


def test_a_setting_that_does_not_exist_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no setting 'epoch'\. Did you mean epochs"):
        pellucid.train("digits", epoch=3, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("last", ["no bias", "something after"])
def test_a_network_without_a_plain_last_layer_is_refused(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], last: str
) -> None:
    module: nn.Module = network(weights, 3)
    if last == "no bias":
        module.fc.bias = None
    else:
        module = nn.Sequential(module, nn.Softsign())
    with pytest.raises(ShapeError, match="--no-freeze"):
        fitted(module, *pictures, 3)


def standardized(weights: Path, pixels: np.ndarray, border: int) -> np.ndarray:
    features = timm_features(network(weights, 3), pixels)
    return (features - features[:border].mean(0)) / (features[:border].std(0) + 1e-6)


def test_labels_are_fitted_each_as_scikit_learn_does(weights: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, digit = pictures
    border = len(digit) * 2 // 3
    labels = np.stack([digit > 0, digit == 1, digit < 9], axis=1).astype(np.float32)  # the last is on every picture
    module = network(weights, 3)
    fit, _ = fitted(module, pixels, labels, 3, task=Task(LABELS))
    assert fit is not None
    with torch.inference_mode():
        found = module.eval()(CONTRACT.tensor(pixels)).sigmoid().numpy()
    x = standardized(weights, pixels, border)
    for k in range(2):
        model = LogisticRegression(C=fit.strength, max_iter=1000, tol=1e-5).fit(x[:border], labels[:border, k])
        np.testing.assert_allclose(found[:, k], model.predict_proba(x)[:, 1], atol=1e-3)
    assert found[:, 2].min() > 0.99
    expected = average_precision_score(labels[border:, :2], found[border:, :2])
    assert fit.scores["average_precision"] == pytest.approx(expected)


def test_a_number_is_fitted_as_ridge_regression_does(weights: Path, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, _ = pictures
    border = len(pixels) * 2 // 3
    values = pixels.mean((1, 2, 3))[:, None].astype(np.float64)
    task = Task(NUMBER).fitted(values[:border])
    module = network(weights, 1)
    fit, events = fitted(module, pixels, task.scaled(values), 1, task=task)
    assert fit is not None
    with torch.inference_mode():
        found = module.eval()(CONTRACT.tensor(pixels)).numpy() * task.std + task.mean
    model = Ridge(alpha=1 / fit.strength).fit(standardized(weights, pixels, border)[:border], values[:border])
    np.testing.assert_allclose(found, model.predict(standardized(weights, pixels, border)).reshape(-1, 1), atol=0.05)
    assert fit.scores["mae"] == pytest.approx(np.abs(found - values)[border:].mean(), rel=1e-3)
    losses = [event["valid_loss"] for event in events if event["event"] == "head"]
    assert fit.scores["loss"] == min(losses)
