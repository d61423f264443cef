"""Layers' outputs as channels with places, for the layouts that real networks use."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import UnknownNameError
from pellucid.explain.layers import passes
from pellucid.explain.units import as_units, find_units, mapped
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture


def network(name: str, shape: tuple[int, int, int] = (3, 32, 32)) -> Classifier:
    torch.manual_seed(0)
    architecture = find_architecture(name)
    module = build(architecture, input_shape=shape, num_classes=2)
    return Classifier(module.eval(), ("a", "b"), PixelContract(shape[1], shape[2], channels=shape[0]), architecture)


def test_a_convolution_keeps_its_layout_and_a_dense_layer_has_one_place():
    classifier, x = network("conv8 relu pool dense16 relu"), torch.randn(2, 3, 32, 32)
    found = passes(classifier, x)
    conv = next(name for name, p in found.items() if isinstance(p.module, nn.Conv2d))
    dense = next(name for name, p in found.items() if isinstance(p.module, nn.Linear))
    assert torch.equal(find_units(classifier, found, conv).values, found[conv].output)
    units = find_units(classifier, found, dense)
    assert not units.is_map
    assert torch.equal(units.values[..., 0, 0], found[dense].output)


def test_the_rows_of_a_transformer_lie_on_its_grid_without_the_class_token():
    classifier = network("vit_tiny_patch16_224", (3, 64, 96))
    found = passes(classifier, torch.randn(1, 3, 64, 96))
    units = find_units(classifier, found, "blocks.0")
    tokens = found["blocks.0"].output  # (1, 1 + 4 * 6, 192)
    assert tokens.shape == (1, 25, 192)
    assert units.is_map
    assert units.values.shape == (1, 192, 4, 6)
    assert torch.equal(units.values[0, :, 2, 5], tokens[0, 1 + 2 * 6 + 5])


def test_channels_that_stand_last_are_told_by_the_pictures_proportions():
    classifier = network("conv8 relu dense4", (3, 64, 96))
    inside = torch.randn(2, 16, 24, 40)
    assert torch.equal(as_units(classifier, nn.GELU(), inside, 2).values, inside.permute(0, 3, 1, 2))
    outside = torch.randn(2, 40, 16, 24)
    assert torch.equal(as_units(classifier, nn.GELU(), outside, 2).values, outside)
    assert torch.equal(as_units(classifier, nn.Conv2d(3, 16, 1), inside, 2).values, inside)  # it cannot


def test_what_has_no_channels_is_none():
    classifier = network("conv8 relu dense4")
    layer = nn.Identity()
    assert as_units(classifier, layer, torch.zeros(2), 2) is None
    assert as_units(classifier, layer, torch.zeros(8, 3), 2) is None  # windows in place of pictures
    assert as_units(classifier, layer, torch.zeros(2, 3, dtype=torch.int64), 2) is None


def test_an_unknown_layer_is_told_with_the_nearest():
    classifier = network("conv8 relu dense4")
    found = passes(classifier, torch.zeros(1, 3, 32, 32))
    with pytest.raises(UnknownNameError, match="Did you mean"):
        find_units(classifier, found, next(iter(found)) + "x")


def test_all_maps_are_those_that_the_next_layers_see():
    """A convolution in front of a norm, a norm in front of an activation, and what is the same again are left out."""
    classifier = network("conv8 bn relu pool conv16 relu dense4")
    kinds = [type(dict(classifier.module.named_modules())[name]).__name__ for name in
             mapped(classifier, passes(classifier, torch.randn(1, 3, 32, 32)))]  # fmt: skip
    assert kinds == ["ReLU", "MaxPool2d", "ReLU"]


def test_a_norm_that_ends_a_block_without_an_activation_is_shown():
    classifier = network("mobilenetv2_050", (3, 64, 64))
    names = list(mapped(classifier, passes(classifier, torch.randn(1, 3, 64, 64))))
    assert {"bn1.act", "blocks.0.0.bn2"} <= set(names)
    assert not {"conv_stem", "bn1", "blocks.0.0.bn2.act"} & set(names)
