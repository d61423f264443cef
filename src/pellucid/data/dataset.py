"""A data set: labelled pictures under class names, with what was given about splits and groups.

`open_dataset` makes one of a folder, a zip archive, a table, arrays, the embedded digits or a well-known set. It
lists pictures and opens none of them; `pellucid.data.scan` does.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.arrays import Arrays, are_label_sets, read_arrays
from pellucid.data.decode import Picture
from pellucid.data.known import KNOWN, needs_fetching, open_known
from pellucid.data.layout import Entries, read_layout
from pellucid.data.sources import Archive, Files, Folder, Stat, below
from pellucid.data.split import describe_splits
from pellucid.data.table import TABLE_ENDINGS, read_rows, read_table
from pellucid.data.task import CLASS, LABELS, NUMBER, ONE_CLASS, Task, bin_names, make_task, task_notes
from pellucid.data.wording import counted, shown, some
from pellucid.errors import ConfigError, DataError, PictureError, nearest

_EXPECTED = f"Expected a folder, a zip archive, a table ({', '.join(TABLE_ENDINGS)}), the word digits, or a well-known set like mnist."
_SHOWN_CLASSES = 30


@dataclass(frozen=True, slots=True)
class Item:
    """One picture.

    path: unique, with forward slashes; relative to the source, save where a table says otherwise.
    label: index into the data set's labels, -1 for none. split: train, validation or test where given.
    group: what must stay on one side of a split.
    """

    path: str
    label: int
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled pictures. A class is its name; its index means nothing in another data set.

    task: what is asked of a picture. classes: the names of what a network puts out, sorted: the classes; the labels that
    a picture can have several of; or what the number is called. answers: the labels, where they are not the classes.
    source: what the user gave. name: a short one, for the folders of runs.
    kind: folder, zip, table, arrays, digits or known.
    items: sorted by path. notes: what the user should know.
    ignored: files that are left out since they are no pictures, neither by name nor by content.
    verdicts: paths that a person has judged, with the label that they had before, or None for those to leave out.
    """

    source: str
    name: str
    kind: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    notes: tuple[str, ...]
    ignored: tuple[str, ...]
    files: Files | Arrays
    task: Task = ONE_CLASS
    answers: tuple[str, ...] = ()
    verdicts: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The different labels as text, which the items point to: the classes, or "loop;round" and the like, or "3.5"."""
        return self.classes if self.task.kind == CLASS else self.answers

    def __len__(self) -> int:
        return len(self.items)

    def label(self, index: int) -> str:
        """An item's answer as text, "" for none."""
        return self.labels[k] if (k := self.items[index].label) >= 0 else ""

    def targets(self) -> np.ndarray:
        """The answer of every item as numbers, as `Task.encode` gives them; items without one have any (a class: -1)."""
        label = np.array([item.label for item in self.items], np.int64)
        return label if self.task.kind == CLASS else self.task.encode(self.labels, self.classes)[label]

    def heaps(self) -> list[tuple[str, np.ndarray]]:
        """The items of each class or label by its name, or of each bin of the numbers by its range."""
        rows = np.flatnonzero([item.label >= 0 for item in self.items])
        targets = self.targets()[rows]
        if self.task.kind == LABELS:
            return [(name, rows[targets[:, k] > 0]) for k, name in enumerate(self.classes)]
        heap = self.task.strata(targets)
        names = self.classes if self.task.kind == CLASS else bin_names(targets[:, 0], heap)
        return [(name, rows[heap == k]) for k, name in enumerate(names)]

    def read(self, index: int) -> bytes | None:
        """The bytes of an item's file, from any thread; None for an array. Raises PictureError."""
        return self.files.read(self.items[index].path)

    def picture(self, index: int) -> Picture:
        """An item's picture, uint8 (H, W, C), from any thread. Raises PictureError."""
        return self.files.picture(self.items[index].path)

    def stat(self, index: int) -> Stat | None:
        """(absolute path, size, mtime_ns, ctime_ns) of an item's file, None where there is none.

        A member of an archive stands as a file below the archive, with the archive's times.
        """
        return self.files.stat(self.items[index].path)

    def stats(self) -> list[Stat | None]:
        """`stat` of every item."""
        return [self.files.stat(item.path) for item in self.items]

    def __str__(self) -> str:
        return "\n".join(_tell(self))


