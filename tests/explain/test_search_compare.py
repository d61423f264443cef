"""Layers and networks, compared by their search scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset, from_arrays, open_dataset
from pellucid.errors import ConfigError, DataError, UnknownNameError
from pellucid.explain.index import build_index
from pellucid.explain.search_compare import compare_layers, open_networks
from pellucid.explain.search_page import render_comparison
from pellucid.explain.search_score import query_scores
from pellucid.explain.vectors import PIXELS, see
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture


def a_classifier(seed: int, name: str = "fastnet-8-16", channels: int = 1) -> Classifier:
    torch.manual_seed(seed)
    architecture = find_architecture(name)
    module = build(architecture, input_shape=(channels, 8, 8), num_classes=10).eval()
    return Classifier(module, tuple("0123456789"), PixelContract(8, 8, channels=channels), architecture)


@pytest.fixture
def data(digits: tuple[np.ndarray, np.ndarray]) -> Dataset:
    return from_arrays(digits[0][:300], digits[1][:300])


def test_scores_are_means_of_those_of_the_queries(data: Dataset, digits: tuple[np.ndarray, np.ndarray]) -> None:
    first = a_classifier(0)
    found = compare_layers({"first": first}, data)
    (network,) = found.networks
    assert network.layers[0].layer == PIXELS
    for row in network.layers:
        vectors = see(first, digits[0][:300, ..., None], [row.layer])[row.layer].astype(np.float16)
        alone = np.arange(300)
        scores = query_scores(vectors, digits[1][:300], alone, alone, "cosine")
        assert row.score.value == pytest.approx(scores.mean(), abs=0.3)  # batches round differently
        assert row.score.low < row.score.value < row.score.high
    assert network.best is max(network.layers[1:], key=lambda row: row.score.value)
    assert found.to_dict()["score"]["value"] == network.best.score.value
    assert "plain pixels" in str(found)


def test_equal_networks_cannot_be_told_apart_and_one_that_sees_nothing_can(data: Dataset) -> None:
    first, same, blind = a_classifier(0), a_classifier(0), a_classifier(0)
    with torch.no_grad():
        for tensor in blind.module.parameters():
            tensor.zero_()
    found = compare_layers({"first": first, "same": same, "blind": blind}, data)
    (_, gain), (_, over_blind) = found.gains
    assert (gain.value, gain.low < 0 < gain.high) == (0, True)
    assert over_blind.low > 20
    assert "cannot be told apart" in found.sentences()[1]
    assert "first is" in found.sentences()[2]
    assert "better" in found.sentences()[2]


def test_pictures_of_the_training_are_found_but_are_no_queries(data: Dataset) -> None:
    classifier = a_classifier(0)
    every = compare_layers({"it": classifier}, data, layers=["pool"])
    hashes = build_index(classifier, data, ["pool"]).hashes
    found = compare_layers({"it": classifier}, data, layers=["pool"], seen=hashes[:200])
    assert (found.n, found.queries) == (300, 100)
    assert found.networks[0].layers[0].scores == pytest.approx(every.networks[0].layers[0].scores[200:])
    assert found.notes == ("queries are 100 pictures that were not used for training; the other 200 are only found",)
    assert every.notes == ()
    few = compare_layers({"it": classifier}, data, layers=["pool"], seen=hashes[:290])
    assert few.queries == 300
    assert any("290 of the 300 pictures were used to train" in note for note in few.notes)


def test_pictures_of_the_own_group_never_count(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Where every class is a group, no picture of the own class can be found."""
    labels = digits[1][:100]
    found = compare_layers(
        {"it": a_classifier(0)}, from_arrays(digits[0][:100], labels, groups=labels), layers=["pool"]
    )
    assert not found.networks[0].layers[0].scores.any()
    assert found.base_rate == 0
    assert any("own group" in note for note in found.notes)


def test_of_very_many_pictures_some_are_queries(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.explain.search_compare._MOST_QUERIES", 50)
    found = compare_layers({"it": a_classifier(0)}, data, layers=["pool"])
    assert (found.n, found.queries) == (300, 50)
    assert found.notes == ("50 pictures, drawn by chance, are the queries",)


def test_few_pictures_are_scored_without_a_word_of_training(digits: tuple[np.ndarray, np.ndarray]) -> None:
    found = compare_layers({"it": a_classifier(0)}, from_arrays(digits[0][:12], digits[1][:12]), layers=["pool"])
    assert (found.queries, found.notes) == (12, ())


def test_what_cannot_be_scored_is_told(data: Dataset, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    classifier = a_classifier(0)
    numbers = from_arrays(digits[0][:20], digits[1][:20].astype(float), task="number")
    with pytest.raises(DataError, match="near numbers, not the same"):
        compare_layers({"it": classifier}, numbers)
    one_group = from_arrays(digits[0][:20], digits[1][:20], groups=["a"] * 20)
    with pytest.raises(DataError, match="of one group"):
        compare_layers({"it": classifier}, one_group)
    with pytest.raises(ConfigError, match="holds one network, and 2 are compared"):
        compare_layers({"a": classifier, "b": classifier}, data, folder=tmp_path / "index")
    with pytest.raises(UnknownNameError, match="no layer 'bloks'"):
        compare_layers({"it": classifier}, data, layers=["bloks"])


def test_networks_are_opened_by_short_names(tmp_path: Path) -> None:
    for name in ("a/run", "b/run"):
        a_classifier(0).save(tmp_path / name / "model")
    found = open_networks(str(tmp_path / "a/run"), [str(tmp_path / "b/run")])
    assert list(found) == ["run", "run 2"]
    with pytest.raises(ConfigError, match="has its own weights"):
        open_networks(str(tmp_path / "a/run"), weights="imagenet")


def test_the_page_holds_every_layer_and_runs_nothing(data: Dataset) -> None:
    found = compare_layers({"<first>": a_classifier(0), "second": a_classifier(1)}, data)
    page = render_comparison(found)
    assert page.count("<svg") == 2
    for network in found.networks:
        for row in network.layers:
            assert page.count(row.layer) >= 2
    assert "<script" not in page
    assert "<first>" not in page
    assert "&lt;first&gt;" in page
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.shared
@pytest.mark.slow
def test_a_pretrained_network_finds_photographs_of_its_kind_better_than_pixels(shared: Path) -> None:
    data = open_dataset(shared / "data" / "clothing.zip")
    data = replace(data, items=tuple(item for item in data.items if item.split == "test"))
    networks = open_networks(str(shared / "weights" / "mobilenetv2_100.safetensors"))
    found = compare_layers(networks, data, layers=[PIXELS, "blocks.0", "global_pool"])
    pixels, early, late = (row.score for row in found.networks[0].layers)
    assert late.low > pixels.high > found.base_rate
    assert late.low > early.high
