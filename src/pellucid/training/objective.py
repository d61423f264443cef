"""What a training lowers (the loss) and what chooses its best weights (the score), by what is asked of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.task import CLASS, LABELS, NUMBER, ONE_CLASS, Task
from pellucid.errors import ConfigError
from pellucid.evaluation.intervals import macro_f1_score


@dataclass(frozen=True, eq=False)
class Objective:
    """Cross-entropy for a class, binary cross-entropy for labels, smooth L1 (in standard deviations) for a number.

    `weights` (outputs,) weigh the loss of each class, or of the pictures that have a label. With `focal`, what is answered well
    already counts little. With `macro`, the best weights are those of the best macro-F1 over the classes.
    Source of smooth L1: Girshick 2015, arXiv 1504.08083: quadratic near the truth, not carried away by outliers.
    """

    task: Task = ONE_CLASS
    label_smoothing: float = 0.0
    weights: torch.Tensor | None = None
    focal: bool = False
    macro: bool = False

    def loss(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, smoothed. float32 (B, outputs) and what `Task.scaled` gives, or mixtures of it."""
        return self._loss(logits, target, self.label_smoothing, "mean")

    def total(self, logits: torch.Tensor, target: torch.Tensor) -> float:
        """The summed loss of the pictures of a batch, not smoothed."""
        return self._loss(logits, target, 0.0, "sum").item()

    def answer(self, logits: torch.Tensor) -> torch.Tensor:
        """What `score` needs of the logits: the class (B,), else the logits as they are."""
        return logits.argmax(1) if self.task.kind == CLASS else logits

    def scores(self, answers: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
        """The task's metric: accuracy, with `macro` also macro-F1; mean average precision over the labels; mean error in the
        number's unit."""
        if self.task.kind == NUMBER:
            value = float((answers - target).abs().double().mean()) * self.task.std
        elif self.task.kind == LABELS:
            value = mean_average_precision(target.numpy(), answers.numpy())
        else:
            value = int((answers == target).sum()) / len(target)
        macro = {"macro_f1": macro_f1(target, answers)} if self.macro and self.task.kind == CLASS else {}
        return macro | {self.task.metric: value}

    def rank(self, scores: Mapping[str, float]) -> tuple[float, float]:
        """The better the scores, the larger; the loss decides between equal ones."""
        value = scores["macro_f1" if self.macro and self.task.kind == CLASS else self.task.metric]
        return (-value if self.task.kind == NUMBER else value), -scores["loss"]

    def _loss(self, logits: torch.Tensor, target: torch.Tensor, smoothing: float, reduction: str) -> torch.Tensor:
        if self.focal and self.task.kind != NUMBER:
            return self._focal(logits, target, smoothing, reduction)
        if self.task.kind == CLASS:
            return F.cross_entropy(logits, target, weight=self.weights, label_smoothing=smoothing, reduction=reduction)
        if self.task.kind == LABELS:
            target = target * (1 - smoothing) + smoothing / 2
            loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.weights, reduction=reduction)
            return loss / logits.shape[1] if reduction == "sum" else loss
        return F.smooth_l1_loss(logits, target, reduction=reduction)

    def _focal(self, logits: torch.Tensor, target: torch.Tensor, smoothing: float, reduction: str) -> torch.Tensor:
        """Cross-entropy where each part counts by (1 - its probability) squared; targets may be mixtures.

        Source: Lin et al. 2017, arXiv 1708.02002; a class against all others in place of yes and no.
        """
        if self.task.kind == LABELS:
            target = target * (1 - smoothing) + smoothing / 2
            sides = torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)])  # yes and no
            parts = (1 - sides.exp()) ** 2 * sides * torch.stack([target, 1 - target])
            loss = -parts.sum(0).mean(1)
        else:
            target = F.one_hot(target, logits.shape[1]) if target.ndim == 1 else target
            target = target * (1 - smoothing) + smoothing / logits.shape[1]
            log = logits.log_softmax(1)
            loss = -((1 - log.exp()) ** 2 * log * target).sum(1)
        return loss.sum() if reduction == "sum" else loss.mean()


def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the labels that some pictures have and others not, 0 if there is none; 0 and 1 (N, L), scores (N, L) that rise
    with certainty."""
    from sklearn.metrics import average_precision_score

    present = np.flatnonzero(targets.any(0) & ~targets.all(0))
    each = [average_precision_score(targets[:, k], scores[:, k]) for k in present]
    return float(np.mean(each)) if each else 0.0


def macro_f1(target: torch.Tensor, answers: torch.Tensor) -> float:
    """Mean F1 over the classes that have pictures; both int (N,)."""
    size = int(torch.maximum(target.max(), answers.max())) + 1
    right, support, given = (
        np.bincount(part.numpy(), minlength=size) for part in (target[target == answers], target, answers)
    )
    return float(macro_f1_score(right, support, given))


def balanced_weights(targets: np.ndarray, num_classes: int) -> tuple[float, ...]:
    """Loss weights. Classes (N,): n / (classes * n_class), as scikit-learn's 'balanced'; one without pictures weighs 0.
    Labels (N, L): pictures without the label / with it, so that both sides weigh the same."""
    if targets.ndim == 2:
        count = targets.sum(0)
        return tuple(float((len(targets) - c) / c) if 0 < c < len(targets) else 1.0 for c in count)
    counts = np.bincount(targets, minlength=num_classes)
    present = max(int((counts > 0).sum()), 1)
    return tuple(float(len(targets) / (present * c)) if c else 0.0 for c in counts)


def refuse_for_numbers(task: Task, *, label_smoothing: float | None, balance: str) -> None:
    """Raises ConfigError for settings that mean nothing for a number."""
    if task.kind == NUMBER and (label_smoothing or balance != "none"):
        flag = "--label-smoothing" if label_smoothing else "--balance"
        raise ConfigError(f"{flag} is about classes or labels, but a number is to be learned. Leave it out.")
