"""What a convolution saves: the parameters that a fully connected layer between the same maps would need."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from torch import nn

from pellucid.model.arithmetic import dense_parameters
from pellucid.model.summary import num_parameters, summarize
from pellucid.model.table import ruled


@dataclass(frozen=True)
class DenseRow:
    """One convolution and the fully connected layer, biases included, that would connect all that it connects.

    `input` and `output` are (channels, height, width).
    """

    name: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int
    dense_parameters: int

    @property
    def ratio(self) -> float:
        """How many times as many."""
        return self.dense_parameters / self.parameters


@dataclass(frozen=True)
class VersusDense:
    """The convolutions of a network in the order in which they run."""

    rows: tuple[DenseRow, ...]

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain data for JSON."""
        return [asdict(row) | {"ratio": row.ratio} for row in self.rows]

    def __str__(self) -> str:
        if not self.rows:
            return "This network has no convolution."
        total = sum(row.parameters for row in self.rows), sum(row.dense_parameters for row in self.rows)
        table = [("convolution", "from", "to", "parameters", "fully connected", "times as many")]
        for row in self.rows:
            table.append(
                (row.name, _maps(row.input), _maps(row.output), *_numbers(row.parameters, row.dense_parameters))
            )
        return ruled([*table, ("total", "", "", *_numbers(*total))], left=1)


def versus_dense(module: nn.Module, input_shape: tuple[int, int, int]) -> VersusDense:
    """Compares every 2-D convolution of `module` at work on a picture (channels, height, width). Raises ShapeError."""
    convolutions = {name or "network": layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    return VersusDense(
        tuple(
            DenseRow(
                row.name, row.input, row.output, num_parameters(convolutions[row.name]),
                dense_parameters(prod(row.input), prod(row.output)),
            )
            for row in summarize(module, input_shape).layers
            if row.name in convolutions and row.output
        )
    )  # fmt: skip


def _numbers(parameters: int, dense: int) -> tuple[str, str, str]:
    return f"{parameters:,}", f"{dense:,}", f"{dense / parameters:,.0f}"


def _maps(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
