"""Augmentation: pure functions of (seed, epoch, picture), whatever else is in the batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import shift as scipy_shift

from pellucid.data.augment import Augmentation, hashed_uniform, measured
from pellucid.data.policy import parse_policy
from pellucid.errors import ConfigError

EACH = [
    "flip", "vflip", "shift3", "zoom0.5", "rotate30", "perspective0.8", "elastic1", "brightness0.3", "contrast0.3",
    "saturation0.5", "hue0.2", "color0.3", "lighting0.5", "whiten0.8", "blur2", "cutout4", "rand3",
]  # fmt: skip
ALL = " ".join(word for word in EACH if word != "rand3")


def pictures(n: int = 40, height: int = 12, width: int = 15, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8))


def augmentation(policy: str, batch: torch.Tensor) -> Augmentation:
    return measured(parse_policy(policy), batch.numpy())


@pytest.mark.parametrize("policy", [*EACH, ALL, "flip vflip shift3 zoom0.5", "rand2 blur1 cutout3"])
@pytest.mark.parametrize("height, width, channels", [(12, 15, 1), (12, 15, 3), (40, 50, 3)])
def test_a_picture_is_treated_alike_in_any_company(policy: str, height: int, width: int, channels: int) -> None:
    if channels == 1:
        policy = " ".join(w for w in policy.split() if not w.startswith(("saturation", "hue"))) or "none"
    n = 600 if width == 15 else 150  # several chunks; the larger ones are not small, so that some work goes by picture
    batch, indices = pictures(n, height, width, channels), np.arange(n) * 7
    augment = augmentation(policy, batch)
    whole = augment(batch, indices, seed=5, epoch=3)
    assert (whole.dtype, whole.shape) == (torch.uint8, batch.shape)
    order = np.random.default_rng(1).permutation(n)
    for some in (order[:1], order[1:3], order[3:20], order[20:320]):
        assert torch.equal(augment(batch[some], indices[some], seed=5, epoch=3), whole[some])
    torch.set_num_threads(1)
    assert torch.equal(augment(batch, indices, seed=5, epoch=3), whole)
    if policy != "none":
        assert not torch.equal(augment(batch, indices, seed=5, epoch=4), whole)
        assert not torch.equal(augment(batch, indices, seed=6, epoch=3), whole)


@pytest.mark.parametrize("policy", EACH)
def test_the_pictures_that_are_handed_over_stay_as_they_are(policy: str) -> None:
    batch = pictures()
    before = batch.clone()
    assert not torch.equal(augmentation(policy, batch)(batch, np.arange(40), seed=0, epoch=0), before)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("policy", EACH)
@pytest.mark.parametrize("shape", [(0, 6, 6, 3), (1, 1, 1, 3), (2, 1, 9, 3), (3, 2, 2, 5), (2, 5, 4, 1)])
def test_odd_shapes_stay_what_they_are(policy: str, shape: tuple[int, int, int, int]) -> None:
    """Whatever is refused for a training: the functions themselves work on every batch."""
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    if policy == "cutout4" or (policy.startswith("hue") and shape[3] != 3):
        return
    out = Augmentation(policy)(batch, np.arange(len(batch)), seed=0, epoch=0)
    assert (out.dtype, out.shape) == (batch.dtype, batch.shape)


def test_the_batch_that_was_given_is_left_alone() -> None:
    batch = pictures()
    before = batch.clone()
    augmentation(ALL, batch)(batch, np.arange(40), seed=0, epoch=0)
    assert torch.equal(batch, before)


def test_flips_alternate_between_epochs() -> None:
    batch, indices = pictures(), np.arange(40)
    flip = Augmentation("flip")
    even, odd = (flip(batch, indices, seed=1, epoch=e) for e in (0, 1))
    assert torch.equal(even.flip(2), odd)
    turned = [not torch.equal(a, b) for a, b in zip(even, batch, strict=True)]
    assert 8 < sum(turned) < 32


def test_vertical_flips_are_numpys() -> None:
    batch = pictures()
    out = Augmentation("vflip")(batch, np.arange(40), seed=1, epoch=0).numpy()
    kinds = [(np.array_equal(a, b), np.array_equal(a, np.flipud(b))) for a, b in zip(out, batch.numpy(), strict=True)]
    assert all(same != turned for same, turned in kinds)
    assert 8 < sum(turned for _, turned in kinds) < 32


def test_shift_is_scipys_with_mirrored_border() -> None:
    batch, indices = pictures(n=60), np.arange(60)
    moved = Augmentation("shift2")(batch, indices, seed=0, epoch=0).numpy()
    offsets = {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    seen = set()
    for before, after in zip(batch.numpy(), moved, strict=True):
        fits = [o for o in offsets if np.array_equal(scipy_shift(before, (*o, 0), order=0, mode="mirror"), after)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 15


def test_flip_and_shift_are_the_same_alone_and_sampled() -> None:
    """Whole pixels through the bilinear sampling, where another transform that does next to nothing takes part."""
    batch, indices = pictures(n=60), np.arange(60)
    gathered = Augmentation("flip vflip shift3")(batch, indices, seed=2, epoch=1)
    sampled = Augmentation("flip vflip shift3 elastic0.01")(batch, indices, seed=2, epoch=1)
    assert (gathered.int() - sampled.int()).abs().float().mean() < 3  # of 255, on noise
    other = Augmentation("flip vflip shift3")(batch, indices, seed=3, epoch=1)
    assert (other.int() - sampled.int()).abs().float().mean() > 30


def test_a_shift_wider_than_the_picture_still_works() -> None:
    tiny = pictures(n=8, height=1, width=2)
    assert Augmentation("shift5")(tiny, np.arange(8), seed=0, epoch=0).shape == tiny.shape


def test_rand_draws_so_many_transforms_for_each_picture() -> None:
    """Of everything but blur and cutout, which are named: cutout alone leaves most pixels, so it can be told apart."""
    batch = pictures(n=400, height=16, width=16)
    named = "shift1 zoom0.99 rotate0.1 perspective0.01 elastic0.01 brightness0.01 contrast0.01 saturation0.01 hue0.001"
    with pytest.raises(ConfigError):
        parse_policy(named)  # 0.001 is below what hue takes
    out = Augmentation("rand1")(batch, np.arange(400), seed=0, epoch=0)
    changed = (out != batch).any(3).flatten(1).float().mean(1).numpy()
    cut = (changed > 0) & (changed <= 16 / 256)  # a square of 4x4
    assert 400 / 11 * 0.5 < cut.sum() < 400 / 11 * 1.6
    two = Augmentation("rand8")(batch, np.arange(400), seed=0, epoch=0)
    assert ((two != batch).any(3).flatten(1).float().mean(1) > 0.5).float().mean() > 0.95


def test_hashed_numbers_are_uniform_and_independent() -> None:
    from scipy.stats import kstest, pearsonr

    u = hashed_uniform(0, 0, np.arange(20000), 0)
    assert kstest(u, "uniform").pvalue > 1e-3
    for other in (hashed_uniform(0, 1, np.arange(20000), 0), hashed_uniform(0, 0, np.arange(20000), 1)):
        assert abs(pearsonr(u, other).statistic) < 0.03
    assert abs(pearsonr(u[1:], u[:-1]).statistic) < 0.03
    both = hashed_uniform(0, 0, np.arange(20000), np.array([0, 1]))
    assert np.array_equal(both[:, 0], u)
    assert np.array_equal(both[:, 1], hashed_uniform(0, 0, np.arange(20000), 1))


def test_it_survives_json_and_reads_what_runs_held_before_policies() -> None:
    whole = augmentation(ALL, pictures())
    assert whole.axes
    assert whole.whitening
    assert Augmentation.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert Augmentation.from_dict({"flip": "none", "shift": 0, "color": 0.0}) == Augmentation("none")
    assert Augmentation.from_dict({"flip": "horizontal", "shift": 2, "color": 0.0}) == Augmentation("flip shift2")
    assert (
        Augmentation.from_dict({"flip": "both", "shift": 0, "color": 0.3}).policy
        == "flip vflip brightness0.3 contrast0.3"
    )


def test_a_policy_that_does_not_fit_the_pictures_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cutout12' of the augmentation 'cutout12' leaves no picture"):
        measured(parse_policy("cutout12"), pictures().numpy())
