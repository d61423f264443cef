"""What a policy does to pictures before a training: the sheet shows the very pixels that a training would see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.config import DataConfig
from pellucid.data.dataset import from_arrays, open_dataset
from pellucid.errors import ConfigError, DataError, UnknownNameError
from pellucid.training.preview import preview

PLAIN = DataConfig()


def test_a_sheet_has_the_original_and_seven_treated_ones() -> None:
    data = open_dataset("digits")
    shown = preview(data, "vflip mixup0.2", PLAIN)
    sheet = shown.sheet(per_class=2)
    pixels = np.asarray(sheet.convert("L"))
    left = sheet.width - 8 * (96 + 6)
    row = [pixels[6 : 6 + 96, left + k * 102 : left + k * 102 + 96][::12, ::12] for k in range(8)]
    assert np.array_equal(row[0], shown.pictures.pixels[np.flatnonzero(shown.pictures.labels == 0)[0], ..., 0])
    assert sum(not np.array_equal(row[0], treated) for treated in row[1:]) >= 5
    assert (sheet.height - 6) // 102 == 20


def test_what_is_confused_is_told_with_names() -> None:
    found = preview(open_dataset("digits"), "rotate180 blur0.5", PLAIN)
    text = str(found)
    assert "warning: rotate180 may change the meaning" in text
    assert "blur0.5 keeps the meaning" in text
    data = found.to_dict()
    assert data["policy"] == "rotate180 blur0.5"
    assert [test["keeps_meaning"] for test in data["tests"]] == [False, True]
    assert {type(name) for name in data["tests"][0]["pairs"][0][:2]} == {str}


def test_only_training_pictures_are_used() -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)
    splits = ["train", "validation", "test"] * 30
    found = preview(from_arrays(images, ["ab"[i % 2] for i in range(90)], splits=splits), "none", PLAIN)
    assert np.array_equal(found.pictures.pixels[..., 0], images[::3])


def test_broken_pictures_are_passed_over(tmp_path: Path) -> None:
    for k in range(12):
        file = tmp_path / "data" / "ab"[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * k, np.uint8)).save(file)
    (tmp_path / "data" / "a" / "0.png").write_bytes(b"broken")
    found = preview(open_dataset(tmp_path / "data"), "shift1", PLAIN)
    assert len(found.pictures) == 11
    assert "too few pictures to measure" in str(found)


@pytest.mark.parametrize(
    ("policy", "error"), [("flop", UnknownNameError), ("cutout9", ConfigError), ("saturation0.5", ConfigError)]
)
def test_a_policy_that_cannot_be_is_refused(policy: str, error: type[DataError]) -> None:
    with pytest.raises(error):
        preview(open_dataset("digits"), policy, PLAIN)
