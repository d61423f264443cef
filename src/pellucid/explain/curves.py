"""Operations that make one number of one: activations. Each with its formula and the numbers filled in."""

from __future__ import annotations

import math
from collections.abc import Callable

from pellucid.explain.trace import Operation
from pellucid.explain.work import Index, Work, look, n, work

Curve = Callable[[Operation, float], tuple[str, float]]  # the formula, up to the result, and the result


def _relu(op: Operation, x: float) -> tuple[str, float]:
    return f"max(0, {n(x)})", max(0.0, x)


def _hardtanh(op: Operation, x: float) -> tuple[str, float]:
    low, high = float(op["min_val"]), float(op["max_val"])
    return f"min({high:g}, max({low:g}, {n(x)}))", min(high, max(low, x))


def _clamp(op: Operation, x: float) -> tuple[str, float]:
    low, high = op.get("min"), op.get("max")
    value = x if low is None else max(float(low), x)
    return f"{n(x)} clamped to {low} ... {high}", value if high is None else min(float(high), value)


def _leaky_relu(op: Operation, x: float) -> tuple[str, float]:
    slope = float(op["negative_slope"])
    return (f"max(0, {n(x)})", x) if x > 0 else (f"{slope:g} · {n(x)}, as it is below 0", slope * x)


def _elu(op: Operation, x: float) -> tuple[str, float]:
    alpha, scale, inner = (float(op[name]) for name in ("alpha", "scale", "input_scale"))
    if x > 0:
        return f"{scale:g} · {n(x)}", scale * x
    return f"{scale * alpha:g} · (exp({inner:g} · {n(x)}) - 1)", scale * alpha * math.expm1(inner * x)


def _sigmoid(op: Operation, x: float) -> tuple[str, float]:
    return f"1 / (1 + exp(-{n(x)}))", _logistic(x)


def _silu(op: Operation, x: float) -> tuple[str, float]:
    return f"{n(x)} / (1 + exp(-{n(x)}))", x * _logistic(x)


def _hardsigmoid(op: Operation, x: float) -> tuple[str, float]:
    return f"min(6, max(0, {n(x)} + 3)) / 6", min(6.0, max(0.0, x + 3)) / 6


def _hardswish(op: Operation, x: float) -> tuple[str, float]:
    return f"{n(x)} · min(6, max(0, {n(x)} + 3)) / 6", x * min(6.0, max(0.0, x + 3)) / 6


def _tanh(op: Operation, x: float) -> tuple[str, float]:
    return f"tanh({n(x)})", math.tanh(x)


def _gelu(op: Operation, x: float) -> tuple[str, float]:
    if op["approximate"] == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return f"{n(x)} / 2 · (1 + tanh({n(inner)}))", x / 2 * (1 + math.tanh(inner))
    return f"{n(x)} / 2 · (1 + erf({n(x)} / √2))", x / 2 * math.erfc(-x / math.sqrt(2))


def _softplus(op: Operation, x: float) -> tuple[str, float]:
    beta, threshold = float(op["beta"]), float(op["threshold"])
    if beta * x > threshold:
        return f"{n(x)}, as it is above {threshold:g}", x
    return f"log(1 + exp({beta:g} · {n(x)})) / {beta:g}", math.log1p(math.exp(beta * x)) / beta


def _mish(op: Operation, x: float) -> tuple[str, float]:
    return f"{n(x)} · tanh(log(1 + exp({n(x)})))", x * math.tanh(math.log1p(math.exp(x)) if x < 30 else x)


def _at_least(op: Operation, x: float) -> tuple[str, float]:
    bound = float(op["other"])
    return f"{n(x)} ≥ {bound:g}", float(x >= bound)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


CURVES: dict[str, Curve] = {
    "relu": _relu,
    "hardtanh": _hardtanh,
    **dict.fromkeys(("clamp", "clamp_min"), _clamp),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "tanh": _tanh,
    "gelu": _gelu,
    "softplus": _softplus,
    "mish": _mish,
    "ge": _at_least,
}
_NAMES = {"relu": "ReLU", "hardtanh": "clamp", "silu": "SiLU", "elu": "ELU", "gelu": "GELU", "ge": "step"}


def through_curve(op: Operation, at: Index) -> Work:
    """The work of one of `CURVES`."""
    window = look(op.given[0], *([i] for i in at))
    x = float(window.numbers[0])
    formula, value = CURVES[op.name](op, x)
    words = _NAMES.get(op.name, op.name.replace("_", " "))
    return work(op, at, words, f"{formula} = {n(value)}", window, value, scale=max(abs(x), abs(value)))
