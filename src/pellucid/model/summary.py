"""The layer table of any torch module: output sizes, parameters, multiply-accumulates, memory, receptive fields.

A copy of the module runs once on the meta device, where tensors have shapes but no values: no weight is
copied, no number is computed, and a network of any size takes a moment. Every torch operation is seen on its
way; what it costs goes to the layer that called it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from pellucid.errors import ShapeError
from pellucid.model.receptive import Call, Field, carry
from pellucid.model.table import ruled

_BYTES = 4  # of a 32-bit number


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer. `input` and `output` have no batch dimension and are () for a layer that did not run.

    `receptive_field` is the (height, width) in pixels that one output value sees, even beyond the picture's
    border, or no more than the picture after a global operation; None where the output does not depend on the
    picture. The field of the first value has its `center` so many pixels below and right of the middle of the first
    pixel, the next ones lie `jump` pixels apart; None where the output has no rows and columns. `macs` count one picture.
    """

    name: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: tuple[int, int] | None
    jump: tuple[int, int] | None
    center: tuple[float, float] | None

    @property
    def activation_bytes(self) -> int:
        """Memory of the output for one picture, in 32-bit numbers."""
        return _BYTES * prod(self.output) if self.output else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        numbers = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return numbers | {"parameter_bytes": _BYTES * self.parameters, "activation_bytes": self.activation_bytes}


@dataclass(frozen=True)
class Summary:
    """The layers in the order in which they run. Their parameters and macs add up to those of the network.

    A container has a row where it owns parameters or works itself; nn.Identity has none.
    """

    layers: tuple[LayerRow, ...]
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int

    @property
    def activation_bytes(self) -> int:
        """Memory of all outputs for one picture, which a training keeps; a layer that works in place takes none."""
        return sum(row.activation_bytes for row in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "input": list(self.input_shape),
            "layers": [row.to_dict() for row in self.layers],
            "parameters": self.parameters,
            "macs": self.macs,
            "parameter_bytes": _BYTES * self.parameters,
            "activation_bytes": self.activation_bytes,
        }

    def __str__(self) -> str:
        table = [("layer", "kind", "output", "parameters", "MACs", "memory", "sees", "jump", "center")]
        for row in self.layers:
            sees, jump = (_times(pair) if pair else "-" for pair in (row.receptive_field, row.jump))
            center = f"{row.center[0]:g}, {row.center[1]:g}" if row.center else "-"
            output, memory = _times(row.output) or "-", _size(row.activation_bytes)
            numbers = f"{row.parameters:,}", f"{row.macs:,}"
            table.append((row.name, row.kind, output, *numbers, memory, sees, jump, center))
        total = f"{self.parameters:,}", f"{self.macs:,}", _size(self.activation_bytes)
        table.append(("total", "", "", *total, "", "", ""))
        return (
            f"input {_times(self.input_shape)}\n\n{ruled(table)}\n\n"
            f"memory at 32 bits: parameters {_size(_BYTES * self.parameters)}, activations {_size(self.activation_bytes)} "
            "a picture if all are kept, as in training"
        )


