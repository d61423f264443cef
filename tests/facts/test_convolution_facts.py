"""Worked numbers from teaching material: convolutions and pooling by hand, hand-made kernels, activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.explain.kernels import KERNELS, convolve, pool
from pellucid.model.layer import Layer
from pellucid.model.modules import Step

SEVEN = [
    [1, 1, 1, 0, 0, 1, 1],
    [1, 1, 0, 1, 0, 1, 1],
    [1, 0, 0, 1, 1, 1, 0],
    [0, 0, 0, 0, 0, 1, 1],
    [1, 1, 0, 0, 0, 0, 1],
    [1, 0, 0, 1, 1, 1, 0],
    [1, 1, 1, 0, 0, 1, 1],
]
FIVE = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_a_smoothing_kernel_on_a_7x7_image():
    expected = [[6, 5, 4, 6, 6], [3, 3, 3, 6, 6], [3, 2, 2, 4, 5], [3, 2, 2, 4, 5], [6, 4, 3, 4, 5]]
    assert convolve(SEVEN, "smooth").tolist() == expected


@pytest.mark.parametrize("padding", [1, "same"])
def test_the_same_with_a_border_of_zeros(padding):
    assert convolve(SEVEN, "smooth", padding=padding).tolist() == [
        [4, 5, 4, 2, 3, 4, 4],
        [5, 6, 5, 4, 6, 6, 5],
        [3, 3, 3, 3, 6, 6, 5],
        [3, 3, 2, 2, 4, 5, 4],
        [3, 3, 2, 2, 4, 5, 4],
        [5, 6, 4, 3, 4, 5, 4],
        [3, 4, 3, 3, 4, 4, 3],
    ]


def test_a_plus_shaped_kernel():
    expected = [[3, 3, 2, 3, 4], [2, 1, 3, 3, 4], [1, 0, 1, 2, 3], [2, 1, 1, 1, 3], [3, 2, 2, 3, 3]]
    assert convolve(SEVEN, [[0, 1, 0], [1, 1, 1], [0, 1, 0]]).tolist() == expected


def test_a_diagonal_cross_with_stride_1_and_2():
    assert convolve(FIVE, CROSS).tolist() == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]
    assert convolve(FIVE, CROSS, stride=2).tolist() == [[4, 4], [2, 4]]


def test_one_position_of_an_edge_kernel():
    assert convolve([[134, 134, 117], [153, 144, 141], [152, 154, 150]], "sharpen").tolist() == [[138]]


def test_a_convolution_layer_computes_the_same():
    layer = Layer("conv", outputs=1, kernel=(3, 3), stride=(2, 2)).module((1, 5, 5)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[CROSS]]))
        layer.bias.zero_()
        assert layer(torch.tensor([[FIVE]], dtype=torch.float64))[0, 0].tolist() == [[4, 4], [2, 4]]


def test_max_pooling():
    image = [[1, 0, 2, 3], [4, 6, 6, 8], [3, 1, 1, 0], [1, 2, 2, 4]]
    assert pool(image, 2, stride=2).tolist() == [[6, 8], [3, 4]]
    assert pool(np.zeros((32, 32, 1)), 2, stride=2).shape == (16, 16, 1)


def test_the_hand_made_kernels():
    expected = {
        "smooth": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
        "gaussian-blur": [[0, 1, 0], [1, 4, 1], [0, 1, 0]],
        "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
        "sharpen-strong": [[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]],
        "blur": [[0, 0.2, 0], [0.2, 0.2, 0.2], [0, 0.2, 0]],
        "motion-blur-horizontal": [[0, 0, 0], [0.2, 0.2, 0.2], [0, 0, 0]],
        "edges": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
        "vertical-lines": [[0, 1, 0], [0, 1, 0], [0, 1, 0]],
        "horizontal-lines": [[0, 0, 0], [1, 1, 1], [0, 0, 0]],
    }
    assert {name: [list(row) for row in kernel] for name, kernel in KERNELS.items()} == expected


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", lambda x: (1 - np.exp(-2 * x)) / (1 + np.exp(-2 * x))),
        ("relu", lambda x: np.maximum(0, x)),
        ("softplus", lambda x: np.log(1 + np.exp(x))),
        ("leakyrelu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("step", lambda x: np.where(x >= 0, 1.0, 0.0)),
        ("softmax", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    ],
)
def test_activations(name, formula):
    x = np.array([[-3, -0.5, 0, 0.5, 3], [2, 1, 0, -1, -2]])
    found = Layer(name).module((5,))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, formula(x), atol=1e-12)


def test_softmax_on_maps_is_over_the_channels_of_each_position():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    found = Layer("softmax").module((3, 4, 5))(x)
    torch.testing.assert_close(found, x.exp() / x.exp().sum(1, keepdim=True))


def test_step_lets_no_gradient_through():
    x = torch.randn(3, requires_grad=True)
    assert not Step()(x).requires_grad
