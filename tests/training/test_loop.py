"""The loop: resume to the bit, stops that lose nothing, schedules, and a stored sequence of losses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.errors import TrainingError
from pellucid.model.zoo import Architecture, build
from pellucid.training import loop, objective
from pellucid.training.checkpoint import newest_checkpoint
from pellucid.training.loop import FitResult, Recipe, fit
from pellucid.training.objective import balanced_weights
from pellucid.training.optimizer import learning_rate_share

CONTRACT = PixelContract(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
RECIPE = Recipe(
    steps=40, max_steps=40, batch_size=64, optimizer="sgd", learning_rate=0.1, weight_decay=1e-3, momentum=0.85,
    warmup=0.2, label_smoothing=0.1, average_steps=40, clip=1.0, class_weights=None, patience=None,
    augmentation=Augmentation("flip shift1 brightness0.1 contrast0.1"), precision="fp32", channels_last=True, seed=3,
)  # fmt: skip
DROPOUT = "conv8 bn relu dropout0.3 pool dense16 relu"


class Steps:
    """Asks to stop after `count` steps."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.fixture
def parts(digits: tuple[np.ndarray, np.ndarray]) -> tuple[Pictures, Pictures]:
    pixels, labels = digits[0][..., None], digits[1]
    return Pictures(pixels, labels, np.arange(700)), Pictures(pixels, labels, np.arange(700, 900))


def train(
    parts: tuple[Pictures, Pictures],
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    model: str = DROPOUT,
    **more: Any,
) -> tuple[FitResult, list[dict[str, Any]]]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(recipe.seed)
    family = "fastnet" if model.startswith("fastnet") else "spec"
    module = build(Architecture(family, model), input_shape=(1, 8, 8), num_classes=10)
    events: list[dict[str, Any]] = []
    result = fit(
        module, *parts, contract=CONTRACT, recipe=recipe, device=torch.device("cpu"), folder=folder,
        on_event=events.append, **more,
    )  # fmt: skip
    return result, events


def weights(module: torch.nn.Module) -> bytes:
    return b"".join(t.detach().numpy().tobytes() for t in module.state_dict().values())


