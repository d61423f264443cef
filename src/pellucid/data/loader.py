"""Batches: rows of a pack, augmented and normalised on the device, in an order that is a function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.mix import Mixed
from pellucid.data.pack import let_go

_RESIDENT_SHARE = 0.4  # of the free GPU memory that the pictures may take
# Bytes of a pack that are read before the process lets go of them; the system maps ten times as much around them.
_HELD = 4 * 2**20


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some rows of a pack with their labels: what one split is for the training loop.

    `pixels` uint8 (M, H, W, C) over all rows, `labels` what is learned (int64 (M,) for classes, else float32
    (M, outputs), see `Task.scaled`), `indices` int64 (N,) the rows that belong to the split.
    """

    pixels: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def subset(self, count: int, *, seed: int) -> Pictures:
        """At most `count` of them, drawn without replacement."""
        chosen = np.random.default_rng(seed).permutation(self.indices)[:count]
        return Pictures(self.pixels, self.labels, np.sort(chosen))


class Loader:
    """Feeds one split to a device. On a GPU the pixels move there once when they fit, and are augmented there."""

    def __init__(
        self, pictures: Pictures, contract: PixelContract, device: torch.device, *, batch_size: int,
        strata: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """With `strata` int (N,) an epoch draws, with replacement, equally often from each of them."""
        self.pictures, self.contract, self.device, self.batch_size = pictures, contract, device, batch_size
        self._chance = None
        if strata is not None:
            chance = 1 / np.bincount(strata)[strata]
            self._chance = chance / chance.sum()
        self._resident: torch.Tensor | None = None
        self._held = 0
        self._row = np.zeros(0, np.int64)
        if device.type == "cuda":
            needed = len(pictures) * int(np.prod(pictures.pixels.shape[1:]))
            if needed < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
                self._resident = torch.from_numpy(pictures.pixels[pictures.indices]).to(device)
                self._row = np.zeros(len(pictures.pixels), np.int64)
                self._row[pictures.indices] = np.arange(len(pictures))

    def __len__(self) -> int:
        return -(-len(self.pictures) // self.batch_size)

    def in_order(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All pictures once, in order, not augmented: float32 (B, C, H, W), and the labels (B,) or (B, outputs)."""
        for start in range(0, len(self.pictures), self.batch_size):
            rows = self.pictures.indices[start : start + self.batch_size]
            yield self.contract.tensor(self._fetch(rows)), self._labels(rows)

    def shuffled(
        self, augmentation: Augmentation, *, seed: int, epoch: int, start: int = 0
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, Mixed | None]]:
        """The batches of one epoch from batch `start` on, augmented; equal in size to within one picture, since a small
        last batch would spoil the statistics of batch norm. The third part says what was mixed in, if pictures are mixed."""
        rng, rows = np.random.default_rng([seed, epoch]), self.pictures.indices
        order = rng.permutation(rows) if self._chance is None else rng.choice(rows, len(rows), p=self._chance)
        for rows in np.array_split(order, len(self))[start:]:
            pixels, partners, share = augmentation.treated(
                self._fetch, rows, among=self.pictures.indices, seed=seed, epoch=epoch
            )
            mixed = None if partners is None or share is None else Mixed(self._labels(partners), share)
            yield self.contract.tensor(pixels), self._labels(rows), mixed

    def _fetch(self, rows: np.ndarray) -> torch.Tensor:
        if self._resident is not None:
            return self._resident[torch.from_numpy(self._row[rows]).to(self.device)]
        pixels = self.pictures.pixels[rows]
        self._held += pixels.nbytes
        if self._held > _HELD:
            let_go(self.pictures.pixels)
            self._held = 0
        return torch.from_numpy(pixels).to(self.device)

    def _labels(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.pictures.labels[rows]).to(self.device)
