"""How well pictures of one class (or with one label) are told from the others by its probability, whatever the threshold.

ROC and precision-recall curves with the areas under them, one class against the rest, and what happens at one threshold
that was chosen on other pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pellucid.errors import ConfigError
from pellucid.evaluation.intervals import NOT_MEASURED, Interval, percentiles, ratio, resamples, share

_MOST_COMPARED = 100_000_000  # draws times pictures times classes: bounds the time
_FEWEST_DRAWS = 200
_POINTS = 200  # of a curve, at most


class Areas(NamedTuple):
    """Areas (D, L) under the precision-recall and the ROC curve of each label, nan where pictures are all with it or all without."""

    average_precision: np.ndarray
    auc: np.ndarray


@dataclass(frozen=True, eq=False)
class Ranking:
    """One class against the rest: `n` pictures are of it. `curve` (K, 3) holds sensitivity, false positive rate and precision,
    from the highest threshold to the lowest; empty where nothing can be told apart."""

    label: str
    n: int
    auc: Interval
    average_precision: Interval
    curve: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; the curve has 200 points at most."""
        names = ("sensitivity", "false_positive_rate", "precision")
        return {
            "label": self.label, "n": self.n, "auc": self.auc.to_dict(), "average_precision": self.average_precision.to_dict(),
            "curve": {name: self.curve[:, k].round(5).tolist() for k, name in enumerate(names)},
        }  # fmt: skip


@dataclass(frozen=True)
class OperatingPoint:
    """What happens when a picture counts as `positive` from a probability of `threshold` on.

    `aim` is the figure that the threshold was chosen for on `chosen_on` (a part, and its n); the scores are of the pictures measured.
    """

    positive: str
    aim: str
    threshold: float
    chosen_on: str
    sensitivity: Interval
    specificity: Interval
    precision: Interval
    negative_predictive_value: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plain = {name: getattr(self, name) for name in ("positive", "aim", "threshold", "chosen_on")}
        return plain | {name: getattr(self, name).to_dict() for name in SCORES}

    def __str__(self) -> str:
        return (
            f"'{self.positive}' from a probability of {self.threshold:.3g} on ({self.aim} on {self.chosen_on}): "
            + ", ".join(f"{name.replace('_', ' ')} {getattr(self, name)}" for name in SCORES)
        )


SCORES = ("sensitivity", "specificity", "precision", "negative_predictive_value")


