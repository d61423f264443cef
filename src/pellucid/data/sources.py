"""Where files lie: in a folder, or in a zip archive that is never unpacked.

A source gives the bytes of one file, to any number of threads at once, and knows nothing of labels. Whatever
goes wrong with one file is a PictureError, so that this one can be named and the others go on.
"""

from __future__ import annotations

import lzma
import os
import re
import threading
import zipfile
import zlib
from pathlib import Path

from pellucid.data.decode import HEAD, Picture, decode
from pellucid.data.wording import shown, some
from pellucid.errors import DataError, PictureError

# Functions of os on paths as text: those of pathlib take three times as long, which 60,000 files feel.
# ruff: noqa: PTH110, PTH112, PTH113, PTH116, PTH118, PTH123

MAX_BYTES = 512 * 2**20  # of one file: more than any picture has, and memory can hold it

READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a named pipe is not waited for

_UNPACKING_ERRORS = (
    OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip

Stat = tuple[str, int, int, int]  # absolute path, size in bytes, mtime_ns, ctime_ns
Tree = dict[str, list[str]]  # every folder, "" for the root and "a/b" below it -> the names of its files


class Folder:
    """Files on disk, their paths relative to `root`; an absolute path or '..' may lead out of it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.absolute())

    def tree(self) -> tuple[Tree, list[str]]:
        """All folders and files that are not hidden, and what to tell.

        Links to folders are followed, but no folder is listed twice. A broken link counts as a file, one that
        is missing. Raises DataError when a folder cannot be listed.
        """
        tree: Tree = {}
        notes: list[str] = []
        seen: dict[tuple[int, int], str] = {}
        folders: list[str] = [""]
        links: list[str] = []
        while folders or links:  # links last: a folder is listed under its own name
            folder = folders.pop() if folders else links.pop()
            place = self._place(folder)
            try:
                status = os.stat(place)
                same = seen.setdefault((status.st_dev, status.st_ino), folder)
                if same != folder:
                    notes.append(f"'{shown(folder)}' is left out: a link to '{shown(same) or '.'}'")
                    continue
                with os.scandir(place) as found:
                    entries = sorted((e for e in found if not _is_hidden(e.name)), key=lambda e: e.name)
            except OSError as error:
                raise DataError(
                    f"The folder '{shown(place)}' cannot be listed: {error.strerror}. Every folder of a data "
                    "set must be readable; change its permissions, or move it elsewhere."
                ) from error
            tree[folder] = []
            for entry in entries:
                kind = _kind(entry)
                if kind == "file":
                    tree[folder].append(entry.name)
                elif kind == "folder":
                    (links if entry.is_symlink() else folders).append(below(folder, entry.name))
                else:
                    notes.append(f"'{shown(below(folder, entry.name))}' is left out: no regular file")
        return tree, notes

    def read(self, path: str) -> bytes:
        """The bytes of a file. Raises PictureError."""
        try:
            handle = os.open(self._place(path), READ)  # a third of the time of open()
            try:
                size = os.fstat(handle).st_size
                if size > MAX_BYTES:
                    raise PictureError(f"file of {size:,} bytes, more than the limit of {MAX_BYTES:,}")
                parts = [os.read(handle, size)]
                while parts[-1] and sum(map(len, parts)) < size:  # a file system may give less than asked for
                    parts.append(os.read(handle, size))
                return b"".join(parts)
            finally:
                os.close(handle)
        except FileNotFoundError as error:
            raise PictureError("file is missing") from error
        except OSError as error:
            raise PictureError(f"cannot be read: {error.strerror}") from error
        except ValueError as error:  # a null character in the path
            raise PictureError(f"cannot be read: {error}") from error

    def head(self, path: str) -> bytes:
        """The first bytes of a file, HEAD of them, none when it cannot be read."""
        try:
            with open(self._place(path), "rb", buffering=0) as file:
                return file.read(HEAD)
        except OSError:
            return b""

    def picture(self, path: str) -> Picture:
        """The decoded picture. Raises PictureError."""
        return decode(self.read(path))

    def has_file(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self._place(path))

    def stat(self, path: str) -> Stat | None:
        """What changes when the file does; None when there is no file."""
        place = self._place(path)
        try:
            found = os.stat(place)
        except (OSError, ValueError):
            return None
        return place, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _place(self, path: str) -> str:
        plain = path[:1] not in "/\\" and ":" not in path
        return f"{self.root}{os.sep}{path}" if plain else os.path.join(self.root, path)  # which takes 2 us


class Archive:
    """Members of a zip file, their paths as in the archive; nothing is ever written to disk.

    A member that points out of it ('..', absolute) does not exist here; of two with one name the last counts.
    """

    def __init__(self, file: Path) -> None:
        self.file = str(file.absolute())
        try:
            status = os.stat(self.file)
            self._zip = zipfile.ZipFile(self.file)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(
                f"The archive '{shown(self.file)}' cannot be opened: {error}. Expected a zip file; pack it again."
            ) from error
        self._times = status.st_mtime_ns, status.st_ctime_ns
        self._lock = threading.Lock()
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._folders: list[str] = []
        self._notes: list[str] = []
        self._list_members()

    def _list_members(self) -> None:
        outside, repeated = [], []
        for member in self._zip.infolist():
            name = member.filename.replace("\\", "/")  # as some archivers on Windows write
            parts = [part for part in name.split("/") if part not in ("", ".")]
            path = "/".join(parts)
            if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
                outside.append(member.filename)
            elif name.endswith("/"):
                self._folders.append(path)
            else:
                if path in self._members:
                    repeated.append(path)
                self._members[path] = member
        if outside:
            self._notes.append(f"left out, pointing out of the archive: {some(outside)}")
        if repeated:
            self._notes.append(f"more than once in the archive, the last one counts: {some(repeated)}")

    def tree(self) -> tuple[Tree, list[str]]:
        """All folders and files that are not hidden, and what to tell."""
        folders: Tree = {"": [], **{folder: [] for folder in self._folders}}
        for path in sorted(self._members):
            folder, _, name = path.rpartition("/")
            if not _is_hidden(name):
                folders.setdefault(folder, []).append(name)
        tree = {f: names for f, names in folders.items() if not any(map(_is_hidden, f.split("/")))}
        return tree, list(self._notes)

    def read(self, path: str) -> bytes:
        """The bytes of a member, unpacked no further than the size that it claims. Raises PictureError."""
        size = self._member(path).file_size
        if size > MAX_BYTES:
            raise PictureError(f"file of {size:,} bytes unpacked, more than the limit of {MAX_BYTES:,}")
        data = self._unpack(path, size)
        if len(data) != size:
            raise PictureError(f"damaged in the archive: {len(data):,} bytes instead of {size:,}")
        return data

    def head(self, path: str) -> bytes:
        """The first bytes of a member, HEAD of them, none when it cannot be read."""
        try:
            return self._unpack(path, HEAD)
        except PictureError:
            return b""

    def picture(self, path: str) -> Picture:
        """The decoded picture. Raises PictureError."""
        return decode(self.read(path))

    def has_file(self, path: str) -> bool:
        """Whether there is such a member."""
        return path in self._members

    def stat(self, path: str) -> Stat | None:
        """As of a file below the archive, with the archive's times; None when there is no such member."""
        if path not in self._members:
            return None
        return f"{self.file}/{path}", self._members[path].file_size, *self._times

    def _member(self, path: str) -> zipfile.ZipInfo:
        if path not in self._members:
            raise PictureError("file is missing")
        return self._members[path]

    def _unpack(self, path: str, count: int) -> bytes:
        """The first `count` bytes of a member.

        One handle serves all threads. A handle a thread was slower (44 against 31 us for 1 kB, two threads on
        two cores), and each has to list the members again (0.3 s for 60,000).
        """
        member = self._member(path)
        if member.flag_bits & 1:
            raise PictureError("encrypted in the archive")
        try:
            with self._lock:  # ZipFile counts its open members without one
                file = self._zip.open(member)
            try:
                return file.read(count)
            finally:
                with self._lock:
                    file.close()
        except _UNPACKING_ERRORS as error:
            raise PictureError(f"damaged in the archive: {error}") from error


Files = Folder | Archive


def below(folder: str, name: str) -> str:
    """The path of `name` in `folder`, which is "" for the root."""
    return f"{folder}/{name}" if folder else name


def _is_hidden(name: str) -> bool:
    """Whether it belongs to the system or a tool: .git, .DS_Store, __MACOSX, Thumbs.db."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _kind(entry: os.DirEntry[str]) -> str:
    """file, folder or other; a link is what it points to, and a file when it points to nothing."""
    if not entry.is_symlink():
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    if os.path.isdir(entry.path):
        return "folder"
    return "file" if os.path.isfile(entry.path) or not os.path.exists(entry.path) else "other"
