"""A photograph and what kernels make of it, side by side: the whole, and a part of it in its own pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from pellucid.evaluation.draw import draw_labels, fit
from pellucid.evaluation.predict import as_image
from pellucid.explain.filter import Filtered
from pellucid.files import atomic_write, storage_errors

_PANEL, _GAP = 480, 12  # pixels
_PART = 160  # pixels of the photograph; each becomes a square of 3x3
_LONGEST = 44  # letters that fit below a panel

Box = tuple[float, float, float, float]  # top, left, bottom, right as shares of the picture


def filter_sheet(photo: np.ndarray, results: Sequence[Filtered]) -> Image.Image:
    """One row a kernel, the photograph on top; large pictures also show their liveliest part."""
    box = _liveliest(photo)
    height, width = photo.shape[:2]
    rows = [_panels(photo, box, "photograph", f"{width} x {height} pixels")]
    for result in results:
        row = _panels(result.pixels, box, result.name, _numbers(result))
        if result.pooled is not None:
            row += _panels(result.pooled, box, f"{result.name}, pooled", "the largest or the mean of each window")[-1:]
        rows.append(row)
    return _grid(rows)


def save_results(folder: Path, results: Sequence[Filtered]) -> list[Path]:
    """Writes each result, and what was pooled of it, in its full size as PNG; returns the files."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, result in enumerate(results, start=1):
        name = result.name if re.fullmatch(r"[a-z0-9-]+", result.name) else f"kernel{number}"
        for ending, pixels in (("", result.pixels), ("-pooled", result.pooled)):
            if pixels is not None:
                content = io.BytesIO()
                as_image(pixels).save(content, "PNG", compress_level=1)  # six times as fast as the default
                files.append(folder / f"{name}{ending}.png")
                atomic_write(files[-1], content.getvalue())
    return files


def _panels(pixels: np.ndarray, box: Box | None, name: str, note: str) -> list[Image.Image]:
    height, width = pixels.shape[:2]
    whole = draw_labels(fit(as_image(pixels), _PANEL), [(name, ""), ("", note)])
    if box is None:
        return [whole]
    top, left, bottom, right = (round(share * side) for share, side in zip(box, (height, width) * 2, strict=True))
    part = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    about = f"{part.shape[1]} x {part.shape[0]} of {width} x {height} pixels"
    return [whole, draw_labels(fit(as_image(part), _PANEL), [(f"{name}, a part", ""), ("", about)])]


def _numbers(result: Filtered) -> str:
    rows = "; ".join(" ".join(f"{number:g}" for number in row) for row in result.kernel.tolist())
    return rows if len(rows) <= _LONGEST else f"{result.kernel.shape[0]}x{result.kernel.shape[1]} numbers"


def _liveliest(photo: np.ndarray) -> Box | None:
    """The square with the strongest contrast; None for a picture that can be seen as a whole."""
    height, width = photo.shape[:2]
    if max(height, width) <= _PANEL:
        return None
    tall, wide = min(_PART, height), min(_PART, width)
    corners = [(y, x) for y in range(0, height - tall + 1, tall) for x in range(0, width - wide + 1, wide)]
    top, left = max(corners, key=lambda at: float(photo[at[0] : at[0] + tall : 4, at[1] : at[1] + wide : 4].std()))
    return top / height, left / width, (top + tall) / height, (left + wide) / width


def _grid(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    widths = [max(panel.width for panel in column if panel) for column in zip_longest(*rows)]
    heights = [max(panel.height for panel in row) for row in rows]
    sheet = Image.new(
        "RGB", (sum(widths) + _GAP * (len(widths) + 1), sum(heights) + _GAP * (len(heights) + 1)), "white"
    )
    top = _GAP
    for row, tall in zip(rows, heights, strict=True):
        left = _GAP
        for panel, wide in zip(row, widths, strict=False):
            sheet.paste(panel, (left, top))
            left += wide + _GAP
        top += tall + _GAP
    return sheet
