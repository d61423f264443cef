"""Heat maps as pictures: the heat over the picture in grey, with contour lines, and beside it the curves that judge it.

The heat is shown in the grain in which it is measured. Viridis grows lighter evenly, and the contour lines carry the same again,
so that color-blind readers and grey printers lose nothing.
"""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pellucid.evaluation.draw import fit
from pellucid.evaluation.predict import as_image
from pellucid.evaluation.text import shorten
from pellucid.explain.faithfulness import STEPS, cell_numbers, in_cells
from pellucid.explain.heat import Explanation, HeatMap

SIDE = 448  # pixels of an overlay, about
LEVELS = (0.3, 0.6, 0.9)  # of the strongest heat: where the contour lines run
_STRENGTH = 0.55  # of the color over the grey picture
_OWN, _RANDOM, _EDGES = "#0072b2", "#5b6673", "#b84d00"
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": "#1b2430", "axes.edgecolor": "#5b6673", "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": "#5b6673", "ytick.color": "#5b6673",
    "axes.labelcolor": "#1b2430",
}  # fmt: skip


def overlay(pixels: np.ndarray, values: np.ndarray, side: int = SIDE) -> Image.Image:
    """The positive part of a map (H, W) over its picture uint8 (H, W, C), about `side` pixels large, RGB."""
    picture = fit(as_image(pixels).convert("L"), side)
    grey = np.asarray(picture).astype(np.float64)  # (h, w, 3)
    heat = smooth(values, (picture.height, picture.width))
    color = 255 * matplotlib.colormaps["viridis"](heat)[..., :3]
    mixed = (1 - _STRENGTH) * (40 + 0.85 * grey) + _STRENGTH * color
    return _with_contours(np.clip(mixed, 0, 255).astype(np.uint8), heat)


def smooth(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The positive part of a map (H, W), as means of cells, from 0 to 1, enlarged to `size` without steps."""
    cells = cell_numbers(*values.shape)
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
        for place, image in ((axes[0], _plain(explanation.pixels)), (axes[1], overlay(explanation.pixels, heat.values))):
            place.imshow(image, interpolation="nearest" if min(explanation.pixels.shape[:2]) < SIDE // 2 else "antialiased")
            place.set_axis_off()
        axes[0].set_title(shorten(explanation.answer, 46), loc="left", fontsize=9, parse_math=False)
        axes[1].set_title(f"{heat.title}: {shorten(explanation.label, 30)}", loc="left", fontsize=9, weight="bold", parse_math=False)
        for place, score in ((axes[2], "deletion"), (axes[3], "insertion")):
            _curves(place, heat, score)
        figure.suptitle(shorten(f"{heat.title} {heat.verdict}", 150), fontsize=9.5, x=0.01, ha="left", parse_math=False)
        content = io.BytesIO()
        FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def curves_of(heat: HeatMap, score: str) -> list[tuple[str, np.ndarray]]:
    """The curves of a map and its floors, each with its name and area, for deletion or insertion."""
    curve = f"{score}_curve"
    mean = np.mean([getattr(random, curve) for random in heat.random], axis=0)
    every = [(heat.title, getattr(heat.scores, curve)), ("random map", mean), ("edges", getattr(heat.edges, curve))]
    return [(f"{name} {(y[:-1] + y[1:]).mean() / 2:.3f}", y) for name, y in every]


def _curves(axes: Axes, heat: HeatMap, score: str) -> None:
    x = np.linspace(0, 100, STEPS + 1)
    styles = (("-", _OWN, 2.2), ("--", _RANDOM, 1.2), (":", _EDGES, 1.6))
    for (name, y), (line, color, width) in zip(curves_of(heat, score), styles, strict=True):
        axes.plot(x, y, line, color=color, linewidth=width, label=name)
    axes.set(xlabel=f"hottest cells {'hidden' if score == 'deletion' else 'shown'} (%)", xlim=(0, 100))
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    better = "lower" if score == "deletion" else "higher"
    axes.set_title(f"{score}: the answer ({better} is better)", loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


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
