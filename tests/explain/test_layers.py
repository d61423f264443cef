from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import UnknownNameError
from pellucid.explain.layers import find_layer, passes
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.act = nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(18, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(self.act(self.conv(x))))


def a_classifier(module: nn.Module) -> Classifier:
    return Classifier(module, ("a", "b"), PixelContract(5, 5, channels=1), Architecture("spec", "dense2"))


def test_each_call_has_a_name_and_what_went_in_and_came_out() -> None:
    classifier, x = a_classifier(Twice()), torch.randn(3, 1, 5, 5)
    found = passes(classifier, x)
    assert list(found) == ["conv", "act", "body.0", "body.1", "body", "act#2"]
    assert torch.equal(found["conv"].output, classifier.module.conv(x))
    assert (found["conv"].output < 0).any(), "the ReLU that works in place must not reach it"
    assert torch.equal(found["act"].inputs[0], found["conv"].output)
    assert torch.equal(found["act#2"].output, found["body"].output.relu())
    assert found["body"].is_block
    assert not found["conv"].is_block


def test_only_what_is_wanted_is_kept_and_the_module_is_left_as_it_was() -> None:
    classifier = a_classifier(Twice())
    classifier.module.train()
    assert list(passes(classifier, torch.zeros(1, 1, 5, 5), keep=lambda name: name == "act#2")) == ["act#2"]
    assert classifier.module.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in classifier.module.modules())


def test_an_unknown_layer_is_told_with_the_nearest_names() -> None:
    assert find_layer(["conv1", "conv2"], "conv2") == "conv2"
    with pytest.raises(UnknownNameError, match=r"no layer 'konv1'.*conv1"):
        find_layer(["conv1", "head"], "konv1")


def test_a_first_layer_that_works_in_place_leaves_the_picture_as_it_was() -> None:
    x = -torch.ones(1, 1, 5, 5)
    passes(a_classifier(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(25, 2))), x)
    assert (x == -1).all()
