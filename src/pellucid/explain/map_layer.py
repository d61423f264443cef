"""The layer that Grad-CAM draws: the last one whose output is still a map of the picture and carries all of the signal.

It is found by running, not by names, so that it works for any network: what a layer gave for one picture is put into its
place while the network looks at another; when the answer becomes that of the first picture, nothing went around the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pellucid.errors import ConfigError
from pellucid.explain.layers import Passed, find_layer, passes
from pellucid.model.classifier import Classifier

_MOST_EXTRA = 5  # tokens that belong to no place: one for the class, up to four registers
_SAME = 1e-3  # of the difference between two answers: below it they are the same one


@dataclass(frozen=True)
class MapLayer:
    """A layer by its name, and height and width of its maps; `chosen`: nobody asked for it."""

    name: str
    size: tuple[int, int]
    chosen: bool

    def __str__(self) -> str:
        what = "the last layer with maps that carry all of the signal" if self.chosen else "as asked for"
        return f"layer {self.name}, maps of {self.size[0]}x{self.size[1]} ({what})"


def find_map_layer(classifier: Classifier, pixels: np.ndarray, wanted: str | None = None) -> MapLayer:
    """The layer called `wanted`, or the last one that can be drawn, for a picture uint8 (H, W, C).

    Raises UnknownNameError for a name that is not there, ConfigError when the layer, or every layer, gives no maps.
    """
    x = classifier.contract.tensor(torch.from_numpy(np.array(pixels[None])).to(classifier.device))
    found = passes(classifier, x)
    size = (pixels.shape[0], pixels.shape[1])
    with_maps = [passed for passed in found.values() if as_maps(passed.output, size, len(x))]
    if wanted is not None:
        passed = found[find_layer(found, wanted)]
        if passed not in with_maps:
            some = ", ".join(p.name for p in with_maps[-5:]) or "none does"
            raise ConfigError(
                f"Layer '{wanted}' gives {'x'.join(map(str, passed.output.shape[1:]))} numbers, which are no maps of the picture "
                f"with more than one place. Layers that do, the last ones: {some}."
            )
        return MapLayer(wanted, _size(passed, size), chosen=False)
    noise = np.random.default_rng(0).integers(0, 256, (1, *pixels.shape), np.uint8)
    other = classifier.contract.tensor(torch.from_numpy(noise).to(classifier.device))
    for passed in reversed(with_maps):
        if _carries_all(classifier, passed, x, other):
            return MapLayer(passed.name, _size(passed, size), chosen=True)
    raise ConfigError(
        "No layer of this network gives maps of the picture that carry all of the signal: it is dense, or sees the picture as a "
        "whole from its first layer on. Methods that need no maps work: integrated-gradients, smoothgrad, occlusion, shapley."
    )


@contextmanager
def changed(classifier: Classifier, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While it lasts, the output of one call of one layer is what `change` makes of it; in an output of several tensors,
    the first one."""
    base, _, number = name.partition("#")
    wanted, seen = int(number or 1), 0

    def enter(*_: Any) -> None:
        nonlocal seen
        seen = 0

    def leave(_: torch.nn.Module, __: Any, output: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen != wanted:
            return None
        if isinstance(output, torch.Tensor):
            return change(output)
        first = next(i for i, part in enumerate(output) if isinstance(part, torch.Tensor))
        return type(output)([*output[:first], change(output[first]), *output[first + 1 :]])

    hooks = [
        classifier.module.register_forward_pre_hook(enter),
        classifier.module.get_submodule(base).register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def as_maps(
    output: torch.Tensor, size: tuple[int, int], batch: int
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]] | None:
    """A layer's output as maps (N, C, h, w) of pictures of `size`, and the way back; None when it is no map of them.

    Maps lie with the channels first (convolutions) or last (Swin), or are tokens (N, T, C) (ViT), where those that belong
    to no place stand in front.
    """
    if len(output) != batch or not output.is_floating_point():
        return None
    if output.ndim == 4 and _fits(output.shape[2], output.shape[3], size):
        return output, lambda maps: maps
    if output.ndim == 4 and _fits(output.shape[1], output.shape[2], size):
        return output.permute(0, 3, 1, 2), lambda maps: maps.permute(0, 2, 3, 1)
    if output.ndim == 3:
        for extra in range(_MOST_EXTRA + 1):
            places = output.shape[1] - extra
            height = round((max(places, 0) * size[0] / size[1]) ** 0.5)
            if height > 1 and places % height == 0 and _fits(height, places // height, size):
                grid = output[:, extra:].transpose(1, 2).unflatten(2, (height, places // height))
                front = output[:, :extra]
                return grid, lambda maps, front=front: torch.cat([front, maps.flatten(2).transpose(1, 2)], 1)
    return None


def _fits(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether maps have more than one place and the proportions of the pictures, within two places."""
    inside = height <= size[0] and width <= size[1]
    return inside and height * width > 1 and abs(height * size[1] / size[0] - width) <= 2


def _size(passed: Passed, size: tuple[int, int]) -> tuple[int, int]:
    found = as_maps(passed.output, size, len(passed.output))
    assert found is not None
    return found[0].shape[2], found[0].shape[3]


def _carries_all(classifier: Classifier, passed: Passed, x: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the layer's output for `x` decides the answer, and its places (not only a class token) have a say in it."""
    size = (x.shape[2], x.shape[3])

    def places_only(output: torch.Tensor) -> torch.Tensor:
        here, there = as_maps(passed.output, size, 1), as_maps(output, size, 1)
        assert here is not None
        assert there is not None
        return there[1](here[0])

    with classifier.answering(), torch.no_grad():
        one, two = classifier.module(x), classifier.module(other)
        with changed(classifier, passed.name, lambda _: passed.output.clone()):
            patched = classifier.module(other)
        with changed(classifier, passed.name, places_only):
            by_places = classifier.module(other)
    apart = (one - two).abs().max() * _SAME
    return bool((patched - one).abs().max() < apart and (by_places - two).abs().max() > apart)
