"""Pictures without labels: a plain folder or archive of them, for what needs no classes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from pellucid.data.dataset import Dataset, Item, open_dataset
from pellucid.data.layout import only_pictures
from pellucid.data.sources import Archive, Files, Folder
from pellucid.data.table import TABLE_ENDINGS


def open_pictures(source: str | Path, **options: Any) -> Dataset:
    """`open_dataset`; but pictures that lie in one folder (or zip archive), beside each other and without a table, are taken,
    too: without labels. `options` are those of `open_dataset`."""
    path = Path(source).expanduser()
    files: Files | None = None
    if not options.get("group"):
        if path.is_dir():
            files = Folder(path)
        elif path.is_file() and zipfile.is_zipfile(path):
            files = Archive(path)
    if files is None:
        return open_dataset(source, **options)
    tree, notes = files.tree()
    ignored: list[str] = []
    pictures = only_pictures({folder: names for folder, names in tree.items() if names}, files.head, ignored)
    tables = any(file.lower().endswith(TABLE_ENDINGS) for file in ignored)
    if tables or list(pictures) != [""] or not pictures[""]:
        return open_dataset(source, **options)
    name = re.sub(r"[^\w.-]+", "-", path.resolve().stem).strip("-.")[:60] or "pictures"
    items = tuple(Item(file, -1) for file in sorted(pictures[""]))
    kind = "folder" if path.is_dir() else "zip"
    return Dataset(str(source), name, kind, (), items, tuple(notes), tuple(sorted(ignored)), files)
