"""Asks the system for files before they are read, where they must come from a disk, which answers many questions at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pellucid.data.sources import Stat

_TRIED = 64  # files
_THREADS, _AT_ONCE = 4, 256
_MOST = 2**30  # bytes; more could push out of memory what is soon needed


@contextlib.contextmanager
def asked_ahead(stats: Sequence[Stat | None]) -> Iterator[None]:
    """Meanwhile the files of `stats` are read into the system's cache, in order, if they are not there already."""
    files = [stat[0] for stat in stats if stat]
    if not hasattr(os, "posix_fadvise") or sum(stat[1] for stat in stats if stat) > _MOST or not _waits(files):
        yield
        return
    pool = ThreadPoolExecutor(_THREADS)
    for start in range(0, len(files), _AT_ONCE):
        pool.submit(_ask, files[start : start + _AT_ONCE])
    try:
        yield
    finally:
        pool.shutdown(cancel_futures=True)


def _waits(files: Sequence[str]) -> bool:
    """Whether reading some of them, here and there, takes longer than the processor works for it."""
    started, busy = time.perf_counter(), time.thread_time()
    for file in files[:: max(1, len(files) // _TRIED)]:
        with contextlib.suppress(OSError):  # a member of an archive is no file; what cannot be read is told elsewhere
            Path(file).read_bytes()
    return time.perf_counter() - started > 1.25 * (time.thread_time() - busy)


def _ask(files: Sequence[str]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            handle = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)
