"""Checkpoints: the whole state of a training as safetensors and JSON, each with its SHA-256, so that damage is seen.

A checkpoint is two files, `step-00000123.safetensors` (weights, averaged weights, optimizer state, generator state) and
`step-00000123.json` (counters, and the hash of the first). The JSON is written last: without it the other does not count.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid.files import atomic_write, write_json

KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by name, and `numbers`: plain JSON data, among them `step`."""

    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, name: str | None = None) -> None:
    """Writes a checkpoint as `name` or by its step, and removes all but the newest two of those.

    Raises StorageError; older checkpoints then are untouched.
    """
    from safetensors.torch import save

    name = name or f"step-{checkpoint.numbers['step']:08d}"
    data = save({key: tensor.detach().cpu().contiguous() for key, tensor in checkpoint.tensors.items()})
    atomic_write(folder / f"{name}.safetensors", data)
    write_json(folder / f"{name}.json", checkpoint.numbers | {"sha256": hashlib.sha256(data).hexdigest()})
    for old in _by_step(folder)[KEEP:]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None. Damaged ones are passed over."""
    return next((found for file in _by_step(folder) if (found := _load(file))), None)


def best_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint saved as 'best', or None."""
    return named_checkpoint(folder, "best")


def named_checkpoint(folder: Path, name: str) -> Checkpoint | None:
    """The checkpoint that was saved under a name, or None."""
    return _load(folder / f"{name}.json")


def _by_step(folder: Path) -> list[Path]:
    found = [file for file in folder.glob("step-*.json") if re.fullmatch(r"step-\d{8}\.json", file.name)]
    return sorted(found, reverse=True)


def _load(file: Path) -> Checkpoint | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        numbers = json.loads(file.read_text(encoding="utf-8"))
        data = file.with_suffix(".safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != numbers.pop("sha256"):
            return None
        return Checkpoint(load(data), numbers)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError):
        return None
