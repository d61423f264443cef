"""Pictures for people: one with its predicted labels below it, and a contact sheet with one row a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from pellucid.errors import DataError
from pellucid.evaluation.text import percent, printable

_INK, _FAINT, _PAPER, _BAR = "#1b2430", "#5b6673", "#ffffff", "#a9cdea"
_TINY = 256  # pixels; what is smaller is enlarged before anything is drawn
_LARGEST = 2048  # pixels; an enlarged strip stops growing here


def fit(picture: Image.Image, side: int) -> Image.Image:
    """An RGB copy that fits a square of `side` pixels.

    Large pictures are shrunk smoothly; small ones grow by a whole factor, so that a pixel stays a square.
    """
    picture = picture.convert("RGB")
    factor = side // max(picture.size)
    if factor >= 1:
        return _enlarge(picture, factor)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def draw_labels(picture: Image.Image, labels: Sequence[tuple[str, float]]) -> Image.Image:
    """A copy of `picture` with a band below it: one row a label, name and probability (0 to 1) over a bar.

    The picture itself is never covered. A tiny one grows by a whole factor until its shorter side has
    at least 256 pixels. Returns RGB.
    """
    picture = picture.convert("RGB")
    factor = min(-(-_TINY // min(picture.size)), _LARGEST // max(picture.size))
    picture = _enlarge(picture, max(1, factor))
    if not labels:
        return picture
    width = max(picture.width, _TINY)
    size = max(14, round(min(width, 1.5 * picture.height) / 26))
    margin, row = size // 2, 2 * size
    sheet = Image.new("RGB", (width, picture.height + row * len(labels) + margin), _PAPER)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for position, (label, probability) in enumerate(labels):
        font = _font(size, bold=position == 0)
        top = picture.height + margin + position * row
        middle, inner = top + (row - margin) / 2, width - 2 * margin
        bar = round(inner * min(max(probability, 0.0), 1.0))
        draw.rectangle((margin, top, margin + bar, top + row - margin), fill=_BAR)
        share = percent(probability)
        room = inner - 3 * margin - font.getlength(share)
        draw.text((2 * margin, middle), _clip(label, font, room), fill=_INK, font=font, anchor="lm")
        draw.text((width - 2 * margin, middle), share, fill=_INK, font=font, anchor="rm")
    return sheet


def grid_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]], *, cell: int = 96) -> Image.Image:
    """A contact sheet: each row a label on the left, then its pictures, each inside a square of about `cell` pixels.

    Small pictures grow by a whole factor, and the square is made to fit them: pictures of 50 pixels stand in 100. A label's first line is its name and stands bold, what follows a line break (a count) stands below it.
    Returns RGB. Raises DataError when there is no row.
    """
    if not rows:
        raise DataError("A contact sheet needs at least 1 row of pictures, but received 0. Pass one for each class.")
    sides = sorted(max(picture.size) for _, pictures in rows for picture in pictures)
    if sides and (side := sides[len(sides) // 2]) < cell:
        cell = side * round(cell / side)
    size, gap = max(11, cell // 7), max(4, cell // 16)
    bold, plain = _font(size, bold=True), _font(max(10, round(0.85 * size)), bold=False)
    labels = [label.partition("\n")[::2] for label, _ in rows]
    widest = max(max(bold.getlength(printable(a)), plain.getlength(printable(b))) for a, b in labels)
    left = gap + min(math.ceil(widest), 3 * cell) + 2 * gap
    step = cell + gap
    columns = max(len(pictures) for _, pictures in rows)
    sheet = Image.new("RGB", (left + columns * step, gap + len(rows) * step), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for line, ((name, below), (_, pictures)) in enumerate(zip(labels, rows, strict=True)):
        top = gap + line * step
        middle = top + cell / 2 - (0.6 * size if below else 0)
        room = left - 3 * gap
        draw.text((gap, middle), _clip(name, bold, room), fill=_INK, font=bold, anchor="lm")
        draw.text((gap, middle + 1.3 * size), _clip(below, plain, room), fill=_FAINT, font=plain, anchor="lm")
        for column, picture in enumerate(pictures):
            small = fit(picture, cell)
            corner = left + column * step + (cell - small.width) // 2, top + (cell - small.height) // 2
            sheet.paste(small, corner)
    return sheet


def _enlarge(picture: Image.Image, factor: int) -> Image.Image:
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def _clip(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """`text` on one line, shortened with an ellipsis to `room` pixels."""
    text = printable(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


@lru_cache
def _font(size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters on every machine, nothing to download."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
