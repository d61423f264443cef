"""Training health: what a step of training shows of every layer, and a warning that names the layer when it is ill.

`fit` hands some of its own steps to a `Probe`. While such a step runs forward, temporary hooks read what the layers put out;
its gradients are read before the optimizer uses them. Nothing is run twice and nothing is changed: no generator, no batch
norm, no gradient. So a training with the probe ends with the bits of one without.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import torch
from torch import nn

_FIRST_STEPS = (0, 1, 2, 4, 8, 16, 32)
_FEWEST_STEPS_BETWEEN = 50  # so that it costs less than 2 % of the time
_FEWEST_PICTURES = 32  # of the batch; more of them as long as a layer's output has fewer values than this:
_VALUES = 2**18

_RECTIFIERS = (nn.ReLU, nn.ReLU6)
_ACTIVATIONS = (*_RECTIFIERS, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.Hardswish)

# The borders of a warning. Healthy runs stay far inside; docs/decisions/011-training-health.md has the figures.
_VANISHED = 1e-4  # gradient norm of the first layers, of that of the later ones
_EXPLODED = 1e4  # gradient norm; the loss is a mean, so a sound one is around 1, or 100 where a batch norm follows
_LARGE_STEP = 0.5  # change of the weights in one step as a share of their norm, median over the layers
_WILD_STEP = 1.0  # the same, where one look is enough
_DEAD = 0.6  # share of units that are zero for every picture
_SATURATED = 0.8  # share of values where the slope is below 4 % of the steepest


@dataclass(frozen=True)
class LayerHealth:
    """One layer in one step; None where a figure does not apply.

    `gradient` and `weight` are Euclidean norms of all that the layer learns, `update` is the norm of their change in this
    step over `weight`. `mean` and `std` are those of what the layer puts out, `zeros` its share of exact zeros, `dead` the
    share of units (channels, neurons) that are zero for every picture, `saturated` the share of values of a sigmoid or tanh
    where the slope is below 4 % of the steepest. The four are measured on the first pictures of the batch.
    """

    name: str
    kind: str
    gradient: float | None = None
    weight: float | None = None
    update: float | None = None
    mean: float | None = None
    std: float | None = None
    zeros: float | None = None
    dead: float | None = None
    saturated: float | None = None
    identical: bool = False  # all units have the same weights

    def to_dict(self) -> dict[str, Any]:
        """JSON data with four digits, without what does not apply; what is not finite becomes null."""
        numbers = {key: value for key, value in vars(self).items() if isinstance(value, float)}
        rounded = {key: float(f"{v:.4g}") if math.isfinite(v) else None for key, v in numbers.items()}
        return {"name": self.name, "kind": self.kind, **rounded}


@dataclass(frozen=True)
class Complaint:
    """What is wrong (`kind`) in which layers, worst first, in words with the remedy; to be told when so many `looks` in
    succession agree."""

    kind: str
    layers: tuple[str, ...]
    text: str
    looks: int


def diagnose(layers: Sequence[LayerHealth]) -> list[Complaint]:
    """What is wrong in one look at a network; `layers` in the order in which they ran.

    Source: vanishing and exploding gradients after Glorot & Bengio 2010; update ratio and dead units after Karpathy's
    CS231n notes on babysitting the learning process.
    """
    found = []

    def complain(kind: str, ill: list[tuple[float, LayerHealth]], text: str, *, looks: int = 3) -> None:
        if ill:
            ill = sorted(ill, key=lambda pair: -pair[0])
            figure, worst = ill[0]
            names = tuple(layer.name for _, layer in ill)
            others = f" (also {', '.join(names[1:4])}{', ...' if len(names) > 4 else ''})" if len(names) > 1 else ""
            words = f"{worst.kind} {worst.name}{others} {text.format(figure)}"
            found.append(Complaint(kind, names, words, looks))

    learning = [layer for layer in layers if layer.gradient is not None]
    gradients = [_size(layer.gradient) for layer in learning]
    exploded = [pair for pair in zip(gradients, learning, strict=True) if pair[0] > _EXPLODED]
    complain("exploding", exploded,
             "has an exploding gradient (norm {:.3g}). Use a lower --learning-rate, clip the gradients (--clip 1), or put bn "
             "after the layer.", looks=1)  # fmt: skip
    vanished = []  # all layers up to here; a branch that begins at zero beside sound ones is none
    for i, layer in enumerate(learning):
        so_far, later = max(gradients[: i + 1]), max(gradients[i:])
        if so_far <= _VANISHED * later:
            vanished.append((later / max(gradients[i], 1e-30), layer))
    complain("vanishing", [] if exploded else vanished,
             "learns next to nothing: the gradient of a later layer is {:.1g} times as large. Use relu instead of sigmoid or "
             "tanh, put bn after each layer, or use fewer layers; in a network of your own, look at the first weights (He "
             "initialization).")  # fmt: skip
    updates = [(x.update, x) for x in learning if x.update is not None]
    usual = (
        median_low(update for update, _ in updates) if updates else 0.0
    )  # one layer may begin at zero, and change much
    complain("large steps", [pair for pair in updates if pair[0] > _LARGE_STEP] if usual > _LARGE_STEP else [],
             "changes by {:.0%} of its weights in a single step. Use a lower --learning-rate (--find-learning-rate measures "
             "one), a longer --warmup, or --clip 1.", looks=1 if usual > _WILD_STEP else 3)  # fmt: skip
    dead = [
        (x.dead, x) for x in layers if x.dead is not None and x.dead > _DEAD
    ]  # a young network may still wake some up
    complain("dead", dead,
             "is dead in {:.0%} of its units: they are zero for every picture and learn nothing anymore. Use a lower "
             "--learning-rate, bn before the relu, or leakyrelu.", looks=3 if any(share > 0.9 for share, _ in dead) else 6)  # fmt: skip
    complain("saturated", [(x.saturated, x) for x in layers if x.saturated is not None and x.saturated > _SATURATED],
             "is saturated: {:.0%} of its values lie where the curve is flat, so little gradient gets through. Use relu, put "
             "bn before it, or use a lower --learning-rate.")  # fmt: skip
    complain("identical", [(1.0, x) for x in learning if x.identical],
             "has the same weights in all of its units, so they all learn the same. Draw the first weights at random "
             "(torch's default, or He initialization).")  # fmt: skip
    return found


def _size(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


class Probe:
    """Looks at the first steps of a training and then at one step an epoch, at least fifty steps apart."""

    def __init__(self, module: nn.Module, steps_per_epoch: int) -> None:
        self._module = module
        self._every = max(steps_per_epoch, _FEWEST_STEPS_BETWEEN)
        self._outputs: dict[str, tuple[nn.Module, dict[str, torch.Tensor]]] = {}
        self._before: dict[str, tuple[torch.Tensor, list[torch.Tensor]]] = {}
        self._agreed: Counter[tuple[str, str]] = Counter()
        self._told: set[tuple[str, str]] = set()
        self._names = {
            layer: name or "network"
            for name, layer in module.named_modules()
            if _learned(layer) or isinstance(layer, _ACTIVATIONS)
        }

    @contextlib.contextmanager
    def watching(self, step: int) -> Iterator[bool]:
        """Around the forward pass of step number `step`, counted from 0; reads what the layers put out if it is time, and
        says whether it is."""
        self._outputs, self._before = {}, {}
        if step not in _FIRST_STEPS and step % self._every:
            yield False
            return
        hooks = [layer.register_forward_hook(self._read_output) for layer in self._names]
        try:
            yield True
        finally:
            for hook in hooks:
                hook.remove()

    def read_gradients(self) -> None:
        """After the backward pass and before anything changes gradients or weights."""
        for name, (layer, _) in self._outputs.items():
            if weights := [weight for weight in _learned(layer) if weight.grad is not None]:
                self._before[name] = (_norm([w.grad for w in weights]), [w.detach().clone() for w in weights])

    def events(self) -> Iterator[dict[str, Any]]:
        """After the optimizer's step: a `health` event if this step was looked at, and a `warning` for what is ill."""
        if not self._outputs:
            return
        layers = [self._health(name, layer, output) for name, (layer, output) in self._outputs.items()]
        self._outputs, self._before = {}, {}
        yield {"event": "health", "layers": [layer.to_dict() for layer in layers]}
        complaints = diagnose(layers)
        ill = {(complaint.kind, name) for complaint in complaints for name in complaint.layers}
        self._agreed = Counter({key: self._agreed[key] + 1 for key in ill})
        for complaint in complaints:
            new = [key for name in complaint.layers if self._agreed[key := (complaint.kind, name)] >= complaint.looks]
            if new and not self._told.issuperset(new):
                self._told.update((complaint.kind, name) for name in complaint.layers)
                yield {
                    "event": "warning",
                    "kind": complaint.kind,
                    "layers": list(complaint.layers),
                    "text": complaint.text,
                }

    @torch.no_grad()
    def _read_output(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim > 1 and len(output):
            name, times = self._names[layer], 1
            while name in self._outputs:  # a layer that runs several times
                times += 1
                name = f"{self._names[layer]} (call {times})"
            self._outputs[name] = (layer, _output_figures(layer, output.detach()))

    @torch.no_grad()
    def _health(self, name: str, layer: nn.Module, output: dict[str, torch.Tensor]) -> LayerHealth:
        figures: dict[str, Any] = {key: value.item() for key, value in output.items()}
        if name in self._before:
            gradient, before = self._before[name]
            after = [weight for weight in _learned(layer) if weight.grad is not None]
            weight = _norm(before).item()
            change = _norm([new - old for new, old in zip(after, before, strict=True)]).item()
            figures |= {
                "gradient": gradient.item(), "weight": weight, "update": change / weight if weight else None,
                "identical": any(len(w) > 1 and bool((w == w[:1]).all()) for w in before if w.ndim > 1),
            }  # fmt: skip
        return LayerHealth(name, type(layer).__name__, **figures)


def _learned(layer: nn.Module) -> list[nn.Parameter]:
    """What a layer with a weight matrix or kernels learns; nothing of batch norms."""
    own = [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]
    return own if any(parameter.ndim > 1 for parameter in own) else []


def _norm(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor:
    return torch.stack([tensor.detach().float().norm() for tensor in tensors if tensor is not None]).norm()


def _output_figures(layer: nn.Module, output: torch.Tensor) -> dict[str, torch.Tensor]:
    """The figures of an output (N, C, H, W), (N, F) or (N, tokens, F), as tensors: nothing waits for the device."""
    count = max(_FEWEST_PICTURES, _VALUES // max(output[0].numel(), 1))
    some = output[:count].float()
    figures = {"mean": some.mean(), "std": some.std(correction=0)}
    if isinstance(layer, _RECTIFIERS):
        units = some.movedim(-1 if some.ndim == 3 else 1, 0).flatten(1)
        zero = units == 0
        figures |= {"zeros": zero.float().mean(), "dead": zero.all(1).float().mean()}
    elif isinstance(layer, nn.Sigmoid):
        figures["saturated"] = (some * (1 - some) < 0.01).float().mean()
    elif isinstance(layer, nn.Tanh):
        figures["saturated"] = (1 - some.square() < 0.04).float().mean()
    return figures
