"""Steps: one number of one layer worked out, term by term, and held against the number that torch found.

    from pellucid.explain.steps import work_out
    print(work_out(pellucid.load(run), "photo.jpg", "conv1", channel=3, at=(5, 7)))

A layer is followed back from its output: through what only moves numbers (flatten, permute), through activations, to the
operation that makes one number of many. What comes before that belongs to the layers before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.data.decode import Picture
from pellucid.errors import ConfigError
from pellucid.explain.answer import ANSWER, work_out_answer
from pellucid.explain.curves import CURVES, through_curve
from pellucid.explain.layers import find_layer, passes
from pellucid.explain.looked import Looked, where
from pellucid.explain.steps_text import told
from pellucid.explain.sums import SUMS
from pellucid.explain.trace import Operation, Traced, Value, trace
from pellucid.explain.work import Index, Work, look, n, times
from pellucid.model.classifier import Classifier

# Operations that keep every number in its place, and those that only move numbers.
_KEEPS = {"alias", "detach", "clone", "contiguous", "_to_copy"}
_MOVES = _KEEPS | {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "as_strided", "t", "transpose", "permute", "unsqueeze", "squeeze", "expand",
    "select", "slice", "split", "split_with_sizes", "unbind", "cat", "stack", "flip", "roll", "constant_pad_nd", "reflection_pad2d",
    "replication_pad2d", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Step:
    """One number of the output of a layer. `position` is its index in `shape`, mostly (channel, row, column).

    `works` are the operations from the one with many terms to the layer's output; `looked` is where in the picture the
    number looks, None for a layer that does not depend on it. `picture` is uint8 (H, W, C), what the network was given.
    """

    layer: str
    kind: str
    shape: Index
    position: Index
    works: tuple[Work, ...]
    looked: Looked | None
    picture: np.ndarray

    @property
    def main(self) -> Work:
        """The work with the most terms."""
        return max(self.works, key=lambda work: len(work.inputs))

    @property
    def value(self) -> float:
        return self.works[-1].value

    @property
    def torch(self) -> float:
        return self.works[-1].torch

    @property
    def difference(self) -> float:
        """The largest of all works, relative to the size of what was added."""
        return max(work.difference for work in self.works)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "layer": self.layer, "kind": self.kind, "shape": list(self.shape), "position": list(self.position),
            "terms": self.main.terms(), "sum": self.main.sum, "bias": self.main.bias, "value": self.value,
            "torch": self.torch, "difference": self.difference, "works": [work.to_dict() for work in self.works],
            "looked": self.looked and self.looked.to_dict(),
        }  # fmt: skip

    def __str__(self) -> str:
        return told(self.layer, self.kind, self.shape, self.position, self.works, self.main, self.looked)


def work_out(
    classifier: Classifier,
    picture: str | Path | bytes | np.ndarray | Picture,
    layer: str | None = None,
    *,
    channel: int | None = None,
    at: Sequence[int] | None = None,
) -> Step:
    """One number of `layer`, a name of the layer table or `answer` for the probabilities.

    Without `layer`, the first convolution, or the first layer of a network that has none. `channel` and `at`, (row, column), are by
    default where the output is largest; for an output of other dimensions `at` is the whole position.
    Raises UnknownNameError with the nearest names, ConfigError for a position outside (with the range) and for an operation
    that is no sum of a few numbers, PictureError.
    """
    pixels = classifier.pixels(picture)
    x = classifier.contract.tensor(pixels[None])
    names: dict[str, None] = {}
    passes(classifier, x, keep=lambda name: bool(names.setdefault(name)))
    if layer == ANSWER and ANSWER not in names:
        works, shape, position = work_out_answer(classifier, pixels, channel)
        return Step(ANSWER, "probabilities", shape, position, works, None, pixels)
    layer = find_layer([*names, ANSWER], layer or _first(classifier, names))
    traced = trace(classifier, x, layer)
    output = traced.output.tensor
    alone = output.dim() > 1 and output.shape[0] == 1
    shape = tuple(output.shape[1:] if alone else output.shape)
    position = _position(output[0] if alone else output, layer, channel, at)
    index = (0, *position) if alone else position
    works = tuple(_named(work, traced, layer) for work in follow(traced, index, layer))
    return Step(layer, type(traced.module).__name__, shape, position, works, where(classifier, layer, index), pixels)


def position_of(text: str) -> Index:
    """What --at says: '5,7' as (5, 7). Raises ConfigError."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--at is '{text}'; expected a row and a column, counted from 0, like 5,7.") from None


def follow(traced: Traced, at: Index, layer: str) -> list[Work]:
    """The works that lead to the number at `at` of the layer's output, the first one first."""
    value, place, works = traced.output, at, list[Work]()
    while (op := value.made_by) is not None:
        if op.name in _MOVES:
            origin = _before(op, place)
            if origin is None:
                break
            value, place = origin
            continue
        work = through_curve(op, place) if op.name in CURVES else SUMS[op.name](op, place) if op.name in SUMS else None
        if work is None:
            if works:
                break
            raise ConfigError(_untold(layer, op))
        works.append(work)
        if op.name not in CURVES:
            break
        value = op.given[0]
    return works[::-1] or [_passed_on(value, place, float(traced.output.tensor[at]))]


def _passed_on(value: Value, place: Index, found: float) -> Work:
    window = look(value, *([i] for i in place))
    number = float(window.numbers[0])
    return Work(
        "passes a number on", f"{n(number)}, unchanged", window.numbers, None, window.numbers, window.places, number, None,
        number, found, abs(number), given=(value,),
    )  # fmt: skip


