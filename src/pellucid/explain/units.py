"""A layer's output as units: channels, each with a value at every place of a map, or with one value where there is none.

Convolutions put channels first, (N, C, H, W); some transformers and ConvNeXt put them last inside, (N, H, W, C), or give
one row for each patch of the picture, (N, patches, F). Here they all become (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from pellucid.errors import ShapeError
from pellucid.explain.layers import Passed, find_layer
from pellucid.model.classifier import Classifier

ALL = "all"  # in place of a layer's name


@dataclass(frozen=True, eq=False)
class Units:
    """`values` float (N, C, H, W); `is_map`: whether height and width are those of the picture, more than one place."""

    values: torch.Tensor
    is_map: bool


def as_units(classifier: Classifier, layer: nn.Module, output: torch.Tensor, batch: int) -> Units | None:
    """The output of one layer for `batch` pictures; None where its first dimension is not that of the pictures.

    Rows of a transformer are laid out on its grid of patches when their number fits it; rows that stand for the whole
    picture (the class token) are left out then.
    """
    if output.ndim < 2 or output.shape[0] != batch or not output.is_floating_point():
        return None
    if output.ndim == 2:
        return Units(output[:, :, None, None], is_map=False)  # (N, F) -> (N, F, 1, 1)
    if output.ndim == 4:
        values = output.permute(0, 3, 1, 2) if _channels_last(classifier, layer, output.shape) else output
        return Units(values, is_map=values.shape[2] * values.shape[3] > 1)
    if output.ndim == 3:
        height, width, extra = _grid(classifier.module)
        rows = output.transpose(1, 2)  # (N, T, F) -> (N, F, T)
        if height * width > 1 and rows.shape[2] in (height * width, height * width + extra):
            rows = rows[:, :, rows.shape[2] - height * width :]
            return Units(rows.unflatten(2, (height, width)), is_map=True)
        return Units(rows[..., None], is_map=False)
    return None


def find_units(classifier: Classifier, found: Mapping[str, Passed], wanted: str) -> Units:
    """The units of the layer called `wanted` among `found`. Raises UnknownNameError, and ShapeError when it has none."""
    passed = found[find_layer(found, wanted)]
    units = as_units(classifier, passed.module, passed.output, len(passed.output))
    if units is None:
        raise ShapeError(
            f"The output of '{wanted}' ({type(passed.module).__name__}) has the shape {tuple(passed.output.shape)}, in which "
            f"no channels can be told. Take a layer around it: pellucid summary lists them."
        )
    return units


def mapped(classifier: Classifier, found: Mapping[str, Passed]) -> dict[str, Units]:
    """The layers among `found` whose output is a map, without those whose output is the same or goes straight into a
    normalization or an activation, which is what the next layers see."""
    kept: dict[str, Units] = {}
    prepared = [p.inputs[0] for p in found.values() if p.inputs and _refines(p.module)]
    last: torch.Tensor | None = None
    for name, passed in found.items():
        block = passed.is_block and not isinstance(passed.module, nn.BatchNorm2d)  # timm's hold their activation
        if block or isinstance(passed.module, (nn.Identity, nn.Dropout, nn.Dropout2d)):
            continue
        if any(_same(passed.output, other) for other in [*prepared, *([] if last is None else [last])]):
            continue
        units = as_units(classifier, passed.module, passed.output, len(passed.output))
        if units is not None and units.is_map:
            kept[name], last = units, passed.output
    return kept


def _refines(layer: nn.Module) -> bool:
    return "Norm" in type(layer).__name__ or type(layer).__module__.endswith(".activation")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _channels_last(classifier: Classifier, layer: nn.Module, shape: torch.Size) -> bool:
    """Whether (H, W, C) fits the picture's proportions better than (C, H, W)."""
    if isinstance(layer, nn.Conv2d):
        return False
    _, height, width = classifier.input_shape
    first, last = (abs(shape[i] * width - shape[i + 1] * height) for i in (2, 1))
    return last < first


def _grid(module: nn.Module) -> tuple[int, int, int]:
    """Height and width of a transformer's grid of patches, and how many rows stand before those of the patches."""
    size = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    height, width = size if isinstance(size, tuple) and len(size) == 2 else (0, 0)
    return height, width, int(getattr(module, "num_prefix_tokens", 0))
