"""How well near pictures show the same: the rank-weighted score of ConvNet Playground, with what chance would give.

Of the 15 nearest other pictures each of the query's own class counts (15 - r) / 15, r = 0 for the nearest; 100 when all 15 are of
it. The query itself never counts, nor do copies of it or pictures of its group: they would prove nothing.
Source: Fast Forward Labs, ConvNet Playground, 2019.
"""

from __future__ import annotations

import numpy as np

from pellucid.evaluation.intervals import Interval, percentiles, ratio, resamples
from pellucid.explain.neighbors import Neighbors

RANKS = 15
_WEIGHTS = (RANKS - np.arange(RANKS)) / RANKS


def weighted_score(hits: np.ndarray) -> np.ndarray:
    """0 to 100 for hits bool (..., k), nearest first, k from 1 to 15: 100 * sum hit_r * (15 - r) / 15 over sum (15 - r) / 15."""
    weights = _WEIGHTS[: hits.shape[-1]]
    return 100 * (hits * weights).sum(-1) / weights.sum()


def query_scores(
    vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray, groups: np.ndarray, distance: str
) -> np.ndarray:
    """The score float (Q,) of the pictures `queries` int (Q,) among all, vectors (N, K), labels int (N,), groups int (N,).

    Pictures of the query's group, itself included, are passed over; a picture without a group is one by itself. Where fewer than
    15 are left, the score is that of their ranks; nan where none is.
    """
    near, _ = Neighbors(vectors, distance).of(vectors[queries], RANKS, apart=(groups[queries], groups))
    hits = (labels[near] == labels[queries][:, None]) & (near >= 0)
    weights = np.where(near >= 0, _WEIGHTS[: near.shape[1]], 0)
    return 100 * ratio((hits * weights).sum(1), weights.sum(1))


def mean_score(scores: np.ndarray, groups: np.ndarray) -> Interval:
    """The mean of scores (Q,), 0 to 100, with its interval by resampling whole groups int (Q,)."""
    unit = np.unique(groups, return_inverse=True)[1]
    share = scores / 100
    draws = np.concatenate([w @ share / w.sum(1) for w in resamples(len(share), groups=unit)])
    found = percentiles(float(share.mean()), draws, trials=int(unit.max()) + 1)
    return Interval(100 * found.value, 100 * found.low, 100 * found.high)


def base_rate(labels: np.ndarray, queries: np.ndarray, groups: np.ndarray) -> float:
    """What pictures drawn by chance would score, 0 to 100: the mean share of the query's class among those it may find."""
    group = np.unique(groups, return_inverse=True)[1]
    pair = np.unique(group * (labels.max() + 1) + labels, return_inverse=True)[1]
    same = np.bincount(labels)[labels] - np.bincount(pair)[pair]  # without the query and its group
    others = len(labels) - np.bincount(group)[group]
    return 100 * float(ratio(same, others)[queries].mean())
