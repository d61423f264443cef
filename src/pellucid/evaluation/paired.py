"""Paired tests: whether one thing is better than another on the very same pictures, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr, stdtr

from pellucid.evaluation.intervals import Interval, resamples, spread, wilson


def paired(gains: np.ndarray, *, groups: np.ndarray | None = None, exact: bool) -> tuple[Interval, float, float]:
    """The mean of gains float (N,) with its 95 % interval, the p value of no gain, and its standard error.

    The interval is the paired bootstrap's. With `exact` gains are -1, 0 or 1 and p is the exact McNemar test's, unless there are
    groups int (N,): then, and without `exact`, it is Student's t with the bootstrap's standard error.
    Source: McNemar 1947; Efron & Tibshirani 1993, chapter 12; Dietterich 1998 on tests for classifiers.
    """
    n, value = len(gains), float(gains.mean())
    one_group = groups is None or groups.max() == 0
    units = n if one_group or groups is None else int(groups.max()) + 1
    if not gains.any():
        reach = wilson(0, units).high
        return Interval(0.0, -reach, reach), 1.0, 0.0
    if exact and one_group:  # pictures that gain alike are alike
        kinds, counts = np.unique(gains, return_counts=True)
        draws = np.random.default_rng(0).multinomial(n, counts / n, size=4000) @ kinds / n
        better, worse = int((gains > 0).sum()), int((gains < 0).sum())
        p = min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))
        error = float(draws.std())
    else:
        draws = np.concatenate([w @ gains / w.sum(1) for w in resamples(n, groups=groups, draws=2000)])
        error = float(draws.std()) * math.sqrt(units / max(units - 1, 1))
        p = 2 * float(stdtr(max(units - 1, 1), -abs(value) / error)) if error else 1.0
    return spread(value, draws, units=units), p, error


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for how many there are, in their order. Source: Holm 1979."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, k in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = largest
    return corrected
