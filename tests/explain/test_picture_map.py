"""The map of a data set: its layout, its marks, and a page that holds all and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset, from_arrays
from pellucid.errors import ConfigError, DataError, MissingExtraError
from pellucid.explain import picture_map
from pellucid.explain.picture_map import PictureMap, look_of, make_map, write_map
from pellucid.explain.vectors import see
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture

N = 200


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    architecture = find_architecture("fastnet-8-16")
    module = build(architecture, input_shape=(1, 8, 8), num_classes=10).eval()
    return Classifier(module, tuple("0123456789"), PixelContract(8, 8, channels=1), architecture)


@pytest.fixture
def data(digits: tuple[np.ndarray, np.ndarray]) -> Dataset:
    return from_arrays(digits[0][:N], digits[1][:N])


def content(page: str) -> dict[str, Any]:
    return json.loads(re.findall(r'id="map-data">(.*?)</script>', page, re.DOTALL)[0])


def test_the_layout_is_the_two_largest_directions(
    classifier: Classifier, data: Dataset, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    found = make_map(classifier, data, layer="pool", distance="euclidean")
    x = see(classifier, digits[0][:N, ..., None], ["pool"])["pool"].astype(np.float16).astype(np.float64)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    expected = u[:, :2] * s[:2]
    for k in range(2):
        sign = np.sign(expected[:, k] @ found.points[:, k])
        np.testing.assert_allclose(found.points[:, k], sign * expected[:, k], rtol=1e-2, atol=1e-2 * s[0] / N)
    assert found.explained == pytest.approx(tuple(s[:2] ** 2 / (s**2).sum()), rel=1e-3)


def test_wrong_answers_are_those_of_the_classifier(
    classifier: Classifier, data: Dataset, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    found = make_map(classifier, data)
    answers = classifier.predict_proba(digits[0][:N, ..., None]).argmax(1)
    np.testing.assert_array_equal(found.wrong, answers != digits[1][:N])
    assert found.to_dict()["wrong"] == (answers != digits[1][:N]).sum()


def test_other_classes_have_no_wrong_answers(classifier: Classifier, digits: tuple[np.ndarray, np.ndarray]) -> None:
    other = from_arrays(digits[0][:30], [f"class {k}" for k in digits[1][:30]])
    found = make_map(classifier, other)
    assert not found.wrong.any()
    assert any("not those of the pictures" in note for note in found.notes)


def test_the_page_holds_points_neighbors_and_thumbnails(
    classifier: Classifier, data: Dataset, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    found = make_map(classifier, data)
    page, picture = write_map(found, tmp_path / "maps" / "m.html")
    text = page.read_text()
    told = content(text)
    assert len(told["x"]) == len(told["paths"]) == len(told["near"]) == N
    near, _ = found.near.of(found.near.points.numpy(), 8, apart=(np.arange(N), np.arange(N)))
    assert told["near"] == near.tolist()
    assert [told["classes"][k]["name"] for k in told["c"]] == [str(k) for k in digits[1][:N]]
    assert [k >= 0 for k in told["wrong"]] == found.wrong.tolist()
    (sheet,) = re.findall(r"\.sheet0 \{ background-image: url\(data:image/png;base64,([^)]+)\)", text)
    with Image.open(io.BytesIO(base64.b64decode(sheet))) as tiles:
        pixels = np.asarray(tiles)
    for k in (0, 57, 199):
        top, left = k // told["columns"] * 8, k % told["columns"] * 8
        np.testing.assert_array_equal(pixels[top : top + 8, left : left + 8, 0], digits[0][k])
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"


def test_the_page_fetches_nothing_and_runs_only_its_own_script(
    classifier: Classifier, data: Dataset, tmp_path: Path
) -> None:
    text = write_map(make_map(classifier, data), tmp_path / "m.html")[0].read_text()
    assert not re.findall(r"(?:src|href)=|@import|https?://", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_names_cannot_break_out_of_the_page(
    classifier: Classifier, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    evil = "</script><script>alert(1)</script>"
    text = write_map(make_map(classifier, from_arrays(digits[0][:9], [evil, *"abcdefgh"])), tmp_path / "m.html")[
        0
    ].read_text()
    assert text.count("<script") == 2
    assert evil in [kind["name"] for kind in content(text)["classes"]]


def test_of_many_pictures_the_wrong_ones_keep_their_thumbnails(
    classifier: Classifier, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pellucid.explain.map_page._CARDS", 190)
    found = make_map(classifier, data)
    assert 150 < found.wrong.sum() < 190
    text = write_map(found, tmp_path / "m.html")[0].read_text()
    cards = set(content(text)["cards"])
    assert len(cards) == 190
    assert set(np.flatnonzero(found.wrong)) < cards
    assert "190 of the 200 pictures have a thumbnail here" in text


def test_without_umap_it_says_so_before_anything_is_computed(
    classifier: Classifier, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(picture_map, "build_index", lambda *a, **k: pytest.fail("computed"))
    with pytest.raises(MissingExtraError, match=r"pip install 'pellucid\[umap\]'"):
        make_map(classifier, data, projection="umap")
    monkeypatch.setattr(picture_map, "build_index", picture_map.build_index)


def test_too_few_or_all_alike(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 pictures to show, and a map needs 3"):
        make_map(classifier, from_arrays(np.zeros((2, 8, 8), np.uint8), ["a", "b"]))
    found = make_map(classifier, from_arrays(np.zeros((4, 8, 8), np.uint8), ["a", "b", "a", "b"]))
    assert np.isfinite(found.points).all()
    assert write_map(found, tmp_path / "m.html")[1].exists()
    with pytest.raises(ConfigError, match=r"ends in \.html"):
        write_map(found, tmp_path / "m.png")


def test_looks_of_thirty_classes_differ() -> None:
    assert len({look_of(k) for k in range(30)}) == 30


@pytest.mark.slow
def test_umap_keeps_classes_together(classifier: Classifier, data: Dataset) -> None:
    pytest.importorskip("umap")
    found = make_map(classifier, data, layer="pixels", projection="umap")
    assert isinstance(found, PictureMap)
    assert found.points.shape == (N, 2)
    near = np.linalg.norm(found.points[:, None] - found.points, axis=2).argsort(1)[:, 1]
    labels = np.array(found.index.labels)
    assert (labels[near] == labels).mean() > 0.7
    assert "umap" in sys.modules
