"""Answers after a balanced training: for classes that are equally frequent, or as frequent as in the data.

A network that saw every class equally often answers as if they were. The log of the shares turns that into probabilities for the
data, which are right more often and more honest, and give rare classes away; which of both does better is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.task import LABELS, NUMBER, Task
from pellucid.data.wording import counted
from pellucid.evaluation.intervals import macro_f1_score, ratio
from pellucid.training.objective import balanced_weights

BALANCED = ("weights", "sampler")  # focal learns from the shares as they are
_MOST_NAMED = 10
_NEVER = -30.0  # for a class without any training picture


@dataclass(frozen=True, eq=False)
class Prior:
    """Both ways to answer, and the one that was taken: `recall` and `macro_f1` on `n` validation pictures by "equal" and "data"."""

    taken: str
    asked: str
    n: int
    offsets: tuple[float, ...]
    macro_f1: dict[str, float]
    recall: dict[str, list[float]]

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Plain JSON data."""
        recall = {
            name: {label: None if math.isnan(value) else value for label, value in zip(classes, values, strict=True)}
            for name, values in self.recall.items()
        }
        return {"taken": self.taken, "asked": self.asked, "n": self.n, "macro_f1": self.macro_f1, "recall": recall}

    def reasons(self, classes: tuple[str, ...], share: np.ndarray) -> list[str]:
        """Sentences: what was taken and why, and the recall of each class, rarest first; share float (K,) in training."""
        words = {"equal": "for classes equally frequent", "data": "for classes as frequent as in the data"}
        other = "data" if self.taken == "equal" else "equal"
        why = "as asked" if self.asked != "auto" else "which has the better macro-F1"
        rows = np.argsort(share, kind="stable")[:_MOST_NAMED]
        each = ", ".join(
            f"{classes[k]} ({share[k]:.1%} of training) {self.recall[self.taken][k]:.2f} (else {self.recall[other][k]:.2f})"
            for k in rows if np.isfinite(self.recall[self.taken][k])
        )  # fmt: skip
        return [
            f"answers are {words[self.taken]}, {why}: {self.macro_f1[self.taken]:.4f} in validation, against "
            f"{self.macro_f1[other]:.4f} {words[other]} (--prior {other})",
            f"validation recall by class, {counted(self.n, 'picture')}: {each}",
        ]


def prior_offsets(task: Task, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """float (K,): what added to logits of a balanced training gives those for the shares of the training targets.

    Source: Saerens et al. 2002, Adjusting the Outputs of a Classifier to New a Priori Probabilities; Menon et al. 2020,
    arXiv 2007.07314.
    """
    weights = np.array(balanced_weights(targets, num_classes))
    return np.where(weights > 0, -np.log(np.where(weights > 0, weights, 1.0)), _NEVER)


def choose_prior(
    task: Task, logits: np.ndarray, targets: np.ndarray, offsets: np.ndarray, *, asked: str
) -> Prior | None:
    """Measures both ways to answer on validation logits (N, K) with targets as `Task.encode` gives them; None for a number."""
    if task.kind == NUMBER or not len(logits):
        return None
    macro, recall = {}, {}
    for name, shift in (("equal", 0.0), ("data", offsets)):
        shifted = logits + shift
        size = logits.shape[1]
        truth = targets > 0.5 if task.kind == LABELS else np.eye(size, dtype=bool)[targets]
        given = shifted >= 0 if task.kind == LABELS else np.eye(size, dtype=bool)[shifted.argmax(1)]
        hits, support = (truth & given).sum(0), truth.sum(0)
        macro[name] = float(macro_f1_score(hits, support, given.sum(0)))
        recall[name] = ratio(hits, support).tolist()
    better = "data" if macro["data"] >= macro["equal"] else "equal"
    taken = better if asked == "auto" else asked
    return Prior(taken, asked, len(logits), tuple(float(o) for o in offsets), macro, recall)


def shares(task: Task, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """float (K,): the share of the training pictures of each class, or with each label."""
    return targets.mean(0) if task.kind == LABELS else np.bincount(targets, minlength=num_classes) / len(targets)
