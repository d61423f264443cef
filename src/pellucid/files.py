"""Writes that are whole or not at all, and the folder for what can be made again (the cache)."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.errors import StorageError

if TYPE_CHECKING:
    from PIL import Image


def cache_folder() -> Path:
    """Folder of everything that can be made again: $PELLUCID_CACHE, else $XDG_CACHE_HOME/pellucid or ~/.cache/pellucid."""
    if own := os.environ.get("PELLUCID_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pellucid"


@contextlib.contextmanager
def storage_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turns an OSError of a write into a StorageError that says what to do."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            need = f" {needed:,} bytes were needed." if needed else ""
            raise StorageError(
                f"The disk is full: '{path}' could not be written.{need} What was there before is untouched. "
                f"Free some space on the disk that holds '{path.parent}' and try again."
            ) from error
        raise StorageError(
            f"'{path}' could not be written: {error.strerror or error}. "
            "Check the folder's permissions, or choose another folder (--out)."
        ) from error


def atomic_write(path: Path, data: bytes) -> None:
    """Writes `data` to `path` so that a reader sees the old file or the new one, never a part.

    Raises StorageError when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path, needed=len(data)):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as readable JSON, atomically. Numbers that are not finite are refused."""
    atomic_write(path, (json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode())


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raises StorageError when the disk that holds `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{what} needs {needed:,} bytes, but the disk that holds '{folder}' has only {free:,} free. "
            "Free some space, or point PELLUCID_CACHE to a folder on a larger disk."
        )
