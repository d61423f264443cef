"""Optimized pictures, where the best answer is known, and beside pictures of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import ConfigError, UnknownNameError
from pellucid.explain.preferred import preferred
from pellucid.explain.visualise import _moved, _Waves, optimize
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture


def of(*layers: nn.Module, channels: int = 1, classes: tuple[str, ...] = ("a", "b")) -> Classifier:
    contract = PixelContract(16, 16, channels=channels)
    return Classifier(nn.Sequential(*layers).eval(), classes, contract, Architecture("spec", "dense2"))


def stripes() -> nn.Conv2d:
    """Channel 0 likes bright columns beside dark ones, channel 1 rows."""
    conv = nn.Conv2d(1, 2, 4, bias=False)
    with torch.no_grad():
        conv.weight[0] = torch.tensor([1.0, 1.0, -1.0, -1.0]).expand(4, 4)
        conv.weight[1] = conv.weight[0].mT
    return conv


@pytest.mark.parametrize("rectifier", [nn.Identity(), nn.ReLU()])
def test_a_filter_gets_what_it_looks_for(rectifier):
    made = optimize(of(stripes(), rectifier), layer="1", units=(0, 1), steps=150)
    most = 16 * (1 - 0) / 0.25 / 2  # half of 16 weights on white, half on black, std 0.25
    assert made.reached == pytest.approx([most, most], rel=0.1)
    assert (made.reached > 4 * made.start).all()
    columns, rows = made.pictures[..., 0].astype(float)
    assert np.abs(np.diff(columns, axis=1)).mean() > 1.5 * np.abs(np.diff(columns, axis=0)).mean()
    assert np.abs(np.diff(rows, axis=0)).mean() > 1.5 * np.abs(np.diff(rows, axis=1)).mean()


def test_what_is_reached_is_measured_on_the_finished_picture():
    classifier = of(stripes(), nn.ReLU())
    made = optimize(classifier, layer="1", units=(0, 1), steps=5)
    with torch.no_grad():
        maps = classifier.module(classifier.contract.tensor(made.pictures))
    assert made.reached == pytest.approx([maps[0, 0].max().item(), maps[1, 1].max().item()], rel=1e-5)


def test_the_same_seed_gives_the_same_picture_whichever_others_are_made():
    classifier = of(stripes())
    both, alone, other = (
        optimize(classifier, layer="0", units=units, steps=8, seed=seed)
        for units, seed in (((0, 1), 3), ((1,), 3), ((1,), 4))
    )
    assert np.abs(both.pictures[1].astype(int) - alone.pictures[0]).max() <= 1
    assert np.abs(other.pictures[0].astype(int) - alone.pictures[0]).max() > 20
    again = optimize(classifier, layer="0", units=(1,), steps=8, seed=3)
    assert np.array_equal(again.pictures, alone.pictures)


def test_a_class_is_driven_up_through_the_classifiers_own_logits():
    classifier = of(stripes(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), classes=("columns", "rows"))
    found = preferred(classifier, "none", classes=["rows"], steps=60)
    assert found.optimized.names == ("rows",)
    logits = classifier.predict_logits(found.optimized.pictures)
    assert found.optimized.reached == pytest.approx(logits[:, 1].numpy(), rel=1e-5)
    assert logits[0, 1] > 1.5 * logits[0, 0]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_number_of_channels(channels):
    torch.manual_seed(0)
    made = optimize(of(nn.Conv2d(channels, 3, 3), channels=channels), layer="0", count=2, steps=20)
    assert made.pictures.shape == (2, 16, 16, channels)
    assert (made.reached > made.start).all()


def test_the_weights_and_the_mode_of_the_module_are_left_as_they_were():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    classifier = of(module)
    classifier.module.train()
    optimize(classifier, layer="0.2", count=2, steps=3)
    assert classifier.module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in classifier.module.modules())


def test_a_dead_rectifier_still_gets_a_picture_that_wakes_it():
    """Below zero a ReLU lets no gradient through: what it is given is driven up in its place."""
    conv = stripes()
    conv.bias = nn.Parameter(torch.full((2,), -6.0))
    made = optimize(of(conv, nn.ReLU()), layer="1", units=(0, 1), steps=100)
    assert made.start.max() == 0
    assert made.reached.min() > 10


def test_the_second_call_of_a_layer_is_another_layer():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = stripes(), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(-self.act(self.conv(x)) + 1.0).flatten(1)

    made = optimize(of(Twice()), layer="0.act#2", units=(0,), steps=60)
    assert made.reached == pytest.approx([1.0])  # of a flat picture, while the first call likes stripes


def test_bad_requests_name_the_range():
    classifier = of(stripes())
    with pytest.raises(ConfigError, match=r"Channel 2 was asked for, but '0' has 2 channels: 0 to 1"):
        optimize(classifier, layer="0", units=(2,))
    with pytest.raises(UnknownNameError, match="no layer 'conv'"):
        optimize(classifier, layer="conv")
    with pytest.raises(UnknownNameError, match="no class 'c'"):
        preferred(classifier, "none", classes=["c"])
    with pytest.raises(ConfigError, match="--class"):
        preferred(classifier, "none", layer="0", units=[0], classes=["a"])


def test_it_is_said_whether_the_optimization_worked(tmp_path):
    from PIL import Image

    columns = np.tile(np.array([255, 255, 0, 0], np.uint8), (16, 4))
    Image.fromarray(columns).save(tmp_path / "columns.png")
    classifier = of(stripes())
    found = preferred(classifier, "none", layer="0", units=[0, 1], steps=1, top=str(tmp_path))
    assert found.largest(0) == pytest.approx(32)
    assert "NOT above the own pictures' 32" in found.verdict(0)
    assert "NOT" not in preferred(classifier, "none", layer="0", units=[1], steps=60, top=str(tmp_path)).verdict(0)
    content = found.to_dict()
    assert content["units"][0]["own"] == pytest.approx(32)
    sheet = np.asarray(found.sheet())
    assert sheet.shape[0] > 2 * 128
    assert any(
        np.array_equal(
            sheet[y : y + 128, x : x + 128, 0], np.kron(found.optimized.pictures[0, ..., 0], np.ones((8, 8), np.uint8))
        )
        for y, x in np.argwhere(sheet[..., 0] >= 0)[::1]
        if sheet[y : y + 128, x : x + 128, 0].shape == (128, 128) and 100 < x < 160 and y < 140
    )


def test_moves_keep_the_middle_and_the_proportions():
    """The mean of many moved pictures of a bright dot is bright in the middle, as wide as high also where the picture is not."""
    dot = torch.zeros(400, 1, 17, 33)
    dot[:, 0, 8, 16] = 1.0
    draws = [torch.Generator().manual_seed(i) for i in range(400)]
    mean = _moved(dot, draws).mean((0, 1))
    rows, columns = torch.meshgrid(torch.arange(17.0) - 8, torch.arange(33.0) - 16, indexing="ij")
    assert abs((mean * rows).sum() / mean.sum()) < 0.1
    assert abs((mean * columns).sum() / mean.sum()) < 0.2
    bar = torch.zeros(1, 1, 33, 33)
    bar[:, :, 16] = 1.0
    turned = _moved(bar.expand(50, 1, 33, 33), draws[:50])
    assert turned.sum((1, 2, 3)) == pytest.approx(33.0, rel=0.25)


def test_waves_begin_as_grey_and_can_become_any_picture():
    waves = _Waves((3, 8, 10), [torch.Generator().manual_seed(0)], torch.device("cpu"))
    assert waves.levels().mean().item() == pytest.approx(0.5, abs=0.05)
    wanted = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    optimizer = torch.optim.LBFGS([waves.strengths], max_iter=300, line_search_fn="strong_wolfe")

    def error() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (waves.levels() - wanted).square().sum()
        loss.backward()
        return loss

    optimizer.step(error)
    assert (waves.levels() - wanted).abs().max() < 0.02