def open_dataset(
    source: str | Path | tuple[Any, Any],
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group: str | None = None,
    task: str | None = None,
    label_separator: str | None = None,
    root: str | Path | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The data set in `source`, which is one of:

    - a folder, or a zip archive of one, that holds a folder for each class, or such folders in train,
      validation and test;
    - a table, a row a picture, with the named columns or else those with usual names; its paths start from
      `root`, or else from its own folder. A folder or archive that holds one table is read by it when it has
      fewer than two class folders, or when a column is named;
    - (images, labels), as in `from_arrays`;
    - "digits": scikit-learn's 1,797 handwritten digits. A folder of this name is "./digits";
    - the name of a well-known set, like "mnist" (`pellucid.data.known`), which is fetched when it is not on this
      machine: `progress` is told (done, total) of that. A folder of this name is "./mnist".

    `group` says what must stay on one side of a split: a column of the table, or a regular expression with
    the group in parentheses that matches every path, like "(C[0-9]+)"; "" leaves a table's groups out.
    `task` is class, labels (several at once, with `label_separator` between them, by default ";") or number.
    Raises DataError, or ConfigError and UnknownNameError for the other arguments.
    """
    asked_task = make_task(task, label_separator)
    asked = {"path": path_column, "label": label_column, "split": split_column, "group": group}
    known = isinstance(source, str) and source in KNOWN
    if isinstance(source, tuple) or source == "digits" or known:
        if any(asked.values()) or root:
            raise ConfigError(
                "Columns, groups and a root go with files, but the data set is "
                f"{'made of arrays' if isinstance(source, tuple) else source}. Leave them out; from_arrays() "
                "takes the groups and splits of arrays."
            )
        if isinstance(source, tuple):
            return from_arrays(*source, name=name or "arrays", task=task or (LABELS if label_separator else None))
        if source == "digits":
            return _digits(name, asked_task)
        return _known(str(source), name, asked_task, progress)

    path = _existing(str(source))
    start = None if root is None else Path(root).expanduser()
    files: Files
    if path.is_dir():
        kind = "folder"
        files, entries = _from_tree(Folder(path), path, asked, start, asked_task)
    elif path.suffix.lower() in TABLE_ENDINGS:
        kind, files = "table", Folder(start or path.parent)
        entries = _from_table(Folder(path.parent), path.name, asked, files, base="", task=asked_task)
    elif path.is_file() and zipfile.is_zipfile(path):
        kind = "zip"
        files, entries = _from_tree(Archive(path), path, asked, start, asked_task)
    else:
        raise DataError(f"'{shown(str(source))}' is no data set. {_EXPECTED}")
    if group and "(" in group and not any(entries.groups):
        entries.groups = _matched(group, entries.paths)
        entries.notes.append(f"groups: '{shown(group)}' finds {counted(len(set(entries.groups)), 'group')}")
    named = path.resolve().name if kind == "folder" else path.stem
    return _assemble(entries, files, source=str(source), kind=kind, name=name or named, task=asked_task)


def from_arrays(
    images: Any,
    labels: Any,
    *,
    classes: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    splits: Sequence[str | None] | None = None,
    task: str | None = None,
    name: str = "arrays",
) -> Dataset:
    """The data set of pictures in memory, which are not copied; picture 42 has the path "00042".

    `images` is an array (N, H, W) or (N, H, W, C), a torch tensor (N, H, W) or (N, C, H, W), or a list of N
    of these without the N, of any sizes; for levels see `pellucid.data.decode.from_array`. `labels` (N,) are
    class names, or ints: indices into `classes`, or the names themselves. Several labels a picture are a list of names
    each, or 0 and 1 (N, L) with their names in `classes`; numbers to learn need task="number". `groups` (N,) say what must stay on
    one side of a split. `splits` (N,) are train, validation, test or None.
    Raises DataError when these cannot be used, or not together.
    """
    task = task or (LABELS if are_label_sets(labels) else CLASS)
    entries, arrays = read_arrays(images, labels, classes=classes, groups=groups, splits=splits, task=task)
    return _assemble(
        entries, arrays, source=name, kind="arrays", name=name, task=make_task(task, None), classes=classes
    )


def _digits(name: str | None, task: Task) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), levels 0..16 -> 0..255
    entries, arrays = read_arrays(images, digits.target)
    if Path("digits").exists():
        entries.notes.append("these are the embedded digits; for what is called so in this folder: ./digits")
    return _assemble(entries, arrays, source="digits", kind="digits", name=name or "digits", task=task)


def _known(source: str, name: str | None, task: Task, progress: Callable[[int, int], None] | None) -> Dataset:
    beside = Path(source).exists()
    if beside and needs_fetching(source):  # then fetching was hardly asked for
        raise DataError(
            f"'{source}' is the name of a well-known set that is not on this machine, and of something in this folder. For "
            f"the latter say './{source}'; to fetch the set, go to another folder."
        )
    entries, files = open_known(source, progress=progress)
    if beside:
        entries.notes.append(f"this is the well-known set; for what is called so in this folder: ./{source}")
    return _assemble(entries, files, source=source, kind="known", name=name or source, task=task)


def _existing(source: str) -> Path:
    path = Path(os.path.expanduser(source))  # noqa: PTH111  pathlib's raises where there is no such user
    if source and os.path.exists(path):  # noqa: PTH110  pathlib's raises where a name is too long
        return path
    part = path
    while not os.path.exists(part.parent):  # noqa: PTH110
        part = part.parent
    siblings: list[str] = []
    with contextlib.suppress(OSError):
        siblings = [entry.name for entry in part.parent.iterdir()]
    raise DataError(
        f"'{shown(source)}' does not exist: there is no '{shown(part.name)}' in '{shown(str(part.parent))}'. "
        f"{_EXPECTED} {shown(nearest(part.name, [*siblings, *([] if part.parent.name else KNOWN)]))}".rstrip()
    )


def _from_tree(
    files: Files, path: Path, asked: Mapping[str, str | None], root: Path | None, task: Task
) -> tuple[Files, Entries]:
    """The pictures in a folder or an archive, by class folders or by its only table, and where they lie."""
    tree, notes = files.tree()
    every = [below(folder, file) for folder, inside in tree.items() for file in inside]
    tables = [file for file in every if file.lower().endswith(TABLE_ENDINGS)]
    named = [column for kind, column in asked.items() if column and not (kind == "group" and "(" in column)]
    by_table = bool(named or root or (task.kind == LABELS and tables))
    entries = Entries() if by_table else read_layout(tree, files.head)
    if len(tables) == 1 and len(set(entries.labels)) < 2:
        start, base = files, posixpath.dirname(tables[0])
        if root:
            start, base = (Folder(root), "") if isinstance(files, Folder) else (files, root.as_posix())
        entries = _from_table(files, tables[0], asked, start, base=base, task=task)
        entries.notes = [*notes, f"labels: table '{shown(tables[0])}'", *entries.notes]
        return start, entries
    if by_table:
        raise ConfigError(
            f"{some(named) if named else 'A root'} goes with a table, but '{shown(str(path))}' holds "
            f"{f'several ({some(tables)}): name one of them as the data set' if tables else 'none'}. Groups "
            "are found in paths by a regular expression with the group in parentheses, like '(C[0-9]+)'."
        )
    if not entries.paths:
        found = [*entries.notes, *[f"no picture: {some(entries.ignored)}"] * bool(entries.ignored)]
        raise DataError(
            f"'{shown(str(path))}' has no class folder with pictures ({'; '.join(found) or 'it is empty'}). "
            "Put the pictures of each class into a folder with the name of the class, like photos/cat/1.jpg "
            "and photos/dog/2.jpg; or give a table of their paths and labels."
        )
    entries.notes = [*notes, *entries.notes, *_unused(tables, entries.paths, files, path)]
    return files, entries


def _unused(tables: Sequence[str], pictures: Sequence[str], files: Files, path: Path) -> list[str]:
    """A note for every table that lies beside or above the class folders."""
    if not tables:
        return []
    top = posixpath.commonpath({posixpath.dirname(picture) for picture in pictures})
    notes = []
    for table in tables:
        folder = posixpath.dirname(table)
        if not folder or f"{top}/".startswith(f"{folder}/"):
            how = "name its column of labels (--label-column)"
            if isinstance(files, Folder):
                how = f"pellucid check {shlex.quote(str(path / table))}"
            notes.append(f"'{shown(table)}' is not used; to use it: {how}")
    return notes


def _from_table(
    files: Files, table: str, asked: Mapping[str, str | None], start: Files, *, base: str, task: Task
) -> Entries:
    try:
        data = files.read(table)
    except PictureError as error:
        raise DataError(f"The table '{shown(table)}' cannot be used: {error.reason}.") from error
    return read_rows(read_table(data, table), asked, start, base=base, name=table, task=task)


def _matched(pattern: str, paths: Sequence[str]) -> list[str | None]:
    """What the parentheses of the regular expression `pattern` find in each path."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"The group '{shown(pattern)}' is no regular expression: {error}. Expected one like '(C[0-9]+)'."
        ) from error
    if compiled.groups != 1:
        raise ConfigError(
            f"The group '{shown(pattern)}' has {counted(compiled.groups, 'pair')} of parentheses; expected "
            "one, around what tells groups apart, like '(C[0-9]+)'. Others are written (?:...)."
        )
    found = [match[1] if (match := compiled.search(path)) else None for path in paths]
    if without := [path for path, group in zip(paths, found, strict=True) if not group]:
        raise DataError(
            f"The group '{shown(pattern)}' is not found in {len(without):,} of "
            f"{counted(len(paths), 'path')}: {some(without)}. Expected a group for every picture; make the "
            "expression match them all."
        )
    return found


