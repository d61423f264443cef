"""How the first weights of a network written as text are drawn: the word `init:he` in front of its layers.

Batch norms start as torch starts them, whatever the word is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def initialize(network: nn.Module, init: str) -> None:
    """Draws the weights of every convolution and dense layer anew, from torch's generator; `default` leaves torch's."""
    draw = INITS[init]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                draw(module)


def _default(module: nn.Conv2d | nn.Linear) -> None:
    """torch's own: uniform within 1 / sqrt(inputs of a neuron)."""


def _he(module: nn.Conv2d | nn.Linear) -> None:
    """Normal with variance 2 / inputs of a neuron, made for ReLU. Source: He et al. 2015, arXiv 1502.01852."""
    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    _no_bias(module)


def _xavier(module: nn.Conv2d | nn.Linear) -> None:
    """Uniform with variance 2 / (inputs + outputs), made for tanh. Source: Glorot & Bengio 2010, AISTATS."""
    nn.init.xavier_uniform_(module.weight)
    _no_bias(module)


def _identity(module: nn.Conv2d | nn.Linear) -> None:
    """Filters of a convolution hand their channel on, as many as there are channels; the rest stays torch's own."""
    if isinstance(module, nn.Conv2d):
        channels = module.weight.shape[1]  # of one group
        for filters in module.weight.chunk(module.groups):
            nn.init.dirac_(filters[:channels])
        _no_bias(module)


def _zeros(module: nn.Conv2d | nn.Linear) -> None:
    """All weights zero, to show what happens: every neuron of a layer stays like every other, and hardly any learns."""
    nn.init.zeros_(module.weight)
    _no_bias(module)


def _no_bias(module: nn.Conv2d | nn.Linear) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)


INITS: dict[str, Callable[[nn.Conv2d | nn.Linear], None]] = {
    "default": _default,
    "he": _he,
    "xavier": _xavier,
    "identity": _identity,
    "zeros": _zeros,
}
