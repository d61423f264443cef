"""Fine-tuning: what stays stays bit for bit, what is slow moves in proportion, and the best in validation is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pellucid
from pellucid.config import TrainConfig
from pellucid.training import finetune
from pellucid.training.loop import hold
from pellucid.training.optimizer import make_optimizer

NETWORK = "test_resnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = timm.create_model(NETWORK, num_classes=7).state_dict()
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    metadata = {"architecture": NETWORK, "input_size": "3, 32, 32", "mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file, metadata)
    return file


@pytest.fixture(scope="module")
def pictures(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (240, 32, 32, 3), int64 (240,): the digits 0 to 2, enlarged fourfold, in three shades."""
    chosen = np.flatnonzero(digits[1] < 3)[:240]
    grey = digits[0][chosen].repeat(4, axis=1).repeat(4, axis=2)
    return np.stack([grey, grey // 2, 255 - grey], axis=-1), digits[1][chosen]


def test_two_thirds_of_the_work_stay_and_the_last_sixth_learns_at_the_full_rate() -> None:
    """MobileNet v2: 300.8 million multiply-adds at 224, of which the blocks up to 4 do 204 (Sandler et al. 2018, table 2)."""
    rates = dict(finetune.layer_rates(timm.create_model("mobilenetv2_100"), (3, 224, 224)))
    assert {rates["conv_stem"], rates["blocks.4.0.conv_pw"], rates["blocks.4.1.bn2"], rates[""]} == {0.0}
    assert {rates["blocks.5.0.conv_pw"], rates["blocks.5.1.conv_dw"]} == {0.4}
    assert not {"blocks.6.0.conv_pwl", "conv_head", "classifier"} & rates.keys()


def test_a_slow_layer_takes_smaller_steps_and_one_that_stays_takes_none() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    rates = (("0", 0.0), ("1", 0.25))
    hold(module, rates)
    optimizer = make_optimizer(
        module, "sgd", learning_rate=0.1, weight_decay=0.0, momentum=0.0, layer_rates=dict(rates)
    )
    before = [p.detach().clone() for p in module.parameters()]
    module(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    for parameter, old, rate in zip(module.parameters(), before, (0, 0, 0.025, 0.025, 0.1, 0.1), strict=True):
        moved = 0 if parameter.grad is None else -rate * parameter.grad
        torch.testing.assert_close(parameter.detach() - old, torch.zeros_like(old) + moved)
    assert module[0].weight.grad is None  # not even computed


def test_a_mean_lies_between() -> None:
    before, after = (
        {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([1.0, 0.0]), "n": torch.tensor(5)},
    )
    mean = finetune.mean_of(before, after, 0.25)
    assert mean["w"].tolist() == [0.25, 3.0]
    assert mean["n"].item() == 5


@pytest.mark.parametrize("best", ["before", "mean with 50% of after", "mean with 75% of after", "after"])
def test_what_does_best_in_validation_is_kept(best: str) -> None:
    module = nn.Linear(1, 1, bias=False)
    places = {"before": 0.0, "mean with 50% of after": 0.5, "mean with 75% of after": 0.75, "after": 1.0}
    nn.init.constant_(module.weight, 1.0)

    def score(network: nn.Module) -> dict[str, float]:
        return {"accuracy": 1 - abs(network.weight.item() - places[best])}  # type: ignore[union-attr, operator]

    events: list[dict[str, Any]] = []
    known = {name: {"accuracy": 1 - abs(places[name] - places[best])} for name in ("before", "after")}
    kept = finetune.keep_best(
        module, {"weight": torch.zeros(1, 1)}, known, score=score, rank=lambda s: (s["accuracy"], 0.0),
        on_event=events.append,
    )  # fmt: skip
    assert kept == best
    assert module.weight.item() == places[best]
    assert (events[0]["what"], set(events[0]["scores"])) == (best, set(places))


def test_what_was_asked_for_is_not_chosen_anew() -> None:
    asked = TrainConfig(epochs=7, batch_size=8, learning_rate=0.5)
    assert finetune.settings(asked) == TrainConfig(epochs=7, batch_size=8, learning_rate=0.5, optimizer="adamw")
    own = finetune.settings(TrainConfig())
    assert (own.epochs, own.batch_size, own.learning_rate) == (4, 32, 5e-4)


def test_weights_are_fine_tuned_by_default(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    events: list[dict[str, Any]] = []
    data = pellucid.open_dataset(pictures)
    run = pellucid.train(
        data, weights=str(weights), precision="fp32", epochs=2, learning_rate=3e-3, out=tmp_path / "run",
        on_event=events.append,
    )  # fmt: skip
    content = run.read()
    rates = dict(content["recipe"]["layer_rates"])
    assert content["epochs"] == 2
    fitted = pellucid.load(run.path)
    before, after = load_file(weights), fitted.module.state_dict()
    for name, tensor in before.items():
        layer = name.rpartition(".")[0]
        if rates.get(layer) == 0 or "running" in name:
            assert torch.equal(after[name], tensor), name
    (kept,) = [event for event in events if event["event"] == "kept"]
    changed = any(not torch.equal(after[n], t) for n, t in before.items() if t.ndim == 4)
    assert changed == (kept["what"] != "before")
    best = max((s["accuracy"], -s["loss"]) for s in kept["scores"].values())
    assert content["valid"]["accuracy"]["value"] == pytest.approx(best[0])
    heads = [event for event in events if event["event"] == "head"]
    assert kept["scores"]["before"]["loss"] == min(event["valid_loss"] for event in heads)


def test_without_time_there_is_only_the_last_layer(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    events: list[dict[str, Any]] = []
    data = pellucid.open_dataset(pictures)
    run = pellucid.train(data, weights=str(weights), time_limit="6s", out=tmp_path / "run", on_event=events.append)
    assert run.read()["recipe"] is None
    told = [reason for event in events if event["event"] == "plan" for reason in event["reasons"]]
    assert "no time is left to train the last third of the network on" in told


def test_a_fine_tuning_that_lost_its_start_does_not_go_on(
    weights: Path, pictures: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    data = pellucid.open_dataset(pictures)
    run = pellucid.train(data, weights=str(weights), precision="fp32", epochs=1, out=tmp_path / "run")
    content = run.read()
    (run.path / "run.json").write_text(json.dumps(content | {"state": "killed"}))
    for file in (run.path / "checkpoints").glob("before*"):
        file.unlink()
    with pytest.raises(pellucid.PellucidError, match=r"lost checkpoints/before\.safetensors"):
        pellucid.resume(run, data=data)
