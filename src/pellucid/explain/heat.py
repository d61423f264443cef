"""A picture explained: heat maps of what speaks for an answer, each with figures that say whether to believe it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.task import CLASS, NUMBER
from pellucid.data.wording import rounded
from pellucid.device import workers
from pellucid.errors import ConfigError, PictureError, UnknownNameError, nearest
from pellucid.explain import faithfulness as faith
from pellucid.explain.attribution import METHODS, Target, attribute, find_method, randomized, why_refused
from pellucid.explain.faithfulness import Answer, Scores
from pellucid.explain.map_layer import MapLayer, find_map_layer
from pellucid.model.classifier import Classifier

UNCHANGED = 0.5  # rank correlation from which on a map hardly changes when the weights become random
_DRAWS = 3  # random maps that one picture's map is held against
_PROBES = 8  # pictures that random networks' batch normalization is measured on


@dataclass(frozen=True, eq=False)
class Explainer:
    """A classifier and how it is explained: methods, the layer of Grad-CAM (or why there is none), its random twins."""

    classifier: Classifier
    methods: tuple[str, ...]
    layer: MapLayer | None
    no_layer: str
    twins: tuple[Classifier, ...]
    draws: int
    seed: int


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A map float32 (H, W), what it scores, and what a random map and the picture's edges score.

    similarity: rank correlation with the maps of networks of random weights, nan where these are constant. in_margin: the share of the
    heat in the outer eighth of the picture's sides. seconds: to make it, without its figures.
    """

    method: str
    values: np.ndarray
    scores: Scores
    random: tuple[Scores, ...]
    edges: Scores
    similarity: float
    in_margin: float
    seconds: float

    @property
    def title(self) -> str:
        return METHODS[self.method].title

    @property
    def unchanged(self) -> bool:
        """Whether it hardly changes when the network's weights become random."""
        return abs(self.similarity) > UNCHANGED

    def beats(self, score: str) -> tuple[bool, bool]:
        """Whether it is better than every random map, and than the edges, by deletion, insertion or road."""
        sign = -1 if score == "deletion" else 1
        own, edges = sign * getattr(self.scores, score), sign * getattr(self.edges, score)
        return own > max(sign * getattr(random, score) for random in self.random), own > edges

    @property
    def verdict(self) -> str:
        return worded({score: self.beats(score) for score in ("deletion", "road")}, self.similarity)

    @property
    def believed(self) -> bool:
        """Whether it beats both floors on deletion and ROAD, and depends on the weights."""
        return all(self.beats("deletion") + self.beats("road")) and not self.unchanged

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method, **self.scores.to_dict(),
            "floor": {
                "random": {score: _mean(self.random, score) for score in ("deletion", "insertion", "road")},
                "edges": self.edges.to_dict(),
            },
            "randomized_weights": {"rank_correlation": None if np.isnan(self.similarity) else self.similarity},
            "in_margin": self.in_margin, "believed": self.believed, "verdict": self.verdict, "seconds": round(self.seconds, 3),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a classifier says of a picture, uint8 (H, W, C) as it sees it, and the maps that say why.

    `answer` is in words, `share` what it says of `label`: a probability, or the number. refused: (method, why) of maps that there are none of.
    by_margin: which share of the answer is left, 1 for all, when only the outer margin is seen.
    """

    name: str
    pixels: np.ndarray
    label: str
    share: float
    answer: str
    maps: tuple[HeatMap, ...]
    refused: tuple[tuple[str, str], ...]
    layer: MapLayer | None
    by_margin: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "path": self.name, "label": self.label, "value": self.share, "answer": self.answer,
            "layer": None if self.layer is None else self.layer.name, "maps": [each.to_dict() for each in self.maps],
            "refused": [{"method": method, "reason": why} for method, why in self.refused], "answer_by_margin": self.by_margin,
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name}: {self.answer}"
        yield f"explained: {self.label}" + (f"; {self.layer}" if self.layer else "")
        if self.maps:
            yield ""
            yield f"{'':<22}{'deletion':>10}{'insertion':>11}{'ROAD':>8}   random weights"
        for each in self.maps:
            s, like = each.scores, each.similarity
            same = "constant" if np.isnan(like) else f"correlation {like:.2f}"
            yield f"{each.title:<22}{s.deletion:>10.3f}{s.insertion:>11.3f}{s.road:>8.3f}   {same}"
        if self.maps:
            first = self.maps[0]
            random = [_mean(first.random, score) for score in ("deletion", "insertion", "road")]
            yield f"{'a random map':<22}{random[0]:>10.3f}{random[1]:>11.3f}{random[2]:>8.3f}"
            edges = first.edges
            yield f"{'edges of the picture':<22}{edges.deletion:>10.3f}{edges.insertion:>11.3f}{edges.road:>8.3f}"
            yield "(deletion: lower is better; insertion and ROAD: higher)"
            yield ""
        for each in self.maps:
            yield f"{each.title} {each.verdict}"
        for method, why in self.refused:
            yield f"{METHODS[method].title}: no map, {why}"


def prepare(
    classifier: Classifier, pixels: np.ndarray, *, methods: Sequence[str] = (), layer: str | None = None,
    draws: int = _DRAWS, seed: int = 0,
) -> Explainer:  # fmt: skip
    """How to explain pictures like `pixels`, uint8 (N, H, W, C), the first of which chooses the layer: by Grad-CAM, where no layer
    has maps by occlusion, or by the `methods` ("all": every one). draws: random maps that each is held against.

    Raises UnknownNameError for a method or layer that is not there, ConfigError for a layer without maps.
    """
    for method in methods:
        if method != "all":
            find_method(method)
    names = tuple(METHODS) if "all" in methods else tuple(dict.fromkeys(methods)) or ("grad-cam",)
    found, why = None, ""
    if layer is not None or any(METHODS[name].needs_layer for name in names):
        try:
            found = find_map_layer(classifier, pixels[0], layer)
        except ConfigError as error:
            if layer is not None or (methods and len(names) == 1):
                raise
            why, names = str(error), names if methods else (*names, "occlusion")
    probes = np.concatenate([_probes(picture) for picture in pixels[:_PROBES]])[:: max(1, min(len(pixels), _PROBES))]
    count = 2 if draws > 1 else 1
    with workers() as pool:
        twins = tuple(pool.map(lambda k: randomized(classifier, probes, seed=seed + k), range(count)))
    return Explainer(classifier, names, found, why, twins, draws, seed)


def explain(explainer: Explainer, name: str, pixels: np.ndarray, label: str | None = None) -> Explanation:
    """A picture, uint8 (H, W, C), explained: the most probable class or label, or the one called `label`, or the number.

    Raises UnknownNameError for a label that is not there, PictureError for a picture that no answer can be explained of.
    """
    classifier, seed = explainer.classifier, explainer.seed
    mean = np.clip(255 * np.array(classifier.contract.mean), 0, 255).round().astype(np.uint8)
    empty = np.broadcast_to(mean, pixels.shape)
    answers = classifier.predict_proba(np.stack([pixels, empty]))
    target, answer = _target(classifier, answers, label)
    maps, refused = [], []
    for method in explainer.methods:
        if METHODS[method].needs_layer and explainer.layer is None:
            refused.append((method, explainer.no_layer))
            continue
        start = time.perf_counter()
        values = attribute(classifier, pixels[None], target, method, explainer.layer, seed=seed)[0]
        seconds = time.perf_counter() - start
        if why := why_refused(values):
            refused.append((method, why))
            continue
        twins = [
            attribute(twin, pixels[None], target, method, explainer.layer, seed=seed)[0] for twin in explainer.twins
        ]
        maps.append((method, values, np.array([faith.rank_correlation(values, twin) for twin in twins]), seconds))
    floors = [faith.random_map(pixels.shape[:2], seed + k) for k in range(explainer.draws)]
    every = [*(values for _, values, _, _ in maps), faith.edge_map(pixels), *floors]
    scores = faith.measure(answer, pixels, every, hidden=empty, seed=seed) if maps else []
    edges, random = scores[len(maps) : len(maps) + 1], tuple(scores[len(maps) + 1 :])
    heat = tuple(
        HeatMap(method, values, own, random, edges[0], _nanmean(like), faith.margin_share(values), seconds)
        for (method, values, like, seconds), own in zip(maps, scores, strict=False)
    )
    outside = faith.margin(pixels.shape[0], pixels.shape[1])[..., None]
    by_margin, full = answer(np.stack([np.where(outside, pixels, empty), pixels]))
    return Explanation(
        name, pixels, classifier.classes[target.output], float(answers[0, target.output]), classifier.rank(answers[0]).text(3),
        tuple(sorted(heat, key=lambda each: (not each.believed, -each.scores.road))), tuple(refused), explainer.layer,
        float(by_margin / max(full, 1e-9)),
    )  # fmt: skip


def worded(beats: dict[str, tuple[bool, bool]], similarity: float) -> str:
    """The verdict in words. beats: of deletion and road, whether a random map and the edges are beaten."""
    if abs(similarity) > UNCHANGED:
        return (
            f"hardly changes when the network's weights become random (rank correlation {similarity:.2f}): it shows the "
            "picture, not the network; do not believe it."
        )
    names = {"deletion": "deletion", "road": "ROAD"}
    if all(map(all, beats.values())):
        return "beats both floors on deletion and ROAD: what it marks is what the answer rests on."
    if not any(edges for _, edges in beats.values()):
        return "is no better than an edge detector: do not believe it."
    if not any(random for random, _ in beats.values()):
        return "is no better than a random map: do not believe it."
    won = [names[score] for score, both in beats.items() if all(both)]
    lost = [
        f"{names[score]} ({' and '.join(floor for floor, won in zip(('random map', 'edges'), both, strict=True) if not won)})"
        for score, both in beats.items()
        if not all(both)
    ]
    return (
        f"beats both floors on {won[0]}, " if won else ""
    ) + f"does not beat them on {' and '.join(lost)}: believe it with care."


def _target(classifier: Classifier, answers: np.ndarray, label: str | None) -> tuple[Target, Answer]:
    """What is explained, given the answers (2, K) for the picture and for an empty one, and how much of it is left."""
    if classifier.task.kind == NUMBER:
        full, empty = map(float, answers[:, 0])
        if label not in (None, classifier.classes[0]):
            raise UnknownNameError(
                f"--class is '{label}', but this classifier answers with a number, {classifier.classes[0]}."
            )
        if abs(full - empty) < max(1e-3 * classifier.task.std, 1e-9):
            raise PictureError(
                f"the answer, {rounded(full, classifier.task.step)}, is that for an empty picture: nothing in it speaks for another"
            )
        return Target(
            0, 1 if full > empty else -1
        ), lambda batch: (classifier.predict_proba(batch)[:, 0] - empty) / (full - empty)
    if label is not None and label not in classifier.classes:
        kind = "class" if classifier.task.kind == CLASS else "label"
        some = ", ".join(classifier.classes[:12]) + (", ..." if len(classifier.classes) > 12 else "")
        raise UnknownNameError(
            f"There is no {kind} '{label}'; the classifier knows {some}. {nearest(label, classifier.classes)}".rstrip()
        )
    output = int(answers[0].argmax()) if label is None else classifier.classes.index(label)
    return Target(output), lambda batch: classifier.predict_proba(batch)[:, output]


def _probes(pixels: np.ndarray) -> np.ndarray:
    """The picture in eight views, uint8 (8, H, W, C): batch normalization needs several."""
    turned = [np.roll(pixels, k * pixels.shape[1] // 4, axis=1) for k in range(4)]
    return np.stack([*turned, *(picture[::-1] for picture in turned)])


def _mean(scores: Sequence[Scores], name: str) -> float:
    return float(np.mean([getattr(score, name) for score in scores]))


def _nanmean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
