"""Which layer of which network finds pictures of the same class: their search scores on the same queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.dataset import Dataset
from pellucid.data.scan import Progress
from pellucid.data.task import NUMBER
from pellucid.data.wording import counted, shown
from pellucid.errors import ConfigError, DataError
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.looked import used_in_training
from pellucid.evaluation.paired import paired
from pellucid.explain.index import Index, build_index
from pellucid.explain.neighbors import COSINE
from pellucid.explain.search_score import base_rate, mean_score, query_scores
from pellucid.explain.vectors import PIXELS, stages
from pellucid.model.classifier import Classifier
from pellucid.model.pretrained import load_pretrained, open_classifier

BEST = "best"  # in place of a layer: the one with the highest score on the pictures
_MOST_QUERIES = 4000
_FEWEST_QUERIES = 30  # pictures that no network was trained on


@dataclass(frozen=True, eq=False)
class LayerScore:
    """The mean search score of a layer, 0 to 100, with its interval; `scores` (Q,) are those of the queries."""

    layer: str
    width: int
    score: Interval
    scores: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"layer": self.layer, "width": self.width, "score": self.score.to_dict()}


@dataclass(frozen=True, eq=False)
class NetworkScores:
    """The layers of one network, in the order in which they work; the pixels, which are none, first."""

    name: str
    network: str
    layers: tuple[LayerScore, ...]

    @property
    def best(self) -> LayerScore:
        """The layer with the highest score; the pixels only where they were all that was asked for."""
        return max(self.layers, key=lambda row: (row.layer != PIXELS, row.score.value))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "name": self.name,
            "network": self.network,
            "layers": [row.to_dict() for row in self.layers],
            "best": self.best.layer,
        }


@dataclass(frozen=True, eq=False)
class SearchComparison:
    """Search scores of layers and networks for the same `queries` among the same `n` pictures.

    `base_rate` is the score of pictures drawn by chance. `gains` says, for each further network, how much better the best layer of
    the first one is, with its interval.
    """

    source: str
    distance: str
    n: int
    queries: int
    base_rate: float
    networks: tuple[NetworkScores, ...]
    gains: tuple[tuple[str, Interval], ...]
    notes: tuple[str, ...]
    left_out: tuple[dict[str, str], ...]

    def sentences(self) -> list[str]:
        """The result in words."""
        first = self.networks[0]
        best = first.best
        plain = next((row.score.value for row in first.layers if row.layer == PIXELS), None)
        pixels = "" if plain is None or best.layer == PIXELS else f"plain pixels {plain:.1f}, "
        found = [
            f"Layer {best.layer} of {first.name} has a search score of {tell(best.score)} of 100; {pixels}chance {self.base_rate:.1f}."
        ]
        for other, (name, gain) in zip(self.networks[1:], self.gains, strict=True):
            certain = gain.low > 0 or gain.high < 0
            found.append(
                f"The best layer of {name}, {other.best.layer}, scores {tell(other.best.score)}: "
                f"{first.name} is {abs(gain.value):.1f} {'better' if gain.value >= 0 else 'worse'} "
                f"({gain.low:+.1f} to {gain.high:+.1f}){'' if certain else ', so they cannot be told apart'}."
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `score` is that of the best layer of the first network."""
        first = self.networks[0]
        return {
            "source": self.source,
            "distance": self.distance,
            "n": self.n,
            "queries": self.queries,
            "layer": first.best.layer,
            "score": first.best.score.to_dict(),
            "base_rate": self.base_rate,
            "networks": [network.to_dict() for network in self.networks],
            "gains": [{"against": name, "gain": gain.to_dict()} for name, gain in self.gains],
            "notes": list(self.notes),
            "left_out": list(self.left_out),
        }

    def __str__(self) -> str:
        lines = [*self.sentences(), ""]
        for network in self.networks:
            lines.append(f"{network.name}: {network.network}")
            width = max(len("layer"), *(len(row.layer) for row in network.layers))
            lines.append(f"  {'layer':<{width}}  {'numbers':>7}  score of 100 with its 95 % interval")
            for row in network.layers:
                mark = "  best" if row is network.best and len(network.layers) > 1 else ""
                lines.append(f"  {shown(row.layer):<{width}}  {row.width:>7,}  {tell(row.score)}{mark}")
            lines.append("")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)]).rstrip()


