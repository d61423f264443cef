"""The size of a layer's output, with the formula and its numbers filled in: `pellucid size`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pellucid.errors import ConfigError, UnknownNameError, nearest
from pellucid.model.arithmetic import effective_kernel, output_size, same_padding

_WORDS = ("none", "same", "wide")


@dataclass(frozen=True)
class Side:
    """One side, the height or the width, in pixels."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    output: int
    formula: str

    @property
    def kind(self) -> str:
        """narrow, same or wide: what the padding does to the size at stride 1."""
        grown = 2 * self.padding - effective_kernel(self.kernel, self.dilation) + 1
        return "same" if grown == 0 else "wide" if grown > 0 else "narrow"

    @property
    def unseen(self) -> int:
        """Pixels at the end, padding included, that no window reaches."""
        reached = (self.output - 1) * self.stride + effective_kernel(self.kernel, self.dilation)
        return max(0, self.size + 2 * self.padding - reached)


_KINDS = {
    "narrow": "narrow: windows stay inside as far as the padding lets them, so that even at stride 1 the output is smaller",
    "same": "same: at stride 1 the output is as large as the input",
    "wide": "wide: windows reach so far over the edge that at stride 1 the output is larger than the input",
}


@dataclass(frozen=True)
class Size:
    """Height and width of what a convolution or pooling gives, and how they come about."""

    height: Side
    width: Side
    ceil_mode: bool = False

    @property
    def output(self) -> tuple[int, int]:
        return self.height.output, self.width.output

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        sides = {
            name: asdict(side) | {"kind": side.kind, "unseen": side.unseen}
            for name, side in (("height", self.height), ("width", self.width))
        }
        size = [self.height.size, self.width.size]
        return {"input": size, "output": list(self.output), "ceil_mode": self.ceil_mode, **sides}

    def __str__(self) -> str:
        square = self.height == self.width
        lines = [f"{self.height.size}x{self.width.size} -> {self.output[0]}x{self.output[1]}", ""]
        for name, side in (("each side", self.height),) if square else (("height", self.height), ("width", self.width)):
            lines += [f"{name:9}  {line}" if i == 0 else f"{'':9}  {line}" for i, line in enumerate(_told(side))]
        if self.ceil_mode:
            lines.append(
                "Rounded up: the ragged edge is kept, unless its window would begin in the padding behind the end."
            )
        return "\n".join(lines)


def size_of(
    size: Sequence[int],
    kernel: Sequence[int],
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] | str = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Size:
    """The output of a layer that slides over maps of `size`; all pairs are (height, width).

    `padding` is a pair in pixels, or none, same or wide. Raises ShapeError when the kernel does not fit or cannot keep
    the size, UnknownNameError for another word.
    """
    sides = []
    for axis in (0, 1):
        border = padding[axis] if not isinstance(padding, str) else border_of(padding, kernel[axis], dilation[axis])
        sides.append(_side(size[axis], kernel[axis], stride[axis], border, dilation[axis], ceil_mode))
    return Size(sides[0], sides[1], ceil_mode)


def border_of(padding: str, kernel: int, dilation: int = 1) -> int:
    """Pixels on each side that a word for padding means. Raises UnknownNameError, ShapeError for `same` with an even window."""
    if padding not in _WORDS:
        raise UnknownNameError(
            f"padding is '{padding}'; it must be a number of pixels or one of {', '.join(_WORDS)}. "
            f"{nearest(padding, _WORDS)}".rstrip()
        )
    if padding == "same":
        return same_padding(kernel, dilation)
    return 0 if padding == "none" else effective_kernel(kernel, dilation) - 1


def pair(text: str, flag: str) -> tuple[int, int]:
    """'3' or '3x5' as (height, width). Raises ConfigError, naming the flag."""
    found = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text.strip().lower())
    if not found:
        raise ConfigError(f"{flag} is '{text}'; expected a whole number, or height x width like 3x5.")
    height = int(found[1])
    return height, int(found[2]) if found[2] else height


def padding_of(text: str) -> tuple[int, int] | str:
    """What --padding says: a pair in pixels, or a word for `border_of`."""
    return pair(text, "--padding") if text.strip()[:1].isdigit() else text.strip().lower()


def _side(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> Side:
    output = output_size(size, kernel, padding=padding, stride=stride, dilation=dilation, ceil_mode=ceil_mode)
    span = effective_kernel(kernel, dilation)
    room, rounding = size - span + 2 * padding, "ceil" if ceil_mode else "floor"
    steps = -(-room // stride) if ceil_mode else room // stride
    formula = (
        f"{rounding}(({size} - {span} + 2·{padding}) / {stride}) + 1 = {rounding}({room} / {stride}) + 1 = "
        f"{steps} + 1 = {steps + 1}"
    )
    if steps + 1 > output:
        formula += f", without the window that would begin in the padding: {output}"
    return Side(size, kernel, stride, padding, dilation, output, formula)


def _told(side: Side) -> list[str]:
    kernel = "K" if side.dilation == 1 else "K'"
    lines = [
        f"O = {'ceil' if side.formula.startswith('ceil') else 'floor'}((W - {kernel} + 2P) / S) + 1 = {side.formula}"
    ]
    if side.dilation > 1:
        span = effective_kernel(side.kernel, side.dilation)
        lines.append(
            f"K' = D (K - 1) + 1 = {side.dilation}·({side.kernel} - 1) + 1 = {span}, the window that dilation spans"
        )
    lines.append(_KINDS[side.kind])
    if side.unseen:
        lines.append(
            f"{side.unseen} of {side.size + 2 * side.padding} pixels at the end, padding included, {'is' if side.unseen == 1 else 'are'} never looked at"
        )
    return lines
