"""Fifty steps of the ordinary training, from the file to the loss, against stored numbers.

A refactoring must not change them. Rewrite them only with a change that is meant to: PELLUCID_GOLDEN=write pytest tests/golden
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Loader, Pictures
from pellucid.model.fastnet import FastNet
from pellucid.model.zoo import Architecture, build
from pellucid.training import loop
from pellucid.training.loop import Recipe, fit

STORED = Path(__file__).with_name("losses.json")
NETWORKS = {"fastnet": "fastnet-8-16-16", "spec": "conv8 bn relu pool conv16 relu dense32 relu"}
TOLERANCE = 0.02  # other processors round sums otherwise, and fifty steps carry that on


@pytest.mark.parametrize("family", NETWORKS)
def test_fifty_steps(
    family: str, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Pictures(digits[0][..., None], digits[1], np.arange(800))
    contract = PixelContract(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
    torch.manual_seed(0)
    module = build(Architecture(family, NETWORKS[family]), input_shape=(1, 8, 8), num_classes=10)
    if isinstance(module, FastNet):
        module.start_from(next(Loader(pictures, contract, torch.device("cpu"), batch_size=800).in_order())[0])
    recipe = Recipe(
        steps=50, max_steps=50, batch_size=64, optimizer="sgd" if family == "fastnet" else "adamw",
        learning_rate=0.1 if family == "fastnet" else 3e-3, weight_decay=1e-3, momentum=0.85, warmup=0.2,
        label_smoothing=0.1, average_steps=50, clip=None, class_weights=None, patience=None,
        augmentation=Augmentation("flip shift1"), precision="fp32", channels_last=True, seed=0,
    )  # fmt: skip
    losses = []
    monkeypatch.setattr(loop, "_STEP_EVENT_SECONDS", 0.0)
    fit(
        module, pictures, Pictures(pictures.pixels, pictures.labels, np.arange(800, 900)), contract=contract, recipe=recipe,
        device=torch.device("cpu"), folder=tmp_path,
        on_event=lambda event: losses.append(event["loss"]) if event["event"] == "step" else None,
    )  # fmt: skip
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    if os.environ.get("PELLUCID_GOLDEN") == "write":
        STORED.write_text(json.dumps(stored | {family: losses}, indent=0) + "\n")
        return
    assert len(losses) == 50
    assert losses == pytest.approx(stored[family], rel=TOLERANCE)
