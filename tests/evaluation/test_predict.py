"""Predictions for files: which are found, in which order, and that each answer is that of its own picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data.contract import PixelContract
from pellucid.data.decode import from_array
from pellucid.errors import DataError
from pellucid.evaluation.draw import as_image
from pellucid.evaluation.predict import Answer, Drawer, _chunks, find_pictures, predict_files, write_csv
from pellucid.model.classifier import Classifier, Prediction
from pellucid.model.zoo import Architecture, build

FASTNET = Architecture("fastnet", "fastnet-4")
PREDICTION = Prediction(("x", "y"), (0.75, 0.25))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    module = build(FASTNET, input_shape=(1, 8, 8), num_classes=3)
    with torch.no_grad():
        module.head.weight.mul_(20)  # answers that differ from picture to picture
    return Classifier(module, ("a", "b", "c"), PixelContract(height=8, width=8, channels=1), FASTNET)


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a picture file, each with other pixels, and returns its path."""
    rng = np.random.default_rng(0)

    def make(name: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 9), np.uint8)).save(file, "PNG")
        return file

    return make


def test_paths_come_in_the_order_given_and_folders_sorted(draw: Callable[[str], Path], tmp_path: Path) -> None:
    z, a, b = draw("z.png"), draw("photos/a.png"), draw("photos/deep/b.png")
    c = draw("photos/c.png")
    assert find_pictures([z, tmp_path / "photos"]) == [z, *sorted([a, b, c])]
    assert find_pictures([str(tmp_path / "photos"), str(z)]) == [*sorted([a, b, c]), z]


def test_nothing_comes_twice(draw: Callable[[str], Path], tmp_path: Path) -> None:
    a, b = draw("photos/a.png"), draw("photos/b.png")
    given = [b, tmp_path / "photos", a, tmp_path / "photos" / "*.png", f"{tmp_path}/photos/./b.png"]
    assert find_pictures(given) == [b, a]


def test_hidden_and_other_files_of_a_folder_are_passed_over(draw: Callable[[str], Path], tmp_path: Path) -> None:
    kept = [draw("photos/a.png"), draw("photos/no ending")]  # the second is known by its first bytes
    draw("photos/.hidden.png")
    draw("photos/.git/b.png")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    assert find_pictures([tmp_path / "photos"]) == kept


def test_a_glob(draw: Callable[[str], Path], tmp_path: Path) -> None:
    b, a, deep = draw("b.png"), draw("a.png"), draw("one/two/c.png")
    draw("d.jpg")
    assert find_pictures([tmp_path / "*.png"]) == [a, b]
    assert find_pictures([tmp_path / "**" / "*.png"]) == sorted([a, b, deep])


def test_a_glob_that_matches_folders_searches_them(draw: Callable[[str], Path], tmp_path: Path) -> None:
    a, b, c = draw("photos/one/a.png"), draw("photos/two/b.png"), draw("photos/c.png")
    assert set(find_pictures([f"{tmp_path}/photos/*"])) == {a, b, c}


def test_a_name_with_brackets_is_that_file(draw: Callable[[str], Path], tmp_path: Path) -> None:
    draw("a1.png")
    file = draw("a[1].png")
    assert find_pictures([file]) == [file]


def test_links_that_lead_back_end(draw: Callable[[str], Path], tmp_path: Path) -> None:
    file = draw("photos/deep/a.png")
    (tmp_path / "photos" / "deep" / "up").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "self").symlink_to(tmp_path / "photos" / "self")
    found = find_pictures([tmp_path / "photos"])
    assert [path for path in found if path.suffix == ".png"] == [file]


