"""The manifest: every picture once, nothing that belongs together in two splits, and what is left out is told."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pellucid.config import DataConfig
from pellucid.data.dataset import Dataset, from_arrays, open_dataset
from pellucid.data.looks import Looks
from pellucid.data.manifest import LEAKED, SPLITS, UNREADABLE, USED, Manifest, make_manifest, restore_manifest
from pellucid.data.reopen import open_with, reopen
from pellucid.data.scan import Record, scan
from pellucid.errors import DataError, RunError, SplitError
from pellucid.run import Run

EIGHTY = {"train": 0.8, "validation": 0.1, "test": 0.1}


def data_of(
    labels: Sequence[str],
    *,
    pictures: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
) -> tuple[Dataset, list[Record]]:
    """A data set and its records: item i shows picture number `pictures[i]`, -1 for one that is unreadable."""
    numbers = range(len(labels)) if pictures is None else pictures
    data = from_arrays(np.zeros((len(labels), 1, 1), np.uint8), list(labels), groups=groups, splits=splits)
    records = [Record(sha256=f"file {n}", pixels=f"pixels {n}") if n >= 0 else Record(reason="broken") for n in numbers]
    return data, records


def split_of(manifest: Manifest) -> list[str]:
    """Of every row; "" where it is used in none."""
    found = [""] * len(manifest.rows)
    for split in SPLITS:
        for i in manifest.indices(split):
            assert found[i] == ""  # in one split at most
            found[i] = split
    return found


def linked_units(sizes: Sequence[int]) -> tuple[list[int], list[int], list[str]]:
    """Units of such sizes: (unit, picture, group) of every item. Within a unit item 0 shows the same picture as item 1,
    which is of one group with item 2, which shows the same picture as item 3, and so on: a chain, not one key."""
    unit, pictures, groups = [], [], []
    for u, size in enumerate(sizes):
        for j in range(size):
            unit.append(u)
            pictures.append(100 * u + j // 2)
            groups.append(f"group {u}-{(j + 1) // 2}")
    return unit, pictures, groups


# New splits


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=40, max_size=60), st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_duplicates_and_groups_never_straddle_new_splits(sizes: list[int], seed: int, broken: int) -> None:
    unit, pictures, groups = linked_units(sizes)
    labels = ["cat" if u % 2 else "dog" for u in unit]
    pictures[:broken] = [-1] * broken
    data, records = data_of(labels, pictures=pictures, groups=groups)
    manifest = make_manifest(data, records, seed=seed)
    splits = split_of(manifest)
    for key in (pictures, groups):
        for value in set(key) - {-1}:
            found = {split for split, k, n in zip(splits, key, pictures, strict=True) if k == value and n >= 0}
            assert len(found) <= 1
    assert [split == "" for split in splits] == [n == -1 for n in pictures]
    assert {"train", "validation", "test"} <= set(splits)


def test_chains_of_duplicates_and_groups_stay_together() -> None:
    unit, pictures, groups = linked_units([5] * 30)
    data, records = data_of(["cat" if u % 2 else "dog" for u in unit], pictures=pictures, groups=groups)
    splits = split_of(make_manifest(data, records))
    assert all(len({s for s, u in zip(splits, unit, strict=True) if u == k}) == 1 for k in range(30))
    alone, alone_records = data_of(["cat" if u % 2 else "dog" for u in unit])  # the negative control
    splits = split_of(make_manifest(alone, alone_records))
    assert any(len({s for s, u in zip(splits, unit, strict=True) if u == k}) > 1 for k in range(30))


def test_eighty_ten_ten_of_every_class_is_the_default() -> None:
    data, records = data_of(["cat"] * 100 + ["dog"] * 50)
    manifest = make_manifest(data, records)
    count = Counter((row.label, row.split) for row in manifest.rows)
    assert count == {
        ("cat", "train"): 80, ("cat", "validation"): 10, ("cat", "test"): 10,
        ("dog", "train"): 40, ("dog", "validation"): 5, ("dog", "test"): 5,
    }  # fmt: skip
    assert split_of(make_manifest(data, records, seed=0)) == split_of(manifest)
    assert split_of(make_manifest(data, records, seed=1)) != split_of(manifest)


def test_every_item_stands_in_the_rows_once_and_in_order() -> None:
    pictures = [0, 0, -1, *range(1, 58)]
    data, records = data_of(["cat", "dog"] * 30, pictures=pictures)
    rows = make_manifest(data, records).rows
    assert [row.path for row in rows] == [item.path for item in data.items] == [f"{i:05}" for i in range(60)]
    assert [row.label for row in rows] == ["cat", "dog"] * 30
    assert [row.sha256 for row in rows] == ["" if n < 0 else f"file {n}" for n in pictures]
    assert rows[2].status == UNREADABLE and rows[2].reason == "broken"


def test_counts_by_status_add_up() -> None:
    """Train, validation and test of two classes; one unreadable, picture 0 in train and in test."""
    splits = ["train"] * 10 + ["validation"] * 4 + ["test"] * 4
    data, records = data_of(["cat", "dog"] * 9, pictures=[0, *range(1, 9), -1, *range(10, 16), 0, 17], splits=splits)
    manifest = make_manifest(data, records)
    assert [manifest.count(status) for status in (USED, UNREADABLE, LEAKED)] == [16, 1, 1]
    assert [len(manifest.indices(split)) for split in SPLITS] == [8, 4, 4]


def test_one_class_or_none_is_refused() -> None:
    data, records = data_of(["cat"] * 20)
    with pytest.raises(DataError, match="only the class 'cat'; a classifier needs at least two"):
        make_manifest(data, records)
    data, records = data_of(["cat", "dog"] * 10, pictures=[0, -1] * 10)  # all dogs are unreadable
    with pytest.raises(DataError, match="only the class 'cat'"):
        make_manifest(data, records)
    data, records = data_of(["cat", "dog"], pictures=[-1, -1])
    with pytest.raises(DataError, match="no readable labelled picture"):
        make_manifest(data, records)


# Given splits


def test_given_splits_are_kept() -> None:
    splits = ["train"] * 11 + ["validation"] * 5 + ["test"] * 14
    data, records = data_of(["cat", "dog"] * 15, splits=splits)
    manifest = make_manifest(data, records)
    assert split_of(manifest) == splits
    assert manifest.notes == ()


def test_fractions_override_given_splits() -> None:
    data, records = data_of(["cat", "dog"] * 50, splits=["train"] * 50 + ["test"] * 50)
    manifest = make_manifest(data, records, fractions={"train": 0.6, "validation": 0.2, "test": 0.2})
    assert Counter(split_of(manifest)) == {"train": 60, "validation": 20, "test": 20}
    without, same_records = data_of(["cat", "dog"] * 50)
    same = make_manifest(without, same_records, fractions={"train": 0.6, "validation": 0.2, "test": 0.2})
    assert split_of(same) == split_of(manifest)


def test_validation_is_a_tenth_of_the_training_part_only() -> None:
    splits = ["train"] * 100 + ["test"] * 30
    data, records = data_of(["cat", "dog"] * 65, splits=splits)
    manifest = make_manifest(data, records)
    found = split_of(manifest)
    assert found[100:] == ["test"] * 30
    assert Counter(zip(found[:100], ["cat", "dog"] * 50, strict=True)) == {
        ("train", "cat"): 45, ("train", "dog"): 45, ("validation", "cat"): 5, ("validation", "dog"): 5,
    }  # fmt: skip
    assert any("a tenth of the training part" in note for note in manifest.notes)


@pytest.mark.parametrize("seed", range(5))
def test_validation_that_is_set_aside_tears_nothing_apart(seed: int) -> None:
    unit, pictures, groups = linked_units([4] * 30)
    labels = ["cat" if u % 2 else "dog" for u in unit]
    splits = ["train" if u < 24 else "test" for u in unit]
    data, records = data_of(labels, pictures=pictures, groups=groups, splits=splits)
    found = split_of(make_manifest(data, records, seed=seed))
    assert all(len({s for s, u in zip(found, unit, strict=True) if u == k}) == 1 for k in range(30))
    assert set(found[:96]) == {"train", "validation"}
    assert set(found[96:]) == {"test"}


def test_without_test_pictures_the_user_is_told() -> None:
    data, records = data_of(["cat", "dog"] * 10, splits=["train"] * 14 + ["validation"] * 6)
    manifest = make_manifest(data, records)
    assert len(manifest.indices("test")) == 0
    assert any("no test pictures" in note for note in manifest.notes)


def test_the_earlier_copy_of_a_leak_is_taken_out_and_the_later_stays() -> None:
    """Picture 0 in train and test, 1 in validation and test, 2 in train and validation, 3 in all three, 4 twice in train."""
    first = ["train"] * 5 + ["validation"] * 3 + ["test"] * 3
    pictures = [0, 2, 3, 4, 4, 1, 2, 3, 0, 1, 3, *range(10, 34)]
    splits = first + ["train", "validation", "test"] * 8
    labels = ["cat", "dog"] * 17 + ["cat"]
    manifest = make_manifest(*data_of(labels, pictures=pictures, splits=splits))
    assert [row.status == LEAKED for row in manifest.rows] == [
        True, True, True, False, False, True, False, True, False, False, False, *[False] * 24,
    ]  # fmt: skip
    reasons = {i: row.reason for i, row in enumerate(manifest.rows) if row.reason}
    assert reasons == {
        0: "same pixels as 00008 (test)",
        1: "same pixels as 00006 (validation)",
        2: "same pixels as 00010 (test)",
        5: "same pixels as 00009 (test)",
        7: "same pixels as 00010 (test)",
    }
    assert split_of(manifest) == ["" if i in reasons else split for i, split in enumerate(splits)]
    assert [row.split for row in manifest.rows] == splits  # where it was stays readable
    assert any(note.startswith("5 pictures left out") for note in manifest.notes)


def test_unreadable_pictures_are_no_duplicates_of_each_other() -> None:
    splits = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    pictures = [-1, *range(1, 19), -1]
    manifest = make_manifest(*data_of(["cat", "dog"] * 10, pictures=pictures, splits=splits))
    assert (manifest.count(UNREADABLE), manifest.count(LEAKED)) == (2, 0)


def test_unreadable_pictures_do_not_join_their_groups() -> None:
    """Twenty groups with one broken picture each; joined by these they would be one, and could not be split."""
    groups = [f"group {k}" for k in range(20) for _ in range(5)]
    labels = ["cat", "dog", "cat", "dog", "cat"] * 20
    pictures = [-1 if i % 5 == 0 else i for i in range(100)]
    assert set(split_of(make_manifest(*data_of(labels, pictures=pictures, groups=groups)))) == {"", *SPLITS}


def test_a_leaked_picture_is_not_set_aside_for_validation() -> None:
    pictures = [*range(40), *range(20), *range(40, 60)]
    splits = ["train"] * 40 + ["test"] * 40
    manifest = make_manifest(*data_of(["cat", "dog"] * 40, pictures=pictures, splits=splits))
    assert {row.split for row in manifest.rows if row.status == LEAKED} == {"train"}
    assert [len(manifest.indices(split)) for split in SPLITS] == [18, 2, 40]


def test_groups_in_two_given_splits_are_refused_by_name() -> None:
    labels, splits = ["cat", "dog"] * 10, ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    groups = [""] * 20
    groups[0] = groups[1] = "anna"  # both in train: sound
    groups[2] = groups[19] = "bert"
    groups[3] = groups[13] = "carl"
    data, records = data_of(labels, groups=groups, splits=splits)
    with pytest.raises(SplitError, match=r"2 of 3 groups .*'bert', 'carl'.*--split 80/10/10") as caught:
        make_manifest(data, records)
    assert "anna" not in str(caught.value)
    make_manifest(data, records, fractions=EIGHTY)  # as the message advises


def test_an_unreadable_picture_does_not_make_its_group_straddle() -> None:
    groups = [""] * 20
    groups[2] = groups[19] = "bert"
    splits = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    pictures = [*range(19), -1]
    make_manifest(*data_of(["cat", "dog"] * 10, pictures=pictures, groups=groups, splits=splits))
    with pytest.raises(SplitError):
        make_manifest(*data_of(["cat", "dog"] * 10, groups=groups, splits=splits))


def test_splits_for_some_pictures_only_are_refused() -> None:
    splits = ["train"] * 12 + ["test"] * 5 + [""] * 3
    data, records = data_of(["cat", "dog"] * 10, splits=splits)
    with pytest.raises(SplitError, match="3 pictures of 'arrays' have no split"):
        make_manifest(data, records)


def test_splits_without_a_training_part_are_refused() -> None:
    data, records = data_of(["cat", "dog"] * 10, splits=["test"] * 20)
    with pytest.raises(SplitError, match="usable pictures of 0 classes: none"):
        make_manifest(data, records)


# Near duplicates


def scenes(copies: dict[int, list[int]], total: int) -> list[Record]:
    """Records of `total` pictures; each number in `copies` is followed by others that show the same in a darker picture."""
    rng = np.random.default_rng(0)
    shown = {i: rng.integers(50, 256, (8, 8)).repeat(4, 0).repeat(4, 1) for i in range(total)}
    for original, others in copies.items():
        shown |= dict.fromkeys(others, shown[original] * 0.8)
    looks = [Looks(thumbnail=shown[i].astype(np.uint8).tobytes()) for i in range(total)]
    return [
        Record(sha256=f"{i}", pixels=f"{i}", height=64, width=64, channels=1, looks=look)
        for i, look in enumerate(looks)
    ]


def test_near_duplicates_stay_together_in_new_splits_unless_told_otherwise() -> None:
    data, _ = data_of(["cat", "dog"] * 30)
    copies = {i: [i + 20, i + 40] for i in range(20)}  # of one class each, since 20 and 40 are even
    records = scenes(copies, 60)
    together = split_of(make_manifest(data, records))
    assert all(together[i] == together[i + 20] == together[i + 40] for i in range(20))
    assert any("20 sets of nearly the same picture" in note for note in make_manifest(data, records).notes)
    apart = split_of(make_manifest(data, records, near=False))  # the negative control
    assert not all(apart[i] == apart[i + 20] == apart[i + 40] for i in range(20))


def test_near_duplicates_stay_together_where_only_validation_is_made_and_given_splits_stay() -> None:
    splits = ["train"] * 40 + ["test"] * 20
    data, _ = data_of(["cat", "dog"] * 30, splits=splits)
    manifest = make_manifest(data, scenes({i: [i + 20, i + 40] for i in range(20)}, 60))
    found = split_of(manifest)
    assert all(found[i] == found[i + 20] for i in range(20))
    assert set(found[:40]) == {"train", "validation"}
    assert found[40:] == ["test"] * 20
    assert manifest.count(LEAKED) == 0


# Fingerprint


def test_the_fingerprint_tells_what_decides_a_training() -> None:
    data, records = data_of(["cat", "dog"] * 20)
    manifest = make_manifest(data, records)
    same = make_manifest(*data_of(["cat", "dog"] * 20))
    assert manifest.fingerprint() == same.fingerprint()
    reordered = make_manifest(data, records, fractions={"test": 0.1, "validation": 0.1, "train": 0.8})
    assert manifest.fingerprint() == reordered.fingerprint()
    seen = {manifest.fingerprint()}
    for change in ({"path": "x"}, {"label": "cow"}, {"split": "other"}, {"status": LEAKED}, {"sha256": "0"}):
        rows = (dataclasses.replace(manifest.rows[0], **change), *manifest.rows[1:])
        seen.add(Manifest(rows, ()).fingerprint())
    assert len(seen) == 6
    assert make_manifest(data, records, seed=1).fingerprint() not in seen


def test_the_fingerprint_keeps_fields_apart() -> None:
    """'ab' + 'c' and 'a' + 'bc' are different rows."""
    row = make_manifest(*data_of(["cat", "dog"] * 20)).rows[0]
    one, two = (dataclasses.replace(row, path=path, label=label) for path, label in (("ab", "c"), ("a", "bc")))
    assert Manifest((one,), ()).fingerprint() != Manifest((two,), ()).fingerprint()


def test_times_of_files_do_not_change_the_fingerprint_but_their_content_does(photos: Path) -> None:
    data = open_dataset(photos)
    before = make_manifest(data, scan(data)).fingerprint()
    for file in photos.rglob("*.png"):
        file.write_bytes(file.read_bytes())
    assert make_manifest(data, scan(data)).fingerprint() == before
    Image.new("L", (8, 8), 77).save(photos / "a" / "0.png")
    assert make_manifest(data, scan(data)).fingerprint() != before


# A run's manifest, read again


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty random pictures in two classes; one is unreadable, two are the same; a comma and a quote in a name."""
    rng = np.random.default_rng(0)
    for i in range(40):
        file = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    folder = tmp_path / "photos"
    (folder / "a" / "38.png").write_bytes(b"")
    (folder / "b" / "39.png").write_bytes((folder / "b" / "37.png").read_bytes())
    (folder / "a" / "36.png").rename(folder / "a" / 'one, "two".png')
    return folder


