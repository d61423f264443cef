"""Balanced trainings: what the sampler draws, and what each way leaves in the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import pellucid
from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Loader, Pictures

SETTINGS = {"batch_size": 32, "precision": "fp32", "model": "fastnet-8-16", "epochs": 3, "augment": "none"}


def test_the_sampler_draws_classes_equally_often_and_the_same_with_the_same_seed() -> None:
    labels = np.repeat([0, 1, 2], [800, 150, 50])
    pictures = Pictures(np.zeros((1000, 2, 2, 1), np.uint8), labels, np.arange(1000))
    loader = Loader(pictures, PixelContract(2, 2, 1), torch.device("cpu"), batch_size=100, strata=labels)

    def drawn(epoch: int, start: int = 0) -> list[int]:
        batches = loader.shuffled(Augmentation(), seed=3, epoch=epoch, start=start)
        return torch.cat([y for _, y, _ in batches]).tolist()

    counts = np.bincount(np.concatenate([drawn(epoch) for epoch in range(10)]))
    assert counts / counts.sum() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert drawn(4) == drawn(4) != drawn(5)
    assert drawn(4, start=6) == drawn(4)[600:]  # as a resumed training goes on
    assert np.bincount([y.item() for _, ys in loader.in_order() for y in ys]).tolist() == [800, 150, 50]


@pytest.fixture(scope="module")
def uneven(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Eights, ones in a sixth of their number, threes in a tenth."""
    rows = np.concatenate([np.flatnonzero(digits[1] == k)[:n] for k, n in ((8, 170), (1, 60), (3, 60))])
    return digits[0][rows], digits[1][rows]


@pytest.mark.parametrize("balance", ["weights", "sampler", "focal"])
def test_a_balanced_training_tells_what_it_did(
    uneven: tuple[np.ndarray, np.ndarray], tmp_path: Path, balance: str
) -> None:
    run = pellucid.train(uneven, out=tmp_path / "run", balance=balance, prior="data", **SETTINGS)
    content, classifier = run.read(), pellucid.load(run.path)
    epochs = [event for event in run.events() if event["event"] == "epoch"]
    assert all("valid_macro_f1" in event for event in epochs)
    assert content["recipe"]["balance"] == balance
    if balance == "focal":
        assert classifier.offsets is None
        assert any("focal loss" in reason for reason in content["plan"])
        return
    counts = np.bincount(
        [classifier.classes.index(row["label"]) for row in run.read_manifest() if row["split"] == "train"]
    )
    assert classifier.offsets == pytest.approx(np.log(counts / counts.sum() * 3))
    assert content["prior"]["taken"] == "data"
    assert any("validation recall by class" in reason for reason in content["plan"])
    # the offsets turn the odds of two classes by the odds of their shares
    plain = pellucid.Classifier(classifier.module, classifier.classes, classifier.contract, classifier.architecture,
                                mirror=classifier.mirror)  # fmt: skip
    pixels = np.stack([classifier.contract.pixels(p[..., None]) for p in uneven[0][:4]])
    with_prior, without = classifier.predict_proba(pixels).astype(float), plain.predict_proba(pixels).astype(float)
    expected = without * counts
    assert with_prior == pytest.approx(expected / expected.sum(1, keepdims=True), abs=1e-5)


def test_equal_shares_leave_the_answers_as_they_are(uneven: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    run = pellucid.train(uneven, out=tmp_path / "run", balance="weights", prior="equal", **SETTINGS)
    assert pellucid.load(run.path).offsets is None
    assert run.read()["prior"]["taken"] == "equal"
