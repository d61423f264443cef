"""Vectors of layers: plain means over positions, of layers that stand for the whole network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import ShapeError, UnknownNameError
from pellucid.explain.vectors import ANSWERS, PIXELS, fingerprint, layer_width, look, see, stages
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture, build, find_architecture


def a_classifier(name: str, *, side: int = 32, channels: int = 3, classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    architecture = find_architecture(name)
    module = build(architecture, input_shape=(channels, side, side), num_classes=classes).eval()
    return Classifier(module, tuple("abcdefgh"[:classes]), PixelContract(side, side, channels=channels), architecture)


def some_pixels(count: int, side: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_stages_end_before_the_next_layer_that_learns() -> None:
    classifier = a_classifier("conv4 relu pool conv8 bn relu conv8 relu globalpool dense5 relu")
    names = [name for name, _ in classifier.module.named_children()]
    kinds = {name: type(layer).__name__ for name, layer in classifier.module.named_children()}
    assert [kinds[name] for name in stages(classifier)] == ["MaxPool2d", "ReLU", "AdaptiveAvgPool2d", "ReLU", "Linear"]
    assert stages(classifier)[-1] == names[-1]
    widths = [layer_width(classifier, name) for name in stages(classifier)]
    assert widths == [4, 8, 8, 5, 3]


def test_blocks_are_opened_until_there_are_enough_and_left_whole_then() -> None:
    assert stages(a_classifier("fastnet")) == ("act", "blocks.0", "blocks.1", "pool", "scale")
    assert stages(a_classifier("test_resnet"))[-2:] == ("global_pool", "fc")
    deep = a_classifier("14x[conv4,psame relu] globalpool")
    every = [name for name, layer in deep.module.named_children() if isinstance(layer, nn.ReLU)]
    found = stages(deep)
    assert len(found) == 12
    assert [name for name in every if name in found] == list(found[:-2])
    assert found[0] == every[0]


def test_a_map_becomes_its_mean_over_positions_and_logits_stay() -> None:
    classifier, pixels = a_classifier("test_resnet"), some_pixels(3)
    seen = see(classifier, pixels, ["layer2", "fc", ANSWERS])
    x = classifier.contract.tensor(pixels)
    with torch.no_grad():
        m = classifier.module
        maps = m.layer2(m.layer1(m.maxpool(m.act1(m.bn1(m.conv1(x))))))
        np.testing.assert_allclose(seen["layer2"], maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen["fc"], m(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(seen[ANSWERS], classifier.predict_proba(pixels))
    twofold = replace(classifier, mirror=True, offsets=(0.5, 0.0, 0.0))
    np.testing.assert_array_equal(see(twofold, pixels, [ANSWERS])[ANSWERS], twofold.predict_proba(pixels))
    assert not np.array_equal(seen[ANSWERS], twofold.predict_proba(pixels))


def test_tokens_become_their_mean() -> None:
    classifier, pixels = a_classifier("test_vit", side=160), some_pixels(2, 160)
    m = classifier.module
    with torch.no_grad():
        tokens = m.blocks[0](m.norm_pre(m.patch_drop(m._pos_embed(m.patch_embed(classifier.contract.tensor(pixels))))))
    np.testing.assert_allclose(see(classifier, pixels, ["blocks.0"])["blocks.0"], tokens.mean(1), rtol=1e-4, atol=1e-5)
    assert stages(classifier)[-1] == "head"
    assert layer_width(classifier, stages(classifier)[-2]) == m.num_features


class ChannelsLast(nn.Module):
    """Maps (N, H, W, C), as Swin has them, and one that is cut into windows."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.last = nn.Identity()
        self.windows = nn.Identity()
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.windows(x.reshape(-1, 4, 6)).mean(1).reshape(len(x), -1, 6).mean(1))


def test_maps_with_their_channels_last_are_told_and_windows_are_refused() -> None:
    classifier = Classifier(ChannelsLast().eval(), ("a", "b"), PixelContract(32, 32), Architecture("spec", "dense2"))
    pixels = some_pixels(2)
    with torch.no_grad():
        maps = classifier.module.patches(classifier.contract.tensor(pixels))
    np.testing.assert_allclose(see(classifier, pixels, ["last"])["last"], maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match=r"'windows' gives \(32, 4, 6\) for 2 pictures.*head"):
        layer_width(classifier, "windows")


def test_what_works_in_place_behind_a_layer_changes_nothing() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)).eval()
    classifier = Classifier(module, ("a", "b"), PixelContract(32, 32), Architecture("spec", "dense2"))
    assert (see(classifier, some_pixels(9), ["1"])["1"] < 0).any()


def test_an_unknown_layer_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'blocks.11'.*blocks\.1"):
        layer_width(a_classifier("fastnet"), "blocks.11")


def test_threads_see_what_one_sees_in_order() -> None:
    classifier, pixels = a_classifier("fastnet"), some_pixels(600)
    layers = [PIXELS, "blocks.0", "pool"]
    rows = np.random.default_rng(1).permutation(600)
    found = list(look(classifier, layers, lambda some: pixels[some], rows))
    np.testing.assert_array_equal(np.concatenate([some for some, _ in found]), rows)
    alone = see(classifier, pixels, layers)
    for layer in layers:
        together = np.concatenate([vectors[layer] for _, vectors in found])
        np.testing.assert_allclose(together, alone[layer][rows], rtol=1e-4, atol=1e-5)
    assert not any(m._forward_hooks for m in classifier.module.modules())


def test_a_fingerprint_is_of_the_weights() -> None:
    first, same = a_classifier("fastnet"), a_classifier("fastnet")
    assert fingerprint(first) == fingerprint(same)
    with torch.no_grad():
        same.module.head.weight[0, 0] += 1e-3
    assert fingerprint(first) != fingerprint(same)