def test_a_manifest_comes_back_from_the_run_folder(photos: Path, tmp_path: Path) -> None:
    data = open_dataset(photos)
    manifest = make_manifest(data, scan(data), seed=5)
    run = Run(tmp_path)
    run.write_manifest(manifest.to_rows())
    again = open_dataset(photos)
    restored = restore_manifest(run.read_manifest(), again, scan(again))
    assert restored.rows == manifest.rows
    assert restored.fingerprint() == manifest.fingerprint()
    for split in SPLITS:
        assert restored.indices(split).tolist() == manifest.indices(split).tolist()


def test_rows_in_another_order_are_restored_in_that_of_the_items(photos: Path) -> None:
    data = open_dataset(photos)
    manifest = make_manifest(data, scan(data))
    assert restore_manifest(manifest.to_rows()[::-1], data, scan(data)).rows == manifest.rows


@pytest.mark.parametrize("change", ["missing", "new", "changed", "broken", "repaired", "renamed"])
def test_a_data_set_that_is_not_what_it_was_is_refused(photos: Path, change: str) -> None:
    data = open_dataset(photos)
    rows = make_manifest(data, scan(data)).to_rows()
    file = photos / "a" / "0.png"
    named, count = "a/0.png", 1
    if change == "missing":
        file.unlink()
    elif change == "new":
        named = "b/new.png"
        (photos / named).write_bytes(file.read_bytes())
    elif change == "changed":
        Image.new("L", (8, 8), 3).save(file)
    elif change == "broken":
        file.write_bytes(b"")
    elif change == "repaired":
        named = "a/38.png"
        (photos / named).write_bytes(file.read_bytes())
    else:
        file.rename(photos / "a" / "zero.png")
        count = 2
    again = open_dataset(photos)
    with pytest.raises(RunError, match=rf"{count} of 40 are missing, new or changed, for example '{named}'"):
        restore_manifest(rows, again, scan(again))


