"""Measuring a run: the same number as counting by hand, class names as law, and nothing left out without a word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pellucid
from pellucid.data.dataset import Dataset, from_arrays
from pellucid.errors import ConfigError, DataError, RunError, UnknownNameError
from pellucid.evaluation.measure import evaluate
from pellucid.run import Run

SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 16, "precision": "fp32", "model": "fastnet-8-16"}
NAMES = ("zero", "one", "two")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Iterator[Path]:
    """A folder with the digits 0 to 2 as `photos`, 60 each, and the `run` that was trained on them."""
    home = tmp_path_factory.mktemp("measure")
    for label, name in enumerate(NAMES):
        (home / "photos" / name).mkdir(parents=True)
        for i, k in enumerate(np.flatnonzero(digits[1] == label)[:60]):
            Image.fromarray(digits[0][k]).save(home / "photos" / name / f"{i:02}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(home / "cache"))
        pellucid.train(home / "photos", out=home / "run", **SETTINGS)
    yield home


@pytest.fixture
def own(home: Path, tmp_path: Path) -> tuple[Run, Path]:
    """A copy of the run and of its pictures, to be changed."""
    shutil.copytree(home / "photos", tmp_path / "photos")
    shutil.copytree(home / "run", tmp_path / "run")
    run = Run(tmp_path / "run")
    run.update(source=str(tmp_path / "photos"))
    return run, tmp_path / "photos"


@pytest.fixture
def unseen(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Digits 0 to 3 that the run has not seen: uint8 (N, 8, 8), names (N,)."""
    chosen = np.concatenate([np.flatnonzero(digits[1] == label)[100:130] for label in range(4)])
    return digits[0][chosen], np.array([*NAMES, "three"])[digits[1][chosen]]


def hits(run: Run, images: np.ndarray, names: np.ndarray) -> np.ndarray:
    """bool (N,): whether the classifier's most probable class has the picture's name."""
    classifier = pellucid.load(run.path)
    answers = classifier.predict_proba(images[..., None]).argmax(1)
    return np.array(classifier.classes)[answers] == names


