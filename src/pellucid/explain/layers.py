"""The layers of a network while it works on a picture: what went into each and what came out.

A layer's name is that of its module in the table of `pellucid summary`; when a module works several times in one pass,
its later calls are called `name#2`, `name#3`. Blocks are layers, too: their output is that of all they hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pellucid.errors import UnknownNameError, nearest
from pellucid.model.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Passed:
    """One call of one layer: the tensors (N, ...) that it was given and the first one that it gave, as they were then."""

    name: str
    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    output: torch.Tensor

    @property
    def is_block(self) -> bool:
        """Whether other layers work inside it."""
        return next(self.module.children(), None) is not None


def passes(
    classifier: Classifier,
    x: torch.Tensor,
    keep: Callable[[str], bool] = lambda name: True,
    *,
    reduce: Callable[[nn.Module, torch.Tensor], torch.Tensor | None] | None = None,
) -> dict[str, Passed]:
    """The calls of the layers whose name is to be kept, in the order in which they end, for float32 `x` (N, C, H, W) as
    `contract.tensor` gives it. In evaluation mode, without gradients; a layer that works in place changes nothing here.

    With `reduce` no inputs are kept, and of an output what `reduce` makes of it; nothing where that is None.
    """
    names = {module: name for name, module in classifier.module.named_modules() if name}
    begun: Counter[str] = Counter()
    given: list[tuple[str, tuple[torch.Tensor, ...]]] = []
    found: dict[str, Passed] = {}

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        base = names[module]
        begun[base] += 1
        name = base if begun[base] == 1 else f"{base}#{begun[base]}"
        given.append((name, _copies(inputs) if keep(name) and reduce is None else ()))

    def leave(module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        name, inputs = given.pop()
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        tensor = next((o for o in outputs if isinstance(o, torch.Tensor)), None) if keep(name) else None
        if tensor is not None:
            kept = _copies((tensor,))[0] if reduce is None else reduce(module, tensor)
            if kept is not None:
                found[name] = Passed(name, module, inputs, kept)

    hooks = [
        hook(f) for m in names for hook, f in ((m.register_forward_pre_hook, enter), (m.register_forward_hook, leave))
    ]
    try:
        with classifier.answering(), torch.no_grad():
            classifier.module(x.clone())  # whose first layer may work in place
    finally:
        for hook in hooks:
            hook.remove()
    return found


def find_layer(names: Iterable[str], wanted: str) -> str:
    """`wanted`, when it is one of the `names`. Raises UnknownNameError with the nearest ones."""
    names = list(names)
    if wanted not in names:
        raise UnknownNameError(
            f"There is no layer '{wanted}'; expected one of the {len(names)} that pellucid summary lists. "
            f"{nearest(wanted, names)}".rstrip()
        )
    return wanted


def _copies(tensors: Iterable[Any]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.detach().clone() for tensor in tensors if isinstance(tensor, torch.Tensor))
