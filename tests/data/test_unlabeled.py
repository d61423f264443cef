"""Pictures without labels are a data set of their own; whatever has labels is opened as always."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.data.unlabeled import open_pictures
from pellucid.errors import DataError


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(file)
    return file


def test_pictures_beside_each_other_have_no_label(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        picture(tmp_path / "heap" / name)
    (tmp_path / "heap" / "notes.txt").write_text("no picture")
    (tmp_path / "heap" / "empty").mkdir()
    data = open_pictures(tmp_path / "heap")
    assert [item.path for item in data.items] == ["a.png", "b.png"]
    assert data.classes == ()
    assert [data.label(i) for i in range(2)] == ["", ""]
    assert data.ignored == ("notes.txt",)
    assert data.picture(0).pixels.shape == (4, 4, 1)


def test_so_have_those_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "heap.zip", "w") as archive:
        archive.write(picture(tmp_path / "a.png"), "a.png")
    data = open_pictures(tmp_path / "heap.zip")
    assert (data.kind, data.name, len(data), data.items[0].label) == ("zip", "heap", 1, -1)


def test_what_has_labels_keeps_them(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png", "loose.png"):
        picture(tmp_path / "photos" / name)
    data = open_pictures(tmp_path / "photos")
    assert data.classes == ("cat", "dog")
    picture(tmp_path / "table" / "1.png")
    (tmp_path / "table" / "labels.csv").write_text("path,label\n1.png,cat\n")
    assert open_pictures(tmp_path / "table").label(0) == "cat"


def test_nothing_at_all_is_told_as_always(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folder with pictures"):
        open_pictures(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_pictures(tmp_path / "nowhere")
