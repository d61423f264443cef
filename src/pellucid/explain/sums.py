"""Operations that make one number of many: convolution, dense, pooling, means, norms, softmax, sums and products of two.

Each rule takes an operation and the position of one number of its output, and works the number out in double precision
from the very numbers that torch was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from pellucid.explain.trace import Operation, Value
from pellucid.explain.work import Index, Window, Work, doubles, look, n, one, softmax, times, work


def _convolution(op: Operation, at: Index) -> Work | None:
    if op["transposed"]:
        return None
    batch, channel, *position = at
    filters, depth, *kernel = op["weight"].tensor.shape
    first = channel // (filters // op["groups"]) * depth
    axes = _axes(position, kernel, op["stride"], op["padding"], op["dilation"])
    window = look(op["input"], [batch], np.arange(first, first + depth), *axes, grid=(depth, *kernel))
    weights = doubles(op["weight"].tensor[channel]).ravel()
    words = f"convolution {times(kernel)}"
    for name, neutral in (("stride", 1), ("padding", 0), ("dilation", 1)):
        if any(number != neutral for number in op[name]):
            words += f", {name} {_short(op[name])}"
    if op["groups"] > 1:
        words += (
            f", {op['groups']} groups: this one sees channel{'s' * (depth > 1)} {first}"
            + f" to {first + depth - 1}" * (depth > 1)
        )
    return _weighted(op, at, words, window, weights, op["bias"] and float(op["bias"].tensor[channel]))


def _dense(op: Operation, at: Index) -> Work:
    """addmm, mm, baddbmm, bmm and linear: a row of the input times a column of the weights."""
    lead, column = at[:-1], at[-1]
    if "weight" in op.arguments:
        x, weights, bias = op["input"], op["weight"].tensor[column], op["bias"] and one(op["bias"], at)
    else:
        x, other = op.given[-2:]
        weights = other.tensor[lead[:-1]][:, column]
        bias = one(op["self"], at) if op.name in ("addmm", "baddbmm") else None
    window = look(x, *([i] for i in lead), np.arange(x.tensor.shape[-1]))
    return _weighted(op, at, f"dense, {window.numbers.size} inputs", window, doubles(weights), bias)


def _weighted(op: Operation, at: Index, words: str, window: Window, weights: np.ndarray, bias: float | None) -> Work:
    products = window.numbers * weights + 0.0  # no negative zeros
    total = float(products.sum())
    value = total + (bias or 0.0)
    formula = f"sum of {len(products):,} product{'s' * (len(products) != 1)} = {n(total)}"
    if bias is not None:
        formula += f"; {n(total)} + bias {n(bias)} = {n(value)}"
    return work(op, at, words, formula, window, value, weights=weights, products=products, total=total, bias=bias)


def _max_pool(op: Operation, at: Index) -> Work:
    kernel = op["kernel_size"]
    window = _under(op, at, _axes(at[-2:], kernel, op["stride"] or kernel, op["padding"], op["dilation"]))
    return _largest(op, at, f"max pooling {times(kernel)}, stride {_short(op['stride'] or kernel)}", window)


def _adaptive_max_pool(op: Operation, at: Index) -> Work:
    return _largest(op, at, "adaptive max pooling", _under(op, at, _adaptive_axes(op, at)))


def _max_over(op: Operation, at: Index) -> Work:
    return _largest(op, at, "the largest", _over(op, at))


def _largest(op: Operation, at: Index, words: str, window: Window) -> Work:
    inside = window.inside
    winner = int(np.where(inside, window.numbers, -np.inf).argmax())
    value = float(window.numbers[winner])
    formula = f"the largest of {int(inside.sum()):,} numbers = {n(value)}"
    if window.grid:
        formula += f", at row {window.places[winner, -2]}, column {window.places[winner, -1]} of its input"
    return work(op, at, words, formula, window, value, scale=abs(value))


def _avg_pool(op: Operation, at: Index) -> Work:
    kernel, padding = op["kernel_size"], op["padding"]
    sides = op["self"].tensor.shape[-2:]
    axes = _axes(at[-2:], kernel, op["stride"] or kernel, padding, (1, 1))
    # a window that begins inside may end beyond the padding: those places do not count
    axes = [axis[axis < side + border] for axis, side, border in zip(axes, sides, padding, strict=True)]
    window = _under(op, at, axes)
    counted = len(window.numbers) if op["count_include_pad"] else int(window.inside.sum())
    words = f"average pooling {times(kernel)}, stride {_short(op['stride'] or kernel)}"
    if any(padding):
        words += f", padding {_short(padding)}, which {'counts' if op['count_include_pad'] else 'does not count'}"
    return _mean(op, at, words, window, op["divisor_override"] or counted)


def _adaptive_avg_pool(op: Operation, at: Index) -> Work:
    window = _under(op, at, _adaptive_axes(op, at))
    return _mean(op, at, f"adaptive average pooling over {times(window.grid[1:])}", window, len(window.numbers))


def _mean_over(op: Operation, at: Index) -> Work:
    window, words = _over(op, at), f"the {op.name}"
    return _mean(op, at, words, window, len(window.numbers) if op.name == "mean" else 1)


def _mean(op: Operation, at: Index, words: str, window: Window, divisor: int) -> Work:
    total = float(window.numbers.sum())
    weights = np.full(len(window.numbers), 1 / divisor)
    formula = f"sum of {len(window.numbers):,} numbers {n(total)} / {divisor} = {n(total / divisor)}"
    products = window.numbers * weights
    return work(
        op, at, words, formula, window, total / divisor, weights=weights, products=products, total=float(products.sum())
    )


def _batch_norm(op: Operation, at: Index) -> Work:
    x, channel = op["input"], at[1]
    mean, variance = op.get("running_mean"), op.get("running_var")
    if mean is None or op.get("training", False):
        numbers = x.tensor[:, channel].double()
        own = "of all these numbers"
        statistics = float(numbers.mean()), float(numbers.var(unbiased=False))
    else:
        own = "running"
        statistics = float(mean.tensor[channel]), float(variance.tensor[channel])
    return _normalized(op, at, f"batch norm of channel {channel}, {own} mean and variance", *statistics, (channel,))


def _layer_norm(op: Operation, at: Index) -> Work:
    rank = len(op["normalized_shape"])
    numbers = op["input"].tensor[at[:-rank]].double()
    words = f"layer norm over {numbers.numel():,} numbers"
    return _normalized(op, at, words, float(numbers.mean()), float(numbers.var(unbiased=False)), at[-rank:])


def _group_norm(op: Operation, at: Index) -> Work:
    x, each = op["input"].tensor, op["C"] // op["group"]
    first = at[1] // each * each
    numbers = x[at[0], first : first + each].double()
    words = f"group norm over channels {first} to {first + each - 1}"
    return _normalized(op, at, words, float(numbers.mean()), float(numbers.var(unbiased=False)), (at[1],))


def _normalized(op: Operation, at: Index, words: str, mean: float, variance: float, own: Index) -> Work:
    window = look(op["input"], *([i] for i in at))
    weight = 1.0 if op["weight"] is None else float(op["weight"].tensor[own])
    shift = 0.0 if op["bias"] is None else float(op["bias"].tensor[own])
    eps, x = float(op["eps"]), float(window.numbers[0])
    scale = weight / math.sqrt(variance + eps)
    value = (x - mean) * scale + shift
    formula = (
        f"(x - mean) / √(variance + eps) · scale + shift = ({n(x)} - {n(mean)}) / √({n(variance)} + {n(eps)}) · "
        f"{n(weight)} + {n(shift)} = {n(value)}"
    )
    sizes = abs(x * scale) + abs(mean * scale) + abs(shift)
    return work(
        op, at, words, formula, window, value, weights=np.array([scale]), products=window.numbers * scale,
        total=x * scale, bias=shift - mean * scale, scale=sizes,
    )  # fmt: skip


def _softmax(op: Operation, at: Index) -> Work:
    dim = op["dim"] % len(at)
    axes = [[i] for i in at]
    axes[dim] = list(range(op["self"].tensor.shape[dim]))
    return softmax(look(op["self"], *axes), at[dim], float(op.output.tensor[at]))


def _add(op: Operation, at: Index) -> Work:
    sign = -1.0 if op.name == "sub" else 1.0
    factors = np.array([1.0, sign * float(op.get("alpha", 1))])
    numbers, places, given = _two(op, at)
    products = numbers * factors[: len(numbers)]
    bias = None if len(numbers) == 2 else float(factors[1]) * float(op["other"])
    value = float(products.sum()) + (bias or 0.0)
    shown = [n(product) for product in products] + ([] if bias is None else [n(bias)])
    return Work(
        "sum of two", f"{' + '.join(shown)} = {n(value)}", numbers, None, products, places, float(products.sum()), bias, value,
        float(op.output.tensor[at]), float(np.abs(products).sum()) + abs(bias or 0.0), given=given,
    )  # fmt: skip


def _multiply(op: Operation, at: Index) -> Work:
    """One factor is the input, the other its weight."""
    numbers, places, given = _two(op, at)
    other = float(numbers[1]) if len(numbers) == 2 else float(op["other"])
    factor = 1 / other if op.name == "div" else other
    value = float(numbers[0]) * factor
    formula = f"{n(numbers[0])} {'/' if op.name == 'div' else '·'} {n(other)} = {n(value)}"
    return Work(
        "quotient of two" if op.name == "div" else "product of two", formula, numbers[:1], np.array([factor]),
        np.array([value]), places[:1], value, None, value, float(op.output.tensor[at]), abs(value), given=given[:1],
    )  # fmt: skip


def _two(op: Operation, at: Index) -> tuple[np.ndarray, np.ndarray, tuple[Value, ...]]:
    """The numbers of both operands, where they stand, and what they stand in; numbers that are no tensors are left out."""
    given = tuple(leaf for leaf in (op["self"], op["other"]) if isinstance(leaf, Value))
    places = np.full((len(given), len(at)), 0)
    for row, value in zip(places, given, strict=True):
        shape = value.tensor.shape
        own = at[len(at) - len(shape) :]
        row[: len(shape)] = [i if size > 1 else 0 for i, size in zip(own, shape, strict=True)]
    return np.array([one(value, at) for value in given]), places, given


def _over(op: Operation, at: Index) -> Window:
    """All numbers along the dimensions that a mean, a sum or a maximum does away with."""
    shape = op["self"].tensor.shape
    dim = op.get("dim")
    gone = {i % len(shape) for i in ([dim] if isinstance(dim, int) else dim or range(len(shape)))}
    kept = iter(at if not op.get("keepdim", False) else [i for axis, i in enumerate(at) if axis not in gone])
    axes = [np.arange(size) if axis in gone else [next(kept)] for axis, size in enumerate(shape)]
    grid = (1, *shape[-2:]) if gone == {len(shape) - 2, len(shape) - 1} else ()
    return look(op["self"], *axes, grid=grid)


def _under(op: Operation, at: Index, axes: Sequence[np.ndarray]) -> Window:
    """The numbers of one map in some rows and columns."""
    return look(op["self"], *([i] for i in at[:-2]), *axes, grid=(1, *map(len, axes)))


def _axes(
    position: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[np.ndarray]:
    """Rows and columns below a kernel, those in the padding included."""
    kernel, stride, padding, dilation = (
        tuple(pair) * (len(position) // len(pair)) for pair in (kernel, stride, padding, dilation)
    )
    return [
        p * s - border + np.arange(k) * d
        for p, k, s, border, d in zip(position, kernel, stride, padding, dilation, strict=True)
    ]


def _adaptive_axes(op: Operation, at: Index) -> list[np.ndarray]:
    before, after = op["self"].tensor.shape[-2:], op.output.tensor.shape[-2:]
    return [
        np.arange(i * size // made, -(-(i + 1) * size // made))
        for i, size, made in zip(at[-2:], before, after, strict=True)
    ]


def _short(pair: Index) -> str:
    return str(pair[0]) if len(set(pair)) == 1 else times(pair)


SUMS: dict[str, Callable[[Operation, Index], Work | None]] = {
    "convolution": _convolution,
    **dict.fromkeys(("addmm", "mm", "baddbmm", "bmm", "linear"), _dense),
    "max_pool2d_with_indices": _max_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
    "amax": _max_over,
    "avg_pool2d": _avg_pool,
    "_adaptive_avg_pool2d": _adaptive_avg_pool,
    **dict.fromkeys(("mean", "sum"), _mean_over),
    **dict.fromkeys(
        (
            "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
            "_batch_norm_no_update", "cudnn_batch_norm",
        ),
        _batch_norm,
    ),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_softmax": _softmax,
    **dict.fromkeys(("add", "sub"), _add),
    **dict.fromkeys(("mul", "div"), _multiply),
}  # fmt: skip
