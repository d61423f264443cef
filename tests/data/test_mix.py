"""Mixing: pictures and targets in the same share, and partners that do not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Loader, Pictures
from pellucid.data.mix import Mixed

CPU = torch.device("cpu")
PLAIN = PixelContract(10, 14, 1, mean=(0.0,), std=(1.0,))


def flat(n: int = 300) -> Pictures:
    """Pictures of one level each: what is left of one in a mixture is plain to see."""
    levels = np.random.default_rng(0).permutation(np.linspace(0, 255, n).astype(np.uint8))
    pixels = np.ascontiguousarray(np.broadcast_to(levels[:, None, None, None], (n, 10, 14, 1)))
    return Pictures(pixels, np.arange(n), np.arange(n))


def batches(policy: str, batch_size: int, start: int = 0) -> list[tuple[torch.Tensor, torch.Tensor, Mixed]]:
    loader = Loader(flat(), PLAIN, CPU, batch_size=batch_size)
    found = []
    for x, y, mixed in loader.shuffled(Augmentation(policy), seed=4, epoch=2, start=start):
        assert mixed is not None
        found.append((x, y, mixed))
    return found


@pytest.mark.parametrize("policy", ["mixup0.4", "cutmix1"])
def test_the_share_of_the_targets_is_that_of_the_pixels(policy: str) -> None:
    levels = torch.from_numpy(flat().pixels[:, 0, 0, 0]).float()
    (x, y, mixed), = batches(policy, 300)  # fmt: skip
    share = mixed.share
    expected = share * levels[y] + (1 - share) * levels[mixed.labels]
    assert (x.mean((1, 2, 3)) * 255 - expected).abs().max() < 0.51
    assert share.min() < 0.25  # of cutmix boxes a part lies outside
    assert share.max() > 0.9
    kinds = [len(picture.unique()) for picture in x]
    assert max(kinds) == (1 if policy.startswith("mixup") else 2)


def test_shares_follow_the_beta_distribution() -> None:
    from scipy.stats import beta, kstest

    (_, _, mixed), = batches("mixup0.4", 300)  # fmt: skip
    assert kstest(mixed.share.numpy(), beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_both_kinds_are_used_where_both_are_asked_for() -> None:
    (x, _, mixed), = batches("mixup1 cutmix1", 300)  # fmt: skip
    clear = (mixed.share > 0.2) & (mixed.share < 0.8)
    boxes = torch.tensor([len(picture.unique()) == 2 for picture in x])[clear]
    assert 0.3 < boxes.float().mean() < 0.7


@pytest.mark.parametrize("policy", ["mixup0.4", "cutmix1", "flip shift2 mixup1 cutmix1"])
def test_mixtures_do_not_depend_on_the_batch(policy: str) -> None:
    whole, parts = batches(policy, 300), batches(policy, 7)
    assert torch.equal(torch.cat([x for x, _, _ in parts]), whole[0][0])
    assert torch.equal(torch.cat([m.labels for _, _, m in parts]), whole[0][2].labels)
    assert torch.equal(torch.cat([m.share for _, _, m in parts]), whole[0][2].share)
    assert torch.equal(
        torch.cat([x for x, _, _ in batches(policy, 7, start=20)]), torch.cat([x for x, _, _ in parts[20:]])
    )


def test_partners_come_from_the_same_split() -> None:
    pictures = flat()
    some = Pictures(pictures.pixels, pictures.labels, np.arange(0, 300, 3))
    loader = Loader(some, PLAIN, CPU, batch_size=16)
    partners = torch.cat([m.labels for _, _, m in loader.shuffled(Augmentation("mixup1"), seed=0, epoch=0) if m])
    assert (partners % 3 == 0).all()
    assert len(partners.unique()) > 50


def test_without_mixing_there_is_nothing_mixed_in() -> None:
    loader = Loader(flat(), PLAIN, CPU, batch_size=64)
    assert all(mixed is None for _, _, mixed in loader.shuffled(Augmentation("flip"), seed=0, epoch=0))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mixture_of_two_losses(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 5, generator=generator)
    own, other = torch.randint(0, 5, (2, 9), generator=generator)
    share = torch.rand(9, generator=generator)
    targets = Mixed(other, share).targets(own, 5)
    assert targets.sum(1) == pytest.approx(torch.ones(9))
    for weight in (None, torch.rand(5, generator=generator)):
        settings = {"weight": weight, "label_smoothing": smoothing, "reduction": "none"}
        found = F.cross_entropy(logits, targets, **settings)
        a, b = (F.cross_entropy(logits, y, **settings) for y in (own, other))
        assert found == pytest.approx((share * a + (1 - share) * b), rel=1e-5)
