"""From a data set to a trained classifier in a run folder: look, pack, split, choose, fit, save."""

from __future__ import annotations

import datetime
import hashlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.config import DataConfig, ModelConfig, TrainConfig
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.loader import Pictures
from pellucid.data.manifest import UNREADABLE, Manifest, make_manifest, restore_manifest
from pellucid.data.pack import Pack, open_pack
from pellucid.data.reopen import open_with, reopen
from pellucid.data.scan import remarks
from pellucid.data.task import NUMBER, Task, conformal_margin
from pellucid.data.wording import counted
from pellucid.device import describe_machine, pick_device, reproducible, seed_everything
from pellucid.errors import ConfigError, RunError, StorageError, TrainingError, UnknownNameError, nearest
from pellucid.evaluation.headline import headline
from pellucid.files import atomic_write
from pellucid.model.classifier import Classifier
from pellucid.model.fastnet import FastNet
from pellucid.model.pretrained import Pretrained, find_pretrained
from pellucid.model.zoo import Architecture, build
from pellucid.run import Run, create_run
from pellucid.training.checkpoint import newest_checkpoint
from pellucid.training.loop import OnEvent, Recipe, fit
from pellucid.training.lr_finder import find_learning_rate
from pellucid.training.objective import refuse_for_numbers
from pellucid.training.plan import (
    choose_architecture,
    choose_contract,
    fastest,
    measure_speed,
    plan_recipe,
    require_model,
    require_policy,
    sample_shapes,
    with_statistics,
)
from pellucid.training.transfer import HeadFit, fit_head


def train(
    data: str | Path | Dataset,
    *,
    out: str | Path | None = None,
    on_event: OnEvent | None = None,
    started: float | None = None,
    **settings: Any,
) -> Run:
    """Trains a classifier and returns its run folder.

    `data` is a folder, a zip, a table, 'digits' or a Dataset; `settings` are the fields of DataConfig, ModelConfig and
    TrainConfig (model="resnet18", time_limit="10m", seed=1 ...). `on_event` is told everything that happens. A time limit
    counts from `started`, a reading of time.monotonic(), by default now.
    Raises DataError, SplitError, UnknownNameError, WeightsError, ShapeError, StorageError; TrainingError when the loss
    is no longer a number (the best weights so far are saved then).
    """
    started = time.monotonic() if started is None else started
    data_config, model_config, train_config = _split_settings(settings)
    data_config = replace(data_config, root=_absolute(data_config.root))  # a run is used from other folders, too
    model_config = replace(model_config, weights=_absolute(model_config.weights))
    device = pick_device(train_config.device)
    pretrained = None
    if model_config.weights not in (None, "none"):
        pretrained = find_pretrained(str(model_config.weights), model_config.model)
    getting = _fetching(data, on_event)
    dataset = data if isinstance(data, Dataset) else open_with(str(data), data_config, progress=getting)
    if isinstance(data, Dataset) and data_config.task not in (None, data.task.kind):
        raise ConfigError(
            f"task is '{data_config.task}', but the data set was opened with task '{data.task.kind}'. Say it when opening: "
            f"open_dataset(..., task='{data_config.task}')."
        )
    shapes = sample_shapes(dataset)
    contract, why_contract = choose_contract(shapes, data_config, pretrained)
    task = dataset.task
    refuse_for_numbers(task, label_smoothing=train_config.label_smoothing, class_weights=train_config.class_weights)
    if not pretrained:
        require_model(model_config.model, contract, len(dataset.classes))
    require_policy(train_config.augment, contract)
    limit = train_config.seconds()

    with reproducible(train_config.deterministic), _new_run(dataset, out) as run, run.lock():
        tell = _observer(run, on_event)
        pack = _packed(dataset, contract, tell)
        manifest = make_manifest(
            dataset, pack.records, fractions=data_config.fractions(), seed=train_config.seed, near=data_config.near
        )
        run.write_manifest(manifest.to_rows())
        task = task.fitted(dataset.targets()[manifest.indices("train")])
        parts = _pictures(dataset, task, pack, manifest)
        if not (pretrained and pretrained.mean):
            contract = with_statistics(contract, parts["train"])
        _tell_data(tell, dataset, manifest, remarks(pack.records), contract, why_contract)

        architecture, why = choose_architecture(
            model_config.model, pretrained=pretrained, contract=contract, num_classes=len(dataset.classes),
            num_pictures=len(parts["train"]), config=train_config, seconds_left=_left(started, limit), device=device,
        )  # fmt: skip
        work = _Work(
            dataset, task, pack, parts, contract, architecture, pretrained, train_config, device, run, tell, started, limit
        )  # fmt: skip
        freeze = model_config.freeze
        if freeze is None:  # fastnet has no plain last layer, and is small enough to train on as a whole
            freeze = pretrained is not None and architecture.family != "fastnet"
        recipe, reasons = None, [f"{architecture}: {why}"]
        if not (freeze and pretrained):
            recipe, more = plan_recipe(
                architecture, work.new_module(), parts["train"], contract=contract, classes=dataset.classes,
                config=train_config, pretrained=pretrained is not None, seconds_left=_left(started, limit), device=device,
                task=task,
            )  # fmt: skip
            reasons += more
            if train_config.find_learning_rate:
                recipe, why = _with_found_rate(work, recipe)
                reasons.append(why)
        else:
            reasons.append("the pretrained layers stay as they are; the last layer is fitted on what they see")
            if train_config.augment not in ("auto", "none"):
                reasons.append("they see each picture once, so --augment has no effect (--no-freeze trains with it)")
            if train_config.find_learning_rate:
                reasons.append("fitting the last layer has no learning rate: there is none to find")
        run.update(
            name=dataset.name, source=_lasting_source(dataset), kind=dataset.kind, classes=list(dataset.classes),
            task=task.to_dict(), config={"data": asdict(data_config), "model": asdict(model_config), "train": asdict(train_config)},
            contract=contract.to_dict(), architecture=architecture.to_dict(), recipe=recipe and recipe.to_dict(),
            plan=reasons, notes=[*dataset.notes, *manifest.notes], fingerprint=manifest.fingerprint(),
            parameters=sum(p.numel() for p in work.new_module().parameters()), environment=describe_machine(device),
        )  # fmt: skip
        tell({"event": "plan", "reasons": reasons})
        _fit_and_save(work, recipe)
    return run


