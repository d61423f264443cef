"""Nearest pictures: those of a data set that a layer of a network sees as most like a given one."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pellucid.data.dataset import Dataset
from pellucid.data.decode import Picture, decode, from_array
from pellucid.data.scan import Progress
from pellucid.data.task import NUMBER
from pellucid.data.wording import counted, shown, some
from pellucid.errors import DataError, PictureError, nearest
from pellucid.evaluation.draw import Card, as_image, card_sheet
from pellucid.evaluation.text import shorten
from pellucid.explain.index import Index, build_index, open_for
from pellucid.explain.neighbors import COSINE, Neighbors
from pellucid.explain.search_compare import choose_layer
from pellucid.explain.search_score import RANKS, weighted_score
from pellucid.explain.vectors import see
from pellucid.model.classifier import Classifier

_NAMES = 5000  # paths that a wrong one is compared with
_NAME = 18  # characters below a picture of a sheet


@dataclass(frozen=True)
class Found:
    """A near picture; `hit` says whether it has the query's label, None where one of the two has none."""

    path: str
    label: str | None
    distance: float
    hit: bool | None
    position: int  # in the data set


@dataclass(frozen=True, eq=False)
class Search:
    """The pictures nearest to `query`, nearest first, among `n` others.

    `score` is the rank-weighted score of the nearest 15, 0 to 100, and `base_rate` what chance would give; None where the query
    has no label. `width` is the length of the layer's vectors.
    """

    query: str
    label: str | None
    picture: Picture
    layer: str
    width: int
    distance: str
    n: int
    results: tuple[Found, ...]
    score: float | None
    base_rate: float | None
    notes: tuple[str, ...]
    index: Index

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        kept = {name: value for name, value in vars(self).items() if name not in ("picture", "index")}
        found = {"results": [asdict(found) for found in self.results], "notes": list(self.notes)}
        return kept | found | {"looked_at": self.index.looked_at, "left_out": self.index.told_left_out()}

    def __str__(self) -> str:
        label = f" ({shown(self.label)})" if self.label else ""
        lines = [
            f"nearest to '{shown(self.query)}'{label} among {counted(self.n, 'picture')}, by layer {shown(self.layer)} "
            f"({counted(self.width, 'number')} a picture), {self.distance} distance"
        ]
        width = max(len(shown(found.label or "")) for found in self.results)
        for rank, found in enumerate(self.results, start=1):
            mark = {True: "hit ", False: "miss", None: "    "}[found.hit]
            lines.append(
                f"{rank:>3}  {found.distance:9.4f}  {mark}  {shown(found.label or ''):<{width}}  {shown(found.path)}"
            )
        if self.score is not None:
            lines.append(f"score {self.score:.1f} of 100; chance would give {self.base_rate:.1f}")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def search(
    classifier: Classifier,
    data: str | Path | Dataset,
    image: str | Path | np.ndarray,
    *,
    layer: str | None = None,
    distance: str = COSINE,
    top: int = RANKS,
    group: str | None = None,
    seen: Collection[str] = (),
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Search:
    """The `top` pictures of `data` nearest to `image`: a file, an array (H, W) or (H, W, C), or the path of a picture of `data`,
    which is then not found itself.

    `layer` is a name of `pellucid summary`, "pixels", "best" (by the score on `data`), or None: the last before the logits.
    `seen` is as of `compare_layers`. `folder` keeps the index, else the cache.
    Raises DataError for pictures that cannot be used, and what `build_index` raises.
    """
    dataset = data if isinstance(data, Dataset) else open_for(classifier, data, group=group, progress=progress)
    layer, notes = choose_layer(
        classifier, dataset, layer, distance=distance, seen=seen, folder=folder, progress=progress
    )
    index = build_index(classifier, dataset, [layer], folder=folder, progress=progress)
    name, picture, position = _query(index, image)
    vectors = index.vectors[layer]
    if position is None:
        vector, digest = _vector(classifier, layer, name, picture), _digest(image)
    else:
        vector, digest = vectors[position], index.hashes[position]
    others = len(index) - (position is not None)
    if not others:
        raise DataError(
            f"'{dataset.source}' holds no other picture than '{shown(name)}'. Give a set with more to search in."
        )
    if top > others:
        notes.append(f"{counted(top, 'picture')} asked for, but there are {others:,}: all are listed")
    own, numbers = np.array([-1 if position is None else position]), np.arange(len(index))
    near, away = Neighbors(vectors, distance).of(vector[None], min(max(top, RANKS), others), apart=(own, numbers))
    has_names = dataset.task.kind != NUMBER
    labels, paths = index.labels, index.paths
    label = labels[position] if position is not None else ""
    found = [
        Found(paths[i], labels[i] or None, float(d), labels[i] == label if label and labels[i] and has_names else None, int(index.rows[i]))
        for i, d in zip(near[0].tolist(), away[0].tolist(), strict=True)
    ]  # fmt: skip
    if copies := [f.path for f, i in zip(found, near[0], strict=True) if index.hashes[i] == digest]:
        notes.append(f"the same file as the query, so no discovery: {some(copies)}")
    scored = bool(label) and has_names
    return Search(
        query=name, label=label or None, picture=picture, layer=layer, width=vectors.shape[1], distance=distance, n=others,
        results=tuple(found[:top]),
        score=float(weighted_score(np.array([f.hit is True for f in found[:RANKS]]))) if scored else None,
        base_rate=100 * (labels.count(label) - 1) / others if scored else None,
        notes=(*notes, *index.notes()), index=index,
    )  # fmt: skip


def search_sheet(found: Search) -> Image.Image:
    """The query and what was found as one picture, RGB: labels, distances, and whether each is a hit, in words and by its frame."""
    labeled = bool(found.label or any(near.label for near in found.results))

    def card(picture: Picture, head: str, label: str | None, distance: str, path: str, frame: str = "") -> Card:
        name = shorten(posixpath.basename(path), _NAME)
        return Card(as_image(picture.pixels), (head, *([label or ""] if labeled else []), distance, name), frame)

    cards = [card(found.picture, "query", found.label, "", found.query)]
    for rank, near in enumerate(found.results, start=1):
        try:
            picture = found.index.dataset.picture(near.position)
        except PictureError as error:  # it was there when the index was made
            raise DataError(f"'{shown(near.path)}' was found, but {error.reason}. Search again.") from error
        mark, frame = {True: (f"{rank}  ✓ hit", "solid"), False: (f"{rank}  ✗ miss", "dashed"), None: (str(rank), "")}[
            near.hit
        ]
        cards.append(card(picture, mark, near.label, f"distance {near.distance:.4f}", near.path, frame))
    score = "" if found.score is None else f"; score {found.score:.1f} of 100, chance {found.base_rate:.1f}"
    return card_sheet(
        cards, title=f"layer {found.layer}, {found.distance} distance, {counted(found.n, 'picture')}{score}"
    )


def _query(index: Index, image: str | Path | np.ndarray) -> tuple[str, Picture, int | None]:
    """Name, picture, and position in the index where it is one of its pictures."""
    if isinstance(image, np.ndarray):
        return "the given picture", from_array(image), None
    dataset, name = index.dataset, str(image)
    file = Path(name).expanduser()
    place = str(file.absolute())
    for i, item in enumerate(dataset.items):
        if item.path == name or (
            (stat := dataset.stat(i) if item.path.endswith(file.name) else None) and stat[0] == place
        ):
            if reason := dict(index.left_out).get(item.path):
                raise DataError(
                    f"'{shown(name)}' is one of the set, but cannot be searched for: {reason}. Name another picture."
                )
            return item.path, dataset.picture(i), int(np.searchsorted(index.rows, i))
    try:
        return name, decode(file.read_bytes()), None
    except PictureError as error:
        raise DataError(f"'{shown(name)}' cannot be searched for: {error.reason}. Give another picture.") from error
    except OSError as error:
        hint = nearest(name, [item.path for item in dataset.items[:_NAMES]])
        raise DataError(
            f"There is no picture '{shown(name)}': {error.strerror}. Expected a picture file, or the path of one of the set like "
            f"'{shown(dataset.items[0].path)}'. {shown(hint)}".rstrip()
        ) from error


def _vector(classifier: Classifier, layer: str, name: str, picture: Picture) -> np.ndarray:
    """float16 (K,), rounded like those of the index, so that the same picture is at distance 0."""
    if misfit := classifier.contract.misfit(picture.pixels.shape[2]):
        raise DataError(f"'{shown(name)}' cannot be searched for: {misfit}. Give a picture that the network takes in.")
    return see(classifier, classifier.pixels(picture)[None], [layer])[layer][0].astype(np.float16)


def _digest(image: str | Path | np.ndarray) -> str:
    return "" if isinstance(image, np.ndarray) else hashlib.sha256(Path(image).expanduser().read_bytes()).hexdigest()
