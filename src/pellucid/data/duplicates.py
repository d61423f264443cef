"""Which pictures of a data set are the same, and which nearly the same."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pellucid.data.looks import Thumbnails
from pellucid.data.scan import VERSION, Record
from pellucid.data.wording import counted
from pellucid.files import atomic_write, cache_folder

_WORTH_KEEPING = 2000  # pictures; the search among fewer is quicker than a file
_SEARCH = 1  # raise when find_near() finds other pairs than before


MIN_SIDE = 24  # pixels; two pictures that are smaller have too little detail to tell "the same" from "alike"
USUAL = 0.97  # agreement of near duplicates of 64 pixels and more


@dataclass(frozen=True, eq=False)
class NearPairs:
    """`pairs` int64 (M, 2), i < j, sorted. `required` is the agreement that pictures of 64 pixels and more needed, 0 to 1;
    above `usual` where the pictures of the set resemble each other closely."""

    pairs: np.ndarray
    required: float
    usual: float = USUAL


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Clusters of items, by index, each sorted.

    exact: the same pixels. near: pictures that are nearly the same, directly or through others, at least two of them
    different, with all their exact copies. notes: what was not looked for.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


def find_duplicates(records: Sequence[Record], *, near: bool = True, among: Iterable[int] | None = None) -> Duplicates:
    """The duplicates among the readable pictures, or among those of the indices `among`.

    The result of a long search for near ones is kept in the cache, under the content of the pictures.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for i in range(len(records)) if among is None else sorted(among):
        if records[i].reason is None:
            copies[records[i].pixels].append(i)
    sets = list(copies.values())
    exact = tuple(tuple(same) for same in sets if len(same) > 1)
    shown = [k for k, same in enumerate(sets) if records[same[0]].looks.thumbnail]
    if not near or len(shown) < 2:
        return Duplicates(exact, (), ())
    first = [records[sets[k][0]] for k in shown]
    thumbnails = Thumbnails([record.looks.thumbnail for record in first])
    sides = np.array([record.side for record in first])
    found = _search(thumbnails, sides)
    edges = coo_array((np.ones(len(found.pairs), bool), found.pairs.T), shape=(len(shown), len(shown)))
    component = connected_components(edges, directed=False)[1]
    clusters: dict[int, list[int]] = defaultdict(list)
    for k in np.unique(found.pairs).tolist():
        clusters[component[k]] += sets[shown[k]]
    ordered = sorted(tuple(sorted(cluster)) for cluster in clusters.values())
    return Duplicates(exact, tuple(ordered), tuple(_notes(found, int((sides < MIN_SIDE).sum()))))


def _notes(found: NearPairs, too_small: int) -> list[str]:
    notes = []
    if too_small:
        notes.append(
            f"near duplicates are not looked for among {counted(too_small, 'picture')} below {MIN_SIDE} pixels a side"
        )
    if found.required > found.usual:
        notes.append(
            f"these pictures resemble each other closely, so only those that agree to {found.required:.3f} (otherwise "
            f"{found.usual:.2f}) count as near duplicates; cropped ones can be missed"
        )
    return notes


def _search(thumbnails: Thumbnails, sides: np.ndarray) -> NearPairs:
    if len(thumbnails) < _WORTH_KEEPING:
        return _find_near(thumbnails, sides)
    key = hashlib.blake2b(f"{VERSION} {_SEARCH}".encode() + sides.tobytes(), digest_size=16)
    for thumbnail in thumbnails.each:
        key.update(thumbnail)
    file = cache_folder() / "near" / f"{key.hexdigest()}.npz"
    try:
        with np.load(file, allow_pickle=False) as kept:
            return NearPairs(kept["pairs"], float(kept["required"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or damaged
        found = _find_near(thumbnails, sides)
    content = io.BytesIO()
    np.savez(content, pairs=found.pairs, required=found.required)
    with contextlib.suppress(OSError):  # StorageError is one: it is only a cache
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, content.getvalue())
    return found


def _find_near(thumbnails: Thumbnails, sides: np.ndarray) -> NearPairs:
    from pellucid.data.near import find_near  # torch and scipy.fft take two seconds to import

    return find_near(thumbnails, sides)
