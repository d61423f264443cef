"""activations, filters and visualise from the command line, on a small run of real digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.errors import ConfigError, DataError, UnknownNameError
from pellucid.run import Run
from pellucid.training.pipeline import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("cli-maps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(folder / "cache"))
        return train("digits", out=folder / "run", model="conv4 relu conv6 relu dense8 relu", epochs=2, device="cpu")


@pytest.fixture
def image(tmp_path, digits) -> Path:
    file = tmp_path / "three.png"
    Image.fromarray(digits[0][3]).save(file)
    return file


def answer(*arguments: object) -> dict:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_activations_writes_a_sheet_of_all_layers_and_tells_the_figures(run, image):
    found = answer("activations", run.path, image, "--against", "initial")
    assert [layer["shape"] for layer in found["layers"]] == [[4, 6, 6], [6, 4, 4]]
    assert found["states"] == ["initial", "now"]
    assert all(len(layer["correlation_with_before"]) == layer["shape"][0] for layer in found["layers"])
    (file,) = found["files"]
    assert Path(file).parent == run.path / "reports"
    with Image.open(file) as sheet:
        assert sheet.width > 300


def test_activations_with_top_looks_at_the_runs_own_pictures(run, tmp_path):
    found = answer("activations", run.path, "--top", "own", "--pictures", "300", "--layer", "conv2", "--out", tmp_path)
    (layer,) = found["tops"]["layers"]
    assert (layer["name"], layer["n"], layer["channels"]) == ("conv2", 300, 6)
    values = [[row["value"] for row in rows] for rows in layer["top"]]
    assert values == [sorted(row, reverse=True) for row in values]
    assert [row[0] for row in values] == pytest.approx(layer["high"])
    assert all(row["label"] in "0123456789" for rows in layer["top"] for row in rows)
    assert [Path(file).name for file in found["files"]] == ["top-conv2.png"]


def test_filters_shows_the_first_layer(run, tmp_path):
    found = answer("filters", run.path, "--against", "initial", "--out", tmp_path)
    assert (found["layer"], found["shape"]) == ("conv1", [4, 1, 3, 3])
    assert min(found["relative_change"]) > 0
    assert Path(found["files"][0]).exists()


def test_visualise_puts_the_own_pictures_beside(run, tmp_path):
    arguments = ("--steps", 30, "--pictures", 200, "--out", tmp_path)
    found = answer("visualise", run.path, "--layer", "conv2", "--channel", 1, "--channel", 4, *arguments)
    assert [unit["unit"] for unit in found["units"]] == [1, 4]
    assert all(unit["own"] is not None and unit["reached"] > unit["start"] for unit in found["units"])
    again = answer("visualise", run.path, "--layer", "conv2", "--channel", 1, "--channel", 4, *arguments)
    assert [unit["reached"] for unit in again["units"]] == [unit["reached"] for unit in found["units"]]
    one = answer("visualise", run.path, "--class", "7", *arguments[:2], "--top", "none", "--out", tmp_path)
    assert (one["units"][0]["name"], one["units"][0]["own"]) == ("7", None)
    with Image.open(one["files"][0]) as sheet:
        assert np.asarray(sheet).shape[2] == 3


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["activations", "RUN", "IMAGE", "--layer", "conv3"], UnknownNameError, "Did you mean conv"),
        (["activations", "RUN", "IMAGE", "--against", "step-99"], UnknownNameError, "expected one of initial, best"),
        (["activations", "RUN", "nowhere.png"], DataError, "nowhere.png"),
        (["visualise", "RUN", "--layer", "conv2", "--channel", "6"], ConfigError, "0 to 5"),
        (["visualise", "RUN", "--class", "10"], UnknownNameError, "no class '10'"),
        (["visualise", "RUN", "--class", "7", "--channel", "1"], ConfigError, "--layer and --channel, or --class"),
    ],
)  # fmt: skip
def test_mistakes_are_told(run, image, arguments, error, said):
    places = {"RUN": str(run.path), "IMAGE": str(image)}
    with pytest.raises(error, match=said):
        CliRunner().invoke(app, [places.get(a, a) for a in arguments], catch_exceptions=False)


@pytest.mark.parametrize("arguments", [["activations", "runs/1"], ["visualise", "runs/1"]])
def test_a_wrong_command_line_is_a_usage_error(arguments):
    assert CliRunner().invoke(app, arguments).exit_code == 2
