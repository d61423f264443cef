"""Augmentation: pure functions of (seed, epoch, picture), with hand-computed pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import shift as scipy_shift

from pellucid.data.augment import Augmentation, hashed_uniform, mirror_test


def pictures(n: int = 40, height: int = 7, width: int = 9, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8))


def test_a_picture_is_treated_alike_in_any_company() -> None:
    batch, indices = pictures(), np.arange(40) * 7
    augment = Augmentation(flip="both", shift=2, color=0.3)
    whole = augment(batch, indices, seed=5, epoch=3)
    some = np.array([31, 4, 17])
    assert torch.equal(augment(batch[some], indices[some], seed=5, epoch=3), whole[some])
    assert not torch.equal(augment(batch, indices, seed=5, epoch=4), whole)
    assert not torch.equal(augment(batch, indices, seed=6, epoch=3), whole)


def test_flips_alternate_between_epochs() -> None:
    batch, indices = pictures(), np.arange(40)
    flip = Augmentation(flip="horizontal")
    even, odd = (flip(batch, indices, seed=1, epoch=e) for e in (0, 1))
    assert torch.equal(even.flip(2), odd)
    turned = [not torch.equal(a, b) for a, b in zip(even, batch, strict=True)]
    assert 8 < sum(turned) < 32


def test_shift_is_scipys_with_mirrored_border() -> None:
    batch, indices = pictures(n=60), np.arange(60)
    moved = Augmentation(shift=2)(batch, indices, seed=0, epoch=0).numpy()
    offsets = {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    seen = set()
    for before, after in zip(batch.numpy(), moved, strict=True):
        fits = [o for o in offsets if np.array_equal(scipy_shift(before, (*o, 0), order=0, mode="mirror"), after)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 15


def test_a_shift_wider_than_the_picture_still_works() -> None:
    tiny = pictures(n=8, height=1, width=2)
    assert Augmentation(shift=5)(tiny, np.arange(8), seed=0, epoch=0).shape == tiny.shape


def test_color_stays_within_bounds_and_is_scaled() -> None:
    grey = torch.full((200, 2, 2, 1), 100, dtype=torch.uint8)
    out = Augmentation(color=0.2)(grey, np.arange(200), seed=0, epoch=0).numpy()
    assert out.min() >= 80
    assert out.max() <= 120
    assert np.ptp(out) > 30


def test_hashed_numbers_are_uniform_and_independent() -> None:
    from scipy.stats import kstest, pearsonr

    u = hashed_uniform(0, 0, np.arange(20000), 0)
    assert kstest(u, "uniform").pvalue > 1e-3
    for other in (hashed_uniform(0, 1, np.arange(20000), 0), hashed_uniform(0, 0, np.arange(20000), 1)):
        assert abs(pearsonr(u, other).statistic) < 0.03
    assert abs(pearsonr(u[1:], u[:-1]).statistic) < 0.03


def test_mirroring_digits_changes_their_meaning(digits: tuple[np.ndarray, np.ndarray]) -> None:
    found = mirror_test(digits[0][..., None], digits[1], np.arange(len(digits[1])), seed=0)
    assert found.accuracy > 0.9
    assert not found.keeps_meaning


def test_mirroring_symmetric_content_keeps_its_meaning(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Digits of which half are mirrored already: a mirrored one is as good as any."""
    pixels, labels = digits[0][..., None].copy(), digits[1]
    pixels[::2] = pixels[::2, :, ::-1]
    assert mirror_test(pixels, labels, np.arange(len(labels)), seed=0).keeps_meaning


@pytest.mark.parametrize("n", [1, 2, 5])
def test_mirror_test_works_on_next_to_nothing(n: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 1), np.uint8)
    mirror_test(pixels, np.arange(n), np.arange(n), seed=0)
