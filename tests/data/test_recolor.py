"""What changes levels: hand-computed means, torchvision's and Pillow's answers, areas that are exact."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from pellucid.data import recolor
from pellucid.data.augment import Augmentation, measured
from pellucid.data.policy import parse_policy


def noise(n: int, height: int = 12, width: int = 15, channels: int = 3) -> torch.Tensor:
    """Levels from 60 to 180, so that nothing is clipped."""
    return torch.from_numpy(np.random.default_rng(0).integers(60, 181, (n, height, width, channels), np.uint8))


def treat(policy: str, batch: torch.Tensor) -> torch.Tensor:
    return measured(parse_policy(policy), batch.numpy())(batch, np.arange(len(batch)), seed=0, epoch=0)


def spread(values: torch.Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_brightness_scales_the_mean(channels: int) -> None:
    batch = noise(300, channels=channels)
    factor = treat("brightness0.3", batch).float().mean((1, 2, 3)) / batch.float().mean((1, 2, 3))
    low, high = spread(factor)
    assert 0.695 < low < 0.72
    assert 1.28 < high < 1.305
    assert float(factor.mean()) == pytest.approx(1, abs=0.03)


def test_contrast_keeps_the_mean_and_scales_the_deviation() -> None:
    batch = noise(300).float()
    out = treat("contrast0.3", batch.to(torch.uint8)).float()
    assert (out.mean((1, 2, 3)) - batch.mean((1, 2, 3))).abs().max() < 0.3
    low, high = spread(out.std((1, 2, 3)) / batch.std((1, 2, 3)))
    assert 0.69 < low < 0.73
    assert 1.27 < high < 1.31


def test_saturation_is_torchvisions() -> None:
    """For each picture some factor makes all pixels those of torchvision; the lightness stays."""
    batch = noise(20)
    out = treat("saturation0.5", batch)
    for before, after in zip(batch.permute(0, 3, 1, 2), out.permute(0, 3, 1, 2), strict=True):
        errors = [
            (vision.adjust_saturation(before, factor).int() - after.int()).abs().max()
            for factor in np.arange(0.5, 1.501, 0.005)
        ]
        assert min(errors) <= 2


def test_hue_turns_the_colors_and_keeps_the_lightness() -> None:
    """A third of the circle sends the axes of Y'IQ as colorsys knows them; grey stays grey."""
    (matrix,) = recolor.hue_matrix(np.array([1 / 3]))
    for color in ((0.8, 0.3, 0.1), (0.5, 0.5, 0.5), (0.2, 0.4, 0.9)):
        y, i, q = colorsys.rgb_to_yiq(*color)
        expected = (y, -0.5 * i - 0.75**0.5 * q, 0.75**0.5 * i - 0.5 * q)
        assert colorsys.rgb_to_yiq(*(matrix @ color)) == pytest.approx(expected, abs=0.02)
    assert recolor.hue_matrix(np.array([0.0, 1.0])) == pytest.approx(np.stack([np.eye(3)] * 2), abs=1e-12)
    batch = noise(100)
    luma = torch.tensor([0.299, 0.587, 0.114])
    out = treat("hue0.1", batch)
    assert ((out.float() - batch.float()) @ luma).abs().mean() < 1  # some colors are clipped
    assert (out != batch).float().mean() > 0.8


def test_color_is_brightness_contrast_and_saturation() -> None:
    grey = torch.full((200, 2, 2, 1), 100, dtype=torch.uint8)
    out = treat("color0.2", grey)
    assert out.min() >= 80
    assert out.max() <= 120
    assert int(out.max()) - int(out.min()) > 30
    colored = noise(200)
    change, before = ((x - x.mean(3, keepdim=True)).std((1, 2, 3)) / x.mean((1, 2, 3))
                      for x in (treat("color0.2", colored).float(), colored.float()))  # fmt: skip
    change = change / before
    assert float(change.min()) < 0.8
    assert float(change.max()) > 1.2


def test_composed_colors_are_those_one_after_the_other() -> None:
    batch = noise(50)
    together = Augmentation("brightness0.2 contrast0.2 saturation0.3 hue0.1")(batch, np.arange(50), seed=1, epoch=1)
    apart = batch
    for word in ("contrast0.2", "saturation0.3", "hue0.1", "brightness0.2"):
        apart = Augmentation(word)(apart, np.arange(50), seed=1, epoch=1)
    difference = (together.int() - apart.int()).abs()
    assert difference.float().mean() < 0.6  # rounded once and not four times
    assert difference.float().quantile(0.99) <= 2


