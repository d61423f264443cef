"""How one torch operation carries the receptive field on: the window of the picture that each value can see.

A tensor's `Field` holds the sides of that window and, for each dimension of the tensor, the positions that
lie along it, as factors that survive flattening, unflattening and permuting, and where the window of the first
position has its center. A kernel widens the window by its reach, a sum over positions by the reach of all of
them. The sizes are the theoretical ones: padding is counted as picture, branches that meet are taken as centered
on the one that sees most, and the statistics of a normalization are left out. An operation that is not listed
here is taken to see everything.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from pellucid.model.arithmetic import ReceptiveField, effective_kernel

aten = torch.ops.aten


@dataclass(frozen=True)
class Factor:
    """`size` positions, `jump` pixels apart along the height (axis 0) or width (1); axis None: channels."""

    axis: int | None
    size: int
    jump: int = 0

    @property
    def reach(self) -> int:
        """Pixels from the first position to the last."""
        return (self.size - 1) * self.jump


# the outermost first: a flattened (channels, height, width) is one dimension of three factors
Dim = tuple[Factor, ...]


@dataclass(frozen=True)
class Field:
    """What each value of a tensor sees. Along an axis in `whole`, all see the same: everything there was.

    `center` is the middle of the window of the first position, in pixels from the middle of the first pixel.
    """

    window: tuple[int, int]
    dims: tuple[Dim, ...]
    whole: frozenset[int] = frozenset()
    center: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))

    @classmethod
    def of_picture(cls, shape: Sequence[int]) -> Field:
        """The field of the input itself, (N, C, H, W)."""
        batch, channels, height, width = shape
        return cls((1, 1), (_plain(batch), _plain(channels), (Factor(0, height, 1),), (Factor(1, width, 1),)))

    def seen(self, picture: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the window in pixels; global operations see no more than the picture."""
        height, width = (min(self.window[i], picture[i]) if i in self.whole else self.window[i] for i in (0, 1))
        return height, width

    @property
    def jump(self) -> tuple[int, int] | None:
        """Pixels from one window to the next, down and across; None where there are no positions along both."""
        steps = [[f.jump for dim in self.dims for f in dim if f.axis == axis] for axis in (0, 1)]
        return (min(steps[0]), min(steps[1])) if all(steps) else None

    def box(self, index: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last row, first and last column that the value at `index` of the tensor sees, even beyond the border."""
        middle = list(self.center)
        for position, dim in zip(index, self.dims, strict=True):
            for factor in reversed(dim):
                position, step = divmod(position, factor.size)
                if factor.axis is not None and factor.axis not in self.whole:
                    middle[factor.axis] += step * factor.jump
        first = [math.ceil(middle[i] - Fraction(self.window[i] - 1, 2)) for i in (0, 1)]
        return (first[0], first[0] + self.window[0] - 1), (first[1], first[1] + self.window[1] - 1)

    def widened(self, axis: int, window: int, shift: Fraction | int = 0) -> Field:
        """The same values after an operation that gave them this window, its center `shift` pixels further; a whole axis
        stays as it is."""
        if axis in self.whole:
            return self
        windows, center = list(self.window), list(self.center)
        windows[axis], center[axis] = window, center[axis] + shift
        return replace(self, window=(windows[0], windows[1]), center=(center[0], center[1]))

    def joined(self, other: Field) -> Field:
        """These values after they also took in values of `other`."""
        both = [max((self, other), key=lambda field: (axis in field.whole, field.window[axis])) for axis in (0, 1)]
        window, center = ((both[0].window[0], both[1].window[1]), (both[0].center[0], both[1].center[1]))
        return replace(self, window=window, center=center, whole=self.whole | other.whole)

    def with_dim(self, index: int, dim: Dim) -> Field:
        """The same values with other positions along one dimension."""
        return replace(self, dims=(*self.dims[:index], dim, *self.dims[index + 1 :]))


@dataclass(frozen=True)
class Call:
    """One operation at work: its arguments by name, the fields of its tensors, the shape of one output."""

    arguments: dict[str, Any]
    field_of: Callable[[torch.Tensor], Field | None]
    output: tuple[int, ...]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the arguments, in order."""
        leaves = tree_leaves(list(self.arguments.values()))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    @property
    def first(self) -> Field:
        """The field of the first tensor, which most operations work on."""
        return self.field(self.tensors[0])

    def field(self, tensor: torch.Tensor) -> Field:
        """The field of a tensor, also of one that does not depend on the picture."""
        return self.field_of(tensor) or Field((1, 1), tuple(_plain(size) for size in tensor.shape))


def carry(operation: Any, call: Call) -> Field | None:
    """The field of an output of an aten operation (an overload packet); None if the picture plays no part."""
    inputs = [(field, tensor.shape) for tensor in call.tensors if (field := call.field_of(tensor))]
    if not inputs or operation in _CONSTANTS:
        return None
    rule = _RULES.get(operation)
    if rule is None and _broadcast(shape for _, shape in inputs) == call.output:
        rule = _elementwise
    field = (rule(call) if rule else None) or _everything(call.output)
    for incoming, _ in inputs:
        field = field.joined(incoming)
    return field


def _elementwise(call: Call) -> Field:
    """Position by position, with broadcasting; also cutting, padding and joining, which keep the order."""
    rank = len(call.output)
    fields = [field for tensor in call.tensors if (field := call.field_of(tensor))]
    dims = []
    for i, size in enumerate(call.output, start=-rank):
        candidates = [field.dims[i] for field in fields if -i <= len(field.dims)]
        dims.append(_resized(max(candidates, key=_spread, default=()), size))
    return replace(reduce(Field.joined, fields), dims=tuple(dims))


def _pad(call: Call) -> Field:
    """Positions in front of the first: pairs (before, behind), those of the last dimension first."""
    field = _elementwise(call)
    amounts = call.arguments.get("pad") or call["padding"]
    for i, before in enumerate(amounts[::2], start=1):
        field = _moved(field, len(call.output) - i, -before)
    return field


def _moved(field: Field, index: int, steps: int) -> Field:
    """The values begin `steps` positions later along one dimension."""
    for factor in field.dims[index]:
        if factor.axis is not None and len(field.dims[index]) == 1:
            field = field.widened(factor.axis, field.window[factor.axis], steps * factor.jump)
    return field


def _convolution(call: Call) -> Field | None:
    if call["transposed"]:
        return None
    field = _sum_over(call.first, (1,), keepdim=True).with_dim(1, _plain(call.output[1]))
    for i, kernel in enumerate(call["weight"].shape[2:]):
        stride, dilation, padding = (call[name][i] for name in ("stride", "dilation", "padding"))
        field = _slide(field, 2 + i, call.output[2 + i], kernel, stride, dilation, padding)
    return field


def _pool(call: Call) -> Field:
    field, rank = call.first, len(call.output)
    for i, kernel in enumerate(call["kernel_size"], start=rank - 2):
        stride = call["stride"][i - rank + 2] if call["stride"] else kernel
        dilation = call.arguments.get("dilation", (1, 1))[i - rank + 2]
        field = _slide(field, i, call.output[i], kernel, stride, dilation, call["padding"][i - rank + 2])
    return field


def _resample(kernel: int | None) -> Callable[[Call], Field]:
    """Adaptive pooling (its kernels follow from the sizes) and interpolation (`kernel` neighbors a side)."""

    def rule(call: Call) -> Field:
        field, rank = call.first, len(call.output)
        for i in (rank - 2, rank - 1):
            before, after = call.tensors[0].shape[i], call.output[i]
            step = Fraction(before, after)
            windows = (math.ceil((k + 1) * step) - math.floor(k * step) for k in range(after))
            field = _slide(field, i, after, kernel or max(windows), step)
        return field

    return rule


def _slide(
    field: Field, index: int, size: int, kernel: int, stride: int | Fraction, dilation: int = 1, padding: int = 0
) -> Field:
    """A kernel moves along one dimension, which then has `size` positions."""
    positions = [factor for factor in field.dims[index] if factor.size > 1] or field.dims[index][:1]
    axis = positions[0].axis if len(positions) == 1 else None
    if axis is None:  # channels, or height and width folded into one
        return _sum_over(field, (index,), keepdim=True).with_dim(index, _plain(size))
    factor = positions[0]
    window = ReceptiveField(field.window[axis], factor.jump).through(kernel, dilation=dilation).size
    slid = Factor(axis, size, math.ceil(factor.jump * stride))
    middle = Fraction(effective_kernel(kernel, dilation) - 1, 2) - padding
    field = field.widened(axis, window, middle * factor.jump).with_dim(index, (slid,))
    if size == 1 and effective_kernel(kernel, dilation) >= factor.size and not _has(field, axis):
        field = replace(field, whole=field.whole | {axis})
    return field


def _reduce(call: Call) -> Field:
    rank = call.tensors[0].dim()
    dim = call.arguments.get("dim")
    gone = (dim,) if isinstance(dim, int) else dim or range(rank)
    return _sum_over(call.first, tuple(i % rank for i in gone), keepdim=call.arguments.get("keepdim", False))


def _sum_over(field: Field, gone: tuple[int, ...], keepdim: bool) -> Field:
    """The values along some dimensions become one."""
    if keepdim:
        dims = tuple(() if i in gone else dim for i, dim in enumerate(field.dims))
    else:
        dims = tuple(dim for i, dim in enumerate(field.dims) if i not in gone)
    reduced = replace(field, dims=dims)
    for factor in (factor for i in gone for factor in field.dims[i]):
        axis = factor.axis
        if axis is not None:
            reduced = reduced.widened(axis, reduced.window[axis] + factor.reach, Fraction(factor.reach, 2))
    summed = {factor.axis for i in gone for factor in field.dims[i]}
    whole = {axis for axis in (0, 1) if axis in summed and not _has(reduced, axis)}
    return replace(reduced, whole=field.whole | whole)


def _softmax(call: Call) -> Field:
    """Divided by the sum over all positions of an axis, each value sees them all. A sum over some of them (attention)
    is left to the product that follows, which takes it over the same positions."""
    field = call.first
    summed = _sum_over(field, (call["dim"] % len(call.output),), keepdim=True)
    for axis in summed.whole:
        field = field.widened(axis, summed.window[axis], summed.center[axis] - field.center[axis])
    return replace(field, whole=summed.whole)


def _matmul(call: Call) -> Field:
    left, right = (call.field(tensor) for tensor in call.tensors[-2:])  # a bias comes before them
    rank = len(call.output)
    left = _sum_over(left, (rank - 1,), keepdim=False)
    right = _sum_over(right, (rank - 2,), keepdim=False)
    batch = tuple(max(pair, key=_spread) for pair in zip(left.dims[:-1], right.dims[:-1], strict=True))
    return replace(left, dims=(*batch, left.dims[-1], right.dims[-1])).joined(right)


def _view(call: Call) -> Field | None:
    """Deals the factors out again, in order; None where the new shape cuts across them."""
    field = call.first
    factors = [factor for dim in field.dims for factor in dim]
    dims: list[list[Factor]] = []
    for size in call.output:
        dim: list[Factor] = []
        while size > 1 and factors:
            factor = factors.pop(0)
            common = math.gcd(size, factor.size)
            if common == size < factor.size:
                inner = factor.size // size
                dim.append(Factor(factor.axis, size, factor.jump * inner))
                factors.insert(0, replace(factor, size=inner))
                size = 1
            elif common == factor.size:
                dim.append(factor)
                size //= factor.size
            else:
                return None
        if size > 1:
            return None
        if not dim and factors and factors[0].size == 1:
            dim.append(factors.pop(0))
        dims.append(dim)
    if any(factor.size > 1 for factor in factors):
        return None
    if dims:
        dims[-1] += factors  # maps of one position, flattened
    return replace(field, dims=tuple(_merged(dim) for dim in dims))


def _merged(dim: Iterable[Factor]) -> Dim:
    """Neighboring factors that are one run of positions become one."""
    merged: list[Factor] = []
    for factor in dim:
        outer = merged[-1] if merged else None
        if outer and outer.axis == factor.axis and outer.jump == factor.size * factor.jump:
            merged[-1] = Factor(factor.axis, outer.size * factor.size, factor.jump)
        else:
            merged.append(factor)
    return tuple(merged)


def _permute(call: Call) -> Field:
    rank = len(call.output)
    if "dims" in call.arguments:
        order = [i % rank for i in call["dims"]]
    else:
        order = list(range(rank))
        first, second = call.arguments.get("dim0", 0) % rank, call.arguments.get("dim1", 1) % rank
        order[first], order[second] = order[second], order[first]
    return replace(call.first, dims=tuple(call.first.dims[i] for i in order))


def _pick(call: Call) -> Field:
    """One index of a dimension, which disappears."""
    gone = call["dim"] % call.tensors[0].dim()
    field = _moved(call.first, gone, call.arguments.get("index", 0))
    return replace(field, dims=(*field.dims[:gone], *field.dims[gone + 1 :]))


def _stack(call: Call) -> Field:
    new = call["dim"] % len(call.output)
    field = _elementwise(replace(call, output=(*call.output[:new], *call.output[new + 1 :])))
    return replace(field, dims=(*field.dims[:new], _plain(call.output[new]), *field.dims[new:]))


def _slice(call: Call) -> Field:
    """A stride is taken as a window of its size: the pixels between are mostly fetched by a second slice."""
    step, index = call["step"], call["dim"] % len(call.output)
    start = call["start"] or 0
    field = _moved(call.first, index, start if start >= 0 else start + call.tensors[0].shape[index])
    if step == 1:
        return field.with_dim(index, _resized(field.dims[index], call.output[index]))
    return _slide(field, index, call.output[index], step, step)


def _everything(shape: tuple[int, ...]) -> Field:
    return Field((sys.maxsize, sys.maxsize), tuple(_plain(size) for size in shape), frozenset((0, 1)))


def _plain(size: int) -> Dim:
    return (Factor(None, size),) if size > 1 else ()


def _resized(dim: Dim, size: int) -> Dim:
    if all(factor.axis is None for factor in dim):
        return _plain(size)
    return (replace(dim[0], size=size),) if len(dim) == 1 else dim


def _spread(dim: Dim) -> int:
    return sum(factor.size * factor.jump for factor in dim)


def _has(field: Field, axis: int) -> bool:
    return any(factor.axis == axis and factor.size > 1 for dim in field.dims for factor in dim)


def _broadcast(shapes: Iterable[Sequence[int]]) -> tuple[int, ...]:
    reverse = [tuple(shape)[::-1] for shape in shapes]
    rank = max(map(len, reverse))
    return tuple(max(shape[i] for shape in reverse if i < len(shape)) for i in reversed(range(rank)))


_CONSTANTS = {aten.new_zeros, aten.new_ones, aten.new_full, aten.new_empty}  # these read a dtype, no values
_RULES: dict[Any, Callable[[Call], Field | None]] = {
    aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _pool,
    aten.avg_pool2d: _pool,
    aten._adaptive_avg_pool2d: _resample(None),
    aten.adaptive_max_pool2d: _resample(None),
    aten.upsample_nearest2d: _resample(1),
    aten.upsample_bilinear2d: _resample(2),
    **dict.fromkeys((aten.mm, aten.addmm, aten.bmm, aten.baddbmm), _matmul),
    **dict.fromkeys((aten.mean, aten.sum, aten.amax, aten.max, aten.var, aten.std), _reduce),
    aten.linalg_vector_norm: _reduce,
    aten._softmax: _softmax,
    **dict.fromkeys((aten.view, aten._unsafe_view, aten.unsqueeze, aten.squeeze), _view),
    **dict.fromkeys((aten.permute, aten.transpose, aten.t), _permute),
    **dict.fromkeys((aten.cat, aten.split, aten.split_with_sizes, aten.expand), _elementwise),
    **dict.fromkeys((aten.constant_pad_nd, aten.reflection_pad2d, aten.replication_pad2d), _pad),
    **dict.fromkeys((aten.select, aten.unbind), _pick),
    aten.slice: _slice,
    aten.stack: _stack,
}
