"""A learning curve: the same test pictures answered after training on growing shares of the training part.

It says what more pictures are likely to bring, and for which class. A power law is drawn on only where the measured errors
follow one. Source: Hestness et al. 2017, arXiv 1712.00409.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.manifest import USED
from pellucid.data.task import Task
from pellucid.errors import RunError
from pellucid.evaluation.answers import answers_file, read_answers
from pellucid.evaluation.intervals import Interval, group_numbers, resamples, spread
from pellucid.evaluation.metrics import evaluate_predictions
from pellucid.evaluation.text import percent, shorten
from pellucid.run import Run, members_of

_FEWEST_POINTS = 3
_NEAR = 0.15  # of a measured error: as far as this from the law, or inside its own interval, it follows the law


@dataclass(frozen=True)
class GrowthPoint:
    """One training: on how many pictures, and its accuracy on the test part."""

    name: str
    trained_on: int
    accuracy: Interval


@dataclass(frozen=True)
class ClassGrowth:
    """One class: its training pictures in the last two shares, its recall after the last, and what that was more than before."""

    label: str
    half: int
    trained_on: int
    n: int
    recall: Interval
    gain: Interval


@dataclass(frozen=True)
class PowerLaw:
    """error = factor * pictures ** -exponent; `doubled` is the accuracy that it expects of twice as many training pictures."""

    factor: float
    exponent: Interval
    doubled: Interval

    def error(self, pictures: float) -> float:
        return float(self.factor * pictures**-self.exponent.value)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """`points` from the smallest share to all; `classes`, the largest gain first; `law` None where the errors follow none, and
    then `why_no_law` says why."""

    split: str
    n: int
    points: tuple[GrowthPoint, ...]
    classes: tuple[ClassGrowth, ...]
    law: PowerLaw | None
    why_no_law: str
    interval_method: str

    def sentences(self) -> Iterator[str]:
        """The curve in words."""
        first, before, last = self.points[0], self.points[-2], self.points[-1]
        yield (
            f"With {last.trained_on:,} training pictures {percent(last.accuracy.value)} of {self.n:,} test pictures are labeled "
            f"correctly, with {before.trained_on:,} it was {percent(before.accuracy.value)}, with {first.trained_on:,} "
            f"{percent(first.accuracy.value)}."
        )
        if self.law:
            doubled = self.law.doubled
            yield (
                f"The errors fall like a power of the number of pictures (exponent {self.law.exponent}); {2 * last.trained_on:,} "
                f"pictures would by that give {percent(doubled.value)} ({percent(doubled.low)} to {percent(doubled.high)})."
            )
        else:
            yield f"What still more pictures would bring cannot be said: {self.why_no_law}."
        if not self.classes:
            return
        best = self.classes[0]
        gain = (
            f"{100 * best.gain.value:+.1f} points of recall ({100 * best.gain.low:+.1f} to {100 * best.gain.high:+.1f})"
        )
        if best.gain.low > 0:
            yield (
                f"'{shorten(best.label, 40)}' gained most from the last doubling, {gain}: of {len(self.classes)} classes it is the "
                "likeliest to profit from more pictures."
            )
        elif best.gain.value <= 0:
            yield "No class gained in the last doubling."
        else:
            yield f"No class gained for certain in the last doubling; most did '{shorten(best.label, 40)}', {gain}."

    def next_step(self, run: Run) -> str:
        """What a user may do now."""
        return f"pellucid predict {run.path / self.points[-1].name} PICTURES    # by the training on all"

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "split": self.split, "n": self.n, "interval_method": self.interval_method,
            "points": [vars(p) | {"accuracy": p.accuracy.to_dict()} for p in self.points],
            "classes": [vars(c) | {"recall": c.recall.to_dict(), "gain": c.gain.to_dict()} for c in self.classes],
            "law": self.law and {
                "factor": self.law.factor, "exponent": self.law.exponent.to_dict(), "doubled": self.law.doubled.to_dict()
            },
            "why_no_law": self.why_no_law, "sentences": list(self.sentences()),
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join([*self.sentences(), "", *self._table()])

    def _table(self) -> Iterator[str]:
        yield f"{'share':<8}{'trained on':>11}  accuracy"
        for point in self.points:
            yield f"{point.name:<8}{point.trained_on:>11,}  {point.accuracy}"
        yield ""
        width = max([5, *(len(shorten(c.label, 32)) for c in self.classes)])
        yield f"{'class':<{width}}{'trained on':>12}  {'recall':<24}  gain of the last doubling"
        for c in self.classes[:30]:
            yield f"{shorten(c.label, 32):<{width}}{c.trained_on:>12,}  {c.recall!s:<24}  {c.gain}"


def evaluate_growth(run: Run) -> LearningCurve:
    """Scores the trainings of a learning curve that are all finished. Raises RunError when their test parts differ."""
    members = members_of(run)
    every = [read_answers(answers_file(member)) for member in members]
    if any(answers.paths != every[0].paths for answers in every):
        raise RunError(f"The trainings of '{run}' have different test pictures, so they make no curve. Train it again.")
    last = every[-1]
    task, classes = Task(**run.read()["task"]), last.outputs
    truth = task.encode(last.labels, classes)
    counts = [_trained_on(member) for member in members]
    scores = [
        evaluate_predictions(truth, answers.values, classes, paths=answers.paths, groups=answers.grouped())
        for answers in every
    ]
    wrong = np.array([answers.values.argmax(1) != truth for answers in every], np.float64)  # (S, N)
    groups = None if last.grouped() is None else group_numbers(last.groups)
    errors, gains = _resampled(wrong, truth, len(classes), groups)
    units = len(truth) if groups is None else int(groups.max()) + 1
    points = tuple(
        GrowthPoint(member.path.name, count.total(), score.accuracy)
        for member, count, score in zip(members, counts, scores, strict=True)
    )
    before, after = scores[-2].per_class, scores[-1].per_class
    grown = [
        ClassGrowth(
            name, counts[-2][name], counts[-1][name], after[k].n, after[k].recall,
            spread(after[k].recall.value - before[k].recall.value, gains[:, k], units=units),
        )
        for k, name in enumerate(classes) if after[k].n
    ]  # fmt: skip
    law, why = fit_power_law(
        [p.trained_on for p in points], [1 - p.accuracy.value for p in points], errors, units=units
    )
    return LearningCurve(
        "learning-curve", len(truth), points, tuple(sorted(grown, key=lambda c: -c.gain.value)), law, why,
        scores[-1].interval_method,
    )  # fmt: skip


def _trained_on(member: Run) -> Counter[str]:
    return Counter(r["label"] for r in member.read_manifest() if r["status"] == USED and r["split"] == "train")


def _resampled(
    wrong: np.ndarray, truth: np.ndarray, num_classes: int, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (D, S) and gains of recall in the last step (D, K) on D resamples of the test pictures, or of their groups: the
    same pictures for every training, so that what they have in common does not blur the differences."""
    of_class = truth[:, None] == np.arange(num_classes)
    gained = (wrong[-2] - wrong[-1])[:, None] * of_class
    errors, gains = [], []
    for weights in resamples(len(truth), groups=groups):
        errors.append(weights @ wrong.T / weights.sum(1, keepdims=True))
        support = weights @ of_class
        gains.append(np.divide(weights @ gained, support, out=np.full(support.shape, np.nan), where=support > 0))
    return np.concatenate(errors), np.concatenate(gains)


