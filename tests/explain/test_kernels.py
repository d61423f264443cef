"""Hand-made filters against scipy, pooling against plain loops, and what is said when something does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d

from pellucid.errors import ConfigError, ShapeError, UnknownNameError
from pellucid.explain.kernels import KERNELS, convolve, find_kernel, pool

sides = st.integers(3, 9)
seeds = st.integers(0, 10**6)


@given(seeds, sides, sides, st.sampled_from([(1, 1), (2, 3), (3, 3), (3, 2)]), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_convolution_is_scipys_correlation(seed, height, width, window, stride):
    rng = np.random.default_rng(seed)
    image, kernel = rng.normal(size=(height, width, 3)), rng.normal(size=window)
    channels = range(3)
    valid = [correlate2d(image[..., c], kernel, "valid")[::stride, ::stride] for c in channels]
    wide = [correlate2d(image[..., c], kernel, "full")[::stride, ::stride] for c in channels]
    np.testing.assert_allclose(convolve(image, kernel, stride=stride), np.stack(valid, -1), atol=1e-12)
    np.testing.assert_allclose(convolve(image, kernel, stride=stride, padding="wide"), np.stack(wide, -1), atol=1e-12)
    np.testing.assert_allclose(
        convolve(image[..., 0], kernel, stride=stride, reduce="mean"), valid[0] / kernel.size, atol=1e-12
    )


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_by_name_keeps_the_size_with_same_padding(name):
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    found = convolve(image, name, padding="same")
    assert found.shape == image.shape
    expected = correlate2d(image[..., 1].astype(float), np.array(KERNELS[name]), "same")
    np.testing.assert_allclose(found[..., 1], expected)


@given(seeds, sides, sides, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.sampled_from(["max", "average"]))
@settings(max_examples=60, deadline=None)
def test_pooling_takes_the_best_or_the_average_of_each_window(seed, height, width, window, stride, ragged, kind):
    image = np.random.default_rng(seed).normal(size=(height, width))
    reduce = np.max if kind == "max" else np.mean
    # a window starts inside of the picture, and without ragged edges also ends there
    starts = [[i for i in range(0, side, stride) if ragged or i + window <= side] for side in (height, width)]
    if ragged:  # no further window once one has reached the edge
        starts = [
            [i for i in line if i == 0 or i - stride + window < side]
            for line, side in zip(starts, (height, width), strict=True)
        ]
    expected = [[reduce(image[i : i + window, j : j + window]) for j in starts[1]] for i in starts[0]]
    np.testing.assert_allclose(pool(image, window, stride=stride, kind=kind, ragged=ragged), expected, atol=1e-12)


def test_every_channel_is_pooled_by_itself():
    image = np.random.default_rng(0).normal(size=(5, 4, 3))
    pooled = pool(image, 2)
    assert pooled.shape == (2, 2, 3)
    np.testing.assert_array_equal(pooled[..., 2], pool(image[..., 2], 2))


def test_a_named_kernel_is_a_matrix_of_numbers():
    assert find_kernel("sharpen").tolist() == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    assert find_kernel([[1, 2]]).shape == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1, 2]], "sharpn"), UnknownNameError, "Did you mean sharpen"),
        (([[1, 2]], [1, 2]), ConfigError, r"shape \(2,\).*rows and columns"),
        (([[1, 2]], [[1], [2, 3]]), ConfigError, "no array of numbers"),
        (([[1, 2]], [[float("nan")]]), ConfigError, "no finite numbers"),
        ((np.zeros((0, 3)), "edges"), ConfigError, "is empty"),
        (([1, 2, 3], "edges"), ShapeError, r"\(height, width\)"),
        ((np.ones((2, 2)), "edges"), ShapeError, r"K = 3 .* W = 2 .* P = 0 and stride S = 1"),
    ],
)
def test_bad_input_is_told(arguments, error, message):
    with pytest.raises(error, match=message):
        convolve(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"padding": "tiny"}, "none, same, wide"), ({"reduce": "max"}, "sum, mean"), ({"stride": 0}, "stride 0")],
)
def test_bad_options_are_told(options, message):
    with pytest.raises((UnknownNameError, ShapeError), match=message):
        convolve(np.ones((5, 5)), "edges", **options)


def test_a_window_that_does_not_fit_is_told():
    with pytest.raises(ShapeError, match=r"K = 4 .* W = 3"):
        pool(np.ones((3, 5)), 4)
    with pytest.raises(UnknownNameError, match="max, average"):
        pool(np.ones((4, 4)), kind="min")
