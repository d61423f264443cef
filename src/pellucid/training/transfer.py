"""Transfer: a pretrained network looks at every picture once, and only its last layer is fitted, on what it saw.

The frozen layers run once per picture; their outputs (features) are kept in the cache under a key of weights, contract
and pictures, so that another try takes seconds. The last layer is a logistic regression (for a number a ridge regression)
whose strength is chosen on the validation pictures, so there is no learning rate in the result. When time is short, the
validation pictures are looked at first and then as many training pictures as the time allows, drawn with the seed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.data.task import CLASS, NUMBER, ONE_CLASS, Task
from pellucid.errors import ShapeError
from pellucid.model.zoo import head_of
from pellucid.training.features import AS_IT_IS, MIRRORED, NO_PLAIN_HEAD, look
from pellucid.training.loop import OnEvent
from pellucid.training.objective import Objective

# scikit-learn's C on standardised features: the likeliest, then more, then less; each starts from the one before
_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.001, 0.0003)
_FEWEST = 10  # training pictures a class that are looked at even when the time is up
_FITTING_SHARE = 0.15  # of the time left, kept for the regressions


@dataclass(frozen=True)
class HeadFit:
    """The strength C that was chosen, the validation loss and metric of the task with it, and the logits (N, outputs) there."""

    strength: float
    scores: Mapping[str, float]
    logits: np.ndarray = field(compare=False)


def fit_head(
    module: nn.Module,
    train: Pictures,
    valid: Pictures,
    *,
    contents: Sequence[str],
    weights: str,
    contract: PixelContract,
    num_classes: int,
    device: torch.device,
    precision: str,
    balance: str,
    seed: int,
    on_event: OnEvent,
    task: Task = ONE_CLASS,
    mirrored: bool = False,
    deadline: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> HeadFit | None:
    """Fits the last layer of `module` in place; None when `should_stop` said yes on the way.

    `contents` (one a row of the pack) and `weights` name files by their content, for the cache. `mirrored` lets it learn from
    the training pictures' mirror images, too. `deadline` is a reading of time.monotonic(): a part of the time before it
    is kept for the fitting, and when it comes near, fewer pictures and strengths must do; `seed` decides which.
    Raises ShapeError when the logits are not simply what a fully connected last layer with a bias gives.
    """
    if head_of(module)[1].bias is None:
        raise ShapeError(NO_PLAIN_HEAD)
    some = np.random.default_rng(seed).permutation(train.indices)
    rows = np.concatenate([valid.indices, some, some] if mirrored else [valid.indices, some])
    views = np.repeat([AS_IT_IS, MIRRORED], [len(valid) + len(some), len(rows) - len(valid) - len(some)])
    found = look(
        module, Pictures(train.pixels, train.labels, rows), contents, views, contract, weights=weights, device=device,
        precision=precision, on_event=on_event, should_stop=should_stop,
        fewest=len(valid) + _FEWEST * max(num_classes, 2),
        deadline=None if deadline is None else deadline - _FITTING_SHARE * (deadline - time.monotonic()),
    )  # fmt: skip
    if found is None:
        return None
    features, done = found
    if not done.all():
        on_event({"event": "time_is_up", "done": int(done.sum()), "total": len(done)})
    learned = np.flatnonzero(done[len(valid) :]) + len(valid)
    x_valid, x = features[: len(valid)].astype(np.float32), features[learned].astype(np.float32)
    y_valid, y = valid.labels[valid.indices], train.labels[rows[learned]]
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, x_valid = (x - mean) / std, (x_valid - mean) / std

    objective = Objective(task, macro=balance != "none")

    def better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        return objective.rank(new) > objective.rank(old) if objective.macro else new["loss"] < old["loss"]

    best: tuple[HeadFit, np.ndarray, np.ndarray] | None = None
    models: dict[int, Any] = {}
    tried: list[float] = []
    for step, strength in enumerate(_STRENGTHS, 1):
        if best is not None and any(
            min(strength, best[0].strength) < s < max(strength, best[0].strength) for s in tried
        ):
            continue  # a neighbor on this side was worse
        started = time.monotonic()
        tried.append(strength)
        weight, bias = _linear(task, x, y, strength, num_classes, balance != "none", models)
        logits = x_valid @ weight.T + bias
        fitted = HeadFit(strength, _scores(objective, logits, y_valid), logits)
        on_event({"event": "head", "step": step, "total": len(_STRENGTHS), "strength": strength,
                  **{f"valid_{name}": value for name, value in fitted.scores.items()}})  # fmt: skip
        if best is None or better(fitted.scores, best[0].scores):
            best = (fitted, weight, bias)
        now = time.monotonic()
        if deadline is not None and now + 1.5 * (now - started) > deadline:
            break
    assert best is not None
    fitted, weight, bias = best
    weight = weight / std  # the standardisation moves into the layer
    bias = bias - weight @ mean
    _, head = head_of(module)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return fitted


def _linear(
    task: Task, x: np.ndarray, y: np.ndarray, strength: float, num_classes: int, balanced: bool, models: dict[int, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (outputs, width) and biases (outputs,): a logistic regression over the classes, one for each label, or a
    ridge regression of the number. `models` holds scikit-learn's from one strength to the next."""
    if task.kind == CLASS:
        return _logistic_regression(x, y, strength, num_classes, models.setdefault(0, _model(balanced)))
    if task.kind == NUMBER:
        from sklearn.linear_model import Ridge

        ridge = Ridge(alpha=1 / strength).fit(x, y)
        return ridge.coef_.astype(np.float32).reshape(1, -1), ridge.intercept_.astype(np.float32).reshape(1)
    weight, bias = np.zeros((num_classes, x.shape[1]), np.float32), np.zeros(num_classes, np.float32)
    for k, answer in enumerate(y.T.astype(np.int64)):
        if answer.min() == answer.max():  # nothing to learn: its frequency, one picture from certainty
            bias[k] = (1 if answer[0] else -1) * np.log(2 * len(answer) + 1)
            continue
        rows, offsets = _logistic_regression(x, answer, strength, 2, models.setdefault(k, _model(balanced)))
        weight[k], bias[k] = rows[1] - rows[0], offsets[1] - offsets[0]
    return weight, bias


def _model(balanced: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=300, tol=1e-4, class_weight="balanced" if balanced else None, warm_start=True)


def _logistic_regression(
    x: np.ndarray, y: np.ndarray, strength: float, num_classes: int, model: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (num_classes, width) and biases (num_classes,); a class that has no picture gets a bias far below all."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1, "blas"):  # threads wait for each other 20 times as long
        warnings.simplefilter("ignore", ConvergenceWarning)  # 300 iterations from zero are enough to rank strengths
        model.set_params(C=strength).fit(x, y)
    weight = np.zeros((num_classes, x.shape[1]), np.float32)
    bias = np.full(num_classes, -30.0, np.float32)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes; softmax of -z/2 and z/2 is its sigmoid
        rows = np.concatenate([-model.coef_, model.coef_]) / 2
        offsets = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        rows, offsets = model.coef_, model.intercept_
    weight[model.classes_], bias[model.classes_] = rows, offsets
    return weight, bias


def _scores(objective: Objective, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    scores, target = torch.from_numpy(logits).double(), torch.from_numpy(targets)
    target = target if objective.task.kind == CLASS else target.double()
    loss = objective.total(scores, target) / len(target)
    return {"loss": loss, **objective.scores(objective.answer(scores), target)}
