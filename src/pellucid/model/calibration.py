"""Calibration: what makes a probability mean what it says, fitted on pictures that were not learned from.

A network that is sure of 99 % and right in 90 % is told to be less sure: its logits are divided by a temperature. One number
changes no answer. Scaling each class by itself (vector scaling) can, so it is taken only where it is clearly better.
Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.task import CLASS, LABELS, NUMBER, Task

FEWEST = 50  # validation pictures; with fewer a temperature follows chance
_MOST = 2**18  # logits that a fit looks at, 26,000 pictures of ten classes: bounds its time
_PICTURES_EACH = 10  # for each output, before it may have numbers of its own
_FOLDS = 5
_SHARPEST, _SOFTEST = 0.02, 50.0  # temperatures


@dataclass(frozen=True)
class Calibration:
    """Calibrated logits are logits x `scale` + `offset`: one number for all outputs, or one for each. Fitted on `n` pictures."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    n: int

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (N, outputs) -> (N, outputs)."""
        return logits * logits.new_tensor(self.scale) + logits.new_tensor(self.offset)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `Calibration.from_dict` gives it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """Raises KeyError, TypeError or ValueError for what is no calibration."""
        scale, offset = (tuple(float(value) for value in content[name]) for name in ("scale", "offset"))
        if not all(map(math.isfinite, (*scale, *offset))) or min(scale) <= 0:
            raise ValueError("its calibration is not finite or not above zero")
        return cls(scale, offset, int(content["n"]))

    def __str__(self) -> str:
        temperatures = [1 / value for value in self.scale]
        if len(temperatures) == 1:
            return f"temperature {temperatures[0]:.2f}" + " and an offset for each class" * (len(self.offset) > 1)
        kind = "vector scaling" if len(self.offset) > 1 else "a temperature for each label"
        return f"{kind}, temperatures {min(temperatures):.2f} to {max(temperatures):.2f}"


def fit_calibration(
    task: Task, logits: np.ndarray, targets: np.ndarray, *, only_temperature: bool = False
) -> Calibration | None:
    """The calibration with the smallest log loss on held-out pictures; None for numbers and for fewer than 50 pictures.

    logits (N, outputs), targets as `Task.encode` gives them. Outputs get a scale each (of classes with an offset, of labels
    without, so that the given labels stay) only if that lowers the log loss in 5-fold cross-validation by more than
    two standard errors. The targets are smoothed towards the strongest wrong class by one picture in N + 2, as by Platt
    1999: without that, a validation part without mistakes would ask for boundless certainty.
    """
    n, width = logits.shape
    if task.kind == NUMBER or n < FEWEST:
        return None
    some = np.random.default_rng(0).permutation(n)[: max(1000, _MOST // width)]
    z = torch.from_numpy(logits[some]).double()
    truth = torch.from_numpy(targets[some])
    may_differ = not only_temperature and 1 < width <= len(z) / _PICTURES_EACH
    each = may_differ and _each_is_better(task, z, truth)
    scale, offset = _fit(task, z, truth, each=each)
    return Calibration(tuple(scale.tolist()), tuple(offset.tolist()), n)


def _each_is_better(task: Task, z: torch.Tensor, truth: torch.Tensor) -> bool:
    fold = torch.arange(len(z)) % _FOLDS  # of pictures in random order
    gain = torch.zeros(len(z), dtype=torch.float64)
    for k in range(_FOLDS):
        out = fold == k
        for each, sign in ((False, 1), (True, -1)):
            scale, offset = _fit(task, z[~out], truth[~out], each=each)
            gain[out] += sign * _log_loss(task, z[out] * scale + offset, _one_hot(task, z[out], truth[out]))
    return bool(gain.mean() > 2 * gain.std() / math.sqrt(len(gain)))


def _fit(task: Task, z: torch.Tensor, truth: torch.Tensor, *, each: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and offset (1,) or (outputs,). Of two classes only the difference counts: they share one scale."""
    target = _smoothed(task, z, truth)
    width = z.shape[1] if each else 1
    shared = task.kind == CLASS and width == 2
    log_scale = torch.zeros(1 if shared else width, dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(width if task.kind == CLASS else 1, dtype=torch.float64)
    offset.requires_grad_(each and task.kind == CLASS)
    learned = [log_scale, offset] if offset.requires_grad else [log_scale]
    optimizer = torch.optim.LBFGS(learned, max_iter=40, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _log_loss(task, z * log_scale.exp() + offset, target).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_scale.detach().exp().clamp(1 / _SOFTEST, 1 / _SHARPEST), offset.detach()


def _log_loss(task: Task, z: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(N,), nats: of a class, or the mean over the labels."""
    if task.kind == LABELS:
        return F.binary_cross_entropy_with_logits(z, target, reduction="none").mean(1)
    return F.cross_entropy(z, target, reduction="none")


def _one_hot(task: Task, z: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return truth.double() if task.kind == LABELS else F.one_hot(truth, z.shape[1]).double()


def _smoothed(task: Task, z: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    share = 1 / (len(z) + 2)
    target = _one_hot(task, z, truth)
    if task.kind == LABELS:
        return target * (1 - 2 * share) + share
    wrong = z.masked_fill(target > 0, -math.inf).argmax(1)
    return target * (1 - share) + F.one_hot(wrong, z.shape[1]) * share
