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
from pellucid.data.wording import counted
from pellucid.device import describe_machine, pick_device, seed_everything
from pellucid.errors import RunError, StorageError, TrainingError, UnknownNameError, nearest
from pellucid.evaluation.intervals import wilson
from pellucid.model.classifier import Classifier
from pellucid.model.fastnet import FastNet
from pellucid.model.zoo import Architecture, Pretrained, build, find_pretrained
from pellucid.run import Run, create_run
from pellucid.training.checkpoint import newest_checkpoint
from pellucid.training.loop import OnEvent, Recipe, fit
from pellucid.training.plan import (
    choose_architecture,
    choose_contract,
    fastest,
    measure_speed,
    plan_recipe,
    require_model,
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
    dataset = data if isinstance(data, Dataset) else open_with(str(data), data_config)
    shapes = sample_shapes(dataset)
    contract, why_contract = choose_contract(shapes, data_config, pretrained)
    if not pretrained:
        require_model(model_config.model, contract, len(dataset.classes))
    limit = train_config.seconds()

    with _new_run(dataset, out) as run, run.lock():
        tell = _observer(run, on_event)
        pack = _packed(dataset, contract, tell)
        manifest = make_manifest(
            dataset, pack.records, fractions=data_config.fractions(), seed=train_config.seed, near=data_config.near
        )
        run.write_manifest(manifest.to_rows())
        parts = _pictures(dataset, pack, manifest)
        if not (pretrained and pretrained.mean):
            contract = with_statistics(contract, parts["train"])
        _tell_data(tell, dataset, manifest, remarks(pack.records), contract, why_contract)

        architecture, why = choose_architecture(
            model_config.model, pretrained=pretrained, contract=contract, num_classes=len(dataset.classes),
            num_pictures=len(parts["train"]), config=train_config, seconds_left=_left(started, limit), device=device,
        )  # fmt: skip
        work = _Work(
            dataset, pack, parts, contract, architecture, pretrained, train_config, device, run, tell, started, limit
        )  # fmt: skip
        freeze = model_config.freeze
        if freeze is None:  # fastnet has no plain last layer, and is small enough to train on as a whole
            freeze = pretrained is not None and architecture.family != "fastnet"
        recipe, reasons = None, [f"{architecture}: {why}"]
        if not (freeze and pretrained):
            recipe, more = plan_recipe(
                architecture, work.new_module(), parts["train"], contract=contract, num_classes=len(dataset.classes),
                config=train_config, pretrained=pretrained is not None, seconds_left=_left(started, limit), device=device,
            )  # fmt: skip
            reasons += more
        else:
            reasons.append("the pretrained layers stay as they are; the last layer is fitted on what they see")
        run.update(
            name=dataset.name, source=_absolute(dataset.source), kind=dataset.kind, classes=list(dataset.classes),
            config={"data": asdict(data_config), "model": asdict(model_config), "train": asdict(train_config)},
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
    train_config = TrainConfig(**content["config"]["train"])
    model_config = ModelConfig(**content["config"]["model"])
    pretrained = None
    if model_config.weights not in (None, "none"):
        pretrained = find_pretrained(str(model_config.weights), model_config.model)
    dataset = data or reopen(content)
    device = pick_device(train_config.device)
    contract = PixelContract.from_dict(content["contract"])
    with run.lock():
        checkpoint = newest_checkpoint(run.path / "checkpoints")
        run.rewind_events(checkpoint.numbers["step"] if checkpoint else 0)
        tell = _observer(run, on_event)
        pack = _packed(dataset, contract, tell)
        manifest = restore_manifest(run.read_manifest(), dataset, pack.records)
        parts = _pictures(dataset, pack, manifest)
        recipe = content["recipe"] and Recipe.from_dict(content["recipe"])
        tell({"event": "resumed", "step": checkpoint.numbers["step"] if checkpoint else 0})
        architecture = Architecture(**content["architecture"])
        work = _Work(  # no limit: the number of steps stays the one that was planned
            dataset, pack, parts, contract, architecture, pretrained, train_config, device, run, tell, started, None
        )
        _fit_and_save(work, recipe, checkpoint=checkpoint, seconds_before=content.get("seconds", 0.0))
    return run


@dataclass(frozen=True, eq=False)
class _Work:
    """What fitting needs, prepared by `train` or `resume`."""

    dataset: Dataset
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


def _fit_and_save(work: _Work, recipe: Recipe | None, *, checkpoint: Any = None, seconds_before: float = 0.0) -> None:
    run, tell = work.run, work.tell
    run.update(state="running")
    module = work.new_module()
    deadline = None
    if work.limit is not None:
        deadline = work.started + work.limit - _closing_seconds(work.limit)
        if recipe:
            deadline -= _seconds_of_validation(work, module)
    valid = None
    with _interruptible() as should_stop, _told_how_to_go_on(run):
        if recipe is None:
            fitted = _fit_last_layer(work, module, deadline, should_stop)
            stopped, epochs = "done" if fitted else "interrupted", None
            if fitted:
                valid = _accuracy(round(fitted.accuracy * len(work.parts["validation"])), len(work.parts["validation"]))
        else:
            result = fit(
                module, work.parts["train"], work.parts["validation"], contract=work.contract, recipe=recipe,
                device=work.device, folder=run.path / "checkpoints", on_event=tell, resume=checkpoint,
                deadline=deadline, should_stop=should_stop,
            )  # fmt: skip
            stopped, epochs = result.stopped, result.epochs
            if stopped == "interrupted" and not result.best:
                stopped = "interrupted before the first validation"
    seconds = seconds_before + time.monotonic() - work.started
    summary: dict[str, Any] = {"seconds": round(seconds, 2), "epochs": epochs and round(epochs, 3)}
    if stopped in ("done", "early", "interrupted", "diverged") and (recipe or stopped == "done"):
        origin = work.pretrained.origin if work.pretrained else "trained from scratch"
        classifier = Classifier(module, work.dataset.classes, work.contract, work.architecture, {"origin": origin})
        classifier.save(run.path / "model")
        summary["valid"] = valid or _validation(classifier, work.parts["validation"])
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
        on_event=work.tell, deadline=deadline, should_stop=should_stop,
    )  # fmt: skip


def _validation(classifier: Classifier, valid: Pictures) -> dict[str, Any]:
    """Accuracy with its interval on the validation part, in full precision, as `predict` will answer."""
    right = sum(
        int((classifier.predict_proba(valid.pixels[rows]).argmax(1) == valid.labels[rows]).sum())
        for rows in np.array_split(valid.indices, -(-len(valid) // 1024))
    )
    return _accuracy(right, len(valid))


def _accuracy(right: int, n: int) -> dict[str, Any]:
    return {"n": n, "accuracy": wilson(right, n).to_dict()}


def _closing_seconds(limit: float) -> float:
    """Time kept back for saving and for the end of the process."""
    return 1.0 + 0.02 * limit


def _seconds_of_validation(work: _Work, module: nn.Module) -> float:
    """How long the last validation will take, from a part of it."""
    valid = work.parts["validation"]
    part = valid.subset(max(64, len(valid) // 16), seed=0)
    classifier = Classifier(module, work.dataset.classes, work.contract, work.architecture)
    started = time.monotonic()
    _validation(classifier, part)
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


def _pictures(dataset: Dataset, pack: Pack, manifest: Manifest) -> dict[str, Pictures]:
    labels = np.array([item.label for item in dataset.items], np.int64)
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
