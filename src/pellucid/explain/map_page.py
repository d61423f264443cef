"""The map of a data set as one HTML page that works offline: points to look at, to walk through by keyboard, with thumbnails."""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from pellucid.data.scan import in_threads
from pellucid.errors import PellucidError
from pellucid.evaluation.draw import as_image, fit
from pellucid.evaluation.page import render_page, safe, verdict
from pellucid.evaluation.text import printable, shorten
from pellucid.explain.picture_map import PictureMap, look_of, name_places

_CARDS = 6000  # pictures with a thumbnail and neighbors: they make the page large
_CELL, _LARGE_CELL = 64, 128  # pixels of a thumbnail, at most; larger where they are few
_FEW = 1000
_LOSSLESS = 32  # pixels; up to here thumbnails are stored without loss, so that their pixels stay squares
_COLUMNS, _ROWS = 40, 25  # thumbnails in a sheet
_NEAR = 8
_RANGE = 10_000  # whole numbers that positions are written as


def render_map(found: PictureMap) -> str:
    """The page as the text of one self-contained HTML file."""
    wrong, n = found.wrong, len(found.index)
    cards = _cards(found)
    classes = found.classes
    sheets, cell = _sheets(found, cards)
    near, _ = found.near.of(found.near.points[cards].numpy(), min(_NEAR, n - 1), apart=(cards, np.arange(n)))
    place = {name: k for k, name in enumerate(classes)}
    answers = sorted({answer for answer, bad in zip(found.answers, wrong, strict=True) if bad})
    whole = _whole(found.points, found.points)
    data: dict[str, Any] = {
        "x": whole[:, 0].tolist(), "y": whole[:, 1].tolist(), "c": [place[label] for label in found.index.labels],
        "wrong": [answers.index(a) if bad else -1 for a, bad in zip(found.answers, wrong, strict=True)],
        "answers": [printable(answer) for answer in answers], "paths": [printable(path) for path in found.index.paths],
        "classes": [
            {"name": printable(name), "color": look_of(k)[0], "shape": look_of(k)[1]} for k, name in enumerate(classes)
        ],
        "names": [
            [place[name], shorten(name, 18), *_whole(found.points, np.array([spot]))[0].tolist()]
            for name, spot in name_places(found).items()
        ],
        "cards": cards.tolist(), "near": near.tolist(), "cell": cell, "sharp": cell <= _LOSSLESS, "columns": _COLUMNS, "perSheet": _COLUMNS * _ROWS,
    }  # fmt: skip
    notes = list(found.notes)
    if len(cards) < n:
        notes.append(
            f"{len(cards):,} of the {n:,} pictures have a thumbnail here: those with wrong answers, what is nearest to them, and others by chance"
        )
    lead = [f"{n:,} pictures as layer {found.layer} sees them: what lies close together looks alike to it."]
    if found.explained:
        lead.append(
            f"Two directions of {found.width:,} are shown, with {100 * sum(found.explained):.0f} % of the variance: what lies together "
            "here may be apart in the others, so the neighbors listed are those by all of them."
        )
    else:
        lead.append("UMAP keeps neighbors together; distances between clusters and their sizes mean little.")
    made = {
        "Pictures": found.index.dataset.source,
        "Network": found.network,
        "Layer": f"{found.layer}, averaged over the positions of its map: {found.width:,} numbers a picture",
        "Distance": found.distance,
        "Layout": found.title.rpartition(": ")[2],
    }
    css = _CSS + "".join(f".sheet{k} {{ background-image: url({uri}); }}\n" for k, uri in enumerate(sheets))
    body = _BODY.format(
        legend=_legend(found, classes), data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        n=f"{n:,}", filter=_FILTER if wrong.any() else "", jump=_JUMP if wrong.any() else "",
    )  # fmt: skip
    script = files("pellucid.explain").joinpath("picture_map.js").read_text(encoding="utf-8")
    return render_page(
        f"{found.index.dataset.name}: a map of the pictures", [verdict(lead, notes, ()), body], made, css=css,
        script=script,
    )  # fmt: skip


