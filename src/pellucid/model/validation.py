"""What a network said of its validation part, kept beside it: whatever is promised later is measured on these answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pellucid.errors import WeightsError
from pellucid.files import atomic_write

_FILE = "validation.safetensors"
_MOST = 2**22  # logits that are kept, 16 MB: 400,000 pictures of ten classes


@dataclass(frozen=True, eq=False)
class Validation:
    """logits: float32 (N, outputs), not calibrated. targets: as `Task.encode` gives them. groups: int (N,), equal within a
    patient, plant or video; None where nothing is known of them."""

    logits: np.ndarray
    targets: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.logits)

    def kept(self) -> Validation:
        """At most so many pictures, drawn at random, that they make 16 MB."""
        rows = np.random.default_rng(0).permutation(len(self))[: max(1000, _MOST // self.logits.shape[1])]
        rows.sort()
        return Validation(self.logits[rows], self.targets[rows], None if self.groups is None else self.groups[rows])

    def save(self, folder: Path) -> str:
        """Writes validation.safetensors; returns its SHA-256."""
        from safetensors.numpy import save

        tensors = {"logits": self.logits.astype(np.float32), "targets": self.targets}
        if self.groups is not None:
            tensors["groups"] = self.groups
        data = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
        atomic_write(folder / _FILE, data)
        return hashlib.sha256(data).hexdigest()


def load_validation(folder: Path, sha256: str) -> Validation:
    """Raises WeightsError when the file is not the one that was written, OSError when there is none."""
    from safetensors.numpy import load

    data = (folder / _FILE).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(f"'{folder / _FILE}' is damaged: its SHA-256 is not the one in card.json.")
    tensors = load(data)
    return Validation(tensors["logits"], tensors["targets"], tensors.get("groups"))
