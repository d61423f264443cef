"""Feature maps against the module's own output, and their sheets against counted pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data.contract import PixelContract
from pellucid.errors import DataError, ShapeError, UnknownNameError
from pellucid.explain.color import colored, scale_bar, whole_factor
from pellucid.explain.maps import feature_maps
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import build, find_architecture


def network(name: str, channels: int = 3, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    architecture = find_architecture(name)
    module = build(architecture, input_shape=(channels, 32, 32), num_classes=2)
    return Classifier(module.eval(), ("a", "b"), PixelContract(32, 32, channels=channels), architecture)


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    return file


def layer_names(classifier: Classifier) -> dict[str, str]:
    return {type(m).__name__: name for name, m in reversed(list(classifier.module.named_modules()))}


def test_the_maps_of_a_layer_are_what_the_module_gives(picture):
    classifier = network("conv8 relu pool conv16 relu dense4")
    conv = layer_names(classifier)["Conv2d"]
    found = feature_maps(classifier, picture, layer=conv)
    x = classifier.contract.tensor(classifier.pixels(picture)[None])
    expected = classifier.module.get_submodule(conv)(x)[0].detach().numpy()
    (layer,) = found.layers
    assert np.array_equal(layer.values, expected)
    content = found.to_dict()["layers"][0]
    assert content["shape"] == [8, 30, 30]
    assert content["channel_high"] == pytest.approx(expected.max((1, 2)).tolist())


def test_all_layers_with_maps_are_shown_and_constant_channels_counted(picture):
    classifier = network("conv8 relu pool conv16 relu dense4")
    conv = classifier.module.get_submodule(layer_names(classifier)["Conv2d"])
    with torch.no_grad():
        conv.weight[3].zero_()
        conv.bias[3] = -1.0
    found = feature_maps(classifier, picture)
    assert [layer.kind for layer in found.layers] == ["ReLU", "MaxPool2d", "ReLU"]
    assert found.layers[0].constant == 1
    assert 3 not in found.layers[0].strongest(7)
    assert found.sheet().height > 3 * 100


def test_every_map_stands_in_the_sheet_in_its_colors(picture):
    classifier = network("conv4 relu dense4")
    relu = layer_names(classifier)["ReLU"]
    for scale in ("layer", "map"):
        found = feature_maps(classifier, picture, layer=relu, scale=scale)
        values = found.layers[0].values
        sheet = np.asarray(found.sheet())
        for one in values:
            low, high = (one.min(), one.max()) if scale == "map" else (values.min(), values.max())
            tile = np.asarray(colored(one, low, high, factor=3))  # 30 pixels in 112
            assert holds(sheet, tile)


def test_no_more_channels_are_drawn_than_asked_for_and_that_is_told(picture):
    classifier = network("conv40 relu dense4")
    relu = layer_names(classifier)["ReLU"]
    found = feature_maps(classifier, picture, layer=relu, channels=5)
    drawn = found.to_dict()["layers"][0]["drawn"]
    spread = np.ptp(found.layers[0].values, axis=(1, 2))
    assert drawn == sorted(np.argsort(-spread)[:5].tolist())
    assert any("the 5 channels" in line for line in found._heading())


def test_two_states_stand_side_by_side_with_their_correlation(picture):
    after, before = network("conv4 relu dense4"), network("conv4 relu dense4", seed=1)
    relu = layer_names(after)["ReLU"]
    found = feature_maps(after, picture, layer=relu, before=before, states=("initial", "now"))
    (layer,) = found.layers
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(layer.before, layer.values, strict=True)]
    assert layer.kept() == pytest.approx(expected)
    low, high = layer.low, layer.high
    pair = [np.asarray(colored(state[2], low, high, factor=3)) for state in (layer.before, layer.values)]
    sheet = np.asarray(found.sheet())
    assert all(holds(sheet, tile) for tile in pair)
    same = feature_maps(after, picture, layer=relu, before=after, states=("now", "now"))
    assert same.layers[0].kept() == pytest.approx([1.0] * 4)


def test_what_cannot_be_shown_is_refused_with_the_reason(picture, tmp_path):
    classifier = network("conv4 relu dense4")
    dense = layer_names(classifier)["Linear"]
    with pytest.raises(ShapeError, match=r"no map: its shape is 4, .*Layers with maps"):
        feature_maps(classifier, picture, layer=dense)
    with pytest.raises(UnknownNameError, match="no layer 'konv'"):
        feature_maps(classifier, picture, layer="konv")
    with pytest.raises(UnknownNameError, match="map, layer, global"):
        feature_maps(classifier, picture, scale="picture")
    with pytest.raises(ShapeError, match="without a convolution"):
        feature_maps(network("dense4 relu"), picture)
    five = tmp_path / "five.npy"
    np.save(five, np.zeros((32, 32, 5), np.uint8))
    with pytest.raises(DataError, match=r"five\.npy.*channels: 5, but expected 3"):
        feature_maps(classifier, five)


def test_zero_has_its_own_color_and_signs_can_be_told_in_grey():
    around = np.asarray(colored(np.array([[-2.0, 0.0, 2.0, np.nan]]), -2, 1, factor=1).convert("L"))[0]
    assert around[1] == 255
    assert around[0] < 60 < 90 < around[2] < 160
    assert around[3] == 128
    up = np.asarray(colored(np.linspace(0, 5, 50)[None], 0, 5, factor=1).convert("L"))[0].astype(int)
    assert (np.diff(up) >= 0).all()


def test_maps_grow_and_shrink_by_whole_numbers():
    assert [whole_factor(side, 112) for side in (1, 7, 30, 112, 113, 224, 225)] == [112, 16, 3, 1, -2, -2, -3]
    values = np.arange(16.0).reshape(4, 4)
    assert np.array_equal(
        colored(values, 0, 15, factor=-2), colored(np.array([[2.5, 4.5], [10.5, 12.5]]), 0, 15, factor=1)
    )
    assert colored(values, 0, 15, factor=3).size == (12, 12)


def test_the_scale_names_its_ends():
    assert scale_bar(0, 4)[1] == ("0", "", "4")
    assert scale_bar(-1, 4)[1] == ("-4", "0", "4")


def holds(sheet: np.ndarray, tile: np.ndarray) -> bool:
    """Whether the tile stands somewhere in the sheet, pixel for pixel."""
    height, width = tile.shape[:2]
    rows, columns = np.nonzero((sheet[: -height or None, : -width or None] == tile[0, 0]).all(2))
    return any(np.array_equal(sheet[y : y + height, x : x + width], tile) for y, x in zip(rows, columns, strict=True))