def _before(op: Operation, at: Index) -> tuple[Value, Index] | None:
    """Where the number that a move put to `at` stood before; None for one that it put in as padding."""
    if op.name in _KEEPS:
        return op.given[0], at
    number = int(_origins(op)[at]) - 1
    for value in op.given:
        if 0 <= number < value.tensor.numel():
            return value, tuple(int(i) for i in np.unravel_index(number, value.tensor.shape))
        number -= value.tensor.numel()
    return None


def _origins(op: Operation) -> torch.Tensor:
    """int64 of the shape of a move's output: where each number came from, counted from 1 through all inputs; 0 is padding.

    The operation itself says so, run again on these counts in place of the numbers.
    """
    start, counted = 1, {}
    for value in op.given:
        counted[value] = torch.empty_like(value.tensor, dtype=torch.int64)  # laid out alike in memory
        counted[value].copy_(torch.arange(start, start + value.tensor.numel()).view(value.tensor.shape))
        start += value.tensor.numel()
    return op.again(counted, value=0) if op.name == "constant_pad_nd" else op.again(counted)


def _named(work: Work, traced: Traced, layer: str) -> Work:
    """The work with its places in what the layer was given, as far as numbers were only moved since, and with names."""
    alone = all(value.tensor.shape[0] == 1 for value in traced.inputs)
    if len(work.given) == 1:
        value, places = _root(work.given[0], work.places)
        sources = [_source(value, traced, layer)]
    else:  # a place in each of several values
        roots = [_root(value, work.places[i : i + 1]) for i, value in enumerate(work.given)]
        sources = [_source(value, traced, layer) for value, _ in roots]
        same = len({place.shape[1] for _, place in roots}) == 1
        places = np.concatenate([place for _, place in roots]) if same else work.places
    return replace(work, places=places[:, 1:] if alone else places, sources=tuple(sources), given=())


def _root(value: Value, places: np.ndarray) -> tuple[Value, np.ndarray]:
    """Where numbers at `places` (n, dimensions) of a value stood before they were only moved, and in what."""
    while (op := value.made_by) is not None and op.name in _MOVES and len(op.given) == 1:
        value = op.given[0]
        if op.name in _KEEPS:
            continue
        inside = np.all(places >= 0, axis=1)
        numbers = np.zeros(len(places), np.int64)
        numbers[inside] = _origins(op)[tuple(torch.from_numpy(places[inside].T.copy()))].numpy()
        places = np.stack(np.unravel_index(np.maximum(numbers - 1, 0), value.tensor.shape), -1)
        places[numbers == 0] = -1
    return value, places


def _source(value: Value, traced: Traced, layer: str) -> str:
    if value in traced.inputs:
        return "input" if len(traced.inputs) == 1 else f"input {traced.inputs.index(value) + 1}"
    if value.made_by is None:
        return "numbers inside"
    inner = value.made_by.layer
    return f"{value.made_by.name.strip('_')} inside" if inner == layer else inner


def _first(classifier: Classifier, names: Iterable[str]) -> str:
    modules = dict(classifier.module.named_modules())
    convolutions = (name for name in names if isinstance(modules.get(name), torch.nn.Conv2d))
    return next(convolutions, None) or next(iter(names))


def _position(output: torch.Tensor, layer: str, channel: int | None, at: Sequence[int] | None) -> Index:
    """The index that `channel` and `at` mean in an output without its batch; what they leave open is where it is largest."""
    shape, rank = tuple(output.shape), output.dim()
    names = {1: ["channel"], 2: ["row", "channel"], 3: ["channel", "row", "column"]}.get(
        rank, [f"axis {i}" for i in range(rank)]
    )
    wanted: list[int | None] = [None] * rank
    places = [i for i in range(rank) if names[i] != "channel"] if at is None or len(at) != rank else list(range(rank))
    if at is not None and len(at) != len(places):
        raise ConfigError(
            f"--at has {len(at)} numbers, but the output of '{layer}' is {times(shape)} ({', '.join(names)}). Give "
            f"{'no --at' if not places else f'{len(places)} numbers or all {rank}'}."
        )
    for axis, index in zip(places, at or (), strict=False):
        wanted[axis] = index
    if channel is not None and "channel" in names:
        wanted[names.index("channel")] = channel
    for name, number, size in zip(names, wanted, shape, strict=True):
        if number is not None and not 0 <= number < size:
            ranges = ", ".join(f"{what} 0 to {count - 1}" for what, count in zip(names, shape, strict=True))
            raise ConfigError(
                f"{name} {number} of '{layer}' is out of range: its output is {times(shape)}, that is {ranges}."
            )
    part = output[tuple(slice(None) if number is None else number for number in wanted)]
    best = iter(np.unravel_index(int(part.argmax()), tuple(part.shape)) if part.dim() else ())
    return tuple(int(next(best)) if number is None else number for number in wanted)


def _untold(layer: str, op: Operation) -> str:
    inside = f" in '{op.layer}'" if op.layer != layer else ""
    reason = "there is no rule for it"
    if "attention" in op.name:
        reason = "attention weighs all positions with weights that it makes of all of them, in one fused operation"
    return (
        f"'{layer}' ends in torch's operation {op.name}{inside}, which cannot be told as one sum: {reason}. Convolutions, dense "
        "layers, pooling, means, norms, softmax, sums, products and activations can be worked out: choose a layer inside of it, or "
        "one before or after it (pellucid summary)."
    )