def resume(
    run: Run | str | Path,
    *,
    data: Dataset | None = None,
    on_event: OnEvent | None = None,
    started: float | None = None,
) -> Run:
    """Goes on with an interrupted or killed training; on the CPU it ends bit-identical to an uninterrupted one.

    A time limit was turned into a number of steps when the run began; that plan is kept, however long it takes now.
    `data` is only needed when the run was trained on arrays. Raises RunError when the run is finished, or when the
    pictures are not those that it began with.
    """
    started = time.monotonic() if started is None else started
    run = run if isinstance(run, Run) else Run(Path(run))
    content = run.read()
    if content["state"] == "finished":
        raise RunError(
            f"'{run}' is finished, there is nothing to resume. To train longer, start a new run with more --epochs."
        )
    if "architecture" not in content:
        raise RunError(f"'{run}' ended before its training began, there is nothing to resume. Start it again.")
    settings = content["config"]["train"]  # of an older run also settings that are in its recipe alone by now
    train_config = TrainConfig(**{f.name: settings[f.name] for f in fields(TrainConfig) if f.name in settings})
    model_config = ModelConfig(**content["config"]["model"])
    pretrained = None
    if model_config.weights not in (None, "none"):
        pretrained = find_pretrained(str(model_config.weights), model_config.model)
    dataset = data or reopen(content)
    device = pick_device(train_config.device)
    contract = PixelContract.from_dict(content["contract"])
    with reproducible(train_config.deterministic), run.lock():
        run.remove_torn_files()
        checkpoint = newest_checkpoint(run.path / "checkpoints")
        run.rewind_events(checkpoint.numbers["step"] if checkpoint else 0)
        tell = _observer(run, on_event)
        pack = _packed(dataset, contract, tell)
        manifest = restore_manifest(run.read_manifest(), dataset, pack.records)
        task = Task(**content.get("task", {}))
        parts = _pictures(dataset, task, pack, manifest)
        recipe = content["recipe"] and Recipe.from_dict(content["recipe"])
        tell({"event": "resumed", "step": checkpoint.numbers["step"] if checkpoint else 0})
        architecture = Architecture(**content["architecture"])
        work = _Work(  # no limit: the number of steps stays the one that was planned
            dataset,
            task,
            pack,
            parts,
            contract,
            architecture,
            pretrained,
            train_config,
            device,
            run,
            tell,
            started,
            None,
        )
        _fit_and_save(work, recipe, checkpoint=checkpoint, seconds_before=content.get("seconds", 0.0))
    return run


