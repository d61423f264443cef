"""How the charts of the pages look: inline SVG that follows the page's colors, light or dark.

Matplotlib draws with stand-in colors, which become CSS variables of the page. The strength of one color,
never its hue, carries the meaning, so the figures survive color blindness and a black-and-white printer.
"""

from __future__ import annotations

import re
import warnings
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_SHRINK = 0.7  # a figure shrinks this far on a narrow screen before it scrolls, so that it stays legible
INK, FAINT, ACCENT, SECOND, CELL = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
    CELL: "var(--cell)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and the browser has fonts for every script
    "svg.hashsalt": "pellucid",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def page_style() -> Any:
    """The look of all charts, as a context to draw in."""
    return matplotlib.rc_context(_STYLE)


def svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element with unique ids and without anything that an HTML page does not need."""
    text = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has other fonts
        FigureCanvasSVG(figure).print_svg(text, metadata=nothing)
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = drawn.replace("<svg", f'<svg style="min-width: {72 * _SHRINK * figure.get_figwidth():.0f}pt"', 1)
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)
    drawn = re.sub(r'(<[^<>]* (?:id="|xlink:href="#|clip-path="url\(#))', rf"\g<1>{name}-", drawn)
    for color, variable in _VARIABLES.items():
        drawn = drawn.replace(f": {color}", f": {variable}")
    return drawn
