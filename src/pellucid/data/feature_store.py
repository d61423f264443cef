"""What networks saw of pictures, kept by the content of the picture's file: nothing is looked at twice.

One SQLite file holds what one look gives (of these weights, through this pixel contract, at this layer), so a picture that
was added is looked at, one that was moved, renamed or dealt into another split is not, and one that is gone is not asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.scan import VERSION
from pellucid.files import cache_folder

_ASKED_AT_ONCE = 500  # pictures


class FeatureStore:
    """Features by (picture, view) in one file of the cache. Where none can be kept, none are found, and nothing fails."""

    def __init__(self, look: Sequence[Any], folder: Path | None = None) -> None:
        """`look` is all that decides what is seen of a picture, as JSON data; `folder` is the cache's when it is None."""
        identity = json.dumps([VERSION, *look], sort_keys=True).encode()
        self._file = (folder or cache_folder() / "features") / f"{hashlib.sha256(identity).hexdigest()[:32]}.sqlite"
        self._db: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, sqlite3.DatabaseError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=30)
        try:
            database.execute("PRAGMA page_size = 16384")  # six rows of 1,280 halves fill one
            database.execute(
                "CREATE TABLE IF NOT EXISTS features (picture TEXT, view INT, halves BLOB, PRIMARY KEY (picture, view))"
            )
        except sqlite3.DatabaseError as error:
            database.close()
            if isinstance(error, sqlite3.OperationalError):  # full, locked or read-only
                raise
            self._file.unlink()  # damaged: it is only a cache
            return self._open()
        return database

    def find(self, contents: Sequence[str], views: np.ndarray, into: np.ndarray) -> np.ndarray:
        """Fills the known ones of (N, width), and says which these are: bool (N,)."""
        known = np.zeros(len(contents), bool)
        asked: defaultdict[int, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, (content, view) in enumerate(zip(contents, views.tolist(), strict=True)):
            asked[view][content].append(i)
        try:
            for view, rows in asked.items():
                for content, halves in self._rows(view, list(rows)):
                    if len(halves) == into[0].nbytes:
                        into[rows[content]] = np.frombuffer(halves, into.dtype)
                        known[rows[content]] = True
        except sqlite3.DatabaseError:  # damaged behind its first page
            self.close()
            self._file.unlink(missing_ok=True)
            self._db = self._open()
        return known

    def _rows(self, view: int, contents: list[str]) -> Iterator[tuple[str, bytes]]:
        for some in (contents[k : k + _ASKED_AT_ONCE] for k in range(0, len(contents), _ASKED_AT_ONCE)):
            marks = ",".join("?" * len(some))
            query = f"SELECT picture, halves FROM features WHERE view = ? AND picture IN ({marks})"
            yield from self._db.execute(query, (view, *some)) if self._db else ()

    def add(self, contents: Sequence[str], views: np.ndarray, values: np.ndarray) -> None:
        """Keeps features for later, all of them or, when the disk is full, none."""
        if self._db:
            rows = [(c, v, x.tobytes()) for c, v, x in zip(contents, views.tolist(), values, strict=True)]
            with contextlib.suppress(sqlite3.DatabaseError), self._db:
                self._db.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        if self._db:
            self._db.close()
