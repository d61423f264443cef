"""One layer of a network written as text: its numbers, its text, its arithmetic and its module.

    conv16          16 filters 3x3, stride 1, no padding, with biases; takes k s p d g
    pool            max pooling 2x2; the stride is the kernel unless given; also `maxpool`; takes k s p
    avgpool         average pooling; takes k s p
    globalpool      the average of each map; `globalmaxpool` its largest value
    dense64         64 neurons; `flatten` comes before the first one by itself
    bn              batch normalization
    dropout0.5      forgets half of the values while training
    relu leakyrelu gelu silu tanh sigmoid softplus elu
    softmax         over the channels of each position, or over all features
    step            1 from 0 on, else 0; nothing before it can learn, since it lets no gradient through

Options follow a comma: `conv96,k11,s4,p2`. k kernel, s stride, p padding, d dilation: one number, or height x
width as in `k3x5`; g groups: one number. Padding is also `pnone`, `psame` (keeps the size at stride 1) or
`pwide` (every window that touches the map).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import partial
from math import prod
from typing import Any

from torch import nn

from pellucid.errors import ShapeError, SpecError, nearest
from pellucid.model.arithmetic import (
    conv_macs,
    conv_parameters,
    dense_macs,
    dense_parameters,
    effective_kernel,
    output_size,
    same_padding,
    smallest_input,
)
from pellucid.model.modules import Step

Shape = tuple[int, ...]  # (channels, height, width) or (features,)

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "softmax": partial(nn.Softmax, dim=1),
    "step": Step,
}
GLOBAL = ("globalpool", "globalmaxpool")
SLIDING = {"conv": (3, 3), "pool": (2, 2), "avgpool": (2, 2)}  # kind: its kernel unless one is given
_TAKES: dict[str, tuple[str, ...]] = {
    "conv": ("outputs", "kernel", "stride", "padding", "dilation", "groups"),
    "pool": ("kernel", "stride", "padding"),
    "avgpool": ("kernel", "stride", "padding"),
    "dense": ("outputs",),
    "dropout": ("rate",),
    **dict.fromkeys((*GLOBAL, "bn", "flatten", *_ACTIVATIONS), ()),
}
_ALIASES = {"maxpool": "pool"}
_BLOCKS = ("residual",)  # read by `spec`; named here where the layers are listed
_OPTIONS = {"k": "kernel", "s": "stride", "p": "padding", "d": "dilation", "g": "groups"}
_LARGEST_NUMBER = 1_000_000


class TooSmallError(ShapeError):
    """A kernel that does not fit into the maps that a layer receives."""


@dataclass(frozen=True)
class Layer:
    """A layer: its kind and its numbers. A number that the kind does not take keeps its neutral value.

    `outputs` counts the filters of a convolution or the neurons of a dense layer; pairs are (height, width).
    `str(layer)` is its text. Raises SpecError for an unknown kind and for a number that it cannot work with.
    """

    kind: str
    outputs: int = 0
    rate: float = 0.0
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        if self.kind not in _TAKES:
            raise SpecError(_unknown_kind(self.kind))
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if field.name in _TAKES[self.kind]:
                _check_number(field.name, value)
            elif value != field.default:
                raise SpecError(f"{self.kind} takes no {field.name}, but got {value}. Leave it out.")
        if self.outputs % self.groups:
            raise SpecError(
                f"{self.groups} groups cannot share {self.outputs} filters evenly. "
                f"Use a multiple of {self.groups} filters."
            )
        if self.kind in ("pool", "avgpool") and any(2 * self.padding[i] > self.kernel[i] for i in (0, 1)):
            raise SpecError(
                f"padding {short(self.padding)} is more than half of the {sides(self.kernel)} window, so a "
                "window could hold padding alone. Use less padding or a larger kernel."
            )

    def __str__(self) -> str:
        takes = _TAKES[self.kind]
        number = ""
        if "outputs" in takes:
            number = str(self.outputs)
        elif "rate" in takes:
            number = f"{Decimal(repr(self.rate)):f}"  # the shortest digits, without an exponent
        options = [
            f",{letter}{short(getattr(self, name))}"
            for letter, name in _OPTIONS.items()
            if name in takes and getattr(self, name) != _unwritten(self.kind, name, self.kernel)
        ]
        return self.kind + number + "".join(options)

    def along(self, axis: int) -> dict[str, Any]:
        """What `output_size` wants to know of a layer that slides, along the height (0) or the width (1)."""
        return {name: getattr(self, name)[axis] for name in ("kernel", "padding", "stride", "dilation")}

    def output(self, shape: Shape) -> Shape:
        """The shape that comes out. Raises TooSmallError when the kernel does not fit, ShapeError for uneven groups."""
        if self.kind in SLIDING:
            needed = [smallest_input(1, **self.along(axis)) for axis in (0, 1)]
            if shape[1] < needed[0] or shape[2] < needed[1]:
                window = sides([effective_kernel(*pair) for pair in zip(self.kernel, self.dilation, strict=True)])
                padding = f"with padding {short(self.padding)}" if any(self.padding) else "without padding"
                raise TooSmallError(
                    f"received {sides(shape[1:])} feature maps, but a {window} kernel {padding} needs at least "
                    f"{sides(needed)}."
                )
            if shape[0] % self.groups:
                raise ShapeError(
                    f"received {shape[0]} channels, which {self.groups} groups cannot share evenly. "
                    f"Use a number of groups that divides {shape[0]}."
                )
            return (self.outputs or shape[0], *(output_size(shape[1 + i], **self.along(i)) for i in (0, 1)))
        if self.kind in GLOBAL:
            return (shape[0], 1, 1)
        if self.kind == "flatten":
            return (prod(shape),)
        return (self.outputs,) if self.kind == "dense" else shape

    def parameters(self, shape: Shape) -> int:
        """Weights and biases, for what comes in."""
        if self.kind == "conv":
            return conv_parameters(shape[0], self.outputs, self.kernel, groups=self.groups)
        if self.kind == "dense":
            return dense_parameters(shape[0], self.outputs)
        return 2 * shape[0] if self.kind == "bn" else 0

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of convolutions and dense layers for one picture, for what comes in."""
        if self.kind == "conv":
            _, height, width = self.output(shape)
            return conv_macs(shape[0], self.outputs, self.kernel, (height, width), groups=self.groups)
        return dense_macs(shape[0], self.outputs) if self.kind == "dense" else 0

    def module(self, shape: Shape) -> nn.Module:
        """The torch module, for what comes in."""
        match self.kind:
            case "conv":
                sliding = (self.kernel, self.stride, self.padding, self.dilation)
                return nn.Conv2d(shape[0], self.outputs, *sliding, groups=self.groups)
            case "pool":
                return nn.MaxPool2d(self.kernel, self.stride, self.padding)
            case "avgpool":
                return nn.AvgPool2d(self.kernel, self.stride, self.padding)
            case "globalpool":
                return nn.AdaptiveAvgPool2d(1)
            case "globalmaxpool":
                return nn.AdaptiveMaxPool2d(1)
            case "dense":
                return nn.Linear(shape[0], self.outputs)
            case "bn":
                return nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])
            case "dropout":
                return nn.Dropout(self.rate)
            case "flatten":
                return nn.Flatten()
            case activation:
                return _ACTIVATIONS[activation]()


