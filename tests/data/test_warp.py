"""What moves pixels: exact where it can be, and against SciPy and torchvision where it is interpolated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.transforms.v2 import functional as vision

from pellucid.data import warp
from pellucid.data.augment import Augmentation


def noise(n: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, height, width, channels), np.uint8))


def smooth(n: int, side: int) -> torch.Tensor:
    """Soft structures, on which two ways to interpolate agree."""
    levels = np.random.default_rng(0).normal(size=(n, side, side, 3))
    levels = gaussian_filter(levels, (0, 3, 3, 0))
    return torch.from_numpy((128 + 100 * levels / np.abs(levels).max()).astype(np.uint8))


def turned(batch: torch.Tensor, degrees: float) -> torch.Tensor:
    angle = torch.tensor(np.deg2rad(degrees), dtype=torch.float32)
    matrix = torch.eye(3).repeat(len(batch), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 1, 0], matrix[:, 0, 1] = angle.sin(), -angle.sin()
    return warp.sample(batch, matrix)


@pytest.mark.parametrize("side", [7, 32])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_are_numpys(side: int, quarters: int) -> None:
    batch = noise(5, side, side)
    assert np.array_equal(turned(batch, 90 * quarters).numpy(), np.rot90(batch.numpy(), quarters, axes=(1, 2)))


@pytest.mark.parametrize("degrees", [-33.0, 4.0, 15.0])
def test_other_angles_are_torchvisions(degrees: float) -> None:
    batch = smooth(4, 40)
    ours = turned(batch, degrees)
    theirs = vision.rotate(batch.permute(0, 3, 1, 2), degrees, vision.InterpolationMode.BILINEAR).permute(0, 2, 3, 1)
    inner = slice(9, 31)  # outside theirs is black, ours mirrored
    assert (ours[:, inner, inner].int() - theirs[:, inner, inner].int()).abs().max() <= 1


def test_angles_fill_the_range_that_was_asked_for() -> None:
    """The angle is found again by where a single bright spot on the right has gone."""
    batch = torch.zeros(300, 41, 41, 1, dtype=torch.uint8)
    batch[:, 19:22, 34:37] = 255
    out = Augmentation("rotate30")(batch, np.arange(300), seed=0, epoch=0).float().squeeze(3)
    along = torch.arange(41.0) - 20
    total = out.sum((1, 2))
    x, y = (out.sum(1) * along).sum(1) / total, (out.sum(2) * along).sum(1) / total
    angles = torch.rad2deg(torch.atan2(y, x))
    assert angles.abs().max() < 31
    assert angles.min() < -27
    assert angles.max() > 27
    assert abs(float(angles.mean())) < 3


@pytest.mark.parametrize("height, width", [(20, 20), (24, 50)])
def test_zoom_shows_a_part_and_nothing_from_outside(height: int, width: int) -> None:
    """On a slope the levels say which part is seen."""
    x = torch.arange(width).expand(height, width)
    y = torch.arange(height)[:, None].expand(height, width)
    batch = torch.stack([x, y], dim=2).mul(4).to(torch.uint8).repeat(400, 1, 1, 1)
    out = Augmentation("zoom0.25")(batch, np.arange(400), seed=0, epoch=0).float() / 4
    left, right, top, bottom = out[:, 0, 0, 0], out[:, 0, -1, 0], out[:, 0, 0, 1], out[:, -1, 0, 1]
    across, down = (right - left) / (width - 1), (bottom - top) / (height - 1)
    assert ((across > 0) & (across < 1.01) & (down > 0) & (down < 1.01)).all()
    area = across * down
    assert 0.2 < area.min() < 0.3
    assert 0.9 < area.max() < 1.01
    free = (across < 0.97) & (down < 0.97)
    aspect = (across / down)[free]
    assert 0.69 < aspect.min() < 0.85  # 3/4 and 4/3 but for the rounding to whole pixels
    assert 1.2 < aspect.max() < 1.43
    assert all(torch.equal(edge, edge.round()) for edge in (left, right, top, bottom))
    assert left.min() < 1  # the part lies anywhere
    assert right.max() > width - 2


@pytest.mark.parametrize("height, width, channels", [(40, 40, 3), (9, 70, 1), (33, 20, 5)])
def test_a_zoom_is_the_same_enlarged_and_sampled(height: int, width: int, channels: int) -> None:
    """One level apart, since an enlarged picture is rounded after its columns and again after its rows."""
    batch = noise(30, height, width, channels)
    boxes = warp._boxes(np.full(30, 0.1), np.random.default_rng(1).random((30, 4)), height, width)
    sampled = warp.sample(batch, torch.from_numpy(warp._zoom(boxes, height, width)).float())
    enlarged = warp._by_picture(batch.clone(), boxes, None, None)
    assert (sampled.int() - enlarged.int()).abs().max() <= 1
    assert (batch.int() - enlarged.int()).abs().float().mean() > 20


@pytest.mark.parametrize("height, width", [(16, 16), (10, 30)])
def test_perspective_sends_corners_to_corners(height: int, width: int) -> None:
    draws = np.random.default_rng(0).random((50, 8))
    matrix = warp._perspective(np.full(50, 0.8), draws, height, width)
    size = np.array([width - 1, height - 1])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2
    homogeneous = np.concatenate([corners, np.ones((4, 1))], axis=1)
    sent = np.einsum("nij,kj->nki", matrix, homogeneous)
    found = sent[..., :2] / sent[..., 2:]
    expected = corners + 0.2 * (2 * draws.reshape(50, 4, 2) - 1) * size
    assert found == pytest.approx(expected, abs=1e-9)
    assert (sent[..., 2] > 0).all()


def test_perspective_is_torchvisions() -> None:
    batch = smooth(1, 40)
    draws = np.random.default_rng(3).random((1, 8))
    matrix = torch.from_numpy(warp._perspective(np.full(1, 0.6), draws, 40, 40)).float()
    corners = [[0, 0], [39, 0], [39, 39], [0, 39]]
    source = (np.array(corners) + 39 * 0.15 * (2 * draws.reshape(4, 2) - 1)).tolist()
    theirs = vision.perspective(batch.permute(0, 3, 1, 2), source, corners, vision.InterpolationMode.BILINEAR)
    inner = slice(8, 32)
    difference = (warp.sample(batch, matrix).int() - theirs.permute(0, 2, 3, 1).int())[:, inner, inner]
    assert difference.abs().max() <= 3  # theirs takes corners as the edges of pixels


def test_elastic_waves_are_as_strong_as_asked_and_smooth() -> None:
    """On a slope of 4 levels a pixel the displacement can be read off."""
    batch = torch.arange(60).mul(4).to(torch.uint8).expand(40, 60).view(1, 40, 60, 1).repeat(300, 1, 1, 1)
    out = Augmentation("elastic1.5")(batch, np.arange(300), seed=0, epoch=0)
    moved = ((out.float() - batch.float()) / 4)[:, :, 12:48, 0]
    assert float(moved.square().mean().sqrt()) == pytest.approx(1.5, rel=0.05)
    assert abs(float(moved.mean())) < 0.1
    assert float(moved.diff(dim=1).square().mean().sqrt()) < 0.4  # neighbors move alike


def test_constant_pictures_stay_constant() -> None:
    batch = torch.full((50, 9, 14, 3), 77, dtype=torch.uint8)
    out = Augmentation("flip vflip shift4 zoom0.3 rotate180 perspective0.9 elastic3")(
        batch, np.arange(50), seed=0, epoch=0
    )
    assert (out == 77).all()
