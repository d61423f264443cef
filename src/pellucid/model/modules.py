"""Torch modules that a network as text needs and torch does not have."""

from __future__ import annotations

import torch
from torch import nn


class Step(nn.Module):
    """1 where the input is at least 0, else 0: the threshold of the first neurons. No gradient goes through it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x >= 0).to(x.dtype)


class Add(nn.Module):
    """The sum of two tensors of one shape."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class ResidualBlock(nn.Module):
    """body(x) + shortcut(x): (N, ...) -> (N, ...). The sum is a child, so that it can be looked at like any layer."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.add = Add()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.add(self.body(x), self.shortcut(x))
