"""What is worked out is what torch finds: random positions of all layers of architectures of many kinds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.explain.layers import passes
from pellucid.explain.steps import follow
from pellucid.explain.trace import trace
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture

SLOW = pytest.mark.slow
NETWORKS = [
    ("conv8,k3x5,s2,p1 bn gelu avgpool conv16,p1,g4,d2 silu globalpool dropout0.2", 20, 2),
    (
        "init:he conv8 bn relu 2x[residual[conv8,psame bn relu conv8,psame bn] relu] residual,project[conv16,s2,p1] step",
        12,
        2,
    ),
    ("fastnet-8-32-32", 32, 3),
    pytest.param("torchvision/squeezenet1_1", 64, 3, marks=SLOW),
    pytest.param("resnet18", 64, 3, marks=SLOW),
    pytest.param("mobilenetv2_100", 64, 3, marks=SLOW),
    pytest.param("vgg11", 32, 3, marks=SLOW),
    pytest.param("densenet121", 64, 3, marks=SLOW),
    pytest.param("inception_v3", 96, 3, marks=SLOW),
    pytest.param("xception", 64, 3, marks=SLOW),
    pytest.param("efficientnet_b0", 64, 3, marks=SLOW),
    pytest.param("convnext_atto", 64, 3, marks=SLOW),
    pytest.param("torchvision/mobilenet_v3_small", 64, 3, marks=SLOW),
]


@pytest.mark.parametrize(("name", "side", "channels"), NETWORKS)
def test_every_layer_agrees_with_torch(name: str, side: int, channels: int) -> None:
    """One position of each layer and block, together over 2,000, within 1e-5 of what torch found in 32 bits, relative to the size
    of what is added; and layers also, relative to the number itself, with what they find in 64 bits."""
    classifier = random_network(name, side, channels)
    rng = np.random.default_rng(0)
    x = classifier.contract.tensor(rng.integers(0, 256, (1, side, side, channels), np.uint8))
    for layer, passed in passes(classifier, x).items():
        at = tuple(int(rng.integers(size)) for size in passed.output.shape)
        *_, last = works = follow(trace(classifier, x, layer), at, layer)
        assert last.torch == pytest.approx(float(passed.output[at]), rel=1e-5, abs=1e-7), layer
        assert max(work.difference for work in works) < 1e-5, layer
        if not passed.is_block and len(works) == 1:
            module = copy.deepcopy(passed.module).double()
            exact = float(module(*(tensor.double() for tensor in passed.inputs)).detach()[at])
            assert last.value == pytest.approx(exact, rel=1e-9, abs=1e-12), layer


def random_network(name: str, side: int, channels: int) -> Classifier:
    """Random weights, and norms whose statistics and numbers are not those of a start."""
    torch.manual_seed(0)
    architecture = find_architecture(name)
    module = build(architecture, input_shape=(channels, side, side), num_classes=5).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean, 0, 0.3)
            nn.init.uniform_(layer.running_var, 0.3, 2)
    return Classifier(module, tuple("abcde"), PixelContract(side, side, channels=channels), architecture)
