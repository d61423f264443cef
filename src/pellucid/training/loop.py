"""The training loop, top to bottom. There is no trainer behind it: who needs something else copies `fit`.

One observer, `on_event`, is told what happens and cannot change it. Everything that decides the result is a function of
the recipe and the step number (order, augmentation, learning rate) or lies in the checkpoint (weights, averages,
optimizer, torch's generator), so a resumed training ends bit-identical to an uninterrupted one on the same machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Loader, Pictures
from pellucid.data.mix import Mixed
from pellucid.data.task import ONE_CLASS, Task
from pellucid.device import autocast
from pellucid.errors import TrainingError
from pellucid.training.checkpoint import Checkpoint, best_checkpoint, save_checkpoint
from pellucid.training.health import Probe
from pellucid.training.objective import Objective
from pellucid.training.optimizer import learning_rate_share, make_average, make_optimizer, set_learning_rate

OnEvent = Callable[[dict[str, Any]], None]

_STEP_EVENT_SECONDS = 1.0
_CHECKPOINT_SECONDS = 15.0
_LOOKED_AT = 2**18  # pixels
_FEWEST_TIMED = 5  # steps; the first ones are slow


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training; nothing in it is left open."""

    steps: int
    max_steps: int  # planning anew for a time limit never goes beyond
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    warmup: float
    label_smoothing: float
    average_steps: int  # the planned steps that the weight average is made for; 0: no average
    clip: float | None
    class_weights: tuple[float, ...] | None
    patience: int | None
    augmentation: Augmentation
    precision: str  # fp32 or bf16
    channels_last: bool
    seed: int
    validate_every: int = 1  # epochs; and always at the end
    compiled: bool = False  # by torch.compile
    layer_rates: tuple[
        tuple[str, float], ...
    ] = ()  # shares of the rate by layer; with any, batch norms keep what they know
    balance: str = "none"  # weights (which are class_weights), sampler or focal

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `Recipe.from_dict` gives it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_dict` wrote."""
        weights = data["class_weights"]
        return cls(**{
            **data,
            "augmentation": Augmentation.from_dict(data["augmentation"]),
            "class_weights": None if weights is None else tuple(weights),
            "layer_rates": tuple((name, rate) for name, rate in data.get("layer_rates", ())),
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class FitResult:
    """The module with its best weights; `stopped` says why the training ended: done, early, interrupted or diverged."""

    module: nn.Module
    stopped: str
    steps: int
    epochs: float
    best: Mapping[str, float]


def fit(
    module: nn.Module,
    train: Pictures,
    valid: Pictures,
    *,
    contract: PixelContract,
    recipe: Recipe,
    device: torch.device,
    folder: Path,
    on_event: OnEvent,
    task: Task = ONE_CLASS,
    resume: Checkpoint | None = None,
    deadline: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Trains `module` on `train`, keeps the weights that do best on `valid`, writes checkpoints into `folder`.

    `deadline` is a reading of time.monotonic(): the number of steps is planned anew as speed is known, to end before it.
    `should_stop` is asked after every step; when it says yes, the state is saved and the result is 'interrupted'.
    A loss that is not a finite number ends the training with the last good weights ('diverged').
    """
    loader = Loader(train, contract, device, batch_size=recipe.batch_size, strata=strata_of(train, task, recipe))
    valid_loader = looking(valid, contract, device)
    memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
    module = module.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = make_optimizer(
        module, recipe.optimizer, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay,
        momentum=recipe.momentum, layer_rates=dict(recipe.layer_rates),
    )  # fmt: skip
    hold(module, recipe.layer_rates)
    average = make_average(module, recipe.average_steps) if recipe.average_steps else None
    objective = make_objective(task, recipe, device)
    forward = torch.compile(module) if recipe.compiled else module
    steps_per_epoch = len(loader)

    step, total, best, waited, loss_sum, loss_count = 0, recipe.steps, None, 0, 0.0, 0
    best_state: dict[str, torch.Tensor] | None = None
    if resume is not None:
        numbers = resume.numbers
        step, total, best, waited = numbers["step"], numbers["total"], numbers["best"], numbers["waited"]
        loss_sum, loss_count = numbers["loss_sum"], numbers["loss_count"]
        _restore(resume.tensors, module, average, optimizer)
        if best and (saved := best_checkpoint(folder)):
            best_state = saved.tensors
    else:
        torch.manual_seed(recipe.seed)

    def save() -> None:
        if best_state is not None:
            save_checkpoint(folder, Checkpoint(best_state, {"step": step, "best": best}), name="best")
        tensors = _tensors(module, average, optimizer)
        if not all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point()):
            return  # weights that are not finite are never written over good ones
        numbers = {"step": step, "total": total, "best": best, "waited": waited,
                   "loss_sum": loss_sum, "loss_count": loss_count}  # fmt: skip
        save_checkpoint(folder, Checkpoint(tensors, numbers))
        on_event({"event": "checkpoint", "step": step})

    started = last_told = last_saved = time.monotonic()
    first_step, stopped, score_seconds = step, "done", None
    batches: Iterator[tuple[torch.Tensor, torch.Tensor, Mixed | None]] = iter(())
    probe = Probe(module, steps_per_epoch)
    value = 0.0
    while step < total:
        epoch, batch = divmod(step, steps_per_epoch)
        if batch == 0 or step == first_step:
            batches = loader.shuffled(recipe.augmentation, seed=recipe.seed, epoch=epoch, start=batch)
            _set_training(module, recipe)

        x, y, mixed = next(batches)
        rate = set_learning_rate(optimizer, learning_rate_share(step / total, recipe.warmup))
        with autocast(device, recipe.precision), probe.watching(step) as watched:
            logits = (module if watched else forward)(x if recipe.channels_last else x.contiguous())
        target = y if mixed is None else mixed.targets(y, logits.shape[1])
        loss = objective.loss(logits.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        probe.read_gradients()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
        value = loss.item()
        if not math.isfinite(value):
            stopped = "diverged"
            on_event({"event": "diverged", "step": step, "loss": str(value)})
            break
        optimizer.step()
        if average is not None:
            average.update_parameters(module)
        step, loss_sum, loss_count = step + 1, loss_sum + value, loss_count + 1
        for event in probe.events():
            on_event(event | {"step": step, "epoch": step / steps_per_epoch})

        now = time.monotonic()
        if now - last_told >= _STEP_EVENT_SECONDS:
            last_told = now
            seconds = now - started
            on_event({"event": "step", "step": step, "total": total, "epoch": step / steps_per_epoch, "loss": value,
                      "learning_rate": rate, "pictures_per_second": (step - first_step) * recipe.batch_size / seconds})  # fmt: skip
        if deadline is not None and step < total:
            seconds, done = now - started, step - first_step
            looking_takes = score_seconds or 0.0
            if score_seconds is None and done >= _FEWEST_TIMED:  # half as long as learning from a picture, at most
                looking_takes = seconds / done * len(valid) / recipe.batch_size / 2
            left = deadline - now - looking_takes
            affordable = _affordable(step, total, seconds=seconds, done=done, left=left)
            total = min(affordable, max(recipe.max_steps, step + 1))
        if step % (steps_per_epoch * recipe.validate_every) == 0 or step >= total:
            scores = score(average.module if average else module, valid_loader, recipe, objective)
            score_seconds = time.monotonic() - now
            if not math.isfinite(scores["loss"]):
                stopped = "diverged"
                on_event({"event": "diverged", "step": step, "loss": str(scores["loss"])})
                break
            on_event({"event": "epoch", "step": step, "total": total, "epoch": step / steps_per_epoch,
                      "train_loss": loss_sum / loss_count, **{f"valid_{name}": value for name, value in scores.items()},
                      "learning_rate": rate})  # fmt: skip
            loss_sum, loss_count = 0.0, 0
            if best is None or objective.rank(scores) > objective.rank(best):
                best, waited = {**scores, "step": step}, 0
                best_state = _copied(average.module if average else module)
            else:
                waited += 1
            if recipe.patience is not None and waited >= recipe.patience and step < total:
                stopped = "early"
                on_event({"event": "early_stop", "step": step, "waited": waited, "best": best,
                          "best_epoch": best["step"] / steps_per_epoch})  # fmt: skip
                break
            if time.monotonic() - last_saved >= _CHECKPOINT_SECONDS:
                save()
                last_saved = time.monotonic()
        if should_stop() and step < total:
            stopped = "interrupted"
            break
        if time.monotonic() - last_saved >= 4 * _CHECKPOINT_SECONDS:  # in the middle of a long epoch
            save()
            last_saved = time.monotonic()

    if stopped != "diverged":
        save()
    if stopped == "diverged" and best_state is None:
        raise TrainingError(
            f"The loss became {value} at step {step}, before the first validation, so there are no good weights to keep. "
            "Use a lower --learning-rate, clip the gradients (--clip 1), or --precision fp32."
        )
    if best_state is not None:
        module.load_state_dict(best_state)
    return FitResult(module, stopped, step, step / steps_per_epoch, best or {})


def make_objective(task: Task, recipe: Recipe, device: torch.device) -> Objective:
    """What the recipe lowers, and what chooses its best weights."""
    weights = None if recipe.class_weights is None else torch.tensor(recipe.class_weights, device=device)
    return Objective(task, recipe.label_smoothing, weights, recipe.balance == "focal", recipe.balance != "none")


def strata_of(train: Pictures, task: Task, recipe: Recipe) -> np.ndarray | None:
    """What the sampler draws equally often, int (N,): the classes, or a picture's rarest label; None when it does not."""
    return task.strata(train.labels[train.indices]) if recipe.balance == "sampler" else None


def looking(pictures: Pictures, contract: PixelContract, device: torch.device) -> Loader:
    """Feeds pictures that are only looked at; on a processor few large ones at once, since their maps should stay in its cache."""
    most = int(np.clip(_LOOKED_AT // (contract.height * contract.width), 16, 256)) if device.type == "cpu" else 256
    return Loader(pictures, contract, device, batch_size=most)


def hold(module: nn.Module, layer_rates: Iterable[tuple[str, float]]) -> None:
    """Takes no gradients of the layers whose share of the learning rate is 0."""
    for name, share in layer_rates:
        if not share:
            for parameter in module.get_submodule(name).parameters(recurse=False):
                parameter.requires_grad_(False)


def _set_training(module: nn.Module, recipe: Recipe) -> None:
    module.train()
    if recipe.layer_rates:
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()


@torch.no_grad()
def score(module: nn.Module, loader: Loader, recipe: Recipe, objective: Objective) -> dict[str, float]:
    """Mean loss and the task's metric of `module` in evaluation mode, in the recipe's precision."""
    was_training = module.training
    module.eval()
    loss, answers, targets = 0.0, [], []
    for x, y in loader.in_order():
        with autocast(loader.device, recipe.precision):
            logits = module(x if recipe.channels_last else x.contiguous()).float()
        loss += objective.total(logits, y)
        answers.append(objective.answer(logits).cpu())
        targets.append(y.cpu())
    module.train(was_training)
    if not math.isfinite(loss):
        return {"loss": loss, objective.task.metric: math.nan}
    return {"loss": loss / len(loader.pictures), **objective.scores(torch.cat(answers), torch.cat(targets))}


def _affordable(step: int, total: int, *, seconds: float, done: int, left: float) -> int:
    """Steps that the time left allows at the speed so far; more than planned only when it is 2 % more or better."""
    if done < max(_FEWEST_TIMED, total // 20):
        return step + 1 if left <= 0 else total
    affordable = step + max(1, int(left / (seconds / done)))
    return affordable if affordable < total or affordable > 1.02 * total else total


def _copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _tensors(module: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    return tensors | {"generator": torch.get_rng_state()}


def _restore(
    tensors: Mapping[str, torch.Tensor],
    module: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    module.load_state_dict(part("model."))
    if average is not None:
        average.load_state_dict(part("average."))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in part("optimizer.").items():
        index, _, field = name.partition(".")
        state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["generator"])
