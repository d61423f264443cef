"""Augmentation of uint8 batches on the device, and the measurement that decides whether mirroring keeps the meaning.

The random numbers of a picture are a hash of (seed, epoch, picture), not the state of a generator: the same picture gets
the same treatment in the same epoch whatever the batch size, the number of threads, or the point of a resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

_FEWEST = 50  # pictures, below which mirroring is not measured
_FLIP, _FLIP_UP, _SHIFT_Y, _SHIFT_X, _BRIGHTNESS, _CONTRAST = range(6)  # streams of random numbers


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training picture. `flip` is none, horizontal or both; `shift` is in pixels; `color` is a share."""

    flip: str = "none"
    shift: int = 0
    color: float = 0.0

    def __call__(self, batch: torch.Tensor, indices: np.ndarray, *, seed: int, epoch: int) -> torch.Tensor:
        """uint8 (N, H, W, C), with the pictures' indices (N,), -> uint8 of the same shape."""

        def uniform(stream: int) -> np.ndarray:
            return hashed_uniform(seed, epoch, indices, stream)

        if self.shift:
            batch = _shifted(batch, self.shift, uniform(_SHIFT_Y), uniform(_SHIFT_X))
        if self.flip in ("horizontal", "both"):
            # alternating (Jordan 2024): a coin a picture, turned over every epoch, so both sides are seen equally often
            coin = hashed_uniform(seed, 0, indices, _FLIP) < 0.5
            batch = _flipped(batch, coin ^ bool(epoch % 2), axis=2)
        if self.flip == "both":
            batch = _flipped(batch, uniform(_FLIP_UP) < 0.5, axis=1)
        if self.color:
            batch = _recolored(batch, self.color, uniform(_BRIGHTNESS), uniform(_CONTRAST))
        return batch

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `Augmentation(**data)` gives it back."""
        return asdict(self)


def hashed_uniform(seed: int, epoch: int, indices: np.ndarray, stream: int) -> np.ndarray:
    """float64 (N,) in [0, 1), a pure function of its arguments. Source: SplitMix64, Steele et al. 2014."""
    with np.errstate(over="ignore"):
        x = np.full(len(indices), seed, np.uint64)
        for part in (np.uint64(epoch), np.uint64(stream), indices.astype(np.uint64)):
            x = _splitmix(x ^ part)
    return (x >> np.uint64(11)) * 2.0**-53


def _splitmix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _shifted(batch: torch.Tensor, shift: int, u_y: np.ndarray, u_x: np.ndarray) -> torch.Tensor:
    """Each picture moved by -shift..shift pixels in both directions; what comes in is the mirror image of the border."""
    n, height, width, channels = batch.shape
    move_y = torch.from_numpy((u_y * (2 * shift + 1)).astype(np.int64) - shift).to(batch.device)
    move_x = torch.from_numpy((u_x * (2 * shift + 1)).astype(np.int64) - shift).to(batch.device)
    rows = _reflected(torch.arange(height, device=batch.device) + move_y[:, None], height)  # (N, H)
    columns = _reflected(torch.arange(width, device=batch.device) + move_x[:, None], width)  # (N, W)
    flat = torch.arange(n, device=batch.device)[:, None, None] * (height * width) + rows[:, :, None] * width
    flat = (flat + columns[:, None, :]).flatten()  # (N * H * W,)
    return batch.reshape(-1, channels).index_select(0, flat).view(n, height, width, channels)


def _reflected(position: torch.Tensor, size: int) -> torch.Tensor:
    period = max(2 * size - 2, 1)
    position = position.abs() % period
    return torch.where(position < size, position, period - position)


def _flipped(batch: torch.Tensor, which: np.ndarray, axis: int) -> torch.Tensor:
    mask = torch.from_numpy(which).to(batch.device)
    return torch.where(mask.view(-1, 1, 1, 1), batch.flip(axis), batch)


def _recolored(batch: torch.Tensor, share: float, u_brightness: np.ndarray, u_contrast: np.ndarray) -> torch.Tensor:
    """Contrast about each picture's own mean, then brightness, each by a factor of 1-share..1+share; clipped to 0..255."""
    factors = torch.from_numpy(1 + share * (2 * np.stack([u_brightness, u_contrast]) - 1)).float().to(batch.device)
    brightness, contrast = factors[..., None, None, None]
    x = batch.float()
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean).mul(brightness).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class MirrorTest:
    """How well mirrored pictures are told apart by what unmirrored ones teach; both accuracies on the same pictures."""

    accuracy: float
    mirrored: float
    n: int

    @property
    def keeps_meaning(self) -> bool:
        """Mirrored pictures lose less than a tenth, or less than twice the figure's error; False when nothing was measured."""
        if self.n == 0:
            return False
        loss = self.accuracy - self.mirrored
        error = (2 * self.accuracy * (1 - self.accuracy) / self.n) ** 0.5
        return loss <= max(0.1 * self.accuracy, 2 * error)

    def to_dict(self) -> Mapping[str, float | int | bool]:
        """Plain JSON data."""
        return {**asdict(self), "keeps_meaning": self.keeps_meaning}


def mirror_test(pixels: np.ndarray, labels: np.ndarray, indices: np.ndarray, *, seed: int) -> MirrorTest:
    """Asks a nearest-neighbour classifier on small versions of the pictures: do mirrored ones still look like their class?

    A photograph and its mirror image are equally likely to have been taken, so nothing is lost; a mirrored 7 is no 7.
    uint8 (N, H, W, C), int (N,), and the indices that may be used (the training part); at most 3,000 are.
    """
    from sklearn.neighbors import KNeighborsClassifier

    chosen = np.random.default_rng(seed).permutation(np.sort(indices))[:3000]
    chosen = np.sort(chosen)
    if len(chosen) < _FEWEST:
        return MirrorTest(accuracy=0.0, mirrored=0.0, n=0)
    small = torch.from_numpy(pixels[chosen]).permute(0, 3, 1, 2).float()
    side = (min(16, small.shape[2]), min(16, small.shape[3]))
    small = torch.nn.functional.interpolate(small, side, mode="bilinear", antialias=True)
    small = (small - small.mean((1, 2, 3), keepdim=True)) / (small.std((1, 2, 3), keepdim=True) + 1)
    answers, where = labels[chosen], np.random.default_rng(seed + 1).random(len(chosen)) < 2 / 3
    model = KNeighborsClassifier(n_neighbors=5).fit(small[where].flatten(1).numpy(), answers[where])
    plain, mirrored = (model.score(x[~where].flatten(1).numpy(), answers[~where]) for x in (small, small.flip(3)))
    return MirrorTest(accuracy=float(plain), mirrored=float(mirrored), n=int((~where).sum()))
