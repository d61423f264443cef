"""A network written as text, such as "conv16 relu pool conv32,k5,psame relu pool dense64 relu".

Layers are separated by blanks; `layer` lists them and their options. The head that gives the logits is not
written: it follows from the number of classes.

`parse_spec` reads a text, `Spec.shapes` works out every layer without running anything, `build_spec` builds.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from pellucid.errors import ShapeError, SpecError
from pellucid.model.arithmetic import effective_kernel, smallest_input
from pellucid.model.layer import GLOBAL, SLIDING, Layer, Shape, parse_layer, short, sides

_MOST_LAYERS = 1_000
_MOST_PARAMETERS = 2_000_000_000  # 8 GB at 32 bit


@dataclass(frozen=True)
class LayerShape:
    """One layer at work: `output` is (channels, height, width) or (features,); `macs` count one picture."""

    name: str
    layer: Layer
    output: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class Spec:
    """A network as a sequence of layers, without its head. `str(spec)` is its canonical text.

    Raises SpecError for no layer at all, and for a layer that needs feature maps after they were flattened.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.layers) <= _MOST_LAYERS:
            raise SpecError(
                f"a network needs 1 to {_MOST_LAYERS} layers, but got {len(self.layers)}. "
                "Write for example: conv16 relu pool conv32 relu pool dense64 relu"
            )
        flat: Layer | None = None
        for number, layer in enumerate(self.layers, start=1):
            if flat and layer.kind in (*SLIDING, *GLOBAL):
                raise SpecError(
                    f"layer {number} ({layer}) needs feature maps, but {flat} before it leaves a flat list "
                    f"of numbers. Write {layer} before {flat}."
                )
            if layer.kind in ("dense", "flatten"):
                flat = layer

    def __str__(self) -> str:
        return " ".join(str(layer) for layer in self.layers)

    def to_dict(self) -> dict[str, list[str]]:
        """Plain data for JSON: {"layers": ["conv16", "relu", ...]}."""
        return {"layers": [str(layer) for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: Any) -> Spec:
        """The spec of `to_dict`. Raises SpecError for anything else."""
        layers = data.get("layers") if isinstance(data, dict) else None
        if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
            raise SpecError(
                f'expected a network as {{"layers": ["conv16", "relu", ...]}}, but got {str(data)[:200]}. '
                "Write it with Spec.to_dict()."
            )
        return parse_spec(" ".join(layers))

    def shapes(self, input_shape: tuple[int, int, int], num_classes: int) -> tuple[LayerShape, ...]:
        """Every layer on a picture of `input_shape` (channels, height, width), flattening and head included.

        Raises ShapeError when a layer does not fit what it receives, with the smallest picture that would do.
        """
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise ShapeError(
                f"expected a picture as channels, height and width, but got {input_shape}. "
                "Give three numbers of at least 1, such as (3, 32, 32)."
            )
        rows: list[LayerShape] = []
        shape: Shape = tuple(input_shape)
        for number, (name, layer) in enumerate(_complete(self, num_classes), start=1):
            if layer.kind == "conv" and shape[0] % layer.groups:
                raise ShapeError(
                    f"layer {number} ({layer}) received {shape[0]} channels, which {layer.groups} groups "
                    f"cannot share evenly. Use a number of groups that divides {shape[0]}."
                )
            try:
                output = layer.output(shape)
            except ShapeError:
                maps = [tuple(input_shape), *(row.output for row in rows)]
                raise ShapeError(_too_small(self, number, maps)) from None
            rows.append(LayerShape(name, layer, output, layer.parameters(shape), layer.macs(shape)))
            shape = output
        return tuple(rows)


def parse_spec(text: str) -> Spec:
    """Read a network from its text; blanks separate the layers and upper case is read as lower case.

    Raises SpecError, naming the layer: unknown layer or option, missing or impossible number, empty text.
    """
    layers = []
    for number, token in enumerate(text.lower().split(), start=1):
        try:
            layers.append(parse_layer(token))
        except (SpecError, ShapeError) as error:
            raise SpecError(f"layer {number} ({token:.40}): {error}") from None
    return Spec(tuple(layers))


def build_spec(spec: Spec, *, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """The module of a spec with its head: float (N, C, H, W) -> logits (N, num_classes).

    Children are named `conv1`, `relu1`, `pool1`, ..., `head`; the first dense layer comes after `flatten1`.
    Raises ShapeError, before any memory is taken, when a layer does not fit or has too many parameters.
    """
    rows = spec.shapes(input_shape, num_classes)
    parameters = sum(row.parameters for row in rows)
    if parameters > _MOST_PARAMETERS:
        most = max(rows, key=lambda row: row.parameters)
        raise ShapeError(
            f"this network would have {parameters:,} parameters, {most.parameters:,} of them in {most.name} "
            f"({most.layer}), but at most {_MOST_PARAMETERS:,} are built. "
            "Use more pooling, globalpool before the first dense layer, or a smaller input (--size)."
        )
    inputs = [tuple(input_shape), *(row.output for row in rows[:-1])]
    children = [(row.name, row.layer.module(shape)) for row, shape in zip(rows, inputs, strict=True)]
    return nn.Sequential(OrderedDict(children))


def _complete(spec: Spec, num_classes: int) -> Iterator[tuple[str, Layer]]:
    """The layers as they are built, with their names: flattening where it is needed, and the head."""
    head = Layer("dense", outputs=num_classes)
    counts: Counter[str] = Counter()
    for layer in (*spec.layers, head):
        flattened = counts["flatten"] > 0
        for part in (layer,) if flattened or layer.kind != "dense" else (Layer("flatten"), layer):
            counts[part.kind] += 1
            yield "head" if part is head else f"{part.kind}{counts[part.kind]}", part


def _too_small(spec: Spec, number: int, maps: list[Shape]) -> str:
    """What to say when layer `number` cannot work on the last of the `maps` that led to it."""
    layer = spec.layers[number - 1]
    window = sides([effective_kernel(*pair) for pair in zip(layer.kernel, layer.dilation, strict=True)])
    needed = sides([smallest_input(1, **layer.along(axis)) for axis in (0, 1)])
    padding = f"with padding {short(layer.padding)}" if any(layer.padding) else "without padding"
    chain = [short(shape[1:]) for shape in maps]
    shrinks = " -> ".join(side for before, side in zip([None, *chain], chain, strict=False) if side != before)

    remedies = ["padding"]
    smallest = [_smallest_side(spec, axis) for axis in (0, 1)]
    if all(smallest):
        remedies.insert(0, f"a larger input (--size {max(smallest)})")
    if any(earlier.kind in ("pool", "avgpool") for earlier in spec.layers[:number]):
        remedies.append("one pooling layer less")
    *others, last = remedies
    return (
        f"layer {number} ({layer}, {sides(layer.kernel)}) received {sides(maps[-1][1:])} feature maps, but a "
        f"{window} kernel {padding} needs at least {needed}.\n"
        f"The picture shrinks {shrinks}. Use {', '.join(others)}{', or ' if others else ''}{last}."
    )


def _smallest_side(spec: Spec, axis: int) -> int:
    """Side of the smallest picture that passes through every layer; 0 where none does."""
    side = 1
    for layer in reversed(spec.layers):
        if layer.kind in SLIDING:
            side = smallest_input(side, **layer.along(axis))
        elif layer.kind in GLOBAL and side > 1:
            return 0
    return side