# Opened again


def test_a_run_opens_its_data_set_with_its_options(photos: Path) -> None:
    rows = [f"{k}.png,{'even' if k % 4 == 0 else 'odd'},{'x' if k < 20 else 'y'}" for k in range(0, 34, 2)]
    table = photos.parent / "table.csv"
    table.write_text("\n".join(["which,kind,who", *rows]))
    config = DataConfig(path_column="which", label_column="kind", group="who", root=str(photos / "a"))
    content = {"kind": "table", "source": str(table), "config": {"data": dataclasses.asdict(config)}}
    data = reopen(content)
    assert data.classes == ("even", "odd")
    assert {item.group for item in data.items} == {"x", "y"}
    assert data.items == open_with(str(table), config).items
    assert all(record.reason is None for record in scan(data))


def test_arrays_cannot_be_opened_again() -> None:
    with pytest.raises(RunError, match="arrays in memory, which are not stored"):
        reopen({"kind": "arrays", "source": "arrays", "config": {"data": {}}})


def test_validation_that_leaks_away_is_set_aside_anew() -> None:
    """All validation pictures repeat test pictures: a tenth of the training part takes their place, and it is told."""
    splits = ["train"] * 40 + ["validation"] * 4 + ["test"] * 4
    manifest = make_manifest(
        *data_of(["cat", "dog"] * 24, pictures=[*range(40), *range(44, 48), *range(44, 48)], splits=splits)
    )
    assert manifest.count(LEAKED) == 4
    assert len(manifest.indices("validation")) == 4
    assert set(manifest.indices("validation")) < set(range(40))
    assert any("a tenth of the training part" in note for note in manifest.notes)


def test_a_training_part_that_leaks_away_is_refused() -> None:
    splits = ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    with pytest.raises(SplitError, match="usable pictures of 0 classes"):
        make_manifest(*data_of(["cat", "dog"] * 6, pictures=[8, 9, 10, 11, *range(4, 8), *range(8, 12)], splits=splits))


def test_a_changed_label_is_another_picture() -> None:
    data, records = data_of(["cat", "dog"] * 20)
    rows = make_manifest(data, records).to_rows()
    restore_manifest(rows, data, records)
    rows[3]["label"] = "cat"
    with pytest.raises(RunError, match=r"1 of 40 are missing, new or changed"):
        restore_manifest(rows, data, records)


def test_a_manifest_with_other_columns_is_damaged() -> None:
    data, records = data_of(["cat", "dog"] * 20)
    rows = [{"path": row["path"]} for row in make_manifest(data, records).to_rows()]
    with pytest.raises(RunError, match="damaged"):
        restore_manifest(rows, data, records)
