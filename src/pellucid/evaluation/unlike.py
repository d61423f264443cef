"""Pictures unlike any that the classifier was trained on: how they are told from what it knows, and how well that works.

The score of a picture is its energy, -log of the summed exponentials of its logits: a network that knows a picture gives some class
a large logit. Source: Liu et al. 2020, arXiv 2010.03759. It needs no more than the logits, so that every engine gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.evaluation.intervals import Interval, group_numbers
from pellucid.evaluation.ranking import rankings
from pellucid.evaluation.text import counted, percent

FLAGGED = 0.01  # of the validation pictures
_FEWEST = 100  # of these: the hundredth part of fewer is less than a picture


@dataclass(frozen=True)
class UnlikeRule:
    """Pictures whose score lies above `limit` are flagged; a hundredth of `n` validation pictures was."""

    limit: float
    n: int

    def flags(self, logits: np.ndarray) -> np.ndarray:
        """bool (N,) from logits (N, C)."""
        return unlikeness(logits) > self.limit


def unlikeness(logits: np.ndarray) -> np.ndarray:
    """float (N,) from logits (N, C), not calibrated: the larger, the less a picture is like what was learned."""
    from scipy.special import logsumexp

    energy: np.ndarray = -logsumexp(logits.astype(np.float64), axis=1)
    return energy


def find_unlike(logits: np.ndarray) -> UnlikeRule | None:
    """The rule that flags a hundredth of the validation pictures of these logits (N, C); None for fewer than 100 pictures."""
    n = len(logits)
    if n < _FEWEST:
        return None
    return UnlikeRule(float(np.quantile(unlikeness(logits), 1 - FLAGGED, method="higher")), n)


@dataclass(frozen=True)
class Unlike:
    """How well `n` pictures of another kind, `name`, are told from the measured ones. `auroc`: how often a picture of theirs has the
    higher score when one of each is drawn; `flagged`: the share of them that is flagged."""

    name: str
    n: int
    auroc: Interval
    flagged: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"name": self.name, "n": self.n, "auroc": self.auroc.to_dict(), "flagged": self.flagged}

    def __str__(self) -> str:
        """What was measured, in a sentence."""
        return (
            f"Against {counted(self.n, 'picture')} of '{self.name}' the score by which pictures are flagged has an AUROC of {self.auroc}: "
            f"0.5 is chance, 1 tells them all; {percent(self.flagged)} of them are flagged."
        )


def measure_unlike(
    rule: UnlikeRule, name: str, known: np.ndarray, other: np.ndarray, groups: Sequence[Any] | None = None
) -> Unlike:
    """How well `other` (M, C) logits are told from `known` (N, C); `groups` are those of the known pictures."""
    scores = np.concatenate([unlikeness(known), unlikeness(other)])
    truth = np.arange(len(scores)) >= len(known)
    group_of = None
    if groups is not None:  # each of the others is one by itself
        own = group_numbers(groups)
        group_of = np.concatenate([own, own.max() + 1 + np.arange(len(other))])
    (ranking,), _ = rankings(truth[:, None], scores[:, None], [name], groups=group_of)
    return Unlike(name, len(other), ranking.auc, float(rule.flags(other).mean()))
