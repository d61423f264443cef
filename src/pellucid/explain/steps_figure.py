"""A step as a picture: where the number looks, and what was multiplied and added.

Windows are drawn pixel by pixel. Weights and products are blue below zero and orange above; numbers stand in the cells, so
that nothing depends on the colors.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from pellucid.evaluation.draw import as_image, fit
from pellucid.explain.looked import Looked
from pellucid.explain.steps_text import is_window, largest_channels, varied
from pellucid.explain.work import Work, n, times
from pellucid.files import png_bytes

if TYPE_CHECKING:
    from pellucid.explain.steps import Step

_AROUND_ZERO = LinearSegmentedColormap.from_list("blue-white-orange", ["#2166ac", "#ffffff", "#e08214"])
_INK, _FAINT, _ORANGE = "#1b2430", "#5b6673", "#e08214"
_MOST_CHANNELS = 3
_MOST_NUMBERED = 7  # cells a side in which numbers can be read
_MOST_BARS = 12
_DPI = 110


def draw_step(step: Step) -> bytes:
    """A PNG of a step: the picture with the place that is looked at, that place enlarged, and the terms."""
    work = step.main
    channels = largest_channels(work, _MOST_CHANNELS) if is_window(work) else []
    rows = len(channels) or 1
    head = 4.6 if step.looked else 3.0
    figure = Figure(figsize=(13, 0.4 + head + 3.2 * rows), dpi=_DPI, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    above, below = figure.subfigures(2, 1, height_ratios=[head, 3.2 * rows])  # type: ignore[misc]
    height, width = step.picture.shape[:2]
    whole = _empty(above.add_subplot(1, 3, 1), f"what the network was given, {times((height, width))}")
    part = _empty(above.add_subplot(1, 3, 2), _where(step.looked)) if step.looked else None
    _result(above.add_subplot(1, 3, 3 if part else 2), step)
    for row, channel in enumerate(channels):
        _window(below, 3 * row, work, channel)
    if not channels:
        _bars(below.add_subplot(), work)
    title = f"{step.layer} ({step.kind}): number {', '.join(map(str, step.position))} of {times(step.shape)}"
    figure.suptitle(title, color=_INK, fontsize=13, fontweight="bold", parse_math=False)
    canvas.draw()
    sheet = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    looked = step.looked
    _paste(sheet, whole, step.picture, looked)
    if part and looked:
        _paste(
            sheet, part, step.picture[looked.rows[0] : looked.rows[1] + 1, looked.columns[0] : looked.columns[1] + 1]
        )
    return png_bytes(sheet)


def _where(looked: Looked) -> str:
    over = f" (of a field of {times(looked.field)}, over the border)" if looked.clipped else ""
    return f"where this number looks, {times(looked.size)}{over}"


def _empty(axes: Axes, title: str) -> Axes:
    axes.axis("off")
    axes.set_title(title, fontsize=9, color=_INK)
    return axes


def _paste(sheet: Image.Image, axes: Axes, pixels: np.ndarray, looked: Looked | None = None) -> None:
    """Pixels enlarged by a whole factor, which matplotlib cannot do, into the place of empty axes; with a frame around
    what is looked at."""
    place = axes.get_window_extent()
    picture = fit(as_image(pixels), int(min(place.width, place.height)))
    left, top = int(place.x0 + (place.width - picture.width) / 2), int(sheet.height - place.y1)
    sheet.paste(picture, (left, top))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=_FAINT)
    if looked:
        factor = picture.width / pixels.shape[1]
        corners = (looked.columns[0], looked.rows[0], looked.columns[1] + 1, looked.rows[1] + 1)
        box = [round(corner * factor) + start for corner, start in zip(corners, (left, top) * 2, strict=True)]
        for out, color in ((4, "#ffffff"), (3, _ORANGE), (1, "#ffffff")):  # seen on any ground
            frame = (box[0] - out, box[1] - out, box[2] + out - 1, box[3] + out - 1)
            draw.rectangle(frame, outline=color, width=2 if color == _ORANGE else 1)


def _result(axes: Axes, step: Step) -> None:
    """What becomes of the terms, in words."""
    axes.axis("off")
    lines = []
    for work in step.works:
        lines += [(work.operation, "bold"), (work.formula, "normal")]
    lines.append(
        (
            f"torch found {step.torch:.8g}; the difference is {step.difference:.0e} of the size of what was added",
            "normal",
        )
    )
    top = 1.0
    for text, weight in lines:
        wrapped = textwrap.fill(text, 54)
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


def _window(figure: SubFigure, before: int, work: Work, channel: int) -> None:
    """One channel of the window: what came in, the weights, the products."""
    rows = min(_MOST_CHANNELS, work.grid[0])
    number = int(work.places[:, 0].max()) - work.grid[0] + 1 + channel
    inputs, products = work.inputs.reshape(work.grid)[channel], work.products.reshape(work.grid)[channel]
    padding = work.padding.reshape(work.grid)[channel]
    first = figure.add_subplot(rows, 3, before + 1)
    _cells(
        first, inputs, f"came in, channel {number}" + (" (hatched: padding)" if padding.any() else ""), "cividis", None
    )
    for y, x in np.argwhere(padding):
        first.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="white", edgecolor=_FAINT, hatch="////", linewidth=0)
        )
    if not varied(work):
        if work.weights is None:
            _mark_largest(first, np.where(padding, -np.inf, inputs))
        return
    assert work.weights is not None
    weights = work.weights.reshape(work.grid)
    _cells(
        figure.add_subplot(rows, 3, before + 2),
        weights[channel],
        "times the weights",
        _AROUND_ZERO,
        float(np.abs(weights).max()),
    )
    title = f"products, which add up to {n(float(products.sum()))}"
    _cells(figure.add_subplot(rows, 3, before + 3), products, title, _AROUND_ZERO, float(np.abs(work.products).max()))


def _mark_largest(axes: Axes, numbers: np.ndarray) -> None:
    y, x = np.unravel_index(numbers.argmax(), numbers.shape)
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=_ORANGE, linewidth=3))


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
        place = "padding" if work.padding[i] else f"{', '.join(map(str, work.places[i].tolist()))}"
        source = f"{work.sources[i]} " if len(work.sources) > 1 else ""
        weight = "" if work.weights is None else f" · {work.weights[i]:.4g}"
        names.append(f"{source}{place}:  {work.inputs[i]:.4g}{weight}")
    products = work.products[order]
    colors = [_ORANGE if product >= 0 else "#2166ac" for product in products]
    bars = axes.barh(range(len(order)), products, color=colors, height=0.7)
    axes.set_yticks(range(len(order)), names, fontsize=8, color=_INK, parse_math=False)
    axes.bar_label(bars, labels=[f" {product:.4g} " for product in products], fontsize=8, color=_INK)
    axes.invert_yaxis()
    axes.axvline(0, color=_FAINT, linewidth=0.8)
    axes.margins(x=0.15)
    axes.spines[["top", "right", "left"]].set_visible(False)
    rest = len(work.products) - len(order)
    others = f"; {rest:,} others add {n(float(work.products.sum() - products.sum()))}" if rest else ""
    axes.set_title(f"the terms{others}", fontsize=9, color=_INK)
