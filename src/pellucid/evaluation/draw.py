"""Pictures for people: one with its predicted labels below it, and a contact sheet with one row a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pellucid.errors import DataError
from pellucid.evaluation.text import percent, printable

_INK, _FAINT, _PAPER, _BAR = "#1b2430", "#5b6673", "#ffffff", "#a9cdea"
_ACCENT, _SECOND = "#0072b2", "#d55e00"  # of Okabe and Ito
_EDGE = "#d3d9e0"  # around tiles, which may be as white as the paper
_BETWEEN = 4  # pixels between the two pictures of a tile
_TINY = 256  # pixels; what is smaller is enlarged before anything is drawn
_LARGEST = 2048  # pixels; an enlarged strip stops growing here


def as_image(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, C) as a picture to look at; `drawn_channels` says what it leaves out."""
    channels = pixels.shape[2]
    return Image.fromarray(pixels[..., 0] if channels < 3 else pixels[..., :3])


def drawn_channels(channels: int) -> str:
    """Which of so many channels `as_image` shows, '' when all of them."""
    if channels in (1, 3):
        return ""
    return (
        f"channel 1 of {channels}, as grey" if channels < 3 else f"channels 1, 2, 3 of {channels}, as red, green, blue"
    )


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


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture at its final size, or two of one size side by side; below it what it is and, flush right, a figure. A frame in
    bold tells it from its neighbors."""

    picture: Image.Image
    caption: str = ""
    figure: str = ""
    framed: bool = False
    second: Image.Image | None = None

    @property
    def width(self) -> int:
        return self.picture.width + (self.second.width + _BETWEEN if self.second else 0)


@dataclass(frozen=True, eq=False)
class TileRow:
    """Tiles that belong together, with what stands to their left: a title in bold and lines of text."""

    tiles: Sequence[Tile]
    title: str = ""
    lines: Sequence[str] = ()


def tile_sheet(
    title: str,
    lines: Sequence[str],
    rows: Sequence[TileRow],
    *,
    columns: int,
    beside: Image.Image | None = None,
    scale: tuple[Image.Image, Sequence[str]] | None = None,
) -> Image.Image:
    """A contact sheet of pictures that are drawn as they are: `title` and `lines` on top, a row below the other, broken after
    `columns` tiles. `beside` is a picture to the left of the title; `scale` a strip of colors with the texts that stand below
    its left end, middle and right end. Returns RGB.
    """
    margin, gap, band = 16, 8, 18 if any(t.caption or t.figure for row in rows for t in row.tiles) else 0
    bold, plain, small = _font(13, bold=True), _font(12, bold=False), _font(11, bold=False)
    texts = [(bold, row.title) for row in rows] + [(small, line) for row in rows for line in row.lines]
    left = min(220, math.ceil(max(font.getlength(printable(text)) for font, text in texts)))
    left += 2 * gap if left else 0
    cell = max(tile.width for row in rows for tile in row.tiles)
    across = min(columns, max(len(row.tiles) for row in rows))
    indent = margin + (beside.width + 2 * gap if beside else 0)
    heading = max([_font(16, bold=True).getlength(title), *(plain.getlength(line) for line in lines)])
    width = max(2 * margin + left + across * (cell + gap) - gap, math.ceil(indent + heading + margin))
    top = 26 + 18 * len(lines) + (36 if scale else 0)
    header = margin + max(top, beside.height if beside else 0) + margin
    broken = [[row.tiles[i : i + across] for i in range(0, len(row.tiles), across)] for row in rows]
    highest = [[max(tile.picture.height for tile in some) + band + gap for some in parts] for parts in broken]
    least = [0 if not left else 20 + 15 * len(row.lines) + gap for row in rows]
    heights = [max(sum(parts), fewest) for parts, fewest in zip(highest, least, strict=True)]
    sheet = Image.new("RGB", (width, header + sum(heights) + margin - gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if beside:
        sheet.paste(beside, (margin, margin))
    draw.text((indent, margin), title, fill=_INK, font=_font(16, bold=True))
    for k, line in enumerate(lines):
        draw.text((indent, margin + 26 + 18 * k), line, fill=_FAINT, font=plain)
    if scale:
        _draw_scale(sheet, scale, (indent, margin + 30 + 18 * len(lines)), small)
    y = header
    for row, parts, tall, height in zip(rows, broken, highest, heights, strict=True):
        draw.text((margin, y), _clip(row.title, bold, left - gap), fill=_INK, font=bold)
        for k, line in enumerate(row.lines):
            draw.text((margin, y + 20 + 15 * k), _clip(line, small, left - gap), fill=_FAINT, font=small)
        line_top = y
        for some, step in zip(parts, tall, strict=True):
            for column, tile in enumerate(some):
                _draw_tile(sheet, tile, (margin + left + column * (cell + gap), line_top), small)
            line_top += step
        y += height
    return sheet


def _draw_tile(sheet: Image.Image, tile: Tile, corner: tuple[int, int], font: ImageFont.FreeTypeFont) -> None:
    draw, (x, y), height = ImageDraw.Draw(sheet), corner, tile.picture.height
    lefts = [(tile.picture, x)] + ([(tile.second, x + tile.picture.width + _BETWEEN)] if tile.second else [])
    for picture, left in lefts:
        sheet.paste(picture, (left, y))
        draw.rectangle((left - 1, y - 1, left + picture.width, y + picture.height), outline=_EDGE)
    if tile.framed:
        draw.rectangle((x - 3, y - 3, x + tile.width + 2, y + height + 2), outline=_INK, width=2)
    below = y + height + 3
    room = tile.width - (font.getlength(tile.figure) + 6 if tile.figure else 0)
    draw.text((x, below), _clip(tile.caption, font, room), fill=_INK, font=font)
    draw.text((x + tile.width, below), tile.figure, fill=_FAINT, font=font, anchor="ra")


def _draw_scale(
    sheet: Image.Image, scale: tuple[Image.Image, Sequence[str]], corner: tuple[int, int], font: ImageFont.FreeTypeFont
) -> None:
    draw, (x, y), (strip, texts) = ImageDraw.Draw(sheet), corner, scale
    sheet.paste(strip, corner)
    draw.rectangle((x - 1, y - 1, x + strip.width, y + strip.height), outline=_FAINT)
    for text, share, anchor in zip(texts, (0, 0.5, 1), ("la", "ma", "ra"), strict=True):
        draw.text((x + share * strip.width, y + strip.height + 3), text, fill=_FAINT, font=font, anchor=anchor)


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
