"""Holes in a picture filled so that nothing is seen of what was there: the noisy linear imputation of ROAD.

A grey patch tells a network that something was cut out, and how large it was; a patch that flows from its surroundings does not.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

_NOISE = 2.55  # levels, 0.01 of the range
_LARGE = 128  # pixels of a side: from here on holes are filled at half the size
_COARSEST = 4  # pixels of a side
_STEPS = 40  # of conjugate gradients, on each of the sizes
_EXACT = 0.01  # sum of squares of what is left over, below which float32 makes nothing better


def impute(picture: np.ndarray, holes: np.ndarray, *, noise: float = _NOISE, seed: int = 0) -> np.ndarray:
    """`picture` uint8 (H, W, C) once for each of `holes`, bool (B, H, W), filled there -> uint8 (B, H, W, C).

    Each missing pixel is the weighted mean of its eight neighbors, missing ones too, and some Gaussian noise (standard deviation in
    levels). The equations are solved by conjugate gradients, from coarse to fine, in large pictures at half the size.
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
    if min(pixels.shape[2:]) <= _COARSEST:
        total = known.sum((2, 3), keepdim=True)
        guess = (pixels * known).sum((2, 3), keepdim=True) / total.clamp(min=1)
        guess = guess.where(total > 0, 127.5)  # where nothing is left to go by: grey
    else:
        share = F.avg_pool2d(known, 2, ceil_mode=True)
        coarse = _fill(F.avg_pool2d(pixels * known, 2, ceil_mode=True) / share.clamp(min=1e-6), share == 0)
        guess = F.interpolate(coarse, size=pixels.shape[2:], mode="bilinear")
    guess = torch.where(unknown, guess, pixels)
    return guess if max(pixels.shape[2:]) > _LARGE else _solve(guess, unknown.float())


def _solve(u: torch.Tensor, unknown: torch.Tensor) -> torch.Tensor:
    """Conjugate gradients on the difference of a pixel and its neighbors, weighted 1/6, and 1/12 across the corners (times 12
    here); at the edge only those that are there count. It is to be 0 where `unknown` is 1."""
    all_around = _around(torch.ones(1, 1, *u.shape[2:]))
    left = (_around(u) - all_around * u) * unknown
    direction, size = left, _dot(left, left)
    for _ in range(_STEPS):
        bent = (all_around * direction - _around(direction)) * unknown
        step = (size / _dot(direction, bent).clamp(min=1e-12)).where(size > _EXACT, 0)
        u, left = u + step * direction, left - step * bent
        size, before = _dot(left, left), size
        direction = left + size / before.clamp(min=1e-12) * direction
    return u


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum((2, 3), keepdim=True)


def _around(u: torch.Tensor) -> torch.Tensor:
    rows = 2 * u
    rows[..., 1:, :] += u[..., :-1, :]
    rows[..., :-1, :] += u[..., 1:, :]
    both = 2 * rows
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return both.sub_(u, alpha=4)
