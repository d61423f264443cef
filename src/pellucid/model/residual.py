"""A residual block of a network written as text, and how layers stand in a row: names, and what each receives.

    residual[conv32,psame bn relu conv32,psame bn]      adds what came in to what comes out
    residual,project[conv64,s2,p1 bn relu conv64,psame] what came in goes through a 1x1 convolution first, which
                                                        brings it to the channels and the size of what comes out

Source: He, Zhang, Ren & Sun 2016, arXiv 1512.03385.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar, NamedTuple

from torch import nn

from pellucid.errors import ShapeError, SpecError
from pellucid.model.layer import Layer, Shape, sides
from pellucid.model.modules import ResidualBlock


@dataclass(frozen=True)
class Residual:
    """Layers around which what came in is led and added. `str(block)` is its text.

    Raises SpecError when there are no layers inside.
    """

    layers: tuple[Layer | Residual, ...]
    project: bool = False
    kind: ClassVar[str] = "residual"

    def __post_init__(self) -> None:
        if not self.layers:
            raise SpecError(
                "residual goes around nothing. Write layers, as in residual[conv32,psame relu conv32,psame]."
            )

    def __str__(self) -> str:
        return f"residual{',project' * self.project}[{' '.join(map(str, self.layers))}]"

    @property
    def stride(self) -> tuple[int, int]:
        """Rows and columns from one value to the next, counted in what comes in."""
        height, width = (prod(layer.stride[axis] for layer in self.layers) for axis in (0, 1))
        return height, width

    def output(self, shape: Shape) -> Shape:
        """The shape that comes out. Raises ShapeError when a layer inside does not fit, or the sum has unlike parts."""
        try:
            inside = [placed.output for placed in place(self.layers, shape)][-1]
        except ShapeError as error:
            raise type(error)(f"holds a layer that does not fit: {error}") from None
        shortcut = self.shortcut(shape, inside)
        added = shortcut.output(shape) if shortcut else shape
        if inside != added:
            raise ShapeError(
                f"makes {_shown(inside)} inside, to which {'the projected' if shortcut else 'what came in,'} "
                f"{_shown(added)}{'' if shortcut else ','} cannot be added. {_remedy(shape, inside, self.project)}"
            )
        return inside

    def shortcut(self, shape: Shape, inside: Shape) -> Layer | None:
        """The layer on the way around: None, or what projects `shape` to the channels and strides of `inside`."""
        if not self.project:
            return None
        if len(inside) == 1:
            return Layer("dense", outputs=inside[0])
        return Layer("conv", outputs=inside[0], stride=self.stride)

    def module(self, shape: Shape) -> nn.Module:
        """The torch module, for what comes in."""
        shortcut = self.shortcut(shape, self.output(shape))
        return ResidualBlock(sequential(self.layers, shape), shortcut.module(shape) if shortcut else nn.Identity())


class Placed(NamedTuple):
    """A layer in its place: its name, what it receives, what it gives."""

    name: str
    layer: Layer | Residual
    received: Shape
    output: Shape


def place(layers: tuple[Layer | Residual, ...], shape: Shape, head: Layer | None = None) -> Iterator[Placed]:
    """The layers one after the other, named conv1, relu1, ..., head; maps are flattened before the first dense layer.

    Raises ShapeError, beginning with the layer's number, when one does not fit what it receives.
    """
    counts: Counter[str] = Counter()
    for number, layer in enumerate((*layers, head) if head else layers, start=1):
        flatten = (Layer("flatten"),) if layer.kind == "dense" and len(shape) == 3 else ()
        for part in (*flatten, layer):
            counts[part.kind] += 1
            try:
                output = part.output(shape)
            except ShapeError as error:
                raise type(error)(f"layer {number} ({_label(part)}) {error}") from None
            yield Placed("head" if part is head else f"{part.kind}{counts[part.kind]}", part, shape, output)
            shape = output


def sequential(layers: tuple[Layer | Residual, ...], shape: Shape, head: Layer | None = None) -> nn.Sequential:
    """The modules of `place`, by their names."""
    return nn.Sequential(OrderedDict((p.name, p.layer.module(p.received)) for p in place(layers, shape, head)))


def _remedy(shape: Shape, inside: Shape, project: bool) -> str:
    if project:
        return "Use padding that keeps the size at stride 1 (psame) in the layers inside."
    if len(shape) == 3 and shape[1:] == inside[1:]:
        return f"Let the last convolution inside have {shape[0]} filters, or write residual,project[...]."
    if len(shape) == 3:
        return "Use psame and stride 1 inside, or residual,project[...] when the stride is meant."
    return f"Let the last dense layer inside have {shape[0]} neurons, or write residual,project[...]."


def _label(layer: Layer | Residual) -> str:
    text = str(layer)
    if isinstance(layer, Layer):
        return f"{text}, {sides(layer.kernel)}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(shape: Shape) -> str:
    return "x".join(map(str, shape))
