"""The measured speed of a step: kept when it can be believed, by machine, network and batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.config import TrainConfig
from pellucid.data.contract import PixelContract
from pellucid.model.zoo import Architecture, build
from pellucid.training import speed
from pellucid.training.speed import fastest, forget_if_disturbed, measure_speed

CPU = torch.device("cpu")
GREY = PixelContract(height=8, width=8, channels=1)
FASTNET = Architecture("fastnet", "fastnet-4")


def test_the_speed_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def fake(
        module: nn.Module,
        contract: PixelContract,
        x: torch.Tensor,
        device: torch.device,
        candidates: Any,
        training: bool,
    ) -> dict[str, float]:
        assert x.shape == (16, 8, 8, 1)
        asked.extend(candidates)
        return {f"{p} {last}": {"fp32": 0.5, "bf16": 0.125}[p] + last for p, last in candidates}

    monkeypatch.setattr(speed, "_seconds_a_step", fake)
    module = build(FASTNET, input_shape=(1, 8, 8), num_classes=3)
    config = TrainConfig()
    first = measure_speed(FASTNET, module, GREY, 16, CPU, config)
    assert sorted(asked) == [("bf16", True), ("fp32", False), ("fp32", True)]
    assert first == {("fp32", True): 1.5, ("fp32", False): 0.5, ("bf16", True): 1.125}

    asked.clear()
    assert measure_speed(FASTNET, module, GREY, 16, CPU, config) == first
    only = measure_speed(FASTNET, module, GREY, 16, CPU, TrainConfig(precision="fp32"))
    assert only == {("fp32", True): 1.5, ("fp32", False): 0.5}
    assert asked == []


def test_another_batch_network_or_damaged_cache_is_measured_anew(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    count: list[int] = []

    def fake(*_: object) -> dict[str, float]:
        count.append(1)
        return {"fp32 True": 1.0}

    monkeypatch.setattr(speed, "_seconds_a_step", fake)
    module = build(FASTNET, input_shape=(1, 8, 8), num_classes=3)
    for architecture, batch in ((FASTNET, 16), (FASTNET, 32), (Architecture("fastnet", "fastnet-8"), 16)):
        measure_speed(architecture, module, GREY, batch, CPU, TrainConfig())
    assert len(count) == 3
    (own_cache / "speed.json").write_text('{"torn":')
    measure_speed(FASTNET, module, GREY, 16, CPU, TrainConfig())
    assert len(count) == 4


def test_a_busy_moment_meets_all_candidates_and_counts_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is fifty times slower during the first round: the figures are those of the quiet rounds."""
    clock = iter(np.cumsum([t for step in range(12) for t in (0.0, (0.5 if step < 3 else 0.01) * (1 + step % 3))]))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(speed, "_one_step", lambda *_: lambda: None)
    found = measure_speed(FASTNET, nn.Linear(1, 1), GREY, 8, CPU, TrainConfig())
    assert found == pytest.approx({("fp32", True): 0.01, ("fp32", False): 0.02, ("bf16", True): 0.03})


def test_measuring_leaves_the_module_as_it_was() -> None:
    module = build(FASTNET, input_shape=(1, 8, 8), num_classes=3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = measure_speed(FASTNET, module, GREY, 8, CPU, TrainConfig())
    assert all(seconds > 0 for seconds in found.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    ("seconds", "precision"), [(0.5, "bf16"), (0.79, "bf16"), (0.81, "fp32"), (0.99, "fp32"), (2.0, "fp32")]
)
def test_bf16_only_when_it_is_a_fifth_faster(seconds: float, precision: str) -> None:
    assert fastest({("fp32", True): 1.2, ("fp32", False): 1.0, ("bf16", True): seconds})[0] == precision


def test_of_equal_precision_the_faster_layout() -> None:
    assert fastest({("fp32", True): 1.0, ("fp32", False): 0.9}) == ("fp32", False)
    assert fastest({("fp32", True): 0.9, ("fp32", False): 1.0}) == ("fp32", True)


@pytest.mark.parametrize(("late", "rounds"), [(0.01, 4), (0.014, 4), (0.02, 8)])
def test_a_disturbed_measurement_goes_on(late: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.cumsum([t for step in range(24) for t in (0.0, late if step == 8 else 0.01)]))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(speed, "_one_step", lambda *_: lambda: None)
    found = measure_speed(FASTNET, nn.Linear(1, 1), GREY, 8, CPU, TrainConfig())
    assert list(found.values()) == pytest.approx([0.01] * 3)
    assert len(list(clock)) == 2 * 3 * (8 - rounds)


def test_a_measurement_that_was_disturbed_is_forgotten_after_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [1.0, 1.0, 0.1]
    monkeypatch.setattr(speed, "_seconds_a_step", lambda *_: {"fp32 True": slow.pop(0)})
    module = build(FASTNET, input_shape=(1, 8, 8), num_classes=3)
    other = Architecture("fastnet", "fastnet-8")

    def measured(architecture: Architecture, batch: int) -> float:
        return measure_speed(architecture, module, GREY, batch, CPU, TrainConfig())["fp32", True]

    assert (measured(FASTNET, 256), measured(other, 256)) == (2.0, 2.0)  # 128 pictures were measured
    forget_if_disturbed(FASTNET, module, GREY, 256, CPU, ("fp32", True), seconds=0.7)
    assert measured(FASTNET, 256) == 2.0
    forget_if_disturbed(FASTNET, module, GREY, 256, CPU, ("fp32", True), seconds=0.6)
    assert (measured(FASTNET, 256), measured(other, 256)) == (0.2, 2.0)
