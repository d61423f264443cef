"""From a data set to a trained classifier in a run folder: look, pack, split, choose, fit, save."""

from __future__ import annotations

import datetime
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.loader import Pictures
from pellucid.data.manifest import SPLITS, UNREADABLE, Manifest, make_manifest, restore_manifest
from pellucid.data.pack import Pack, open_pack
from pellucid.data.scan import remarks
from pellucid.data.series import make_fold_manifests, make_share_manifests
from pellucid.data.task import Task
from pellucid.data.wording import counted
from pellucid.device import give_memory_back, reproducible
from pellucid.errors import RunError
from pellucid.files import atomic_write
from pellucid.model.zoo import Architecture
from pellucid.run import Run, create_run, members_of
from pellucid.training.checkpoint import newest_checkpoint
from pellucid.training.loop import OnEvent, Recipe
from pellucid.training.lr_finder import find_learning_rate
from pellucid.training.plan import choose_architecture, plan_recipe, with_statistics
from pellucid.training.prepared import Prepared, prepare, prepare_again
from pellucid.training.series import begin_series, train_series
from pellucid.training.work import Work, closing_seconds, fit_and_save


def train(
    data: str | Path | tuple[Any, Any] | Dataset,
    *,
    out: str | Path | None = None,
    on_event: OnEvent | None = None,
    started: float | None = None,
    **settings: Any,
) -> Run:
    """Trains a classifier and returns its run folder; with `folds` or `learning_curve` one that holds those of several.

    `data` is whatever `open_dataset` opens, or a Dataset; `settings` are the fields of DataConfig, ModelConfig and
    TrainConfig (model="resnet18", time_limit="10m", seed=1 ...). `on_event` is told everything that happens. A time limit
    counts from `started`, a reading of time.monotonic(), by default now.
    Raises DataError, SplitError, UnknownNameError, WeightsError, ShapeError, StorageError; TrainingError when the loss
    is no longer a number (the best weights so far are saved then).
    """
    started = time.monotonic() if started is None else started
    prepared = prepare(data, settings, on_event)
    dataset, config = prepared.dataset, prepared.train_config
    with reproducible(config.deterministic), _new_run(dataset, out) as run, run.lock():
        tell = _observer(run, on_event)
        pack = _packed(dataset, prepared.contract, tell)
        _import_ahead()
        near, seed = prepared.data_config.near, config.seed
        if config.folds:
            manifest, members = make_fold_manifests(dataset, pack.records, folds=config.folds, seed=seed, near=near)
        else:
            manifest = make_manifest(
                dataset, pack.records, fractions=prepared.data_config.fractions(), seed=seed, near=near
            )
            members = make_share_manifests(dataset, pack.records, manifest, seed=seed) if config.learning_curve else {}
        run.write_manifest(manifest.to_rows())
        _tell_data(tell, prepared, manifest, remarks(pack.records))
        if members:
            begin_series(run, members, content=prepared.content() | {"fingerprint": manifest.fingerprint()})
            _train_members(prepared, pack, run, on_event, started, config.seconds())
        else:
            pixels, contents = pack.pixels, pack.contents if prepared.pretrained else []
            del pack  # its records are large
            give_memory_back()
            work, recipe = _planned(prepared, pixels, contents, manifest, run, tell, started, config.seconds())
            del contents, manifest
            fit_and_save(work, recipe)
    return run


