"""The command explain: what it writes and prints, and what it says of input that it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.data.contract import PixelContract
from pellucid.errors import ConfigError, DataError
from pellucid.explain.heat_draw import overlay
from pellucid.explain.heat_report import explain_pictures
from pellucid.model.classifier import Classifier
from pellucid.model.spec import parse_spec
from pellucid.model.zoo import Architecture, build

SPEC = Architecture("spec", str(parse_spec("conv4,psame relu conv6,psame relu pool dense3")))


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    module = build(SPEC, input_shape=(3, 12, 12), num_classes=3)
    return Classifier(module.eval(), ("x", "y", "z"), PixelContract(12, 12), SPEC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_one_picture_from_the_command_line(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    classifier.save(tmp_path / "run" / "model")
    done = CliRunner().invoke(
        app, ["explain", str(tmp_path / "run"), str(photos / "1.png"), "--method", "all", "--class", "y", "--json"]
    )
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["label"] == "y"
    folder = tmp_path / "run" / "reports" / "explain"
    page = (folder / "1.html").read_text()
    assert content["page"] == str(folder / "1.html")
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    methods = [each["method"] for each in content["maps"]] + [each["method"] for each in content["refused"]]
    assert sorted(methods) == ["grad-cam", "integrated-gradients", "occlusion", "shapley", "smoothgrad"]
    for each in content["maps"]:
        assert each.keys() >= {"method", "file", "deletion", "insertion", "road", "floor"}
        with Image.open(each["file"]) as picture:
            assert picture.width > 1000
        assert each["verdict"].replace("'", "&#x27;") in page


def test_a_folder_with_a_broken_file(classifier: Classifier, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"")
    report = explain_pictures(classifier, "net", [photos], methods=["occlusion"], out=tmp_path / "out")
    content = report.to_dict()
    assert content["n"] + len(content["skipped"]) == 5
    assert any(row["path"].endswith("broken.png") and "empty" in row["reason"] for row in content["skipped"])
    assert all(Path(heat["file"]).is_file() for picture in content["pictures"] for heat in picture["maps"])
    assert "Mean of" in report.page.read_text()
    limited = explain_pictures(classifier, "net", [photos], methods=["occlusion"], limit=2, out=tmp_path / "out")
    assert any("2 of 5 pictures, drawn at random" in note for note in limited.to_dict()["notes"])


def test_pictures_that_cannot_be_explained(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "many.npy", np.zeros((12, 12, 5), np.uint8))
    with pytest.raises(DataError, match=r"many.npy' cannot be explained: channels: 5, but expected 3"):
        explain_pictures(classifier, "net", [tmp_path / "many.npy"])
    for arguments in ({}, {"paths": ["a"], "split": "test"}):
        with pytest.raises(ConfigError, match="one of the two"):
            explain_pictures(classifier, "net", **arguments)


def test_the_overlay_is_sharp_and_says_the_same_without_color() -> None:
    """Small pixels stay squares; what is cold stays as it was, what is hot is colored; contour lines tell it in grey."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:] = 200
    heat = np.full((8, 8), -1.0)
    drawn = np.asarray(overlay(pixels, heat, 64))
    assert np.array_equal(drawn[:, :, 0], pixels[:, :, 0].repeat(8, 0).repeat(8, 1)), (
        "nothing speaks for it: only the picture"
    )
    heat[2:4, 1:3] = 1
    drawn = np.asarray(overlay(pixels, heat, 64)).astype(int)
    assert drawn[24, 16, 0] - drawn[24, 16, 2] > 100
    grey = drawn.mean(2)
    assert (grey[:, :32] > 150).any(), "white contour lines on black"
    assert (drawn[:, 56:, 0] == 200).all()
