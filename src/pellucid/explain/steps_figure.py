"""A step as a picture: where the number looks, and what was multiplied and added.

Windows are drawn pixel by pixel. Weights and products are blue below zero and orange above; numbers stand in the cells, so
that nothing depends on the colors.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Rectangle

from pellucid.evaluation.predict import as_image
from pellucid.explain.steps_text import largest_channels
from pellucid.explain.work import Work, n, times

if TYPE_CHECKING:
    from pellucid.explain.steps import Step

_AROUND_ZERO = LinearSegmentedColormap.from_list("blue-white-orange", ["#2166ac", "#ffffff", "#e08214"])
_INK, _FAINT, _ORANGE = "#1b2430", "#5b6673", "#e08214"
_MOST_CHANNELS = 3
_MOST_NUMBERED = 7  # cells a side in which numbers can be read
_MOST_BARS = 12


def draw_step(step: Step) -> bytes:
    """A PNG of a step: the picture with the place that is looked at, that place enlarged, and the terms."""
    work = step.main
    window = len(work.grid) == 3 and max(work.grid[1:]) > 1
    channels = largest_channels(work, _MOST_CHANNELS) if window else []
    rows = 1 + (len(channels) or 1)
    figure = Figure(figsize=(11, 3.6 + 3.1 * (rows - 1)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = GridSpec(rows, 3, figure=figure)
    _picture(figure.add_subplot(grid[0, 0]), step)
    if step.looked:
        _part(figure.add_subplot(grid[0, 1]), step)
    _result(figure.add_subplot(grid[0, 2]), step)
    for row, channel in enumerate(channels, start=1):
        _window(figure, grid, row, work, channel)
    if not channels:
        _bars(figure.add_subplot(grid[1, :]), work)
    title = f"{step.layer} ({step.kind}): number {', '.join(map(str, step.position))} of {times(step.shape)}"
    figure.suptitle(title, color=_INK, fontsize=12, fontweight="bold", parse_math=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _picture(axes: Axes, step: Step) -> None:
    height, width = step.picture.shape[:2]
    _show(axes, step.picture)
    axes.set_title(f"what the network was given, {times((height, width))}", fontsize=9, color=_INK)
    if step.looked:
        (top, _), (left, _) = step.looked.rows, step.looked.columns
        tall, wide = step.looked.size
        for color, line in (("#ffffff", 4.0), (_ORANGE, 2.0)):  # visible on any ground
            axes.add_patch(
                Rectangle(
                    (left - 0.5, top - 0.5), wide, tall, fill=False, edgecolor=color, linewidth=line, clip_on=False
                )
            )


def _part(axes: Axes, step: Step) -> None:
    assert step.looked is not None
    (top, bottom), (left, right) = step.looked.rows, step.looked.columns
    _show(axes, step.picture[top : bottom + 1, left : right + 1])
    over = f"\nof a field of {times(step.looked.field)} that reaches over the border" if step.looked.clipped else ""
    axes.set_title(f"where this number looks, {times(step.looked.size)}{over}", fontsize=9, color=_INK)


def _show(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(np.asarray(as_image(pixels)), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _result(axes: Axes, step: Step) -> None:
    """What becomes of the terms, in words."""
    axes.axis("off")
    lines = []
    for work in step.works:
        lines += [(work.operation, "bold"), (work.formula, "normal")]
    lines.append(
        (f"torch found {step.torch:.8g}\ndifference {step.difference:.0e} of the size of what was added", "normal")
    )
    top = 1.0
    for text, weight in lines:
        wrapped = _wrapped(text, 44)
        axes.text(
            0,
            top,
            wrapped,
            fontsize=9,
            color=_INK,
            fontweight=weight,
            va="top",
            parse_math=False,
            transform=axes.transAxes,
        )
        top -= 0.075 * (wrapped.count("\n") + 1) + (0.0 if weight == "bold" else 0.05)


def _window(figure: Figure, grid: GridSpec, row: int, work: Work, channel: int) -> None:
    """One channel of the window: what came in, the weights, the products."""
    number = int(work.places[:, 0].max()) - work.grid[0] + 1 + channel
    inputs, products = work.inputs.reshape(work.grid)[channel], work.products.reshape(work.grid)[channel]
    padding = (work.places < 0).all(1).reshape(work.grid)[channel]
    first = figure.add_subplot(grid[row, 0])
    _cells(
        first, inputs, f"came in, channel {number}" + (" (hatched: padding)" if padding.any() else ""), "cividis", None
    )
    for y, x in np.argwhere(padding):
        first.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="white", edgecolor=_FAINT, hatch="////", linewidth=0)
        )
    if work.weights is None:
        largest = np.unravel_index(np.where(padding, -np.inf, inputs).argmax(), inputs.shape)
        first.add_patch(
            Rectangle((largest[1] - 0.5, largest[0] - 0.5), 1, 1, fill=False, edgecolor=_ORANGE, linewidth=3)
        )
        return
    weights = work.weights.reshape(work.grid)
    _cells(
        figure.add_subplot(grid[row, 1]),
        weights[channel],
        "times the weights",
        _AROUND_ZERO,
        float(np.abs(weights).max()),
    )
    title = f"products, which add up to {n(float(products.sum()))}"
    _cells(figure.add_subplot(grid[row, 2]), products, title, _AROUND_ZERO, float(np.abs(work.products).max()))


def _cells(axes: Axes, numbers: np.ndarray, title: str, colors: Any, most: float | None) -> None:
    """A small matrix with its numbers; around zero as far as `most` on both sides, else from its least to its most."""
    low, high = (-most, most) if most else (float(numbers.min()), float(numbers.max()))
    image = axes.imshow(numbers, cmap=colors, vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
    axes.set_title(title, fontsize=9, color=_INK)
    axes.set_xticks([])
    axes.set_yticks([])
    if max(numbers.shape) > _MOST_NUMBERED:
        axes.figure.colorbar(image, ax=axes, shrink=0.8)
        return
    size = 9 if max(numbers.shape) <= 5 else 7
    for (y, x), number in np.ndenumerate(numbers):
        red, green, blue, _ = image.cmap(image.norm(number))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        axes.text(x, y, f"{number:.3g}", ha="center", va="center", fontsize=size, color="white" if dark else _INK)


def _bars(axes: Axes, work: Work) -> None:
    """The terms that add most, without a window to stand in."""
    order = np.argsort(-np.abs(work.products), kind="stable")[:_MOST_BARS]
    names = []
    for i in order.tolist():
        place = "padding" if (work.places[i] < 0).all() else f"{', '.join(map(str, work.places[i].tolist()))}"
        source = f"{work.sources[i]} " if len(work.sources) > 1 else ""
        weight = "" if work.weights is None else f" · {work.weights[i]:.4g}"
        names.append(f"{source}{place}:  {work.inputs[i]:.4g}{weight}")
    products = work.products[order]
    colors = [_ORANGE if product >= 0 else "#2166ac" for product in products]
    axes.barh(range(len(order)), products, color=colors, height=0.7)
    axes.set_yticks(range(len(order)), names, fontsize=8, color=_INK, parse_math=False)
    axes.bar_label(axes.containers[0], labels=[f" {product:.4g} " for product in products], fontsize=8, color=_INK)
    axes.invert_yaxis()
    axes.axvline(0, color=_FAINT, linewidth=0.8)
    axes.margins(x=0.15)
    axes.spines[["top", "right", "left"]].set_visible(False)
    rest = len(work.products) - len(order)
    others = f"; {rest:,} others add {n(float(work.products.sum() - products.sum()))}" if rest else ""
    axes.set_title(f"the terms{others}", fontsize=9, color=_INK)


def _wrapped(text: str, width: int) -> str:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) >= width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
