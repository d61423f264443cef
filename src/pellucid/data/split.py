"""Splits in which every class has its share and nothing that belongs together is torn apart.

A unit is what must stay on one side: the duplicates of a picture, the pictures of a patient, or both united.
Units are dealt out, not pictures, so a score on one split is never a memory of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pellucid.data.wording import counted, shown, some
from pellucid.errors import SplitError

DEFAULT_FRACTIONS = MappingProxyType({"train": 0.8, "validation": 0.1, "test": 0.1})
_PRIORITY = ("train", "test", "validation")  # which get a class that has too few units for all
_SHOWN = 10


def make_splits(
    labels: np.ndarray,
    units: np.ndarray,
    *,
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int,
    classes: Sequence[str] | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """The split of every picture, str (N,): a unit stays whole, and every class is spread as `fractions` say.

    `labels` int (N,), `units` int (N,); `fractions` has the shares of train, test and validation, or of train
    and one other. A class with fewer units than there are splits goes to train first, then to test. The
    result depends on labels, units and seed, not on the order of the pictures. `classes`, the names, and
    `groups`, str (N,), only serve the errors.

    Units of several pictures go first, large ones before small ones (by powers of two, at random within),
    each to the split that lessens the sum of (have - wanted)^2 / wanted most, over its classes and over all
    pictures. Then single pictures fill every class up to exact counts.

    Raises SplitError when a split would hold fewer than two classes, or when the fractions cannot be used.
    Source: the idea is that of Sechidis et al. 2011, "On the stratification of multi-label data", for units.
    """
    names = [name for name in _PRIORITY if name in fractions]
    shares = [fractions[name] for name in names]
    if len(names) < max(len(fractions), 2) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise SplitError(
            f"The fractions {dict(fractions)} cannot be used; expected shares of train, validation and test, "
            "or of two of them, that are above 0 and sum to 1."
        )
    splits = np.array(names)[_dealt(labels, units, shares, seed)]
    poor = [name for name in names if len(np.unique(labels[splits == name])) < 2]
    if poor:
        why = _too_few(labels, units, len(names), classes, groups)
        raise SplitError(
            f"Fewer than two classes would be in {' and '.join(poor)}: {why}. At least two classes need "
            f"{len(names)} pictures or more that are neither duplicates nor of one group. Add pictures or "
            "groups, or give the splits yourself, as folders named train, validation and test."
        )
    return splits


def make_folds(
    labels: np.ndarray,
    units: np.ndarray,
    *,
    folds: int,
    seed: int,
    classes: Sequence[str] | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """The fold of every picture, int (N,) from 1 on: units stay whole and every class is spread evenly, as `make_splits` does it.

    Raises SplitError when there are fewer units than folds, or when a class is a single unit: it could not be learned in the
    fold that tests it.
    """
    num_units = len(np.unique(units))
    if folds < 2 or num_units < folds:
        have = f"{counted(len(labels), 'picture')} make {counted(num_units, 'set')} that must stay together"
        if groups is not None and (owners := set(groups.tolist()) - {""}):
            have += f", of {counted(len(owners), 'group')} ({some(owners)})"
        raise SplitError(
            f"{folds} folds cannot be made: {have}. Expected at least 2 folds, and a set for each; "
            + (f"give --folds {num_units} or fewer, or more groups." if num_units > 1 else "add pictures or groups.")
        )
    if any(len(np.unique(units[labels == k])) == 1 for k in np.unique(labels)):
        raise SplitError(
            f"{folds} folds cannot be made: {_too_few(labels, units, 2, classes, groups)}. The fold that tests such a class would "
            "have nothing left to learn it from. Add pictures or groups of it, leave the class out, or leave --group out if the "
            "groups do not matter."
        )
    return _dealt(labels, units, [1 / folds] * folds, seed) + 1


def united(*keys: np.ndarray) -> np.ndarray:
    """The unit of every picture, int (N,): pictures that share a value of any key, directly or through
    others.

    Every key is (N,); None and "" are no values and unite nothing. Units are numbered by first appearance.
    """
    num_items = len(keys[0])
    items: list[int] = []
    values: list[int] = []
    num_values = 0
    for key in keys:
        node_of: dict[object, int] = {}
        for i, value in enumerate(key.tolist()):
            if value is not None and value != "":
                items.append(i)
                values.append(node_of.setdefault(value, num_items + num_values + len(node_of)))
        num_values += len(node_of)
    size = num_items + num_values
    edges = coo_array((np.ones(len(items), bool), (items, values)), shape=(size, size))
    component = connected_components(edges, directed=False)[1][:num_items]
    _, first, unit = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[unit]


def find_straddling(units: np.ndarray, splits: np.ndarray) -> list[int]:
    """The ids, sorted, of units that lie in more than one split. `units` int (N,), `splits` str (N,)."""
    unit_ids, unit = np.unique(units, return_inverse=True)
    _, split = np.unique(splits.astype(str), return_inverse=True)
    different = np.unique(np.stack((unit, split)), axis=1)
    return [int(u) for u in unit_ids[np.bincount(different[0]) > 1]]


def describe_splits(labels: np.ndarray, splits: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Which classes are missing in which split, ten at most. `labels` int (N,), or 0 and 1 (N, classes) where a picture can
    have several; `splits` str (N,)."""
    names = [name for name in DEFAULT_FRACTIONS if (splits == name).any()]
    what = "class" if labels.ndim == 1 else "label"
    notes = []
    for k, name in enumerate(classes):
        mine = splits[labels == k if labels.ndim == 1 else labels[:, k] > 0]
        if missing := [split for split in names if not (mine == split).any()]:
            notes.append(f"{what} '{shown(name)}' has {counted(len(mine), 'picture')}: none in {' and '.join(missing)}")
    if len(notes) > _SHOWN:
        notes[_SHOWN:] = [f"{len(notes) - _SHOWN:,} more classes are missing in a split"]
    return notes


