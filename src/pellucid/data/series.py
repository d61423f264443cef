"""Manifests for several trainings on one data set: folds, where each picture is tested once, and growing shares of the training
part, for a learning curve. Both keep together what `make_manifest` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pellucid.data.dataset import Dataset
from pellucid.data.manifest import USED, Manifest, strata_of, take_census
from pellucid.data.scan import Record
from pellucid.data.split import make_folds, make_splits, united
from pellucid.data.task import NUMBER
from pellucid.data.wording import counted, shown
from pellucid.errors import DataError, SplitError

SPARED = "spared"  # the status of training pictures that a smaller share of the training part leaves out
SHARES = ("eighth", "quarter", "half", "all")
_FEWEST_A_CLASS = 10  # training pictures of a class, on average, in the smallest share
_VALIDATION = {"train": 8 / 9, "validation": 1 / 9}  # of what is not tested
_SHOWN = 10


def make_fold_manifests(
    dataset: Dataset, records: Sequence[Record], *, folds: int, seed: int = 0, near: bool = True
) -> tuple[Manifest, dict[str, Manifest]]:
    """The manifest whose splits are fold-1 ... fold-K, and those of the K trainings by these names.

    The test part of a training is its fold. Its validation part, which decides when to stop, what to keep and how sure to be, is a
    ninth of the other folds, and nothing of the fold that is tested. Given splits are not used.
    Raises DataError when all pictures have the same answer, SplitError when the folds cannot be made.
    """
    census = take_census(dataset, records)
    use = census.use
    notes: list[str] = []
    strata, names = strata_of(dataset, use)
    units = census.alike(use, near, notes)
    fold = np.zeros(len(use), np.int64)
    fold[use] = make_folds(
        strata[use], units[use], folds=folds, seed=seed, classes=names, groups=census.groups[use]
    )  # fmt: skip
    members = {}
    for k in range(1, folds + 1):
        splits = np.where(fold == k, "test", "").astype(object)
        rest = use & (fold != k)
        splits[rest] = make_splits(
            strata[rest], units[rest], fractions=_VALIDATION, seed=seed, classes=names, groups=census.groups[rest]
        )
        members[f"fold-{k}"] = census.manifest(splits)
    if any(item.split for item in dataset.items):
        notes.append("the given splits are not used: every picture is tested in one fold")
    notes += _fold_notes(dataset, fold, folds)
    return census.manifest(np.array(["", *members])[fold], notes), members


def _fold_notes(dataset: Dataset, fold: np.ndarray, folds: int) -> list[str]:
    """Classes that are missing in the test part of a fold, and folds that are much larger than others."""
    notes = []
    for name, rows in dataset.heaps() if dataset.task.kind != NUMBER else ():
        counts = np.bincount(fold[rows], minlength=folds + 1)[1:]
        if counts.sum() and (missing := np.flatnonzero(counts == 0) + 1).size:
            where = ", ".join(map(str, missing))
            notes.append(f"'{shown(name)}' has {counted(int(counts.sum()), 'picture')}: none is tested in fold {where}")
    if len(notes) > _SHOWN:
        notes[_SHOWN:] = [f"{len(notes) - _SHOWN:,} more are missing in a fold"]
    sizes = np.bincount(fold, minlength=folds + 1)[1:]
    if sizes.max() > 1.5 * sizes.min():
        groups = np.array([item.group or "" for item in dataset.items])[fold == sizes.argmax() + 1]
        names, of_group = np.unique(groups[groups != ""], return_counts=True)
        why = f", since the group '{shown(names[of_group.argmax()])}' has {of_group.max():,}" if names.size else ""
        notes.append(f"the folds are of unequal size, {sizes.min():,} to {sizes.max():,} pictures{why}")
    return notes


def make_share_manifests(
    dataset: Dataset, records: Sequence[Record], whole: Manifest, *, seed: int = 0
) -> dict[str, Manifest]:
    """Manifests like `whole`, with an eighth, a quarter, half and all of its training part, by these names, smallest first.

    Each share is the half of the next one, and groups and duplicates stay together, so that a smaller share has fewer
    patients and not fewer pictures of each. Shares with fewer than ten pictures a class are left out.
    Raises DataError when only the whole is left, or when there is nothing to test on.
    """
    if not len(whole.indices("test")):
        raise DataError(
            f"A learning curve needs test pictures, and the splits that '{shown(dataset.source)}' gives have none. Add a part called test, "
            "or make new splits with --split 80/10/10."
        )
    census = take_census(dataset, records)
    strata, names = strata_of(dataset, census.use)
    units = united(census.pixels, census.groups)
    rows = whole.indices("train")
    fewest = _FEWEST_A_CLASS * len(np.unique(strata[rows]))
    kept = [rows]
    while len(kept) < len(SHARES) and len(rows) // 2 >= fewest:
        try:
            halves = make_splits(
                strata[rows], units[rows], fractions={"train": 0.5, "test": 0.5}, seed=seed, classes=names
            )
        except SplitError:  # too few groups to halve
            break
        rows = rows[halves == "train"]
        kept.append(rows)
    if len(kept) == 1:
        raise DataError(
            f"A learning curve needs a training part that can be halved, with {_FEWEST_A_CLASS} pictures a class or more in a half; "
            f"'{shown(dataset.source)}' has {counted(len(rows), 'training picture')} of {counted(len(np.unique(strata[rows])), 'class')}. "
            "Add pictures, or groups where there are any."
        )
    members = {}
    for name, rows in zip(SHARES[-len(kept) :], reversed(kept), strict=True):
        inside = np.isin(np.arange(len(whole.rows)), rows)
        members[name] = Manifest(tuple(
            row if here or row.status != USED or row.split != "train"
            else replace(row, split="", status=SPARED, reason=f"not in the {name} of the training part")
            for row, here in zip(whole.rows, inside, strict=True)
        ), ())  # fmt: skip
    return members
