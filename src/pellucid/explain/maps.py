"""Feature maps: what the channels of a layer answer to one picture, as numbers and as a contact sheet.

Two states of one network can be held side by side, channel for channel: what a training changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pellucid.data.wording import counted, shown
from pellucid.errors import DataError, PictureError, ShapeError, UnknownNameError
from pellucid.evaluation.draw import Tile, TileRow, as_image, drawn_channels, fit, tile_sheet
from pellucid.explain.color import colored, scale_bar, whole_factor
from pellucid.explain.layers import passes
from pellucid.explain.units import ALL, find_units, mapped
from pellucid.model.classifier import Classifier

SCALES = ("map", "layer", "global")
MOST_CHANNELS = 64  # of one layer that are shown unless more are asked for
_IN_OVERVIEW = 10  # of each layer, where all layers are shown
_CELL = 112  # pixels
_COLUMNS = 10


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """`values` float32 (C, H, W): what the layer put out; `before` the same of an earlier state of the network."""

    name: str
    kind: str
    values: np.ndarray
    before: np.ndarray | None = None

    @property
    def states(self) -> tuple[np.ndarray, ...]:
        return (self.values,) if self.before is None else (self.before, self.values)

    @property
    def low(self) -> float:
        return min(float(state.min()) for state in self.states)

    @property
    def high(self) -> float:
        return max(float(state.max()) for state in self.states)

    @property
    def constant(self) -> int:
        """Channels that have one value everywhere in this picture."""
        return int((np.ptp(self.values, axis=(1, 2)) == 0).sum())

    def kept(self) -> np.ndarray:
        """float (C,): correlation of each channel's map with the one before; nan where one of the two is constant."""
        assert self.before is not None
        a, b = (s.reshape(len(s), -1).astype(np.float64) for s in self.states)
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        norms = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        return np.divide((a * b).sum(1), norms, out=np.full(len(a), np.nan), where=norms > 0)

    def strongest(self, count: int) -> np.ndarray:
        """The numbers of the channels with the largest differences between places, in ascending order."""
        spread = np.max([np.ptp(state, axis=(1, 2)) for state in self.states], axis=0)
        return np.sort(np.argsort(-spread, kind="stable")[:count])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; ranges and correlations by channel."""
        found = {
            "name": self.name, "kind": self.kind, "shape": list(self.values.shape), "low": self.low, "high": self.high,
            "constant": self.constant, "channel_low": self.values.min((1, 2)).tolist(),
            "channel_high": self.values.max((1, 2)).tolist(),
        }  # fmt: skip
        if self.before is not None:
            found["correlation_with_before"] = [None if np.isnan(r) else float(r) for r in self.kept()]
        return found


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The maps of one layer or of several for a picture; `pixels` uint8 (H, W, C) is that picture as the network saw it.

    `states` names what the maps are of: one state of the network, or the earlier and the later one.
    """

    picture: str
    pixels: np.ndarray
    layers: tuple[LayerMaps, ...]
    scale: str
    states: tuple[str, ...]
    channels: int  # of each layer that are drawn at most

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data without the maps themselves; `drawn` are the channels on the sheet."""
        layers = [layer.to_dict() | {"drawn": layer.strongest(self.channels).tolist()} for layer in self.layers]
        return {"picture": self.picture, "scale": self.scale, "states": list(self.states), "layers": layers}

    def __str__(self) -> str:
        lines = [f"{shown(self.picture)}: maps of {counted(len(self.layers), 'layer')}"]
        width = max(len(layer.name) for layer in self.layers)
        for layer in self.layers:
            channels, height, across = layer.values.shape
            line = f"  {layer.name:<{width}}  {channels:>5} of {height}x{across}  {layer.low:.3g} to {layer.high:.3g}"
            if layer.constant:
                line += f"  {layer.constant} constant in this picture"
            if layer.before is not None:
                line += f"  correlation with before: {_median(layer)}"
            lines.append(line)
        return "\n".join(lines)

    def sheet(self) -> Image.Image:
        """The contact sheet, RGB: a row a layer, or all of one layer's channels."""
        overview = len(self.layers) > 1
        limits = _limits(self.layers) if self.scale == "global" or not overview else None
        rows = []
        for layer in self.layers:
            chosen = layer.strongest(self.channels)
            tiles = [_tile(layer, int(k), self.scale, limits or _limits([layer])) for k in chosen]
            rows.append(TileRow(tiles, layer.name, list(_described(layer))) if overview else TileRow(tiles))
        first = self.layers[0]
        return tile_sheet(
            "Feature maps of all layers" if overview else f"Feature maps of {first.name}",
            [*([] if overview else [", ".join(_described(first))]), *self._heading()],
            rows, columns=_COLUMNS if len(self.states) == 1 else _COLUMNS // 2,
            beside=fit(as_image(self.pixels), _CELL),
            scale=scale_bar(*limits) if limits and self.scale != "map" else None,
        )  # fmt: skip

    def _heading(self) -> Iterator[str]:
        name = f"left: {shown(Path(self.picture).name)} as the network sees it"
        yield f"{name} ({drawn})" if (drawn := drawn_channels(self.pixels.shape[2])) else name
        if len(self.states) == 2:
            yield f"each pair: left {self.states[0]}, right {self.states[1]}; below it the channel, and r, the correlation of the two"
        if any(len(layer.values) > self.channels for layer in self.layers):
            each = " of each layer" if len(self.layers) > 1 else ""
            yield f"shown: the {self.channels} channels{each} that differ most from place to place"
        scale = {
            "map": "each map has colors of its own, from its lowest to its highest value",
            "layer": "one scale of colors for each layer" if len(self.layers) > 1 else "one scale of colors",
            "global": "one scale of colors for all layers",
        }[self.scale]
        yield scale if len(self.states) == 2 else f"{scale}; below each map its channel and its highest value"


