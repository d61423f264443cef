"""Optimizer groups, schedule and weight average against hand computation and NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pellucid.model.fastnet import FastNet
from pellucid.training.optimizer import (
    learning_rate_share,
    make_average,
    make_optimizer,
    orthogonalized,
    set_learning_rate,
)


def rates(module: nn.Module, name: str) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of every parameter that the optimizer holds, by name."""
    optimizer = make_optimizer(module, name, learning_rate=0.5, weight_decay=0.064, momentum=0.9)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len({id(parameter) for parameter in held})
    names = {id(parameter): n for n, parameter in module.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_in_fastnet_the_biases_of_norms_learn_64_times_as_fast() -> None:
    module = FastNet(input_shape=(1, 8, 8), num_classes=3, widths=(4, 8))
    found = rates(module, "sgd")
    weights = {"head.weight", *(f"blocks.{b}.conv{c}.weight" for b in (0, 1) for c in (1, 2))}
    norm_biases = {f"blocks.{b}.norm{c}.bias" for b in (0, 1) for c in (1, 2)}
    assert found.keys() == weights | norm_biases  # neither the whitening nor the scales of norms
    assert {found[name] for name in weights} == {(0.5, 0.064)}
    assert {found[name] for name in norm_biases} == {(32.0, 0.001)}


def test_muon_learns_the_filters_of_fastnet_in_another_way() -> None:
    found = rates(FastNet(input_shape=(1, 8, 8), num_classes=3, widths=(4, 8)), "muon")
    assert {name for name, (rate, _) in found.items() if rate == pytest.approx(0.19)} == {
        f"blocks.{b}.conv{c}.weight" for b in (0, 1) for c in (1, 2)
    }
    assert found["head.weight"] == (0.5, 0.064)
    assert found["blocks.0.norm1.bias"] == (32.0, 0.001)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_two_steps_of_muon_by_singular_values(memory_format: torch.memory_format) -> None:
    """Momentum and Nesterov by hand, Jordan's polynomial on the singular values of NumPy; the bank at the norm sqrt(out)."""
    torch.manual_seed(0)
    module = FastNet(input_shape=(3, 8, 8), num_classes=3, widths=(6,)).to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = make_optimizer(module, "muon", learning_rate=0.5, weight_decay=0.01, momentum=0.9)
    bank = module.blocks[0].conv1.weight
    expected, past = bank.detach().double().numpy(), 0.0
    for _ in range(2):
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        gradient = bank.grad.double().numpy()
        optimizer.step()
        past = 0.6 * past + gradient
        rows = (gradient + 0.6 * past).reshape(6, -1)
        left, values, right = np.linalg.svd(rows, full_matrices=False)
        values /= np.linalg.norm(values)
        for _ in range(3):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        update = (left * values @ right).reshape(expected.shape)
        expected = expected * 6**0.5 / np.linalg.norm(expected) - 0.5 * 0.38 * update
        np.testing.assert_allclose(bank.detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 30), (30, 4), (8, 8)])
def test_orthogonalized_keeps_directions_and_levels_sizes(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    sizes = left.T @ orthogonalized(matrix) @ right.T
    diagonal = sizes.diagonal()
    assert ((diagonal > 0.5) & (diagonal < 1.3)).all()
    assert (sizes - torch.diag(diagonal)).abs().max() < 1e-3
    assert torch.equal(orthogonalized(torch.zeros(shape)), torch.zeros(shape))


def test_adamw_learns_all_at_one_rate() -> None:
    found = rates(FastNet(input_shape=(1, 8, 8), num_classes=3, widths=(4,)), "adamw")
    assert set(found.values()) == {(0.5, 0.064)}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_ordinary_biases_and_norms_do_not_decay(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    found = rates(module, name)
    assert found == {
        "0.weight": (0.5, 0.064), "3.weight": (0.5, 0.064),
        "0.bias": (0.5, 0.0), "1.weight": (0.5, 0.0), "1.bias": (0.5, 0.0), "3.bias": (0.5, 0.0),
    }  # fmt: skip


def test_one_step_of_sgd_by_hand() -> None:
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.bias.fill_(3.0)
    optimizer = make_optimizer(module, "sgd", learning_rate=0.1, weight_decay=0.5, momentum=0.9)
    module.weight.grad, module.bias.grad = torch.tensor([[1.0]]), torch.tensor([1.0])
    optimizer.step()
    # Nesterov: the first step moves by rate * (1 + momentum) * gradient, decay being part of the weight's gradient
    assert module.weight.item() == pytest.approx(2.0 - 0.1 * 1.9 * (1.0 + 0.5 * 2.0))
    assert module.bias.item() == pytest.approx(3.0 - 0.1 * 1.9 * 1.0)


def test_without_momentum_sgd_is_plain() -> None:
    optimizer = make_optimizer(nn.Linear(1, 1), "sgd", learning_rate=0.1, weight_decay=0.0, momentum=0.0)
    assert not optimizer.defaults["nesterov"]


@given(st.floats(0, 1), st.floats(0.01, 0.99))
@settings(max_examples=50)
def test_the_schedule_is_a_triangle(progress: float, warmup: float) -> None:
    expected = np.interp(progress, [0, warmup, 1], [0.2, 1, 0.02])
    assert learning_rate_share(progress, warmup) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("warmup", "start", "end"), [(0.0, 1.0, 0.02), (1.0, 0.2, 1.0)])
def test_a_schedule_that_only_falls_or_only_rises(warmup: float, start: float, end: float) -> None:
    assert learning_rate_share(0.0, warmup) == pytest.approx(start)
    assert learning_rate_share(1 - 1e-9, warmup) == pytest.approx(end, abs=1e-6)


def test_every_group_gets_its_share_of_its_own_peak() -> None:
    module = FastNet(input_shape=(1, 8, 8), num_classes=3, widths=(4,))
    optimizer = make_optimizer(module, "sgd", learning_rate=0.5, weight_decay=0.0, momentum=0.9)
    for share in (0.2, 1.0, 0.1):  # of the peak, not of the rate before
        assert set_learning_rate(optimizer, share) == pytest.approx(0.5 * share)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5 * share, 32 * share])


def test_the_average_is_an_exponential_one_of_weights_and_norm_statistics() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = make_average(module, total_steps=100)
    decay = 1 - 1 / 6  # 6 % of 100 steps
    expected: dict[str, np.ndarray] = {}
    for _ in range(5):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module(torch.randn(16, 3))  # moves the running statistics
        average.update_parameters(module)
        for name, tensor in module.state_dict().items():
            now = tensor.double().numpy()
            expected[name] = decay * expected[name] + (1 - decay) * now if name in expected else now.copy()
    found = average.module.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        np.testing.assert_allclose(found[name].numpy(), expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(found["1.running_mean"], module[1].running_mean)


def test_in_a_short_run_the_average_is_the_last_weights() -> None:
    module = nn.Linear(2, 2)
    average = make_average(module, total_steps=10)
    for _ in range(3):
        with torch.no_grad():
            module.weight.add_(1.0)
        average.update_parameters(module)
    assert torch.equal(average.module.weight, module.weight)


def test_the_average_leaves_the_module_alone() -> None:
    module = nn.Linear(2, 2)
    before = copy.deepcopy(module.state_dict())
    make_average(module, total_steps=1000).update_parameters(module)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
