"""Worked numbers from teaching material: output sizes and parameter counts."""

from __future__ import annotations

import pytest

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