def num_parameters(module: nn.Module) -> int:
    """Numbers that training can set; a parameter that several layers share counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def summarize(module: nn.Module, input_shape: tuple[int, int, int]) -> Summary:
    """The layer table of `module` in evaluation mode; `input_shape` is a picture's (channels, height, width).

    The module itself is neither run nor changed. Raises ShapeError, naming the layer, when it cannot work on
    such a picture.
    Source: multiply-accumulates are half the operations that torch.utils.flop_counter counts (convolutions,
    matrix products, attention); receptive fields after Araujo, Norris & Sim 2019, doi 10.23915/distill.00021.
    """
    rows = _traced(module, input_shape).rows()
    return Summary(rows, input_shape, num_parameters(module), sum(row.macs for row in rows))


def fields(module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Field]:
    """What the values of each layer's output see, blocks included; later calls of a layer are called `name#2`, `name#3`.

    Layers that do not depend on the picture are left out. Raises ShapeError.
    """
    found: dict[str, Field] = {}
    calls: Counter[str] = Counter()
    for draft in _traced(module, input_shape).drafts:
        calls[draft.name] += 1
        if draft.field:
            found[draft.name if calls[draft.name] == 1 else f"{draft.name}#{calls[draft.name]}"] = draft.field
    return found


def _traced(module: nn.Module, input_shape: tuple[int, int, int]) -> _Tracer:
    shadow = _on_meta(module)
    tracer = _Tracer(shadow, input_shape)
    picture = torch.empty(1, *input_shape, device="meta")
    tracer.fields[picture] = Field.of_picture(picture.shape)
    try:
        with torch.no_grad(), torch.device("meta"), tracer:
            shadow(picture)
    except (RuntimeError, AssertionError) as error:
        where = tracer.running[-1]
        raise ShapeError(
            f"{type(module).__name__} cannot work on a {_times(input_shape)} picture: "
            f"{where.kind} '{where.name}' says: {' '.join(str(error).split()).rstrip('.')}. "
            "Use the picture size and channels that the network was made for (--size), mostly a larger one."
        ) from error
    return tracer


@dataclass
class _Draft:
    """A row while its layer runs."""

    name: str
    kind: str
    listed: bool  # also without parameters and macs of its own
    parameters: int
    macs: int = 0
    input: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    field: Field | None = None


class _Tracer(TorchDispatchMode):
    """Follows a network's operations: the fields of its tensors, and a draft for each call of each module."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.picture = input_shape[1:]
        self.fields = WeakTensorKeyDictionary()
        self.drafts: list[_Draft] = []
        self.running: list[_Draft] = []
        self.names = {module: name or "network" for name, module in network.named_modules()}
        self.counted: set[nn.Parameter] = set()
        for module in self.names:
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def rows(self) -> tuple[LayerRow, ...]:
        idle = [self._draft(module) for module in self.names]  # all parameters that no call has counted
        kept = [draft for draft in self.drafts if draft.listed or draft.parameters or draft.macs]
        kept += [draft for draft in idle if draft.parameters]
        return tuple(self._row(draft) for draft in kept)

    def _row(self, draft: _Draft) -> LayerRow:
        field = draft.field
        jump = field.jump if field else None
        return LayerRow(
            draft.name, draft.kind, draft.input, draft.output, draft.parameters, draft.macs,
            receptive_field=field.seen(self.picture) if field else None,
            jump=jump,
            center=(float(field.center[0]), float(field.center[1])) if field and jump else None,
        )  # fmt: skip

    def _draft(self, module: nn.Module) -> _Draft:
        own = set(module.parameters(recurse=False)) - self.counted
        self.counted |= own
        leaf = next(module.children(), None) is None
        return _Draft(
            name=self.names[module],
            kind=type(module).__name__,
            listed=leaf and not isinstance(module, nn.Identity),
            parameters=sum(parameter.numel() for parameter in own),
        )

    def _enter(self, module: nn.Module, args: Any) -> None:
        draft = self._draft(module)
        for tensor in _tensors(args)[:1]:
            draft.input = tuple(tensor.shape[1:])
        self.running.append(draft)
        self.drafts.append(draft)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        draft = self.running.pop()
        for tensor in _tensors(output)[:1]:
            draft.output = tuple(tensor.shape[1:])
            draft.field = self.fields.get(tensor)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        operation = function.overloadpacket
        if operation in flop_registry:
            self.running[-1].macs += flop_registry[operation](*args, **kwargs, out_val=output) // 2
        schema = function._schema.arguments
        arguments = {argument.name: argument.default_value for argument in schema}
        arguments |= dict(zip(arguments, args, strict=False)) | kwargs
        for tensor in _tensors(output):
            field = carry(operation, Call(arguments, self.fields.get, tuple(tensor.shape)))
            if field:
                self.fields[tensor] = field
        return output


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode with shapes instead of numbers; no memory is taken."""
    memo: dict[int, Any] = {id(buffer): torch.empty_like(buffer, device="meta") for buffer in module.buffers()}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    return copy.deepcopy(module, memo).float().eval()


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _times(sides: Iterable[int]) -> str:
    return "x".join(map(str, sides))
