"""One look at every picture: can it be read, how large is it, what makes it the same as another, and what does it look like.

The same look serves `check`, `train` and `evaluate`, so a broken file has one verdict everywhere. Results are kept in the
cache under path, size and times of the file; a file that changed is looked at again, a broken one always.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from pellucid.data.dataset import Dataset
from pellucid.data.decode import Picture, decode
from pellucid.data.looks import NO_LOOKS, Looks, look_at
from pellucid.device import num_cpus
from pellucid.errors import PictureError
from pellucid.files import cache_folder, storage_errors

_T = TypeVar("_T")
_CHUNK = 64
_LOOKS = len(Looks._fields)
VERSION = 2  # raise when decode() or look_at() gives other results than before

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True, slots=True)
class Record:
    """What one look found. `reason` is None for a readable picture; then the rest is filled."""

    reason: str | None = None
    sha256: str = ""  # of the file
    pixels: str = ""  # of the decoded pixels and their shape: equal for two encodings of one picture
    height: int = 0
    width: int = 0
    channels: int = 0
    notes: str = ""  # "; " between several
    format: str = ""  # as decode() names it
    looks: Looks = NO_LOOKS

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return min(self.height, self.width)


def scan(
    dataset: Dataset,
    *,
    on_picture: Callable[[int, Picture], None] | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """Looks at every picture of `dataset`, in threads; returns one Record an item, in the order of the items.

    `on_picture(index, picture)` is called, from many threads, for each readable picture; with it every file is decoded,
    without it only those that the cache does not know.
    """
    stats = [dataset.stat(i) for i in range(len(dataset))]
    cache = _ScanCache() if any(stats) else None
    records: list[Record | None] = cache.find(stats) if cache else [None] * len(dataset)
    known = list(records)
    todo = [i for i, record in enumerate(records) if record is None or on_picture is not None]

    def look(i: int) -> Record:
        try:
            data = dataset.read(i)
            picture = decode(data) if data is not None else dataset.picture(i)
        except PictureError as error:
            return Record(reason=error.reason)
        if on_picture is not None:
            on_picture(i, picture)
        return known[i] or _describe(data, picture)

    try:
        for i, record in zip(todo, in_threads(look, todo, progress), strict=True):
            records[i] = record
    finally:  # what was seen before an error or Ctrl-C is kept
        if cache:
            cache.add([(stats[i], records[i]) for i in todo if known[i] is None])
            cache.close()
    return [record for record in records if record is not None]


def remarks(records: Sequence[Record]) -> dict[str, int]:
    """What decoding noted, like 'first of 3 frames used', and for how many pictures."""
    return dict(Counter(note for record in records for note in record.notes.split("; ") if note))


def is_mostly_known(dataset: Dataset) -> bool:
    """Whether the cache holds nearly all of the data set (broken files are never held), so that a scan is quick."""
    stats = [dataset.stat(i) for i in range(len(dataset))]
    if not any(stats):
        return False
    cache = _ScanCache()
    known = sum(record is not None for record in cache.find(stats))
    cache.close()
    return known >= 0.9 * len(dataset)


def in_threads(work: Callable[[int], _T], indices: Sequence[int], progress: Progress | None = None) -> Iterator[_T]:
    """`work(i)` for all indices on all cores; yields in order. Each thread computes alone: torch's own threads rest."""
    chunks = [indices[k : k + _CHUNK] for k in range(0, len(indices), _CHUNK)]
    done = 0
    with _single_threaded_torch(), ThreadPoolExecutor(num_cpus()) as pool:
        try:
            for results in pool.map(lambda chunk: [work(i) for i in chunk], chunks):
                yield from results
                done += len(results)
                if progress:
                    progress(done, len(indices))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _single_threaded_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _describe(data: bytes | None, picture: Picture) -> Record:
    height, width, channels = picture.pixels.shape
    pixels = hashlib.blake2b(picture.pixels.data, digest_size=16, salt=f"{height}x{width}x{channels}".encode()[:16])
    return Record(
        sha256=hashlib.sha256(data if data is not None else picture.pixels.data).hexdigest(),
        pixels=pixels.hexdigest(),
        height=height,
        width=width,
        channels=channels,
        notes="; ".join(picture.notes),
        format=picture.format,
        looks=look_at(picture.pixels),
    )


Stat = tuple[str, int, int, int]  # absolute path, size, mtime_ns, ctime_ns


_COLUMNS = (
    "path BLOB PRIMARY KEY, size INT, mtime INT, ctime INT, sha256 TEXT, pixels TEXT, height INT, width INT, channels INT, "
    "notes TEXT, format TEXT, brightness REAL, contrast REAL, sharpness REAL, thumbnail BLOB"
)


class _ScanCache:
    """Records by file in one SQLite file of the cache folder; where none can be kept there, in memory for this once."""

    def __init__(self) -> None:
        folder = cache_folder()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "scan.sqlite"
        try:
            self._db = self._open(self._file)
        except sqlite3.OperationalError:  # full, locked or read-only
            self._db = self._open(":memory:")
        except sqlite3.DatabaseError:
            self._start_anew()

    def _start_anew(self) -> None:
        """Replaces a damaged file: it is only a cache."""
        self._file.unlink()
        self._db = self._open(self._file)

    @staticmethod
    def _open(file: Path | str) -> sqlite3.Connection:
        database = sqlite3.connect(file, timeout=30)
        try:
            database.execute(f"CREATE TABLE IF NOT EXISTS scan_{VERSION} ({_COLUMNS})")
        except sqlite3.Error:
            database.close()
            raise
        return database

    def find(self, stats: Sequence[Stat | None]) -> list[Record | None]:
        paths = [_key(stat) for stat in stats if stat]
        low, high = min(paths), max(paths)
        query = f"SELECT * FROM scan_{VERSION} "
        try:
            rows = self._db.execute(query + "WHERE path BETWEEN ? AND ?", (low, high)).fetchall()
        except sqlite3.DatabaseError:  # damaged behind its first page
            self._db.close()
            self._start_anew()
            rows = []
        known = {row[0]: (row[1:4], row[4:]) for row in rows}
        unknown: tuple[Any, tuple[Any, ...]] = (None, ())
        found: list[Record | None] = []
        for stat in stats:
            state, rest = known.get(_key(stat), unknown) if stat else unknown
            fresh = stat is not None and state == stat[1:]
            found.append(Record(*(None, *rest[:-_LOOKS], Looks(*rest[-_LOOKS:]))) if fresh else None)
        return found

    def add(self, rows: Sequence[tuple[Stat | None, Record | None]]) -> None:
        values = [
            (_key(stat), *stat[1:], r.sha256, r.pixels, r.height, r.width, r.channels, r.notes, r.format, *r.looks)
            for stat, r in rows
            if stat and r and r.reason is None
        ]
        # a full disk must not stop the look itself
        with contextlib.suppress(sqlite3.DatabaseError), self._db:
            self._db.executemany(
                f"INSERT OR REPLACE INTO scan_{VERSION} VALUES (?{',?' * _COLUMNS.count(',')})", values
            )

    def close(self) -> None:
        self._db.close()


def _key(stat: Stat) -> bytes:
    return stat[0].encode("utf-8", "surrogateescape")
