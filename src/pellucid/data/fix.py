"""A table of a data set without what a check found wrong, for `check` and `train` to read instead.

The pictures themselves are never touched. What is left out stands in a second table, with its reason.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.data.dataset import Dataset
from pellucid.data.duplicates import find_duplicates
from pellucid.data.manifest import SPLITS
from pellucid.data.scan import Progress, Record, scan
from pellucid.data.sources import Folder
from pellucid.data.wording import counted
from pellucid.errors import ConfigError, DataError
from pellucid.files import atomic_write, storage_errors


@dataclass(frozen=True)
class Mended:
    """The table, how many pictures it names, the table of those left out, and how many of them for which kind of reason."""

    file: Path
    pictures: int
    left_out_file: Path
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "file": str(self.file), "images": self.pictures,
            "left_out_file": str(self.left_out_file), "left_out": self.left_out,
        }  # fmt: skip

    def __str__(self) -> str:
        reasons = ", ".join(f"{n:,} {kind}" for kind, n in self.left_out.items()) or "nothing"
        return (
            f"{counted(self.pictures, 'picture')} in {self.file}; left out: {reasons} ({self.left_out_file}). "
            f"Next: pellucid train {self.file}"
        )


def mend(dataset: Dataset, file: Path, *, near: bool = True, progress: Progress | None = None) -> Mended:
    """Writes the table `file` (path, label, and split and group where there are any) and `FILE-left-out.csv`, with a reason.

    Left out are: what cannot be read; all pictures that are, exactly or nearly, under more than one class; all copies of a
    picture but one (of the last split); of near duplicates and groups in several given splits, all but those in the last one.
    Paths are relative to the table's folder where the pictures lie below it, otherwise absolute.
    Raises ConfigError when a file would be overwritten, DataError when the pictures are not files.
    """
    file = file.absolute()
    rest = file.with_name(f"{file.stem}-left-out.csv")
    if file.suffix.lower() != ".csv":
        raise ConfigError(f"--fix is '{file.name}'; expected the name of a new table that ends in .csv.")
    for new in (file, rest):
        if new.exists():
            raise ConfigError(
                f"'{new}' exists already and is not overwritten. Name another file, or move that one away."
            )
    if not isinstance(dataset.files, Folder):
        raise DataError(
            f"'{dataset.source}' holds its pictures in {'an archive' if dataset.kind == 'zip' else 'memory'}, so a table cannot "
            "name them. Unpack them into a folder, and mend that."
        )
    records = scan(dataset, progress=progress)
    reasons = _reasons(dataset, records, near=near)
    places = [_place(dataset.files, item.path, file.parent) for item in dataset.items]
    for i, place in enumerate(places):
        if i not in reasons and not _is_text(place):
            reasons[i] = ("oddly named", "its name is no valid text, which a table cannot hold")
    columns = ["path", "label"] + [c for c in ("split", "group") if any(getattr(item, c) for item in dataset.items)]
    rows = [
        {"path": place, "label": dataset.classes[item.label], "split": item.split or "", "group": item.group or ""}
        for place, item in zip(places, dataset.items, strict=True)
    ]
    kept = [row for i, row in enumerate(rows) if i not in reasons]
    if not kept:
        raise DataError(
            f"Nothing of '{dataset.source}' would be left. See what is wrong with it: pellucid check, --html."
        )
    out = [{**rows[i], "reason": reasons[i][1]} for i in sorted(reasons)]
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(rest, _csv(out, [*columns, "reason"]))
    atomic_write(file, _csv(kept, columns))
    return Mended(file, len(kept), rest, dict(Counter(kind for kind, _ in reasons.values())))


def _reasons(dataset: Dataset, records: Sequence[Record], *, near: bool) -> dict[int, tuple[str, str]]:
    """Of the items to leave out: the kind of reason and the reason."""
    items = dataset.items
    reasons = {i: ("unreadable", str(record.reason)) for i, record in enumerate(records) if record.reason is not None}

    def rest(cluster: Iterable[int]) -> list[int]:
        return [i for i in cluster if i not in reasons]

    def contradictions(clusters: Sequence[Sequence[int]], like: str) -> None:
        for cluster in map(rest, clusters):
            for i in cluster:
                other = next((j for j in cluster if items[j].label != items[i].label), None)
                if other is not None:
                    what = f"{like} {items[other].path} of class {dataset.classes[items[other].label]}"
                    reasons[i] = ("of two classes", what)

    def straddling(clusters: Iterable[Sequence[int]], like: str) -> None:
        for cluster in map(rest, clusters):
            last = max(cluster, key=lambda i: _rank(items[i].split), default=-1)
            for i in cluster:
                if _rank(items[i].split) < _rank(items[last].split):
                    reasons[i] = ("leaked", f"{like} {items[last].path} in {items[last].split}")

    found = find_duplicates(records, near=False)
    contradictions(found.exact, "same pixels as")
    straddling(found.exact, "same pixels as")
    for cluster in filter(None, map(rest, found.exact)):
        reasons |= dict.fromkeys(cluster[1:], ("duplicate", f"same pixels as {items[cluster[0]].path}"))
    groups: dict[str, list[int]] = defaultdict(list)
    for i in rest(range(len(items))):
        if items[i].group:
            groups[str(items[i].group)].append(i)
    straddling(groups.values(), "same group as")
    before = -1
    while near and len(reasons) > before:  # among fewer pictures others are the nearest
        before = len(reasons)
        alike = find_duplicates(records, among=rest(range(len(items)))).near
        contradictions(alike, "nearly the same as")
        straddling(alike, "nearly the same as")
    return reasons


def _rank(split: str | None) -> int:
    """The order of the splits; what has none is in nobody's way."""
    return SPLITS.index(split) if split else len(SPLITS)


def _place(files: Folder, path: str, folder: Path) -> str:
    place = os.path.join(files.root, path)  # noqa: PTH118  as Folder does
    inside = os.path.relpath(place, folder)
    return place if inside.startswith("..") else inside.replace(os.sep, "/")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> bytes:
    content = io.StringIO(newline="")
    table = csv.DictWriter(content, columns, extrasaction="ignore")
    table.writeheader()
    table.writerows(rows)
    return content.getvalue().encode("utf-8", "backslashreplace")
