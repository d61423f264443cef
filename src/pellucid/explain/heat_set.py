"""Many pictures explained: whether a method can be believed for this network, and where it looks, class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.wording import counted
from pellucid.errors import DataError, PictureError
from pellucid.evaluation.intervals import Interval, group_numbers, resamples, share, spread
from pellucid.evaluation.text import percent
from pellucid.explain.attribution import METHODS
from pellucid.explain.faithfulness import Scores, margin
from pellucid.explain.heat import Explainer, Explanation, HeatMap, explain, worded

SCORES = ("deletion", "insertion", "road")
ENOUGH = 0.5  # of an answer that the outer margin alone gives: then the middle was not needed


@dataclass(frozen=True, eq=False)
class Believed:
    """One method over n pictures: its mean scores, those of the floors, and how much better it is than each floor, all with
    intervals; `gains` are positive where the method is better. averages: the mean heat (H, W) of each explained label."""

    method: str
    n: int
    scores: dict[str, Interval]
    random: dict[str, Interval]
    edges: dict[str, Interval]
    gains: dict[str, tuple[Interval, Interval]]
    similarity: float
    in_margin: Interval
    averages: dict[str, tuple[int, np.ndarray]]

    @property
    def title(self) -> str:
        return METHODS[self.method].title

    def beats(self, score: str) -> tuple[bool, bool]:
        """Whether it is certainly better than the random maps, and than the edges."""
        random, edges = self.gains[score]
        return random.low > 0, edges.low > 0

    @property
    def verdict(self) -> str:
        return worded({score: self.beats(score) for score in ("deletion", "road")}, self.similarity)

    @property
    def warning(self) -> str | None:
        """Where more of the heat lies in the outer margin than of the area."""
        heat = next(iter(self.averages.values()))[1]
        area = float(margin(*heat.shape).mean())
        if self.in_margin.low <= area:
            return None
        low, high = percent(self.in_margin.low), percent(self.in_margin.high)
        return (
            f"It looks at the border: {percent(self.in_margin.value)} ({low} to {high}) of the heat of {self.title} lies in the outer "
            f"eighth of the sides, which is {percent(area)} of the area and would get as much of a random map."
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method, "n": self.n, **{name: self.scores[name].to_dict() for name in SCORES},
            "floor": {
                "random": {name: self.random[name].to_dict() for name in SCORES},
                "edges": {name: self.edges[name].to_dict() for name in SCORES},
            },
            "better_than": {
                name: {"random": random.to_dict(), "edges": edges.to_dict()} for name, (random, edges) in self.gains.items()
            },
            "randomized_weights": {"rank_correlation": None if np.isnan(self.similarity) else self.similarity},
            "in_margin": self.in_margin.to_dict(), "verdict": self.verdict, "warning": self.warning,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class ExplainedSet:
    """Many pictures explained. skipped: (path, why). by_margin: the share of the pictures whose answer keeps half of its
    strength when only the outer margin is seen."""

    source: str
    explanations: tuple[Explanation, ...]
    methods: tuple[Believed, ...]
    skipped: tuple[tuple[str, str], ...]
    by_margin: Interval
    notes: tuple[str, ...]

    @property
    def warnings(self) -> list[str]:
        found = [each.warning for each in self.methods if each.warning]
        if self.by_margin.low > ENOUGH:
            found.append(f"The middle is not needed: {self.margin_sentence}")
        return found

    @property
    def margin_sentence(self) -> str:
        low, high = percent(self.by_margin.low), percent(self.by_margin.high)
        return (
            f"With the middle hidden, {percent(self.by_margin.value)} ({low} to {high}) of the pictures keep at least half of "
            "the strength of their answer."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "source": self.source, "n": len(self.explanations), "methods": [each.to_dict() for each in self.methods],
            "answer_by_margin": self.by_margin.to_dict(), "warnings": self.warnings,
            "pictures": [each.to_dict() for each in self.explanations],
            "skipped": [{"path": path, "reason": why} for path, why in self.skipped], "notes": list(self.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{counted(len(self.explanations), 'picture')} of {self.source} explained"
        for each in self.methods:
            yield f"\n{each.title}, {counted(each.n, 'picture')}: {each.verdict}"
            yield f"  {'':<20}{'deletion':<26}{'insertion':<26}ROAD"
            for name, row in (("the map", each.scores), ("a random map", each.random), ("edges", each.edges)):
                yield f"  {name:<20}" + "".join(f"{row[score]!s:<26}" for score in SCORES).rstrip()
            yield f"  under random weights its maps correlate {each.similarity:.2f} with these"
        yield ""
        yield from self.warnings or [self.margin_sentence]
        for path, why in self.skipped[:5]:
            yield f"left out: {path}: {why}"
        if len(self.skipped) > 5:
            yield f"left out: {len(self.skipped) - 5:,} more (all in --json)"
        yield from (f"Note: {note}" for note in self.notes)


def explain_many(
    explainer: Explainer,
    pictures: Sequence[tuple[str, np.ndarray | str]],
    *,
    source: str,
    label: str | None = None,
    groups: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> ExplainedSet:
    """Explains pictures: (name, pixels uint8 (H, W, C), or why there are none). Pictures of one of the `groups` resemble each other,
    and whole groups are resampled for the intervals.

    Raises DataError when not a single map could be made.
    """
    found, skipped, kept = [], [], []
    for index, (name, pixels) in enumerate(pictures):
        if progress:
            progress(index, len(pictures))
        try:
            if isinstance(pixels, str):
                raise PictureError(pixels)
            found.append(explain(explainer, name, pixels, label))
            kept.append(index)
        except PictureError as error:
            skipped.append((name, error.reason))
    of = group_numbers([groups[i] for i in kept]) if groups else None
    methods = [
        _over_many(method, [(i, m) for i, e in enumerate(found) for m in e.maps if m.method == method], found, of)
        for method in explainer.methods
        if any(m.method == method for e in found for m in e.maps)
    ]
    if not methods:
        why = skipped[0][1] if skipped else found[0].refused[0][1]
        raise DataError(
            f"None of {counted(len(pictures), 'picture')} could be explained. The first: {why}. Give other pictures."
        )
    by_margin = share(np.array([e.by_margin >= ENOUGH for e in found]), of)
    methods.sort(key=lambda each: -each.scores["road"].value)
    return ExplainedSet(source, tuple(found), tuple(methods), tuple(skipped), by_margin, tuple(notes))


def mean_interval(values: Sequence[float] | np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """The mean of values (N,) with its bootstrap interval; whole groups, int (N,), are resampled where they are given."""
    numbers = np.asarray(values, np.float64)
    draws = np.concatenate([weights @ numbers / weights.sum(1) for weights in resamples(len(numbers), groups=groups)])
    return spread(float(numbers.mean()), draws, units=len(numbers) if groups is None else len(np.unique(groups)))


def _over_many(
    method: str, maps: Sequence[tuple[int, HeatMap]], found: Sequence[Explanation], groups: np.ndarray | None
) -> Believed:
    rows = [i for i, _ in maps]
    of = None if groups is None else group_numbers(groups[rows].tolist())

    def values(name: str, of_map: Callable[[HeatMap], Sequence[Scores]]) -> np.ndarray:
        return np.array([np.mean([getattr(scores, name) for scores in of_map(each)]) for _, each in maps])

    own = {name: values(name, lambda each: [each.scores]) for name in SCORES}
    random = {name: values(name, lambda each: each.random) for name in SCORES}
    edges = {name: values(name, lambda each: [each.edges]) for name in SCORES}
    signs = {"deletion": -1, "insertion": 1, "road": 1}
    gains = {
        name: (
            mean_interval(sign * (own[name] - random[name]), of),
            mean_interval(sign * (own[name] - edges[name]), of),
        )
        for name, sign in signs.items()
    }
    like = np.array([each.similarity for _, each in maps])
    heats: dict[str, list[np.ndarray]] = {}
    for row, each in maps:
        heat = np.maximum(each.values, 0)
        heats.setdefault(found[row].label, []).append(heat / heat.sum())
    return Believed(
        method=method,
        n=len(maps),
        scores={name: mean_interval(own[name], of) for name in SCORES},
        random={name: mean_interval(random[name], of) for name in SCORES},
        edges={name: mean_interval(edges[name], of) for name in SCORES},
        gains=gains,
        similarity=float(np.nanmean(like)) if np.isfinite(like).any() else float("nan"),
        in_margin=mean_interval([each.in_margin for _, each in maps], of),
        averages={label: (len(some), np.mean(some, axis=0)) for label, some in sorted(heats.items())},
    )
