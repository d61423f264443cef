"""A photograph and what kernels make of it, side by side: the whole, and a part of it in its own pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pellucid.evaluation.draw import as_image, fit
from pellucid.explain.filter import Filtered
from pellucid.files import atomic_write, storage_errors

_PANEL, _GAP, _LINE = 480, 16, 20  # pixels
_ACROSS = 4
_PART = 160  # pixels of the photograph; each becomes a square of 3x3
_NARROWEST = 330  # pixels; the texts below need them
_LONGEST = 44  # letters that fit there

Box = tuple[float, float, float, float]  # top, left, bottom, right as shares of the picture
Panel = tuple[Image.Image, str, str]  # with its name and a note below it


def filter_sheet(photo: np.ndarray, results: Sequence[Filtered]) -> Image.Image:
    """The photograph and what each kernel makes of it; large pictures also show their liveliest part."""
    box = _liveliest(photo)
    side = max(fit(as_image(photo), _PANEL).size)
    height, width = photo.shape[:2]
    rows = [_panels(photo, box, side, "photograph", f"{width} x {height} pixels")]
    for result in results:
        row = _panels(result.pixels, box, side, result.name, f"{_numbers(result)}\n{result.shown}")
        if result.pooled is not None:
            row += _panels(result.pooled, box, side, "then pooled", str(result.pooling))[-1:]
        rows.append(row)
    if max(map(len, rows)) == 1:  # small pictures without pooling: several in a row
        panels = [panel for row in rows for panel in row]
        rows = [panels[start : start + _ACROSS] for start in range(0, len(panels), _ACROSS)]
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


def _panels(pixels: np.ndarray, box: Box | None, side: int, name: str, note: str) -> list[Panel]:
    height, width = pixels.shape[:2]
    whole = fit(as_image(pixels), side), name, note
    if box is None:
        return [whole]
    top, left, bottom, right = (round(share * length) for share, length in zip(box, (height, width) * 2, strict=True))
    part = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    about = f"{part.shape[1]} x {part.shape[0]} of {width} x {height} pixels"
    return [whole, (fit(as_image(part), _PANEL), f"{name}, a part", about)]


def _numbers(result: Filtered) -> str:
    rows = ";  ".join("  ".join(f"{number:g}" for number in row) for row in result.kernel.tolist())
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


def _grid(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    widths = [max([_NARROWEST, *(panel[0].width for panel in column if panel)]) for column in zip_longest(*rows)]
    heights = [max(panel[0].height for panel in row) + 3 * _LINE for row in rows]
    sheet = Image.new(
        "RGB", (sum(widths) + _GAP * (len(widths) + 1), sum(heights) + _GAP * (len(heights) + 1)), "white"
    )
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(16), ImageFont.load_default(14)
    top = _GAP
    for row, tall in zip(rows, heights, strict=True):
        left = _GAP
        for (picture, name, note), wide in zip(row, widths, strict=False):
            sheet.paste(picture, (left, top))
            draw.text((left, top + picture.height + 4), name, fill="#1b2430", font=font)
            draw.text((left, top + picture.height + 4 + _LINE), note, fill="#5b6673", font=small)
            left += wide + _GAP
        top += tall + _GAP
    return sheet
