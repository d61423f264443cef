"""One number that an operation gave, worked out: the numbers that went in, what each was multiplied by, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pellucid.explain.trace import Operation, Value

Index = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Work:
    """`operation` in words, and `formula` with the numbers filled in. All arrays are float64 (n,), one number a term.

    `inputs` went in, `weights` multiplied them (None where there are none), `products` are what was added, compared
    or raised. `places` (n, dimensions) says where each stood in what `sources` names, one for all terms or one for each;
    -1 is the padding. `grid` is the shape (channels, rows, columns) of the terms of a window, () for others. `sum` adds up the
    products and `bias` is added to it, None where the operation does not. `torch` is the number that torch found;
    `scale` is the size of what was added, which rounding goes by.
    """

    operation: str
    formula: str
    inputs: np.ndarray
    weights: np.ndarray | None
    products: np.ndarray
    places: np.ndarray
    sum: float | None
    bias: float | None
    value: float
    torch: float
    scale: float
    grid: Index = ()
    sources: tuple[str, ...] = ()
    given: tuple[Value, ...] = field(default=(), repr=False)

    @property
    def padding(self) -> np.ndarray:
        """bool (n,): which terms stand in the padding."""
        return np.all(self.places < 0, axis=1)

    @property
    def winner(self) -> int:
        """The term with the largest input, which is what a maximum takes."""
        return int(np.where(self.padding, -np.inf, self.inputs).argmax())

    @property
    def difference(self) -> float:
        """|ours - torch's|, relative to the size of what was added."""
        return abs(self.value - self.torch) / max(abs(self.torch), self.scale, 1e-30)

    def terms(self) -> list[dict[str, Any]]:
        """Plain data for JSON, one entry a term."""
        weights = [None] * len(self.inputs) if self.weights is None else self.weights.tolist()
        sources = self.sources * len(self.inputs) if len(self.sources) == 1 else self.sources
        return [
            {"source": source, "at": None if -1 in place else place, "input": x, "weight": w, "product": p}
            for source, place, x, w, p in zip(
                sources, self.places.tolist(), self.inputs.tolist(), weights, self.products.tolist(), strict=True
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the terms."""
        return {
            "operation": self.operation, "formula": self.formula, "num_terms": len(self.inputs), "sum": self.sum,
            "bias": self.bias, "value": self.value, "torch": self.torch, "difference": self.difference,
        }  # fmt: skip


def softmax(window: Window, chosen: int, found: float) -> Work:
    """exp(x) / the sum of all exp(x). The largest is subtracted first, which changes nothing but keeps exp in range.

    `found` is the number that torch gives.
    """
    most = float(window.numbers.max())
    powers = np.exp(window.numbers - most)
    total, power = float(powers.sum()), float(powers[chosen])
    return Work(
        f"softmax over {len(powers):,} numbers, from each of which the largest, {n(most)}, is subtracted",
        f"exp({n(window.numbers[chosen] - most)}) / sum of all exp = {n(power)} / {n(total)} = {n(power / total)}",
        window.numbers, None, powers, window.places, total, None, power / total, found, power / total, given=(window.value,),
    )  # fmt: skip


def work(
    operation: Operation,
    at: Index,
    words: str,
    formula: str,
    window: Window,
    value: float,
    *,
    weights: np.ndarray | None = None,
    products: np.ndarray | None = None,
    total: float | None = None,
    bias: float | None = None,
    scale: float | None = None,
) -> Work:
    """The work of an operation on one window of its input."""
    products = window.numbers if products is None else products
    scale = float(np.abs(products).sum()) + abs(bias or 0.0) if scale is None else scale
    return Work(
        words, formula, window.numbers, weights, products, window.places, total, bias, value,
        float(operation.output.tensor[at]), scale, window.grid, given=(window.value,),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Window:
    """Numbers of a value, float64 (n,), at `places`, int (n, dimensions); 0 and -1 in the padding. `grid` is their shape."""

    value: Value
    numbers: np.ndarray
    places: np.ndarray
    grid: Index

    @property
    def inside(self) -> np.ndarray:
        """bool (n,): not in the padding."""
        return np.all(self.places >= 0, axis=1)


def look(value: Value, *axes: Sequence[int] | np.ndarray, grid: Index = ()) -> Window:
    """The numbers of `value` at every combination of the indices along its axes; those that lie outside are padding."""
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    inside = np.all((places >= 0) & (places < np.array(value.tensor.shape)), axis=1)
    numbers = np.zeros(len(places))
    numbers[inside] = doubles(value.tensor[tuple(torch.from_numpy(places[inside].T.copy()))])
    return Window(value, numbers, np.where(inside[:, None], places, -1), grid)


def one(value: Value, at: Index) -> float:
    """The number of `value` at `at` of what it is broadcast to."""
    shape = value.tensor.shape
    own = at[len(at) - len(shape) :]
    return float(value.tensor[tuple(i if size > 1 else 0 for i, size in zip(own, shape, strict=True))])


def doubles(tensor: torch.Tensor) -> np.ndarray:
    """float64 of the shape of `tensor`."""
    return tensor.double().cpu().numpy()


def n(number: float) -> str:
    """A number as formulas show it."""
    return f"{number:.6g}" if number >= 0 else f"({number:.6g})"


def times(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))
