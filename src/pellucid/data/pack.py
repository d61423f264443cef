"""The pack: every picture of a data set as the pixel contract shows it, decoded once, in one memory-mapped uint8 array.

A pack lies in the cache under a key made of the contract's geometry and the content of every file, so later runs find it
whatever they are called, and a changed file makes a new one. It may be larger than memory: it is written row by row and
read through the page cache.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch  # noqa: F401  that resizes, in threads that it must not divide further: see in_threads

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.decode import Picture
from pellucid.data.scan import VERSION, Progress, Record, recall, scan
from pellucid.files import cache_folder, require_space, storage_errors


@dataclass(frozen=True, eq=False)
class Pack:
    """`pixels` is uint8 (N, height, width, channels), one row an item; rows of unreadable items, and of those whose channels
    do not fit the contract, hold zeros and no index list ever points to them. `records` says which these are."""

    pixels: np.ndarray
    records: list[Record]
    file: Path

    @property
    def contents(self) -> list[str]:
        """SHA-256 of each picture's file."""
        return [record.sha256 for record in self.records]


def open_pack(dataset: Dataset, contract: PixelContract, *, progress: Progress | None = None) -> Pack:
    """Scans and packs `dataset` in one pass over the files, or finds both in the cache.

    Raises StorageError when the cache's disk cannot hold the pack.
    """
    folder = cache_folder() / "packs"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    shape = (len(dataset), contract.height, contract.width, contract.channels)
    recalled = recall(dataset)
    if recalled.is_most:
        records = scan(dataset, recalled=recalled)
        file = folder / _key(records, contract)
        if file.exists():
            os.utime(file)  # last used
            return Pack(_map(file, shape), _judged(records, contract), file)

    row = contract.height * contract.width * contract.channels
    require_space(folder, row * len(dataset), "The pack of decoded pictures")
    temporary = folder / f".{os.getpid()}-{threading.get_ident()}.tmp"
    with storage_errors(temporary, needed=row * len(dataset)):
        try:
            with temporary.open("wb") as handle:
                lock = threading.Lock()

                def write(indices: Sequence[int], pictures: Sequence[Picture]) -> None:
                    if contract.misfit(pictures[0].pixels.shape[2]):
                        return
                    pixels = np.stack([contract.pixels(picture.pixels) for picture in pictures])
                    gaps = np.flatnonzero(np.diff(indices) > 1) + 1
                    for start, some in zip([0, *gaps], np.split(pixels, gaps), strict=True):
                        with lock:
                            handle.seek(indices[start] * row)
                            handle.write(some.data)

                records = scan(dataset, recalled=recalled, on_pictures=write, progress=progress)
                handle.truncate(row * len(dataset))
            file = folder / _key(records, contract)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    return Pack(_map(file, shape), _judged(records, contract), file)


def let_go(pixels: np.ndarray) -> None:
    """Takes what was read of a pack out of this process's memory; the system keeps it as long as it has room."""
    if isinstance(pixels.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pixels.base.madvise(mmap.MADV_DONTNEED)


def _judged(records: Sequence[Record], contract: PixelContract) -> list[Record]:
    """The records, with the reason for pictures whose channels do not fit."""
    misfits = {channels: contract.misfit(channels) for channels in {r.channels for r in records}}
    return [replace(r, reason=why) if r.reason is None and (why := misfits[r.channels]) else r for r in records]


def _key(records: Sequence[Record], contract: PixelContract) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, contract.geometry()], sort_keys=True).encode())
    for record in records:
        digest.update(b"|" + record.sha256.encode())
    return digest.hexdigest()[:32] + ".u8"


def _map(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(file, dtype=np.uint8, mode="r", shape=shape)
