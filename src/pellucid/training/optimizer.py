"""Optimizer, learning-rate schedule and weight average."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_NORM_BIAS_SCALE = 64.0  # airbench94: biases of batch norms without scales learn faster
_FILTER_SCALE = 0.38  # measured in docs/decisions/003-fastnet.md
_FILTER_MOMENTUM = 0.6  # as in airbench94_muon
_AVERAGED_STEPS = 0.06  # the average looks back over about this share of the run


class Muon(torch.optim.SGD):
    """SGD whose groups with `filters` take steps of one size in all directions, on filters of a constant norm.

    The momentum of a filter bank, as a matrix (out, in * height * width), has its singular values brought near 1; the bank
    itself is kept at the norm sqrt(out), which the batch norm behind it takes out again.
    Source: Jordan et al. 2024, "Muon", as in airbench94_muon; torch.optim.Muon takes matrices only.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for bank in group["params"] if group["filters"] else ():
                if bank.grad is None:
                    continue
                sum_ = self.state[bank].setdefault("past_gradients", torch.zeros_like(bank))
                sum_.mul_(_FILTER_MOMENTUM).add_(bank.grad)
                matrix = bank.grad.add(sum_, alpha=_FILTER_MOMENTUM).flatten(1)
                bank.grad = orthogonalized(matrix).view_as(bank)
                bank.mul_(len(bank) ** 0.5 / bank.norm())
        return super().step(closure)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """(M, N) -> (M, N) with the same singular vectors and singular values near 1: from 0.7 to 1.2 where they were above a
    hundredth of the matrix' norm.

    Three Newton-Schulz steps with Jordan's coefficients, worked out on the Gram matrix, which is the smaller one.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalized(matrix.T).T
    matrix = matrix.float() / matrix.norm().clamp(min=1e-7)
    gram, whole = matrix @ matrix.T, torch.eye(len(matrix), device=matrix.device)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(3):
        step = a * torch.eye(len(matrix), device=matrix.device) + b * gram + c * gram @ gram
        gram, whole = step @ gram @ step, step @ whole
    return whole @ matrix


def make_optimizer(
    module: nn.Module,
    name: str,
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    layer_rates: Mapping[str, float] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, Muon, or AdamW. Weight decay acts on weights, not on biases and norms.

    With sgd and muon the rate of batch norm biases is 64 times the others' where the norm has no scale of its own (fastnet);
    with muon the rate of the filters before such norms is 0.38 of the others'. `layer_rates` are shares of the rate by the
    names of layers; those with 0 do not learn.
    """
    shares = {
        parameter: layer_rates.get(layer_name, 1.0)
        for layer_name, layer in module.named_modules()
        for parameter in layer.parameters(recurse=False)
    }
    biases, norm_biases, weights, filters = [], [], [], []
    frozen_scales = any(_has_frozen_scale(layer) for layer in module.modules())
    for layer in module.modules():
        for parameter_name, parameter in layer.named_parameters(recurse=False):
            if not parameter.requires_grad or not shares[parameter]:
                continue
            if _has_frozen_scale(layer) and parameter_name == "bias":
                norm_biases.append(parameter)
            elif parameter.ndim <= 1:
                biases.append(parameter)
            elif name == "muon" and frozen_scales and parameter.ndim == 4:
                filters.append(parameter)
            else:
                weights.append(parameter)
    scale = 1.0 if name == "adamw" else _NORM_BIAS_SCALE
    groups: list[dict[str, Any]] = [
        {"params": weights, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": biases, "lr": learning_rate, "weight_decay": 0.0},
        {"params": norm_biases, "lr": learning_rate * scale, "weight_decay": weight_decay / scale},
        {"params": filters, "lr": learning_rate * _FILTER_SCALE, "weight_decay": 0.0, "momentum": 0.0, "filters": True},
    ]
    groups = [
        {"filters": False} | group | {"params": some, "lr": group["lr"] * share, "peak_lr": group["lr"] * share}
        for group in groups
        for share in sorted({shares[parameter] for parameter in group["params"]}, reverse=True)
        if (some := [parameter for parameter in group["params"] if shares[parameter] == share])
    ]
    if name == "adamw":
        return torch.optim.AdamW(groups)
    kind = Muon if name == "muon" else torch.optim.SGD
    return kind(groups, momentum=momentum, nesterov=momentum > 0)


def _has_frozen_scale(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad


def learning_rate_share(progress: float, warmup: float, *, first: float = 0.2, last: float = 0.02) -> float:
    """Share of the peak rate at `progress` 0..1: straight up from `first` during `warmup`, then straight down to `last`.

    Source: the triangle of Page 2018, as in airbench94.
    """
    if progress < warmup:
        return first + (1 - first) * progress / warmup
    return last + (1 - last) * (1 - progress) / max(1 - warmup, 1e-9)


def set_learning_rate(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Sets every group to `share` of its peak; returns the rate of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share
    return optimizer.param_groups[0]["lr"]


def make_average(module: nn.Module, total_steps: int) -> AveragedModel:
    """An exponential moving average of weights and batch norm statistics over about 6 % of the run."""
    decay = min(max(1 - 1 / max(_AVERAGED_STEPS * total_steps, 1), 0.0), 0.9998)
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
