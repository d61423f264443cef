"""Heat maps against what each method must give on networks small enough to work out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import ConfigError, UnknownNameError
from pellucid.explain.attribution import METHODS, Target, attribute, find_method, randomized, why_refused
from pellucid.explain.map_layer import MapLayer, find_map_layer
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture

PICTURES = np.random.default_rng(1).integers(0, 256, (3, 14, 14, 1), np.uint8)


def classifier_of(module: nn.Module, side: int = 14, channels: int = 1) -> Classifier:
    contract = PixelContract(side, side, channels=channels)
    return Classifier(module.eval(), ("a", "b"), contract, Architecture("spec", "dense2"))


class Pooled(nn.Module):
    """Convolution, a ReLU that works in place and is used twice, global average, dense: Grad-CAM is CAM here."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.act = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.two(self.act(self.one(x)))).mean((2, 3)))


def test_grad_cam_is_the_class_activation_map_before_and_after_a_relu_in_place() -> None:
    """Zhou et al. 2016: with global pooling and a dense layer the map is the sum of the maps times the layer's weights."""
    module = Pooled()
    classifier = classifier_of(module)
    x = classifier.contract.tensor(PICTURES)
    with torch.no_grad():
        before = module.two(module.one(x).relu())
        weights = module.head.weight[1] / (14 * 14)
        cam = (before.relu() * weights[:, None, None]).sum(1)
        gradient = (before > 0).float().mean((2, 3), keepdim=True) * weights[:, None, None]
        cam_before = (before * gradient).sum(1)
    layer = find_map_layer(classifier, PICTURES[0])
    assert layer.name == "act#2"
    np.testing.assert_allclose(attribute(classifier, PICTURES, Target(1), "grad-cam", layer), cam, rtol=1e-4, atol=1e-6)
    found = attribute(classifier, PICTURES, Target(1), "grad-cam", MapLayer("two", (14, 14), False))
    np.testing.assert_allclose(found, cam_before, rtol=1e-4, atol=1e-6)


class Sum(nn.Module):
    """A linear network: the score of b is a weighted sum of the pixels, so every place's part in it is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(14, 14, generator=torch.Generator().manual_seed(2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x[:, 0] * self.weight).sum((1, 2))
        return torch.stack([-score, score], 1)


def test_the_parts_of_a_linear_network_are_found() -> None:
    module = Sum()
    classifier = classifier_of(module)
    parts = (classifier.contract.tensor(PICTURES)[:, 0] * module.weight).detach()
    found = attribute(classifier, PICTURES, Target(1), "integrated-gradients", None)
    np.testing.assert_allclose(found, parts, rtol=1e-3, atol=1e-4)
    found = attribute(classifier, PICTURES, Target(1, -1), "integrated-gradients", None)
    np.testing.assert_allclose(found, -parts, rtol=1e-3, atol=1e-4)
    cells = F.avg_pool2d(parts[:, None], 2)[:, 0] * 4  # 7 x 7 players
    np.testing.assert_allclose(
        attribute(classifier, PICTURES, Target(1), "shapley", None)[:, ::2, ::2], cells, rtol=1e-3, atol=1e-3
    )
    strength = module.weight.detach().abs().numpy()
    smooth = attribute(classifier, PICTURES, Target(1), "smoothgrad", None)
    np.testing.assert_allclose(smooth, np.broadcast_to(strength, smooth.shape), rtol=1e-4)


def test_occlusion_finds_what_is_covered() -> None:
    module = Sum()
    module.weight.data[:] = 0
    module.weight.data[4:6, 8:10] = 1
    picture = np.full((1, 14, 14, 1), 255, np.uint8)
    found = attribute(classifier_of(module), picture, Target(1), "occlusion", None)[0]
    assert found[4:6, 8:10].min() == found.max() > 0
    assert found[8:, :].max() == 0


def test_a_classifier_that_looks_at_the_mirror_image_is_explained_on_both() -> None:
    classifier = classifier_of(Sum())
    both = attribute(replace(classifier, mirror=True), PICTURES, Target(1), "integrated-gradients", None)
    plain = attribute(classifier, PICTURES, Target(1), "integrated-gradients", None)
    mirrored = attribute(classifier, PICTURES[:, :, ::-1], Target(1), "integrated-gradients", None)[:, :, ::-1]
    np.testing.assert_allclose(both, (plain + mirrored) / 2, rtol=1e-4, atol=1e-5)
    x = classifier.contract.tensor(PICTURES)
    with torch.no_grad():
        score = replace(classifier, mirror=True).logits(x)[:, 1]
    np.testing.assert_allclose(both.sum((1, 2)), score, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_first_layer_in_place_does_no_harm_and_the_same_seed_gives_the_same_map(method: str) -> None:
    module = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(432, 2)
    )
    classifier = classifier_of(module)
    layer = find_map_layer(classifier, PICTURES[0])
    state = torch.random.get_rng_state()
    one, two = (attribute(classifier, PICTURES, Target(0), method, layer, seed=3) for _ in range(2))
    assert np.array_equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), state), "nobody else's random numbers are used up"
    assert one.shape == (3, 14, 14)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_maps_that_say_nothing_are_refused_with_the_reason() -> None:
    assert why_refused(np.array([[0.0, 1.0]])) is None
    assert "finite" in str(why_refused(np.array([[0.0, np.nan]])))
    assert "same everywhere" in str(why_refused(np.full((2, 2), 0.3)))
    assert "speaks against" in str(why_refused(np.array([[-1.0, -2.0]])))


def test_methods_that_are_none_and_those_left_out_on_purpose() -> None:
    with pytest.raises(UnknownNameError, match=r"grad-cma.*Did you mean grad-cam"):
        find_method("grad-cma")
    for name in ("guided-backprop", "Guided_GradCAM"):
        with pytest.raises(UnknownNameError, match="hardly change when the weights"):
            find_method(name)
    with pytest.raises(ConfigError, match="has none"):
        attribute(classifier_of(Sum()), PICTURES, Target(0), "grad-cam", None)


def test_random_weights_are_the_same_numbers_elsewhere() -> None:
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 2))
    classifier = classifier_of(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    twin = randomized(classifier, PICTURES)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), "the network itself is left as it is"
    assert torch.equal(twin.module[0].weight.flatten().sort()[0], before["0.weight"].flatten().sort()[0])
    assert not torch.equal(twin.module[0].weight, before["0.weight"])
    normed = twin.module[1](twin.module[0](twin.contract.tensor(PICTURES)))
    assert normed.std() < 2, "batch normalization knows the new signals"
    assert not twin.module.training
