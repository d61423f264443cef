"""The figures of the lessons: arrays with their numbers written into the cells, curves, and bars.

Colors are read without color: gray for what is zero or more, blue to orange around zero for what has a sign, and the
numbers stand in the cells; curves differ in their lines, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image

_INK, _FAINT, _FRAME = "#1b2430", "#5b6673", "#d55e00"
_LINES = (("#0072b2", "-", "o"), ("#d55e00", "--", "s"), ("#000000", ":", "^"), ("#009e73", "-.", "D"))  # Okabe and Ito
_SIGNED = LinearSegmentedColormap.from_list("blue-white-orange", ["#2166ac", "#ffffff", "#e08214"])
_NUMBERED = 12  # cells a side in which numbers can be read
_WIDTH, _CELL, _GAP, _TITLE, _LETTER = 8.8, 0.46, 0.3, 0.34, 0.09  # inches
_DPI = 110
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _FAINT,
    "xtick.color": _FAINT, "ytick.color": _FAINT, "xtick.labelcolor": _INK, "ytick.labelcolor": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
}  # fmt: skip
Window = tuple[int, int, int]  # top row, left column, side


def draw_arrays(
    arrays: Mapping[str, ArrayLike], file: str | Path, *, columns: int = 3, windows: Mapping[str, Window] | None = None
) -> None:
    """Draws arrays (H, W), or pictures uint8 (H, W, 3), side by side into a PNG, each below its title.

    The numbers stand in the cells up to 12 a side. `windows` frames a square of cells: {title: (top, left, side)}.
    """
    shapes, columns = [np.shape(array)[:2] for array in arrays.values()], min(columns, len(arrays))
    across = [max(width for _, width in shapes[column::columns]) for column in range(columns)]
    down = [max(height for height, _ in shapes[start : start + columns]) for start in range(0, len(shapes), columns)]
    room = (_WIDTH - _GAP * columns) / sum(across)
    cell = max(1, int(_DPI * min(_CELL, room))) / _DPI  # inches, whole pixels, the same in all of them
    titles = [max(map(len, list(arrays)[column::columns])) for column in range(columns)]
    widths = [max(cell * count, _LETTER * letters) for count, letters in zip(across, titles, strict=True)]
    width, height = sum(widths) + _GAP * columns, cell * sum(down) + _TITLE * len(down) + _GAP / 2
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI)
        for number, (title, array) in enumerate(arrays.items()):
            row, column = divmod(number, columns)
            tall, wide = (cell * count for count in shapes[number])
            left = sum(widths[:column]) + _GAP * (column + 0.5) + (widths[column] - wide) / 2
            top = cell * sum(down[:row]) + _TITLE * (row + 1)
            axes = figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))
            _cells(axes, np.asarray(array), cell)
            axes.set_title(title, pad=5)
            if windows and title in windows:
                y, x, side = windows[title]
                frame = Rectangle(
                    (x - 0.5, y - 0.5), side, side, fill=False, edgecolor=_FRAME, linewidth=3, clip_on=False
                )
                axes.add_patch(frame)
        _write(figure, file, colored=any(np.ndim(array) == 3 for array in arrays.values()))


def draw_curves(
    curves: Mapping[str, ArrayLike], file: str | Path, *, x: ArrayLike | None = None, xlabel: str = "", ylabel: str = "",
    log: bool = False,
) -> None:  # fmt: skip
    """Draws up to four curves over `x`, by default 1, 2, 3 ..., into a PNG; `log` spaces powers of ten evenly."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 3.6), dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        for (name, y), (color, line, marker) in zip(curves.items(), _LINES, strict=False):
            values = np.asarray(y)
            along = np.arange(1, len(values) + 1) if x is None else np.asarray(x)
            axes.plot(along, values, line, color=color, label=name, linewidth=2,
                      marker=marker if len(values) <= 20 else None, markersize=5)  # fmt: skip
        if log:
            axes.set_yscale("log")
        if x is None:
            axes.set_xticks(along)
        axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.legend(frameon=False)
        _write(figure, file)


def draw_bars(
    bars: Mapping[str, float], file: str | Path, *, xlabel: str = "", log: bool = False,
    intervals: Sequence[tuple[float, float]] | None = None, number: str = "{:,.0f}",
) -> None:  # fmt: skip
    """Draws a bar for each name into a PNG, with its number behind it; `intervals` are (low, high) of each."""
    names, values = list(bars), list(bars.values())
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.6, 0.9 + 0.45 * len(bars)), dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        places = range(len(bars))
        axes.barh(places, values, color=_LINES[0][0], height=0.6, log=log)
        if intervals:
            off = np.abs(np.array(intervals).T - np.array(values))
            axes.errorbar(values, places, xerr=off, fmt="none", ecolor=_INK, capsize=4)
        ends = [high for _, high in intervals] if intervals else values
        for place, value, end in zip(places, values, ends, strict=True):
            axes.annotate(number.format(value), (end, place), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.set(xlabel=xlabel)
        _write(figure, file)


def _cells(axes: Axes, array: np.ndarray, cell: float) -> None:
    """One array, the numbers written into its cells of `cell` inches where they can be read."""
    height, width = array.shape[:2]
    top = float(np.abs(array).max()) or 1.0
    signed = bool((array < 0).any())
    image = axes.imshow(
        array, cmap=_SIGNED if signed else "gray", vmin=-top if signed else 0, vmax=top, interpolation="nearest"
    )
    axes.set_axis_off()
    if array.ndim == 3 or max(height, width) > _NUMBERED:
        return
    edges: dict[str, Any] = {"color": _FAINT, "linewidth": 0.5, "alpha": 0.6, "clip_on": False}
    axes.hlines(np.arange(height + 1) - 0.5, -0.5, width - 0.5, **edges)
    axes.vlines(np.arange(width + 1) - 0.5, -0.5, height - 0.5, **edges)
    texts = {place: f"{value + 0:.2f}".rstrip("0").rstrip(".") for place, value in np.ndenumerate(array)}
    size = min(12, 72 * cell / (0.7 * max(2, *map(len, texts.values()))))  # points
    for (row, column), text in texts.items():
        red, green, blue, _ = image.cmap(image.norm(array[row, column]))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")


def _write(figure: Figure, file: str | Path, *, colored: bool = False) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # without photographs 256 colors are enough, and take a third of the bytes
    (image if colored else image.quantize(256, dither=Image.Dither.NONE)).save(file, "PNG", optimize=True)