@dataclass(frozen=True, eq=False)
class _Work:
    """What fitting needs, prepared by `train` or `resume`."""

    dataset: Dataset
    task: Task  # with what was fitted on the training part
    pack: Pack
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

    def new_module(self) -> nn.Module:
        """The network before training: seeded, whitened or with the pretrained weights."""
        seed_everything(self.config.seed)
        shape = (self.contract.channels, self.contract.height, self.contract.width)
        module = build(self.architecture, input_shape=shape, num_classes=len(self.dataset.classes))
        if self.pretrained:
            self.pretrained.load_into(module)
        elif isinstance(module, FastNet):
            some = self.parts["train"].subset(2000, seed=0)
            module.start_from(self.contract.tensor(torch.from_numpy(some.pixels[some.indices])))
        return module


def _with_found_rate(work: _Work, recipe: Recipe) -> tuple[Recipe, str]:
    """The recipe with the learning rate that a trial suggests, and why; leaves the curve in the run."""

    def progress(done: int, total: int) -> None:
        work.tell({"event": "progress", "what": "looking for a learning rate", "done": done, "total": total})

    curve = find_learning_rate(
        work.new_module(),
        work.parts["train"],
        contract=work.contract,
        recipe=recipe,
        device=work.device,
        task=work.task,
        on_step=progress,
    )
    work.tell({"event": "learning_rate", **curve.to_dict()})
    picture = work.run.path / "reports" / "learning-rate.png"
    atomic_write(picture, curve.png())
    why, rate = curve.why, curve.rate or recipe.learning_rate
    if curve.rate is None and curve.exploded is not None and rate > curve.exploded / 10:
        rate = curve.exploded / 10
        why += f"; it explodes at {curve.exploded:.2g}, so a tenth of that"
    return replace(recipe, learning_rate=rate), f"learning rate {rate:.2g}: {why} ({picture})"


def _fit_and_save(work: _Work, recipe: Recipe | None, *, checkpoint: Any = None, seconds_before: float = 0.0) -> None:
    run, tell = work.run, work.tell
    run.update(state="running")
    module = work.new_module()
    deadline = None
    if work.limit is not None:
        deadline = work.started + work.limit - _closing_seconds(work.limit)
        if recipe:
            deadline -= _seconds_of_validation(work, module)
    fitted = None
    with _interruptible() as should_stop, _told_how_to_go_on(run):
        if recipe is None:
            fitted = _fit_last_layer(work, module, deadline, should_stop)
            stopped, epochs = "done" if fitted else "interrupted", None
        else:
            result = fit(
                module, work.parts["train"], work.parts["validation"], contract=work.contract, recipe=recipe,
                device=work.device, folder=run.path / "checkpoints", on_event=tell, resume=checkpoint,
                deadline=deadline, should_stop=should_stop, task=work.task,
            )  # fmt: skip
            stopped, epochs = result.stopped, result.epochs
            if stopped == "interrupted" and not result.best:
                stopped = "interrupted before the first validation"
    seconds = seconds_before + time.monotonic() - work.started
    summary: dict[str, Any] = {"seconds": round(seconds, 2), "epochs": epochs and round(epochs, 3)}
    if stopped in ("done", "early", "interrupted", "diverged") and (recipe or stopped == "done"):
        origin = work.pretrained.origin if work.pretrained else "trained from scratch"
        classifier = Classifier(
            module, work.dataset.classes, work.contract, work.architecture, {"origin": origin}, work.task
        )
        classifier, summary["valid"] = _validated(
            classifier, work.parts["validation"], work.dataset.targets(), fitted.logits if fitted else None
        )
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
    work: _Work, module: nn.Module, deadline: float | None, should_stop: Callable[[], bool]
) -> HeadFit | None:
    assert work.pretrained is not None
    weights = hashlib.sha256(work.pretrained.file.read_bytes()).hexdigest()
    speed = measure_speed(work.architecture, module, work.contract, 32, work.device, work.config, training=False)
    precision, _ = fastest(speed)
    return fit_head(
        module, work.parts["train"], work.parts["validation"], contract=work.contract,
        num_classes=len(work.dataset.classes), key=f"{weights} {work.pack.file.name}", device=work.device,
        precision=precision, balanced=work.config.class_weights == "balanced", seed=work.config.seed,
        on_event=work.tell, task=work.task, deadline=deadline, should_stop=should_stop,
    )  # fmt: skip


def _validated(
    classifier: Classifier, valid: Pictures, targets: np.ndarray, logits: np.ndarray | None
) -> tuple[Classifier, dict[str, Any]]:
    """The classifier with the margin of its numbers, and the task's metric with its interval on the validation part.

    Without `logits` of these pictures they are looked at in full precision, as `predict` does.
    """
    answers = _answers(classifier, valid) if logits is None else classifier.answers(torch.from_numpy(logits))
    truth, task = targets[valid.indices], classifier.task
    if task.kind == NUMBER:
        classifier = replace(classifier, task=replace(task, margin=conformal_margin((answers - truth)[:, 0])))
    return classifier, {"n": len(valid), task.metric: headline(task, truth, answers).to_dict()}