def rankings(
    truth: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[tuple[Ranking, ...], Interval]:
    """A Ranking of each label, and the mean of their AUC.

    truth: bool (N, L); probabilities: float (N, L); groups: int (N,) from 0 on, resampled as a whole.
    """
    n, count = truth.shape
    draws = max(_FEWEST_DRAWS, min(1000, _MOST_COMPARED // max(n * count, 1)))
    drawn = [areas(truth, probabilities, weight) for weight in resamples(n, groups=groups, draws=draws, seed=seed)]
    precisions, aucs = (np.concatenate(part) for part in zip(*drawn, strict=True))
    value = areas(truth, probabilities, np.ones((1, n)))
    found = []
    fewest = n  # units that the AUC of a label rests on
    for k, label in enumerate(labels):
        sides = [truth[:, k], ~truth[:, k]]
        trials = min(int(side.sum()) if groups is None else len(np.unique(groups[side])) for side in sides)
        fewest = min(fewest, trials) if trials else fewest
        auc, precision = (
            percentiles(float(v[0, k]), d[:, k], trials=trials) if trials else NOT_MEASURED
            for v, d in ((value.auc, aucs), (value.average_precision, precisions))
        )
        found.append(Ranking(label, int(truth[:, k].sum()), auc, precision, curve(truth[:, k], probabilities[:, k])))
    apart = np.isfinite(value.auc[0])
    if not apart.any():
        return tuple(found), NOT_MEASURED
    means = ratio(np.nansum(aucs[:, apart], axis=1), np.isfinite(aucs[:, apart]).sum(axis=1))
    return tuple(found), percentiles(float(value.auc[0, apart].mean()), means, trials=fewest)


def areas(truth: np.ndarray, scores: np.ndarray, weight: np.ndarray) -> Areas:
    """scikit-learn's average precision and ROC AUC of each label, with the pictures weighted by each of `weight` (D, N).

    truth: bool (N, L); scores: float (N, L), whose order counts.
    """
    precisions, aucs = (np.full((len(weight), truth.shape[1]), np.nan) for _ in range(2))
    for k in range(truth.shape[1]):
        order, ends = _ranked(scores[:, k])
        ordered = weight[:, order]
        hits = np.cumsum(ordered * truth[order, k], axis=1)[:, ends]
        seen = np.cumsum(ordered, axis=1)[:, ends]
        false = seen - hits
        gained = np.diff(hits, axis=1, prepend=0)
        precisions[:, k] = ratio((ratio(hits, seen, otherwise=0.0) * gained).sum(1), hits[:, -1])
        below = (gained * (false[:, -1:] - false + np.diff(false, axis=1, prepend=0) / 2)).sum(1)
        aucs[:, k] = ratio(below, hits[:, -1] * false[:, -1])
    return Areas(precisions, aucs)


def choose_threshold(
    truth: np.ndarray, probabilities: np.ndarray, *, sensitivity: float | None, specificity: float | None
) -> float:
    """The highest threshold with at least this sensitivity, or the lowest with at least this specificity: bool (N,), float (N,).

    A picture counts as positive from the threshold on. Raises ConfigError when there are no pictures to choose it on.
    """
    side = truth if specificity is None else ~truth
    if not side.any():
        what = "of the positive class" if specificity is None else "of other classes"
        raise ConfigError(
            f"The validation part has no picture {what}, so no threshold can be chosen on it. Train with a validation part "
            "that has some, or leave out --sensitivity and --specificity."
        )
    ordered = np.sort(probabilities[side])
    if specificity is None:
        assert sensitivity is not None
        return float(ordered[len(ordered) - math.ceil(sensitivity * len(ordered) - 1e-9)])
    place = math.ceil(specificity * len(ordered) - 1e-9) - 1  # so many others must stay below
    return float(np.nextafter(ordered[place], np.inf, dtype=ordered.dtype))


def operating_point(
    truth: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    *,
    positive: str,
    aim: str,
    chosen_on: str,
    groups: np.ndarray | None = None,
) -> OperatingPoint:
    """Measures a threshold: truth bool (N,), probabilities of the positive class float (N,), groups int (N,)."""
    says = probabilities >= threshold

    def among(part: np.ndarray, hit: np.ndarray) -> Interval:
        if groups is None or not part.any():
            return share(hit[part])
        return share(hit[part], np.unique(groups[part], return_inverse=True)[1])

    return OperatingPoint(
        positive, aim, threshold, chosen_on, sensitivity=among(truth, says), specificity=among(~truth, ~says),
        precision=among(says, truth), negative_predictive_value=among(~says, ~truth),
    )  # fmt: skip


def _ranked(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order (N,) from the highest score down, and in it the last place of each different score."""
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))


def curve(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The `curve` of a Ranking, at most 200 points, for truth bool (N,) and scores float (N,)."""
    if truth.all() or not truth.any():
        return np.zeros((0, 3))
    order, ends = _ranked(scores)
    hits = np.cumsum(truth[order])[ends]
    false = ends + 1 - hits
    points = np.stack([hits / hits[-1], false / false[-1], hits / (hits + false)], axis=1)
    points = np.concatenate([[[0.0, 0.0, points[0, 2]]], points])
    along = (
        np.abs(np.diff(points[:, :2], axis=0)).sum(1).cumsum() * _POINTS / 2
    )  # as many points on every stretch of the ROC
    kept = np.unique(np.concatenate([[-1], np.searchsorted(along, np.arange(1, _POINTS)), [len(along) - 1]])) + 1
    return points[kept.clip(max=len(points) - 1)]