def parse_layer(token: str) -> Layer:
    """Read one layer from its text, in lower case. Raises SpecError; ShapeError for an impossible `psame`."""
    head, *options = token.split(",")
    written = head.rstrip("-.0123456789")
    number = head[len(written) :]
    kind = _ALIASES.get(written, written)
    if kind not in _TAKES:
        raise SpecError(_unknown_kind(written))
    takes = _TAKES[kind]
    numbers: dict[str, Any] = {}
    if "outputs" in takes:
        numbers["outputs"] = _whole(number, f"{kind} needs a number, such as {kind}64")
    elif "rate" in takes:
        numbers["rate"] = _fraction(number)
    elif number:
        raise SpecError(f"{written} takes no number, but got '{number}'. Write {written}.")

    texts = _split_options(kind, options)
    for name in (name for name in ("kernel", "stride", "dilation", "groups") if name in takes):
        if name not in texts:
            numbers[name] = _unwritten(kind, name, numbers.get("kernel"))
        elif name == "groups":
            numbers[name] = _whole(texts[name], "groups needs one number")
        else:
            numbers[name] = _pair(texts[name], name)
    if "padding" in takes:
        text = texts.get("padding", "none")
        numbers["padding"] = _padding(text, numbers["kernel"], numbers.get("dilation", Layer.dilation))
    return Layer(kind, **numbers)


