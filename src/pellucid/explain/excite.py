"""Which of the user's own pictures excite each channel of a layer most, where in the picture, and which channels are dead.

One pass over the pictures; of each channel the best few are kept, each picture once, at the place of its largest value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from pellucid.data.scan import Progress
from pellucid.data.wording import counted
from pellucid.errors import DataError
from pellucid.evaluation.draw import Tile, TileRow, as_image, fit, tile_sheet
from pellucid.explain.layers import passes
from pellucid.explain.own import MOST_PICTURES, OwnPictures, own_pictures
from pellucid.explain.units import ALL, as_units, find_units, mapped
from pellucid.explain.window import window_of
from pellucid.model.classifier import Classifier

LOGITS = ""  # in place of a layer's name: what the classifier says, before it becomes probabilities
BEST = 8  # pictures of each channel
MOST_CHANNELS = 24  # that are drawn unless more are asked for
_CELL = 112  # pixels


@dataclass(frozen=True, eq=False)
class LayerTops:
    """The most exciting pictures of each channel of one layer, the best first, for `n` pictures.

    values float32 (C, k); pictures int (C, k), their numbers among the own ones; places int (C, k, 2), row and column on the
    map. low and high float32 (C,): the smallest and largest value of the channel over all pictures and places.
    """

    name: str
    kind: str
    n: int
    map_size: tuple[int, int]
    values: np.ndarray
    pictures: np.ndarray
    places: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Channels int (m,) that have the same value at every place of every picture."""
        return np.flatnonzero(self.low == self.high)

    @property
    def never_positive(self) -> np.ndarray:
        """Channels int (m,) that are above 0 at no place of any picture: dead, if a rectifier has given or takes them."""
        return np.flatnonzero(self.high <= 0)

    def to_dict(self, own: OwnPictures) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "name": self.name, "kind": self.kind, "channels": len(self.high), "map": list(self.map_size), "n": self.n,
            "constant": self.constant.tolist(), "never_positive": self.never_positive.tolist(),
            "low": self.low.tolist(), "high": self.high.tolist(),
            "top": [
                [
                    {"path": own.names[int(i)], "label": own.labels[int(i)], "value": float(v), "place": [int(y), int(x)]}
                    for v, i, (y, x) in zip(*row, strict=True)
                ]
                for row in zip(self.values, self.pictures, self.places, strict=True)
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        text = f"{self.name}: {counted(len(self.high), 'channel')}, "
        dead = len(self.never_positive)
        return f"{text}{dead} never above 0 and {len(self.constant)} constant over {counted(self.n, 'picture')}"


@dataclass(frozen=True, eq=False)
class Tops:
    """What `most_exciting` found, by layer, with the pictures that it looked at."""

    layers: Mapping[str, LayerTops]
    own: OwnPictures
    classifier: Classifier

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"source": self.own.source, "layers": [layer.to_dict(self.own) for layer in self.layers.values()]}

    def __str__(self) -> str:
        return "\n".join([f"{self.own}", *(f"  {layer}" for layer in self.layers.values())])

    def sheet(self, layer: str, *, channels: int | None = None) -> Image.Image:
        """A row for each of some channels: crops of what excites it most, as far as its receptive field reaches."""
        top = self.layers[layer]
        live = np.flatnonzero(top.low < top.high)
        if not len(live):
            raise DataError(
                f"All {len(top.high)} channels of '{layer}' are constant over {top.n:,} pictures: nothing excites them."
            )
        chosen = live[: channels or MOST_CHANNELS]
        rows = [
            TileRow(tiles, f"channel {k}", (f"{top.low[k]:.3g} to {top.high[k]:.3g}",))
            for k, tiles in zip(chosen, self.tiles(layer, chosen.tolist()), strict=True)
        ]
        lines = [
            f"{top.kind}; {self.own}",
            f"{len(top.never_positive)} of {len(top.high)} channels are never above 0, {len(top.constant)} are constant",
            "each crop is what the channel sees around the place of its largest value (light grey: beyond the picture); below: label, value",
        ]
        if len(chosen) < len(live):
            lines.append(f"shown: the first {len(chosen)} of {len(live)} channels that are not constant")
        return tile_sheet(f"What excites {layer} most", lines, rows, columns=BEST)

    def tiles(self, layer: str, channels: Sequence[int], *, cell: int = _CELL) -> list[list[Tile]]:
        """The crops of some channels, of each the best first."""
        top, contract = self.layers[layer], self.classifier.contract
        window = window_of(self.classifier, layer)
        found: list[list[Tile]] = []
        for k in channels:
            found.append([])
            for value, index, place in zip(top.values[k], top.pictures[k], top.places[k], strict=True):
                picture = as_image(self.own.pixels(int(index), contract))
                crop = fit(window.crop(picture, place), cell)
                found[-1].append(Tile(crop, self.own.labels[int(index)], f"{value:.3g}"))
        return found


