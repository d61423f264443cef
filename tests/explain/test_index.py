"""The index: only new pictures are run through the network, and never those of another one are taken for its own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset, open_dataset
from pellucid.errors import ConfigError, DataError, StorageError, UnknownNameError, WeightsError
from pellucid.explain import index as index_module
from pellucid.explain.index import build_index
from pellucid.explain.vectors import ANSWERS, PIXELS, see
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture

LAYERS = ("blocks.1", "pool")


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    architecture = find_architecture("fastnet-4-8")
    module = build(architecture, input_shape=(1, 8, 8), num_classes=2).eval()
    return Classifier(module, ("one", "two"), PixelContract(8, 8, channels=1), architecture)


@pytest.fixture
def photos(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """Twenty ones and twenty twos as PNG files."""
    for label, name in ((1, "one"), (2, "two")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i, k in enumerate(np.flatnonzero(digits[1] == label)[:20]):
            Image.fromarray(digits[0][k]).save(tmp_path / "photos" / name / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def run_through(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures were run through the network, for each index that was built."""
    counts: list[int] = []
    real = index_module.look

    def counted(classifier: Classifier, layers: Sequence[str], pixels: Any, rows: np.ndarray) -> Any:
        counts.append(len(rows))
        return real(classifier, layers, pixels, rows)

    monkeypatch.setattr(index_module, "look", counted)
    return counts


def reference(classifier: Classifier, data: Dataset, layer: str) -> np.ndarray:
    pixels = np.stack([classifier.contract.pixels(data.picture(i).pixels) for i in range(len(data))])
    return see(classifier, pixels, [layer])[layer]


def test_vectors_are_those_of_the_pictures_in_their_order(classifier: Classifier, photos: Path) -> None:
    data = open_dataset(photos)
    index = build_index(classifier, data, [*LAYERS, PIXELS, ANSWERS])
    assert index.paths == [item.path for item in data.items]
    assert index.labels == ["one"] * 20 + ["two"] * 20
    for layer, vectors in index.vectors.items():
        np.testing.assert_allclose(vectors, reference(classifier, data, layer), rtol=2e-3, atol=1e-3)  # halves
    np.testing.assert_allclose(index.vectors[ANSWERS], reference(classifier, data, ANSWERS), rtol=1e-5)


def test_only_new_pictures_are_looked_at(classifier: Classifier, photos: Path, run_through: list[int]) -> None:
    build_index(classifier, open_dataset(photos), LAYERS)
    build_index(classifier, open_dataset(photos), LAYERS)
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(photos / "one" / "new.png")
    shutil.copy(photos / "one" / "new.png", photos / "two" / "again.png")  # a copy is looked at once
    (photos / "one" / "03.png").unlink()
    (photos / "one" / "04.png").rename(photos / "one" / "moved.png")
    data = open_dataset(photos)
    index = build_index(classifier, data, LAYERS)
    assert run_through == [40, 0, 1]
    assert index.looked_at == 1
    assert "one/03.png" not in index.paths
    for layer in LAYERS:
        np.testing.assert_allclose(index.vectors[layer], reference(classifier, data, layer), rtol=2e-3, atol=1e-3)
    build_index(classifier, data, ["blocks.0"])
    build_index(classifier, open_dataset(photos / "one" / ".."), ["blocks.0", "pool"])
    assert run_through[3:] == [40, 0], "another layer is looked at, what is known of a copy elsewhere is not"


def test_changed_weights_or_pixels_have_an_index_of_their_own(
    classifier: Classifier, photos: Path, run_through: list[int]
) -> None:
    data = open_dataset(photos)
    build_index(classifier, data, LAYERS)
    build_index(replace(classifier, contract=PixelContract(8, 8, channels=1, mean=(0.3,))), data, LAYERS)
    with torch.no_grad():
        classifier.module.head.weight[0, 0] += 1
    build_index(classifier, data, LAYERS)
    assert run_through == [40, 40, 40]


