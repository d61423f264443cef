"""Kernels on photographs: against scipy, whatever the strips, and what is said of kernels that are none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.signal import correlate2d

from pellucid.errors import ConfigError, PictureError, ShapeError, SpecError, UnknownNameError
from pellucid.explain.filter import filter_photo, named_kernels, pooling_of, read_photo
from pellucid.explain.filter_sheet import filter_sheet, save_results
from pellucid.explain.kernels import KERNELS, find_kernel


def photo(height: int = 150, width: int = 37, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def correlated(pixels: np.ndarray, kernel: np.ndarray, mode: str = "valid") -> np.ndarray:
    planes = [correlate2d(pixels[..., c].astype(float), kernel, mode) for c in range(pixels.shape[2])]
    return np.stack(planes, -1)


@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_is_scipys_correlation_made_visible(name: str) -> None:
    kernel = find_kernel(name)
    found = filter_photo(photo(), name, kernel)
    whole = correlated(photo(), kernel) / max(1, kernel.sum())
    assert found.pixels.shape == (148, 35, 3)
    assert np.abs(np.clip(whole, 0, 255) - found.pixels).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("padding", "mode"), [("same", "same"), ("wide", "full"), ((1, 1), "same"), ("none", "valid")])
@pytest.mark.parametrize("stride", [(1, 1), (3, 2)])
def test_stride_and_padding_across_the_strips(padding: object, mode: str, stride: tuple[int, int]) -> None:
    found = filter_photo(photo(), "sharpen", find_kernel("sharpen"), stride=stride, padding=padding)
    expected = np.clip(correlated(photo(), find_kernel("sharpen"), mode), 0, 255)[:: stride[0], :: stride[1]]
    assert np.array_equal(found.pixels, expected)


@pytest.mark.parametrize(
    ("text", "operation"), [("pool,k3,s2", F.max_pool2d), ("avgpool,k2x3", F.avg_pool2d), ("3", F.max_pool2d)]
)
def test_pooling_takes_values_not_what_is_shown_of_them(text: str, operation: object) -> None:
    layer = pooling_of(text)
    found = filter_photo(photo(), "edges", find_kernel("edges"), padding="same", pooling=layer)
    values = torch.from_numpy(correlated(photo(), find_kernel("edges"), "same")).permute(2, 0, 1)
    expected = operation(values, layer.kernel, layer.stride).permute(1, 2, 0).numpy()  # type: ignore[operator]
    assert np.abs(np.clip(expected, 0, 255) - found.pooled).max() <= 0.5 + 1e-3


def test_a_random_kernel_is_seeded_and_spread_from_black_to_white() -> None:
    first, again, other = (named_kernels(["random5"], seed)["random5"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    found = filter_photo(photo(), "random5", first, pooling=pooling_of("3"))
    values = correlated(photo(), first)
    assert (found.low, found.high) == (pytest.approx(values.min(), abs=0.01), pytest.approx(values.max(), abs=0.01))
    assert (found.pixels.min(), found.pixels.max()) == (0, 255)
    assert found.pooled.shape == (48, 11, 3)


def test_a_flat_photograph_is_spread_without_a_division_by_zero() -> None:
    found = filter_photo(np.full((9, 9, 1), 7, np.uint8), "random3", named_kernels(["random3"])["random3"])
    assert not found.pixels.any()


def test_kernels_are_read_from_texts() -> None:
    found = named_kernels(["0 -1 0; -1 5 -1; 0 -1 0", "1,2;3,4", ".5", "edges"])
    assert [kernel.tolist() for kernel in found.values()] == [
        [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], [[1, 2], [3, 4]], [[0.5]], [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    ]  # fmt: skip
    assert list(named_kernels(["all"])) == list(KERNELS)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("sharpn", UnknownNameError, "Did you mean sharpen"),
        ("1 2; 3", ConfigError, "rows of 2, 1 numbers"),
        ("", ConfigError, "rows of no numbers"),
        (";1", ConfigError, "rows of 0, 1 numbers"),
        ("1 2-3", ConfigError, "no number"),
        ("random0", ConfigError, "random1 to random31"),
    ],
)
def test_what_is_no_kernel_is_told(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        named_kernels([text])


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ShapeError, match=r"K = 3 .* W = 2"):
        filter_photo(photo(2, 9), "edges", find_kernel("edges"))
    with pytest.raises(ShapeError, match="keep the size"):
        filter_photo(photo(), "even", np.ones((2, 2)), padding="same")
    with pytest.raises(ShapeError, match=r"K = 9 .* W = 3"):
        filter_photo(photo(5, 5), "edges", find_kernel("edges"), pooling=pooling_of("9"))
    for text in ("conv3", "pool,k3,p1"):
        with pytest.raises(SpecError, match="no pooling of a photograph"):
            pooling_of(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"nothing\.jpg' cannot be read: No such file"):
        read_photo(tmp_path / "nothing.jpg")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(PictureError, match=r"empty\.png' cannot be read: file is empty"):
        read_photo(tmp_path / "empty.png")


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_sheet_and_files_of_any_channels(tmp_path: Path, channels: int) -> None:
    pixels = photo(700, 500, channels)
    results = [filter_photo(pixels, name, find_kernel(name), pooling=pooling_of("3")) for name in ("edges", "0 1; 1 0")]
    sheet = filter_sheet(pixels, results)
    assert sheet.mode == "RGB"
    files = save_results(tmp_path / "out", results)
    assert [file.name for file in files] == ["edges.png", "edges-pooled.png", "kernel2.png", "kernel2-pooled.png"]
    seen = np.asarray(Image.open(io.BytesIO(files[0].read_bytes())))
    assert np.array_equal(seen, results[0].pixels[..., 0] if channels < 3 else results[0].pixels[..., :3])
