"""The torch operations inside of one layer at work: what each was given, what it gave, and which made what.

A layer is often more than its class says: a batch norm that also rectifies, a convolution that pads first, a block whose
forward adds. So what is worked out is read from the operations that ran, not from the name of the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pellucid.model.classifier import Classifier


@dataclass(eq=False)
class Value:
    """A tensor as it was at one time: a layer that works in place makes a new one. `made_by` is None for what was given."""

    tensor: torch.Tensor
    made_by: Operation | None = None

    def __post_init__(self) -> None:
        self.tensor = self.tensor.detach()


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation and one of its outputs: its name in torch, without the underscore of those that work in place, and its
    arguments by name."""

    name: str
    call: Any
    arguments: Mapping[str, Any]  # a Value for each tensor
    output: Value
    number: int  # of the output, where there are several
    layer: str  # in which it ran

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    @property
    def given(self) -> list[Value]:
        """The tensors among the arguments, in order."""
        return [leaf for leaf in tree_leaves(list(self.arguments.values())) if isinstance(leaf, Value)]

    def again(self, replaced: Mapping[Value, torch.Tensor], **others: Any) -> torch.Tensor:
        """What the operation gives for other numbers of the same shapes, and `others` in place of its arguments."""
        arguments = tree_map(
            lambda leaf: replaced.get(leaf, leaf.tensor) if isinstance(leaf, Value) else leaf,
            {**self.arguments, **others},
        )
        names = [a.name for a in self.call._schema.arguments if not a.kwarg_only]
        output = self.call(
            *(arguments[name] for name in names), **{n: v for n, v in arguments.items() if n not in names}
        )
        return output[self.number] if isinstance(output, (tuple, list)) else output


@dataclass(frozen=True, eq=False)
class Traced:
    """One call of one layer: the tensors that it was given, and the first one that it gave."""

    module: nn.Module
    inputs: tuple[Value, ...]
    output: Value


def trace(classifier: Classifier, x: torch.Tensor, layer: str) -> Traced:
    """The operations of `layer`, a name of `passes`, while the network works on float32 `x` (N, C, H, W)."""
    base, _, number = layer.partition("#")
    module = classifier.module.get_submodule(base)
    recorder = _Recorder(int(number or 1))
    hooks = [module.register_forward_pre_hook(recorder.enter), module.register_forward_hook(recorder.leave)]
    for name, inner in module.named_modules(prefix=base):
        hooks.append(inner.register_forward_pre_hook(lambda *_, name=name: recorder.running.append(name), prepend=True))
        hooks.append(inner.register_forward_hook(lambda *_: recorder.left()))
    try:
        with classifier.answering(), torch.no_grad(), recorder:
            classifier.module(x.clone())  # the first layer may work in place
    finally:
        for hook in hooks:
            hook.remove()
    assert recorder.output is not None
    return Traced(module, tuple(recorder.inputs), recorder.output)


@dataclass(eq=False)
class _Recorder(TorchDispatchMode):
    wanted: int
    calls: int = 0
    active: bool = False
    running: list[str] = field(default_factory=list)  # layers, the innermost last
    inputs: list[Value] = field(default_factory=list)
    output: Value | None = None
    values: dict[int, tuple[torch.Tensor, Value]] = field(
        default_factory=dict
    )  # by id; kept alive, so that no id returns

    def __post_init__(self) -> None:
        super().__init__()

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.calls += 1
        if self.calls == self.wanted:
            self.inputs = [self._value(tensor) for tensor in tree_leaves(inputs) if isinstance(tensor, torch.Tensor)]
            self.active = True

    def leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self.active and self.calls == self.wanted:
            self.active = False
            tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
            self.output = self._value(tensors[0])
            self._keep(tensors[0])  # what comes later may change it

    def left(self) -> None:
        self.running.pop()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = function._schema.arguments
        if not self.active:
            self._written(schema, args)
            return function(*args, **kwargs)
        arguments = {argument.name: argument.default_value for argument in schema}
        arguments |= dict(zip(arguments, args, strict=False)) | kwargs
        known = tree_map(lambda leaf: self._value(leaf) if isinstance(leaf, torch.Tensor) else leaf, arguments)
        self._written(schema, args)
        output = function(*args, **kwargs)
        for number, tensor in enumerate(t for t in tree_leaves(output) if isinstance(t, torch.Tensor)):
            value = Value(tensor)
            name = function.overloadpacket.__name__.rstrip("_")
            value.made_by = Operation(name, function, known, value, number, self.running[-1])
            self.values[id(tensor)] = tensor, value
        return output

    def _value(self, tensor: torch.Tensor) -> Value:
        if id(tensor) not in self.values:
            self.values[id(tensor)] = tensor, Value(tensor)
        return self.values[id(tensor)][1]

    def _written(self, schema: Sequence[Any], args: Sequence[Any]) -> None:
        """Keeps the numbers of tensors that the next operation is about to change."""
        for argument, tensor in zip(schema, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(tensor, torch.Tensor):
                self._keep(tensor)

    def _keep(self, tensor: torch.Tensor) -> None:
        """Copies every value that lives in the memory of `tensor`; the tensors there are new ones from now on."""
        memory = tensor.untyped_storage().data_ptr()
        for key, (live, value) in list(self.values.items()):
            if live.untyped_storage().data_ptr() == memory:
                value.tensor = live.clone()
                del self.values[key]
