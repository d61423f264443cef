"""How first weights are drawn: the spread that each source asks for, what identity hands on, what zeros cannot learn."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.model.initialization import INITS
from pellucid.model.spec import build_spec, parse_spec

TEXT = "conv64 relu conv128,g2 relu globalpool dense256 relu"


def network(init: str, text: str = TEXT) -> nn.Module:
    torch.manual_seed(0)
    return build_spec(parse_spec(f"init:{init} {text}"), input_shape=(32, 8, 8), num_classes=100)


# inputs and outputs of one position's weights: kernel pixels times channels of a group
FANS = {"conv1": (9 * 32, 9 * 64), "conv2": (9 * 32, 9 * 128), "dense1": (128, 256), "head": (256, 100)}


@pytest.mark.parametrize("layer", FANS)
@pytest.mark.parametrize(
    ("init", "deviation", "largest"),
    [
        ("he", lambda i, o: sqrt(2 / i), lambda i, o: float("inf")),
        ("xavier", lambda i, o: sqrt(2 / (i + o)), lambda i, o: sqrt(6 / (i + o))),
        ("default", lambda i, o: sqrt(1 / (3 * i)), lambda i, o: sqrt(1 / i)),
    ],
)
def test_the_spread_of_the_weights(init, deviation, largest, layer):
    module = network(init).get_submodule(layer)
    assert module.weight.std().item() == pytest.approx(deviation(*FANS[layer]), rel=0.03)
    assert abs(module.weight.mean().item()) < 0.03 * deviation(*FANS[layer])
    assert module.weight.abs().max().item() <= largest(*FANS[layer]) * 1.000001
    assert bool(module.bias.any()) == (init == "default")


def test_he_keeps_the_size_of_signals_through_many_layers_where_the_default_loses_it():
    text = "10x[dense256 relu]"
    x = torch.randn(64, 32, 8, 8)
    sizes = {init: network(init, text)[:-1](x).pow(2).mean().item() for init in ("he", "default")}
    assert 0.2 < sizes["he"] < 5
    assert sizes["default"] < 0.01


def test_identity_hands_every_channel_on_and_leaves_the_other_filters():
    x = torch.randn(2, 32, 8, 8)
    module = network("identity", "conv40,psame")
    torch.testing.assert_close(module.conv1(x)[:, :32], x)
    assert module.conv1.weight[32:].std() > 0.01
    assert module.head.bias.any()

    grouped = network("identity", "conv96,psame,g32")
    torch.testing.assert_close(grouped.conv1(x)[:, ::3], x)  # the first of three filters of each group
    fewer = network("identity", "conv8,k5,psame")
    torch.testing.assert_close(fewer.conv1(x), x[:, :8])


def test_from_zeros_only_the_biases_of_the_head_get_a_gradient():
    module = network("zeros")
    logits = module(torch.randn(8, 32, 8, 8))
    assert not logits.any()
    F.cross_entropy(logits, torch.arange(8)).backward()
    assert {name for name, p in module.named_parameters() if p.grad.any()} == {"head.bias"}


@pytest.mark.parametrize("init", INITS)
def test_the_same_seed_draws_the_same_and_every_layer_of_a_block_is_drawn(init):
    text = "conv32,psame bn residual,project[conv16,psame relu]"
    first, second = network(init, text).state_dict(), network(init, text).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    default = network("default", text).state_dict()
    changed = {name for name in first if not torch.equal(first[name], default[name])}
    convolutions = {f"{n}.weight" for n in ("conv1", "residual1.body.conv1", "residual1.shortcut")}
    assert (convolutions <= changed) == (init != "default")
    assert not any("bn" in name for name in changed)


def test_default_is_what_torch_draws():
    torch.manual_seed(0)
    peer = nn.Conv2d(32, 64, 3)
    assert torch.equal(network("default").conv1.weight, peer.weight)
    assert str(parse_spec("init:default conv8")) == "conv8"
    assert str(parse_spec("init:he conv8")) == "init:he conv8"
