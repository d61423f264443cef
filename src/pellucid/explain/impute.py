"""Holes in a picture filled so that nothing is seen of what was there: the noisy linear imputation of ROAD.

A grey patch tells a network that something was cut out, and how large it was; a patch that flows from its surroundings does not.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

_NOISE = 2.55  # levels, 0.01 of the range
_LARGE = 128  # pixels of a side: from here on holes are filled at half the size
_COARSEST = 16  # pixels of a side
_CYCLES, _SWEEPS, _LAST_SWEEPS, _DAMPING = 8, 2, 60, 0.9


def impute(picture: np.ndarray, holes: np.ndarray, *, noise: float = _NOISE, seed: int = 0) -> np.ndarray:
    """`picture` uint8 (H, W, C) once for each of `holes`, bool (B, H, W), filled there -> uint8 (B, H, W, C).

    Each missing pixel is the weighted mean of its eight neighbors, missing ones too, and some Gaussian noise (standard deviation in
    levels). The equations are solved by multigrid, in large pictures at half the size, to an error like that of the noise.
    Source: Rong et al. 2022, arXiv 2202.00449, section 4.2.
    """
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()  # (H, W, C) -> (1, C, H, W)
    unknown = torch.from_numpy(holes)[:, None]  # (B, 1, H, W)
    filled = _fill(pixels.expand(len(holes), -1, -1, -1), unknown)
    random = torch.randn(filled.shape, generator=torch.Generator().manual_seed(seed)) * noise
    filled = torch.where(unknown, filled + random, pixels).round_().clamp_(0, 255)
    return filled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _fill(pixels: torch.Tensor, unknown: torch.Tensor) -> torch.Tensor:
    """float (B, C, H, W) with the pixels that are `unknown`, bool (B, 1, H, W), as the mean of their neighbors."""
    known = (~unknown).float()
    if max(pixels.shape[2:]) > _LARGE:
        share = F.avg_pool2d(known, 2, ceil_mode=True)
        coarse = _fill(F.avg_pool2d(pixels * known, 2, ceil_mode=True) / share.clamp(min=1e-6), share == 0)
        guess = F.interpolate(coarse, size=pixels.shape[2:], mode="bilinear")
        return _relax(torch.where(unknown, guess, pixels), None, unknown.float(), _SWEEPS)
    total = known.sum((2, 3), keepdim=True)
    mean = (pixels * known).sum((2, 3), keepdim=True) / total.clamp(min=1)
    filled = torch.where(unknown, mean.where(total > 0, 127.5), pixels)  # where nothing is left to go by: grey
    for _ in range(_CYCLES):
        filled = _cycle(filled, None, unknown.float())
    return filled


def _cycle(u: torch.Tensor, right: torch.Tensor | None, unknown: torch.Tensor) -> torch.Tensor:
    """A V-cycle on u - mean(u) = right where `unknown` is 1: what is left over is solved on half the grid."""
    if max(u.shape[2:]) <= _COARSEST:
        return _relax(u, right, unknown, _LAST_SWEEPS)
    u = _relax(u, right, unknown, _SWEEPS)
    over = _mean(u).sub_(u)
    over = (over if right is None else over.add_(right)).mul_(unknown)
    inside = -F.max_pool2d(
        -unknown, 3, stride=1, padding=1
    )  # a hole that is too large on the half grid would not converge
    within = (F.avg_pool2d(inside, 2, ceil_mode=True) == 1).float()
    coarse = 4 * F.avg_pool2d(over, 2, ceil_mode=True)  # the same surface bends four times as much from pixel to pixel
    better = _cycle(torch.zeros_like(coarse), coarse, within)
    u = u + unknown * F.interpolate(better, size=u.shape[2:], mode="bilinear")
    return _relax(u, right, unknown, _SWEEPS)


def _relax(u: torch.Tensor, right: torch.Tensor | None, unknown: torch.Tensor, sweeps: int) -> torch.Tensor:
    """Damped Jacobi sweeps."""
    step = unknown * _DAMPING
    for _ in range(sweeps):
        change = _mean(u).sub_(u)
        u = torch.addcmul(u, change if right is None else change.add_(right), step)
    return u


def _mean(u: torch.Tensor) -> torch.Tensor:
    """Of the eight neighbors, 1/6 each and diagonal ones 1/12; at the edge of those that are there, in the same proportions."""
    return _around(u).div_(_around(torch.ones(1, 1, *u.shape[2:])))


def _around(u: torch.Tensor) -> torch.Tensor:
    rows = 2 * u
    rows[..., 1:, :] += u[..., :-1, :]
    rows[..., :-1, :] += u[..., 1:, :]
    both = 2 * rows
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return both.sub_(u, alpha=4)
