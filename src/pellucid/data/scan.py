"""One look at every picture: can it be read, how large is it, what makes it the same as another, and what does it look like.

The same look serves `check`, `train` and `evaluate`, so a broken file has one verdict everywhere. Results are kept in the
cache under path, size and times of the file; a file that changed is looked at again, a broken one always.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pellucid.data.ahead import asked_ahead
from pellucid.data.dataset import Dataset
from pellucid.data.decode import Picture, decode
from pellucid.data.looks import NO_LOOKS, Looks, look_at_all
from pellucid.data.sources import Stat
from pellucid.device import num_cpus
from pellucid.errors import PictureError
from pellucid.files import cache_folder, storage_errors

_T = TypeVar("_T")
_CHUNK = 64
_AT_ONCE = 50_000  # bytes of pixels that are described at once: what numpy takes from its own heap, and fits the cache
_SMALL = 4096  # bytes
_LOOKS = len(Looks._fields)
VERSION = 3  # raise when decode() or look_at() gives other results than before

Progress = Callable[[int, int], None]  # (done, total)
OnPictures = Callable[[Sequence[int], Sequence[Picture]], None]


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


@dataclass(frozen=True, eq=False)
class Recalled:
    """What the cache knows of a data set: a file's `stats` and its record, None where it is new, changed or broken."""

    stats: list[Stat | None]
    records: list[Record | None]

    @property
    def is_most(self) -> bool:
        """Whether nearly all is known (broken files never are), so that a scan is quick."""
        return sum(record is not None for record in self.records) >= 0.9 * len(self.records)


def recall(dataset: Dataset) -> Recalled:
    """Looks the files of `dataset` up in the cache, and opens none of them."""
    stats = dataset.stats()
    if not any(stats):
        return Recalled(stats, [None] * len(stats))
    cache = _ScanCache()
    try:
        return Recalled(stats, cache.find(stats))
    finally:
        cache.close()


