"""When a classifier should keep silent: the confidence from which on its answers are wrong rarely enough, with a guarantee.

The confidence of an answer is its calibrated probability. Thresholds are hypotheses, "more than so many of the answers from
here on are wrong", and the validation part must refute those that are used (Learn then Test, Angelopoulos et al. 2021, arXiv
2110.01052). Fixed grids of thresholds are gone down from three starts that only the level decides; each goes on until a
hypothesis stands, and the three share the chance of being fooled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pellucid.evaluation.intervals import Interval, group_numbers, share
from pellucid.evaluation.text import counted, percent

DELTA = 0.05  # the chance that the validation part misleads us, and the promise does not hold
_STARTS = (1, 4, 16)  # answers are first tested from the confidence 1 - level / start on
_FEWEST_GROUPS = 10
_STEPS = 100  # thresholds from a start to the bottom


@dataclass(frozen=True)
class Threshold:
    """Answers from confidence `value` on are wrong in at most a share `level`; inf: nothing can be promised, say nothing.

    It rests on `n` validation pictures, of which `answered` reach it and `wrong` of these are labeled wrongly.
    """

    level: float
    value: float
    n: int
    answered: int
    wrong: int
    groups: int = 0  # how many the validation pictures belong to; 0: none are known

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; the threshold is None where it is infinite."""
        return asdict(self) | {"value": self.value if math.isfinite(self.value) else None, "delta": DELTA}

    def __str__(self) -> str:
        """The promise in words."""
        share = f"{100 * self.level:g} %"
        if not math.isfinite(self.value):
            return (
                f"{self._rests_on()} cannot promise that at most {share} of the answers are wrong, however sure it is: that takes "
                f"at least {_fewest(self.level):,} answers without a mistake, or more with some{self._takes_groups()}. So it is "
                "silent on every picture. Allow more mistakes, or train with a larger validation part."
            )
        when = (
            f"when it is {_confidence(self.value)} sure or more, and is silent below"
            if self.value
            else "for every picture"
        )
        return (
            f"It answers {when}. Of its answers at most {share} "
            f"are wrong, on new pictures of the same kind as the validation part; this promise rests on {self._rests_on()} "
            f"({self.answered:,} answered, {self.wrong:,} of these wrong) and holds with {100 * (1 - DELTA):g} % certainty."
        )

    def _rests_on(self) -> str:
        of = f" of {counted(self.groups, 'group')}" if self.groups else ""
        return f"{counted(self.n, 'validation picture')}{of}"

    def _takes_groups(self) -> str:
        return f", from {_FEWEST_GROUPS} groups or more" if self.groups else ""


def find_threshold(
    probabilities: np.ndarray, labels: np.ndarray, level: float, *, groups: np.ndarray | None = None
) -> Threshold:
    """The lowest confidence from which on the share of wrong answers is proven to be at most `level`.

    probabilities float (N, C) and labels int (N,) of pictures that were not learned from. With probability 1 - DELTA over these
    pictures, that share among new pictures alike is at most `level`. With `groups` int (N,) a hypothesis must also fall to a
    t test over groups, since pictures of a group err together.
    """
    from scipy.special import bdtr

    confidence = probabilities.max(1).astype(np.float64)
    wrong = probabilities.argmax(1) != labels
    order = np.argsort(-confidence)
    falling, mistakes = -confidence[order], np.append(0, np.cumsum(wrong[order]))
    most = max(1 - 1 / probabilities.shape[1], level)  # doubt of a classifier that only guesses
    allowed = DELTA / len(_STARTS)
    found = math.inf
    for start in _STARTS:
        for doubt in np.geomspace(level / start, most, _STEPS).tolist():
            count = int(np.searchsorted(falling, doubt - 1, side="right"))
            if not count or bdtr(float(mistakes[count]), count, level) > allowed:
                break
            if groups is not None and _chance_by_group(wrong, confidence >= 1 - doubt, level, groups) > allowed:
                break
            found = min(found, 1 - doubt if doubt < most else 0.0)
    answered = confidence >= found
    num_groups = 0 if groups is None else len(np.unique(groups))
    return Threshold(level, found, len(labels), int(answered.sum()), int(wrong[answered].sum()), num_groups)


