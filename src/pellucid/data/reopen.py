"""Opening a data set by its settings, and opening the data set of a run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pellucid.config import DataConfig
from pellucid.data.dataset import Dataset, open_dataset
from pellucid.errors import RunError


def open_with(
    source: str | Path | tuple[Any, Any], config: DataConfig, *, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """`open_dataset` with the options of a DataConfig."""
    return open_dataset(
        source, path_column=config.path_column, label_column=config.label_column, split_column=config.split_column,
        group=config.group, task=config.task, label_separator=config.label_separator,
        root=Path(config.root) if config.root else None, progress=progress,
    )  # fmt: skip


def reopen(content: Mapping[str, Any]) -> Dataset:
    """The data set that a run's run.json names. Raises RunError when it came from arrays in memory."""
    if content["kind"] == "arrays":
        raise RunError("This run was trained on arrays in memory, which are not stored. Give the data set again.")
    return open_with(content["source"], DataConfig(**content["config"]["data"]))
