"""Splits: every class has its share, what belongs together stays so, and the order plays no role."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from pellucid.data.split import describe_splits, find_straddling, make_splits, united
from pellucid.errors import SplitError

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def counts(labels: np.ndarray, splits: np.ndarray) -> dict[str, list[int]]:
    """Pictures of every class in every split."""
    return {name: np.bincount(labels[splits == name], minlength=labels.max() + 1).tolist() for name in FRACTIONS}


@st.composite
def unit_sizes_and_classes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and units, shuffled: 40 to 80 units of 1 to 20 pictures, of one class each or mixed."""
    sizes = draw(st.lists(st.integers(1, 20), min_size=40, max_size=80))
    num_classes = draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    units = np.repeat(rng.permutation(len(sizes)), sizes)
    if draw(st.booleans()):
        labels = units % num_classes
    else:
        labels = rng.integers(0, num_classes, len(units))
        labels[:num_classes] = np.arange(num_classes)
    shuffled = rng.permutation(len(units))
    return labels[shuffled], units[shuffled]


def test_single_pictures_are_split_to_exact_counts() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 30])
    splits = make_splits(labels, np.arange(180), fractions=FRACTIONS, seed=0)
    assert counts(labels, splits) == {"train": [80, 40, 24], "validation": [10, 5, 3], "test": [10, 5, 3]}


def test_eighty_ten_ten_is_the_default() -> None:
    labels = np.repeat([0, 1], 50)
    splits = make_splits(labels, np.arange(100), seed=3)
    assert counts(labels, splits) == {"train": [40, 40], "validation": [5, 5], "test": [5, 5]}


