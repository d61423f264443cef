"""Crops of what a value sees, by hand and against the gradient, which is not zero just there."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.explain.window import Window, window_of
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture


def a_picture(height: int, width: int) -> Image.Image:
    """Its red channel is the row, its green one the column."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows, columns, 0 * rows], 2).astype(np.uint8))


def test_a_crop_is_the_window_around_its_place():
    crop = np.asarray(Window(size=(3, 5), jump=(2, 4), center=(1.0, 2.0)).crop(a_picture(20, 30), (4, 3)))
    assert crop.shape == (3, 5, 3)
    assert crop[:, 0, 0].tolist() == [8, 9, 10]  # around row 1 + 4 * 2
    assert crop[0, :, 1].tolist() == [12, 13, 14, 15, 16]  # around column 2 + 3 * 4


def test_what_lies_beyond_the_border_is_light_grey():
    crop = np.asarray(Window(size=(3, 3), jump=(1, 1), center=(0.0, 0.0)).crop(a_picture(8, 8), (0, 7)))
    assert (crop[0] == crop[0, 0]).all()
    assert crop[0, 0].min() > 200
    assert crop[1:, :2, 1].tolist() == [[6, 7], [6, 7]]
    assert (crop[:, 2] == crop[0, 0]).all()


def test_a_window_larger_than_the_picture_shows_all_of_it():
    picture = a_picture(8, 6)
    assert np.array_equal(Window((99, 99), (2, 2), (0.0, 0.0)).crop(picture, (3, 1)), np.asarray(picture))


def test_the_window_of_a_layer_is_where_its_gradient_is():
    module = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.AvgPool2d(2), nn.Conv2d(2, 1, 3, stride=2, bias=False))
    nn.init.ones_(module[0].weight)
    nn.init.ones_(module[2].weight)
    classifier = Classifier(module, ("a", "b"), PixelContract(24, 24, channels=1), Architecture("spec", "dense2"))
    x = torch.zeros(1, 1, 24, 24, requires_grad=True)
    module(x)[0, 0, 3, 1].backward()
    rows, columns = x.grad[0, 0].nonzero(as_tuple=True)
    crop = np.asarray(window_of(classifier, "2").crop(a_picture(24, 24), (3, 1)))
    assert (crop[0, 0, 0], crop[-1, 0, 0]) == (rows.min(), rows.max())
    assert (crop[0, 0, 1], crop[0, -1, 1]) == (columns.min(), columns.max())


def test_a_layer_without_places_sees_the_whole_picture():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    classifier = Classifier(module, ("a", "b"), PixelContract(8, 8, channels=1), Architecture("spec", "dense2"))
    picture = a_picture(8, 8)
    assert np.array_equal(window_of(classifier, "2").crop(picture, (0, 0)), np.asarray(picture))
