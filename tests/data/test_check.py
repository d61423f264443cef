"""Checking: what is planted is found, by name, and nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pellucid.data.check import check, sample_pictures
from pellucid.data.dataset import Dataset, from_arrays, open_dataset


def save(file: Path, pixels: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (8, 8), dtype=np.uint8)


def scene(seed: int, height: int = 80, width: int = 100) -> np.ndarray:
    """uint8 (80, 100): clouds whose amplitudes fall with the frequency, as those of photographs do."""
    rng = np.random.default_rng(seed)
    clouds = sum(sigma * gaussian_filter(rng.standard_normal((height, width)), sigma) for sigma in (1, 2, 4, 8, 16))
    return (127 + 50 * (clouds - clouds.mean()) / clouds.std()).clip(0, 255).astype(np.uint8)


def grown(root: Path, **counts: int) -> Path:
    """A folder of different random pictures, so many a class; their numbers go on from class to class."""
    seed = 0
    for label, count in counts.items():
        for _ in range(count):
            save(root / label / f"{seed:03}.png", noise(seed))
            seed += 1
    return root


def table(root: Path, *rows: tuple[str, int, str, str, str]) -> Dataset:
    """A data set of rows (name, seed of its picture, label, split, group)."""
    for name, seed, *_ in rows:
        save(root / name, noise(seed))
    lines = [",".join((name, *rest)) for name, _, *rest in rows]
    (root / "table.csv").write_text("\n".join(["path,label,split,group", *lines]) + "\n")
    return open_dataset(root / "table.csv")


def as_sets(clusters: object) -> set[frozenset[object]]:
    return {frozenset(cluster) for cluster in clusters}  # type: ignore[attr-defined]


def test_a_sound_data_set_has_no_problems(tmp_path: Path) -> None:
    found = check(open_dataset(grown(tmp_path, cat=20, dog=25)))
    assert found.problems == 0
    assert (found.pictures, found.classes) == (45, {"cat": 20, "dog": 25})
    assert (found.duplicates, found.conflicts, found.leaks, found.unreadable, found.tiny) == ((), (), (), (), ())
    assert "Nothing to mend was found." in str(found)


def test_duplicates_are_found_across_encodings_and_folders(tmp_path: Path) -> None:
    grown(tmp_path, cat=20, dog=20)
    save(tmp_path / "cat" / "twin.bmp", noise(3))
    save(tmp_path / "cat" / "triplet.png", noise(3))
    save(tmp_path / "dog" / "copy.tiff", noise(25))
    save(tmp_path / "dog" / "nearly.png", noise(30) ^ np.eye(8, dtype=np.uint8))  # no duplicate
    found = check(open_dataset(tmp_path))
    assert as_sets(found.duplicates) == {
        frozenset({"cat/003.png", "cat/twin.bmp", "cat/triplet.png"}),
        frozenset({"dog/025.png", "dog/copy.tiff"}),
    }
    assert found.conflicts == found.leaks == ()
    assert found.problems == 2


def test_the_same_picture_under_two_classes_is_a_conflict(tmp_path: Path) -> None:
    grown(tmp_path, cat=20, dog=20)
    save(tmp_path / "dog" / "really a cat.png", noise(7))
    found = check(open_dataset(tmp_path))
    assert as_sets(found.conflicts) == {frozenset({("cat/007.png", "cat"), ("dog/really a cat.png", "dog")})}
    assert found.duplicates == (("cat/007.png", "dog/really a cat.png"),)


def test_the_same_picture_in_two_splits_is_a_leak_and_in_one_is_none(tmp_path: Path) -> None:
    grown(tmp_path / "train", cat=20, dog=20)
    for k, label in enumerate(["cat", "dog"]):
        for seed in range(100, 120):
            save(tmp_path / "test" / label / f"{seed}.png", noise(1000 * k + seed))
    save(tmp_path / "test" / "cat" / "seen.png", noise(5))
    save(tmp_path / "train" / "dog" / "twice.png", noise(21))
    found = check(open_dataset(tmp_path))
    assert found.splits == {"train": 41, "test": 41}
    assert as_sets(found.leaks) == {frozenset({("train/cat/005.png", "train"), ("test/cat/seen.png", "test")})}
    assert len(found.duplicates) == 2


def test_groups_in_two_splits_are_named(tmp_path: Path) -> None:
    data = table(
        tmp_path,
        ("a.png", 0, "cat", "train", "anna"), ("b.png", 1, "dog", "test", "anna"),
        ("c.png", 2, "cat", "train", "bert"), ("d.png", 3, "dog", "train", "bert"),
        ("e.png", 4, "cat", "test", ""), ("f.png", 5, "dog", "train", ""),
        ("g.png", 6, "cat", "train", "carl"), ("h.png", 7, "dog", "", "carl"),
    )  # fmt: skip
    found = check(data)
    assert found.leaking_groups == ("anna",)
    assert found.leaks == ()


def test_a_group_whose_other_pictures_are_unreadable_does_not_leak(tmp_path: Path) -> None:
    rows = [("a.png", 0, "cat", "train", "anna"), ("b.png", 1, "dog", "test", "anna"), ("c.png", 2, "dog", "train", "")]
    data = table(tmp_path, *rows)
    assert check(data).leaking_groups == ("anna",)
    (tmp_path / "b.png").write_bytes(b"")
    assert check(data).leaking_groups == ()


def test_unreadable_pictures_are_named_and_counted_nowhere_else(tmp_path: Path) -> None:
    grown(tmp_path, cat=21, dog=20)
    (tmp_path / "cat" / "000.png").write_bytes(b"")
    (tmp_path / "cat" / "empty too.png").write_bytes(b"")
    found = check(open_dataset(tmp_path))
    reason = "file is empty (0 bytes)"
    assert found.unreadable == (("cat/000.png", reason), ("cat/empty too.png", reason))
    assert (found.pictures, found.classes) == (40, {"cat": 20, "dog": 20})
    assert found.duplicates == ()  # two empty files are not the same picture
    assert found.problems == 2
    assert f"cat/000.png: {reason}" in str(found)


def test_a_class_is_tiny_below_twenty_readable_pictures(tmp_path: Path) -> None:
    grown(tmp_path, large=21, enough=20, small=19, damaged=20)
    (tmp_path / "damaged" / "060.png").write_bytes(b"")
    found = check(open_dataset(tmp_path))
    assert found.tiny == ("damaged", "small")
    assert found.classes == {"damaged": 19, "enough": 20, "large": 21, "small": 19}


def test_nothing_readable_is_told_without_failing(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(b"")
    found = check(open_dataset(tmp_path))
    assert (found.pictures, found.sizes, found.crop, len(found.unreadable)) == (0, {}, {}, 2)
    assert json.loads(json.dumps(found.to_dict()))["images"] == 0
    assert "0 readable pictures" in str(found)


def test_near_duplicates_are_told_apart_from_exact_ones(tmp_path: Path) -> None:
    """Scene 0 twice and smaller, all under one class; scene 1 in train and, brighter, in test; scene 2 under two classes."""
    for i in range(22):
        save(tmp_path / "train" / "cat" / f"{i:02}.png", scene(i))
        save(tmp_path / "train" / "dog" / f"{50 + i}.png", scene(50 + i))
        save(tmp_path / "test" / "cat" / f"{100 + i}.png", scene(100 + i))
        save(tmp_path / "test" / "dog" / f"{150 + i}.png", scene(150 + i))
    save(tmp_path / "train" / "cat" / "copy.png", scene(0))
    Image.fromarray(scene(0)).resize((50, 40)).save(tmp_path / "train" / "cat" / "small.png")
    save(tmp_path / "test" / "cat" / "bright.png", np.minimum(scene(1) * 1.2, 255).astype(np.uint8))
    Image.fromarray(scene(2)).save(tmp_path / "train" / "dog" / "again.jpg", quality=60)
    found = check(open_dataset(tmp_path))
    assert found.duplicates == (("train/cat/00.png", "train/cat/copy.png"),)
    assert as_sets(found.near) == {
        frozenset({"train/cat/00.png", "train/cat/copy.png", "train/cat/small.png"}),
        frozenset({"train/cat/01.png", "test/cat/bright.png"}),
        frozenset({"train/cat/02.png", "train/dog/again.jpg"}),
    }
    assert as_sets(found.near_leaks) == {frozenset({("test/cat/bright.png", "test"), ("train/cat/01.png", "train")})}
    assert as_sets(found.near_conflicts) == {frozenset({("train/cat/02.png", "cat"), ("train/dog/again.jpg", "dog")})}
    assert found.conflicts == found.leaks == ()
    assert (
        found.mendable == 3
    )  # the copy, the leak and the conflict; a smaller one in the same split and class does no harm
    content = found.to_dict()
    assert content["duplicates"]["near"] == [list(cluster) for cluster in found.near]
    assert len(content["leaks"]) == len(content["conflicts"]) == 1
    without = check(open_dataset(tmp_path), near=False)
    assert without.near == without.near_leaks == without.near_conflicts == ()
    assert without.duplicates == found.duplicates


# Sizes, and what a crop would hide


def test_sizes_are_height_before_width(tmp_path: Path) -> None:
    for i, (height, width) in enumerate([(10, 40), (10, 40), (30, 20), (50, 60), (20, 21)]):
        save(tmp_path / "ab"[i % 2] / f"{i}.png", noise(i, height, width) if i else noise(i, height, width, 3))
    assert check(open_dataset(tmp_path)).sizes == {
        "smallest": [10, 20],
        "median": [20, 40],
        "largest": [50, 60],
        "most_frequent": {"size": [10, 40], "n": 2},
        "channels": {"1": 4, "3": 1},
    }


def test_the_share_that_a_crop_hides(tmp_path: Path) -> None:
    """The largest square in 10 x 40 pixels has 100 of 400: 3/4 hidden; in 20 x 25: 400 of 500, 1/5, which is not more
    than a fifth; in 30 x 20: 400 of 600, 1/3; in 16 x 16: none."""
    sizes = {"a/wide.png": (10, 40), "a/nearly.png": (20, 25), "b/tall.png": (30, 20), "b/square.png": (16, 16)}
    for path, size in sizes.items():
        save(tmp_path / path, noise(0, *size))
    found = check(open_dataset(tmp_path))
    assert found.crop["mean"] == pytest.approx((3 / 4 + 1 / 5 + 1 / 3) / 4)
    assert found.crop["pictures_over_20_percent"] == 2
    assert found.crop["worst"]["path"] == "a/wide.png"
    assert found.crop["worst"]["hidden"] == pytest.approx(3 / 4)
    assert "75% of 'a/wide.png'" in str(found)


def test_a_crop_is_judged_by_the_proportions_of_the_given_size(tmp_path: Path) -> None:
    """For 1:2 the picture of 10 x 40 shows 10 x 20, a half; that of 20 x 20 shows 10 x 20, a half as well."""
    save(tmp_path / "a" / "wide.png", noise(0, 10, 40))
    save(tmp_path / "b" / "square.png", noise(0, 20, 20))
    found = check(open_dataset(tmp_path), size=(64, 128)).crop
    assert found["mean"] == pytest.approx(0.5)
    assert found["pictures_over_20_percent"] == 2


def test_pictures_of_one_shape_are_not_warned_of_a_crop(tmp_path: Path) -> None:
    found = check(open_dataset(grown(tmp_path, cat=2, dog=2)))
    assert found.crop["mean"] == 0
    assert "crop" not in str(found)


# Telling


def test_what_decoding_noted_is_counted(tmp_path: Path) -> None:
    grown(tmp_path, cat=3, dog=3)
    for i in range(2):
        save(tmp_path / "cat" / f"clear{i}.png", noise(50 + i, 4, 4, 4))
    save(tmp_path / "dog" / "deep.png", noise(60).astype(np.uint16) * 257)
    assert check(open_dataset(tmp_path)).remarks == {"transparent: laid on white": 2, "16-bit scaled to 8-bit": 1}


def test_everything_goes_through_json_unchanged(tmp_path: Path) -> None:
    data = table(
        tmp_path,
        ("a.png", 0, "cat", "train", "anna"), ("b.png", 0, "dog", "test", "anna"), ("c.png", 2, "dog", "train", ""),
    )  # fmt: skip
    (tmp_path / "c.png").write_bytes(b"")
    content = json.loads(json.dumps(check(data).to_dict(), allow_nan=False))
    assert (content["images"], content["classes"], content["splits"]) == (
        2,
        {"cat": 1, "dog": 1},
        {"train": 1, "test": 1},
    )
    assert content["unreadable"] == [{"path": "c.png", "reason": "file is empty (0 bytes)"}]
    assert content["duplicates"] == {"exact": [["a.png", "b.png"]], "near": []}
    assert content["conflicts"] == [[{"path": "a.png", "label": "cat"}, {"path": "b.png", "label": "dog"}]]
    assert content["leaks"] == [[{"path": "a.png", "split": "train"}, {"path": "b.png", "split": "test"}]]
    assert content["leaking_groups"] == ["anna"]
    assert content["tiny_classes"] == ["cat", "dog"]


def test_long_lists_are_cut_in_the_text_but_not_in_the_data(tmp_path: Path) -> None:
    grown(tmp_path, cat=30, dog=30)
    for i in range(25):
        (tmp_path / "cat" / f"{i:03}.png").write_bytes(b"")
    found = check(open_dataset(tmp_path))
    assert len(found.to_dict()["unreadable"]) == 25
    assert len(re.findall("file is empty", str(found))) == 10
    assert "... and 15 more" in str(found)


def test_names_of_files_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """ESC and BEL in a file name would color the screen or change the title of the window."""
    evil = "\x1b[31mred\x07\x9b2J.png"
    try:
        save(tmp_path / "cat" / evil, noise(0))
        save(tmp_path / "dog" / evil, noise(0))
        (tmp_path / "dog" / f"broken{evil}").write_bytes(b"\x1b[2J")
        (tmp_path / "dog" / f"{evil}.txt").write_bytes(b"")
    except OSError:
        pytest.skip("this file system refuses such names")
    found = check(open_dataset(tmp_path))
    assert (len(found.conflicts), len(found.unreadable)) == (1, 1)
    assert all(line.isprintable() for line in str(found).split("\n"))
    assert r"\x1b[31mred" in str(found)
    assert found.unreadable[0][0] == f"dog/broken{evil}"  # the data keep the name


# Samples


def test_samples_are_readable_pictures_of_their_class_and_the_same_each_time(tmp_path: Path) -> None:
    for k, label in enumerate("abc"):
        for i in range(12):
            save(tmp_path / label / f"{i}.png", np.full((2, 2), 50 * k + i, np.uint8))
    for i in range(9):
        (tmp_path / "b" / f"{i}.png").write_bytes(b"")
    data = open_dataset(tmp_path)

    def draw(seed: int) -> list[tuple[str, list[int]]]:
        rows = sample_pictures(data, per_class=4, seed=seed, picture=lambda pixels: Image.fromarray(pixels[..., 0]))
        return [(title, [picture.getpixel((0, 0)) for picture in pictures]) for title, pictures in rows]  # type: ignore[misc]

    rows = draw(0)
    assert [title for title, _ in rows] == ["a (12)", "b (12)", "c (12)"]
    levels = [levels for _, levels in rows]
    assert [len(set(row)) for row in levels] == [4, 3, 4]  # without repetition, and only 3 are left of b
    assert set(levels[0]) <= set(range(12)) and set(levels[2]) <= set(range(100, 112))
    assert set(levels[1]) == {59, 60, 61}
    assert draw(0) == rows
    assert draw(1) != rows


def test_arrays_are_checked_as_files_are(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images = np.concatenate([digits[0][:60], digits[0][:1]])
    found = check(from_arrays(images, [*digits[1][:60].tolist(), int(digits[1][0])]))
    assert found.duplicates == (("00000", "00060"),)
    assert found.pictures == 61


def test_a_missing_split_is_no_other_side(tmp_path: Path) -> None:
    data = table(tmp_path, ("a.png", 1, "x", "train", ""), ("b.png", 1, "x", "", ""), ("c.png", 2, "y", "test", ""))
    found = check(data)
    assert found.duplicates == (("a.png", "b.png"),)
    assert found.leaks == ()


def test_hostile_class_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    found = check(open_dataset(grown(tmp_path, **{"ev\x1b[31mil\n": 2, "good": 2})))
    assert "\x1b" not in str(found)
    assert r"ev\x1b[31mil\n" in str(found)


def test_channels_that_no_network_takes_in_together_are_a_problem(tmp_path: Path) -> None:
    grown(tmp_path, cat=20, dog=20)
    save(tmp_path / "cat" / "color.png", noise(99, 8, 8, 3))
    assert check(open_dataset(tmp_path)).problems == 0  # grey becomes color
    np.save(tmp_path / "dog" / "five.npy", noise(98, 8, 8, 5))
    found = check(open_dataset(tmp_path))
    assert found.problems == 1
    assert found.sizes["channels"] == {"1": 40, "3": 1, "5": 1}
    assert "channels: 1 (40 pictures), 3 (1 picture), 5 (1 picture); only 1 and 3" in str(found)