def _assemble(
    entries: Entries, files: Files | Arrays, *, source: str, kind: str, name: str, task: Task,
    classes: Sequence[str] | None = None,
) -> Dataset:  # fmt: skip

    def place(positions: Sequence[int]) -> str:
        return f"those of {some([entries.paths[i] for i in positions])}"

    entries.labels = task.read(entries.labels, place)
    outputs = task.outputs(entries.labels, entries.column)
    if task.kind == LABELS:  # a label that no picture has is still one
        outputs = tuple(sorted({*outputs, *(classes or ())}))
    notes = [*entries.notes, *task_notes(task, entries.labels, outputs, place)]
    labels = tuple(sorted(set(entries.labels)))
    index = {label: k for k, label in enumerate(labels)}
    rows = zip(entries.paths, entries.labels, entries.splits, entries.groups, strict=True)
    items = tuple(Item(path, index[label], *rest) for path, label, *rest in sorted(rows, key=itemgetter(0)))
    short = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "data"
    data = Dataset(
        source, short, kind, outputs, items, tuple(notes), tuple(sorted(entries.ignored)), files, task, labels
    )
    if any(entries.splits) and task.kind != NUMBER:
        splits = np.array([item.split or "" for item in items])
        data = replace(data, notes=(*notes, *describe_splits(data.targets(), splits, outputs)))
    return data


