"""How far a score can be believed: Wilson's interval for shares, the bootstrap for the rest, by group where groups are known.

Pictures of one patient (video, plant) resemble each other: a formula that counts them as independent would promise more
than the data can hold, so whole groups are resampled then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr, stdtrit

_DRAWS_AT_ONCE = 100  # bounds the memory with many groups or classes
_MOST_DRAWN = 20_000_000  # draws times pictures: bounds the time with very many pictures


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval. All three are nan where nothing was measured."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "not measured"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def wilson(successes: int, n: int) -> Interval:
    """The share successes / n with its 95 % Wilson interval; nan when n is 0.

    Source: Wilson 1927; written out, since scipy.stats takes half a second to import.
    """
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    share, z2 = float(successes / n), NormalDist().inv_cdf(0.975) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low, high = 0.0 if successes == 0 else middle - reach, 1.0 if successes == n else middle + reach  # to the last bit
    return Interval(share, low, high)


NOT_MEASURED = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores of D bootstrap draws: accuracy and macro_f1 (D,); recall, precision and f1 (D, C), nan if undefined."""

    accuracy: np.ndarray
    macro_f1: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    f1: np.ndarray

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """(D,): the mean recall over the classes that have pictures in the draw."""
        return np.nansum(self.recall, axis=1) / np.isfinite(self.recall).sum(axis=1)


def bootstrap(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    *,
    groups: np.ndarray | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Resampled:
    """Scores of `draws` resamples of the pictures, or of whole groups where `groups` (N,) are given.

    labels and predictions are integers (N,) below `num_classes`. Pictures with equal label and prediction are
    alike to every score, so resampling pictures is a multinomial draw over the confusion matrix's cells.
    Source: Efron 1979; Field and Welsh 2007 for whole groups.
    """
    if groups is None:
        cells = labels * num_classes + predictions
        _, unit, seen = np.unique(cells, return_inverse=True, return_counts=True)
        num_drawn, chance = len(labels), seen / len(labels)
        weight = 1.0 / seen[unit]  # one draw of a cell is one of its pictures
    else:
        _, unit = np.unique(groups, return_inverse=True)
        num_drawn = int(unit.max()) + 1
        chance = np.full(num_drawn, 1.0 / num_drawn)
        weight = np.ones(len(labels))  # one draw of a group is all of its pictures
    shape = (len(chance), num_classes)
    right_of = csr_array((weight * (labels == predictions), (unit, labels)), shape=shape)
    support_of = csr_array((weight, (unit, labels)), shape=shape)
    predicted_of = csr_array((weight, (unit, predictions)), shape=shape)

    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        drawn = rng.multinomial(num_drawn, chance, size=min(_DRAWS_AT_ONCE, draws - start))  # (D, units)
        right, support, predicted = drawn @ right_of, drawn @ support_of, drawn @ predicted_of  # (D, C)
        accuracy = right.sum(axis=1) / support.sum(axis=1)
        shares = (ratio(right, support), ratio(right, predicted), ratio(2.0 * right, support + predicted))
        parts.append((accuracy, macro_f1_score(right, support, predicted), *shares))
    return Resampled(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def group_numbers(groups: Sequence[Any]) -> np.ndarray:
    """int (N,): equal groups have equal numbers from 0 on; "" and None stand for a group of their own each."""
    numbers: dict[Any, int] = {}
    own = (("", i) if group in ("", None) else group for i, group in enumerate(groups))
    return np.array([numbers.setdefault(group, len(numbers)) for group in own])


def macro_f1_score(right: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that have pictures; counts (..., C) -> (...)."""
    present = support > 0
    f1 = np.divide(2.0 * right, support + predicted, out=np.zeros(right.shape), where=present)
    return f1.sum(axis=-1) / present.sum(axis=-1)


def macro_trials(support: np.ndarray) -> int:
    """How many pictures in all, equally spread, would make a mean over classes as uncertain as these do."""
    present = support[support > 0]
    return max(1, int(len(present) ** 2 / (1.0 / present).sum()))


def all_alike(draws: np.ndarray) -> bool:
    """Whether bootstrap draws show no variation at all."""
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return bool(high - low < 1e-9)


def quantiles(units: int) -> tuple[float, float]:
    """Which quantiles of bootstrap draws hold the truth 95 times in 100 when so many units (pictures, groups) are resampled.

    Those at 2.5 and 97.5 % are too near to each other for few units, as a normal quantile is in place of Student's.
    Source: the expanded percentile interval, Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 4.3.
    """
    units = max(units, 2)
    tail = float(ndtr(stdtrit(units - 1, 0.025) * math.sqrt(units / (units - 1))))
    return tail, 1 - tail


def percentiles(value: float, draws: np.ndarray, *, trials: int) -> Interval:
    """The percentile interval of bootstrap draws of a share, widened where it does not hold `value` itself.

    `trials` are the independent units that it rests on. Where no mistake was seen, or there is one group only, all draws are
    alike, which proves nothing: then the interval is Wilson's for so many trials.
    """
    low, high = np.nanquantile(draws, quantiles(trials))
    if all_alike(draws):
        stand_in = wilson(round(value * trials), trials)
        low, high = stand_in.low, stand_in.high
    return Interval(value, min(float(low), value), max(float(high), value))


def resamples(n: int, *, groups: np.ndarray | None = None, draws: int = 1000, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each picture is in each of `draws` resamples of the pictures or, with `groups` int (N,), of whole groups:
    float (at most 100, N) at a time; fewer draws, but 200 or more, for very many pictures.

    One group says nothing about others: then pictures are resampled. Source: Efron 1979; Field and Welsh 2007 for groups.
    """
    unit = np.arange(n) if groups is None or groups.max() == 0 else groups
    num_units = int(unit.max()) + 1
    rng = np.random.default_rng(seed)
    draws = min(draws, max(200, _MOST_DRAWN // n))
    at_once = max(1, min(_DRAWS_AT_ONCE, _MOST_DRAWN // n))
    for start in range(0, draws, at_once):
        drawn = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=min(at_once, draws - start))
        yield drawn[:, unit].astype(np.float64)


def spread(value: float, draws: np.ndarray, *, units: int) -> Interval:
    """The percentile interval of bootstrap draws of a score that is no share, widened where it does not hold `value`; `units`
    pictures or groups were resampled."""
    if not math.isfinite(value) or not np.isfinite(draws).any():
        return Interval(value if math.isfinite(value) else math.nan, math.nan, math.nan)
    low, high = np.nanquantile(draws, quantiles(units))
    return Interval(value, min(float(low), value), max(float(high), value))


def share(hit: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0) -> Interval:
    """The share of pictures where `hit` bool (N,) is true: Wilson's, or resampled by `groups` int (N,) where they are given."""
    found = wilson(int(hit.sum()), len(hit))
    if groups is None or not len(hit):
        return found
    drawn = bootstrap(np.zeros(len(hit), np.int64), (~hit).astype(np.int64), 2, groups=groups, seed=seed)
    return percentiles(found.value, drawn.accuracy, trials=len(np.unique(groups)))


def ratio(part: Any, whole: Any, *, otherwise: float = math.nan) -> np.ndarray:
    """part / whole as float64, `otherwise` where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole > 0)
