"""Searching for a picture, from the command line and from Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import from_arrays
from pellucid.errors import DataError
from pellucid.explain.search import search, search_sheet
from pellucid.explain.vectors import see
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    architecture = find_architecture("fastnet-8-16")
    module = build(architecture, input_shape=(1, 8, 8), num_classes=3).eval()
    return Classifier(module, ("one", "two", "six"), PixelContract(8, 8, channels=1), architecture)


@pytest.fixture
def photos(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """Ones, twos and sixes as PNG files, twenty each."""
    for label, name in ((1, "one"), (2, "two"), (6, "six")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i, k in enumerate(np.flatnonzero(digits[1] == label)[:20]):
            Image.fromarray(digits[0][k]).save(tmp_path / "photos" / name / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def run(classifier: Classifier, tmp_path: Path) -> Path:
    """A folder with a classifier, as a run has one."""
    classifier.save(tmp_path / "run" / "model")
    return tmp_path / "run"


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_nearest_are_those_of_scikit_learn_without_the_query(
    classifier: Classifier, digits: tuple[np.ndarray, np.ndarray], distance: str
) -> None:
    images, labels = digits[0][:300], digits[1][:300]
    found = search(classifier, from_arrays(images, labels), "00042", layer="pool", distance=distance, top=20)
    vectors = see(classifier, images[..., None], ["pool"])["pool"].astype(np.float16).astype(np.float64)
    away, near = NearestNeighbors(n_neighbors=21, metric=distance).fit(vectors).kneighbors(vectors[42:43])
    assert near[0, 0] == 42
    assert [row.path for row in found.results] == [f"{i:05}" for i in near[0, 1:]]
    np.testing.assert_allclose([row.distance for row in found.results], away[0, 1:], rtol=1e-3, atol=1e-5)
    assert [row.hit for row in found.results] == (labels[near[0, 1:]] == labels[42]).tolist()
    weights = (15 - np.arange(15)) / 15
    assert found.score == pytest.approx(100 * (weights * (labels[near[0, 1:16]] == labels[42])).sum() / weights.sum())
    assert found.base_rate == pytest.approx(100 * ((labels == labels[42]).sum() - 1) / 299)


def test_a_new_picture_is_searched_for_without_a_score(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "two" / "07.png", tmp_path / "new.png")
    found = search(classifier, photos, tmp_path / "new.png", top=3)
    assert (found.label, found.score, found.base_rate, found.n) == (None, None, None, 60)
    assert (found.results[0].path, found.results[0].distance, found.results[0].hit) == ("two/07.png", 0.0, None)
    assert any("the same file" in note and "two/07.png" in note for note in found.notes)
    array = np.asarray(Image.open(photos / "two" / "07.png"))
    assert search(classifier, photos, array).results[0].path == "two/07.png"


def test_a_file_of_the_set_is_known_by_its_place(classifier: Classifier, photos: Path) -> None:
    by_name = search(classifier, photos, "six/03.png")
    by_place = search(classifier, photos, photos / "six" / "03.png")
    assert by_name.results == by_place.results
    assert (by_place.query, by_place.label, by_place.n) == ("six/03.png", "six", 59)
    assert "six/03.png" not in [row.path for row in by_place.results]


def test_the_best_layer_is_chosen_and_told(classifier: Classifier, photos: Path) -> None:
    found = search(classifier, photos, "six/03.png", layer="best")
    assert any(f"layer {found.layer} is the best of" in note for note in found.notes)


def test_pictures_without_labels_are_searched_too(classifier: Classifier, photos: Path) -> None:
    found = search(classifier, photos / "one", "03.png", top=2)
    assert [row.label for row in found.results] == [None, None]
    assert found.score is None
    with pytest.raises(DataError, match="0 labeled pictures"):
        search(classifier, photos / "one", "03.png", layer="best")


def test_what_cannot_be_searched_for_is_told(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no picture 'six/3.png'.*Did you mean six/"):
        search(classifier, photos, "six/3.png")
    (photos / "six" / "03.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"one of the set, but cannot be searched for: file is empty"):
        search(classifier, photos, "six/03.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text.png' cannot be searched for: not a picture"):
        search(classifier, photos, tmp_path / "text.png")
    with pytest.raises(DataError, match="channels: 4"):
        search(classifier, photos, np.zeros((8, 8, 4), np.uint8))


def test_the_command_prints_writes_and_gives_json(cli: Cli, run: Path, photos: Path, tmp_path: Path) -> None:
    code, out, err = cli("search", run, photos, "six/03.png", "--json", "--top", 100, "--sheet", tmp_path / "sheet.png")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["results"]) == 59
    assert set(found["results"][0]) >= {"path", "label", "distance", "hit"}
    assert 0 <= found["score"] <= 100
    assert found["base_rate"] == pytest.approx(100 * 19 / 59)
    assert found["notes"] == ["100 pictures asked for, but there are 59: all are listed"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1000
    code, out, err = cli("search", run, photos, "six/03.png", "--layer", "blocks.0")
    assert code == 0, err
    assert "nearest to 'six/03.png' (six) among 59 pictures, by layer blocks.0" in out
    assert "chance would give" in out


def test_the_command_refuses_what_does_not_go_together(cli: Cli, run: Path, photos: Path, tmp_path: Path) -> None:
    for arguments in (
        ["six/03.png", "--compare"],
        ["--html", "a.html"],
        ["--sheet", "a.png"],
        ["x", "--map", "m.html"],
    ):
        assert cli("search", run, photos, *arguments)[0] == 2
    assert cli("search", run, photos, "six/03.png", "--layer", "blocs.0")[0] == 1
    (tmp_path / "empty").mkdir()
    code, _, err = cli("search", run, tmp_path / "empty", "x.png")
    assert code == 1
    assert "no class folder with pictures" in err


def test_the_sheet_shows_each_picture_sharp(classifier: Classifier, photos: Path) -> None:
    found = search(classifier, photos, "six/03.png", top=3)
    sheet = np.asarray(search_sheet(found))
    own = np.asarray(Image.open(photos / "six" / "03.png"))
    large = np.repeat(np.repeat(own, 20, 0), 20, 1)  # 8 pixels in 160
    rows, columns = (np.flatnonzero((sheet[..., 0] == 0).any(axis)) for axis in (1, 0))
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (160, 160))[: rows[0] + 60, : columns[0] + 60]
    assert (windows == large).all((2, 3)).any()