def _dealt(labels: np.ndarray, units: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Which of `shares` every picture falls to, int (N,); how is told in `make_splits`."""
    class_ids, label = np.unique(labels, return_inverse=True)
    unit_ids, unit = np.unique(units, return_inverse=True)
    pairs, counts = np.unique(unit * len(class_ids) + label, return_counts=True)  # sorted by unit, then class
    pair_unit, pair_class = np.divmod(pairs, max(len(class_ids), 1))
    first_pair = np.searchsorted(pair_unit, np.arange(len(unit_ids) + 1))

    sizes = np.bincount(unit, minlength=len(unit_ids))
    at_random = np.random.default_rng(seed).permutation(len(unit_ids))
    order = np.lexsort((at_random, -np.floor(np.log2(sizes))))
    deal = _Deal(shares, np.bincount(label), np.bincount(pair_class))
    split_of_unit = np.zeros(len(unit_ids), np.int64)
    for u in order[sizes[order] > 1]:
        inside = slice(first_pair[u], first_pair[u + 1])
        split_of_unit[u] = deal.place(pair_class[inside].tolist(), counts[inside].tolist())

    singles = order[sizes[order] == 1]
    class_of_single = pair_class[first_pair[singles]]
    by_class = singles[np.argsort(class_of_single, kind="stable")]  # still in random order within a class
    ends = np.cumsum(np.bincount(class_of_single, minlength=len(class_ids)))
    for k, members in zip(range(len(class_ids)), np.split(by_class, ends[:-1]), strict=False):
        split_of_unit[members] = np.repeat(np.arange(len(shares)), deal.fill(k, len(members)))

    return split_of_unit[unit]


class _Deal:
    """How many pictures every split wants and has, by class; the last row is of all pictures."""

    def __init__(self, shares: Sequence[float], pictures: np.ndarray, units: np.ndarray) -> None:
        self.splits = range(len(shares))
        self.wanted = (np.append(pictures, pictures.sum())[:, None] * np.array(shares)).tolist()  # (K + 1, S)
        self.have = [[0] * len(shares) for _ in self.wanted]
        self.units_left = units.tolist()  # (K,)
        self.lacking = [list(self.splits)[:n] for n in self.units_left]  # splits that still need a unit
        self.owed = np.zeros(len(shares))  # pictures that the classes so far fell short of

    def place(self, classes: list[int], counts: list[int]) -> int:
        """The split for a unit that holds `counts` pictures of `classes`."""
        allowed = set(self.splits)
        for k in sorted(classes, key=lambda k: self.units_left[k]):
            if self.units_left[k] <= len(self.lacking[k]):  # no unit of this class can be spared
                allowed = allowed & set(self.lacking[k]) or allowed
        rows = [*zip(classes, counts, strict=True), (-1, sum(counts))]
        best = min(sorted(allowed), key=lambda s: sum(self._change(k, n, s) for k, n in rows))
        for k, n in rows:
            self.have[k][best] += n
        for k in classes:
            self.units_left[k] -= 1
            if best in self.lacking[k]:
                self.lacking[k].remove(best)
        return best

    def _change(self, k: int, n: int, s: int) -> float:
        """Of (have - wanted)^2 / wanted, when split `s` gets `n` more pictures of class `k`."""
        return n * (n + 2 * (self.have[k][s] - self.wanted[k][s])) / self.wanted[k][s]

    def fill(self, k: int, n: int) -> list[int]:
        """How many of the `n` pictures of class `k` that are units of their own each split gets.

        These are the whole numbers next to the exact ones, rounded up where the classes before left most to
        give.
        """
        wanted, have = np.array(self.wanted[k]), np.array(self.have[k])
        exact = _leveled(wanted - have, wanted, np.isin(self.splits, self.lacking[k][:n]), n)
        given = np.floor(exact + 1e-9)
        self.owed += wanted - have - given
        broken = np.flatnonzero(exact - given > 1e-9)
        up = broken[np.argsort(-self.owed[broken], kind="stable")][: n - int(given.sum())]
        given[up] += 1
        self.owed[up] -= 1
        return given.astype(int).tolist()


def _leveled(lack: np.ndarray, wanted: np.ndarray, least: np.ndarray, n: int) -> np.ndarray:
    """`n` pictures shared out, float (S,), so that the rest of `lack` is the same part of `wanted` in every
    split.

    A split that would get fewer than `least` gets that.
    """
    given = least.astype(float)
    free = np.ones(len(lack), bool)
    while free.any():
        surplus = n - given[~free].sum() - lack[free].sum()
        level = lack + surplus * wanted / wanted[free].sum()
        low = free & (level < least)
        if not low.any():
            given[free] = level[free]
            break
        free &= ~low
    return given


def _too_few(
    labels: np.ndarray,
    units: np.ndarray,
    needed: int,
    classes: Sequence[str] | None,
    groups: np.ndarray | None,
) -> str:
    """Which classes have fewer units than `needed`, and why; three at most."""
    reasons = []
    for k in np.unique(labels):
        mine = labels == k
        name = f"class '{shown(classes[k])}'" if classes else f"class {k}"
        pictures, parts = counted(int(mine.sum()), "picture"), len(np.unique(units[mine]))
        owners = set() if groups is None else {group for group in groups[mine].tolist() if group}
        if parts >= needed:
            continue
        if parts == mine.sum():
            reasons.append(f"{name} has {pictures}")
        elif parts == len(owners):
            reasons.append(f"all {pictures} of {name} belong to {counted(parts, 'group')} ({some(owners)})")
        else:
            reasons.append(f"{pictures} of {name} are only {counted(parts, 'set')} that must stay together")
    if len(reasons) > 3:
        reasons[3:] = [f"and so with {counted(len(reasons) - 3, 'more class')}"]
    return "; ".join(reasons) or "there is only one class"