def _split_options(kind: str, options: list[str]) -> dict[str, str]:
    takes = {letter: name for letter, name in _OPTIONS.items() if name in _TAKES[kind]}
    texts: dict[str, str] = {}
    for option in options:
        name = takes.get(option[:1])
        if name is None:
            known = ", ".join(f"{letter} ({name})" for letter, name in takes.items()) or "no options"
            raise SpecError(f"'{option}' is not an option of {kind}, which takes {known}.")
        if name in texts:
            raise SpecError(f"{name} is given twice. Write it once.")
        texts[name] = option[1:]
    return texts


def _unwritten(kind: str, name: str, kernel: tuple[int, int] | None) -> Any:
    """What an option is when the text leaves it out."""
    if name == "kernel":
        return SLIDING[kind]
    return kernel if name == "stride" and kind != "conv" else getattr(Layer, name)


def _padding(text: str, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    (height, down), (width, across) = zip(kernel, dilation, strict=True)
    if text == "none":
        return 0, 0
    if text == "same":
        return same_padding(height, down), same_padding(width, across)
    if text == "wide":
        return effective_kernel(height, down) - 1, effective_kernel(width, across) - 1
    return _pair(text, "padding (unless pnone, psame or pwide)")


def _pair(text: str, what: str) -> tuple[int, int]:
    height, x, width = text.partition("x")
    message = f"{what} needs one number or two, such as 3 or 3x5"
    return _whole(height, message), _whole(width if x else height, message)


def _whole(text: str, message: str) -> int:
    if not re.fullmatch("[0-9]{1,12}", text):
        raise SpecError(f"{message}, but got '{text}'.")
    return int(text)


def _fraction(text: str) -> float:
    if not re.fullmatch(r"[0-9]*\.[0-9]+", text):
        raise SpecError(f"dropout needs a fraction between 0 and 1, such as dropout0.5, but got '{text}'.")
    return float(text)


def _check_number(name: str, value: Any) -> None:
    if name == "rate":
        if not 0 < value < 1:
            raise SpecError(f"the rate must lie between 0 and 1, but is {value}. Use for example 0.5.")
        return
    least = 0 if name == "padding" else 1
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(least <= number <= _LARGEST_NUMBER for number in numbers):
        raise SpecError(f"{name} must lie between {least} and {_LARGEST_NUMBER:,}, but is {short(value)}.")


def _unknown_kind(kind: str) -> str:
    known = [*_TAKES, *_ALIASES, *_BLOCKS]
    hint = nearest(kind, known)
    return f"'{kind:.40}' is not a layer.{' ' * bool(hint)}{hint} The layers are: {', '.join(known)}."


def sides(pair: Sequence[int]) -> str:
    """A height and a width in words: 3x5."""
    return f"{pair[0]}x{pair[1]}"


def short(number: int | Sequence[int]) -> str:
    """A number, or a height and a width, as an option is written: 3, or 3x5."""
    if isinstance(number, int):
        return str(number)
    return str(number[0]) if number[0] == number[1] else sides(number)
