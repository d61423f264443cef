"""Engines: every one gives the network's answers, and the fastest that does is taken; a wrong one never is."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.data.contract import PixelContract
from pellucid.errors import ConfigError
from pellucid.files import cache_folder
from pellucid.model import engine
from pellucid.model.classifier import Classifier
from pellucid.model.engine import REFERENCE, with_engine
from pellucid.model.zoo import Architecture, build

CONTRACT = PixelContract(height=16, width=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
TORCH = "torch channels-last"


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    architecture = Architecture("fastnet", "fastnet-4-8")
    module = build(architecture, input_shape=(3, 16, 16), num_classes=3)
    return Classifier(module, ("a", "b", "c"), CONTRACT, architecture)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for an engine always pays, and there are only those of torch."""
    monkeypatch.setattr(engine, "_WORTH_MEASURING", 0.0)
    monkeypatch.setattr(engine, "_WORTH_USING", 0.0)
    monkeypatch.setattr(engine, "_BUILD", {k: v for k, v in engine._BUILD.items() if k.startswith("torch")})


@pytest.mark.parametrize("name", list(engine._BUILD))
def test_every_engine_gives_the_networks_answers(classifier: Classifier, pixels: np.ndarray, name: str) -> None:
    if find_spec(name.split()[0]) is None:
        pytest.skip(f'{name.split()[0]} is not installed: pip install "pellucid[engines]"')
    expected = classifier.predict_proba(pixels)
    found, trials = with_engine(classifier, name, pixels=pixels, count=len(pixels))
    assert found.forward is not None
    assert not trials
    tolerance = 0.02 if "bf16" in name else 1e-5
    for rows in (pixels, pixels[:1], pixels[:7]):  # batches of any size
        np.testing.assert_allclose(found.predict_proba(rows), expected[: len(rows)], atol=tolerance)
    again, _ = with_engine(classifier, name, pixels=pixels, count=len(pixels))  # from what was kept
    np.testing.assert_array_equal(again.predict_proba(pixels), found.predict_proba(pixels))


@pytest.mark.usefixtures("eager")
def test_the_fastest_correct_engine_is_taken_and_remembered(
    classifier: Classifier, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(classifier: Classifier, folder: Path) -> engine.Forward:
        return lambda x: torch.ones(len(x), 3) * torch.tensor([100.0, 0.0, 0.0])  # at once, and always the first class

    def broken(classifier: Classifier, folder: Path) -> engine.Forward:
        raise NotImplementedError("such a layer is unknown")

    monkeypatch.setitem(engine._BUILD, "torch wrong", wrong)
    monkeypatch.setitem(engine._BUILD, "torch broken", broken)
    found, trials = with_engine(classifier, "auto", pixels=pixels, count=1000)
    assert trials[0].engine == "torch wrong"
    assert "torch broken" not in [t.engine for t in trials]
    assert sorted((t.speed for t in trials), reverse=True) == [t.speed for t in trials]
    assert not trials[0].correct
    assert trials[0].difference > 0.5
    np.testing.assert_allclose(found.predict_proba(pixels), classifier.predict_proba(pixels), atol=engine.TOLERANCE)
    monkeypatch.setattr(engine, "_measured", None)
    assert with_engine(classifier, "auto", pixels=pixels, count=1000)[1] == trials


@pytest.mark.usefixtures("eager")
def test_other_weights_or_a_damaged_cache_are_measured_anew(classifier: Classifier, pixels: np.ndarray) -> None:
    with_engine(classifier, "auto", pixels=pixels, count=1000)
    with torch.no_grad():
        next(classifier.module.parameters()).add_(0.1)
    with_engine(classifier, "auto", pixels=pixels, count=1000)
    files = sorted((cache_folder() / "engines").glob("*/trials.json"))
    assert len(files) == 2
    other = '[{"engine": "torch bf16", "speed": 1.0, "difference": 0.0, "correct": true}]'  # full precision is missing
    for damaged in ("[{", "[]", other):
        for file in files:
            file.write_text(damaged)
        assert len(with_engine(classifier, "auto", pixels=pixels, count=1000)[1]) > 1


def test_for_few_pictures_nothing_is_built(classifier: Classifier, pixels: np.ndarray) -> None:
    for few, count in ((pixels[:5], 5), (pixels, 40)):
        same, trials = with_engine(classifier, "auto", pixels=few, count=count)
        assert same is classifier
        assert not trials
    assert not (cache_folder() / "engines" / "trials.json").exists()


def test_an_engine_by_name(classifier: Classifier, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_engine(replace(classifier), REFERENCE, pixels=pixels, count=1)[0].forward is None
    with pytest.raises(ConfigError, match=f"no engine 'warp'.*{TORCH}"):
        with_engine(classifier, "warp", pixels=pixels, count=1)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pellucid\[engines\]"):
        with_engine(classifier, "openvino", pixels=pixels, count=1)
