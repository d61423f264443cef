"""A run as it was at earlier points, against what its training began and ended with."""

from __future__ import annotations

import pytest
import torch

from pellucid.errors import RunError, UnknownNameError
from pellucid.model.classifier import load
from pellucid.training.checkpoint import newest_checkpoint
from pellucid.training.earlier import classifier_at, points_of
from pellucid.training.pipeline import train


def test_initial_is_what_the_training_began_with(tmp_path):
    """A training that learns next to nothing ends where it began, the whitened filters included; another seed began elsewhere."""
    run = train(
        "digits", out=tmp_path / "run", model="fastnet-16-32", epochs=1, learning_rate=1e-12, optimizer="sgd", weight_decay=0.0,
        augment="none", device="cpu", seed=5,
    )  # fmt: skip
    ended = dict(load(run.path).module.named_parameters())
    for name, weight in classifier_at(run, "initial").module.named_parameters():
        assert torch.allclose(weight, ended[name], atol=1e-6), name
    config = run.read()["config"]
    run.update(config=config | {"train": config["train"] | {"seed": 6}})
    head = classifier_at(run, "initial").module.get_parameter("head.weight")
    assert not torch.allclose(head, ended["head.weight"], atol=1e-3)


def test_checkpoints_are_opened_by_their_names(tmp_path):
    run = train("digits", out=tmp_path / "run", model="conv4 relu dense8", epochs=2, device="cpu")
    points = points_of(run)
    assert points[:2] == ["initial", "best"]
    step = points[-1]
    assert step.startswith("step-")
    stored = newest_checkpoint(run.path / "checkpoints").tensors
    for name, weight in classifier_at(run.path, step).module.state_dict().items():
        assert torch.equal(weight, stored[f"model.{name}"])
    assert classifier_at(run, "best").classes == load(run.path).classes
    with pytest.raises(
        UnknownNameError, match=r"nothing called 'bets'; expected one of initial, best, .*Did you mean best"
    ):
        classifier_at(run, "bets")
    (run.path / "checkpoints" / "best.safetensors").write_bytes(b"torn")
    with pytest.raises(RunError, match="is damaged"):
        classifier_at(run, "best")