def test_lighting_moves_along_the_axes_of_the_colors() -> None:
    """Pictures that differ in nothing but how red they are become redder or less red, and nothing else."""
    batch = torch.full((400, 4, 4, 3), 100, dtype=torch.uint8)
    batch[..., 0] = torch.from_numpy(np.random.default_rng(0).integers(60, 141, (400, 1, 1), np.uint8))
    deviation = batch[..., 0].float().std()
    change = (treat("lighting0.5", batch).float() - batch.float()).mean((1, 2))
    assert change[:, 1:].abs().max() == 0
    assert float(change[:, 0].std()) == pytest.approx(0.5 * float(deviation), rel=0.15)


def test_axes_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    pixels = noise(50).numpy() // np.array([1, 2, 5], np.uint8)
    found = recolor.color_axes(pixels)[:, ::-1].T
    model = PCA().fit(pixels.reshape(-1, 3).astype(float))
    expected = model.components_ * np.sqrt(model.explained_variance_)[:, None]
    assert np.abs(found) == pytest.approx(np.abs(expected), rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_pictures_have_uncorrelated_neighbors_of_equal_variance(channels: int) -> None:
    from scipy.ndimage import gaussian_filter

    levels = gaussian_filter(np.random.default_rng(0).normal(size=(60, 40, 40, channels)), (0, 1, 1, 0))
    levels[..., -1] += levels[..., 0]  # neighbors and channels are correlated
    batch = torch.from_numpy((128 + 40 * levels / levels.std()).clip(0, 255).astype(np.uint8))
    white = recolor.whiten(batch, np.ones(60), recolor.zca_kernel(batch.numpy())).float()
    inner = white[:, 5:-5, 5:-5]
    neighbors = lambda x: float(np.corrcoef(x[:, :, 1:].flatten(), x[:, :, :-1].flatten())[0, 1])  # noqa: E731
    assert neighbors(batch) > 0.6
    assert abs(neighbors(inner)) < 0.3
    assert float(inner.mean()) == pytest.approx(128, abs=1)
    assert 25 < float(inner.std()) < 60
    if channels == 3:
        assert abs(np.corrcoef(inner[..., 0].flatten(), inner[..., 2].flatten())[0, 1]) < 0.1
    half = recolor.whiten(batch, np.full(60, 0.5), recolor.zca_kernel(batch.numpy())).float()
    whole = (white > 0) & (white < 255)  # not clipped
    assert (half - (white + batch.float()) / 2)[whole].abs().max() <= 1.01


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_torchvisions_with_the_same_kernel(sigma: float, channels: int) -> None:
    batch, reach = noise(6, 20, 27, channels), 6
    ours = recolor.blur(batch, np.full(6, sigma), reach=reach)
    theirs = vision.gaussian_blur(batch.permute(0, 3, 1, 2), [2 * reach + 1] * 2, [sigma] * 2).permute(0, 2, 3, 1)
    assert (ours.int() - theirs.int()).abs().max() <= 1
    assert (ours == theirs).float().mean() > 0.99


def test_a_blur_of_zero_is_none() -> None:
    batch = noise(3)
    assert torch.equal(recolor.blur(batch, np.zeros(3), reach=2), batch)


@pytest.mark.parametrize("side", [1, 5, 11])
def test_cutout_hides_exactly_one_square(side: int) -> None:
    batch = noise(200)
    batch[:, ::2] //= 3  # no row has the mean color
    out = treat(f"cutout{side}", batch)
    mean = batch.double().mean((1, 2)).round().to(torch.uint8)
    tops = set()
    for before, after, color in zip(batch, out, mean, strict=True):
        hidden = (after == color).all(2)
        rows, columns = hidden.any(1).nonzero().flatten(), hidden.any(0).nonzero().flatten()
        top, left = int(rows[0]), int(columns[0])
        square = torch.zeros_like(hidden)
        square[top : top + side, left : left + side] = True
        assert torch.equal(hidden, square)
        assert torch.equal(after[~square], before[~square])
        tops.add(top)
    assert tops == set(range(12 - side + 1))