def compare_layers(
    classifiers: Mapping[str, Classifier],
    dataset: Dataset,
    *,
    layers: Sequence[str] = (),
    distance: str = COSINE,
    seen: Collection[str] = (),
    folder: Path | None = None,
    progress: Progress | None = None,
) -> SearchComparison:
    """The search scores of the classifiers, by name, at their stages and in plain pixels, or at `layers` only.

    All see the same pictures: those that every network can take in and that have a label. `seen` names files by content that a
    network was trained on: they are found, but are no queries, where enough others are. Of very many, 4,000 are queries.
    Raises DataError when there is nothing to score, ConfigError for `folder` with several networks, and what `build_index` raises.
    """
    if folder is not None and len(classifiers) > 1:
        raise ConfigError(
            f"An index folder holds one network, and {len(classifiers)} are compared. Leave --index out: the cache keeps them all."
        )
    if dataset.task.kind == NUMBER:
        raise DataError(
            f"'{dataset.source}' gives each picture a number, and near pictures have near numbers, not the same. The score counts "
            "the same labels; give pictures with classes."
        )
    indexes = {
        name: build_index(
            classifier, dataset, layers or (PIXELS, *stages(classifier)), folder=folder, progress=progress
        )
        for name, classifier in classifiers.items()
    }
    first = next(iter(indexes.values()))
    rows = first.rows[[dataset.items[i].label >= 0 for i in first.rows]]
    for index in indexes.values():
        rows = np.intersect1d(rows, index.rows)
    _require(dataset, len(rows))
    labels = np.array([dataset.items[i].label for i in rows])
    groups = first.groups()[np.searchsorted(first.rows, rows)]
    if len(np.unique(groups)) < 2:
        raise DataError(
            f"All {len(rows):,} labeled pictures of '{dataset.source}' are copies or of one group, which prove nothing about each "
            "other. Give pictures of several groups."
        )
    hashes = np.array(first.hashes)[np.searchsorted(first.rows, rows)]
    fresh = np.flatnonzero(~np.isin(hashes, list(seen))) if seen else np.arange(len(rows))
    queries = fresh if len(fresh) >= _FEWEST_QUERIES else np.arange(len(rows))
    queries = np.sort(np.random.default_rng(0).permutation(queries)[:_MOST_QUERIES])
    networks = tuple(
        NetworkScores(
            shown(name), str(classifiers[name]), tuple(_scores(index, rows, labels, queries, groups, distance))
        )
        for name, index in indexes.items()
    )
    unit = np.unique(groups[queries], return_inverse=True)[1]
    best = networks[0].best
    gains = [
        (other.name, paired(best.scores - other.best.scores, groups=unit, exact=False)[0]) for other in networks[1:]
    ]
    return SearchComparison(
        dataset.source, distance, len(rows), len(queries), base_rate(labels, queries, groups), networks, tuple(gains),
        tuple(_notes(dataset, indexes, len(rows), len(fresh), queries, networks)),
        tuple({row["path"]: row for index in indexes.values() for row in index.told_left_out()}.values()),
    )  # fmt: skip


def open_networks(
    run_or_name: str, against: Sequence[str] = (), *, weights: str | None = None, labels: str | Path | None = None
) -> dict[str, Classifier]:
    """The networks to compare, by short names: run folders, weights files that name their network, and names, for which
    `weights` and `labels` are. Raises what `open_classifier` and `load_pretrained` raise."""
    asked = [run_or_name, *against]
    for_names = any(not Path(given).exists() for given in asked)
    found: dict[str, Classifier] = {}
    for given in asked:
        path = Path(given)
        if path.is_file() and path.suffix == ".safetensors":
            classifier = load_pretrained("auto", given, labels=labels)
        elif path.exists() and for_names:
            classifier = open_classifier(given)
        else:
            classifier = open_classifier(given, weights=weights, labels=labels)
        name, number = path.resolve().stem if path.is_file() else path.resolve().name, 2
        while name in found:
            name, number = f"{name.rpartition(' ')[0] or name} {number}", number + 1
        found[name] = classifier
    return found


def trained_on(asked: Sequence[str | Path]) -> set[str]:
    """The files, by content, that those of `asked` that are run folders were trained on."""
    runs = [Path(given) for given in asked if (Path(given) / "run.json").exists()]
    return {digest for run in runs for digest in used_in_training(run)}


def choose_layer(classifier: Classifier, dataset: Dataset, layer: str | None, **settings: Any) -> tuple[str, list[str]]:
    """The layer that is meant, and what to tell about the choice: `layer` itself; the last stage before the logits when it is None;
    or the best stage on these pictures. `settings` are those of `compare_layers`."""
    if layer != BEST:
        return layer or stages(classifier)[-2:][0], []
    network = compare_layers({"it": classifier}, dataset, layers=stages(classifier), **settings).networks[0]
    best = network.best
    return best.layer, [
        f"layer {best.layer} is the best of {len(network.layers)} on these pictures: search score {tell(best.score)} of 100"
    ]


def tell(score: Interval) -> str:
    """A score of 100 with its interval."""
    return f"{score.value:.1f} ({score.low:.1f} to {score.high:.1f})"


def _scores(
    index: Index, rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, groups: np.ndarray, distance: str
) -> list[LayerScore]:
    place = np.searchsorted(index.rows, rows)
    found = []
    for layer, vectors in index.vectors.items():
        scores = query_scores(vectors[place], labels, queries, groups, distance)
        found.append(LayerScore(layer, vectors.shape[1], mean_score(scores, groups[queries]), scores))
    return found


def _require(dataset: Dataset, count: int) -> None:
    if count < 2:
        raise DataError(
            f"'{dataset.source}' has {counted(count, 'labeled picture')} that can be searched, and a score needs two or more: it "
            "counts how often near pictures have the same label. Put the pictures of each class into a folder of its own; without "
            "labels, name a picture to search for."
        )


def _notes(
    dataset: Dataset,
    indexes: Mapping[str, Index],
    count: int,
    fresh: int,
    queries: np.ndarray,
    networks: Sequence[NetworkScores],
) -> list[str]:
    notes = list(dict.fromkeys(note for index in indexes.values() for note in index.notes()))
    used = count - fresh
    if used and fresh < _FEWEST_QUERIES:
        notes.append(
            f"{used:,} of the {count:,} pictures were used to train a network that is scored here, so the scores are too good; give "
            "other pictures"
        )
    elif used:
        notes.append(
            f"queries are {fresh:,} pictures that were not used for training; the other {used:,} are only found"
        )
    if len(queries) == _MOST_QUERIES:
        notes.append(f"{len(queries):,} pictures, drawn by chance, are the queries")
    if any(item.group for item in dataset.items):
        notes.append("pictures of the query's own group are passed over, and intervals resample whole groups")
    if any(len(network.layers) > 1 for network in networks):
        notes.append("the best layer is chosen on these very pictures, which flatters its score a little")
    return notes
