"""Optimizer, learning-rate schedule and weight average."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_NORM_BIAS_SCALE = 64.0  # airbench94: biases of batch norms without scales learn faster
_AVERAGED_STEPS = 0.06  # the average looks back over about this share of the run


def make_optimizer(
    module: nn.Module, name: str, *, learning_rate: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW. Weight decay acts on weights, not on biases and norms.

    With sgd the rate of batch norm biases is 64 times the others' where the norm has no scale of its own (fastnet).
    """
    biases, norm_biases, weights = [], [], []
    for layer in module.modules():
        for parameter_name, parameter in layer.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            frozen_scale = isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad
            if frozen_scale and parameter_name == "bias":
                norm_biases.append(parameter)
            elif parameter.ndim <= 1:
                biases.append(parameter)
            else:
                weights.append(parameter)
    scale = _NORM_BIAS_SCALE if name == "sgd" else 1.0
    groups = [
        {"params": weights, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": biases, "lr": learning_rate, "weight_decay": 0.0},
        {"params": norm_biases, "lr": learning_rate * scale, "weight_decay": weight_decay / scale},
    ]
    groups = [group | {"peak_lr": group["lr"]} for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups)


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