def part_of(run: Run, folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The pictures and class names of a split, read with Pillow."""
    rows = [row for row in run.read_manifest() if row["split"] == split]
    images = [np.asarray(Image.open(folder / row["path"])) for row in rows]
    return np.stack(images), np.array([row["label"] for row in rows])


@pytest.mark.parametrize(("asked", "split"), [("test", "test"), ("val", "validation"), ("train", "train")])
def test_the_accuracy_is_the_share_of_hits_counted_by_hand(own: tuple[Run, Path], asked: str, split: str) -> None:
    run, folder = own
    images, names = part_of(run, folder, split)
    expected = hits(run, images, names)
    evaluation = evaluate(run, split=asked)
    assert evaluation.n == len(expected)
    assert evaluation.accuracy.value == pytest.approx(expected.mean())
    for score in evaluation.per_class:
        assert score.n == (names == score.label).sum()
        assert score.recall.value == pytest.approx(expected[names == score.label].mean())
    assert evaluation.classes == pellucid.load(run.path).classes


def test_the_report_holds_what_was_returned(own: tuple[Run, Path]) -> None:
    run, _ = own
    evaluation = evaluate(run.path)
    reports = run.path / "reports"
    assert json.loads((reports / "test.json").read_text()) == json.loads(json.dumps(evaluation.to_dict()))
    page = (reports / "test.html").read_text()
    assert run.read()["fingerprint"] in page
    assert f"{100 * evaluation.accuracy.value:.1f}&nbsp;%" in page
    evaluate(run, split="validation")
    assert {file.name for file in reports.iterdir()} == {
        "test.json", "test.html", "validation.json", "validation.html"
    }  # fmt: skip


def test_the_run_itself_measures_the_same(own: tuple[Run, Path]) -> None:
    assert own[0].evaluate("test").to_dict() == evaluate(own[0]).to_dict()


def test_pictures_of_an_unseen_class_are_left_out_counted_and_told(
    own: tuple[Run, Path], unseen: tuple[np.ndarray, np.ndarray]
) -> None:
    images, names = unseen
    evaluation = evaluate(own[0], from_arrays(images, names.tolist(), name="new"))
    known = names != "three"
    assert evaluation.n == known.sum() == 90
    assert evaluation.accuracy.value == pytest.approx(hits(own[0], images[known], names[known]).mean())
    assert evaluation.notes[0] == "30 pictures of classes that the classifier does not know are left out: 'three'"
    assert (own[0].path / "reports" / "new.json").exists()


def test_the_order_of_classes_means_nothing(own: tuple[Run, Path], unseen: tuple[np.ndarray, np.ndarray]) -> None:
    run, (images, names) = own[0], unseen
    plain = from_arrays(images[names != "three"], names[names != "three"].tolist(), name="new")
    order = [2, 0, 1]  # position of each class among the turned ones
    turned = replace(
        plain,
        classes=tuple(plain.classes[order.index(k)] for k in range(3)),
        items=tuple(replace(item, label=order[item.label]) for item in plain.items),
    )
    assert turned.classes != plain.classes
    expected = evaluate(run, plain)
    assert evaluate(run, turned).to_dict() == expected.to_dict()
    assert expected.accuracy.value > 0.6  # negative control: indices taken for names would fall below
    wrong = replace(plain, classes=turned.classes)
    assert evaluate(run, wrong).accuracy.value < 0.4


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_one_class_only(own: tuple[Run, Path], unseen: tuple[np.ndarray, np.ndarray], name: str) -> None:
    images = unseen[0][unseen[1] == name]
    evaluation = evaluate(own[0], from_arrays(images, [name] * 30))
    expected = hits(own[0], images, np.array([name] * 30))
    assert evaluation.n == 30
    assert evaluation.accuracy.value == pytest.approx(expected.mean())
    assert {score.label: score.n for score in evaluation.per_class} == dict.fromkeys(NAMES, 0) | {name: 30}


def test_classes_that_are_all_unseen(own: tuple[Run, Path]) -> None:
    data = from_arrays(np.zeros((4, 8, 8), np.uint8), ["Zero", "Zero", "One", "One"])
    with pytest.raises(DataError, match="Class names must be the same, letter for letter"):
        evaluate(own[0], data)


def test_of_data_with_splits_the_asked_one_is_measured(
    own: tuple[Run, Path], unseen: tuple[np.ndarray, np.ndarray]
) -> None:
    images, names = unseen
    splits = ["test" if i % 3 == 0 else "train" for i in range(len(images))]
    data: Dataset = from_arrays(images, names.tolist(), splits=splits)
    chosen = (np.arange(len(images)) % 3 == 0) & (names != "three")
    evaluation = evaluate(own[0], data)
    assert evaluation.n == chosen.sum()
    assert evaluation.accuracy.value == pytest.approx(hits(own[0], images[chosen], names[chosen]).mean())


def test_pictures_of_another_size_go_through_the_contract(own: tuple[Run, Path]) -> None:
    run, folder = own
    images, names = part_of(run, folder, "test")
    large = images.repeat(5, axis=1).repeat(5, axis=2)
    contract = pellucid.load(run.path).contract
    small = np.stack([contract.pixels(image[..., None])[..., 0] for image in large])
    evaluation = evaluate(run, from_arrays(large, names.tolist()))
    assert evaluation.accuracy.value == pytest.approx(hits(run, small, names).mean())


def test_a_file_that_cannot_be_read_is_told_with_its_reason(own: tuple[Run, Path]) -> None:
    run, folder = own
    (folder / "zero" / "late.png").touch()
    evaluation = evaluate(run, folder)
    assert evaluation.n == 180
    assert "1 picture left out, for example 'zero/late.png': file is empty (0 bytes)" in (evaluation.notes)
    assert evaluate(run).n == 18  # the run's own part does not hold it
    assert not any("late.png" in note for note in evaluate(run).notes)


def test_an_own_picture_that_broke_after_training_is_told(own: tuple[Run, Path]) -> None:
    run, folder = own
    path = next(row["path"] for row in run.read_manifest() if row["split"] == "test")
    (folder / path).write_bytes(b"")
    evaluation = evaluate(run)
    assert evaluation.n == 17
    assert any(path in note and "file is empty" in note for note in evaluation.notes)


def test_an_own_picture_that_was_deleted_is_an_error_that_names_it(own: tuple[Run, Path]) -> None:
    run, folder = own
    path = next(row["path"] for row in run.read_manifest() if row["split"] == "test")
    (folder / path).unlink()
    with pytest.raises(DataError, match=f"1 of 18 pictures of the test part are no longer in .*'{path}'"):
        evaluate(run)
    assert evaluate(run, split="validation").n == 18


def test_nothing_readable_is_an_error(own: tuple[Run, Path], tmp_path: Path) -> None:
    (tmp_path / "broken" / "zero").mkdir(parents=True)
    (tmp_path / "broken" / "zero" / "a.png").touch()
    with pytest.raises(DataError, match="holds no readable one"):
        evaluate(own[0], tmp_path / "broken")


def test_an_unknown_part_is_answered_with_the_nearest(own: tuple[Run, Path]) -> None:
    with pytest.raises(DataError, match=r"it has test, train, validation\. Did you mean test"):
        evaluate(own[0], split="tests")


def test_a_run_without_a_model(own: tuple[Run, Path]) -> None:
    shutil.rmtree(own[0].path / "model")
    with pytest.raises(RunError, match="its training has not saved a model yet"):
        evaluate(own[0])


def test_a_run_on_arrays_needs_the_data_again(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    few = np.flatnonzero(digits[1] < 2)[:60]
    data = pellucid.open_dataset((digits[0][few], digits[1][few]))
    run = pellucid.train(data, out=tmp_path / "run", **(SETTINGS | {"epochs": 1, "model": "conv4 relu pool"}))
    with pytest.raises(RunError, match="trained on arrays in memory"):
        evaluate(run)
    assert evaluate(run, data).n == 60


def test_a_picture_that_was_replaced_after_training_is_told_and_left_out(own: tuple[Run, Path]) -> None:
    run, folder = own
    before = evaluate(run)
    path = next(row["path"] for row in run.read_manifest() if row["split"] == "test")
    Image.new("L", (8, 8), 77).save(folder / path)
    after = evaluate(run)
    assert after.n == before.n - 1
    assert any(path in note and "changed since the training" in note for note in after.notes)


def test_a_folder_called_test_does_not_take_the_place_of_the_report(own: tuple[Run, Path]) -> None:
    run, folder = own
    evaluate(run)
    report = (run.path / "reports" / "test.json").read_bytes()
    shutil.copytree(folder, folder.parent / "other" / "test")
    assert evaluate(run, folder.parent / "other" / "test").split == "test-data"
    assert (run.path / "reports" / "test.json").read_bytes() == report


def test_pictures_of_the_training_are_told_when_measured_on(own: tuple[Run, Path]) -> None:
    run, folder = own
    used = sum(row["split"] != "test" for row in run.read_manifest())
    assert any(note.startswith(f"{used} of ") and "too good" in note for note in evaluate(run, folder).notes)


def test_arrays_are_trained_on_as_they_are(
    tmp_path: Path, unseen: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, names = unseen
    run = pellucid.train((images, names.tolist()), out=tmp_path / "run", **SETTINGS)
    assert run.read()["classes"] == sorted({*NAMES, "three"})
    assert evaluate(run, from_arrays(images, names.tolist())).n == len(images)
    with pytest.raises(DataError) as told:  # says how many there are of each, and does not print the pictures
        pellucid.train((images, names.tolist()[:5]), out=tmp_path / "other", **SETTINGS)
    assert len(str(told.value)) < 300


def test_a_threshold_is_chosen_on_the_validation_part_and_measured_on_the_test_part(own: tuple[Run, Path]) -> None:
    run, folder = own
    classifier = pellucid.load(run.path)
    point = evaluate(run, positive="one", sensitivity=0.9).point
    k = classifier.classes.index("one")
    images, names = part_of(run, folder, "validation")
    scores = classifier.predict_proba(images[..., None])[:, k]
    assert (scores[names == "one"] >= point.threshold).mean() >= 0.9
    assert (scores[names == "one"] > point.threshold).mean() < 0.9
    images, names = part_of(run, folder, "test")
    says = classifier.predict_proba(images[..., None])[:, k] >= point.threshold
    assert point.sensitivity.value == pytest.approx(says[names == "one"].mean())
    assert point.specificity.value == pytest.approx((~says)[names != "one"].mean())
    assert evaluate(run, positive="one").point.threshold == 0.5
    page = (run.path / "reports" / "test.html").read_text()
    assert "counts as 'one'" in page


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"positive": "ones"}, UnknownNameError, "Did you mean one"),
        ({"sensitivity": 0.9}, ConfigError, "add --positive"),
        ({"positive": "one", "sensitivity": 0.9, "specificity": 0.9}, ConfigError, "two thresholds"),
        ({"positive": "one", "sensitivity": 95}, ConfigError, "like 0.95"),
    ],
)
def test_a_point_that_cannot_be_chosen_is_refused(
    home: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        evaluate(home / "run", **options)


def test_neighbors_stand_beside_the_scores_and_are_missed_with_a_word(own: tuple[Run, Path]) -> None:
    run, folder = own
    evaluation = evaluate(run)
    assert list(evaluation.baseline) == ["majority", "nearest_pixels", "nearest_features"]
    assert evaluation.baseline["nearest_pixels"].accuracy.value > 0.8
    images, names = part_of(run, folder, "test")
    shutil.rmtree(folder)
    alone = evaluate(run, from_arrays(images, names))
    assert list(alone.baseline) == ["majority"]
    assert any("no nearest ones" in note for note in alone.notes)


def test_robustness_is_a_part_of_the_evaluation_and_of_its_report(own: tuple[Run, Path], monkeypatch) -> None:
    from pellucid.data.corrupt import CHANGES

    few = [change for change in CHANGES if change.name in ("contrast", "darker")]
    monkeypatch.setattr("pellucid.evaluation.robustness.CHANGES", few)
    run, _ = own
    evaluation = evaluate(run, robustness=True)
    assert evaluation.robustness.clean.value == evaluation.accuracy.value
    assert [course.name for course in evaluation.robustness.courses] == ["contrast", "darker"]
    page = (run.path / "reports" / "test.html").read_text()
    assert "Where it breaks" in page
    assert json.loads((run.path / "reports" / "test.json").read_text())["robustness"]["n"] == evaluation.n
    assert evaluate(run).robustness is None
