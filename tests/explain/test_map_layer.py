"""The layer that is drawn is found by running: whatever goes around a layer disqualifies it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import ConfigError, UnknownNameError
from pellucid.explain.map_layer import as_maps, changed, find_map_layer
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture, build, find_architecture

PICTURE = np.random.default_rng(1).integers(0, 256, (16, 16, 1), np.uint8)


def classifier_of(module: nn.Module, side: int = 16, channels: int = 1) -> Classifier:
    contract = PixelContract(side, side, channels=channels)
    return Classifier(module.eval(), ("a", "b"), contract, Architecture("spec", "dense2"))


def test_the_last_map_before_the_picture_is_gone() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    found = find_map_layer(classifier_of(module), PICTURE)
    assert (found.name, found.size, found.chosen) == ("2", (7, 7), True)


class Around(nn.Module):
    """A block that half of the signal goes around: only what comes after the sum carries everything."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.head = (
            nn.Conv2d(1, 3, 3, padding=1),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Linear(3, 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.head((x + self.branch(x)).relu().mean((2, 3)))


def test_a_branch_does_not_carry_all_of_the_signal() -> None:
    torch.manual_seed(0)
    assert find_map_layer(classifier_of(Around()), PICTURE).name == "first"


def test_a_module_that_works_twice_is_drawn_where_it_works_last() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.act, self.head = (
                nn.Conv2d(1, 3, 3),
                nn.Conv2d(3, 3, 3),
                nn.ReLU(True),
                nn.Linear(3, 2),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.act(self.two(self.act(self.one(x)))).mean((2, 3)))

    found = find_map_layer(classifier_of(Twice()), PICTURE)
    assert (found.name, found.size) == ("act#2", (12, 12))


def test_only_the_call_that_is_named_is_changed_and_nothing_stays_behind() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(256, 2))
    classifier, x = classifier_of(module), torch.randn(1, 1, 16, 16)
    before = module(x)
    with changed(classifier, "0", lambda output: output * 0):
        assert torch.allclose(module(x), module[2].bias[None])
        assert torch.allclose(module(x), module[2].bias[None]), "the calls of each pass are counted anew"
    assert torch.equal(module(x), before)


class Tokens(nn.Module):
    """A small vision transformer: only its class token is read in the end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.head = nn.Conv2d(1, 8, 4, stride=4), nn.Linear(8, 2)
        self.one, self.two = (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([torch.zeros_like(x[:, :1]), x], 1)
        return self.head(self.two(self.one(x))[:, 0])


def test_a_transformer_is_drawn_where_its_places_still_have_a_say() -> None:
    """After the last block only the class token is read; the block before it is the last one whose places matter."""
    found = find_map_layer(classifier_of(Tokens()), PICTURE)
    assert (found.name, found.size) == ("one", (4, 4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"), [("vit_tiny_patch16_224", "blocks.10"), ("swin_tiny_patch4_window7_224", "norm")]
)
def test_transformers_of_timm(name: str, layer: str) -> None:
    torch.manual_seed(0)
    module = build(find_architecture(name), input_shape=(3, 224, 224), num_classes=2)
    picture = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    found = find_map_layer(classifier_of(module, 224, 3), picture)
    assert found.name == layer


def test_layouts_of_maps_and_the_way_back() -> None:
    for shape in ((2, 24, 4, 4), (2, 4, 4, 24), (2, 17, 24), (2, 16, 24)):
        output = torch.randn(shape)
        found = as_maps(output, (16, 16), 2)
        assert found is not None
        assert found[0].shape == (2, 24, 4, 4)
        assert torch.equal(found[1](found[0]), output)
    grid = as_maps(torch.arange(17.0)[None, :, None], (16, 16), 1)
    assert grid is not None
    assert grid[0][0, 0, 1].tolist() == [5, 6, 7, 8], "the class token stands in front, then row by row"
    for shape in ((2, 5, 1, 1), (2, 5), (2, 3, 24), (8, 5, 4, 4)):
        assert as_maps(torch.randn(shape), (16, 16), 2) is None


def test_what_cannot_be_drawn_is_told() -> None:
    dense = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 2)))
    with pytest.raises(ConfigError, match=r"No layer .* maps .*integrated-gradients"):
        find_map_layer(dense, PICTURE)
    convolutional = classifier_of(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(784, 2)))
    assert not find_map_layer(convolutional, PICTURE, "0").chosen
    with pytest.raises(ConfigError, match=r"Layer '1' gives 784 numbers.*last ones: 0"):
        find_map_layer(convolutional, PICTURE, "1")
    with pytest.raises(UnknownNameError, match="no layer 'conv'"):
        find_map_layer(convolutional, PICTURE, "conv")
