"""Training health: the figures are those of torch, looking changes nothing, ill networks are named and sound ones are not."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Loader, Pictures
from pellucid.errors import TrainingError
from pellucid.model.zoo import Architecture, build
from pellucid.training.health import LayerHealth, Probe, diagnose
from pellucid.training.loop import Recipe, fit

CONTRACT = PixelContract(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
RECIPE = Recipe(
    steps=60, max_steps=60, batch_size=64, optimizer="adamw", learning_rate=3e-3, weight_decay=0.02, momentum=0.85,
    warmup=0.2, label_smoothing=0.1, average_steps=0, clip=None, class_weights=None, patience=None,
    augmentation=Augmentation(), precision="fp32", channels_last=True, seed=3,
)  # fmt: skip
TUTORIAL = "conv16,psame relu pool conv32,psame relu pool dense64 relu"


def network(text: str) -> nn.Module:
    torch.manual_seed(0)
    family = "fastnet" if text.startswith("fastnet") else "spec"
    return build(Architecture(family, text), input_shape=(1, 8, 8), num_classes=10)


@pytest.fixture
def parts(digits: tuple[np.ndarray, np.ndarray]) -> tuple[Pictures, Pictures]:
    pixels, labels = digits[0][..., None], digits[1]
    return Pictures(pixels, labels, np.arange(700)), Pictures(pixels, labels, np.arange(700, 800))


def events_of(
    module: nn.Module, parts: tuple[Pictures, Pictures], folder: Path, recipe: Recipe = RECIPE
) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(TrainingError):  # what diverges has told why before
        fit(
            module, *parts, contract=CONTRACT, recipe=recipe, device=torch.device("cpu"), folder=folder,
            on_event=events.append,
        )  # fmt: skip
    return events


def kinds(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The layers that were warned about, by kind."""
    return {e["kind"]: e["layers"] for e in reversed(events) if e["event"] == "warning"}


def test_the_figures_are_torchs(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    recipe = replace(
        RECIPE, steps=1, max_steps=1, optimizer="sgd", momentum=0.0, weight_decay=0.0, warmup=0.0, clip=0.01
    )
    events = events_of(network("conv4 relu dense8 sigmoid"), parts, tmp_path, recipe)
    health = next(e for e in events if e["event"] == "health")
    rows = {row["name"]: row for row in health["layers"]}

    module = network("conv4 relu dense8 sigmoid").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, y, _ = next(
        Loader(parts[0], CONTRACT, torch.device("cpu"), batch_size=64).shuffled(Augmentation(), seed=3, epoch=0)
    )
    conv = module.conv1(x)
    relu = conv.relu()
    dense = module.dense1(relu.flatten(1))
    loss = F.cross_entropy(module.head(dense.sigmoid()), y, label_smoothing=0.1)
    loss.backward()
    assert [row["name"] for row in health["layers"]] == ["conv1", "relu1", "dense1", "sigmoid1", "head"]
    squares = {
        n: sum(float(p.grad.square().sum()) for p in getattr(module, n).parameters())
        for n in ("conv1", "dense1", "head")
    }
    conv, relu, dense = conv.detach(), relu.detach(), dense.detach()
    clipped = min(1.0, 0.01 / math.sqrt(sum(squares.values())))
    for name in ("conv1", "dense1", "head"):
        layer = getattr(module, name)
        weight = math.sqrt(sum(float(p.detach().square().sum()) for p in layer.parameters()))
        assert rows[name]["gradient"] == pytest.approx(math.sqrt(squares[name]), rel=1e-3)
        assert rows[name]["weight"] == pytest.approx(weight, rel=1e-3)
        assert rows[name]["update"] == pytest.approx(3e-3 * clipped * rows[name]["gradient"] / weight, rel=5e-3)
    assert rows["conv1"]["mean"] == pytest.approx(conv.mean().item(), rel=1e-3)
    assert rows["conv1"]["std"] == pytest.approx(conv.std().item(), rel=1e-3)
    assert rows["relu1"]["zeros"] == pytest.approx((relu == 0).float().mean().item(), rel=1e-3)
    assert rows["relu1"]["dead"] == ((relu == 0).all(dim=(0, 2, 3))).float().mean().item()
    flat = dense.sigmoid() * (1 - dense.sigmoid()) < 0.25 * 0.04  # the slope is steepest at 0: a quarter
    assert rows["sigmoid1"]["saturated"] == flat.float().mean().item()
    assert health["step"] == 1


@pytest.mark.parametrize("model", ["conv8 bn relu dropout0.3 pool dense16 relu", "fastnet-8-16"])
def test_looking_changes_no_bit(
    parts: tuple[Pictures, Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    ends = []
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr(Probe, "watching", lambda self, step: contextlib.nullcontext())
        module = network(model)
        events = events_of(module, parts, tmp_path / name)
        assert any(e["event"] == "health" for e in events) == (name == "with")
        ends.append(b"".join(t.numpy().tobytes() for t in module.state_dict().values()))
        assert not any(layer._forward_hooks for layer in module.modules())
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        (TUTORIAL, RECIPE),
        ("fastnet-8-16-16", replace(RECIPE, optimizer="sgd", learning_rate=0.1)),
        ("conv16,psame bn sigmoid " * 8 + "globalpool", RECIPE),
        ("conv16,psame relu " * 8 + "globalpool", RECIPE),
        ("dense64 tanh dense64 tanh", RECIPE),
    ],
    ids=["tutorial", "fastnet", "sigmoid-bn", "relu", "tanh"],
)
def test_no_alarm_on_sound_networks(
    parts: tuple[Pictures, Pictures], tmp_path: Path, model: str, recipe: Recipe
) -> None:
    events = events_of(network(model), parts, tmp_path, recipe)
    assert len([e for e in events if e["event"] == "health"]) >= 8
    assert kinds(events) == {}


def test_a_last_layer_that_begins_at_zero_is_sound(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    for optimizer, rate in (("adamw", 3e-3), ("sgd", 0.1)):
        module = network(TUTORIAL)
        for parameter in module.head.parameters():  # type: ignore[union-attr]
            nn.init.zeros_(parameter)
        recipe = replace(RECIPE, optimizer=optimizer, learning_rate=rate)
        assert kinds(events_of(module, parts, tmp_path / optimizer, recipe)) == {}


def test_a_deep_stack_of_sigmoids_is_named(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    events = events_of(network("conv16,psame sigmoid " * 8 + "globalpool"), parts, tmp_path)
    found = kinds(events)
    assert list(found) == ["vanishing"]
    assert found["vanishing"][0] == "conv1"
    warning = next(e for e in events if e["event"] == "warning")
    assert "relu" in warning["text"]
    assert "bn" in warning["text"]
    assert len([e for e in events if e["event"] == "warning"]) == 1  # told once


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 10.0), ("adamw", 0.3)])
def test_a_rate_a_hundred_times_too_high_is_named(
    parts: tuple[Pictures, Pictures], tmp_path: Path, optimizer: str, rate: float
) -> None:
    events = events_of(network(TUTORIAL), parts, tmp_path, replace(RECIPE, optimizer=optimizer, learning_rate=rate))
    assert kinds(events).keys() & {"large steps", "exploding", "dead"}
    assert all("--learning-rate" in e["text"] for e in events if e["event"] == "warning" and e["kind"] != "vanishing")


