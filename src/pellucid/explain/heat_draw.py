"""Heat maps as pictures: the heat over the picture in grey, with contour lines, and beside it the curves that judge it.

The heat is shown as means of cells, since single pixels of a map are noise. One color over grey and contour lines, the hotter the wider, say the same
twice, so that color-blind readers and grey printers lose nothing.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from pellucid.evaluation.draw import as_image, fit
from pellucid.evaluation.text import shorten
from pellucid.explain.faithfulness import STEPS, cell_numbers, in_cells
from pellucid.explain.heat import Explanation, HeatMap

SIDE = 448  # pixels of an overlay, about
GRAIN = 14  # cells of a side, that heat is shown in
LEVELS = (0.3, 0.6, 0.9)  # of the strongest heat: where the contour lines run
_HEAT, _STRENGTH = (255, 128, 0), 0.75  # the color of the strongest heat, and how much of it lies over the grey picture
_OWN, _RANDOM, _EDGES = "#0072b2", "#5b6673", "#b84d00"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": "#1b2430", "axes.edgecolor": "#5b6673", "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": "#5b6673", "ytick.color": "#5b6673",
    "axes.labelcolor": "#1b2430",
}  # fmt: skip


def overlay(pixels: np.ndarray, values: np.ndarray, side: int = SIDE) -> Image.Image:
    """The positive part of a map (H, W) over its picture uint8 (H, W, C), about `side` pixels large, RGB."""
    picture = fit(as_image(pixels).convert("L"), side)
    grey = np.asarray(picture).astype(np.float64)  # (h, w, 3)
    heat = smooth(values, (picture.height, picture.width))
    strength = _STRENGTH * heat[..., None]
    mixed = (1 - strength) * grey + strength * np.array(_HEAT)
    return _with_contours(np.clip(mixed, 0, 255).astype(np.uint8), heat)


def smooth(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The positive part of a map (H, W), as means of cells, from 0 to 1, enlarged to `size` without steps."""
    cells = cell_numbers(values.shape[0], values.shape[1], GRAIN)
    heat = np.maximum(in_cells(values, cells), 0)
    rows = len(np.unique(cells[:, 0]))
    heat = (heat / heat.max() if heat.max() > 0 else heat).reshape(rows, -1).astype(np.float32)
    enlarged = Image.fromarray(heat).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(enlarged), 0, 1)


def sheet(explanation: Explanation, heat: HeatMap) -> bytes:
    """A PNG: the picture, the heat over it, and the curves of deletion and insertion beside those of the floors."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(13.2, 3.9), dpi=110, layout="constrained")
        axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.05, 1.05))
        for place, image in (
            (axes[0], _plain(explanation.pixels)),
            (axes[1], overlay(explanation.pixels, heat.values)),
        ):
            place.imshow(
                image, interpolation="nearest" if min(explanation.pixels.shape[:2]) < SIDE // 2 else "antialiased"
            )
            place.set_axis_off()
        axes[0].set_title(shorten(explanation.answer, 46), loc="left", fontsize=9, parse_math=False)
        axes[1].set_title(
            f"{heat.title}: {shorten(explanation.label, 30)}", loc="left", fontsize=9, weight="bold", parse_math=False
        )
        for place, score in ((axes[2], "deletion"), (axes[3], "insertion")):
            draw_curves(place, heat, score, (_OWN, _RANDOM, _EDGES))
            better = "lower" if score == "deletion" else "higher"
            place.set_title(f"{score}: {better} is better", loc="left", fontsize=9)
        figure.suptitle(shorten(f"{heat.title} {heat.verdict}", 150), fontsize=9.5, x=0.01, ha="left", parse_math=False)
        content = io.BytesIO()
        FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def draw_curves(axes: Axes, heat: HeatMap, score: str, colors: tuple[str, str, str]) -> None:
    """The curve of deletion or insertion of a map, of a random map (the mean) and of the edges, in three colors."""
    curve, x = f"{score}_curve", np.linspace(0, 1, STEPS + 1)
    random = np.mean([getattr(each, curve) for each in heat.random], axis=0)
    every = ((heat.title, getattr(heat.scores, curve)), ("random map", random), ("edges", getattr(heat.edges, curve)))
    for (name, y), color, line, width in zip(every, colors, ("-", "--", ":"), (2.2, 1.2, 1.6), strict=True):
        label = f"{name} {(y[:-1] + y[1:]).mean() / 2:.3f}"
        axes.plot(x, y, line, color=color, linewidth=width, label=label)
    axes.set(xlabel=f"hottest cells {'hidden' if score == 'deletion' else 'shown'}", ylabel="answer", xlim=(0, 1))
    low, high = axes.get_ylim()
    axes.set_ylim(min(0.0, low), 1.4 * high)  # room for the names above the curves
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.legend(frameon=False, fontsize=8, loc="upper right", borderaxespad=0)


def _plain(pixels: np.ndarray) -> Image.Image:
    return fit(as_image(pixels), SIDE)


def _with_contours(picture: np.ndarray, heat: np.ndarray) -> Image.Image:
    """uint8 (h, w, 3) with lines where the heat (h, w) passes LEVELS: white on black, the hotter the wider."""
    height, width = heat.shape
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, frameon=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    levels = [level for level in LEVELS if heat.min() < level < heat.max()]
    if levels:
        widths = [1.0 + LEVELS.index(level) * 0.6 for level in levels]
        axes.contour(x, y, heat, levels=levels, colors="black", linewidths=[each + 1.4 for each in widths])
        axes.contour(x, y, heat, levels=levels, colors="white", linewidths=widths)
    axes.set(xlim=(0, width), ylim=(height, 0))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