@pytest.mark.parametrize("at", [1, 5, 11, 12, 22, 39])
@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        replace(RECIPE, optimizer="adamw", learning_rate=3e-3, average_steps=0),
        replace(RECIPE, precision="bf16"),
        replace(RECIPE, augmentation=Augmentation("rotate20 cutout2 mixup0.4 cutmix1"), class_weights=(1.0, 2.0) * 5),
    ],
    ids=["sgd-average", "adamw", "bf16", "mixing"],
)
def test_resume_is_bit_identical(parts: tuple[Pictures, Pictures], tmp_path: Path, recipe: Recipe, at: int) -> None:
    whole, events = train(parts, tmp_path / "a", recipe)
    stopped, before = train(parts, tmp_path / "b", recipe, should_stop=Steps(at))
    assert (stopped.stopped, stopped.steps) == ("interrupted", at)
    torch.manual_seed(999)  # the state of the generator must come from the checkpoint
    resumed, after = train(parts, tmp_path / "b", recipe, resume=newest_checkpoint(tmp_path / "b"))
    assert weights(resumed.module) == weights(whole.module)
    assert resumed.best == whole.best

    def epochs(*parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [e for part in parts for e in part if e["event"] == "epoch"]

    assert epochs(before, after) == epochs(events)


@pytest.mark.parametrize("at", [1, 17])
@pytest.mark.parametrize("channels_last", [True, False])
def test_resume_with_muon(parts: tuple[Pictures, Pictures], tmp_path: Path, channels_last: bool, at: int) -> None:
    recipe = replace(RECIPE, optimizer="muon", channels_last=channels_last)
    whole, _ = train(parts, tmp_path / "a", recipe, model="fastnet-4-8")
    train(parts, tmp_path / "b", recipe, model="fastnet-4-8", should_stop=Steps(at))
    checkpoint = newest_checkpoint(tmp_path / "b")
    assert checkpoint is not None
    resumed, _ = train(parts, tmp_path / "b", recipe, model="fastnet-4-8", resume=checkpoint)
    assert weights(resumed.module) == weights(whole.module)
    for name, tensor in checkpoint.tensors.items():  # the negative control: what muon remembers is a part of it
        if name.endswith("past_gradients"):
            tensor.zero_()
    other, _ = train(parts, tmp_path / "b", recipe, model="fastnet-4-8", resume=checkpoint)
    assert weights(other.module) != weights(whole.module)


def test_validation_every_other_epoch_and_at_the_end(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    _, events = train(parts, tmp_path, replace(RECIPE, steps=55, validate_every=2))
    assert [e["step"] for e in events if e["event"] == "epoch"] == [22, 44, 55]


@pytest.mark.parametrize("lost", ["generator", "optimizer.", "average.", "model."])
def test_resume_needs_every_part(parts: tuple[Pictures, Pictures], tmp_path: Path, lost: str) -> None:
    """The negative control: without any one part of the checkpoint the end is another."""
    whole, _ = train(parts, tmp_path / "a")
    train(parts, tmp_path / "b", should_stop=Steps(17))
    checkpoint = newest_checkpoint(tmp_path / "b")
    assert checkpoint is not None
    fresh = torch.Generator().manual_seed(1)
    for name, tensor in checkpoint.tensors.items():
        if name.startswith(lost):
            tensor.copy_(fresh.get_state() if name == "generator" else torch.zeros_like(tensor))
    resumed, _ = train(parts, tmp_path / "b", resume=checkpoint)
    assert weights(resumed.module) != weights(whole.module)


def test_a_damaged_checkpoint_is_passed_over(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    train(parts, tmp_path / "b", should_stop=Steps(9))
    train(parts, tmp_path / "b", should_stop=Steps(4), resume=newest_checkpoint(tmp_path / "b"))
    newest = sorted(tmp_path.glob("b/step-*.safetensors"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    found = newest_checkpoint(tmp_path / "b")
    assert found is not None
    assert found.numbers["step"] == 9


def test_only_two_checkpoints_are_kept(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    for _ in range(4):
        train(parts, tmp_path / "b", should_stop=Steps(3), resume=newest_checkpoint(tmp_path / "b"))
    names = sorted(f.name for f in (tmp_path / "b").glob("step-*"))
    assert names == [f"step-{n:08d}.{kind}" for n in (9, 12) for kind in ("json", "safetensors")]


def test_not_a_number_stops_with_the_best_weights(
    parts: tuple[Pictures, Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, _ = train(parts, tmp_path / "a", should_stop=Steps(23))
    poison_step(monkeypatch, 23)
    result, events = train(parts, tmp_path / "b")
    assert (result.stopped, result.steps) == ("diverged", 23)
    assert events[-1]["event"] == "diverged"
    assert weights(result.module) == weights(sound.module)


def test_not_a_number_before_anything_good_is_an_error(
    parts: tuple[Pictures, Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_step(monkeypatch, 2)
    with pytest.raises(TrainingError, match=r"nan at step 2.*--learning-rate"):
        train(parts, tmp_path / "b")


def poison_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    real, calls = objective.F.cross_entropy, iter(range(10**9))

    def cross_entropy(logits: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        loss = real(logits, *args, **more)
        return loss * float("nan") if more["reduction"] == "mean" and next(calls) == step else loss

    monkeypatch.setattr(objective.F, "cross_entropy", cross_entropy)


def test_early_stopping_keeps_the_best(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    frozen = replace(RECIPE, learning_rate=1e-12, average_steps=0, patience=2, steps=400, max_steps=400)
    result, events = train(parts, tmp_path / "a", frozen, model="dense16 relu")
    told = next(e for e in events if e["event"] == "early_stop")
    assert result.stopped == "early"
    assert told["waited"] == 2
    epochs = [e for e in events if e["event"] == "epoch"]
    assert told["best_epoch"] == max(epochs, key=lambda e: (e["valid_accuracy"], -e["valid_loss"]))["epoch"]
    assert epochs[-1]["epoch"] - told["best_epoch"] == 2
    assert result.steps < 400


def test_a_deadline_is_kept(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    endless = replace(RECIPE, steps=10**6, max_steps=10**6)
    started = time.monotonic()
    result, _ = train(parts, tmp_path / "a", endless, deadline=started + 2)
    assert result.stopped == "done"
    assert time.monotonic() - started < 4
    assert result.steps > 5


def test_a_slow_first_step_is_not_taken_for_the_speed(
    parts: tuple[Pictures, Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, slow = loop.set_learning_rate, [1.0]
    monkeypatch.setattr(loop, "set_learning_rate", lambda *a: (time.sleep(slow.pop() if slow else 0), real(*a))[1])
    train_part, valid = parts
    many = Pictures(valid.pixels, valid.labels, np.tile(valid.indices, 20))
    short = replace(RECIPE, steps=20, max_steps=20)  # a second a step would leave no time to look at so many
    assert len(many) / short.batch_size / 2 > 10
    result, _ = train((train_part, many), tmp_path / "a", short, deadline=time.monotonic() + 10)
    assert result.steps == 20


def test_time_left_over_is_used_up_to_the_limit_of_steps(parts: tuple[Pictures, Pictures], tmp_path: Path) -> None:
    short = replace(RECIPE, steps=20, max_steps=60)
    result, _ = train(parts, tmp_path / "a", short, deadline=time.monotonic() + 600)
    assert result.steps == 60


def test_learning_rate_goes_up_then_down() -> None:
    share: Callable[[float], float] = lambda p: learning_rate_share(p, 0.2)  # noqa: E731
    assert share(0.0) == pytest.approx(0.2)
    assert share(0.2) == pytest.approx(1.0)
    assert share(0.6) == pytest.approx(0.51)
    assert share(1.0) == pytest.approx(0.02)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 2, 2, 1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(labels, 4) == pytest.approx([*expected, 0.0])


def test_recipe_survives_json() -> None:
    import json

    recipe = replace(RECIPE, class_weights=(1.0, 2.0))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_compiled_network_learns_the_same(
    parts: tuple[Pictures, Pictures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled by a stand-in that counts: every step runs through it but those in which the layers are watched."""
    ran: list[int] = []

    def fake(module: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(x: torch.Tensor) -> torch.Tensor:
            ran.append(len(x))
            return module(x)

        return forward

    plain, _ = train(parts, tmp_path / "plain")
    monkeypatch.setattr(torch, "compile", fake)
    compiled, events = train(parts, tmp_path / "compiled", replace(RECIPE, compiled=True))
    watched = sum(event["event"] == "health" for event in events)
    assert watched > 0
    assert len(ran) == RECIPE.steps - watched
    for name, tensor in plain.module.state_dict().items():
        assert torch.equal(tensor, compiled.module.state_dict()[name])
