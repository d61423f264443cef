"""A network written as text, such as "conv16 relu pool conv32,k5,psame relu pool dense64 relu".

Layers are separated by blanks; `layer` lists them and their options. The head that gives the logits is not
written: it follows from the number of classes.

    residual[conv32,psame bn relu conv32,psame bn]     adds what came in; `residual,project[...]` through a 1x1 convolution
    3x[conv32,psame relu]                              the same as writing the layers in brackets three times
    init:he conv16 relu dense64                        how the first weights are drawn: default, he, xavier, identity, zeros

`parse_spec` reads a text, `Spec.shapes` works out every layer without running anything, `build_spec` builds.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pellucid.errors import ShapeError, SpecError, nearest
from pellucid.model.arithmetic import smallest_input
from pellucid.model.initialization import INITS, initialize
from pellucid.model.layer import GLOBAL, SLIDING, Layer, Shape, TooSmallError, parse_layer, short
from pellucid.model.residual import Placed, Residual, place, sequential

_MOST_LAYERS = 1_000
_MOST_BRACKETS = 8  # inside each other
_MOST_PARAMETERS = 2_000_000_000  # 8 GB at 32 bit

Layers = tuple[Layer | Residual, ...]


@dataclass(frozen=True)
class LayerShape:
    """One layer at work: `output` is (channels, height, width) or (features,); `macs` count one picture.

    The layers inside a residual block have rows of their own, and so has its sum, whose `layer` is the block.
    """

    name: str
    layer: Layer | Residual
    output: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class Spec:
    """A network as a sequence of layers, without its head. `str(spec)` is its canonical text.

    `init` says how its first weights are drawn. Raises SpecError for no layer at all, for a layer that needs feature
    maps after they were flattened, and for an unknown init.
    """

    layers: Layers
    init: str = "default"

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise SpecError(
                f"init:{self.init:.40} is no way to draw the first weights. Expected init: and one of "
                f"{', '.join(INITS)}. {nearest(self.init, INITS)}".rstrip()
            )
        if not 0 < (count := _count(self.layers)) <= _MOST_LAYERS:
            raise SpecError(
                f"a network needs 1 to {_MOST_LAYERS} layers, but got {count}. "
                "Write for example: conv16 relu pool conv32 relu pool dense64 relu"
            )
        _check_order(self.layers, None)

    def __str__(self) -> str:
        return " ".join([*([] if self.init == "default" else [f"init:{self.init}"]), *map(str, self.layers)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: {"layers": ["conv16", "relu", ...], "init": "default"}."""
        return {"layers": [str(layer) for layer in self.layers], "init": self.init}

    @classmethod
    def from_dict(cls, data: Any) -> Spec:
        """The spec of `to_dict`. Raises SpecError for anything else."""
        layers = data.get("layers") if isinstance(data, dict) else None
        if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
            raise SpecError(
                f'expected a network as {{"layers": ["conv16", "relu", ...]}}, but got {str(data)[:200]}. '
                "Write it with Spec.to_dict()."
            )
        return parse_spec(" ".join([f"init:{data.get('init', 'default')}", *layers]))

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
        maps: list[Shape] = [tuple(input_shape)]
        try:
            for placed in place(self.layers, maps[0], _head(num_classes)):
                rows += _rows(placed)
                maps.append(placed.output)
        except TooSmallError as error:
            raise ShapeError(f"{error}\n{_way_out(self, maps)}") from None
        return tuple(rows)


def parse_spec(text: str) -> Spec:
    """Read a network from its text; blanks separate the layers and upper case is read as lower case.

    Raises SpecError, naming the layer: unknown layer or option, missing or impossible number, unmatched bracket, empty
    text.
    """
    tokens = deque(re.findall(r"[\[\]]|[^\s\[\]]+", text.lower()))
    init = "default"
    if tokens and tokens[0].startswith("init:"):
        init = tokens.popleft().removeprefix("init:")
    return Spec(_parse_layers(tokens, depth=0), init)


