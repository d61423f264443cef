"""Filters as pictures, against the weights themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import ShapeError, UnknownNameError
from pellucid.explain.color import colored
from pellucid.explain.filters import first_filters
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture


def of(*layers: nn.Module, channels: int = 3) -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        nn.Sequential(*layers), ("a", "b"), PixelContract(8, 8, channels=channels), Architecture("spec", "dense2")
    )


def holds(sheet: np.ndarray, tile: np.ndarray) -> bool:
    height, width = tile.shape[:2]
    corners = np.argwhere((sheet == tile[0, 0]).all(2))
    return any(np.array_equal(sheet[y : y + height, x : x + width], tile) for y, x in corners)


def test_filters_on_color_are_in_color_around_middle_grey():
    classifier = of(nn.Conv2d(3, 2, 3))
    weight = classifier.module[0].weight
    with torch.no_grad():
        weight.zero_()
        weight[0, 0, 0, 0], weight[0, 2, 2, 1] = 0.5, -0.5
    found = first_filters(classifier)
    assert (found.layer, found.in_color) == ("0", True)
    tile = np.full((3, 3, 3), 128, np.uint8)
    tile[0, 0, 0], tile[2, 1, 2] = 255, 0
    assert holds(np.asarray(found.sheet()), tile.repeat(21, 0).repeat(21, 1))  # 3 pixels in 64
    assert found.to_dict()["norms"] == pytest.approx([np.sqrt(0.5), 0.0])
    assert "1 of them are zero" in str(found)


def test_other_layers_show_each_input_channel_on_one_scale():
    classifier = of(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, (1, 3)))
    found = first_filters(classifier, "2")
    weights = classifier.module[2].weight.detach().numpy()
    most = float(np.abs(weights).max())
    sheet = np.asarray(found.sheet())
    assert not found.in_color
    for k, c in ((0, 0), (4, 3)):
        assert holds(sheet, np.asarray(colored(weights[k, c], -most, most, 21)))


def test_a_dense_layer_on_pixels_has_templates():
    classifier = of(nn.Flatten(), nn.Linear(3 * 64, 6), nn.ReLU(), nn.Linear(6, 192), nn.Linear(192, 2))
    found = first_filters(classifier)
    assert found.weights.shape == (6, 3, 8, 8)
    assert np.array_equal(found.weights[2].ravel(), classifier.module[1].weight[2].detach().numpy())
    with pytest.raises(ShapeError, match=r"'4' \(Linear\).*Layers with filters: 1\."):
        first_filters(classifier, "4")  # as long, but what it sees are no pixels


def test_an_earlier_state_stands_beside_with_the_change():
    after, before = of(nn.Conv2d(1, 2, 3), channels=1), of(nn.Conv2d(1, 2, 3), channels=1)
    with torch.no_grad():
        after.module[0].weight[1] *= 1.5
    found = first_filters(after, before=before, states=("initial", "now"))
    assert found.change() == pytest.approx([0, 0.5], abs=1e-6)
    assert "median change from initial to now: 25.0%" in str(found)
    alone = first_filters(after).sheet()
    assert found.sheet().width > alone.width / 2


def test_what_has_no_filters_is_refused():
    classifier = of(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    assert first_filters(classifier).layer == "1"
    with pytest.raises(ShapeError, match=r"'0' \(Conv2d\)"):
        first_filters(classifier, "0")
    with pytest.raises(UnknownNameError, match="no layer 'conv'"):
        first_filters(classifier, "conv")
    with pytest.raises(ShapeError, match="no convolution"):
        first_filters(of(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 2)))
