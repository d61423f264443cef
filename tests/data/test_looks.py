"""What is kept of a picture's looks, against Pillow and against pictures whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pellucid.data.looks import SIDE, look_at, look_at_all


def stripes(period: int, size: int = 128, low: int = 60, high: int = 180) -> np.ndarray:
    levels = np.where(np.arange(size) % period < period // 2, low, high).astype(np.uint8)
    return np.tile(levels, (size, 1))[..., None]


def test_brightness_and_contrast_are_mean_and_deviation_of_the_levels() -> None:
    looks = look_at(stripes(16))
    assert looks.brightness == pytest.approx(120 / 255)
    assert looks.contrast == pytest.approx(60 / 255)


def test_the_small_copy_is_that_of_pillow() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 60, 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    assert look_at(pixels).thumbnail == expected.tobytes()
    assert len(look_at(pixels[:1, :1]).thumbnail) == SIDE * SIDE


def test_sharpness_of_a_wave_is_known() -> None:
    """For sin(kx) the Laplacian is (2 - 2 cos k) sin, the central difference sin k cos: the ratio of their mean squares is
    ((2 - 2 cos k) / sin k)^2."""
    k = 2 * np.pi / 8
    wave = 127.5 + 100 * np.sin(k * np.arange(258))
    levels = np.tile(np.rint(wave).astype(np.uint8), (258, 1))[..., None][:256, :256]
    assert look_at(levels).sharpness == pytest.approx(((2 - 2 * np.cos(k)) / np.sin(k)) ** 2, rel=0.02)


def test_sharpness_falls_with_blur_and_not_with_contrast_or_content() -> None:
    sharp = Image.fromarray(stripes(32)[..., 0])
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(2)))[..., None]
    assert look_at(blurred).sharpness < look_at(stripes(32)).sharpness / 4
    assert look_at(stripes(32, low=110, high=130)).sharpness == pytest.approx(look_at(stripes(32)).sharpness, rel=0.01)
    assert look_at(stripes(64)).sharpness == pytest.approx(look_at(stripes(32)).sharpness, rel=0.1)


def test_a_picture_of_one_level_has_no_contrast_and_no_sharpness() -> None:
    looks = look_at(np.full((5, 7, 1), 51, np.uint8))
    assert (looks.brightness, looks.contrast, looks.sharpness) == (pytest.approx(0.2), 0.0, 0.0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 3), (1, 500, 3), (3000, 2, 1), (9, 9, 5)])
def test_any_shape_has_looks(shape: tuple[int, int, int]) -> None:
    looks = look_at(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert np.isfinite(looks[:3]).all()
    assert len(looks.thumbnail) == SIDE * SIDE


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (2, 5, 3), (70, 41, 3), (400, 300, 3), (9, 9, 5)])
def test_a_picture_looks_the_same_among_others_and_alone(shape: tuple[int, int, int]) -> None:
    """To the bit: whatever was scanned together, the records are equal."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(5)]
    pictures += [np.full(shape, 77, np.uint8), np.ascontiguousarray(pictures[0][::-1])]
    assert look_at_all(pictures) == [look_at(picture) for picture in pictures]
