"""One training that is prepared: the network fitted on it, within the time, and saved with its validated figure."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.config import TrainConfig
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.loader import Pictures
from pellucid.data.pack import let_go
from pellucid.data.task import CLASS, NUMBER, Task, conformal_margin
from pellucid.data.wording import counted
from pellucid.device import give_memory_back, seed_everything
from pellucid.errors import RunError, StorageError, TrainingError
from pellucid.evaluation.headline import headline
from pellucid.evaluation.intervals import group_numbers
from pellucid.model.calibration import FEWEST, Calibration, fit_calibration
from pellucid.model.classifier import Classifier
from pellucid.model.fastnet import FastNet
from pellucid.model.pretrained import Pretrained
from pellucid.model.validation import Validation
from pellucid.model.zoo import Architecture, build
from pellucid.run import Run
from pellucid.training import finetune
from pellucid.training.checkpoint import Checkpoint, named_checkpoint, save_checkpoint
from pellucid.training.loop import OnEvent, Recipe, fit, hold, looking, score
from pellucid.training.objective import Objective
from pellucid.training.plan import plan_recipe
from pellucid.training.prior import BALANCED, choose_prior, prior_offsets, shares
from pellucid.training.speed import fastest, forget_if_disturbed, measure_speed
from pellucid.training.transfer import HeadFit, fit_head

_NO_TIME = "no time is left to train the last third of the network on"
# Of the time limit, at most, for the figure on the validation part; but on so many pictures.
_LAST_LOOK, _FEWEST_LOOKED_AT = 0.05, 1000
_BEFORE = "before"  # name of the checkpoint that fine-tuning starts from


@dataclass(frozen=True, eq=False)
class Work:
    """What fitting needs, prepared by `train` or `resume`."""

    dataset: Dataset
    task: Task  # with what was fitted on the training part
    contents: list[str]  # SHA-256 of each picture's file, one a row of the pack; where there are pretrained weights
    parts: dict[str, Pictures]
    contract: PixelContract
    architecture: Architecture
    pretrained: Pretrained | None
    config: TrainConfig
    device: torch.device
    run: Run
    tell: OnEvent
    started: float
    limit: float | None
    freeze: bool | None = None  # of pretrained networks; None: fine-tuned when the last layer is fitted

    def bare_module(self) -> nn.Module:
        """The network with weights that mean nothing: enough to count and to measure."""
        shape = (self.contract.channels, self.contract.height, self.contract.width)
        return build(self.architecture, input_shape=shape, num_classes=len(self.dataset.classes))

    def new_module(self) -> nn.Module:
        """The network before training: seeded, whitened or with the pretrained weights."""
        seed_everything(self.config.seed)
        module = self.bare_module()
        if self.pretrained:
            self.pretrained.load_into(module)
        elif isinstance(module, FastNet):
            some = self.parts["train"].subset(2000, seed=0)
            module.start_from(self.contract.tensor(torch.from_numpy(some.pixels[some.indices])))
        return module


def fit_and_save(
    work: Work,
    recipe: Recipe | None,
    *,
    checkpoint: Any = None,
    seconds_before: float = 0.0,
    looked_at: int | None = None,
) -> None:
    """Fits the network by `recipe`, or without one only its last layer, and saves the classifier in the run.

    `checkpoint`, `seconds_before` and `looked_at` (how many validation pictures the last figure is about; None: to be
    chosen) are of an earlier part of the same training. Raises TrainingError when the loss is no
    longer a number, and StorageError; what was reached is saved either way.
    """
    run, tell = work.run, work.tell
    run.update(state="running")
    let_go(work.parts["train"].pixels)  # which the preparations have read, and what they have freed
    give_memory_back()
    module = work.new_module()
    deadline = None
    if work.limit is not None:
        deadline = work.started + work.limit - closing_seconds(work.limit)
    fitted, before, valid = None, None, work.parts["validation"]
    if looked_at:
        valid = valid.subset(looked_at, seed=work.config.seed)
    with _interruptible() as should_stop, _told_how_to_go_on(run):
        if recipe is None:
            fitted = _fit_last_layer(work, module, deadline, should_stop)
            stopped, epochs = "done" if fitted else "interrupted", None
            if fitted and work.freeze is None:
                recipe, before = _plan_fine_tuning(work, module, fitted, deadline)
        elif recipe.layer_rates:
            before = named_checkpoint(run.path / "checkpoints", _BEFORE)
            if before is None:
                raise RunError(
                    f"'{run}' has lost checkpoints/{_BEFORE}.safetensors, from which it goes on. Start it again."
                )
            module.load_state_dict(before.tensors)
        if recipe is not None:
            closing = _seconds_of_validation(work, module, recipe) if deadline else 0.0
            if work.limit and not before and closing > _LAST_LOOK * work.limit:
                valid = valid.subset(
                    max(_FEWEST_LOOKED_AT, int(len(valid) * _LAST_LOOK * work.limit / closing)), seed=work.config.seed
                )
                closing *= len(valid) / len(work.parts["validation"])
                run.update(looked_at=len(valid))
            if before:
                closing *= 1 + finetune.MEANS
            began = time.monotonic()
            result = fit(
                module, work.parts["train"], work.parts["validation"], contract=work.contract, recipe=recipe,
                device=work.device, folder=run.path / "checkpoints", on_event=tell, resume=checkpoint,
                deadline=deadline and deadline - closing, should_stop=should_stop, task=work.task,
            )  # fmt: skip
            give_memory_back()
            stopped, epochs = result.stopped, result.epochs
            steps = result.steps - (checkpoint.numbers["step"] if checkpoint else 0)
            forget_if_disturbed(
                work.architecture, module, work.contract, recipe.batch_size, work.device,
                (recipe.precision, recipe.channels_last), (time.monotonic() - began) / max(1, steps),
            )  # fmt: skip
            if stopped == "interrupted" and not result.best:
                stopped = "interrupted before the first validation"
            if before and stopped in ("done", "early"):
                _keep_best(work, module, recipe, before, result.best)
                fitted = None  # what is kept is looked at again, in full precision
    seconds = seconds_before + time.monotonic() - work.started
    summary: dict[str, Any] = {"seconds": round(seconds, 2), "epochs": epochs and round(epochs, 3)}
    if stopped in ("done", "early", "interrupted", "diverged") and (recipe or stopped == "done"):
        origin = work.pretrained.origin if work.pretrained else "trained from scratch"
        classifier = Classifier(
            module, work.dataset.classes, work.contract, work.architecture, {"origin": origin}, work.task,
            mirror=_mirror(work, recipe),
        )  # fmt: skip
        logits = fitted.logits if fitted else _logits(classifier, valid)
        classifier, logits = _with_prior(work, classifier, valid, logits)
        classifier, summary["valid"] = _validated(work, classifier, valid, logits)
        classifier.save(run.path / "model")
        summary["seconds"] = round(seconds_before + time.monotonic() - work.started, 2)
    state = "finished" if stopped in ("done", "early") else stopped.split()[0]
    run.update(state=state, **summary)
    tell({"event": state, **summary})
    if state == "diverged":
        raise TrainingError(
            f"The loss is no longer a number, so the training was stopped. The best weights so far are kept in '{run}'. "
            "Use a lower --learning-rate, clip the gradients (--clip 1), or --precision fp32."
        )


def _fit_last_layer(
    work: Work, module: nn.Module, deadline: float | None, should_stop: Callable[[], bool]
) -> HeadFit | None:
    assert work.pretrained is not None
    weights = hashlib.sha256(work.pretrained.file.read_bytes()).hexdigest()
    speed = measure_speed(work.architecture, module, work.contract, 8, work.device, work.config, training=False)
    precision, _ = fastest(speed)
    return fit_head(
        module, work.parts["train"], work.parts["validation"], contract=work.contract,
        contents=work.contents, weights=weights,
        mirrored="flip" in work.config.augment.split(), num_classes=len(work.dataset.classes), device=work.device,
        precision=precision, balance=work.config.balance, seed=work.config.seed,
        on_event=work.tell, task=work.task, deadline=deadline, should_stop=should_stop,
    )  # fmt: skip


def _plan_fine_tuning(
    work: Work, module: nn.Module, fitted: HeadFit, deadline: float | None
) -> tuple[Recipe | None, Checkpoint | None]:
    """How the last third of `module` is trained on, and the network as it is now, kept in the run; None for both when there
    is no time for half an epoch."""
    contract, train = work.contract, work.parts["train"]
    rates = finetune.layer_rates(module, (contract.channels, contract.height, contract.width))
    hold(module, rates)
    left = None
    if deadline is not None:
        valid = len(work.parts["validation"])
        left = (deadline - time.monotonic()) / (1 + finetune.looks_of_validation(len(train), valid))
        if left < finetune.FEWEST_SECONDS:
            work.tell({"event": "plan", "reasons": [_NO_TIME]})
            return None, None
    recipe, reasons = plan_recipe(
        work.architecture, module, train, contract=contract, classes=work.dataset.classes,
        config=finetune.settings(work.config), pretrained=True, seconds_left=left, device=work.device, task=work.task,
    )  # fmt: skip
    if recipe.steps * recipe.batch_size < len(train) / 2:
        work.tell({"event": "plan", "reasons": [_NO_TIME]})
        return None, None
    recipe = replace(recipe, layer_rates=rates)
    reasons.insert(0, "the last third of the network is trained on from there; what does best in validation is kept")
    before = Checkpoint(module.state_dict(), {"step": 0, "scores": dict(fitted.scores)})
    save_checkpoint(work.run.path / "checkpoints", before, name=_BEFORE)
    work.run.update(recipe=recipe.to_dict(), plan=[*work.run.read()["plan"], *reasons])
    work.tell({"event": "plan", "reasons": reasons})
    return recipe, Checkpoint({name: tensor.clone() for name, tensor in before.tensors.items()}, before.numbers)


def _keep_best(work: Work, module: nn.Module, recipe: Recipe, before: Checkpoint, after: Mapping[str, float]) -> None:
    """Leaves in `module` the best of the network before fine-tuning, after it, and means of both."""
    valid = looking(work.parts["validation"], work.contract, work.device)
    objective = Objective(work.task, macro=work.config.balance != "none")
    finetune.keep_best(
        module, before.tensors, {"before": before.numbers["scores"], "after": after},
        score=lambda network: score(network, valid, recipe, objective), rank=objective.rank, on_event=work.tell,
    )  # fmt: skip


def _with_prior(
    work: Work, classifier: Classifier, valid: Pictures, logits: np.ndarray
) -> tuple[Classifier, np.ndarray]:
    """After a balanced training, the classifier that answers for the shares that do better in validation, and its logits there."""
    task, classes = work.task, work.dataset.classes
    if work.config.balance not in BALANCED:
        return classifier, logits
    targets = work.dataset.targets()
    learned = targets[work.parts["train"].indices]
    offsets = prior_offsets(task, learned, len(classes))
    prior = choose_prior(task, logits, targets[valid.indices], offsets, asked=work.config.prior)
    if prior is None:
        return classifier, logits
    reasons = prior.reasons(classes, shares(task, learned, len(classes)))
    work.run.update(plan=[*work.run.read()["plan"], *reasons], prior=prior.to_dict(classes))
    work.tell({"event": "plan", "reasons": reasons})
    if prior.taken == "equal":
        return classifier, logits
    return replace(classifier, offsets=prior.offsets), (logits + np.array(prior.offsets)).astype(np.float32)


def _validated(
    work: Work, classifier: Classifier, valid: Pictures, logits: np.ndarray
) -> tuple[Classifier, dict[str, Any]]:
    """The classifier with what the validation part teaches about its answers (calibration, or the margin of its numbers), and
    the task's metric with its interval there; `logits` (N, outputs) is what it says of these pictures."""
    task = classifier.task
    truth = work.dataset.targets()[valid.indices]
    if task.kind == NUMBER:
        off = classifier.answers(torch.from_numpy(logits)) - truth
        classifier = replace(classifier, task=replace(task, margin=conformal_margin(off[:, 0])))
    else:
        # weighed classes are meant to be given more often than they occur: offsets would undo that
        calibration = fit_calibration(task, logits, truth, only_temperature=work.config.balance != "none")
        work.tell({"event": "calibration", "text": _told_calibration(calibration, len(truth))})
        classifier = replace(classifier, calibration=calibration)
    if task.kind == CLASS:
        names = [work.dataset.items[i].group or "" for i in valid.indices]
        groups = group_numbers(names) if any(names) else None
        classifier = replace(classifier, validation=Validation(logits, truth, groups).kept())
    answers = classifier.answers(torch.from_numpy(logits))
    return classifier, {"n": len(valid), task.metric: headline(classifier.task, truth, answers).to_dict()}


