"""The manifest: every picture of a data set, in which split it is, or why it is in none.

Nothing disappears: a picture that cannot be read, or that would leak from one split into another, stays in the list with
its status and the reason.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from sys import intern

import numpy as np

from pellucid.data.dataset import Dataset
from pellucid.data.duplicates import find_duplicates
from pellucid.data.scan import Record
from pellucid.data.split import DEFAULT_FRACTIONS, describe_splits, find_straddling, make_splits, united
from pellucid.data.task import CLASS, NUMBER
from pellucid.data.wording import counted, shown, some
from pellucid.errors import DataError, RunError, SplitError

USED, UNREADABLE, LEAKED, REMOVED = "used", "unreadable", "leaked", "removed"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of the manifest; all strings, as in data.csv."""

    path: str
    label: str
    split: str
    group: str
    sha256: str
    status: str
    reason: str


@dataclass(frozen=True, eq=False)
class Manifest:
    """`rows` in the order of the data set's items; `notes` tell what a user should know about the splits."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def indices(self, split: str) -> np.ndarray:
        """int64: rows that are used in `split`."""
        chosen = [i for i, row in enumerate(self.rows) if row.status == USED and row.split == split]
        return np.array(chosen, np.int64)

    def count(self, status: str) -> int:
        """Rows of a status: used, unreadable, leaked, removed or spared."""
        return sum(row.status == status for row in self.rows)

    def fingerprint(self) -> str:
        """SHA-256 over what decides a training's data: path, label, split, status and content of every picture."""
        digest = hashlib.sha256()
        for row in self.rows:
            line = "\0".join((row.path, row.label, row.split, row.status, row.sha256))
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def to_rows(self) -> list[dict[str, str]]:
        """Rows for data.csv."""
        names = Row.__slots__
        return [dict(zip(names, values, strict=True)) for values in map(attrgetter(*names), self.rows)]


@dataclass(frozen=True, eq=False)
class Census:
    """What is known of every picture before it is dealt into a split; all arrays (N,). `status` and `reasons` may be added to."""

    dataset: Dataset
    records: Sequence[Record]
    pixels: np.ndarray
    groups: np.ndarray
    status: np.ndarray
    reasons: list[str]

    @property
    def use(self) -> np.ndarray:
        """bool: pictures that are used."""
        used: np.ndarray = self.status == USED
        return used

    def alike(self, part: np.ndarray, near: bool, notes: list[str]) -> np.ndarray:
        """The unit of every picture, int: duplicates and groups, and with `near` the near duplicates in `part`; extends `notes`."""
        return united(self.pixels, self.groups, _alike(self.records, part, near, notes))

    def manifest(self, splits: np.ndarray, notes: Sequence[str] = ()) -> Manifest:
        """The manifest with these splits, str."""
        items, records = self.dataset.items, self.records
        return Manifest(tuple(
            Row(item.path, self.dataset.label(i), intern(str(splits[i])), item.group or "", records[i].sha256, str(self.status[i]),
                self.reasons[i])
            for i, item in enumerate(items)
        ), tuple(notes))  # fmt: skip


def take_census(dataset: Dataset, records: Sequence[Record]) -> Census:
    """Looks at every picture of a data set. Raises DataError when all that can be used have the same answer."""
    status = np.full(len(records), UNREADABLE, object)
    reasons = [record.reason or "" for record in records]
    for i, item in enumerate(dataset.items):
        if records[i].reason is not None or item.label < 0:
            continue
        status[i], verdict = USED, dataset.verdicts.get(item.path, "")
        if verdict is None:
            status[i], reasons[i] = REMOVED, "left out by verdict"
        elif verdict:
            reasons[i] = f"relabeled by verdict, was '{verdict}'"
    _require_answers(dataset, status == USED)
    pixels = np.array([record.pixels or f"unreadable-{i}" for i, record in enumerate(records)], object)
    return Census(dataset, records, pixels, np.array([item.group or "" for item in dataset.items]), status, reasons)


def make_manifest(
    dataset: Dataset,
    records: Sequence[Record],
    *,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    near: bool = True,
) -> Manifest:
    """Decides about every picture.

    Given splits are kept; what they lack is made from the training part (validation only), and a training or validation
    picture with the same pixels as a picture of a later split is taken out, since it would leak. Without given splits, or
    with `fractions`, new ones are made in which duplicates and groups stay together, and near duplicates unless `near` is
    False. Near duplicates in two given splits stay where they are; `check` tells them.
    Raises DataError when all pictures have the same answer, SplitError when splits cannot be made or groups straddle them.
    """
    census = take_census(dataset, records)
    use, groups, status = census.use, census.groups, census.status
    strata, names = strata_of(dataset, use)

    notes: list[str] = []
    given = np.array([item.split or "" for item in dataset.items])
    if fractions is not None or not given.any():
        splits = np.full(len(use), "", object)
        units = census.alike(use, near, notes)
        splits[use] = make_splits(
            strata[use], units[use], fractions=fractions or DEFAULT_FRACTIONS, seed=seed, classes=names,
            groups=groups[use],
        )  # fmt: skip
        if dataset.task.kind != NUMBER:
            notes += describe_splits(dataset.targets()[use], splits[use], dataset.classes)
    else:
        splits = given.astype(object)
        _refuse_gaps(dataset, splits, use)
        _refuse_straddling_groups(groups, splits, use)
        notes += _take_out_leaks(census.pixels, splits, status, census.reasons, dataset)
        used = status == USED
        _require_training(dataset, splits, used)
        if not (splits[used] == "validation").any():
            part = (splits == "train") & used
            shares = {"train": 0.9, "validation": 0.1}
            units = census.alike(part, near, notes)
            splits[part] = make_splits(
                strata[part], units[part], fractions=shares, seed=seed, classes=names, groups=groups[part]
            )
            notes.append("no validation pictures are given or left: a tenth of the training part is set aside for it")
        if not (splits[used] == "test").any():
            notes.append("no test pictures are given: measure on the validation part, or give pictures to evaluate")
    return census.manifest(splits, notes)