def test_what_names_nothing_is_told(draw: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture in the folder"):
        find_pictures([tmp_path / "empty"])
    for missing in ("none.png", "*.gif"):
        with pytest.raises(DataError, match="no file, folder or match"):
            find_pictures([draw("a.png"), tmp_path / missing])


def test_a_file_that_was_named_stays_and_says_what_it_is(
    classifier: Classifier, draw: Callable[[str], Path], tmp_path: Path
) -> None:
    text, broken = tmp_path / "notes.txt", tmp_path / "link.png"
    text.write_text("no picture at all")
    broken.symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty.png").touch()
    paths = find_pictures([text, draw("a.png"), broken, tmp_path / "empty.png"])
    answers = list(predict_files(classifier, paths))
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    assert [answer.prediction is None for answer in answers] == [True, False, True, True]
    assert [bool(answer.error) for answer in answers] == [True, False, True, True]
    assert "No such file" in str(answers[2].error)
    assert answers[3].error == "file is empty (0 bytes)"
    told = answers[3].to_dict(2)
    assert (told["path"], told["labels"], told["error"]) == (str(paths[3]), [], "file is empty (0 bytes)")


@pytest.mark.parametrize("count", [1, 7, 8, 40, 101])
def test_batches_are_whole_but_for_the_last_ones(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("pellucid.evaluation.predict.num_cpus", lambda: 2)
    chunks = _chunks([Path(str(i)) for i in range(count)], 8)
    assert [path for chunk in chunks for path in chunk] == [Path(str(i)) for i in range(count)]
    sizes = [len(chunk) for chunk in chunks]
    whole = max(0, count // 8 - 2)
    assert sizes[:whole] == [8] * whole
    assert all(0 < size <= 2 for size in sizes[whole:])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
def test_every_answer_is_that_of_its_own_picture(
    classifier: Classifier, draw: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int
) -> None:
    monkeypatch.setattr(type(classifier), "batch_size", 3)
    paths = [draw(f"{i}.png") for i in range(count)]
    if count > 2:
        paths[1].write_bytes(b"broken")  # what cannot be read must not shift the others
    progress: list[tuple[int, int]] = []
    told: list[str] = []
    answers = list(
        predict_files(
            classifier, paths, progress=lambda *n: progress.append(n), on_picture=lambda a, _: told.append(a.path)
        )
    )  # fmt: skip
    done = [n for n, _ in progress]
    assert done == sorted(set(done))
    assert progress[-1] == (count, count)
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    readable = [path for i, path in enumerate(paths) if i != 1 or count <= 2]
    assert told == [str(path) for path in readable]
    for answer, path in zip(answers, paths, strict=True):
        if path not in readable:
            assert answer.error
            continue
        alone = classifier.predict(path)
        assert answer.prediction is not None
        assert answer.prediction.labels == alone.labels
        assert answer.prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    if count == 7:  # negative control: pictures that were mixed up would be seen
        assert len({a.prediction.probabilities for a in answers if a.prediction}) == 6


def test_what_decoding_noted_is_told(classifier: Classifier, tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), level) for level in (0, 120, 240)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    moving, still = predict_files(classifier, [tmp_path / "moving.gif", tmp_path / "still.gif"])
    assert any("3 frames" in note for note in moving.to_dict(1)["notes"])
    assert still.to_dict(1)["notes"] == []
    assert moving.prediction is not None
    assert still.prediction is not None
    first = still.prediction.probabilities  # that of the first frame
    assert moving.prediction.probabilities == pytest.approx(first, abs=1e-6)


def test_a_line_for_a_person() -> None:
    assert Answer("a.png", PREDICTION, None, ("first of 3 frames used",)).line(2) == (
        "a.png: x 75.0%, y 25.0% (first of 3 frames used)"
    )
    assert Answer("a.png", PREDICTION, None).line(1) == "a.png: x 75.0%"
    assert Answer("b.png", None, "file is empty").line(2) == "b.png: ERROR file is empty"


def test_no_paths_no_answers(classifier: Classifier) -> None:
    assert list(predict_files(classifier, [])) == []


def test_a_chunk_of_nothing_but_broken_files(classifier: Classifier, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    answers = list(predict_files(classifier, paths))
    assert all("No such file" in str(answer.error) for answer in answers)


def test_the_table_comes_back_as_it_was(tmp_path: Path) -> None:
    names = ["new\nline.png", 'quote".png', "comma, and ünï.png", "\udcff.png", "-dash.png"]
    answers = [Answer(name, PREDICTION, None) for name in names] + [Answer("bad.png", None, "file is empty")]
    file = tmp_path / "new" / "a.csv"
    write_csv(file, answers, top=3)  # more than there are classes
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        header, *rows = list(csv.reader(handle))
    assert header == [
        "path",
        "label_1",
        "probability_1",
        "label_2",
        "probability_2",
        "label_3",
        "probability_3",
        "error",
    ]
    assert rows[:-1] == [[name, "x", "0.750000", "y", "0.250000", "", "", ""] for name in names]
    assert rows[-1] == ["bad.png", *[""] * 6, "file is empty"]


def test_the_table_holds_as_many_classes_as_asked(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [Answer("a.png", PREDICTION, None)], top=1)
    assert (tmp_path / "a.csv").read_bytes() == b"path,label_1,probability_1,error\r\na.png,x,0.750000,\r\n"


def test_drawn_pictures_never_collide_and_stay_in_their_folder(tmp_path: Path) -> None:
    paths = [
        "one/a.png", "two/a.png", "a.jpg", "A.png", "a-2.png", "three/a.png", "../../a.png", "..", ".", "/", "",
        "new\nline.png", "\x1b[2J.png", ".hidden.png", "x" * 300 + ".png", "x" * 300 + "y.png", "\udcff.png", "a b.png",
        "a/b\\c.png", "猫.png", "con:.png", "猫" * 82 + ".png",
    ]  # fmt: skip
    folder = tmp_path / "deep" / "drawn"
    drawer = Drawer(folder, top=2)
    picture = from_array(np.zeros((8, 8), np.uint8))
    for path in paths:
        drawer(Answer(path, PREDICTION, None), picture)
    drawn = list(folder.iterdir())
    assert len(drawn) == len(paths)
    assert len({file.name.lower() for file in drawn}) == len(paths)  # even where upper case makes no difference
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(file.name for file in drawn)
    for file in drawn:
        assert file.suffix == ".png"
        assert not file.name.startswith((".", "-"))
        assert file.name.isprintable()
        assert not set(file.name) & set('\\/:*?"<>| ')
        with Image.open(file) as image:
            image.verify()


@pytest.mark.parametrize(("channels", "mode", "shown"), [(1, "L", 1), (2, "L", 1), (3, "RGB", 3), (5, "RGB", 3)])
def test_a_picture_to_look_at(channels: int, mode: str, shown: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, channels), np.uint8)
    image = as_image(pixels)
    assert (image.mode, image.size) == (mode, (6, 4))
    assert np.array_equal(np.asarray(image).reshape(4, 6, shown), pixels[..., :shown])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_file_that_must_not_be_read(classifier: Classifier, draw: Callable[[str], Path]) -> None:
    file = draw("a.png")
    file.chmod(0)
    (answer,) = predict_files(classifier, [file])
    assert answer.error == "cannot be read: Permission denied"