def test_answers_follow_what_is_done_to_logits(classifier: Classifier, photos: Path) -> None:
    data = open_dataset(photos)
    plain = build_index(classifier, data, [ANSWERS]).vectors[ANSWERS]
    shifted = build_index(replace(classifier, offsets=(0.0, 1.0)), data, [ANSWERS]).vectors[ANSWERS]
    assert (shifted[:, 1] > plain[:, 1]).all()


def test_a_folder_keeps_the_index_of_one_network(
    classifier: Classifier, photos: Path, tmp_path: Path, run_through: list[int]
) -> None:
    data, folder = open_dataset(photos), tmp_path / "index"
    build_index(classifier, data, LAYERS, folder=folder)
    build_index(classifier, data, LAYERS, folder=folder)
    assert run_through == [40, 0]
    with torch.no_grad():
        classifier.module.head.weight[0, 0] += 1
    with pytest.raises(ConfigError, match=r"another network.*another folder \(--index\), or delete"):
        build_index(classifier, data, LAYERS, folder=folder)
    shutil.rmtree(folder)
    build_index(classifier, data, LAYERS, folder=folder)
    assert run_through == [40, 0, 40]
    (folder / "index.json").write_text("{")
    with pytest.raises(ConfigError, match=r"is damaged.*delete"):
        build_index(classifier, data, LAYERS, folder=folder)


def test_a_folder_of_something_else_is_left_alone(classifier: Classifier, photos: Path) -> None:
    with pytest.raises(ConfigError, match="holds no index"):
        build_index(classifier, open_dataset(photos), LAYERS, folder=photos)
    assert sorted(file.name for file in photos.iterdir()) == ["one", "two"]
    with pytest.raises(StorageError):
        build_index(classifier, open_dataset(photos), LAYERS, folder=photos / "one" / "00.png" / "index")


def test_unreadable_pictures_and_other_channels_are_named_and_the_rest_goes_on(
    classifier: Classifier, photos: Path
) -> None:
    (photos / "one" / "00.png").write_bytes(b"")
    np.save(photos / "two" / "five.npy", np.zeros((8, 8, 5), np.uint8))
    index = build_index(classifier, open_dataset(photos), LAYERS)
    assert len(index) == 39
    assert dict(index.left_out)["one/00.png"] == "file is empty (0 bytes)"
    assert "channels: 5" in dict(index.left_out)["two/five.npy"]
    (note,) = index.notes()
    assert note.startswith("2 pictures left out: 'one/00.png' (file is empty (0 bytes)), 'two/five.npy' (channels: 5")
    assert [row["path"] for row in index.told_left_out()] == ["one/00.png", "two/five.npy"]
    again = build_index(classifier, open_dataset(photos), LAYERS)  # by the other way, from what is known
    assert again.left_out == index.left_out


def test_when_nothing_can_be_searched_it_says_why(classifier: Classifier, photos: Path) -> None:
    for file in photos.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the 40 pictures.*one/00.png.*empty"):
        build_index(classifier, open_dataset(photos), LAYERS)


def test_a_layer_must_exist_and_give_numbers(classifier: Classifier, photos: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"block.1.*Did you mean blocks.1"):
        build_index(classifier, open_dataset(photos), ["block.1"])
    with torch.no_grad():
        classifier.module.blocks[1].conv2.weight[:] = torch.nan
    with pytest.raises(WeightsError, match="'pool' gives what is no number"):
        build_index(classifier, open_dataset(photos), ["pool"])


def test_groups_are_those_given_or_copies_of_a_file(classifier: Classifier, photos: Path) -> None:
    shutil.copy(photos / "one" / "00.png", photos / "two" / "copy.png")
    index = build_index(classifier, open_dataset(photos), ["pool"])
    groups = dict(zip(index.paths, index.groups().tolist(), strict=True))
    assert groups["one/00.png"] == groups["two/copy.png"]
    assert len(set(groups.values())) == 40
    index = build_index(classifier, open_dataset(photos, group="/([0-9c])"), ["pool"])
    assert len(set(index.groups().tolist())) == 3