def test_rounding_errors_of_many_classes_cancel() -> None:
    """1,000 classes of 12 pictures want 8.4, 2.4 and 1.2: together 8,400, not 8,000 or 9,000, and so on."""
    labels = np.repeat(np.arange(1000), 12)
    fractions = {"train": 0.7, "validation": 0.2, "test": 0.1}
    splits = make_splits(labels, np.arange(12000), fractions=fractions, seed=0)
    sizes = {name: np.array(of_class) for name, of_class in counts(labels, splits).items()}
    assert {name: n.sum() for name, n in sizes.items()} == {"train": 8400, "validation": 2400, "test": 1200}
    assert {name: set(n.tolist()) for name, n in sizes.items()} == {
        "train": {8, 9}, "validation": {2, 3}, "test": {1, 2},
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(10, 60), min_size=2, max_size=12),
    st.tuples(*[st.integers(1, 8)] * 3),
    st.integers(0, 2**63 - 1),
)
def test_single_pictures_come_within_one_of_every_share(
    sizes: list[int], parts: tuple[int, int, int], seed: int
) -> None:
    """At least one in 17 of 10 or more pictures: the share itself may be below one, then a split gets one."""
    fractions = dict(zip(FRACTIONS, np.array(parts) / sum(parts), strict=True))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    splits = make_splits(labels, np.arange(len(labels)), fractions=fractions, seed=seed)
    for name, share in fractions.items():
        assert np.all(np.abs(np.array(counts(labels, splits)[name]) - share * np.array(sizes)) < 1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(unit_sizes_and_classes(), st.integers(0, 1000))
def test_units_stay_whole_and_sizes_come_within_the_largest(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, units = data
    splits = make_splits(labels, units, fractions=FRACTIONS, seed=seed)
    assert splits.shape == labels.shape
    assert set(splits) == set(FRACTIONS)
    assert all(len(set(splits[units == u])) == 1 for u in np.unique(units))
    largest = np.bincount(units).max()
    for name, share in FRACTIONS.items():
        assert abs((splits == name).sum() - share * len(labels)) <= largest


@settings(max_examples=40, deadline=None)
@given(unit_sizes_and_classes(), st.integers(0, 1000))
def test_a_class_with_three_units_is_in_every_split(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, units = data
    splits = make_splits(labels, units, fractions=FRACTIONS, seed=seed)
    for k in np.unique(labels):
        if len(np.unique(units[labels == k])) >= 3:
            assert set(splits[labels == k]) == set(FRACTIONS)


@settings(max_examples=40, deadline=None)
@given(unit_sizes_and_classes(), st.integers(0, 1000))
def test_the_order_of_the_pictures_plays_no_role(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, units = data
    order = np.random.default_rng(seed).permutation(len(labels))
    splits = make_splits(labels, units, fractions=FRACTIONS, seed=seed)
    again = make_splits(labels[order], units[order], fractions=FRACTIONS, seed=seed)
    assert np.array_equal(again, splits[order])


def test_the_seed_decides_and_nothing_else() -> None:
    labels, units = np.arange(200) % 2, np.arange(200) // 3
    first, again = (make_splits(labels, units, fractions=FRACTIONS, seed=1) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, make_splits(labels, units, fractions=FRACTIONS, seed=2))


def test_few_units_go_to_train_then_to_test() -> None:
    labels = np.array([0] * 30 + [1] * 30 + [2] * 3 + [3] * 2 + [4])
    splits = make_splits(labels, np.arange(66), fractions=FRACTIONS, seed=0)
    assert sorted(splits[labels == 2]) == ["test", "train", "validation"]
    assert sorted(splits[labels == 3]) == ["test", "train"]
    assert splits[labels == 4].tolist() == ["train"]
    assert describe_splits(labels, splits, ["a", "b", "c", "d", "e"]) == [
        "class 'd' has 2 pictures: none in validation",
        "class 'e' has 1 picture: none in validation and test",
    ]


def test_the_units_of_a_small_class_are_spread_although_all_fit_best_into_train() -> None:
    """Three groups of 8 pictures: without the rule each lessens the deviation most in train."""
    sizes, classes = [8] * 3 + [1] * 951, [1] * 3 + [0] * 951
    units, labels = np.repeat(np.arange(len(sizes)), sizes), np.repeat(classes, sizes)
    splits = make_splits(labels, units, fractions=FRACTIONS, seed=0)
    assert sorted(splits[labels == 1]) == ["test"] * 8 + ["train"] * 8 + ["validation"] * 8


def test_validation_is_carved_out_of_a_train_part() -> None:
    labels, units = np.repeat([0, 1], [60, 40]), np.arange(100)
    splits = make_splits(labels, units, fractions={"train": 0.9, "validation": 0.1}, seed=0)
    assert counts(labels, splits) == {"train": [54, 36], "validation": [6, 4], "test": [0, 0]}


def test_twenty_classes_in_long_notes_are_cut() -> None:
    labels, splits = np.arange(21), np.array(["train"] * 20 + ["test"])
    notes = describe_splits(labels, splits, [f"c{k:02}" for k in range(21)])
    assert notes[0] == "class 'c00' has 1 picture: none in test"
    assert len(notes) == 11
    assert notes[10] == "11 more classes are missing in a split"


@pytest.mark.parametrize(
    ("labels", "units", "told"),
    [
        ([0, 1, 2], [0, 1, 2], "class 'a' has 1 picture; class 'b' has 1 picture; class 'c' has 1 picture"),
        (
            [0] * 9 + [1] * 9,
            [0] * 9 + [*range(1, 10)],
            "all 9 pictures of class 'a' belong to 1 group ('C0')",
        ),
        ([0] * 9, list(range(9)), "there is only one class"),
        ([], [], "there is only one class"),
    ],
    ids=["one picture a class", "one group", "one class", "nothing"],
)
def test_a_split_without_two_classes_is_refused_with_the_reason(labels: list[int], units: list[int], told: str) -> None:
    groups = np.array([f"C{u}" for u in units])
    with pytest.raises(SplitError) as caught:
        make_splits(
            np.array(labels, int), np.array(units, int), fractions=FRACTIONS, seed=0,
            classes=["a", "b", "c"], groups=groups,
        )  # fmt: skip
    assert told in str(caught.value)
    assert "validation" in str(caught.value)


def test_without_names_and_groups_the_refusal_still_says_which_class() -> None:
    labels, units = np.repeat([0, 1], 9), np.array([0] * 9 + [*range(1, 10)])
    with pytest.raises(SplitError, match="9 pictures of class 0 are only 1 set that must stay together"):
        make_splits(labels, units, fractions=FRACTIONS, seed=0)


@pytest.mark.parametrize(
    "fractions",
    [
        {"train": 0.8, "validation": 0.1, "test": 0.2},
        {"train": 1.0, "validation": 0.0, "test": 0.0},
        {"train": 0.8, "valid": 0.2},
        {"train": 1.0},
        {},
    ],
    ids=str,
)
def test_fractions_that_cannot_be_used_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(SplitError, match="sum to 1"):
        make_splits(np.arange(100) % 2, np.arange(100), fractions=fractions, seed=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", *"abcdef"]), st.sampled_from([None, "", *"uvwxyz"])), min_size=1))
def test_united_is_the_union_of_what_shares_a_value(rows: list[tuple[str, str | None]]) -> None:
    """Against merging sets until nothing changes; the two columns never share a value."""
    parts = [({i}, {value for value in row if value}) for i, row in enumerate(rows)]
    merged = True
    while merged:
        merged = False
        for a in range(len(parts)):
            for b in range(a + 1, len(parts)):
                if parts[a][1] & parts[b][1]:
                    parts[a] = (parts[a][0] | parts[b][0], parts[a][1] | parts[b][1])
                    del parts[b]
                    merged = True
                    break
            if merged:
                break
    units = united(np.array([row[0] for row in rows]), np.array([row[1] for row in rows], object))
    assert {frozenset(np.flatnonzero(units == u).tolist()) for u in set(units.tolist())} == {
        frozenset(part[0]) for part in parts
    }
    assert list(dict.fromkeys(units.tolist())) == list(range(len(parts)))  # by first appearance


def test_equal_values_of_different_keys_unite_nothing() -> None:
    assert united(np.array(["a", "b"]), np.array(["b", "c"])).tolist() == [0, 1]


def test_straddling_units_are_found() -> None:
    units = np.array([7, 7, 3, 3, 5, 5, 5])
    splits = np.array(["train", "test", "train", "train", "validation", "test", "test"], object)
    assert find_straddling(units, splits) == [5, 7]
    assert find_straddling(units, np.full(7, "train")) == []


@pytest.mark.shared
def test_patients_are_balanced_no_worse_than_by_scikit_learn(shared: Path) -> None:
    """27,558 cells of 200 patients, of whom 150 have cells in both classes; ten seeds each.

    Compared is the largest deviation of a class's share in a split from its fraction. Two of scikit-learn's
    folds, a tenth each, make the test and the validation part.
    """
    with zipfile.ZipFile(shared / "data" / "malaria-gray50.zip") as archive:
        table = archive.read("malaria-gray50/patients.csv").decode()
    rows = list(csv.DictReader(io.StringIO(table)))
    labels = np.array([row["class"] == "Parasitized" for row in rows], int)
    patients = np.unique([row["patient"] for row in rows], return_inverse=True)[1]

    def deviation(splits: np.ndarray) -> float:
        wanted = np.array(list(FRACTIONS.values()))
        shares = [[(splits[labels == k] == name).mean() for name in FRACTIONS] for k in (0, 1)]
        return float(np.abs(shares - wanted).max())

    ours, theirs = [], []
    for seed in range(10):
        splits = make_splits(labels, patients, fractions=FRACTIONS, seed=seed)
        assert find_straddling(patients, splits) == []
        ours.append(deviation(splits))
        folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed).split(labels, labels, patients)
        splits = np.full(len(labels), "train", dtype="<U10")
        for name, (_, fold) in zip(("test", "validation"), folds, strict=False):
            splits[fold] = name
        theirs.append(deviation(splits))
    assert np.mean(ours) <= np.mean(theirs)
    assert max(ours) <= max(theirs)
