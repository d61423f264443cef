"""Worked numbers from teaching material: output sizes, parameter counts, the feature maps of AlexNet."""

from __future__ import annotations

import pytest
import timm
import torch

from pellucid.errors import ShapeError
from pellucid.model.arithmetic import conv_parameters, dense_parameters, output_size, same_padding
from pellucid.model.layer import Layer
from pellucid.model.spec import build_spec, parse_spec
from pellucid.model.summary import num_parameters, summarize


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "stride", "expected"),
    [
        (7, 3, 0, 1, 5),
        (7, 5, 0, 1, 3),
        (7, 3, 1, 1, 7),
        (9, 3, 0, 1, 7),
        (224, 11, 2, 4, 55),
        (32, 2, 0, 2, 16),
        (5, 3, 2, 1, 7),
    ],
)
def test_output_sizes(size, kernel, padding, stride, expected):
    assert output_size(size, kernel, padding=padding, stride=stride) == expected


def test_an_input_that_the_kernel_does_not_fit_is_an_error_that_names_the_four_numbers():
    with pytest.raises(ShapeError, match=r"K = 5 .* W = 3 .* P = 0 and stride S = 1"):
        output_size(3, 5)


def test_a_pooling_that_keeps_the_ragged_edge_takes_7_to_4_to_2():
    assert output_size(7, 2, stride=2, ceil_mode=True) == 4
    assert output_size(4, 2, stride=2, ceil_mode=True) == 2


def test_same_padding():
    assert (same_padding(3), same_padding(5)) == (1, 2)


def test_wide_padding_lets_5_pixels_grow_to_7():
    (layer,) = parse_spec("conv1,k3,pwide").layers
    assert layer.output((1, 5, 5)) == (1, 7, 7)


def test_pooling_32x32_in_2x2_windows_gives_16x16_without_parameters():
    pool = Layer("pool", kernel=(2, 2), stride=(2, 2))
    assert pool.output((1, 32, 32)) == (1, 16, 16)
    assert pool.parameters((1, 32, 32)) == 0


def test_parameters_of_dense_layers():
    assert dense_parameters(784, 20) + dense_parameters(20, 10) == 15_910
    assert dense_parameters(1_000_000, 5_000, bias=False) == 5_000_000_000
    assert dense_parameters(64 * 64 * 3, 100, bias=False) == 1_228_800
    assert dense_parameters(1000 * 1000 * 3, 1000, bias=False) == 3_000_000_000
    assert dense_parameters(28 * 28 * 3, 1, bias=False) == 2_352
    assert dense_parameters(200 * 200 * 3, 1, bias=False) == 120_000


def test_parameters_of_five_3x3_filters_on_one_channel():
    assert conv_parameters(1, 5, (3, 3)) == 50


def test_parameters_of_a_small_network():
    spec = parse_spec("conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu")
    network = build_spec(spec, input_shape=(3, 32, 32), num_classes=10)
    assert num_parameters(network) == 40_682
    assert summarize(network, (3, 32, 32)).parameters == 40_682


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("resnet50", 25_557_032),
        ("legacy_xception", 22_855_952),
    ],
)
def test_parameters_of_published_networks(name, parameters):
    with torch.device("meta"):
        network = timm.create_model(name)
    assert num_parameters(network) == parameters
    size = 299 if "xception" in name else 224
    assert sum(row.parameters for row in summarize(network, (3, size, size)).layers) == parameters


def test_feature_maps_of_alexnet():
    alexnet = parse_spec(
        "conv96,k11,s4,p2 pool,k3,s2 conv256,k5,psame pool,k3,s2 "
        "conv384,psame conv384,psame conv256,psame pool,k3,s2 dense4096 dense4096"
    )
    rows = alexnet.shapes((3, 224, 224), num_classes=1000)
    sliding = [row.layer for row in rows if row.layer.kind in ("conv", "pool")]
    assert [layer.kernel[0] for layer in sliding] == [11, 3, 5, 3, 3, 3, 3, 3]
    assert [layer.stride[0] for layer in sliding] == [4, 2, 1, 2, 1, 1, 1, 2]
    assert [row.output for row in rows if len(row.output) == 3] == [
        (96, 55, 55),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
    ]
    assert [row.output for row in rows if len(row.output) == 1] == [(9216,), (4096,), (4096,), (1000,)]
