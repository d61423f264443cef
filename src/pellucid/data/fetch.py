"""Files of a well-known data set: fetched because it was named, or put into its folder by hand; checked; unpacked.

They lie in the cache in sets/NAME. An archive is unpacked beside it, whole or not at all, after its MD5 has been
compared with the published one; then it is no longer needed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import Request, urlopen

from pellucid.errors import DataError
from pellucid.files import cache_folder, storage_errors

_BLOCK = 2**20  # bytes
_PATIENCE = 30  # seconds without an answer
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)

Progress = Callable[[int, int], None]  # (done, total) of a file's bytes or members


@dataclass(frozen=True)
class Source:
    """One file on the network; `md5` is what its publisher says."""

    address: str
    md5: str

    @property
    def name(self) -> str:
        """The file's name, on the network and on disk."""
        return self.address.rpartition("/")[2]


def set_folder(name: str) -> Path:
    """Where the files of a well-known set lie: $PELLUCID_CACHE/sets/NAME or ~/.cache/pellucid/sets/NAME."""
    return cache_folder() / "sets" / name


def is_here(name: str, sources: Sequence[Source]) -> bool:
    """Whether nothing of the set has to be fetched."""
    home = set_folder(name)
    return (home / "unpacked").is_dir() or all((home / source.name).is_file() for source in sources)


def obtain(name: str, sources: Sequence[Source], *, keep: str = "", progress: Progress | None = None) -> Path:
    """The folder with what is in the files of a set, which are fetched where they are missing.

    `keep` is a regular expression for the members that are unpacked; archives within archives are unpacked, too.
    Raises DataError when a file cannot be fetched, is not the published one or cannot be unpacked; StorageError.
    """
    home = set_folder(name)
    ready = home / "unpacked"
    if ready.is_dir():
        return ready
    with storage_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        missing = [source for source in sources if not (home / source.name).is_file()]
        for source in missing:
            try:
                _download(source, home, progress)
            except _NoAnswerError as error:
                raise DataError(
                    f"The well-known set '{name}' is not on this machine, and {source.name} could not be fetched: {error}. "
                    "Without a network, get the following on another machine and put it, as it is, into the folder "
                    f"'{home}': {'; '.join(f'{source.address} (MD5 {source.md5})' for source in missing)}."
                ) from error
        for source in sources:
            _verify(home / source.name, source)
        with tempfile.TemporaryDirectory(dir=home, prefix=".unpacking-") as temporary:
            folder = Path(temporary) / "unpacked"
            folder.mkdir()
            for source in sources:
                _unpack(home / source.name, folder, keep, progress)
            if not ready.is_dir():  # another process may have been faster
                folder.rename(ready)
    return ready


class _NoAnswerError(Exception):
    """The network did not give what it was asked for."""


def _download(source: Source, home: Path, progress: Progress | None) -> None:
    """Fetches into a file of another name first, so that an interrupted one is never taken for whole."""
    part = home / f".{source.name}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            for block, total in _blocks(source):
                file.write(block)
                if progress:
                    progress(file.tell(), max(total, file.tell()))
        _verify(part, source)
        part.replace(home / source.name)
    finally:
        part.unlink(missing_ok=True)


def _blocks(source: Source) -> Iterator[tuple[bytes, int]]:
    """The content piece by piece, each with the number of bytes in all (0: not known). Raises _NoAnswerError."""
    try:
        request = Request(source.address, headers={"User-Agent": "pellucid"})
        with urlopen(request, timeout=_PATIENCE) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(_BLOCK):
                yield block, total
    except (OSError, HTTPException, ValueError) as error:
        raise _NoAnswerError(getattr(error, "reason", error)) from error


def _verify(file: Path, source: Source) -> None:
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != source.md5:
        raise DataError(
            f"'{file.with_name(source.name)}' is not the published file: its MD5 is {found}, expected {source.md5}. It is "
            f"incomplete or another version; delete it and get it again from {source.address}."
        )


def _unpack(file: Path, folder: Path, keep: str, progress: Progress | None) -> None:
    """Writes what is in an archive below `folder`; a file that is none is copied."""
    try:
        for name, content in _members(file, progress):
            path = Path(name)
            hidden = any(part.startswith(".") for part in path.parts)  # also '..'
            if hidden or path.is_absolute() or not re.search(keep, name):
                continue
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(content, out, _BLOCK)
            if _kind(target.name):
                _unpack(target, target.parent, keep, None)
                target.unlink()
    except _DAMAGED as error:
        raise DataError(f"'{file}' cannot be unpacked: {error}. Delete it and get it again.") from error


def _members(file: Path, progress: Progress | None) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every regular file in an archive, in its order."""
    kind, size = _kind(file.name), file.stat().st_size
    with file.open("rb") as raw:
        if kind == "tar":
            with tarfile.open(fileobj=raw, mode="r|*") as archive:
                for member in archive:
                    if member.isfile() and (content := archive.extractfile(member)):
                        yield member.name, content
                    if progress:
                        progress(raw.tell(), size)
        elif kind == "zip":
            with zipfile.ZipFile(raw) as packed:
                for number, entry in enumerate(packed.infolist(), 1):
                    if not entry.is_dir():
                        with packed.open(entry) as file_in_it:
                            yield entry.filename, file_in_it
                    if progress:
                        progress(number, len(packed.infolist()))
        elif kind == "gzip":
            with gzip.open(raw) as plain:
                yield file.name.removesuffix(".gz"), plain  # type: ignore[misc]
        else:
            yield file.name, raw


def _kind(name: str) -> str:
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return "tar"
    return "zip" if name.endswith(".zip") else "gzip" if name.endswith(".gz") else ""