def changed(text: str, change: Any) -> nn.Module:
    module = network(text)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                change(layer)
    return module


@pytest.mark.parametrize(
    ("kind", "layer", "text", "change"),
    [
        ("vanishing", "conv1", TUTORIAL, lambda x: (x.weight.zero_(), x.bias.zero_())),
        ("identical", "conv2", TUTORIAL, lambda x: (x.weight.zero_(), x.bias.zero_())),
        ("identical", "conv1", TUTORIAL, lambda x: (x.weight.fill_(0.05), x.bias.zero_())),
        ("exploding", "conv1", "conv16,psame relu " * 8 + "globalpool", lambda x: x.weight.mul_(20)),
        ("dead", "relu2", TUTORIAL, lambda x: x.bias.sub_(2)),
        ("saturated", "tanh2", "dense64 tanh dense64 tanh", lambda x: x.weight.mul_(50)),
        ("saturated", "sigmoid1", "dense64 sigmoid", lambda x: x.weight.mul_(50)),
    ],
    ids=["zero", "zero-identical", "constant", "too-large", "dead", "tanh", "sigmoid"],
)
def test_bad_first_weights_are_named(
    parts: tuple[Pictures, Pictures], tmp_path: Path, kind: str, layer: str, text: str, change: Any
) -> None:
    assert layer in kinds(events_of(changed(text, change), parts, tmp_path)).get(kind, [])


def test_one_look_is_no_proof_except_of_what_is_certain() -> None:
    def agreed(update: float) -> list[int]:
        """The looks after which a layer that changes by so much is told."""
        module = nn.Sequential(nn.Linear(4, 4))
        probe, told = Probe(module, 10), []
        for step in range(4):
            with torch.no_grad():
                module[0].weight.copy_(torch.randn(4, 4, generator=torch.Generator().manual_seed(step)))
            with probe.watching(2**step):
                loss = module(torch.ones(3, 4)).sum()
            module.zero_grad()
            loss.backward()
            probe.read_gradients()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.mul_(1 + update)
            told += [step for event in probe.events() if event["event"] == "warning"]
        return told

    assert agreed(0.1) == []
    assert agreed(0.7) == [2]
    assert agreed(5.0) == [0]


def test_what_is_no_number_is_an_explosion_and_json(tmp_path: Path) -> None:
    layers = [LayerHealth("a", "Conv2d", gradient=float("nan"), weight=1.0), LayerHealth("b", "Linear", gradient=1.0)]
    assert [complaint.kind for complaint in diagnose(layers)] == ["exploding"]
    text = json.dumps(layers[0].to_dict(), allow_nan=False)
    assert json.loads(text) == {"name": "a", "kind": "Conv2d", "gradient": None, "weight": 1.0}


def test_a_layer_that_runs_twice_has_a_row_for_each_call() -> None:
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu)
    probe = Probe(module, 10)
    with probe.watching(0):
        loss = module(torch.ones(3, 4)).sum()
    loss.backward()
    probe.read_gradients()
    (event,) = probe.events()
    assert [row["name"] for row in event["layers"]] == ["0", "1", "2", "1 (call 2)"]


def test_it_looks_seldom() -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    for steps_per_epoch, most in ((3, 26), (200, 12)):
        probe, looks = Probe(module, steps_per_epoch), 0
        for step in range(1000):
            with probe.watching(step):
                looks += bool(module[0]._forward_hooks)
        assert 10 <= looks <= most
