"""Folds and shares: each picture tested once, nothing that belongs together in two parts, and what is uneven is told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.dataset import Dataset, from_arrays
from pellucid.data.manifest import USED, Manifest, make_manifest
from pellucid.data.scan import scan
from pellucid.data.series import SPARED, make_fold_manifests, make_share_manifests
from pellucid.data.split import make_folds
from pellucid.errors import DataError, SplitError


def pictures(
    labels: Sequence[str], groups: Sequence[str] | None = None, copies: dict[int, int] | None = None
) -> Dataset:
    """Noise of its own for every picture, save for those that are `copies` of others."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), 6, 6), np.uint8)
    for i, k in (copies or {}).items():
        images[i] = images[k]
    return from_arrays(images, list(labels), groups=groups)


def parts(manifest: Manifest) -> np.ndarray:
    return np.array([row.split if row.status == USED else "" for row in manifest.rows])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 99), st.booleans())
def test_each_picture_is_tested_once_and_decides_nothing_of_its_own_test(folds: int, seed: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    groups = [f"g{k}" for k in rng.integers(0, 30, 120)] if grouped else None
    data = pictures(["ab"[k] for k in rng.integers(0, 2, 120)], groups, copies={7: 3, 90: 3})
    whole, members = make_fold_manifests(data, scan(data), folds=folds, seed=seed)
    splits = np.array([parts(member) for member in members.values()])  # (folds, pictures)
    assert ((splits == "test").sum(0) == 1).all()
    assert (splits != "").all()
    for name, row in zip(members, splits, strict=True):
        assert ((parts(whole) == name) == (row == "test")).all()
        assert set(row) == {"train", "validation", "test"}
        for group in set(groups or ()):
            assert len(set(row[np.array(groups) == group])) == 1
        assert row[3] == row[7] == row[90]


def test_every_class_is_spread_evenly() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 23])
    fold = make_folds(labels, np.arange(173), folds=5, seed=1)
    counts = np.array([np.bincount(fold[labels == k], minlength=6)[1:] for k in range(3)])
    assert counts[0].tolist() == [20] * 5
    assert counts[1].tolist() == [10] * 5
    assert sorted(counts[2]) == [4, 4, 5, 5, 5]


def test_more_folds_than_groups_are_refused_and_the_groups_named() -> None:
    data = pictures(["a", "b"] * 12, [f"patient {k // 8}" for k in range(24)])
    with pytest.raises(
        SplitError, match=r"5 folds cannot be made.*3 groups \('patient 0', 'patient 1', 'patient 2'\).*--folds 3"
    ):
        make_fold_manifests(data, scan(data), folds=5)


def test_a_class_of_a_single_group_is_refused_and_both_are_named() -> None:
    labels = ["a", "b"] * 20 + ["rare"] * 6
    groups = [f"p{k // 2}" for k in range(40)] + ["p99"] * 6
    data = pictures(labels, groups)
    with pytest.raises(
        SplitError, match=r"all 6 pictures of class 'rare' belong to 1 group \('p99'\).*nothing left to learn"
    ):
        make_fold_manifests(data, scan(data), folds=5)


def test_a_class_that_is_missing_in_a_fold_is_told() -> None:
    data = pictures(["a", "b"] * 30 + ["rare"] * 3)
    whole, members = make_fold_manifests(data, scan(data), folds=5)
    (note,) = [note for note in whole.notes if "rare" in note]
    without = [int(name[-1]) for name, m in members.items()
               if not any(row.label == "rare" and row.split == "test" for row in m.rows)]  # fmt: skip
    assert len(without) == 2
    assert note == f"'rare' has 3 pictures: none is tested in fold {without[0]}, {without[1]}"
    for member in members.values():
        assert any(row.label == "rare" and row.split == "train" for row in member.rows)


def test_folds_made_unequal_by_a_large_group_are_told_with_the_group() -> None:
    groups = ["big"] * 60 + [f"g{k}" for k in range(40)]
    data = pictures(["a", "b"] * 50, groups)
    whole, _ = make_fold_manifests(data, scan(data), folds=5)
    assert "the folds are of unequal size, 10 to 60 pictures, since the group 'big' has 60" in whole.notes


def test_given_splits_are_passed_over_and_that_is_told() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 6, 6), np.uint8), ["a", "b"] * 20
    data = from_arrays(images, labels, splits=["train"] * 30 + ["test"] * 10)
    whole, _ = make_fold_manifests(data, scan(data), folds=4)
    assert any("given splits are not used" in note for note in whole.notes)


def test_shares_are_halves_of_each_other_with_whole_groups_and_the_same_test() -> None:
    rng = np.random.default_rng(0)
    groups = [f"p{k}" for k in rng.integers(0, 80, 800)]
    data = pictures(["ab"[k] for k in rng.integers(0, 2, 800)], groups)
    records = scan(data)
    whole = make_manifest(data, records, seed=3)
    members = make_share_manifests(data, records, whole, seed=3)
    assert list(members) == ["eighth", "quarter", "half", "all"]
    assert members["all"].rows == whole.rows
    before: set[int] = set()
    for (name, member), share in zip(members.items(), (1 / 8, 1 / 4, 1 / 2, 1), strict=True):
        train = set(member.indices("train").tolist())
        assert before < train
        assert len(train) == pytest.approx(share * len(whole.indices("train")), rel=0.12)
        owners = {groups[i] for i in train}
        assert not any(groups[i] in owners for i in whole.indices("train") if i not in train), name
        for part in ("validation", "test"):
            assert (member.indices(part) == whole.indices(part)).all()
        assert member.count(SPARED) == len(whole.indices("train")) - len(train)
        before = train


def test_too_few_pictures_for_a_curve_are_refused() -> None:
    data = pictures(["a", "b"] * 15)
    records = scan(data)
    with pytest.raises(DataError, match="24 training pictures of 2 classes"):
        make_share_manifests(data, records, make_manifest(data, records))
