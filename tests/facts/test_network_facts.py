"""The networks of the courses, by name: layer table of AlexNet, parameters and multiply-accumulates as published."""

from __future__ import annotations

from math import prod

import pytest
from torchvision import models

from pellucid.model.describe import summary_of


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("vgg16", 138_357_544), ("vgg19", 143_667_240), ("resnet50", 25_557_032), ("xception", 22_855_952)],
)
def test_parameters(name: str, parameters: int) -> None:
    table = summary_of(name, num_classes=1000)
    assert table.parameters == sum(row.parameters for row in table.layers) == parameters


def test_layers_of_alexnet() -> None:
    """Krizhevsky, Sutskever & Hinton 2012; parameters of one column without groups, summed by hand."""
    table = summary_of("alexnet", num_classes=1000)
    assert table.input_shape == (3, 224, 224)
    rows = [row for row in table.layers if row.kind in ("Conv2d", "MaxPool2d", "Linear")]
    assert [(row.kind, row.output) for row in rows] == [
        ("Conv2d", (96, 55, 55)),
        ("MaxPool2d", (96, 27, 27)),
        ("Conv2d", (256, 27, 27)),
        ("MaxPool2d", (256, 13, 13)),
        ("Conv2d", (384, 13, 13)),
        ("Conv2d", (384, 13, 13)),
        ("Conv2d", (256, 13, 13)),
        ("MaxPool2d", (256, 6, 6)),
        ("Linear", (4096,)),
        ("Linear", (4096,)),
        ("Linear", (1000,)),
    ]
    assert next(row.output for row in table.layers if row.kind == "Flatten") == (9216,)
    kernels = 3 * 96 * 11**2 + 96 * 256 * 5**2 + (256 * 384 + 384 * 384 + 384 * 256) * 3**2
    weights = kernels + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    biases = 96 + 256 + 384 + 384 + 256 + 4096 + 4096 + 1000
    assert table.parameters == weights + biases


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("vgg16", "vgg16"),
        ("vgg19", "vgg19"),
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
        ("inception_v3", "inception_v3"),
        ("mobilenetv2_100", "mobilenet_v2"),
        ("convnext_tiny", "convnext_tiny"),
        ("torchvision/alexnet", "alexnet"),
        ("googlenet", "googlenet"),
    ],
)
def test_multiply_accumulates_are_those_that_torchvision_publishes(name: str, published: str) -> None:
    """In units of 10^9 with three digits, and parameters where no second head was counted."""
    meta = models.get_model_weights(published).DEFAULT.meta
    table = summary_of(name, num_classes=1000)
    assert table.macs / 1e9 == pytest.approx(meta["_ops"], abs=0.00051)
    if published != "inception_v3":
        assert table.parameters == meta["num_params"]


@pytest.mark.parametrize(
    ("name", "side", "published"),
    [
        ("xception", 299, 8.40),
        ("mobilenetv4_conv_small", 224, 0.19),
        ("efficientnetv2_s", 288, 4.75),
        ("resnet50", 224, 4.11),
    ],
)
def test_multiply_accumulates_are_those_that_timm_publishes(name: str, side: int, published: float) -> None:
    """timm's results/benchmark-infer-amp-nchw-pt240-cu124-rtx4090-dynamo.csv, which counts batch norms as 2 a value."""
    table = summary_of(name, input_shape=f"3x{side}x{side}", num_classes=1000)
    norms = sum(2 * prod(row.output) for row in table.layers if row.kind.startswith("BatchNorm"))
    assert (table.macs + norms) / 1e9 == pytest.approx(published, abs=0.0051)