def _answers(classifier: Classifier, pictures: Pictures) -> np.ndarray:
    parts = np.array_split(pictures.indices, -(-len(pictures) // 1024))
    return np.concatenate([classifier.predict_proba(pictures.pixels[rows]) for rows in parts])


def _closing_seconds(limit: float) -> float:
    """Time kept back for saving and for the end of the process."""
    return 1.0 + 0.02 * limit


def _seconds_of_validation(work: _Work, module: nn.Module) -> float:
    """How long the last validation will take, from a part of it."""
    valid = work.parts["validation"]
    part = valid.subset(max(64, len(valid) // 16), seed=0)
    classifier = Classifier(module, work.dataset.classes, work.contract, work.architecture)
    started = time.monotonic()
    _answers(classifier, part)
    return (time.monotonic() - started) * len(valid) / len(part)


def _left(started: float, limit: float | None) -> float | None:
    return None if limit is None else max(started + limit - _closing_seconds(limit) - time.monotonic(), 1.0)


def _split_settings(settings: dict[str, Any]) -> tuple[DataConfig, ModelConfig, TrainConfig]:
    """The three configurations from flat keyword arguments. Raises UnknownNameError with the nearest names."""
    kinds = (DataConfig, ModelConfig, TrainConfig)
    known = {field.name for kind in kinds for field in fields(kind)}
    for name in settings:
        if name not in known:
            raise UnknownNameError(f"There is no setting '{name}'. {nearest(name, known)}".strip())
    data, model, training = (
        kind(**{f.name: settings[f.name] for f in fields(kind) if f.name in settings}) for kind in kinds
    )
    return data, model, training  # type: ignore[return-value]


def _absolute(path: str | None) -> str | None:
    """`path` from the root of the disk when something is there; other words ('digits', 'imagenet') as they are."""
    return str(Path(path).absolute()) if path is not None and Path(path).exists() else path


def _lasting_source(dataset: Dataset) -> str:
    """What names the data set from any folder."""
    is_path = dataset.kind in ("folder", "zip", "table")
    return str(_absolute(dataset.source)) if is_path else dataset.source


def _fetching(data: Any, on_event: OnEvent | None) -> Callable[[int, int], None]:
    """Tells of files that are fetched and unpacked, before there is a run."""

    def progress(done: int, total: int) -> None:
        if on_event:
            on_event({"event": "progress", "what": f"getting {data}", "done": done, "total": total})

    return progress


@contextmanager
def _new_run(dataset: Dataset, out: str | Path | None) -> Iterator[Run]:
    """A new run folder, removed again when an error comes before the training has begun."""
    content = {
        "state": "preparing",
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
    run = create_run(dataset.name, content, out=None if out is None else Path(out))
    try:
        yield run
    except BaseException:
        if run.read()["state"] == "preparing":
            shutil.rmtree(run.path)
        raise


def _observer(run: Run, on_event: OnEvent | None) -> OnEvent:
    def tell(event: dict[str, Any]) -> None:
        event = {"time": round(time.time(), 3), **event}
        if event["event"] != "progress":
            run.append_event(event)
        if on_event:
            on_event(event)

    return tell


def _packed(dataset: Dataset, contract: PixelContract, tell: OnEvent) -> Pack:
    def progress(done: int, total: int) -> None:
        tell({"event": "progress", "what": "reading pictures", "done": done, "total": total})

    return open_pack(dataset, contract, progress=progress)


def _pictures(dataset: Dataset, task: Task, pack: Pack, manifest: Manifest) -> dict[str, Pictures]:
    labels = task.scaled(dataset.targets())
    return {part: Pictures(pack.pixels, labels, manifest.indices(part)) for part in ("train", "validation", "test")}


def _tell_data(
    tell: OnEvent,
    dataset: Dataset,
    manifest: Manifest,
    remarks: dict[str, int],
    contract: PixelContract,
    why_contract: str,
) -> None:
    bad = [row for row in manifest.rows if row.status == UNREADABLE]
    told = [f"{counted(n, 'picture')}: {note}" for note, n in remarks.items()]
    tell({
        "event": "data",
        "source": dataset.source,
        "classes": len(dataset.classes),
        "task": dataset.task.kind,
        "pictures": {part: len(manifest.indices(part)) for part in ("train", "validation", "test")},
        "unreadable": [{"path": row.path, "reason": row.reason} for row in bad],
        "notes": [*dataset.notes, *manifest.notes, *told],
        "input": f"{contract.channels}x{contract.height}x{contract.width}: {why_contract}",
    })  # fmt: skip


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
