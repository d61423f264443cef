"""A person's verdicts about labels, read back from the table that `pellucid suspects` wrote, and a data set with them applied.

Nothing on disk is touched: a relabeled picture has its new label, and one that is to be left out its status, in the manifest
of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pellucid.data.dataset import Dataset
from pellucid.data.table import read_table
from pellucid.data.task import CLASS
from pellucid.data.wording import counted, shown, some
from pellucid.errors import DataError, UnknownNameError, nearest

COLUMNS = ("path", "label", "suggested", "score", "verdict")
OK = "ok"
REMOVE = ("remove", "leave out")


def read_verdicts(file: str | Path, dataset: Dataset) -> dict[str, str]:
    """The verdicts of a table by path: a class of `dataset`, "ok" or "remove"; empty cells are passed over.

    A word is first looked for among the classes, letter for letter, so that a class called ok can be meant.
    Raises DataError when the table is not one of `suspects` or not about these pictures, UnknownNameError for other words.
    """
    name = shown(str(file))
    try:
        columns = read_table(Path(file).read_bytes(), str(file))
    except OSError as error:
        raise DataError(f"The verdicts '{name}' cannot be read: {error.strerror}. {_EXPECTED}") from error
    if missing := {"path", "label", "verdict"} - set(columns):
        raise DataError(f"The verdicts '{name}' have no column {some(missing)}. {_EXPECTED}")
    labels = {item.path: dataset.label(i) for i, item in enumerate(dataset.items)}
    verdicts: dict[str, str] = {}
    other = []
    rows = zip(columns["path"], columns["label"], columns["verdict"], strict=True)
    for line, (path, label, verdict) in enumerate(rows, 2):
        word = verdict.strip()
        if not word:
            continue
        if labels.get(path) != label:
            other.append(path)
        elif word in dataset.classes:
            verdicts[path] = word
        elif word.lower() == OK:
            verdicts[path] = OK
        elif word.lower() in REMOVE:
            verdicts[path] = REMOVE[0]
        else:
            raise UnknownNameError(
                f"The verdict '{shown(word)}' in line {line} of '{name}' is none. Expected the name of a class, "
                f"'{OK}' when the label is right, or '{REMOVE[0]}' to leave the picture out; an empty cell changes nothing. "
                f"{nearest(word, [*dataset.classes, OK, *REMOVE])}".rstrip()
            )
    if other:
        raise DataError(
            f"{counted(len(other), 'verdict')} of '{name}' are about pictures that '{shown(dataset.source)}' does not "
            f"have under that label: {some(other)}. Give the data set for which the list was made, as it was then."
        )
    return verdicts


def with_verdicts(dataset: Dataset, verdicts: Mapping[str, str]) -> Dataset:
    """The data set with these verdicts, as `read_verdicts` gives them. Raises DataError when it is not about classes."""
    if not verdicts:
        return dataset
    if dataset.task.kind != CLASS:
        raise DataError(
            f"Verdicts are about one class a picture, but '{dataset.source}' was opened with task '{dataset.task.kind}'."
        )
    position = {name: k for k, name in enumerate(dataset.classes)}
    before: dict[str, str | None] = {}
    items = []
    for i, item in enumerate(dataset.items):
        verdict, label = verdicts.get(item.path), dataset.label(i)
        if verdict in position and verdict != label:
            before[item.path] = label
            item = replace(item, label=position[verdict])
        elif verdict == REMOVE[0] and verdict not in position:
            before[item.path] = None
        items.append(item)
    removed = sum(label is None for label in before.values())
    right = sum(path not in before for path in verdicts)
    note = (
        f"verdicts: {counted(len(before) - removed, 'picture')} relabeled, {removed:,} left out, {right:,} found right "
        "(see data.csv; the files stay as they are)"
    )
    return replace(dataset, items=tuple(items), verdicts=before, notes=(*dataset.notes, note))


_EXPECTED = f"Expected the table that `pellucid suspects RUN` wrote, with the columns {', '.join(COLUMNS)}."
