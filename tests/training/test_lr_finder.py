"""The learning-rate finder: what it suggests for curves of a known shape, and that a trial leaves no trace."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pellucid
from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.errors import ConfigError
from pellucid.model.zoo import Architecture, build
from pellucid.training.loop import Recipe
from pellucid.training.lr_finder import LearningRateCurve, find_learning_rate, has_exploded, suggest

RATES = np.geomspace(1e-5, 10, 100)
RECIPE = Recipe(
    steps=60, max_steps=60, batch_size=64, optimizer="sgd", learning_rate=0.1, weight_decay=1e-3, momentum=0.85,
    warmup=0.2, label_smoothing=0.1, average_steps=0, clip=None, class_weights=None, patience=None,
    augmentation=Augmentation("shift1"), precision="fp32", channels_last=True, seed=3,
)  # fmt: skip


def falling(middle: float, *, depth: float = 1.5, noise: float = 0.01) -> list[float]:
    """A loss that falls as a logistic curve of log10(rate), steepest at `middle`, and explodes from 1 on."""
    x = np.log10(RATES)
    losses = 2.3 - depth / (1 + np.exp(-6 * (x - np.log10(middle)))) + np.where(x > 0, 30 * x, 0)
    return (losses + noise * np.random.default_rng(0).normal(size=100)).tolist()


@pytest.mark.parametrize("middle", [1e-3, 1e-2, 5e-2])
def test_the_steepest_place_is_found(middle: float) -> None:
    curve = suggest(RATES.tolist(), falling(middle))
    assert curve.rate is not None
    assert abs(np.log10(curve.rate / middle)) < 0.15
    assert f"{curve.rate:g}" in str(curve)


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ((2.3 + 0.05 * np.random.default_rng(1).normal(size=100)).tolist(), "at no rate did the loss fall clearly"),
        (np.linspace(2.3, 0.5, 100).tolist(), "still falls at the highest rate"),
        ([2.3] * 10 + [float("nan")], "exploded after 10 steps"),
        ([2.3, float("inf")], "exploded after 1 steps"),
        ([float("nan")], "exploded after 0 steps"),
    ],
    ids=["noise", "still-falling", "too-soon", "at-once", "never"],
)
def test_a_curve_without_a_clear_answer_says_so(losses: list[float], why: str) -> None:
    curve = suggest(RATES[: len(losses)].tolist(), losses)
    assert curve.rate is None
    assert "no clear answer" in curve.why
    assert why in curve.why
    json.dumps(curve.to_dict(), allow_nan=False)
    assert curve.png().startswith(b"\x89PNG")


def test_an_explosion_is_seen_and_noise_is_none() -> None:
    noise = (2.3 + 0.2 * np.random.default_rng(0).normal(size=100)).tolist()
    assert not any(has_exploded(noise[: n + 1]) for n in range(100))
    assert has_exploded([2.3, float("nan")])
    losses = falling(1e-2)
    at = next(n for n in range(100) if has_exploded(losses[: n + 1]))
    assert 1 < RATES[at] < 3


@pytest.fixture
def train(digits: tuple[np.ndarray, np.ndarray]) -> Pictures:
    return Pictures(digits[0][..., None], digits[1], np.arange(700))


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    architecture = Architecture("spec", "conv8 bn relu dropout0.2 pool dense16 relu")
    return build(architecture, input_shape=(1, 8, 8), num_classes=10)


def trial(train: Pictures, module: torch.nn.Module, recipe: Recipe = RECIPE) -> LearningRateCurve:
    contract = PixelContract(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
    return find_learning_rate(module, train, contract=contract, recipe=recipe, device=torch.device("cpu"))


def test_a_trial_leaves_no_trace_and_repeats(train: Pictures) -> None:
    module = network()
    before = copy.deepcopy(module.state_dict())
    generator = torch.get_rng_state()
    first = trial(train, module)
    assert torch.equal(torch.get_rng_state(), generator)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in module.parameters())
    torch.manual_seed(9)
    assert trial(train, module) == first
    assert trial(train, module, replace(RECIPE, seed=4)) != first


def test_the_suggestion_learns(train: Pictures) -> None:
    """Between the rates at which nothing happens and those at which it explodes."""
    curve = trial(train, network())
    assert curve.rate is not None
    assert 0.01 < curve.rate < 2
    assert curve.smoothed[0] - min(curve.smoothed) > 0.2
    with Image.open(io.BytesIO(curve.png())) as picture:
        assert picture.width > 600
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (np.abs(drawn.astype(int) - (0xB8, 0x4D, 0)).sum(1) < 30).any()  # the line of the suggestion


def test_training_with_a_found_rate(digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    data = pellucid.open_dataset((digits[0][:400], digits[1][:400]))
    run = pellucid.train(data, out=tmp_path / "run", find_learning_rate=True, epochs=1, precision="fp32")
    content = run.read()
    told = next(e for e in run.events() if e["event"] == "learning_rate")
    assert content["recipe"]["learning_rate"] == told["rate"]
    assert any(reason.startswith(f"learning rate {told['rate']:.2g}: the loss falls") for reason in content["plan"])
    assert (run.path / "reports" / "learning-rate.png").read_bytes().startswith(b"\x89PNG")


def test_a_rate_cannot_be_given_and_found() -> None:
    with pytest.raises(ConfigError, match=r"--learning-rate is 0\.1 and --find-learning-rate"):
        pellucid.train("digits", learning_rate=0.1, find_learning_rate=True)
