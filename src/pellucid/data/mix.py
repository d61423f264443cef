"""mixup and cutmix: a picture mixed with another one, and its target with the other's in the same share.

Sources: Zhang et al. 2017, arXiv 1710.09412 (mixup); Yun et al. 2019, arXiv 1905.04899 (cutmix).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.chunks import as_levels, in_chunks, on_device
from pellucid.data.warp import Draw


@dataclass(frozen=True, eq=False)
class Mixed:
    """What was mixed in: the partners' labels, (B,) or (B, outputs), and the share (B,) that each picture kept of itself."""

    labels: torch.Tensor
    share: torch.Tensor

    def targets(self, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
        """float32 (B, num_classes): the targets of the mixed pictures, whose own labels are classes, int64 (B,), or already
        targets, float32 (B, num_classes)."""
        own, other = (F.one_hot(y, num_classes).float() if y.ndim == 1 else y for y in (labels, self.labels))
        return torch.lerp(other, own, self.share[:, None])


def mix(
    batch: torch.Tensor, others: torch.Tensor, draw: Draw, *, mixup: float, cutmix: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 (N, H, W, C) with its partners -> the mixtures, and the share (N,) of itself that each picture kept.

    `mixup` and `cutmix` are the alphas, 0 for none; with both, half of the pictures get the one and half the other.
    """
    from scipy.special import betaincinv

    n, height, width, _ = batch.shape
    pasted = draw("mix_kind") < 0.5 if mixup and cutmix else np.full(n, cutmix > 0)
    alpha = np.where(pasted, cutmix, mixup)
    share = betaincinv(alpha, alpha, draw("mix_share"))
    side = np.sqrt(1 - share)
    inside = [_span(size, side, draw(name)) for size, name in ((height, "mix_y"), (width, "mix_x"))]
    kept = np.where(pasted, 1 - inside[0].mean(1) * inside[1].mean(1), share)
    # the partner's weight is a product of one of rows and one of columns, 1 or 0 in a box, else the same everywhere
    rows, columns = (np.where(pasted[:, None], line, 1.0) for line in inside)
    rows = np.where(pasted, 1.0, 1 - share)[:, None] * rows

    def work(own: torch.Tensor, other: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        levels = own.flatten(2).float()  # (N, H, W*C)
        change = other.flatten(2).float().sub_(levels).mul_(rows[..., None]).mul_(columns[:, None])
        return as_levels(levels.add_(change)).view(own.shape)

    columns = columns.repeat(batch.shape[3], axis=1)
    mixed = in_chunks(work, batch, others, on_device(rows, batch), on_device(columns, batch))
    return mixed, on_device(kept, batch)


def _span(size: int, share: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """bool (N, size): the pixels of a span with a share of the line about a random middle, clipped at the ends."""
    length, center = np.round(share * size), np.floor(middle * size)
    first = center - np.floor(length / 2)
    place = np.arange(size)
    return (place >= first[:, None]) & (place < (first + length)[:, None])
