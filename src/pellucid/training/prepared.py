"""What every training on one data set shares, decided before anything is written: the data, the settings, the pixel contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from pellucid.config import DataConfig, ModelConfig, TrainConfig
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.reopen import open_with, reopen
from pellucid.data.task import CLASS
from pellucid.data.verdicts import read_verdicts, with_verdicts
from pellucid.device import describe_machine, pick_device
from pellucid.errors import ConfigError, UnknownNameError, nearest
from pellucid.model.pretrained import Pretrained, find_pretrained, weights_at_hand
from pellucid.training.loop import OnEvent
from pellucid.training.objective import refuse_for_numbers
from pellucid.training.plan import are_photographs, choose_contract, require_model, require_policy, sample_shapes


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set and what was settled about it. `contract` has its mean and std from weights, or gets them with a training part.

    `verdicts` are those of `read_verdicts`, already applied to `dataset`; `at_hand` says which weights were found unasked.
    """

    dataset: Dataset
    data_config: DataConfig
    model_config: ModelConfig
    train_config: TrainConfig
    device: torch.device
    pretrained: Pretrained | None
    contract: PixelContract
    why_contract: str = ""
    at_hand: tuple[str, ...] = ()
    verdicts: Mapping[str, str] | None = None

    def content(self) -> dict[str, Any]:
        """What run.json tells of it, enough for `prepare_again`."""
        dataset = self.dataset
        is_path = dataset.kind in ("folder", "zip", "table")
        config: dict[str, Any] = {"data": self.data_config, "model": self.model_config, "train": self.train_config}
        return {
            "name": dataset.name, "source": str(_absolute(dataset.source)) if is_path else dataset.source,
            "kind": dataset.kind, "classes": list(dataset.classes), "task": dataset.task.to_dict(),
            "config": {name: asdict(part) for name, part in config.items()}, "contract": self.contract.to_dict(),
            "environment": describe_machine(self.device), "verdicts": dict(self.verdicts or {}),
        }  # fmt: skip


def prepare(
    data: str | Path | tuple[Any, Any] | Dataset, settings: Mapping[str, Any], on_event: OnEvent | None
) -> Prepared:
    """Opens the data set and settles what does not depend on its pixels; raises what `train` raises before it begins."""
    data_config, model_config, train_config = _split_settings(settings)
    data_config = replace(data_config, root=_absolute(data_config.root))  # a run is used from other folders, too
    model_config = replace(model_config, weights=_absolute(model_config.weights))
    train_config = replace(train_config, verdicts=_absolute(train_config.verdicts))
    device = pick_device(train_config.device)
    pretrained = _asked_weights(model_config)
    getting = _fetching(data, on_event)
    dataset = data if isinstance(data, Dataset) else open_with(data, data_config, progress=getting)
    if isinstance(data, Dataset) and data_config.task not in (None, data.task.kind):
        raise ConfigError(
            f"task is '{data_config.task}', but the data set was opened with task '{data.task.kind}'. Say it when opening: "
            f"open_dataset(..., task='{data_config.task}')."
        )
    if train_config.folds and data_config.split:
        raise ConfigError(
            f"--split is '{data_config.split}' and --folds is {train_config.folds}: with folds every picture is tested once, and "
            "a ninth of the others is for validation. Leave one of the two out."
        )
    if train_config.learning_curve and dataset.task.kind != CLASS:
        raise ConfigError(
            f"--learning-curve is about classes, but the task is '{dataset.task.kind}'. Train with --folds to know how certain a score "
            "is, or leave --learning-curve out."
        )
    verdicts = read_verdicts(train_config.verdicts, dataset) if train_config.verdicts else {}
    dataset = with_verdicts(dataset, verdicts)
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
    refuse_for_numbers(dataset.task, label_smoothing=train_config.label_smoothing, balance=train_config.balance)
    if not pretrained:
        require_model(model_config.model, contract, len(dataset.classes))
    require_policy(train_config.augment, contract)
    return Prepared(
        dataset, data_config, model_config, train_config, device, pretrained, contract, why_contract, tuple(at_hand), verdicts
    )  # fmt: skip


def prepare_again(content: Mapping[str, Any], data: Dataset | None) -> Prepared:
    """What `content`, the run.json of a run, was prepared from; `data` is only needed when that was arrays."""
    settings = content["config"]["train"]  # of an older run also settings that are in its recipe alone by now
    if settings.get("class_weights") == "balanced":  # what `balance` was called
        settings["balance"] = "weights"
    train_config = TrainConfig(**{f.name: settings[f.name] for f in fields(TrainConfig) if f.name in settings})
    model_config = ModelConfig(**content["config"]["model"])
    verdicts = content.get("verdicts", {})
    return Prepared(
        with_verdicts(data or reopen(content), verdicts), DataConfig(**content["config"]["data"]), model_config, train_config,
        pick_device(train_config.device), _asked_weights(model_config), PixelContract.from_dict(content["contract"]),
        verdicts=verdicts,
    )  # fmt: skip


def _asked_weights(config: ModelConfig) -> Pretrained | None:
    return None if config.weights in (None, "none") else find_pretrained(str(config.weights), config.model)


def _split_settings(settings: Mapping[str, Any]) -> tuple[DataConfig, ModelConfig, TrainConfig]:
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


def _fetching(data: Any, on_event: OnEvent | None) -> Callable[[int, int], None]:
    """Tells of files that are fetched and unpacked, before there is a run."""

    def progress(done: int, total: int) -> None:
        if on_event:
            on_event({"event": "progress", "what": f"getting {data}", "done": done, "total": total})

    return progress
