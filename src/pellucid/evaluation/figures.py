"""The figures of a report: the course of the training, confusion, recall, calibration, numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pellucid.evaluation.chart import ACCENT, CELL, FAINT, INK, SECOND, page_style, svg
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.metrics import CalibrationBin, Evaluation
from pellucid.evaluation.text import shorten

MAX_CLASSES = 50  # a figure shows at most so many; beyond, the weakest ones
_MAX_LAYERS = 8


def loss_curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Training and validation loss against the epoch."""
    with page_style():
        figure, axes = _epochs(history)
        _line(axes, history, "train_loss", "training", ACCENT, "-")
        _line(axes, history, "valid_loss", "validation", SECOND, "--")
        if axes.lines:
            axes.legend(frameon=False)
        return svg(figure, "loss")


def metric_curve(history: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The metric of the validation pictures against the epoch; accuracy in percent."""
    with page_style():
        figure, axes = _epochs(history)
        _line(axes, history, f"valid_{metric}", "validation", SECOND, "--")
        if metric in ("accuracy", "macro_f1"):
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        return svg(figure, "accuracy")


def gradient_norms(health: Sequence[Mapping[str, Any]]) -> str:
    """Gradient norm of at most eight layers against the epoch, on a logarithmic axis; the last layer is the strongest."""
    names = _learning_layers(health)
    shown = [names[round(i)] for i in np.linspace(0, len(names) - 1, min(len(names), _MAX_LAYERS))]
    with page_style():
        figure = Figure(figsize=(6.4, 2.9), layout="constrained")
        axes = figure.add_subplot(xlabel="epoch", ylabel="gradient norm")
        for position, name in enumerate(shown):
            rows = [(e["epoch"], row) for e in health for row in e["layers"] if row["name"] == name]
            points = [
                (epoch, row["gradient"]) for epoch, row in rows if _is_number(row.get("gradient")) and row["gradient"]
            ]
            strength = 0.25 + 0.75 * (position + 1) / len(shown)
            style = ("-", "--", ":")[position % 3]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=ACCENT, alpha=strength, label=shorten(name, 22))
        if axes.lines:
            axes.set_yscale("log")
            for text in axes.legend(
                frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), reverse=True
            ).get_texts():
                text.set_parse_math(False)
        axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)
        return svg(figure, "gradients")


def layers_left_out(health: Sequence[Mapping[str, Any]]) -> str:
    """A sentence when `gradient_norms` does not show every layer, else nothing."""
    count = len(_learning_layers(health))
    return f" Shown are {_MAX_LAYERS} of {count} layers, evenly spaced." if count > _MAX_LAYERS else ""


def _learning_layers(health: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["name"] for row in health[0]["layers"] if "gradient" in row]


def confusion_matrix(evaluation: Evaluation) -> str:
    """Counts, true classes in rows; a cell is as strong as its share of its row."""
    shown = _shown(evaluation)
    counts = evaluation.confusion[np.ix_(shown, shown)]
    share = counts / np.maximum(evaluation.confusion[shown].sum(axis=1, keepdims=True), 1)
    font_size = 7 if len(shown) > 12 else 9
    letter = 0.0088 * font_size  # inches
    names = [shorten(evaluation.classes[k], 22) for k in shown]
    longest = letter * max(map(len, names))
    side = max(0.24, min(0.9, 4.2 / len(shown)), letter * len(f"{counts.max():,}"))  # inches a cell
    upright = longest < side
    with page_style():
        width = side * len(shown) + longest + 0.4
        height = side * len(shown) + (0.2 if upright else longest) + 0.4
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        for (row, column), count in np.ndenumerate(counts):
            if count:
                strength = 0.06 + 0.94 * share[row, column]
                corner = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=CELL, alpha=strength, linewidth=0))
                color = "#ffffff" if strength > 0.8 else INK
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=font_size)
        ticks = range(len(shown))
        axes.set_xticks(ticks, names, rotation=0 if upright else 90, parse_math=False, fontsize=font_size)
        axes.set_yticks(ticks, names, parse_math=False, fontsize=font_size)
        axes.set_xticks(np.arange(len(shown) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(shown) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=FAINT, alpha=0.3, linewidth=0.5)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted", ylabel="true", aspect="equal")
        axes.set(xlim=(-0.5, len(shown) - 0.5), ylim=(len(shown) - 0.5, -0.5))
        return svg(figure, "confusion")


def recall_plot(evaluation: Evaluation) -> str:
    """Recall of each class with its interval, weakest on top, beside the accuracy over all pictures."""
    rows = [(score.label, score.n, score.recall) for score in evaluation.weakest(MAX_CLASSES)]
    return interval_plot(rows, evaluation.accuracy.value, "recall")


def interval_plot(
    rows: Sequence[tuple[str, int, Interval]], line: float, name: str, *, unit: str = " %", start: float = 0.0
) -> str:
    """A share with its interval for each (name, n, share), the first on top, beside that over everything; written in hundredths
    with a unit, from `start` to 1."""
    with page_style():
        figure = Figure(figsize=(5.0, 0.9 + 0.25 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(line, color=FAINT, linewidth=0.8, linestyle=":")
        for row, (_, _, share) in enumerate(rows):
            axes.plot([share.low, share.high], [row, row], color=ACCENT, linewidth=2, alpha=0.5)
            axes.plot(share.value, row, "o", color=ACCENT, markersize=5)
        names = [f"{shorten(label, 22)} ({n:,})" for label, n, _ in rows]
        axes.set_yticks(range(len(rows)), names, parse_math=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=unit))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=FAINT, alpha=0.25, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        axes.set(xlim=(start - 0.02 * (1 - start), 1 + 0.02 * (1 - start)), ylim=(len(rows) - 0.4, -0.6))
        return svg(figure, name)


def calibration_plot(
    bins: Sequence[CalibrationBin], *, says: str = "says it is sure", is_so: str = "is right", name: str = "calibration"
) -> str:
    """How often it is right against how sure it says it is; a dot's area grows with its pictures."""
    with page_style():
        figure = Figure(figsize=(3.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
        n = sum(b.n for b in bins)
        said, right = [b.confidence for b in bins], [b.accuracy for b in bins]
        axes.scatter(said, right, s=[12 + 250 * b.n / n for b in bins], color=ACCENT, linewidths=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
        axes.set(xlabel=says, ylabel=is_so, aspect="equal", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        return svg(figure, name)


def scatter_plot(truth: np.ndarray, answers: np.ndarray, name: str, margin: float | None) -> str:
    """Answers against true numbers, a dot a picture; on the dotted line they agree, in the band they are `margin` off at most."""
    ends = np.array([min(truth.min(), answers.min()), max(truth.max(), answers.max())])
    pad = 0.04 * max(ends[1] - ends[0], 1e-9)
    with page_style():
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        ends = ends + np.array([-pad, pad])
        if margin is not None:
            axes.fill_between(ends, ends - margin, ends + margin, color=ACCENT, alpha=0.12, linewidth=0)
        axes.plot(ends, ends, color=FAINT, linewidth=0.8, linestyle=":")
        axes.scatter(truth, answers, **_dots(len(truth)))
        axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
        axes.set_xlabel(f"true {shorten(name, 40)}", parse_math=False)
        axes.set(ylabel="answer", aspect="equal", xlim=ends, ylim=ends)
        return svg(figure, "scatter")


def residual_plot(truth: np.ndarray, answers: np.ndarray, name: str, margin: float | None) -> str:
    """Answer minus truth against the true number: what lies above zero is answered too high."""
    with page_style():
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.add_subplot()
        if margin is not None:
            axes.axhspan(-margin, margin, color=ACCENT, alpha=0.12, linewidth=0)
        axes.axhline(0, color=FAINT, linewidth=0.8, linestyle=":")
        axes.scatter(truth, answers - truth, **_dots(len(truth)))
        axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
        axes.set_xlabel(f"true {shorten(name, 40)}", parse_math=False)
        axes.set(ylabel="answer − truth")
        return svg(figure, "residuals")


def _dots(n: int) -> dict[str, Any]:
    """How dots are drawn: the more, the smaller and fainter."""
    size, alpha = (14, 0.5) if n <= 500 else (6, 0.35)
    return {"s": size, "alpha": alpha, "color": ACCENT, "linewidths": 0}


def _shown(evaluation: Evaluation) -> list[int]:
    """Positions of the classes that a figure shows, in their usual order."""
    if len(evaluation.classes) <= MAX_CLASSES:
        return list(range(len(evaluation.classes)))
    weakest = {score.label for score in evaluation.weakest(MAX_CLASSES)}
    return [k for k, label in enumerate(evaluation.classes) if label in weakest]


def _epochs(history: Sequence[Mapping[str, Any]]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="epoch", xlim=(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)
    return figure, axes


def _line(axes: Axes, history: Sequence[Mapping[str, Any]], key: str, label: str, color: str, style: str) -> None:
    points = [(epoch["epoch"], epoch[key]) for epoch in history if _is_number(epoch.get(key))]
    if points:
        marker = "o" if len(points) <= 20 else None
        axes.plot(*zip(*points, strict=True), style, color=color, label=label, marker=marker, markersize=3)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
