"""The index of a picture search: the vectors of every picture of a data set, kept on disk by the content of its file.

A picture that was added is run through the network once for all layers that are wanted; those that are known are not.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.feature_store import FeatureStore
from pellucid.data.pack import Pack, open_pack
from pellucid.data.scan import Progress, Record, recall, scan
from pellucid.data.task import CLASS, LABELS
from pellucid.data.unlabeled import open_pictures
from pellucid.data.wording import counted, shown, some
from pellucid.errors import ConfigError, DataError, WeightsError
from pellucid.evaluation.intervals import group_numbers
from pellucid.explain.vectors import ANSWERS, Vectors, fingerprint, layer_width, look
from pellucid.files import storage_errors, write_json
from pellucid.model.classifier import Classifier

_NAME = "index.json"
_NAMED = 5  # pictures that are left out
_KEEP_SECONDS = 2.0  # what was seen since is lost when the process is killed
_LARGEST = 65504  # what float16 can hold


@dataclass(frozen=True, eq=False)
class Index:
    """`rows` int (N,) are the items of the data set that can be searched, `vectors` float16 (N, K) of each layer theirs.

    `hashes` name their files by content. `left_out` are paths that cannot be searched, with the reason; `looked_at` is how
    many pictures had to be run through the network now.
    """

    dataset: Dataset
    rows: np.ndarray
    hashes: tuple[str, ...]
    vectors: Vectors
    left_out: tuple[tuple[str, str], ...]
    looked_at: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def paths(self) -> list[str]:
        return [self.dataset.items[i].path for i in self.rows]

    @property
    def labels(self) -> list[str]:
        """The answer of each picture as text, "" for none."""
        return [self.dataset.label(int(i)) for i in self.rows]

    def groups(self) -> np.ndarray:
        """int (N,): pictures that prove nothing about each other share one: those of a group, or where no groups are known
        copies of a file."""
        given = [self.dataset.items[i].group for i in self.rows]
        return group_numbers(given if any(given) else self.hashes)

    def notes(self) -> list[str]:
        """What a reader should know of pictures that are left out: the first of them by name, with the reason."""
        if not self.left_out:
            return []
        named = ", ".join(f"'{shown(path)}' ({reason})" for path, reason in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED:,} more" if len(self.left_out) > _NAMED else ""
        return [f"{counted(len(self.left_out), 'picture')} left out: {named}{more}"]

    def told_left_out(self) -> list[dict[str, str]]:
        """All that are left out, as plain JSON data."""
        return [{"path": path, "reason": reason} for path, reason in self.left_out]


def open_for(
    classifier: Classifier, data: str | Path, *, group: str | None = None, progress: Progress | None = None
) -> Dataset:
    """The pictures in `data`, with or without labels, read for what the classifier answers; `group` as of `open_dataset`."""
    task = classifier.task
    asked = {} if task.kind == CLASS else {"task": task.kind}
    if task.kind == LABELS:
        asked["label_separator"] = task.separator
    return open_pictures(data, group=group, progress=progress, **asked)


def build_index(
    classifier: Classifier,
    dataset: Dataset,
    layers: Sequence[str],
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Index:
    """The index of `dataset` at `layers`; what is not known yet is looked at and kept in `folder`, else in the cache.

    Raises UnknownNameError and ShapeError for a layer, DataError when no picture can be read, ConfigError when `folder` holds
    something else than an index of this network, WeightsError when a layer gives what is no number.
    """
    widths = {layer: layer_width(classifier, layer) for layer in layers}
    network = fingerprint(classifier)
    if folder is not None:
        _claim(folder, network, classifier)
    records, pack = _records(dataset, classifier.contract, progress)
    left_out = tuple((dataset.items[i].path, r.reason) for i, r in enumerate(records) if r.reason is not None)
    rows = np.array([i for i, record in enumerate(records) if record.reason is None], np.int64)
    if not len(rows):
        reasons = "; ".join(f"'{shown(path)}': {reason}" for path, reason in left_out[:_NAMED])
        raise DataError(
            f"None of the {len(dataset):,} pictures of '{dataset.source}' can be searched: {reasons}. Give others."
        )
    hashes = np.array([records[i].sha256 for i in rows])
    contents, first, place = np.unique(hashes, return_index=True, return_inverse=True)  # a copy is looked at once
    values = {
        layer: np.zeros((len(contents), width), np.float32 if layer == ANSWERS else np.float16)
        for layer, width in widths.items()
    }
    with contextlib.ExitStack() as stack:
        stores = {
            layer: stack.enter_context(contextlib.closing(FeatureStore(_look_at(classifier, network, layer), folder)))
            for layer in layers
        }
        names, views = contents.tolist(), np.zeros(len(contents), np.int64)
        known = [store.find(names, views, values[layer]) for layer, store in stores.items()]
        todo = np.flatnonzero(~np.all(known, axis=0))
        if pack is None and len(todo) > len(dataset) / 2:
            pack = open_pack(dataset, classifier.contract, progress=progress)
        fetch = _fetcher(dataset, classifier.contract, pack)
        coming = look(classifier, layers, lambda part: fetch(rows[first[part]]), todo)
        for fresh in _filled(values, coming, len(todo), progress):
            for layer, store in stores.items():
                store.add(contents[fresh].tolist(), views[fresh], values[layer][fresh])
    if bad := [layer for layer, vectors in values.items() if not np.isfinite(vectors).all()]:
        raise WeightsError(
            f"Layer {some(bad)} gives what is no number for some pictures, so nothing can be compared there. The weights are "
            "damaged, or the pictures are not what the network takes in."
        )
    vectors = {layer: found[place] for layer, found in values.items()}
    return Index(dataset, rows, tuple(hashes.tolist()), vectors, left_out, len(todo))


def _filled(
    values: Vectors, coming: Iterator[tuple[np.ndarray, Vectors]], total: int, progress: Progress | None
) -> Iterator[np.ndarray]:
    """Writes what is coming into `values`; every two seconds, and at the end, the rows int (n,) that are new since."""
    fresh: list[np.ndarray] = []
    done, last = 0, time.monotonic()
    for rows, seen in coming:
        for layer, vectors in seen.items():
            values[layer][rows] = vectors.clip(-_LARGEST, _LARGEST)
        fresh.append(rows)
        done += len(rows)
        if time.monotonic() - last > _KEEP_SECONDS or done == total:
            yield np.concatenate(fresh)
            fresh, last = [], time.monotonic()
            if progress:
                progress(done, total)


def _records(dataset: Dataset, contract: PixelContract, progress: Progress | None) -> tuple[list[Record], Pack | None]:
    """What is known of each picture, with the reason why it cannot be searched; and the pack, where it was made for that."""
    recalled = recall(dataset)
    if not recalled.is_most:
        pack = open_pack(dataset, contract, progress=progress)
        return pack.records, pack
    records = scan(dataset, recalled=recalled, progress=progress)
    return [replace(r, reason=r.reason or contract.misfit(r.channels)) for r in records], None


def _fetcher(dataset: Dataset, contract: PixelContract, pack: Pack | None) -> Callable[[np.ndarray], np.ndarray]:
    """What gives uint8 (n, H, W, C) for some items: a pack, or for a few new ones their files."""
    if pack is not None:
        return lambda rows: pack.pixels[rows]
    return lambda rows: np.stack([contract.pixels(dataset.picture(int(i)).pixels) for i in rows])


def _look_at(classifier: Classifier, network: str, layer: str) -> list[Any]:
    """All that decides a vector: the key under which it is kept."""
    calibration = classifier.calibration and classifier.calibration.to_dict()
    after = [classifier.mirror, classifier.offsets, calibration] if layer == ANSWERS else []
    return [network, classifier.contract.to_dict(), "vectors", layer, *after]


def _claim(folder: Path, network: str, classifier: Classifier) -> None:
    """Makes `folder` the place of an index of this network. Raises ConfigError when it is one of something else."""
    file = folder / _NAME
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    own = {"network": network, "contract": classifier.contract.to_dict()}
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    except (OSError, ValueError):
        found = {}
    if found is None and any(folder.iterdir()):
        raise ConfigError(
            f"'{folder}' is not empty and holds no index of pictures. Give a new or an empty folder (--index), or leave "
            "--index out: then the cache keeps the index."
        )
    if found is None:
        write_json(file, own | {"of": str(classifier)})
    elif {key: found.get(key) for key in own} != own:
        of = f"of another network ({shown(str(found['of']))})" if found.get("of") else "damaged"
        raise ConfigError(
            f"The index in '{folder}' is {of}, and vectors of different networks cannot be compared. This network is "
            f"{classifier}. Build one for it in another folder (--index), or delete '{folder}' and search again: it is built anew."
        )
