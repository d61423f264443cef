"""The weights of a layer as pictures: what the first filters look for, before any picture is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from pellucid.errors import ShapeError
from pellucid.evaluation.draw import Tile, TileRow, tile_sheet
from pellucid.explain.color import colored, scale_bar, whole_factor
from pellucid.explain.layers import find_layer
from pellucid.model.classifier import Classifier

MOST_FILTERS = 64
_MOST_CHANNELS = 12  # of the input, where each is drawn by itself
_CELL = 64  # pixels
_CELL_OF_TEMPLATES = 112


@dataclass(frozen=True, eq=False)
class Filters:
    """`weights` float32 (filters, input channels, height, width) of a layer; `before` those of an earlier state.

    `in_color`: three input channels that are red, green and blue. `states` names what was compared, the earlier first.
    `templates`: the layer is a fully connected one on the picture itself, so that each filter is as large as that.
    """

    layer: str
    kind: str
    weights: np.ndarray
    in_color: bool
    templates: bool
    states: tuple[str, ...]
    count: int  # that are drawn at most
    before: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data: shapes, ranges and norms; the weights themselves are in the classifier."""
        found: dict[str, Any] = {
            "layer": self.layer, "kind": self.kind, "shape": list(self.weights.shape), "in_color": self.in_color,
            "low": float(self.weights.min()), "high": float(self.weights.max()), "norms": _norms(self.weights).tolist(),
            "states": list(self.states), "drawn": min(self.count, len(self.weights)),
        }  # fmt: skip
        if self.before is not None:
            found["relative_change"] = self.change().tolist()
        return found

    def change(self) -> np.ndarray:
        """float (filters,): norm of the difference from before, as a share of the norm before."""
        assert self.before is not None
        return _norms(self.weights - self.before) / np.maximum(_norms(self.before), 1e-12)

    def __str__(self) -> str:
        num, channels, height, width = self.weights.shape
        seen = "in color" if self.in_color else f"{channels} input channel{'s' if channels != 1 else ''}"
        text = (
            f"{self.layer} ({self.kind}): {num:,} filters of {height}x{width}, {seen}; weights from "
            f"{self.weights.min():.3g} to {self.weights.max():.3g}"
        )
        if zero := int((_norms(self.weights) == 0).sum()):
            text += f"; {zero} of them are zero"
        if self.before is not None:
            text += f"\nmedian change from {self.states[0]} to {self.states[1]}: {np.median(self.change()):.1%} of a filter's norm"
        return text

    def sheet(self) -> Image.Image:
        """The contact sheet, RGB: in color, or a row a filter with its input channels side by side."""
        num, channels = self.weights.shape[:2]
        drawn = min(self.count, num)
        lines = [str(self).splitlines()[0].partition(": ")[2]]
        if self.before is not None:
            lines.append(
                f"each pair: left {self.states[0]}, right {self.states[1]}; below: change, as a share of its norm"
            )
        if drawn < num:
            lines.append(f"shown: the first {drawn} of {num:,}")
        scale = None
        if self.in_color:
            lines.append("grey: weight 0; each filter has a scale of its own; below: its number and largest weight")
        else:
            most = float(np.abs(self.weights).max())
            scale = scale_bar(-most, most)
            if channels == 1 and self.before is None:
                lines.append("one scale of colors; below: its number and largest weight")
        if self.in_color or channels == 1:
            rows = [TileRow([self._tile(k, slice(None)) for k in range(drawn)])]
        else:
            if channels > _MOST_CHANNELS:
                lines.append(f"of each filter the first {_MOST_CHANNELS} of {channels:,} input channels")
            rows = [
                TileRow(
                    [self._tile(k, slice(c, c + 1), f"input {c}") for c in range(min(channels, _MOST_CHANNELS))],
                    f"filter {k}",
                    () if self.before is None else (f"{self.change()[k]:.0%} changed",),
                )
                for k in range(drawn)
            ]
        columns = _MOST_CHANNELS if self.before is None else 8
        return tile_sheet(f"Filters of {self.layer}", lines, rows, columns=columns, scale=scale)

    def _tile(self, k: int, channels: slice, caption: str = "") -> Tile:
        states = [w[k, channels] for w in (self.before, self.weights) if w is not None]
        most = float(np.abs(self.weights).max())
        factor = max(1, whole_factor(max(states[0].shape[1:]), _CELL_OF_TEMPLATES if self.templates else _CELL))
        own = max(float(np.abs(state).max()) for state in states)
        pictures = [_in_color(w, own, factor) if self.in_color else colored(w[0], -most, most, factor) for w in states]
        figure = f"{own:.2g}" if self.before is None else f"{self.change()[k]:.0%}"
        return Tile(
            pictures[0], caption or str(k), "" if caption else figure, second=pictures[1] if pictures[1:] else None
        )


def first_filters(
    classifier: Classifier,
    layer: str | None = None,
    *,
    count: int = MOST_FILTERS,
    before: Classifier | None = None,
    states: tuple[str, ...] = ("now",),
) -> Filters:
    """The weights of the first layer that sees the picture, or of `layer`: a convolution, or a fully connected layer on pixels.

    With `before`, the same network in another state, both are shown; `states` are their names, the earlier first.
    Raises UnknownNameError, ShapeError for a layer without filters.
    """
    named = dict(classifier.module.named_modules())
    shape = classifier.input_shape
    seeing = next((m for m in named.values() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    if isinstance(seeing, nn.Linear) and seeing.in_features != math.prod(shape):
        seeing = None
    drawable = [
        name for name, module in named.items()
        if (max(module.kernel_size) > 1 if isinstance(module, nn.Conv2d) else module is seeing)
    ]  # fmt: skip
    if layer is None and not drawable:
        raise ShapeError(
            "This network has no convolution, and no fully connected layer that sees the pixels themselves, so it has no filters "
            "that could be shown as pictures."
        )
    name = drawable[0] if layer is None else find_layer([n for n in named if n], layer)
    if name not in drawable:
        known = f"Layers with filters: {', '.join(drawable[:8])}" if drawable else "No layer of this network has any"
        raise ShapeError(
            f"'{name}' ({type(named[name]).__name__}) has no filters that could be shown as pictures: they need a height and a "
            f"width, as those of convolutions have. {known}."
        )
    earlier = _weights(before.module.get_submodule(name), shape) if before else None
    return Filters(
        name, type(named[name]).__name__, _weights(named[name], shape), named[name] is seeing and shape[0] == 3,
        isinstance(named[name], nn.Linear), states, count, earlier,
    )  # fmt: skip


def _weights(layer: nn.Module, shape: tuple[int, int, int]) -> np.ndarray:
    """float32 (filters, input channels, height, width); those of a fully connected layer on a picture of `shape`."""
    weight = layer.weight.unflatten(1, shape) if isinstance(layer, nn.Linear) else layer.weight
    assert isinstance(weight, torch.Tensor)
    array: np.ndarray = weight.detach().float().cpu().numpy()
    return array


def _in_color(weights: np.ndarray, most: float, factor: int) -> Image.Image:
    """(3, H, W) with 0 as middle grey and `most` as full color."""
    levels = np.round((weights / (most or 1.0) + 1) / 2 * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(levels.repeat(factor, 0).repeat(factor, 1)))


def _norms(weights: np.ndarray) -> np.ndarray:
    norms: np.ndarray = np.sqrt((weights.astype(np.float64) ** 2).sum((1, 2, 3)))
    return norms
