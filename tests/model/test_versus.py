"""What convolutions save, against fully connected layers that are built and counted."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from pellucid.model.describe import versus_dense_of
from pellucid.model.spec import build_spec, parse_spec
from pellucid.model.summary import num_parameters
from pellucid.model.versus import versus_dense


def test_the_fully_connected_layer_between_the_same_maps():
    spec = parse_spec("conv4,k5,s2 relu pool residual[conv4,psame,g2 bn] dense9")
    network = build_spec(spec, input_shape=(3, 16, 12), num_classes=2)
    first, second = versus_dense(network, (3, 16, 12)).rows
    assert (first.name, second.name) == ("conv1", "residual1.body.conv1")
    x = torch.zeros(1, 3, 16, 12)
    for row, before, conv in (
        (first, x, network.conv1),
        (second, network[:3](x), network.residual1.body.conv1),
    ):
        after = conv(before)
        assert (row.input, row.output) == (before.shape[1:], after.shape[1:])
        assert row.dense_parameters == num_parameters(nn.Linear(before.numel(), after.numel()))
        assert row.parameters == num_parameters(conv)
        assert row.ratio == row.dense_parameters / row.parameters


def test_the_last_convolution_of_lenet_sees_all_and_saves_nothing():
    *_, last = versus_dense_of("lenet").rows
    assert (last.parameters, last.dense_parameters, last.ratio) == (48_120, 48_120, 1)


def test_the_table_and_the_json():
    versus = versus_dense_of("tutorial-16-32-64", num_classes=10)
    data = versus.to_dict()
    assert json.loads(json.dumps(data))[0]["dense_parameters"] == (3 * 32 * 32 + 1) * 16 * 30 * 30
    lines = str(versus).splitlines()
    assert lines[2].split() == ["conv1", "3x32x32", "16x30x30", "448", "44,251,200", "98,775"]
    assert lines[-1].split()[0] == "total"
    assert versus_dense(nn.Flatten(), (1, 2, 2)).rows == ()
    assert "no convolution" in str(versus_dense(nn.Flatten(), (1, 2, 2)))
    assert len(versus_dense(nn.Conv2d(1, 1, 1), (1, 2, 2)).rows) == 1


@pytest.mark.parametrize("name", ["resnet50", "xception"])
def test_published_networks_have_a_row_for_each_convolution(name):
    versus = versus_dense_of(name)
    assert len({row.name for row in versus.rows}) == len(versus.rows) > 50
    assert all(row.ratio > 1 for row in versus.rows)
