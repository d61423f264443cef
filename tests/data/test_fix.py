"""Mending: the new table holds what is sound, the other one what is not and why, and the pictures stay as they are."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pellucid.data.check import check
from pellucid.data.dataset import Dataset, open_dataset
from pellucid.data.fix import mend
from pellucid.errors import ConfigError, DataError
from pellucid.training.pipeline import train


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    clouds = sum(sigma * gaussian_filter(rng.standard_normal((64, 64)), sigma) for sigma in (1, 2, 4, 8))
    return (127 + 45 * (clouds - clouds.mean()) / clouds.std()).clip(0, 255).astype(np.uint8)


def save(file: Path, pixels: np.ndarray, **options: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Thirty sound pictures a class in train, twenty in test, and one of everything that can be wrong."""
    root = tmp_path / "photos"
    for k, label in enumerate(("cat", "dog")):
        for i in range(50):
            save(root / ("train" if i < 30 else "test") / label / f"{i}.png", scene(100 * k + i))
    train_, test = root / "train", root / "test"
    (train_ / "cat" / "broken.png").write_bytes(b"")
    save(train_ / "cat" / "twin.bmp", scene(1))
    save(train_ / "dog" / "cat 2.png", scene(2))
    save(train_ / "dog" / "nearly cat 3.jpg", scene(3), quality=70)
    save(train_ / "cat" / "seen.png", scene(40))
    save(train_ / "cat" / "nearly seen.jpg", scene(41), quality=70)
    save(test / "dog" / "twin.png", scene(140))
    return root


def rows(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return {row.pop("path"): row for row in csv.DictReader(handle)}


def content(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_what_is_wrong_is_left_out_with_its_reason_and_all_else_is_kept(messy: Path, tmp_path: Path) -> None:
    before = content(messy)
    mended = mend(open_dataset(messy), tmp_path / "good.csv")
    assert content(messy) == before
    reasons = {path.removeprefix("photos/"): row["reason"] for path, row in rows(mended.left_out_file).items()}
    assert reasons == {
        "train/cat/broken.png": "file is empty (0 bytes)",
        "train/cat/twin.bmp": "same pixels as train/cat/1.png",
        "train/cat/2.png": "same pixels as train/dog/cat 2.png of class dog",
        "train/dog/cat 2.png": "same pixels as train/cat/2.png of class cat",
        "train/cat/3.png": "nearly the same as train/dog/nearly cat 3.jpg of class dog",
        "train/dog/nearly cat 3.jpg": "nearly the same as train/cat/3.png of class cat",
        "train/cat/seen.png": "same pixels as test/cat/40.png in test",
        "train/cat/nearly seen.jpg": "nearly the same as test/cat/41.png in test",
        "test/dog/twin.png": "same pixels as test/dog/40.png",
    }
    kept = rows(mended.file)
    assert {f"photos/{path}" for path in before} == set(kept) | {f"photos/{path}" for path in reasons}
    assert all(row == {"label": path.split("/")[2], "split": path.split("/")[1]} for path, row in kept.items())
    assert mended.left_out == {"unreadable": 1, "of two classes": 4, "leaked": 2, "duplicate": 2}
    assert mended.pictures == len(kept) == 98


def test_the_new_table_has_nothing_to_mend(messy: Path, tmp_path: Path) -> None:
    assert check(open_dataset(messy)).mendable > 0
    found = check(open_dataset(mend(open_dataset(messy), tmp_path / "new" / "good.csv").file))
    assert found.mendable == 0
    assert found.splits == {"train": 58, "test": 40}
    assert "Nothing to mend was found." in str(found)


def test_the_new_table_can_be_trained_on(messy: Path, tmp_path: Path) -> None:
    mended = mend(open_dataset(messy), tmp_path / "good.csv")
    run = train(mended.file, out=tmp_path / "run", epochs=1, model="conv4 relu globalpool", size="16")
    statuses = {row["status"] for row in run.read_manifest()}
    assert run.read()["state"] == "finished"
    assert statuses == {"used"}


def test_groups_in_two_splits_are_kept_in_the_last_one(tmp_path: Path) -> None:
    lines = ["path,label,split,group"]
    for i in range(12):
        save(tmp_path / f"{i}.png", scene(i))
        lines.append(f"{i}.png,{'ab'[i % 2]},{'train' if i < 8 else 'test'},{'anna' if i in (1, 2, 9) else f'p{i}'}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    data = open_dataset(tmp_path / "table.csv")
    assert check(data).leaking_groups == ("anna",)
    mended = mend(data, tmp_path / "good.csv")
    assert rows(mended.left_out_file) == {
        f"{i}.png": {"label": "ab"[i % 2], "split": "train", "group": "anna", "reason": "same group as 9.png in test"}
        for i in (1, 2)
    }
    assert check(open_dataset(mended.file)).leaking_groups == ()


def test_paths_are_absolute_where_the_pictures_lie_elsewhere(messy: Path, tmp_path: Path) -> None:
    mended = mend(open_dataset(messy), tmp_path / "tables" / "good.csv")
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in rows(mended.file))


def test_names_of_files_come_through(messy: Path, tmp_path: Path) -> None:
    odd = ['a,b "c".png', " blank .png", "new\nline.png", "ünï.png"]
    for i, name in enumerate(odd):
        save(messy / "train" / "cat" / name, scene(1000 + i))
    mended = mend(open_dataset(messy), tmp_path / "good.csv")
    again = open_dataset(mended.file)
    assert {f"photos/train/cat/{name}" for name in odd} <= {item.path for item in again.items}
    assert check(again).unreadable == ()


def test_a_name_that_is_no_text_is_left_out(messy: Path, tmp_path: Path) -> None:
    try:
        save(messy / "train" / "cat" / "caf\udce9.png", scene(1000))
    except OSError:
        pytest.skip("this file system refuses such names")
    mended = mend(open_dataset(messy), tmp_path / "good.csv")
    assert mended.left_out["oddly named"] == 1
    assert check(open_dataset(mended.file)).unreadable == ()


@pytest.mark.parametrize("taken", ["good.csv", "good-left-out.csv"])
def test_no_file_is_overwritten(messy: Path, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(ConfigError, match=rf"{taken}' exists already"):
        mend(open_dataset(messy), tmp_path / "good.csv")
    assert (tmp_path / taken).read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == [taken, "photos"]


def test_a_table_needs_the_right_name(messy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"good.txt'; expected the name of a new table that ends in .csv"):
        mend(open_dataset(messy), tmp_path / "good.txt")


def test_pictures_that_are_no_files_cannot_be_named(messy: Path, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in messy.rglob("*.png"):
            file.write(path, path.relative_to(messy))
    for data, word in ((open_dataset(archive), "an archive"), (open_dataset("digits"), "memory")):
        with pytest.raises(DataError, match=word):
            mend(data, tmp_path / "good.csv")
    assert not (tmp_path / "good.csv").exists()


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", scene(0))
    save(tmp_path / "b" / "1.png", scene(0))
    data: Dataset = open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"Nothing of .* would be left"):
        mend(data, tmp_path / "good.csv")


def test_without_the_search_near_ones_stay(messy: Path, tmp_path: Path) -> None:
    mended = mend(open_dataset(messy), tmp_path / "good.csv", near=False)
    assert "photos/train/cat/nearly seen.jpg" in rows(mended.file)
    assert "photos/train/cat/seen.png" not in rows(mended.file)