def scan(
    dataset: Dataset,
    *,
    recalled: Recalled | None = None,
    on_pictures: OnPictures | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """Looks at every picture of `dataset`, in threads; returns one Record an item, in the order of the items.

    `on_pictures(indices, pictures)` is called, from many threads, for all readable pictures, some of one shape at a time; with
    it every file is decoded, without it only those that the cache does not know. `recalled` is what `recall` just found.
    """
    recalled = recalled or recall(dataset)
    stats, known = recalled.stats, recalled.records
    records = list(known)
    todo = [i for i, record in enumerate(known) if record is None or on_pictures is not None]

    def look(rows: Sequence[int]) -> list[Record]:
        found: dict[int, Record] = {}
        for these, files, pictures in _alike(dataset, rows, found):
            if on_pictures is not None:
                on_pictures(these, pictures)
            before = [record for i in these if (record := known[i])]
            found.update(zip(these, before if len(before) == len(these) else _describe(files, pictures), strict=True))
        return [found[i] for i in rows]

    try:
        with asked_ahead([stats[i] for i in todo]):
            chunks = _in_chunks(look, _chunks(todo, _CHUNK), progress, threads=_threads(stats))
            for i, record in zip(todo, chunks, strict=True):
                records[i] = record
    finally:  # what was seen before an error or Ctrl-C is kept
        if any(stats[i] and known[i] is None for i in todo):
            cache = _ScanCache()
            cache.add([(stats[i], records[i]) for i in todo if known[i] is None])
            cache.close()
    return [record for record in records if record is not None]


def remarks(records: Sequence[Record]) -> dict[str, int]:
    """What decoding noted, like 'first of 3 frames used', and for how many pictures."""
    return dict(Counter(note for record in records for note in record.notes.split("; ") if note))


def in_threads(
    work: Callable[[int], _T], indices: Sequence[int], progress: Progress | None = None, *, at_once: int = _CHUNK
) -> Iterator[_T]:
    """`work(i)` for all indices on all cores; yields in order. Each thread computes alone: torch's own threads rest.

    A thread takes `at_once` indices at a time.
    """
    chunks = _chunks(indices, at_once)
    return _in_chunks(lambda chunk: [work(i) for i in chunk], chunks, progress, threads=num_cpus())


def _chunks(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[k : k + size] for k in range(0, len(indices), size)]


def _in_chunks(
    work: Callable[[Sequence[int]], list[_T]],
    chunks: Sequence[Sequence[int]],
    progress: Progress | None,
    *,
    threads: int,
) -> Iterator[_T]:
    total = sum(map(len, chunks))
    done = 0
    with _single_threaded_torch(), ThreadPoolExecutor(threads) as pool:
        try:
            for results in (pool.map if threads > 1 else map)(work, chunks):
                yield from results
                done += len(results)
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _threads(stats: Sequence[Stat | None]) -> int:
    """One for small files: what Python does for each outweighs their pixels, and threads that wait for its lock at every
    short call take half as long again as one."""
    sizes = [stat[1] for stat in stats if stat]
    return 1 if sizes and sum(sizes) < _SMALL * len(sizes) else num_cpus()


@contextlib.contextmanager
def _single_threaded_torch() -> Iterator[None]:
    torch = sys.modules.get("torch")  # who resizes pictures has imported it; to look at them it is not needed
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alike(
    dataset: Dataset, rows: Sequence[int], unreadable: dict[int, Record]
) -> Iterator[tuple[list[int], list[bytes | None], list[Picture]]]:
    """The rows with their files and pictures, in runs of one shape and of about 50 kB; puts what cannot be read aside."""
    these: list[int] = []
    files: list[bytes | None] = []
    pictures: list[Picture] = []
    for i in rows:
        try:
            data = dataset.read(i)
            picture = decode(data) if data is not None else dataset.picture(i)
        except PictureError as error:
            unreadable[i] = Record(reason=error.reason)
            continue
        shape, size = picture.pixels.shape, picture.pixels.size
        if these and (pictures[0].pixels.shape != shape or (len(these) + 1) * size > _AT_ONCE):
            yield these, files, pictures
            these, files, pictures = [], [], []
        these.append(i)
        files.append(data)
        pictures.append(picture)
    if these:
        yield these, files, pictures


def _describe(files: Sequence[bytes | None], pictures: Sequence[Picture]) -> list[Record]:
    """The records of pictures of one shape."""
    height, width, channels = pictures[0].pixels.shape
    salt = f"{height}x{width}x{channels}".encode()[:16]
    looks = look_at_all([picture.pixels for picture in pictures])
    return [
        Record(
            sha256=hashlib.sha256(data if data is not None else picture.pixels.data).hexdigest(),
            pixels=hashlib.blake2b(picture.pixels.data, digest_size=16, salt=salt).hexdigest(),
            height=height,
            width=width,
            channels=channels,
            notes="; ".join(picture.notes),
            format=picture.format,
            looks=look,
        )
        for data, picture, look in zip(files, pictures, looks, strict=True)
    ]


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
        keys = [_key(stat) for stat in stats if stat]
        query = f"SELECT * FROM scan_{VERSION} "
        try:
            rows = self._db.execute(query + "WHERE path BETWEEN ? AND ?", (min(keys), max(keys))).fetchall()
        except sqlite3.DatabaseError:  # damaged behind its first page
            self._db.close()
            self._start_anew()
            rows = []
        known = {row[0]: row for row in rows}
        found: list[Record | None] = []
        for stat in stats:
            row = known.get(_key(stat)) if stat else None
            fresh = stat is not None and row is not None and row[1:4] == stat[1:]
            found.append(Record(*(None, *row[4:-_LOOKS], Looks(*row[-_LOOKS:]))) if row and fresh else None)
        return found

    def add(self, rows: Sequence[tuple[Stat | None, Record | None]]) -> None:
        values = (
            (_key(stat), *stat[1:], r.sha256, r.pixels, r.height, r.width, r.channels, r.notes, r.format, *r.looks)
            for stat, r in rows
            if stat and r and r.reason is None
        )
        # a full disk must not stop the look itself
        with contextlib.suppress(sqlite3.DatabaseError), self._db:
            self._db.executemany(
                f"INSERT OR REPLACE INTO scan_{VERSION} VALUES (?{',?' * _COLUMNS.count(',')})", values
            )

    def close(self) -> None:
        self._db.close()


def _key(stat: Stat) -> bytes:
    return stat[0].encode("utf-8", "surrogateescape")