def fit_power_law(
    pictures: Sequence[int], errors: Sequence[float], draws: np.ndarray, *, units: int = 10_000, seed: int = 0
) -> tuple[PowerLaw | None, str]:
    """The law that the errors (S,) follow, or None and why not. `draws` (D, S) are the errors on
    `units` resampled test pictures or groups.

    Fitted in logarithms, each point weighed by how certain it is. The interval of `doubled` holds the choice of the test pictures
    and the scatter of the points around the law, as a prediction's does in linear regression.
    """
    if len(pictures) < _FEWEST_POINTS:
        return None, f"{len(pictures)} shares are too few to see a law"
    if min(errors) <= 0:
        return None, "a share makes no mistake on these test pictures"
    x, y = np.log(pictures), np.log(errors)
    some = np.log(np.maximum(draws, min(errors) / 10))
    weight = 1 / np.maximum(some.std(0), 1e-3)
    slope, start = np.polyfit(x, y, 1, w=weight)
    slopes, starts = np.polyfit(x, some.T, 1, w=weight)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    fitted = np.exp(start + slope * x)
    follows = (np.abs(fitted / np.asarray(errors) - 1) <= _NEAR) | ((low <= fitted) & (fitted <= high))
    exponent = spread(float(-slope), -slopes, units=units)
    if not follows.all():
        return None, "the errors do not fall like a power of the number of pictures"
    if exponent.low <= 0:
        return None, "the errors do not fall for certain"
    x_doubled = x[-1] + math.log(2)
    scatter = math.sqrt(float(((start + slope * x - y) ** 2).sum()) / (len(x) - 2))
    reach = math.sqrt(1 + 1 / len(x) + (x_doubled - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    noise = np.random.default_rng(seed).normal(0, scatter * reach, len(starts))
    doubled = 1 - np.minimum(np.exp(starts + slopes * x_doubled + noise), 1)
    return PowerLaw(
        math.exp(start), exponent, spread(1 - math.exp(start + slope * x_doubled), doubled, units=units)
    ), ""
