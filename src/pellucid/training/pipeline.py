"""From a data set to a trained classifier in a run folder: look, pack, split, choose, fit, save."""

from __future__ import annotations

import datetime
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pellucid.config import DataConfig, ModelConfig, TrainConfig
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.loader import Pictures
from pellucid.data.manifest import UNREADABLE, Manifest, make_manifest, restore_manifest
from pellucid.data.pack import Pack, open_pack
from pellucid.data.reopen import open_with, reopen
from pellucid.data.scan import remarks
from pellucid.data.task import Task
from pellucid.data.wording import counted
from pellucid.device import describe_machine, pick_device, reproducible
from pellucid.errors import ConfigError, RunError, UnknownNameError, nearest
from pellucid.files import atomic_write
from pellucid.model.pretrained import find_pretrained, weights_at_hand
from pellucid.model.zoo import Architecture
from pellucid.run import Run, create_run
from pellucid.training.checkpoint import newest_checkpoint
from pellucid.training.loop import OnEvent, Recipe
from pellucid.training.lr_finder import find_learning_rate
from pellucid.training.objective import refuse_for_numbers
from pellucid.training.plan import (
    are_photographs,
    choose_architecture,
    choose_contract,
    plan_recipe,
    require_model,
    require_policy,
    sample_shapes,
    with_statistics,
)
from pellucid.training.work import Work, closing_seconds, fit_and_save


def train(
    data: str | Path | tuple[Any, Any] | Dataset,
    *,
    out: str | Path | None = None,
    on_event: OnEvent | None = None,
    started: float | None = None,
    **settings: Any,
) -> Run:
    """Trains a classifier and returns its run folder.

    `data` is whatever `open_dataset` opens, or a Dataset; `settings` are the fields of DataConfig, ModelConfig and
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
    dataset = data if isinstance(data, Dataset) else open_with(data, data_config, progress=getting)
    if isinstance(data, Dataset) and data_config.task not in (None, data.task.kind):
        raise ConfigError(
            f"task is '{data_config.task}', but the data set was opened with task '{data.task.kind}'. Say it when opening: "
            f"open_dataset(..., task='{data_config.task}')."
        )
    shapes = sample_shapes(dataset)
    at_hand: list[str] = []
    if model_config.weights is None and model_config.model == "auto" and are_photographs(shapes):
        pretrained, at_hand = weights_at_hand()
        if pretrained:
            model_config = replace(model_config, weights=str(pretrained.file), model=pretrained.architecture.name)
            at_hand.insert(
                0, f"weights lie at hand, so they are used (--weights none learns from scratch): '{pretrained.file}'"
            )
    contract, why_contract = choose_contract(shapes, data_config, pretrained)
    task = dataset.task
    refuse_for_numbers(task, label_smoothing=train_config.label_smoothing, balance=train_config.balance)
    if not pretrained:
        require_model(model_config.model, contract, len(dataset.classes))
    require_policy(train_config.augment, contract)
    limit = train_config.seconds()

    with reproducible(train_config.deterministic), _new_run(dataset, out) as run, run.lock():
        tell = _observer(run, on_event)
        pack = _packed(dataset, contract, tell)
        _import_ahead()
        manifest = make_manifest(
            dataset, pack.records, fractions=data_config.fractions(), seed=train_config.seed, near=data_config.near
        )
        run.write_manifest(manifest.to_rows())
        task = task.fitted(dataset.targets()[manifest.indices("train")])
        parts = _pictures(dataset, task, pack, manifest)
        if not (pretrained and pretrained.mean):
            contract = with_statistics(contract, parts["train"])
        _tell_data(tell, dataset, manifest, remarks(pack.records), contract, why_contract)
        contents = [record.sha256 for record in pack.records]
        del pack  # its records are large

        architecture, why = choose_architecture(
            model_config.model, pretrained=pretrained, contract=contract, num_classes=len(dataset.classes),
            num_pictures=len(parts["train"]), config=train_config, seconds_left=_left(started, limit), device=device,
        )  # fmt: skip
        work = Work(
            dataset, task, contents, parts, contract, architecture, pretrained, train_config, device, run, tell, started, limit,
            model_config.freeze,
        )  # fmt: skip
        bare = work.bare_module()
        freeze = model_config.freeze
        if freeze is None:  # fastnet has no plain last layer, and is small enough to train on as a whole
            freeze = pretrained is not None and architecture.family != "fastnet"
        recipe, reasons = None, [*at_hand, f"{architecture}: {why}"]
        if not (freeze and pretrained):
            recipe, more = plan_recipe(
                architecture, bare, parts["train"], contract=contract, classes=dataset.classes,
                config=train_config, pretrained=pretrained is not None, seconds_left=_left(started, limit), device=device,
                task=task,
            )  # fmt: skip
            reasons += more
            if train_config.find_learning_rate:
                recipe, why = _with_found_rate(work, recipe)
                reasons.append(why)
        else:
            reasons.append("the pretrained layers stay as they are; the last layer is fitted on what they see")
            if model_config.freeze and train_config.augment not in ("auto", "none", "flip"):
                reasons.append(
                    "they see each picture once, with flip mirrored, too; the rest of --augment has no effect"
                )
            if train_config.find_learning_rate:
                reasons.append("fitting the last layer has no learning rate: there is none to find")
        run.update(
            name=dataset.name, source=_lasting_source(dataset), kind=dataset.kind, classes=list(dataset.classes),
            task=task.to_dict(), config={"data": asdict(data_config), "model": asdict(model_config), "train": asdict(train_config)},
            contract=contract.to_dict(), architecture=architecture.to_dict(), recipe=recipe and recipe.to_dict(),
            plan=reasons, notes=[*dataset.notes, *manifest.notes], fingerprint=manifest.fingerprint(),
            parameters=sum(p.numel() for p in bare.parameters()), environment=describe_machine(device),
        )  # fmt: skip
        tell({"event": "plan", "reasons": reasons})
        fit_and_save(work, recipe)
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
    if settings.get("class_weights") == "balanced":  # what `balance` was called
        settings["balance"] = "weights"
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
        work = Work(  # no limit: the number of steps stays the one that was planned
            dataset,
            task,
            [record.sha256 for record in pack.records],
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
            model_config.freeze,
        )
        fit_and_save(
            work, recipe, checkpoint=checkpoint, seconds_before=content.get("seconds", 0.0), looked_at=content.get("looked_at")
        )  # fmt: skip
    return run


def _with_found_rate(work: Work, recipe: Recipe) -> tuple[Recipe, str]:
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


def _left(started: float, limit: float | None) -> float | None:
    return None if limit is None else max(started + limit - closing_seconds(limit) - time.monotonic(), 1.0)


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


def _import_ahead() -> None:
    """torch imports its compiler, for two seconds, when the first optimizer is made: it does so while pictures are
    compared, which needs little of Python's lock; reading them needs all of it."""
    threading.Thread(target=import_module, args=("torch._dynamo",)).start()


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