def feature_maps(
    classifier: Classifier,
    picture: str | Path,
    *,
    layer: str = ALL,
    scale: str = "layer",
    channels: int | None = None,
    before: Classifier | None = None,
    states: Sequence[str] = ("now",),
) -> FeatureMaps:
    """What the channels of `layer`, or of all layers with maps, answer to the picture in the file `picture`.

    `scale` decides what has colors in common: each map by itself, the maps of a layer, or all. With `before`, the same
    network in another state, both are shown; `states` are their names, the earlier first. `channels` are drawn of each layer
    at most.
    Raises DataError for a picture that cannot be shown to the network, UnknownNameError, ShapeError for a layer without maps.
    """
    if scale not in SCALES:
        raise UnknownNameError(f"--scale is '{scale}'; it must be one of {', '.join(SCALES)}.")
    pixels = picture_for(classifier, picture)
    x = classifier.contract.tensor(pixels[None]).to(classifier.device)
    found = passes(classifier, x)
    maps = mapped(classifier, found)
    if layer == ALL:
        chosen = maps
        if not maps:
            raise ShapeError(
                "No layer of this network puts out maps: without a convolution, an output is a row of numbers that have no place "
                "in the picture. See its first weights with pellucid filters, and with --top own which pictures excite a layer."
            )
    else:
        units = find_units(classifier, found, layer)
        if not units.is_map:
            raise ShapeError(
                f"The output of '{layer}' ({type(found[layer].module).__name__}) is no map: its shape is "
                f"{'x'.join(map(str, found[layer].output.shape[1:]))}, without height and width. "
                + (f"Layers with maps: {', '.join(list(maps)[-5:])}; or ask which pictures excite it most (--top own)."
                   if maps else "This network has no layer with maps; ask which pictures excite it most (--top own).")
            )  # fmt: skip
        chosen = {layer: units}
    earlier = passes(before, x, keep=chosen.__contains__) if before else {}
    layers = [
        LayerMaps(
            name, type(found[name].module).__name__, _numbers(units.values),
            _numbers(find_units(before, earlier, name).values) if before else None,
        )
        for name, units in chosen.items()
    ]  # fmt: skip
    most = channels or (_IN_OVERVIEW // len(states) if len(layers) > 1 else MOST_CHANNELS)
    return FeatureMaps(str(picture), pixels, tuple(layers), scale, tuple(states), most)


def picture_for(classifier: Classifier, picture: str | Path) -> np.ndarray:
    """uint8 (H, W, C) as the network takes it. Raises DataError that names the file."""
    try:
        return classifier.pixels(picture)
    except PictureError as error:
        raise DataError(
            f"'{shown(str(picture))}' cannot be shown to this network: {error.reason}. Expected a picture that can become "
            f"{classifier.contract}."
        ) from error


def _tile(layer: LayerMaps, channel: int, scale: str, limits: tuple[float, float]) -> Tile:
    maps = [state[channel] for state in layer.states]
    low, high = min(float(m.min()) for m in maps) + 0.0, max(float(m.max()) for m in maps) + 0.0  # not "-0"
    own = (low, high) if scale == "map" else limits
    factor = whole_factor(max(maps[0].shape), _CELL)
    pictures = [colored(m, *own, factor) for m in maps]
    if layer.before is None:
        return Tile(pictures[0], str(channel), f"{high:.3g}" if scale != "map" or low >= 0 else f"{low:.2g}…{high:.2g}")
    r = layer.kept()[channel]
    return Tile(pictures[0], str(channel), "r –" if np.isnan(r) else f"r {r:.2f}", second=pictures[1])


def _limits(layers: Sequence[LayerMaps]) -> tuple[float, float]:
    return min(layer.low for layer in layers), max(layer.high for layer in layers)


def _described(layer: LayerMaps) -> Iterator[str]:
    channels, height, width = layer.values.shape
    yield f"{layer.kind}, {channels} of {height}x{width}"
    yield f"{layer.low:.3g} to {layer.high:.3g}"
    if layer.constant:
        yield f"{layer.constant} constant here"
    if layer.before is not None:
        yield f"median r {_median(layer)}"


def _median(layer: LayerMaps) -> str:
    kept = layer.kept()
    return "–" if np.isnan(kept).all() else f"{np.nanmedian(kept):.2f}"


def _numbers(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values[0].float().cpu().numpy()
    return array
