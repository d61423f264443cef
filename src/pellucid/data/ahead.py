"""Asks the system for files before they are read, where they must come from a disk, which answers many questions at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pellucid.data.sources import READ, Stat

_MANY, _TRIED = 1000, 64  # files: of fewer there is little to gain, and to try would be to read many of them twice
_THREADS, _AT_ONCE = 4, 256
_MOST = 2**30  # bytes; more could push out of memory what is soon needed


@contextlib.contextmanager
def asked_ahead(stats: Sequence[Stat | None]) -> Iterator[None]:
    """Meanwhile the files of `stats` are read into the system's cache, in order, if they are not there already."""
    files = [stat[0] for stat in stats if stat]
    many_small = len(files) >= _MANY and sum(stat[1] for stat in stats if stat) <= _MOST
    if not many_small or not hasattr(os, "posix_fadvise") or not _waits(files):
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
    some = files[:: max(1, len(files) // _TRIED)]
    started, busy = time.perf_counter(), time.thread_time()
    _each(some, lambda handle: os.read(handle, os.fstat(handle).st_size))
    return time.perf_counter() - started > 1.25 * (time.thread_time() - busy)


def _ask(files: Sequence[str]) -> None:
    _each(files, lambda handle: os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED))


def _each(files: Sequence[str], use: Callable[[int], object]) -> None:
    for file in files:
        with contextlib.suppress(OSError):  # a member of an archive is no file; what cannot be read is told elsewhere
            handle = os.open(file, READ)
            try:
                use(handle)
            finally:
                os.close(handle)
