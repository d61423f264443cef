"""Verdicts: what a person wrote is done, counted and undoable; what nobody can mean is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.data.dataset import Dataset, from_arrays, open_dataset
from pellucid.data.manifest import REMOVED, USED, make_manifest
from pellucid.data.scan import scan
from pellucid.data.verdicts import read_verdicts, with_verdicts
from pellucid.errors import DataError, UnknownNameError


@pytest.fixture
def data() -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), np.uint8)
    return open_dataset((images, ["cat", "dog"] * 20))


def table(folder: Path, *rows: tuple[str, str, str], delimiter: str = ",") -> Path:
    lines = [delimiter.join(("path", "label", "suggested", "score", "verdict"))]
    lines += [delimiter.join((path, label, "dog", "0.1", verdict)) for path, label, verdict in rows]
    (folder / "suspects.csv").write_text("\n".join(lines) + "\n")
    return folder / "suspects.csv"


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_verdicts_are_done_named_and_counted(data: Dataset, tmp_path: Path, delimiter: str) -> None:
    file = table(
        tmp_path, ("00000", "cat", "dog"), ("00001", "dog", "Leave out"), ("00002", "cat", "OK"), ("00003", "dog", ""),
        ("00004", "cat", "cat"), delimiter=delimiter,
    )  # fmt: skip
    verdicts = read_verdicts(file, data)
    assert verdicts == {"00000": "dog", "00001": "remove", "00002": "ok", "00004": "cat"}
    judged = with_verdicts(data, verdicts)
    rows = make_manifest(judged, scan(judged)).rows
    assert (rows[0].label, rows[0].status, rows[0].reason) == ("dog", USED, "relabeled by verdict, was 'cat'")
    assert (rows[1].label, rows[1].status, rows[1].split) == ("dog", REMOVED, "")
    assert [(row.label, row.status, row.reason) for row in rows[2:]] == [("cat", USED, ""), ("dog", USED, "")] * 19
    assert "verdicts: 1 picture relabeled, 1 left out, 2 found right" in judged.notes[-1]
    assert data.label(0) == "cat"  # what was opened stays as it was


def test_a_removed_picture_is_in_no_given_split(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), np.uint8)
    data = from_arrays(images, ["cat", "dog"] * 20, splits=["train"] * 20 + ["validation"] * 10 + ["test"] * 10)
    judged = with_verdicts(data, {"00000": "remove"})
    manifest = make_manifest(judged, scan(judged))
    assert manifest.indices("train").tolist() == list(range(1, 20))


def test_a_class_that_is_called_ok_can_be_meant(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), np.uint8)
    data = open_dataset((images, ["ok", "scratched"] * 20))
    verdicts = read_verdicts(table(tmp_path, ("00001", "scratched", "ok")), data)
    assert with_verdicts(data, verdicts).label(1) == "ok"


def test_an_unknown_word_is_refused_with_its_line_and_the_nearest_class(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"'dgo' in line 3 .*'remove' to leave the picture out.*Did you mean dog\?"
    ):
        read_verdicts(table(tmp_path, ("00000", "cat", ""), ("00002", "cat", "dgo")), data)


@pytest.mark.parametrize("row", [("00000", "dog", "cat"), ("elsewhere.png", "cat", "dog")])
def test_verdicts_about_other_pictures_are_refused(data: Dataset, tmp_path: Path, row: tuple[str, str, str]) -> None:
    with pytest.raises(DataError, match=f"1 verdict of .* that label: '{row[0]}'"):
        read_verdicts(table(tmp_path, row), data)


def test_another_table_is_refused(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("path,label\n00000,cat\n")
    with pytest.raises(DataError, match="have no column 'verdict'"):
        read_verdicts(tmp_path / "other.csv", data)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_verdicts(tmp_path / "none.csv", data)
