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
    out = None
    for start in range(0, len(batch), size):
        piece = work(*(t[start : start + size] for t in (batch, *numbers)))
        if out is None:
            out = piece.new_empty((len(batch), *piece.shape[1:]))
        out[start : start + size] = piece  # at once, so that the next piece finds this one's memory in the cache
    assert out is not None
    return out


def on_some(
    work: Callable[[torch.Tensor, np.ndarray], torch.Tensor], batch: torch.Tensor, which: np.ndarray
) -> torch.Tensor:
    """The batch with `work` done to those pictures that `which` (N,) says; it is told which. In place,
    unless it is all of them."""
    if which.all():
        return work(batch, which)
    chosen = which.nonzero()[0]
    if not len(chosen):
        return batch
    treated = work(batch.index_select(0, torch.from_numpy(chosen).to(batch.device)), which)
    pictures = batch.unbind()
    for place, picture in zip(chosen.tolist(), treated.unbind(), strict=True):
        pictures[place].copy_(picture)
    return batch


def as_levels(numbers: torch.Tensor) -> torch.Tensor:
    """Floats, which may be changed, as the nearest uint8. By way of int16 the processor converts them four times as fast."""
    return numbers.round_().clamp_(0, 255).to(torch.int16).to(torch.uint8)


def interleaved(planes: torch.Tensor) -> torch.Tensor:
    """(C, N, H, W) -> (N, H, W, C), channel by channel: half the time of permuting at once."""
    out = planes.new_empty((*planes.shape[1:], len(planes)))
    for c, plane in enumerate(planes):
        out[..., c] = plane
    return out


def on_device(numbers: np.ndarray, batch: torch.Tensor) -> torch.Tensor:
    """Numbers of the pictures as a float32 tensor where the batch lies."""
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32)).to(batch.device)
