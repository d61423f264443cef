"""A map of a data set: every picture a point, near each other where a layer of a network sees them alike, in two dimensions.

Principal components by default: a projection without settings, whose share of the whole variance is told. UMAP, an extra, pulls
neighbors together and shows clusters more clearly than they are.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from pellucid.data.dataset import Dataset
from pellucid.data.scan import Progress
from pellucid.data.task import CLASS
from pellucid.data.wording import counted, shown
from pellucid.errors import ConfigError, DataError, MissingExtraError
from pellucid.evaluation.text import percent, shorten
from pellucid.explain.index import Index, build_index
from pellucid.explain.neighbors import COSINE, Neighbors
from pellucid.explain.search_compare import choose_layer
from pellucid.explain.vectors import ANSWERS
from pellucid.model.classifier import Classifier

PCA, UMAP = "pca", "umap"
# Six colors of Okabe and Ito, which color-blind readers tell apart, a grey, and five shapes: 35 pairs that differ in print, too.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#6b6b6b")
SHAPES = ("circle", "square", "triangle", "diamond", "plus")
_INK = "#1b2430"
_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "plus": "P"}
_FEWEST = 3
_NAME = 18  # letters of a class name on the map
_LETTER, _LINE = 0.015, 0.03  # width and height of one, as shares of the map's side
NAMED = 30  # classes whose names stand on the map


@dataclass(frozen=True, eq=False)
class PictureMap:
    """`points` float32 (N, 2) are the pictures of `index`; `answers` what the classifier says of each, "" where its classes are
    not those of the pictures. `explained`: the shares of the variance along both axes, with PCA."""

    index: Index
    points: np.ndarray
    answers: tuple[str, ...]
    network: str
    layer: str
    width: int
    distance: str
    projection: str
    explained: tuple[float, float] | None
    near: Neighbors
    notes: tuple[str, ...]

    @property
    def wrong(self) -> np.ndarray:
        """bool (N,): the pictures that have a label and another answer."""
        pairs = zip(self.answers, self.index.labels, strict=True)
        return np.array([bool(answer and label and answer != label) for answer, label in pairs], bool)

    @property
    def classes(self) -> list[str]:
        """The labels, in their order, or the most frequent first where they are too many to show; "" where there are none."""
        names, counts = np.unique(self.index.labels, return_counts=True)
        order = np.arange(len(names)) if len(names) <= NAMED else np.argsort(-counts, kind="stable")
        return names[order].tolist()

    @property
    def title(self) -> str:
        how = "UMAP"
        if self.explained:
            how = f"PCA, {' + '.join(map(percent, self.explained))} of the variance"
        return f"{shown(self.index.dataset.name)} by layer {shown(self.layer)}: {how}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "source": self.index.dataset.source, "n": len(self.index), "network": self.network, "layer": self.layer,
            "width": self.width, "distance": self.distance, "projection": self.projection, "explained": self.explained,
            "answered": any(self.answers), "wrong": int(self.wrong.sum()), "notes": list(self.notes),
            "left_out": self.index.told_left_out(),
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{self.title}; {counted(len(self.index), 'picture')}"]
        if any(self.answers):
            lines.append(f"{counted(int(self.wrong.sum()), 'picture')} with a wrong answer marked")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def make_map(
    classifier: Classifier,
    dataset: Dataset,
    *,
    layer: str | None = None,
    distance: str = COSINE,
    projection: str = PCA,
    seen: Collection[str] = (),
    folder: Path | None = None,
    progress: Progress | None = None,
) -> PictureMap:
    """The map of all pictures of `dataset` at `layer` (as of `search`). `seen` names files by content that it was trained on.

    Raises MissingExtraError, before anything is computed, when UMAP is asked for and not installed; DataError for fewer than
    three pictures; and what `build_index` raises.
    """
    if projection == UMAP and importlib.util.find_spec("umap") is None:
        raise MissingExtraError(
            "--projection umap needs umap-learn, which is not installed. pip install 'pellucid[umap]', or leave it out: "
            "--projection pca needs nothing."
        )
    layer, notes = choose_layer(
        classifier, dataset, layer, distance=distance, seen=seen, folder=folder, progress=progress
    )
    asked = dataset.task.kind == CLASS == classifier.task.kind and set(dataset.classes) & set(classifier.classes)
    index = build_index(classifier, dataset, [layer, *([ANSWERS] if asked else [])], folder=folder, progress=progress)
    if len(index) < _FEWEST:
        raise DataError(
            f"'{dataset.source}' has {counted(len(index), 'picture')} to show, and a map needs {_FEWEST} or more."
        )
    near = Neighbors(index.vectors[layer], distance)
    points, explained = _principal(near.points.numpy()) if projection == PCA else (_umap(near), None)
    answers = [""] * len(index)
    if asked:
        given = [classifier.classes[k] for k in index.vectors[ANSWERS].argmax(1)]
        known = set(classifier.classes)
        answers = [a if label in known else "" for a, label in zip(given, index.labels, strict=True)]
        if trained := int(np.isin(index.hashes, list(seen)).sum()):
            notes.append(
                f"{trained:,} of the {len(index):,} pictures were used for training, where few answers are wrong"
            )
    elif dataset.classes:
        notes.append("the network's classes are not those of the pictures, so no answers are marked as wrong")
    return PictureMap(
        index, points, tuple(answers), str(classifier), layer, index.vectors[layer].shape[1], distance, projection, explained,
        near, (*notes, *index.notes()),
    )  # fmt: skip


def write_map(found: PictureMap, file: Path) -> tuple[Path, Path]:
    """Writes the page FILE.html and the picture FILE.png beside it; their paths. Raises ConfigError for another ending."""
    from pellucid.explain.map_page import render_map
    from pellucid.files import atomic_write, storage_errors

    if file.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"--map is '{file}'; expected a name that ends in .html, like map.html (the PNG lies beside it)."
        )
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    picture = file.with_suffix(".png")
    atomic_write(picture, draw_map(found))
    atomic_write(file, render_map(found).encode("utf-8", "backslashreplace"))
    return file, picture


def look_of(k: int) -> tuple[str, str]:
    """Color and shape of the k-th class."""
    return COLORS[k % len(COLORS)], SHAPES[k % len(SHAPES)]


def name_places(found: PictureMap) -> dict[str, tuple[float, float]]:
    """Where the name of each class stands: in the middle of its pictures, moved down as far as it would cover another. None where
    there are too many classes."""
    labels, side = np.array(found.index.labels), float(np.ptp(found.points, axis=0).max()) or 1.0
    names = [name for name in found.classes if name] if len(found.classes) <= NAMED else []
    middles = {name: np.median(found.points[labels == name], axis=0) for name in names}
    places: dict[str, tuple[float, float]] = {}
    for name in sorted(names, key=lambda name: -middles[name][1]):  # from the top
        x, y = map(float, middles[name])
        half = _LETTER * side * len(shorten(name, _NAME)) / 2
        for other, (left, top) in sorted(places.items(), key=lambda place: -place[1][1]):
            apart = half + _LETTER * side * len(shorten(other, _NAME)) / 2
            if abs(x - left) < apart and abs(y - top) < _LINE * side:
                y = top - _LINE * side
        places[name] = x, y
    return places


def draw_map(found: PictureMap) -> bytes:
    """The map as the bytes of a PNG file."""
    labels, wrong = np.array(found.index.labels), found.wrong
    n = len(labels)
    size = 26 if n <= 2000 else 12 if n <= 10_000 else 4
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(10.5, 8), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for k, name in enumerate(found.classes):
            color, shape = look_of(k)
            here = labels == name
            text = f"{shorten(name, 24)} ({here.sum():,})" if name else f"pictures ({n:,})"
            axes.scatter(found.points[here, 0], found.points[here, 1], s=size, c=color, marker=_MARKERS[shape], linewidths=0, alpha=0.65,
                         label=text if k < NAMED else None)  # fmt: skip
        if wrong.any():
            axes.scatter(found.points[wrong, 0], found.points[wrong, 1], s=2.5 * size + 16, facecolors="none", edgecolors=_INK, linewidths=1.0 if n <= 2000 else 0.7,
                         label=f"wrong answer ({wrong.sum():,})")  # fmt: skip
        for name, (x, y) in name_places(found).items():
            axes.text(x, y, shorten(name, _NAME), ha="center", va="center", fontsize=10, fontweight="bold", color=_INK,
                      parse_math=False, zorder=5, path_effects=[withStroke(linewidth=3, foreground="#ffffff")])  # fmt: skip
        axes.set_title(found.title, fontsize=11, loc="left", parse_math=False)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_color("#dde2e8")
        legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, markerscale=1.4)
        for entry in legend.get_texts():
            entry.set_parse_math(False)
        content = io.BytesIO()
        FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def _principal(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """float32 (N, K) -> the first two principal components float32 (N, 2), and their shares of the variance."""
    from sklearn import decomposition

    pca = decomposition.PCA(min(2, *vectors.shape), random_state=0)
    with np.errstate(invalid="ignore"):  # pictures that are all alike have no variance to share
        points = pca.fit_transform(vectors)
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    shares = [float(np.nan_to_num(share)) for share in pca.explained_variance_ratio_]
    first, second = (*shares, 0.0)[:2]
    return points.astype(np.float32), (first, second)


def _umap(near: Neighbors) -> np.ndarray:
    import umap

    points = near.points.numpy()
    reducer = umap.UMAP(n_neighbors=min(15, len(points) - 1), metric=near.distance, random_state=0, n_jobs=1)
    return np.asarray(reducer.fit_transform(points), np.float32)
