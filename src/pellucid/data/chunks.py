"""Work on a batch piece by piece, so that the floats in between stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

_VALUES = 2**18  # levels of a piece: 1 MB as floats; whole batches of 224x224 took half as long again


def in_chunks(work: Callable[..., torch.Tensor], batch: torch.Tensor, *numbers: torch.Tensor) -> torch.Tensor:
    """work(batch, *numbers), whose first axes count the pictures; in pieces on a processor, at once elsewhere."""
    size = max(1, _VALUES // max(1, batch.shape[1:].numel()))
    if batch.device.type != "cpu" or len(batch) <= size:
        return work(batch, *numbers)
    return torch.cat([work(*pieces) for pieces in zip(*(t.split(size) for t in (batch, *numbers)), strict=True)])


def on_device(numbers: np.ndarray, batch: torch.Tensor) -> torch.Tensor:
    """Numbers of the pictures as a float32 tensor where the batch lies."""
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32)).to(batch.device)