def _planned(
    prepared: Prepared, pixels: np.ndarray, contents: list[str], manifest: Manifest, run: Run, tell: OnEvent,
    started: float, limit: float | None, network: str | None = None,
) -> tuple[Work, Recipe | None]:  # fmt: skip
    """One training on the parts of a manifest, into a run that holds its manifest already, and the recipe if more than the
    last layer is to be trained; `network` was chosen before.

    `pixels` and `contents` are those of the pack.
    """
    dataset, pretrained, config, device = prepared.dataset, prepared.pretrained, prepared.train_config, prepared.device
    model_config, contract = prepared.model_config, prepared.contract
    task = dataset.task.fitted(dataset.targets()[manifest.indices("train")])
    parts = _pictures(dataset, task, pixels, manifest)
    if not (pretrained and pretrained.mean):
        contract = with_statistics(contract, parts["train"])
    architecture, why = choose_architecture(
        network or model_config.model, pretrained=pretrained, contract=contract, num_classes=len(dataset.classes),
        num_pictures=len(parts["train"]), config=config, seconds_left=_left(started, limit), device=device,
    )  # fmt: skip
    work = Work(
        dataset, task, contents, parts, contract, architecture, pretrained, config, device, run, tell, started, limit,
        model_config.freeze,
    )  # fmt: skip
    bare = work.bare_module()
    freeze = model_config.freeze
    if freeze is None:  # fastnet has no plain last layer, and is small enough to train on as a whole
        freeze = pretrained is not None and architecture.family != "fastnet"
    recipe, reasons = None, [*prepared.at_hand, f"{architecture}: {'as in the first training' if network else why}"]
    if not (freeze and pretrained):
        recipe, more = plan_recipe(
            architecture, bare, parts["train"], contract=contract, classes=dataset.classes,
            config=config, pretrained=pretrained is not None, seconds_left=_left(started, limit), device=device, task=task,
        )  # fmt: skip
        reasons += more
        if config.find_learning_rate:
            recipe, why = _with_found_rate(work, recipe)
            reasons.append(why)
    else:
        reasons.append("the pretrained layers stay as they are; the last layer is fitted on what they see")
        if model_config.freeze and config.augment not in ("auto", "none", "flip"):
            reasons.append("they see each picture once, with flip mirrored, too; the rest of --augment has no effect")
        if config.find_learning_rate:
            reasons.append("fitting the last layer has no learning rate: there is none to find")
    run.update(
        **prepared.content() | {
            "task": task.to_dict(), "contract": contract.to_dict(), "architecture": architecture.to_dict(),
            "recipe": recipe and recipe.to_dict(), "plan": reasons, "notes": [*dataset.notes, *manifest.notes],
            "fingerprint": manifest.fingerprint(), "parameters": sum(p.numel() for p in bare.parameters()),
        }
    )  # fmt: skip
    tell({"event": "plan", "reasons": reasons})
    return work, recipe


