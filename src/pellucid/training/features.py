"""Features: what the last layer of a frozen network receives, looked at once for every picture and view, and kept.

They lie in one SQLite file for each (weights, pixel contract, precision), by the content of the picture's file: a picture
that was added is looked at, one that was moved, renamed or dealt into another split is not. Each look is kept by itself,
so what a killed training has seen is there for the next one.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.data.scan import VERSION
from pellucid.device import autocast, workers
from pellucid.errors import ShapeError
from pellucid.files import cache_folder
from pellucid.model.fold import folded
from pellucid.model.zoo import head_of
from pellucid.training.loop import OnEvent

AS_IT_IS, MIRRORED = 0, 1  # views
NO_PLAIN_HEAD = (
    "The network does not end in a plain fully connected layer with a bias, so its last layer cannot be fitted by itself. "
    "Train all of it with --no-freeze."
)
_BATCH = {"cpu": 8}  # small on a processor: the maps of a batch stay in its cache
_BATCH_ELSEWHERE = 128
_KEEP_SECONDS = 2.0  # what was seen since is lost when the process is killed
_ASKED_AT_ONCE = 500  # pictures
_SAME = 1e-3  # relative difference that rounding of float32 may make


def look(
    module: nn.Module,
    pictures: Pictures,
    contents: Sequence[str],
    views: np.ndarray,
    contract: PixelContract,
    *,
    weights: str,
    device: torch.device,
    precision: str,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    fewest: int,
    deadline: float | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """float16 (L, width), the features of each picture of `pictures` in its view, and bool (L,), which were looked at.

    `contents` (one a row of the pack) and `weights` name files by their content; `views` is int (L,). When `deadline`, a
    reading of time.monotonic(), comes before the end, the first ones are done, at least `fewest`, and those that are known
    already. None when `should_stop` said yes. Raises ShapeError when the network does not end in a plain last layer.
    """
    rows = pictures.indices
    values = np.zeros((len(rows), head_of(module)[1].in_features), np.float16)
    with contextlib.closing(_Store(weights, contract, precision)) as store:
        done = store.find([contents[row] for row in rows], views, values)
        places: dict[tuple[str, int], int] = {}  # a picture that is there twice is looked at once
        first = np.array([
            places.setdefault((contents[row], view), i)
            for i, (row, view) in enumerate(zip(rows, views.tolist(), strict=True))
        ])  # fmt: skip
        todo = np.flatnonzero(~done & (first == np.arange(len(first))))
        if not len(todo):
            return values, done
        size = _BATCH.get(device.type, _BATCH_ELSEWHERE)
        batches = [todo[k : k + size] for k in range(0, len(todo), size)]

        def batch(chosen: np.ndarray) -> torch.Tensor:
            pixels = torch.from_numpy(pictures.pixels[rows[chosen]])
            mirrored = torch.from_numpy(views[chosen] == MIRRORED)
            pixels[mirrored] = pixels[mirrored].flip(2)  # (N, H, W, C)
            return contract.tensor(pixels.to(device))

        body = _body(module, batch(batches[0]), device)
        body = body.to(torch.bfloat16 if precision == "bf16" else torch.float32)

        @torch.inference_mode()
        def see(chosen: np.ndarray) -> np.ndarray:
            with autocast(device, precision):
                seen = body(batch(chosen)).float()
            return seen.clamp(-65504, 65504).half().cpu().numpy()  # what float16 can hold

        kept, last = 0, -math.inf
        with workers(None if device.type == "cpu" else 1) as pool:
            for step, (chosen, seen) in enumerate(zip(batches, pool.map(see, batches), strict=True), 1):
                values[chosen], done[chosen] = seen, True
                now, stop = time.monotonic(), should_stop()
                late = deadline is not None and now > deadline and bool(done[first[:fewest]].all())
                if now - last >= _KEEP_SECONDS or stop or late or step == len(batches):
                    fresh, kept, last = np.concatenate(batches[kept:step]), step, now
                    store.add([contents[row] for row in rows[fresh]], views[fresh], values[fresh])
                    on_event({"event": "features", "done": int(done.sum()), "total": len(rows)})
                if stop:
                    return None
                if late:
                    break
    return values[first], done[first]


def _body(module: nn.Module, x: torch.Tensor, device: torch.device) -> nn.Module:
    """A copy of the network without its last layer, norms folded where that is exact. `x` is a batch to prove it with."""
    module = module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    name, head = head_of(module)
    for body in (folded(module), copy.deepcopy(module)):
        body.set_submodule(name, nn.Identity())
        with torch.inference_mode():
            logits, plain = module(x), head(body(x))
        if logits.shape == plain.shape and (logits - plain).norm() <= _SAME * logits.norm():
            return body
    raise ShapeError(NO_PLAIN_HEAD)


class _Store:
    """Features by (picture, view) in one file of the cache. Where none can be kept, none are found, and nothing fails."""

    def __init__(self, weights: str, contract: PixelContract, precision: str) -> None:
        identity = json.dumps([VERSION, weights, contract.to_dict(), precision], sort_keys=True).encode()
        self._file = cache_folder() / "features" / f"{hashlib.sha256(identity).hexdigest()[:32]}.sqlite"
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
        """Fills the known ones of float16 (N, width), and says which these are: bool (N,)."""
        known = np.zeros(len(contents), bool)
        asked: defaultdict[int, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for i, (content, view) in enumerate(zip(contents, views.tolist(), strict=True)):
            asked[view][content].append(i)
        try:
            for view, rows in asked.items():
                for content, halves in self._rows(view, list(rows)):
                    if len(halves) == into[0].nbytes:
                        into[rows[content]] = np.frombuffer(halves, np.float16)
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
