"""Label sets: instead of one answer all that may be right, so many that the true one is among them as often as asked for.

Split conformal prediction: of new pictures like those of the validation part, the share whose set holds the true class is
on average at least `coverage`, whatever the network. Sources: LAC, Sadinle et al. 2019, arXiv 1609.00451 (the smallest sets);
APS, Romano et al. 2020, arXiv 2006.02544 (larger ones where a picture is hard), with its random number U at 0, so that equal
pictures get equal sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pellucid.evaluation.intervals import Interval, group_numbers, share
from pellucid.evaluation.text import percent


@dataclass(frozen=True)
class SetRule:
    """Classes whose score is at most `limit` are in the set; the most probable one always is. Inf: all classes are."""

    method: str
    coverage: float
    limit: float
    n: int

    def members(self, probabilities: np.ndarray) -> np.ndarray:
        """bool (N, C): the classes in the set of each picture, from probabilities (N, C)."""
        inside = _scores(self.method, probabilities) <= self.limit
        inside[np.arange(len(inside)), probabilities.argmax(1)] = True
        return inside

    def __str__(self) -> str:
        """The promise in words."""
        share = f"{100 * self.coverage:g} %"
        if not math.isfinite(self.limit):
            few = math.ceil(round(self.coverage / (1 - self.coverage), 6))
            return (
                f"Label sets for {share} need at least {few:,} validation pictures, and there are {self.n:,}: every set holds all "
                "classes."
            )
        return (
            f"The label sets hold the true class for at least {share} of new pictures of the same kind as the validation part, on "
            f"average over such parts (split conformal prediction, {self.method.upper()}, {self.n:,} validation pictures)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; the limit is None where it is infinite."""
        return asdict(self) | {"limit": self.limit if math.isfinite(self.limit) else None}


def find_rule(probabilities: np.ndarray, labels: np.ndarray, coverage: float, method: str = "lac") -> SetRule:
    """The rule whose sets hold the true class of a new picture with probability `coverage` or more.

    probabilities float (N, C), labels int (N,) of pictures that were not learned from. With too few of them every set holds all
    classes.
    """
    scores = np.sort(_scores(method, probabilities)[np.arange(len(labels)), labels])
    rank = math.ceil((len(labels) + 1) * coverage)
    return SetRule(method, coverage, float(scores[rank - 1]) if rank <= len(labels) else math.inf, len(labels))


@dataclass(frozen=True)
class SetScore:
    """How a rule does on measured pictures: how often the true class is in the set, and how many classes sets hold."""

    rule: SetRule
    n: int
    coverage: Interval
    mean_size: float
    single: float  # share of sets of one class

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return self.rule.to_dict() | {
            "measured": self.coverage.to_dict(), "mean_size": self.mean_size, "single": self.single
        }  # fmt: skip

    def __str__(self) -> str:
        """What was measured, in a sentence."""
        c = self.coverage
        return (
            f"Label sets made to hold the true class of {100 * self.rule.coverage:g} % of the pictures ({self.rule.method.upper()}) hold it "
            f"for {percent(c.value)} ({percent(c.low)} to {percent(c.high)}), with {self.mean_size:.2f} classes on average; "
            f"{percent(self.single)} of the sets hold one class."
        )


def measure_sets(
    rule: SetRule, probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[Any] | None = None
) -> SetScore:
    """What `rule` does on other pictures; the interval is Wilson's, or resampled by group."""
    members = rule.members(probabilities)
    size = members.sum(1)
    coverage = share(members[np.arange(len(labels)), labels], None if groups is None else group_numbers(groups))
    return SetScore(rule, len(labels), coverage, float(size.mean()), float((size == 1).mean()))


def _scores(method: str, probabilities: np.ndarray) -> np.ndarray:
    """(N, C), the smaller the more fitting. LAC: what is missing to certainty. APS: the probability of all classes that are
    more probable."""
    probabilities = probabilities.astype(np.float64)
    if method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    total = np.cumsum(np.take_along_axis(probabilities, order, 1), axis=1)
    scores = np.zeros_like(total)
    np.put_along_axis(scores, order[:, 1:], total[:, :-1], 1)
    return scores