def most_exciting(
    classifier: Classifier,
    own: OwnPictures,
    layers: Sequence[str],
    *,
    best: int = BEST,
    progress: Progress | None = None,
) -> Tops:
    """The pictures of `own` with the largest value of each channel of `layers`, in one pass.

    Of layers that are called several times, `name#2` means the second call, as in `layers.passes`; LOGITS stands for what the
    classifier says of its classes. Raises DataError when no picture can be read.
    """
    kept: dict[str, LayerTops] = {}
    wanted = frozenset(layers)
    for rows, pixels in own.batches(classifier.contract, progress=progress):

        def read(layer: nn.Module, output: torch.Tensor, batch: int = len(rows)) -> torch.Tensor | None:
            units = as_units(classifier, layer, output, batch)
            return None if units is None else _summits(units.values)

        x = classifier.contract.tensor(pixels).to(classifier.device)
        found = {
            name: (type(passed.module).__name__, passed.output)
            for name, passed in passes(classifier, x, wanted.__contains__, reduce=read).items()
        }
        if LOGITS in wanted:
            with classifier.answering(), torch.no_grad():
                found[LOGITS] = ("logits", _summits(classifier.logits(x)[:, :, None, None]))
        for name, (kind, summits) in found.items():
            values, y, across, low, height, width = summits.numpy()
            new = LayerTops(
                name, kind, len(rows), (int(height[0, 0]), int(width[0, 0])), values.T, np.tile(rows, (values.shape[1], 1)),
                np.stack([y.T, across.T], 2).astype(int), low.min(0), values.max(0),
            )  # fmt: skip
            kept[name] = _merged(kept.get(name), new, best)
    if not kept:
        raise DataError(f"None of {own} can be shown to this network ({classifier.contract}). Give others.")
    return Tops(kept, own, classifier)


def layers_to_watch(classifier: Classifier, layer: str) -> tuple[str, list[str]]:
    """The layer whose pictures are shown, and those whose channels are watched: `layer` itself, or for "all" the last one with
    a map (or without one, the last that can be watched) and all of them. Raises UnknownNameError, ShapeError.
    """
    found = passes(classifier, torch.zeros(1, *classifier.input_shape, device=classifier.device))
    if layer != ALL:
        find_units(classifier, found, layer)
        return layer, [layer]
    names = list(mapped(classifier, found)) or [
        name for name, p in found.items() if not p.is_block and as_units(classifier, p.module, p.output, 1)
    ]
    return names[-1], names


def excited(
    classifier: Classifier,
    data: str,
    network: str | Path,
    layers: Sequence[str],
    *,
    most: int = MOST_PICTURES,
    progress: Progress | None = None,
) -> Tops:
    """`most_exciting` for up to `most` pictures of `data`, where "own" stands for those of the run `network`."""
    run = network if (Path(network) / "run.json").exists() else None
    return most_exciting(classifier, own_pictures(data, run=run, most=most), layers, progress=progress)


def _summits(values: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (6, N, C): the largest value, its row and column, the smallest value, and the map's height and width."""
    height, width = values.shape[2:]
    flat = values.float().flatten(2)
    largest, at = flat.max(2)
    sizes = [torch.full_like(largest, size) for size in (height, width)]
    return torch.stack([largest, (at // width).float(), (at % width).float(), flat.amin(2), *sizes]).cpu()


def _merged(before: LayerTops | None, new: LayerTops, best: int) -> LayerTops:
    """The best of both; among equal values, the picture that came first."""
    parts = [part for part in (before, new) if part]
    values, pictures, places = (
        np.concatenate([getattr(p, f) for p in parts], 1) for f in ("values", "pictures", "places")
    )
    order = np.argsort(-values, axis=1, kind="stable")[:, :best]
    return replace(
        new, n=sum(part.n for part in parts), values=np.take_along_axis(values, order, 1),
        pictures=np.take_along_axis(pictures, order, 1), places=np.take_along_axis(places, order[..., None], 1),
        low=np.minimum.reduce([p.low for p in parts]), high=np.maximum.reduce([p.high for p in parts]),
    )  # fmt: skip