def _tell(data: Dataset) -> list[str]:
    heaps = data.heaps()
    count = {name: Counter(data.items[i].split for i in inside) for name, inside in heaps}
    groups = {item.group for item in data.items} - {None}
    what = {CLASS: "class", LABELS: "label", NUMBER: data.classes[0] if data.classes else ""}[data.task.kind]
    size = [counted(len(data), "picture")]
    size += [f"a number each, {shown(what)}"] if data.task.kind == NUMBER else [counted(len(data.classes), what)]
    size += [counted(len(groups), "group")] if groups else []
    splits = [split for split in ("train", "validation", "test") if any(c[split] for c in count.values())]
    shown_heaps = [(shown(name), count[name]) for name, _ in heaps[:_SHOWN_CLASSES]]
    width = max([len(what), *(len(name) for name, _ in shown_heaps)])
    lines = [f"{shown(data.source)} ({data.kind}): {', '.join(size)}"]
    lines.append("".join((f"  {shown(what):<{width}}", *(f"{title:>12}" for title in ("pictures", *splits)))))
    for name, found in shown_heaps:
        numbers = (found.total(), *(found[split] for split in splits))
        lines.append("".join((f"  {name:<{width}}", *(f"{number:>12,}" for number in numbers))))
    if len(heaps) > _SHOWN_CLASSES:
        lines.append(f"  and {len(heaps) - _SHOWN_CLASSES:,} more")
    if data.ignored:
        lines.append(f"{counted(len(data.ignored), 'file')} left out, no picture: {some(data.ignored)}")
    return lines + [f"Note: {note}" for note in data.notes]