def restore_manifest(rows: Sequence[Mapping[str, str]], dataset: Dataset, records: Sequence[Record]) -> Manifest:
    """The manifest that `to_rows` gave, for the same data set opened again; the splits are not made anew.

    Raises RunError when a picture is missing, new or another than it was.
    """
    try:
        before = {row["path"]: Row(**row) for row in rows}
    except (KeyError, TypeError) as error:
        raise RunError(f"The run's data.csv is damaged: its columns are not those expected ({error}).") from error
    now = {item.path: (dataset.label(i), records[i].sha256) for i, item in enumerate(dataset.items)}
    then = {path: (row.label, row.sha256) for path, row in before.items()}
    changed = sorted(path for path in then.keys() | now.keys() if then.get(path) != now.get(path))
    if changed:
        raise RunError(
            f"The pictures of '{dataset.source}' are not those that the run began with: {len(changed):,} of {len(before):,} "
            f"are missing, new or changed, for example '{shown(changed[0])}'. Bring the data set back to what it was, or "
            "start a new run."
        )
    return Manifest(tuple(before[item.path] for item in dataset.items), ())


def _alike(records: Sequence[Record], part: np.ndarray, near: bool, notes: list[str]) -> np.ndarray:
    """A key for `united`, str (N,), that near duplicates in `part` share; extends `notes`."""
    keys = np.full(len(records), "", object)
    if near:
        found = find_duplicates(records, among=np.flatnonzero(part).tolist())
        for k, cluster in enumerate(found.near):
            keys[list(cluster)] = f"near {k}"
        if found.near:
            notes.append(f"{counted(len(found.near), 'set')} of nearly the same picture kept together")
        notes += found.notes
    return keys


def strata_of(dataset: Dataset, use: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """What the splits have their share of, int (N,), and its names. Pictures that are not used have any."""
    targets = dataset.targets()
    strata = np.zeros(len(targets), np.int64)
    strata[use] = dataset.task.strata(targets[use])
    return strata, dataset.task.strata_names(targets[use], dataset.classes)


def _require_answers(dataset: Dataset, usable: np.ndarray) -> None:
    present = sorted({dataset.label(i) for i in np.flatnonzero(usable).tolist()})
    if len(present) > 1:
        return
    if dataset.task.kind != CLASS and present:
        raise DataError(
            f"Every picture of '{dataset.source}' has the same answer, '{shown(present[0])}'; from that nothing can be learned. "
            "Expected pictures with different answers; look whether this is the right column (--label-column)."
        )
    found = f"only the class '{present[0]}'" if present else "no readable labelled picture"
    raise DataError(
        f"'{dataset.source}' has {found}; a classifier needs at least two classes. Put the pictures of each class into "
        "a folder of its own, named like the class, or give a table with a label column."
    )


def _require_training(dataset: Dataset, splits: np.ndarray, used: np.ndarray) -> None:
    classes = sorted({dataset.label(i) for i in np.flatnonzero(used & (splits == "train")).tolist()})
    if len(classes) < 2:
        what = "class" if dataset.task.kind == CLASS else "answer"
        raise SplitError(
            f"'{dataset.source}' gives splits, but its training part has usable pictures of {counted(len(classes), what)}: "
            f"{some(classes) or 'none'}. Expected at least two in a part called train, that are readable and not repeated in "
            "a later part; or make new splits with --split 80/10/10."
        )


def _refuse_gaps(dataset: Dataset, splits: np.ndarray, use: np.ndarray) -> None:
    if lost := int((splits[use] == "").sum()):
        raise SplitError(
            f"{counted(lost, 'picture')} of '{dataset.source}' have no split while others have one. Fill in the split column, or "
            "make new splits for all with --split 80/10/10."
        )


def _refuse_straddling_groups(groups: np.ndarray, splits: np.ndarray, use: np.ndarray) -> None:
    grouped = use & (groups != "")
    if not grouped.any():
        return
    names, ids = np.unique(groups[grouped], return_inverse=True)
    if straddling := find_straddling(ids, splits[grouped]):
        examples = ", ".join(f"'{names[k]}'" for k in straddling[:5])
        raise SplitError(
            f"{len(straddling):,} of {len(names):,} groups lie in more than one of the given splits (for example {examples}), "
            "so the score would be too good. Make new splits that keep groups together with --split 80/10/10, or leave "
            "--group out if the groups do not matter."
        )


def _take_out_leaks(
    pixels: np.ndarray, splits: np.ndarray, status: np.ndarray, reasons: list[str], dataset: Dataset
) -> list[str]:
    """Marks training and validation pictures that repeat a picture of a later split; returns what to tell."""
    where: dict[str, list[int]] = defaultdict(list)
    for i in np.flatnonzero(status == USED).tolist():
        where[pixels[i]].append(i)
    taken = 0
    for same in where.values():
        last = max(same, key=lambda i: SPLITS.index(splits[i]))
        for i in same:
            if splits[i] != splits[last]:
                status[i] = LEAKED
                reasons[i] = f"same pixels as {dataset.items[last].path} ({splits[last]})"
                taken += 1
    if not taken:
        return []
    return [
        f"{counted(taken, 'picture')} left out because the same pixels are in a later split (see data.csv, status leaked)"
    ]
