"""Corruptions: the same for a picture whatever its company, worse with every severity, and of the strength that they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.data.corrupt import CHANGES, SEVERITIES, Change

BY_NAME = {change.name: change for change in CHANGES}
CORRUPTIONS = [change for change in CHANGES if change.family != "sweep"]


def pictures(n: int = 6, side: int = 32, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth colored waves with edges, uint8 (n, side, side, channels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = np.sin(
        2 * np.pi * (rng.uniform(1, 4, (n, channels, 1, 1)) * x + rng.uniform(1, 4, (n, channels, 1, 1)) * y)
    )
    return torch.from_numpy(np.round(110 + 70 * np.sign(waves) * np.sqrt(abs(waves))).astype(np.uint8)).permute(
        0, 2, 3, 1
    )


def off(change: Change, batch: torch.Tensor, level: float) -> float:
    changed = change(batch, level, np.arange(len(batch)), seed=0)
    return float((changed.float() - batch.float()).abs().mean())


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.name)
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3), (48, 4)])
def test_every_picture_is_treated_by_itself(change: Change, side: int, channels: int) -> None:
    batch, indices = pictures(6, side, channels), np.arange(10, 16)
    together = change(batch, change.levels[-1], indices, seed=3)
    assert together.dtype == torch.uint8
    assert together.shape == batch.shape
    alone = torch.cat([change(batch[k : k + 1], change.levels[-1], indices[k : k + 1], seed=3) for k in range(6)])
    assert (together.int() - alone.int()).abs().max() <= 1  # convolutions of other batches may round otherwise
    assert torch.equal(together, change(batch, change.levels[-1], indices, seed=3))


@pytest.mark.parametrize("change", CORRUPTIONS, ids=lambda c: c.name)
@pytest.mark.parametrize("side", [32, 96])
def test_damage_grows_with_its_severity(change: Change, side: int) -> None:
    batch = pictures(12, side)
    mild, severe = off(change, batch, 1.0), off(change, batch, 5.0)
    assert 0 < mild < severe


def test_the_seed_and_the_picture_decide_what_is_random() -> None:
    batch = pictures(1)
    noise = BY_NAME["gaussian noise"]
    first = noise(batch, 3.0, np.array([5]), seed=0)
    assert not torch.equal(first, noise(batch, 3.0, np.array([5]), seed=1))
    assert not torch.equal(first, noise(batch, 3.0, np.array([6]), seed=0))


def test_noise_has_the_strength_of_the_two_published_sets() -> None:
    """On middle grey, where nothing is cut off: 0.04 for 32 pixels, 0.08 for 224."""
    for side, deviation in ((32, 0.04), (224, 0.08)):
        grey = torch.full((2, side, side, 3), 128, dtype=torch.uint8)
        noisy = BY_NAME["gaussian noise"](grey, 1.0, np.arange(2), seed=0).double() / 255
        assert float(noisy.std()) == pytest.approx(deviation, rel=0.05)
        assert 0.04 < float(_at(64, "gaussian noise", 1.0)) < 0.08  # and in between for sizes in between
    shot = BY_NAME["shot noise"](torch.full((2, 32, 32, 3), 128, dtype=torch.uint8), 1.0, np.arange(2), seed=0)
    assert float((shot.double() / 255).std()) == pytest.approx(np.sqrt(128 / 255 / 500), rel=0.05)
    grey = torch.full((2, 64, 64, 1), 100, dtype=torch.uint8)
    hit = BY_NAME["impulse noise"](grey, 5.0, np.arange(2), seed=0) != 100
    assert 0.07 < float(hit.double().mean()) < 0.27


def _at(side: int, name: str, level: float) -> torch.Tensor:
    grey = torch.full((2, side, side, 3), 128, dtype=torch.uint8)
    return (BY_NAME[name](grey, level, np.arange(2), seed=0).double() / 255).std()


def test_blurs_keep_the_light_and_lose_the_edges() -> None:
    edge = torch.zeros(1, 33, 33, 1, dtype=torch.uint8)
    edge[:, 16, 16] = 255
    for name in ("defocus blur", "motion blur", "gaussian blur"):
        blurred = BY_NAME[name](edge, 5.0, np.zeros(1, np.int64), seed=0).float()
        assert float(blurred.sum()) == pytest.approx(255, rel=0.1), name
        assert float(blurred.max()) < 100, name


def test_brightness_keeps_hue_and_contrast_keeps_the_mean() -> None:
    batch = torch.tensor([[[[100, 50, 25]]]], dtype=torch.uint8)
    bright = BY_NAME["brightness"](batch, 1.0, np.zeros(1, np.int64), seed=0)[0, 0, 0].tolist()
    assert bright[0] / bright[1] == pytest.approx(2, rel=0.03)
    waves = pictures(3, 32)
    flat = BY_NAME["contrast"](waves, 5.0, np.arange(3), seed=0).float()
    assert flat.mean((1, 2)) == pytest.approx(waves.float().mean((1, 2)), abs=1)
    assert float(flat.std()) < 0.3 * float(waves.float().std())


def test_turning_by_180_degrees_is_both_flips_and_sizes_keep_the_middle() -> None:
    batch = pictures(2, 32)
    turned = BY_NAME["turned"](batch, 180, np.arange(2), seed=0)
    assert (turned.int() - batch.flip(1, 2).int()).abs().max() <= 1
    square = torch.zeros(1, 33, 33, 1, dtype=torch.uint8)
    square[:, 8:25, 8:25] = 255
    for name, level, side in (("enlarged", 1.5, 17 * 1.5), ("shrunk", 0.5, 17 * 0.5)):
        found = BY_NAME[name](square, level, np.zeros(1, np.int64), seed=0)
        assert float((found > 127).sum()) ** 0.5 == pytest.approx(side, abs=1.1), name
        assert found[0, 16, 16, 0] == 255


def test_there_are_twelve_kinds_of_damage_in_five_severities() -> None:
    assert len(CORRUPTIONS) == 12
    assert {change.family for change in CORRUPTIONS} == {"noise", "blur", "weather", "digital"}
    assert all(change.levels == SEVERITIES and len(change.small) == len(change.large) == 5 for change in CORRUPTIONS)
