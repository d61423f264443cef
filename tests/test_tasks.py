"""The commands from the table to the drawn answer, for several labels at once and for a number, on real digits."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pellucid
from pellucid.errors import ConfigError, DataError
from pellucid.run import Run
from pellucid.training import loop

QUICK = (
    "--model",
    "conv8 bn relu pool conv16 relu dense32 relu",
    "--epochs",
    "16",
    "--batch-size",
    "32",
    "--precision",
    "fp32",
)
Answer = Callable[..., tuple[int, Any]]


@pytest.fixture
def answer(cli: Callable[..., tuple[int, str, str]]) -> Answer:
    """Runs a command with --json: its exit code, and what it printed."""

    def run(*arguments: Any) -> tuple[int, Any]:
        code, out, _ = cli(*arguments, "--json")
        return code, json.loads(out or "null")

    return run


@pytest.fixture
def tables(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """500 digits with a table of labels and one of the ink in each, both with a broken file."""
    images, digit = digits[0][:500], digits[1][:500]
    (tmp_path / "p").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"p/{i:03}.png")
    (tmp_path / "p/007.png").write_bytes(b"nothing")
    sets = [";".join(n for n, s in (("even", d % 2 == 0), ("loop", d in (0, 6, 8, 9))) if s) or "none" for d in digit]
    rows = [f"p/{i:03}.png,{sets[i]},{image.sum() / 255:.4f}" for i, image in enumerate(images)]
    (tmp_path / "t.csv").write_text("path,label,ink\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_several_labels(answer: Answer, tables: Path) -> None:
    options = ("--label-separator", ";")
    code, looked = answer("check", tables / "t.csv", *options, "--sheet", tables / "sheet.png")
    assert (code, looked["task"], set(looked["classes"])) == (0, "labels", {"even", "loop"})
    code, trained = answer("train", tables / "t.csv", *options, *QUICK, "--out", tables / "run")
    assert code == 0
    assert trained["valid"]["average_precision"]["value"] > 0.9
    code, measured = answer("evaluate", tables / "run")
    assert code == 0
    assert measured["average_precision"]["low"] > measured["baseline"]["average_precision"]
    assert measured["subset_accuracy"]["low"] > measured["baseline"]["subset_accuracy"]
    page = (tables / "run/reports/test.html").read_text()
    assert "Average precision of each label" in page
    assert "Validation mean average precision" in page

    pictures = [tables / "p/000.png", tables / "p/001.png", tables / "p/007.png"]
    code, answers = answer("predict", tables / "run", *pictures, "--csv", tables / "a.csv", "--draw", tables / "drawn")
    assert code == 0
    with (tables / "a.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [row["labels"] for row in cells] == ["even;loop", "none", ""]
    assert [{pair["label"] for pair in answer["labels"]} for answer in answers] == [{"even", "loop"}, set(), set()]
    assert answers[2]["error"]
    assert sorted(file.name for file in (tables / "drawn").iterdir()) == ["000.png", "001.png"]


def test_a_number(answer: Answer, tables: Path) -> None:
    options = ("--task", "number", "--label-column", "ink")
    code, looked = answer("check", tables / "t.csv", *options)
    assert (code, looked["number"]["name"], looked["number"]["n"]) == (0, "ink", 499)
    code, _ = answer("train", tables / "t.csv", *options, *QUICK, "--out", tables / "run")
    assert code == 0
    code, measured = answer("evaluate", tables / "run")
    assert code == 0
    assert measured["mae"]["high"] < measured["baseline"]["median"]["mae"]
    assert measured["margin"] > 0
    assert "Answers against true numbers" in (tables / "run/reports/test.html").read_text()
    code, other = answer("evaluate", tables / "run", tables / "t.csv")
    assert (code, other["n"], other["name"]) == (0, 499, "ink")
    code, answers = answer("predict", tables / "run", tables / "p/000.png", "--csv", tables / "a.csv")
    with (tables / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    truth = np.asarray(Image.open(tables / "p/000.png")).sum() / 255
    assert float(row["ink"]) == pytest.approx(truth, abs=5)
    assert float(row["ink_low"]) < answers[0]["number"] < float(row["ink_high"])


def test_a_number_resumes_to_the_bit(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {
        "task": "number",
        "label_column": "ink",
        "model": QUICK[1],
        "epochs": 2,
        "precision": "fp32",
    }
    whole = pellucid.train(tables / "t.csv", out=tables / "whole", **settings)
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)

    def die(event: dict[str, Any]) -> None:
        if event["event"] == "checkpoint":
            raise MemoryError

    with pytest.raises(MemoryError):
        pellucid.train(tables / "t.csv", out=tables / "killed", on_event=die, **settings)
    pellucid.resume(tables / "killed")
    weights = [(run / "model/model.safetensors").read_bytes() for run in (whole.path, tables / "killed")]
    assert weights[0] == weights[1]
    assert Run(tables / "killed").read()["task"] == whole.read()["task"]


def test_what_does_not_fit_the_question_is_refused(tables: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    classes = pellucid.open_dataset((digits[0][:60], digits[1][:60]))
    with pytest.raises(ConfigError, match=r"open_dataset\(..., task='number'\)"):
        pellucid.train(classes, task="number", out=tables / "run")
    with pytest.raises(ConfigError, match="--balance is about classes or labels"):
        pellucid.train(tables / "t.csv", task="number", label_column="ink", balance="weights", out=tables / "run")
    run = pellucid.train(
        tables / "t.csv", task="number", label_column="ink", model=QUICK[1], epochs=0.2, out=tables / "run"
    )
    with pytest.raises(DataError, match=r"opened with task 'class'.*answers with task 'number'"):
        pellucid.evaluate(run, classes)
