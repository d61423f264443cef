"""A run as it was at earlier points, against what its training began and ended with."""

from __future__ import annotations

import pytest
import torch

from pellucid.errors import RunError, UnknownNameError
from pellucid.model.classifier import load
from pellucid.training.checkpoint import newest_checkpoint
from pellucid.training.earlier import classifier_at, points_of
from pellucid.training.pipeline import train


@pytest.mark.parametrize("model", ["conv8 bn relu pool dense16 relu", "fastnet-16-32"])
def test_initial_is_what_the_training_began_with(model, digits, tmp_path):
    """A training that learns next to nothing ends where it began."""
    run = train(
        "digits", out=tmp_path / "run", model=model, epochs=1, learning_rate=1e-12, optimizer="sgd", weight_decay=0.0, augment="none",
        device="cpu", seed=5,
    )  # fmt: skip
    began, ended = classifier_at(run, "initial"), load(run.path)
    weights = dict(ended.module.named_parameters())
    for name, weight in began.module.named_parameters():
        assert torch.allclose(weight, weights[name], atol=1e-6), name
    other = train("digits", out=tmp_path / "other", model=model, epochs=1, device="cpu", seed=6)
    name = next(n for n, w in began.module.named_parameters() if w.ndim > 1 and (model[0] == "c" or "head" in n))
    assert not torch.allclose(weights[name], classifier_at(other, "initial").module.get_parameter(name), atol=1e-3)


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