def resume(
    run: Run | str | Path,
    *,
    data: Dataset | None = None,
    on_event: OnEvent | None = None,
    started: float | None = None,
) -> Run:
    """Goes on with an interrupted or killed training; on the CPU it ends bit-identical to an uninterrupted one.

    A time limit was turned into a number of steps when the run began; that plan is kept, however long it takes now. Of a
    run of several trainings those that are finished stay as they are.
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
    if "contract" not in content:
        raise RunError(f"'{run}' ended before its training began, there is nothing to resume. Start it again.")
    prepared = prepare_again(content, data)
    with reproducible(prepared.train_config.deterministic), run.lock():
        run.remove_torn_files()
        if "members" in content:
            pack = _packed(prepared.dataset, prepared.contract, _observer(run, on_event))
            _train_members(prepared, pack, run, on_event, started, prepared.train_config.seconds())
        else:
            _go_on(prepared, run, on_event, started)
    return run


def _go_on(prepared: Prepared, run: Run, on_event: OnEvent | None, started: float) -> None:
    """One training from its newest checkpoint on."""
    content = run.read()
    checkpoint = newest_checkpoint(run.path / "checkpoints")
    run.rewind_events(checkpoint.numbers["step"] if checkpoint else 0)
    tell = _observer(run, on_event)
    work = _work_again(prepared, content, run, tell, started)
    tell({"event": "resumed", "step": checkpoint.numbers["step"] if checkpoint else 0})
    recipe = content["recipe"] and Recipe.from_dict(content["recipe"])
    fit_and_save(
        work, recipe, checkpoint=checkpoint, seconds_before=content.get("seconds", 0.0), looked_at=content.get("looked_at")
    )  # fmt: skip


def work_of(run: Run) -> Work:
    """What the training of a run was given, put together again from its folder and its pictures. Raises RunError."""
    content = run.read()
    if "contract" not in content:
        raise RunError(f"'{run}' ended before its training began. Start it again.")
    return _work_again(prepare_again(content, None), content, run, lambda event: None, time.monotonic())


def _work_again(prepared: Prepared, content: Mapping[str, Any], run: Run, tell: OnEvent, started: float) -> Work:
    dataset, contract = prepared.dataset, PixelContract.from_dict(content["contract"])
    pack = _packed(dataset, contract, tell)
    manifest = restore_manifest(run.read_manifest(), dataset, pack.records)
    task = Task(**content.get("task", {}))
    return Work(  # no limit: the number of steps stays the one that was planned
        dataset, task, pack.contents, _pictures(dataset, task, pack.pixels, manifest), contract,
        Architecture(**content["architecture"]), prepared.pretrained, prepared.train_config, prepared.device, run, tell, started,
        None, prepared.model_config.freeze,
    )  # fmt: skip


def _train_members(
    prepared: Prepared, pack: Pack, run: Run, on_event: OnEvent | None, started: float, limit: float | None
) -> None:
    """The trainings of a series that are not finished, one after the other."""
    dataset = prepared.dataset

    def train_member(member: Run, began: float, share: float | None) -> None:
        content = member.read()
        if "contract" in content:
            _go_on(prepared, member, on_event, began)
            return
        tell = _observer(member, on_event)
        manifest = restore_manifest(member.read_manifest(), dataset, pack.records)
        _tell_data(tell, prepared, manifest)
        first = members_of(run)[0].read().get("architecture", {}).get("name")  # all are like the first one
        fit_and_save(
            *_planned(prepared, pack.pixels, pack.contents, manifest, member, tell, began, share, network=first)
        )

    train_series(run, pack, dataset, train_member, _observer(run, on_event), started, limit)


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


def _import_ahead() -> None:
    """torch imports its compiler, for two seconds, when the first optimizer is made: it does so while pictures are
    compared, which needs little of Python's lock; reading them needs all of it."""
    threading.Thread(target=import_module, args=("torch._dynamo",)).start()


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


def _pictures(dataset: Dataset, task: Task, pixels: np.ndarray, manifest: Manifest) -> dict[str, Pictures]:
    labels = task.scaled(dataset.targets())
    return {part: Pictures(pixels, labels, manifest.indices(part)) for part in ("train", "validation", "test")}


def _tell_data(tell: OnEvent, prepared: Prepared, manifest: Manifest, remarks: Mapping[str, int] | None = None) -> None:
    """What is trained on; with `remarks` also what is to be known of the pictures, which a series tells once."""
    dataset, contract = prepared.dataset, prepared.contract
    bad = [row for row in manifest.rows if row.status == UNREADABLE]
    once = remarks is not None
    told = [f"{counted(n, 'picture')}: {note}" for note, n in (remarks or {}).items()]
    folds = sorted({row.split for row in manifest.rows} - {"", *SPLITS}, key=lambda name: (len(name), name))
    tell({
        "event": "data",
        "source": dataset.source,
        "classes": len(dataset.classes),
        "task": dataset.task.kind,
        "pictures": {part: len(manifest.indices(part)) for part in folds or SPLITS},
        "unreadable": [{"path": row.path, "reason": row.reason} for row in bad] if once else [],
        "notes": [*dataset.notes, *manifest.notes, *told] if once else [],
        "input": f"{contract.channels}x{contract.height}x{contract.width}: {prepared.why_contract}" if once else "",
    })  # fmt: skip
