"""Pictures for people: one with its predicted labels below it, and a contact sheet with one row a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from pellucid.errors import DataError
from pellucid.evaluation.text import percent, printable

_INK, _FAINT, _PAPER, _BAR = "#1b2430", "#5b6673", "#ffffff", "#a9cdea"
_ACCENT, _SECOND = "#0072b2", "#d55e00"  # of Okabe and Ito
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


def draw_labels(picture: Image.Image, labels: Sequence[tuple[str, float | str]], *, bold: int = 1) -> Image.Image:
    """A copy of `picture` with a band below it: one row a label, name and probability (0 to 1) over a bar; or, for what has
    no probability, name and text. The first `bold` rows stand bold.

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
    for position, (label, value) in enumerate(labels):
        font = _font(size, bold=position < bold)
        top = picture.height + margin + position * row
        middle, inner = top + (row - margin) / 2, width - 2 * margin
        share = value if isinstance(value, str) else percent(value)
        if not isinstance(value, str):
            bar = round(inner * min(max(value, 0.0), 1.0))
            draw.rectangle((margin, top, margin + bar, top + row - margin), fill=_BAR)
        room = inner - 3 * margin - font.getlength(share)
        draw.text((2 * margin, middle), _clip(label, font, room), fill=_INK, font=font, anchor="lm")
        draw.text((width - 2 * margin, middle), share, fill=_INK, font=font, anchor="rm")
    return sheet


@dataclass(frozen=True, eq=False)
class Card:
    """A picture with lines of text below it, the first one bold. `frame` draws a border around it: solid, dashed, or none."""

    picture: Image.Image
    lines: Sequence[str]
    frame: str = ""


def card_sheet(cards: Sequence[Card], *, columns: int = 8, side: int = 160, title: str = "") -> Image.Image:
    """Cards in rows of `columns`, their pictures inside squares of about `side` pixels; small ones grow by a whole factor.

    Returns RGB. Raises DataError when there is no card.
    """
    if not cards:
        raise DataError("A sheet of pictures needs at least 1 card, but received 0. Pass one for each picture.")
    sides = sorted(max(card.picture.size) for card in cards)
    if (median := sides[len(sides) // 2]) < side:
        side = median * round(side / median)
    size = max(12, side // 12)
    bold, plain, gap = _font(size, bold=True), _font(size, bold=False), max(12, side // 10)
    line, top = round(1.35 * size), gap + (2 * size + gap // 2 if title else 0)
    text = line * max(len(card.lines) for card in cards)
    width, height = side + gap, side + text + 2 * gap
    rows = -(-len(cards) // columns)
    sheet = Image.new("RGB", (gap + min(columns, len(cards)) * width, top + rows * height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, gap), _clip(title, bold, sheet.width - 2 * gap), fill=_INK, font=bold)
    for position, card in enumerate(cards):
        left, upper = gap + position % columns * width, top + position // columns * height
        small = fit(card.picture, side)
        corner = left + (side - small.width) // 2, upper + (side - small.height) // 2
        sheet.paste(small, corner)
        if card.frame:
            _frame(draw, corner, small.size, dashed=card.frame == "dashed")
        for row, words in enumerate(card.lines):
            font = plain if row else bold
            place = (left, upper + side + gap // 2 + row * line)
            draw.text(place, _clip(words, font, side), fill=_FAINT if row > 1 else _INK, font=font)
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


def _frame(draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], *, dashed: bool) -> None:
    """A border just outside a picture; dashes can be told from a line in grey, too."""
    (left, top), right, bottom = (corner[0] - 4, corner[1] - 4), corner[0] + size[0] + 3, corner[1] + size[1] + 3
    for (x0, y0), (x1, y1) in (
        ((left, top), (right, top)), ((left, bottom), (right, bottom)), ((left, top), (left, bottom)), ((right, top), (right, bottom)),
    ):  # fmt: skip
        length, step = max(x1 - x0, y1 - y0), 10
        for start in range(0, length, step):
            end = min(start + (5 if dashed else step), length)
            along = (x1 > x0, y1 > y0)
            ends = [(x0 + d * along[0], y0 + d * along[1]) for d in (start, end)]
            draw.line(ends, fill=_SECOND if dashed else _ACCENT, width=3)
