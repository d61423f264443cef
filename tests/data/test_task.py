"""Answers of three kinds: read from tables and arrays, told when they cannot be, encoded, and spread over the splits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pellucid.data.check import check
from pellucid.data.dataset import Dataset, from_arrays, open_dataset
from pellucid.data.manifest import make_manifest
from pellucid.data.scan import scan
from pellucid.data.task import LABELS, NONE, NUMBER, Task, conformal_margin
from pellucid.errors import ConfigError, DataError

SETS = ["even;loop", "none", " loop ; even;", "large", "even;even"]


def label_names(digit: int) -> list[str]:
    return [
        n for n, is_so in (("even", digit % 2 == 0), ("loop", digit in (0, 6, 8, 9)), ("large", digit > 4)) if is_so
    ]


@pytest.fixture
def table(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Any:
    """Writes a table with these labels beside as many real digits."""

    def write(labels: list[str]) -> Path:
        for i in range(len(labels)):
            Image.fromarray(digits[0][i]).save(tmp_path / f"{i}.png")
        lines = "".join(f'{i}.png,"{label}"\n' for i, label in enumerate(labels))
        (tmp_path / "t.csv").write_text("path,label\n" + lines)
        return tmp_path / "t.csv"

    return write


def test_a_table_of_several_labels(table: Any) -> None:
    data = open_dataset(table(SETS), label_separator=";")
    assert data.task.kind == LABELS
    assert data.classes == ("even", "large", "loop")
    assert [data.label(i) for i in range(5)] == ["even;loop", "none", "even;loop", "large", "even"]
    assert data.targets().tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert {name: rows.tolist() for name, rows in data.heaps()} == {"even": [0, 2, 4], "large": [3], "loop": [0, 2]}
    assert "1 picture with none of the labels" in data.notes


def test_a_table_of_numbers(table: Any) -> None:
    data = open_dataset(table(["3", "3.0", "-2.50", "1e2", ".5"]), task="number")
    assert (data.task.kind, data.classes) == (NUMBER, ("label",))
    assert [data.label(i) for i in range(5)] == ["3", "3", "-2.5", "100", "0.5"]
    assert data.targets().tolist() == [[3.0], [3.0], [-2.5], [100.0], [0.5]]


@pytest.mark.parametrize(
    ("labels", "options", "told"),
    [
        (["a", "", "b"], {"label_separator": ";"}, "1 row .*without.* row 2 .*has the word none"),
        (["a", " ; ", "b"], {"label_separator": ";"}, "without a label.*row 2 .*or the word none"),
        (["a", "b;none", "b"], {"label_separator": ";"}, "beside the word none: 'b;none', row 2"),
        (["1", "nan", "inf"], {"task": "number"}, "2 labels of 3 are no finite number: 'inf', 'nan', row 2, 3 "),
        (
            ["1", "two", "3"],
            {"task": "number"},
            "1 label of 3 is no finite number: 'two', row 2 .*leave out --task number",
        ),
        (["1", "", "3"], {"task": "number"}, "1 row .*without a path or a label: row 2"),
        (["1,5", "2,5", "3"], {"task": "number"}, "with a point and not a comma"),
        (["1_0", "2", "3"], {"task": "number"}, "'1_0', row 1"),
    ],
)
def test_answers_that_cannot_be_read_are_named_by_row(
    table: Any, labels: list[str], options: dict[str, str], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        open_dataset(table(labels), **options)


@pytest.mark.parametrize(
    ("labels", "options", "told"),
    [
        (["a|b", "a", "b"], {"label_separator": ";"}, "';' never stands between two labels.*'|' occurs in labels"),
        (["x;a", "x", "x;b"], {"label_separator": ";"}, "on every picture, so there is nothing to tell apart: 'x'"),
        (["4", "4", "4.0"], {"task": "number"}, "every picture has the same number, 4"),
        (["1", "2", "?"] + ["1", "2"] * 10, {}, "labels are numbers, but words in 1 picture .*'\\?', those of '2.png'"),
        ([str(i / 4) for i in range(30)], {}, "30 different numbers, each a class of its own.*--task number"),
    ],
)
def test_what_looks_like_something_else_is_told(
    table: Any, labels: list[str], options: dict[str, str], told: str
) -> None:
    notes = "\n".join(open_dataset(table(labels), **options).notes)
    assert re.search(told, notes), notes


def test_numbers_stay_classes_unless_asked(table: Any) -> None:
    assert open_dataset(table(["0", "1", "2"])).classes == ("0", "1", "2")


@pytest.mark.parametrize("labels", [["a;b"] * 3, ["none"] * 3])
def test_answers_that_are_all_alike_are_refused(table: Any, labels: list[str]) -> None:
    data = open_dataset(table(labels), task="labels")
    with pytest.raises(DataError, match="has the same answer"):
        make_manifest(data, scan(data))


def test_arrays_of_several_labels(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = digits[0][:3]
    by_name = from_arrays(images, [["b", "a"], [], ["c"]])
    by_column = from_arrays(images, np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]), classes=["a", "b", "c", "d"])
    assert [by_name.label(i) for i in range(3)] == [by_column.label(i) for i in range(3)] == ["a;b", NONE, "c"]
    assert by_column.classes == ("a", "b", "c", "d")
    assert "on no picture, so they cannot be learned: 'd'" in by_column.notes


def test_arrays_of_numbers(digits: tuple[np.ndarray, np.ndarray]) -> None:
    data = from_arrays(digits[0][:3], np.array([0.25, 3, -1]), task="number")
    assert data.targets().ravel().tolist() == [0.25, 3.0, -1.0]
    with pytest.raises(DataError, match='task="number"'):
        from_arrays(digits[0][:3], np.array([0.25, 3, -1]))
    with pytest.raises(DataError, match="no finite number: 'nan', those of '00001'"):
        from_arrays(digits[0][:3], np.array([0.25, np.nan, -1]), task="number")


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        ([["a;b"], ["c"], []], None, "'a;b' cannot be used"),
        ([["a"], ["none"], []], None, "'none' cannot be used"),
        ([["a"], ["b"], []], ["a", "c"], "The labels hold 'b'"),
        (np.array([[0, 2], [1, 0], [0, 0]]), None, "0 and 1"),
    ],
)
def test_label_sets_that_cannot_be_kept(
    digits: tuple[np.ndarray, np.ndarray], labels: Any, classes: list[str] | None, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        from_arrays(digits[0][:3], labels, classes=classes)


def test_a_separator_goes_with_labels_only() -> None:
    from pellucid.config import DataConfig

    with pytest.raises(ConfigError, match="goes with --task labels"):
        DataConfig(task="number", label_separator=";")


@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=1))
def test_label_sets_come_back(sets: list[set[str]]) -> None:
    task = Task(LABELS, "|")
    texts = ["|".join(sorted(names)) or NONE for names in sets]
    assert task.read(texts, str) == texts
    outputs = tuple("abcd")
    targets = task.encode(texts, outputs)
    assert targets.sum(1).tolist() == [len(names) for names in sets]
    assert [task.decode(row, outputs) for row in targets] == texts


def dataset(kind: str, digits: tuple[np.ndarray, np.ndarray]) -> Dataset:
    if kind == NUMBER:
        return from_arrays(digits[0], digits[0].sum((1, 2)) / 255, task="number")
    return from_arrays(digits[0], [label_names(d) for d in digits[1]])


def test_every_split_has_its_share_of_every_label(digits: tuple[np.ndarray, np.ndarray]) -> None:
    data = dataset(LABELS, digits)
    manifest = make_manifest(data, scan(data), seed=1)
    everywhere = data.targets().mean(0)
    for split in ("validation", "test"):
        share = data.targets()[manifest.indices(split)].mean(0)
        assert np.abs(share - everywhere).max() < 0.05  # chance alone: a standard error of 0.037
        assert 170 < len(manifest.indices(split)) < 190


def test_every_split_has_its_share_of_small_and_large_numbers(digits: tuple[np.ndarray, np.ndarray]) -> None:
    data = dataset(NUMBER, digits)
    manifest = make_manifest(data, scan(data), seed=1)
    values = data.targets()[:, 0]
    edges = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    for split in ("validation", "test"):
        counts = np.histogram(values[manifest.indices(split)], edges)[0] / len(manifest.indices(split))
        assert np.abs(counts - 0.25).max() < 0.04


def test_many_different_label_sets_still_reach_every_split(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Each picture has a combination of its own: stratifying by combination would put all of them into the training part."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    data = from_arrays(digits[0][:256], bits)
    manifest = make_manifest(data, scan(data))
    assert [len(manifest.indices(s)) for s in ("train", "validation", "test")] == pytest.approx([205, 26, 26], abs=2)


def test_the_same_pixels_under_different_answers_are_conflicts(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = digits[0][[0, 0, 1, 1, 2]]
    sets = check(from_arrays(images, [["a"], ["a", "b"], ["a"], ["a"], []]))
    assert sets.conflicts == ((("00000", "a"), ("00001", "a;b")),)
    assert sets.classes == {"a": 4, "b": 1}
    numbers = check(from_arrays(images, [1.0, 1.0, 2.0, 2.5, 3.0], task="number"))
    assert numbers.conflicts == ((("00002", "2"), ("00003", "2.5")),)
    assert (numbers.number["lowest"], numbers.number["median"], numbers.number["highest"]) == (1.0, 2.0, 3.0)
    assert sum(numbers.number["histogram"]["counts"]) == 5
    assert "number from 1 to 3, median 2" in str(numbers)


def test_numbers_are_learned_by_mean_and_deviation_of_the_training_part() -> None:
    values = np.array([[1.0], [2.0], [6.0]])
    task = Task(NUMBER).fitted(values)
    assert (task.mean, task.std) == (3.0, pytest.approx(np.std([1, 2, 6])))
    scaled = task.scaled(values)
    np.testing.assert_allclose(scaled * task.std + task.mean, values, rtol=1e-6)
    assert Task(**task.to_dict()) == task


def test_the_margin_holds_what_it_promises() -> None:
    """Split conformal: on fresh draws of the same kind, nine in ten lie within."""
    rng = np.random.default_rng(0)
    held = [np.mean(np.abs(rng.standard_t(3, 200)) <= conformal_margin(rng.standard_t(3, 99))) for _ in range(300)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)
    assert conformal_margin(np.arange(8)) is None
    assert conformal_margin(np.array([-9.0, *range(8)])) == 9.0
