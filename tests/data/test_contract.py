from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as peer

from pellucid.data.contract import FITS, PixelContract
from pellucid.errors import ConfigError, DataError


def scene(height: int = 67, width: int = 93, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels), dtype=np.uint8)


def peer_resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The resize of torchvision, uint8 (H, W, C) -> (height, width, C)."""
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    return peer.resize(tensor, [height, width], antialias=True).permute(1, 2, 0).numpy()


SIDES = st.integers(1, 40)


# Size


@given(
    SIDES,
    SIDES,
    SIDES,
    SIDES,
    st.sampled_from(FITS),
    st.sampled_from([(1, 1), (1, 3), (3, 1), (3, 3), (5, 5)]),
)
@settings(max_examples=150, deadline=None)
def test_every_picture_comes_out_in_the_size_and_channels_of_the_contract(
    height: int, width: int, tall: int, wide: int, fit: str, channels: tuple[int, int]
) -> None:
    given_channels, wanted_channels = channels
    contract = PixelContract(tall, wide, wanted_channels, fit)
    pixels = contract.pixels(scene(height, width, given_channels))
    assert pixels.shape == (tall, wide, wanted_channels)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_passes_untouched(fit: str) -> None:
    assert np.array_equal(PixelContract(67, 93, fit=fit).pixels(scene()), scene())


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("height, width", [(32, 32), (224, 224), (67, 20), (200, 93), (1, 1)])
def test_stretch_is_the_resize_of_torchvision(height: int, width: int, channels: int) -> None:
    picture = scene(channels=channels)
    pixels = PixelContract(height, width, channels).pixels(picture)
    assert np.array_equal(pixels, peer_resize(picture, height, width))


def test_stretch_is_within_one_level_of_pillow() -> None:
    pixels = PixelContract(32, 40).pixels(scene())
    pillow = np.asarray(Image.fromarray(scene()).resize((40, 32), Image.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - pillow).max() <= 1


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 255), st.sampled_from(["stretch", "crop"]))
@settings(max_examples=60, deadline=None)
def test_a_picture_of_one_color_keeps_it(height: int, width: int, tall: int, wide: int, level: int, fit: str) -> None:
    picture = np.full((height, width, 3), level, np.uint8)
    assert (PixelContract(tall, wide, fit=fit).pixels(picture) == level).all()


def test_crop_shows_the_center_at_its_own_proportions() -> None:
    picture = scene(60, 100)
    pixels = PixelContract(30, 30, fit="crop").pixels(picture)
    assert np.array_equal(pixels, peer_resize(picture[:, 20:80], 30, 30))
    upright = PixelContract(60, 30, fit="crop").pixels(picture)
    assert np.array_equal(upright, picture[:, 35:65])


@pytest.mark.parametrize(
    "size, target, expected",
    [
        ((100, 200), (10, 10), 0.5),
        ((300, 100), (7, 7), 2 / 3),
        ((90, 120), (30, 40), 0.0),
        ((90, 90), (10, 20), 0.5),
    ],
)
def test_the_hidden_share_of_a_crop(size: tuple[int, int], target: tuple[int, int], expected: float) -> None:
    assert PixelContract(*target, fit="crop").hidden(*size) == pytest.approx(expected)
    assert PixelContract(*target, fit="stretch").hidden(*size) == 0
    assert PixelContract(*target, fit="pad").hidden(*size) == 0


@given(SIDES, SIDES, st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_hidden_is_the_share_of_pixels_without_influence(height: int, width: int, tall: int, wide: int) -> None:
    contract = PixelContract(tall, wide, 1, "crop")
    rows, columns = np.zeros(height, bool), np.zeros(width, bool)
    black = np.zeros((height, width, 1), np.uint8)
    for row in range(height):
        white = black.copy()
        white[row] = 255
        rows[row] = contract.pixels(white).any()
    for column in range(width):
        white = black.copy()
        white[:, column] = 255
        columns[column] = contract.pixels(white).any()
    assert contract.hidden(height, width) == pytest.approx(1 - np.outer(rows, columns).mean())


def test_pad_shows_everything_on_black() -> None:
    picture = np.maximum(scene(60, 100), 1)
    pixels = PixelContract(50, 50, fit="pad").pixels(picture)
    assert np.array_equal(pixels[10:40], peer_resize(picture, 30, 50))
    assert not pixels[:10].any()
    assert not pixels[40:].any()
    upright = PixelContract(50, 50, fit="pad").pixels(picture.swapaxes(0, 1))
    assert not upright[:, :10].any()
    assert upright[:, 10:40].all()


def test_the_longest_strip_costs_no_more_than_its_own_pixels() -> None:
    strip = scene(1, 100_000)
    for fit in FITS:
        assert PixelContract(224, 224, fit=fit).pixels(strip).shape == (224, 224, 3)


# Channels


def test_grey_is_the_integer_formula_of_itu_r_601() -> None:
    colors = scene(256, 256)
    red, green, blue = np.moveaxis(colors.astype(np.uint32), 2, 0)
    expected = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    assert np.array_equal(PixelContract(256, 256, 1).pixels(colors)[..., 0], expected)
    assert np.array_equal(expected, np.asarray(Image.fromarray(colors).convert("L")))


def test_grey_becomes_rgb_by_repetition() -> None:
    pixels = PixelContract(32, 32, 3).pixels(scene(channels=1))
    assert np.array_equal(pixels, np.repeat(peer_resize(scene(channels=1), 32, 32), 3, axis=2))


@pytest.mark.parametrize("given_channels, wanted", [(4, 3), (2, 1), (3, 5), (1, 2)])
def test_other_channels_are_refused_with_both_numbers(given_channels: int, wanted: int) -> None:
    with pytest.raises(DataError, match=rf"channels: {given_channels}, but expected {wanted}"):
        PixelContract(8, 8, wanted).pixels(scene(8, 8, given_channels))


@pytest.mark.parametrize("picture", [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected uint8 \(height, width, channels\)"):
        PixelContract(4, 4).pixels(picture)


# The same everywhere


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("fit", FITS)
def test_the_memory_layout_makes_no_difference(fit: str, channels: int) -> None:
    contract = PixelContract(32, 48, channels, fit)
    picture = scene(channels=channels)
    expected = contract.pixels(picture)
    wide = np.zeros((67, 186, channels), np.uint8)
    wide[:, ::2] = picture
    planes = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
    read_only = picture.copy()
    read_only.flags.writeable = False
    upside_down = picture[::-1].copy()[::-1]
    layouts = np.asfortranarray(picture), wide[:, ::2], np.moveaxis(planes, 0, 2), upside_down, read_only
    for layout in layouts:
        assert np.array_equal(layout, picture)
        assert np.array_equal(contract.pixels(layout), expected)


def test_threads_make_no_difference() -> None:
    contract = PixelContract(224, 224)
    pictures = [scene(300 + 10 * number, 500) for number in range(8)]
    expected = [contract.pixels(picture) for picture in pictures]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            with ThreadPoolExecutor(4) as pool:
                for alone, inside, truth in zip(
                    map(contract.pixels, pictures), pool.map(contract.pixels, pictures), expected, strict=True
                ):
                    assert np.array_equal(alone, truth)
                    assert np.array_equal(inside, truth)
    finally:
        torch.set_num_threads(before)


# Normalization


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_tensor_is_the_normalization_of_torchvision(channels: int) -> None:
    mean, std = (0.485, 0.456, 0.406, 0.5, 0.1)[:channels], (0.229, 0.224, 0.225, 1.0, 0.1)[:channels]
    contract = PixelContract(20, 30, channels, mean=mean, std=std)
    batch = np.random.default_rng(1).integers(0, 256, (4, 20, 30, channels), dtype=np.uint8)
    tensor = contract.tensor(batch)
    planes = torch.from_numpy(batch).permute(0, 3, 1, 2)
    expected = peer.normalize(peer.to_dtype(planes, torch.float32, scale=True), list(mean), list(std))
    torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(tensor, contract.tensor(torch.from_numpy(batch)))


def test_the_default_normalization_is_half_and_a_quarter() -> None:
    levels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
    tensor = PixelContract(1, 3, 1).tensor(levels)
    torch.testing.assert_close(tensor.flatten(), torch.tensor([-2.0, -1.2, 2.0]))


def test_batches_of_any_layout_are_normalized_alike_and_stay_as_they_are(tmp_path: Path) -> None:
    contract = PixelContract(6, 8)
    batch = torch.randint(0, 256, (4, 6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = contract.tensor(batch)
    kept = batch.clone()
    planes = batch.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    every_other = torch.stack((batch, 255 - batch), dim=1).flatten(0, 1)[::2]
    swapped = batch.transpose(0, 1).contiguous().transpose(0, 1)
    for layout in (planes, every_other, swapped):
        assert torch.equal(layout, batch)
        tensor = contract.tensor(layout)
        assert torch.equal(tensor, expected)
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    np.save(tmp_path / "batch.npy", batch.numpy())
    mapped = np.load(tmp_path / "batch.npy", mmap_mode="r")
    assert torch.equal(contract.tensor(mapped), expected)
    assert torch.equal(batch, kept)


def test_a_first_call_without_gradients_leaves_later_ones_differentiable() -> None:
    contract = PixelContract(4, 4, mean=(0.1, 0.2, 0.3))
    batch = scene(4, 4)[None]
    with torch.inference_mode():
        contract.tensor(batch)
    tensor = contract.tensor(batch).requires_grad_()
    tensor.square().sum().backward()
    assert tensor.grad is not None
    torch.testing.assert_close(tensor.grad, 2 * tensor.detach())


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 3, 4, 4), np.uint8)]
)
def test_other_batches_are_refused(batch: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected uint8 \(N, height, width, 3\)"):
        PixelContract(4, 4).tensor(batch)


# Settings


def test_geometry_is_a_key_that_the_normalization_does_not_change() -> None:
    contract = PixelContract(32, 48, 3, "crop", (0.1, 0.2, 0.3), (1, 1, 1))
    assert contract.geometry() == PixelContract(32, 48, 3, "crop").geometry()
    others = [replace(contract, **change) for change in ({"height": 33}, {"width": 47}, {"fit": "pad"})]
    others.append(PixelContract(32, 48, 1, "crop"))
    keys = {json.dumps(each.geometry(), sort_keys=True) for each in (contract, *others)}
    assert len(keys) == 5
    assert isinstance(contract.geometry()["version"], int)


@given(SIDES, SIDES, st.sampled_from([1, 3, 5]), st.sampled_from(FITS), st.floats(-1, 1), st.floats(0.01, 2))
@settings(max_examples=40)
def test_a_contract_survives_json(height: int, width: int, channels: int, fit: str, mean: float, std: float) -> None:
    contract = PixelContract(height, width, channels, fit, (mean,) * channels, (std,) * channels)
    again = PixelContract.from_dict(json.loads(json.dumps(contract.to_dict())))
    assert again == contract
    assert hash(again) == hash(contract)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"height": 0}, "height is 0; expected a whole number, 1 or more"),
        ({"width": 32.0}, "width is 32.0"),
        ({"channels": True}, "channels is True"),
        ({"fit": "croop"}, "fit is 'croop'; expected one of stretch, crop, pad. Did you mean crop"),
        ({"mean": [0.5, 0.5]}, r"mean is \[0.5, 0.5\]; expected a number for each channel \(3\)"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean is"),
        ({"mean": 0.5}, "mean is 0.5"),
        ({"std": ["a", "b", "c"]}, "std is"),
        ({"std": [1, 1, 0]}, r"std is \(1.0, 1.0, 0.0\); expected numbers above 0"),
        ({"sdt": [1, 1, 1]}, "Unknown key 'sdt'.* Did you mean std"),
        ({"version": 99}, "version 99"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PixelContract.from_dict(PixelContract(32, 32).to_dict() | change)


def test_height_and_width_are_required() -> None:
    with pytest.raises(ConfigError, match="has no 'width'"):
        PixelContract.from_dict({"height": 32})


def test_a_contract_cannot_be_changed_and_says_what_it_is() -> None:
    contract = PixelContract(32, 48, 1, "pad")
    with pytest.raises(FrozenInstanceError):
        contract.height = 5  # type: ignore[misc]
    assert str(contract) == "48 x 32 pixels, grey, pad; mean (0.5,), std (0.25,)"