@dataclass(frozen=True)
class Silence:
    """What a threshold does on measured pictures: of `n` pictures `answered`, `wrong` of them wrongly; `error` is nan where none
    is answered."""

    threshold: Threshold
    n: int
    answered: int
    wrong: int
    error: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        counts = {"n": self.n, "answered": self.answered, "silent": self.n - self.answered, "wrong": self.wrong}
        return {"threshold": self.threshold.to_dict(), **counts, "error": self.error.to_dict()}

    def __str__(self) -> str:
        """What was measured, in a sentence."""
        if not self.answered:
            return f"It is silent on all {counted(self.n, 'picture')} here."
        return (
            f"Here it answers for {percent(self.answered / self.n)} of {counted(self.n, 'picture')}, and "
            f"{self.wrong:,} of {counted(self.answered, 'answer')} {'is' if self.wrong == 1 else 'are'} wrong: "
            f"{percent(self.error.value)} ({percent(self.error.low)} to {percent(self.error.high)})."
        )


def measure_silence(
    threshold: Threshold, probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[Any] | None = None
) -> Silence:
    """What `threshold` does on other pictures; the interval is Wilson's, or resampled by group."""
    answered = probabilities.max(1) >= threshold.value
    wrong = (probabilities.argmax(1) != labels)[answered]
    kept = None if groups is None else group_numbers([groups[i] for i in np.flatnonzero(answered).tolist()])
    error = share(wrong, kept)
    return Silence(threshold, len(labels), int(answered.sum()), int(wrong.sum()), error)


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """`error` (N,): the share of wrong ones among the surest k of N answers, k = 1..N. `area` is their mean, the area below the
    curve; a classifier that errs as often but knows when has `best`, one whose confidence means nothing has its error rate.

    Source: Geifman and El-Yaniv 2017, arXiv 1705.08500; area: Geifman et al. 2019, arXiv 1805.08206.
    """

    error: np.ndarray
    area: float
    best: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data: the curve at every hundredth."""
        n = len(self.error)
        at = {f"{share / 100:g}": float(self.error[max(math.ceil(n * share / 100), 1) - 1]) for share in range(1, 101)}
        return {"area": self.area, "best_area": self.best, "error_at_coverage": at}


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> RiskCoverage:
    """The curve of probabilities (N, C) against labels int (N,); equally sure answers count as one step of their mean."""
    confidence, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    _, place, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    mean_wrong = np.bincount(place, weights=wrong) / count
    n = np.arange(1, len(labels) + 1)
    error = np.cumsum(np.repeat(mean_wrong, count)) / n
    ideal = np.cumsum(np.sort(wrong)) / n
    return RiskCoverage(error, float(error.mean()), float(ideal.mean()))


def _chance_by_group(wrong: np.ndarray, answered: np.ndarray, level: float, groups: np.ndarray) -> float:
    """How probable so few wrong answers would be if more than a share `level` were wrong: a t test of each group's excess."""
    from scipy.special import stdtr

    _, group_of = np.unique(groups[answered], return_inverse=True)
    excess = np.bincount(group_of, weights=wrong[answered] - level)
    if len(excess) < _FEWEST_GROUPS:
        return 1.0
    error = float(excess.std(ddof=1)) / math.sqrt(len(excess))
    return float(stdtr(len(excess) - 1, excess.mean() / error)) if error > 1e-12 else 0.0


def _fewest(level: float) -> int:
    """So many answers without a mistake are needed before anything can be promised."""
    return math.ceil(math.log(DELTA / len(_STARTS)) / math.log1p(-level))


def _confidence(value: float) -> str:
    """With as many digits as tell it from 100 %."""
    return f"{100 * value:.{1 if value < 0.99 else 2 if value < 0.999 else 4}f} %"