def build_spec(spec: Spec, *, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """The module of a spec with its head: float (N, C, H, W) -> logits (N, num_classes).

    Children are named `conv1`, `relu1`, `pool1`, ..., `head`; the first dense layer comes after `flatten1`. A block
    `residual1` has the children `body`, `shortcut` and `add`.
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
    network = sequential(spec.layers, input_shape, _head(num_classes))
    initialize(network, spec.init)
    return network


def require_gradients(spec: Spec, *, input_shape: tuple[int, int, int]) -> None:
    """Raises SpecError when a layer could never learn, because a `step` lets no gradient through to it."""
    with torch.device("meta"):
        network = build_spec(spec, input_shape=input_shape, num_classes=2).eval()
        network(torch.empty(1, *input_shape)).sum().backward()
    idle = {name.rpartition(".")[0]: None for name, p in network.named_parameters() if p.grad is None}
    if idle:
        raise SpecError(
            f"{', '.join(idle)} could never learn: step has no slope, so no gradient reaches what comes before it. "
            "Such a network can be built and looked at, but not trained; use sigmoid or relu in place of step."
        )


def _head(num_classes: int) -> Layer:
    return Layer("dense", outputs=num_classes)


def _rows(placed: Placed) -> Iterator[LayerShape]:
    """The row of a layer; of a residual block those of its layers, of the way around, and of the sum."""
    name, layer, received, output = placed
    if isinstance(layer, Layer):
        yield LayerShape(name, layer, output, layer.parameters(received), layer.macs(received))
        return
    for inner in place(layer.layers, received):
        yield from _rows(inner._replace(name=f"{name}.body.{inner.name}"))
    if shortcut := layer.shortcut(received, output):
        yield from _rows(Placed(f"{name}.shortcut", shortcut, received, output))
    yield LayerShape(f"{name}.add", layer, output, 0, 0)


def _parse_layers(tokens: deque[str], depth: int) -> Layers:
    """Layers up to the closing bracket, or to the end of the text at depth 0."""
    layers: list[Layer | Residual] = []
    while tokens:
        token = tokens.popleft()
        if token == "]" and depth:
            return tuple(layers)
        try:
            if tokens and tokens[0] == "[":
                tokens.popleft()
                layers += _parse_brackets(token, tokens, depth + 1)
            elif token in ("[", "]") or token.partition(",")[0] == "residual":
                raise SpecError(
                    "brackets go around layers, with a word in front, as in residual[conv32,psame relu conv32,psame] or "
                    "3x[conv32,psame relu]."
                )
            elif token.startswith("init:"):
                raise SpecError(f"init is for the whole network. Write {token} once, in front of all layers.")
            else:
                layers.append(parse_layer(token))
        except (SpecError, ShapeError) as error:
            raise SpecError(f"layer {len(layers) + 1} ({token:.40}): {error}") from None
    if depth:
        raise SpecError("a bracket is opened, but not closed. Write ] after the last layer that it holds.")
    return tuple(layers)


def _parse_brackets(word: str, tokens: deque[str], depth: int) -> Layers:
    """What `word` does with the layers in the brackets that follow it: a block, or so many times the layers."""
    if depth > _MOST_BRACKETS:
        raise SpecError(f"at most {_MOST_BRACKETS} brackets can stand inside each other.")
    times = re.fullmatch(r"([0-9]{1,4})x", word)
    kind, *options = word.split(",")
    if not times and (kind != "residual" or options not in ([], ["project"])):
        raise SpecError(
            f"'{word:.40}' cannot stand before brackets, only residual, residual,project or a number like 3x."
        )
    layers = _parse_layers(tokens, depth)
    if not times:
        return (Residual(layers, project=bool(options)),)
    count = int(times[1])
    if not 0 < count * _count(layers) <= _MOST_LAYERS:
        raise SpecError(f"{count} times {_count(layers)} layers are not 1 to {_MOST_LAYERS} layers.")
    return layers * count


def _count(layers: Layers) -> int:
    return sum(_count(layer.layers) if isinstance(layer, Residual) else 1 for layer in layers)


def _check_order(layers: Layers, flat: Layer | None) -> Layer | None:
    """The layer that flattened the maps, if any, also before these. Raises SpecError where maps are needed after it."""
    for number, layer in enumerate(layers, start=1):
        if flat and layer.kind in (*SLIDING, *GLOBAL):
            raise SpecError(
                f"layer {number} ({layer}) needs feature maps, but {flat} before it leaves a flat list "
                f"of numbers. Write {layer} before {flat}."
            )
        if isinstance(layer, Residual):
            inside = _check_order(layer.layers, flat)
            if inside and not flat:
                raise SpecError(
                    f"layer {number} (residual) flattens the maps ({inside}), so that what came in cannot be added any more. "
                    f"Write {inside} behind the brackets."
                )
        elif layer.kind in ("dense", "flatten"):
            flat = layer
    return flat


def _way_out(spec: Spec, maps: list[Shape]) -> str:
    """What to say when the layer after the last of `maps` cannot work on it: how it came about, and what would help."""
    chain = [short(shape[1:]) for shape in maps]
    shrinks = " -> ".join(side for before, side in zip([None, *chain], chain, strict=False) if side != before)
    remedies = ["padding"]
    smallest = [_smallest_side(spec.layers, axis, 1) for axis in (0, 1)]
    if all(smallest) and _fits(spec, (maps[0][0], max(smallest), max(smallest))):
        remedies.insert(0, f"a larger input (--size {max(smallest)})")
    if any(earlier.kind in ("pool", "avgpool") for earlier in spec.layers[: len(maps)]):
        remedies.append("one pooling layer less")
    *others, last = remedies
    return f"The picture shrinks {shrinks}. Use {', '.join(others)}{', or ' if others else ''}{last}."


def _smallest_side(layers: Layers, axis: int, side: int) -> int:
    """Side of the smallest picture that passes through every layer and leaves `side`; 0 where none does."""
    for layer in reversed(layers):
        if isinstance(layer, Residual):
            side = _smallest_side(layer.layers, axis, side)
        elif layer.kind in SLIDING:
            side = smallest_input(side, **layer.along(axis))
        elif layer.kind in GLOBAL and side > 1:
            return 0
        if not side:
            return 0
    return side


def _fits(spec: Spec, input_shape: Shape) -> bool:
    try:
        return bool(list(place(spec.layers, input_shape)))
    except ShapeError:
        return False