def _told_calibration(calibration: Calibration | None, n: int) -> str:
    if calibration is None:
        return (
            f"probabilities are not calibrated: the validation part has {counted(n, 'picture')}, and fewer than {FEWEST} would "
            "teach chance"
        )
    return f"probabilities are calibrated on {counted(n, 'validation picture')}: {calibration}"


def _logits(classifier: Classifier, pictures: Pictures) -> np.ndarray:
    """In full precision, as `predict` sees them."""
    found = []
    for rows in np.array_split(pictures.indices, -(-len(pictures) // (4 * classifier.batch_size))):
        found.append(classifier.predict_logits(pictures.pixels[rows]))
        let_go(pictures.pixels)
    return torch.cat(found).numpy()


def answers_of(classifier: Classifier, pictures: Pictures) -> np.ndarray:
    """What `Classifier.predict_proba` gives for `pictures`, (N, outputs)."""
    return classifier.answers(torch.from_numpy(_logits(classifier, pictures)))


def closing_seconds(limit: float) -> float:
    """Time kept back for saving and for the end of the process."""
    return 0.5 + 0.02 * limit


def _mirror(work: Work, recipe: Recipe | None) -> bool:
    """Whether answers rest on both sides of a picture: where fastnet, which is quick, has learned from both."""
    return bool(recipe and work.architecture.family == "fastnet" and "flip" in recipe.augmentation.policy.split())


def _seconds_of_validation(work: Work, module: nn.Module, recipe: Recipe) -> float:
    """How long the last validation will take, from a part of it."""
    valid = work.parts["validation"]
    part = valid.subset(max(64, len(valid) // 16), seed=0)
    classifier = Classifier(
        module, work.dataset.classes, work.contract, work.architecture, mirror=_mirror(work, recipe)
    )
    started = time.monotonic()
    _logits(classifier, part)
    return (time.monotonic() - started) * len(valid) / len(part)


@contextmanager
def _told_how_to_go_on(run: Run) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error} Then go on with: pellucid train --resume {run}") from error


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the training to stop at the next step; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield asked.is_set
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
