"""Whether a treatment changes the meaning: known answers on digits, and on pictures made for the purpose."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.data.augment import Augmentation
from pellucid.data.meaning import MeaningTest, meaning_tests

Digits = tuple[np.ndarray, np.ndarray]
NAMES = [str(k) for k in range(10)]


def measured_on(policy: str, pixels: np.ndarray, labels: np.ndarray) -> tuple[MeaningTest, ...]:
    return meaning_tests(pixels, labels, np.arange(len(labels)), Augmentation(policy), seed=0)


def test_mirroring_digits_changes_their_meaning(digits: Digits) -> None:
    (found,) = measured_on("flip", digits[0][..., None], digits[1])
    assert found.accuracy > 0.9
    assert found.n > 450  # every picture is flipped in one of two epochs
    assert not found.keeps_meaning


def test_mirroring_symmetric_content_keeps_its_meaning(digits: Digits) -> None:
    """Digits of which half are mirrored already: a mirrored one is as good as any."""
    pixels, labels = digits[0][..., None].copy(), digits[1]
    pixels[::2] = pixels[::2, :, ::-1]
    (found,) = measured_on("flip", pixels, labels)
    assert found.keeps_meaning


def test_upside_down_a_six_is_a_nine() -> None:
    """Two classes that are each other upside down, and two that are not."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    pixels = rng.integers(0, 60, (400, 12, 12, 1)).astype(np.uint8)
    pixels[labels == 0, :6] += 150
    pixels[labels == 1, 6:] += 150
    pixels[labels == 2, :, :6] += 150
    pixels[labels == 3, :, 6:] += 150
    (found,) = measured_on("vflip", pixels, labels)
    assert not found.keeps_meaning
    assert [pair[:2] for pair in found.pairs] == [(0, 1)]
    assert found.pairs[0][2] == pytest.approx(1.0)
    assert "it confuses most: 6 and 9 (100%)" in found.tell(["6", "9", "c", "d"])
    (other,) = measured_on("flip", pixels, labels)
    assert [pair[:2] for pair in other.pairs] == [(2, 3)]


def test_one_test_for_each_transform_that_is_not_a_mixture(digits: Digits) -> None:
    found = measured_on("flip brightness0.3 rotate180 mixup1", digits[0][..., None], digits[1])
    assert [test.transform for test in found] == ["flip", "rotate180", "brightness0.3"]
    assert [test.keeps_meaning for test in found] == [False, False, True]
    assert "may change the meaning" in found[1].tell(NAMES)


@pytest.mark.parametrize("n", [1, 2, 49])
def test_too_few_pictures_are_not_measured(n: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 1), np.uint8)
    assert measured_on("flip", pixels, np.arange(n)) == ()


def test_a_transform_that_changes_nothing_is_not_measured() -> None:
    assert measured_on("flip", np.zeros((90, 4, 4, 1), np.uint8), np.arange(90) % 2) == ()