def _cards(found: PictureMap) -> np.ndarray:
    """Positions int (M,) of the pictures that get a thumbnail: wrongly answered ones, then their nearest, for half of what room is
    left, then others by chance."""
    wrong, n = found.wrong, len(found.index)
    by_chance = np.random.default_rng(0).permutation(n)
    bad = by_chance[wrong[by_chance]][:_CARDS]
    nearest = np.zeros(0, np.int64)
    if len(bad) and n > _CARDS:
        near, _ = found.near.of(found.near.points[bad].numpy(), _NEAR, apart=(bad, np.arange(n)))
        nearest = _first(near.T.ravel())[: (_CARDS - len(bad)) // 2]  # the nearest of all before the second nearest
    return np.sort(_first(np.concatenate([bad, nearest, by_chance]))[:_CARDS])


def _first(positions: np.ndarray) -> np.ndarray:
    """Each of the positions int (N,) once, where it comes first."""
    return positions[np.sort(np.unique(positions, return_index=True)[1])]


def _sheets(found: PictureMap, cards: np.ndarray) -> tuple[list[str], int]:
    """Thumbnails side by side in a few pictures, as data URIs, and the pixels of one's side."""
    dataset, most = found.index.dataset, _LARGE_CELL if len(cards) <= _FEW else _CELL

    def thumbnail(position: int) -> Image.Image:
        try:
            picture = as_image(dataset.picture(int(found.index.rows[position])).pixels)
        except PellucidError:  # changed since the index was made: its place stays empty
            return Image.new("RGB", (1, 1), "#888888")
        return fit(picture, most) if max(picture.size) > most else picture.convert("RGB")

    small = list(in_threads(thumbnail, cards.tolist()))
    cell = max(max(picture.size) for picture in small)
    uris, per = [], _COLUMNS * _ROWS
    for start in range(0, len(small), per):
        some = small[start : start + per]
        sheet = Image.new("RGB", (_COLUMNS * cell, -(-len(some) // _COLUMNS) * cell), "#ffffff")
        for k, picture in enumerate(some):
            corner = (
                k % _COLUMNS * cell + (cell - picture.width) // 2,
                k // _COLUMNS * cell + (cell - picture.height) // 2,
            )
            sheet.paste(picture, corner)
        content, lossless = io.BytesIO(), cell <= _LOSSLESS
        sheet.save(content, "PNG", optimize=True) if lossless else sheet.save(content, "JPEG", quality=80)
        kind = "png" if lossless else "jpeg"
        uris.append(f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}")
    return uris, cell


def _whole(points: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Positions `some` (M, 2) as whole numbers, both axes on one scale, so that all `points` lie from 0 to 10,000."""
    low, high = points.min(0), points.max(0)
    scale = float((high - low).max()) or 1.0
    return np.rint((some - (low + high) / 2) / scale * _RANGE + _RANGE / 2).astype(int)


def _legend(found: PictureMap, classes: list[str]) -> str:
    labels, wrong = np.array(found.index.labels), found.wrong
    rows = []
    for k, name in enumerate(classes):
        here = labels == name
        bad = f", {int((here & wrong).sum()):,} wrong" if any(found.answers) else ""
        rows.append(
            f'<label><input type="checkbox" checked data-class="{k}">{_mark(k)}<span>{safe(name) or "no label"}</span>'
            f"<small>{int(here.sum()):,}{bad}</small></label>\n"
        )
    return "".join(rows)


def _mark(k: int) -> str:
    """The sign of a class as a small drawing."""
    color, shape = look_of(k)
    drawn = {
        "circle": '<circle cx="8" cy="8" r="5.5"/>',
        "square": '<rect x="3" y="3" width="10" height="10"/>',
        "triangle": '<path d="M8 2 14 13H2Z"/>',
        "diamond": '<path d="M8 1.5 13.5 8 8 14.5 2.5 8Z"/>',
        "plus": '<path d="M6 2h4v4h4v4h-4v4H6v-4H2V6h4Z"/>',
    }[shape]
    return f'<svg width="16" height="16" viewBox="0 0 16 16" fill="{color}" aria-hidden="true">{drawn}</svg>'


_FILTER = '<label class="all"><input type="checkbox" id="only-wrong"> <span>only wrong answers</span></label>'
_JUMP = '<button type="button" data-key="w">Next wrong answer</button>'
_BODY = """<section class="atlas">
<div><canvas id="map" tabindex="0" role="application" aria-label="Map of {n} pictures; arrow keys go from one to the next"
aria-describedby="keys"></canvas>
<div class="tools"><button type="button" data-key="+" aria-label="Enlarge">+</button>
<button type="button" data-key="-" aria-label="Shrink">−</button>
<button type="button" data-key="0">Show all</button>{jump}</div>
<p id="keys" class="faint">Drag to move, wheel or + and − to enlarge, 0 for all of it; arrow keys go to the next picture that way, w to the
next wrong answer, Escape lets go. A click holds a picture.</p></div>
<div class="side"><fieldset class="legend"><legend>Classes</legend>
{legend}{filter}</fieldset>
<aside id="panel" aria-live="polite"></aside></div>
</section>
<script type="application/json" id="map-data">{data}</script>"""

_CSS = """
main { max-width: 84rem; }
.atlas { display: grid; grid-template-columns: minmax(0, 1fr) 19rem; gap: 1rem 1.5rem; align-items: start; }
#map { width: 100%; height: min(78vh, 46rem); display: block; border: 1px solid var(--line); border-radius: 8px; touch-action: none;
  cursor: crosshair; }
#map:focus-visible, button:focus-visible, input:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.tools { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 0.6rem 0; }
button { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: 0.25rem 0.8rem; cursor: pointer; }
.faint { color: var(--faint); font-size: 0.85rem; }
#panel { min-height: 20rem; }
#panel p { margin: 0.35rem 0; }
#panel .name { font-weight: 600; }
#panel .path { font-size: 0.75rem; color: var(--faint); overflow-wrap: anywhere; }
.tile { display: block; background-repeat: no-repeat; background-color: var(--card); border-radius: 3px; overflow: hidden; }
.tile.sharp { image-rendering: pixelated; }
.tile.none { display: grid; place-items: center; text-align: center; font-size: 0.7rem; color: var(--faint); }
.near { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.5rem; }
.near button { padding: 0.3rem; font-size: 0.72rem; min-width: 0; display: grid; justify-items: center; gap: 0.2rem; }
.near button span:last-child { max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.legend { border: 1px solid var(--line); border-radius: 8px; padding: 0.4rem 0.8rem 0.6rem; margin: 0 0 1rem; display: grid; gap: 0.15rem;
  max-height: 24rem; overflow-y: auto; }
.legend label { display: grid; grid-template-columns: auto 16px minmax(0, 1fr) auto; gap: 0.4rem; align-items: center; font-size: 0.9rem; cursor: pointer; }
.legend .all { margin-top: 0.4rem; grid-template-columns: auto 1fr; }
.legend small { color: var(--faint); white-space: nowrap; }
.legend span { overflow-wrap: anywhere; }
@media (max-width: 52rem) { .atlas { grid-template-columns: minmax(0, 1fr); } #map { height: 60vh; }
  .side { display: flex; flex-direction: column-reverse; gap: 1rem; } #panel { min-height: 0; } }
"""
