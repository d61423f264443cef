"""The shell of a report: one HTML page with its look, its sections, figures, tiles and cards of pictures.

It carries everything inside and fetches nothing; a content policy forbids it, and every script but the page's own, if it has one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image

from pellucid.errors import PellucidError
from pellucid.evaluation.draw import fit
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.text import percent, printable

_THUMBNAIL = 240  # pixels; about twice the shown size, for dense screens
_INTERVAL = re.compile(r"([^(]+) (\([^()]+ to [^()]+\))")
_SMALL = 64  # pixels; up to here a picture is stored without loss, so that its pixels stay squares

PictureOf = Callable[[int], Image.Image]


def render_page(
    title: str, sections: Sequence[str], made: Mapping[str, str], *, css: str = "", script: str = ""
) -> str:
    """The page of the sections that are not empty, and of how everything was made; `css` and `script` are its own."""
    body = "\n".join(filter(None, [*sections, section("How it was made", _made(made))]))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
        body += f"\n<script>{script}</script>"
    return _PAGE.format(title=safe(title), css=_CSS + css, policy=policy, body=body)


def verdict(sentences: Sequence[str], notes: Sequence[str], tiles: Sequence[tuple[str, str, str]]) -> str:
    """The result in words, what to mind, and its scores: tiles of (name, value, what stands below), HTML all three."""
    lead, *others = sentences
    return (
        f'<section>\n<p class="lead">{sentence(lead)}</p>\n'
        + "".join(f"<p>{sentence(other)}</p>\n" for other in others)
        + "".join(f'<p class="note">{sentence(note)}</p>\n' for note in notes)
        + '<dl class="tiles">'
        + "".join(f"<div><dt>{a}</dt><dd>{b}<small>{c}</small></dd></div>" for a, b, c in tiles)
        + "</dl>\n</section>"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells of HTML; the first of a row is its head. An interval goes below its value where there is little room."""
    body = "".join(f'<tr><th scope="row">{row[0]}</th>' + "".join(map(_cell, row[1:])) + "</tr>\n" for row in rows)
    return (
        '<div class="scroll"><table>\n<thead><tr>'
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + f"</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _cell(content: str) -> str:
    found = _INTERVAL.fullmatch(content)
    return f'<td class="wide">{found[1]} <span>{found[2]}</span></td>' if found else f"<td>{content}</td>"


def safe(text: object) -> str:
    """Text of any origin as HTML text or attribute value."""
    return escape(printable(text))


def sentence(text: str) -> str:
    return safe(text).replace(" %", "&nbsp;%")  # a number keeps its unit at the end of a line


def html_percent(share: float) -> str:
    return sentence(percent(share))


def html_range(interval: Interval) -> str:
    return f"{html_percent(interval.low)} to {html_percent(interval.high)}"


def section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>"


def figure(svg: str, heading: str, caption: str) -> str:
    return f'<figure><h3>{heading}</h3>\n<div class="scroll">{svg}</div>\n<figcaption>{caption}</figcaption></figure>\n'


def card(picture: PictureOf, index: int, right: bool | None, says: str, is_: str, path: str = "") -> str:
    """A picture with what is said of it and what it is, HTML both; `right` None where that is no question."""
    try:
        shown = f'<img alt="" src="{data_uri(picture(index))}">'
    except (PellucidError, OSError) as error:
        shown = f"<p>{safe(error)}</p>"
    kind, mark = {True: ("right", "✓ "), False: ("wrong", "✗ "), None: ("", "")}[right]
    return (
        f'<div class="card"><div class="picture">{shown}</div>\n'
        f'<p class="{kind}">{mark}says {says}</p>\n'
        f'<p>is {is_}</p><p class="path">{safe(path)}</p></div>\n'
    )


def data_uri(picture: Image.Image) -> str:
    """A thumbnail as a data URI: PNG for small pictures, whose pixels stay squares; JPEG for photographs."""
    file = BytesIO()
    if max(picture.size) <= _SMALL:
        kind = "png"
        fit(picture, _THUMBNAIL).save(file, "PNG", optimize=True)
    else:
        kind = "jpeg"
        fit(picture, _THUMBNAIL).save(file, "JPEG", quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def how_trained(content: Mapping[str, Any]) -> dict[str, str]:
    """What a page says of the training, from a run's run.json."""
    environment = content["environment"]
    return {
        "Training": f"{content['created']}, {content.get('seconds', 0):,.0f} s, seed {content['config']['train']['seed']}",
        "Command": " ".join(content["command"]),
        "Versions": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()),
        "Machine": f"{environment['processor']}, {environment['cpus']} cores, {environment['device']}",
    }


def _made(made: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{safe(name)}</dt><dd>{safe(value)}</dd>\n" for name, value in made.items())
    return f'<dl class="made">\n{items}</dl>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""

# Accent and second color are the blue and orange of Okabe and Ito, which color-blind readers tell apart.
_CSS = """
:root { --ink: #1b2430; --faint: #5b6673; --paper: #ffffff; --card: #f4f6f8; --line: #dde2e8;
  --accent: #0072b2; --second: #b84d00; --cell: #0072b2; --note: #fdf3dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaef; --faint: #9ba7b4; --paper: #14181d;
  --card: #1d232b; --line: #313a45; --accent: #4f9fd8; --second: #e69f00;
  --cell: #2a78b0; --note: #352c17; } }
@media print { :root { --ink: #000000; --faint: #444444; --paper: #ffffff; --card: #ffffff; --line: #bbbbbb;
  --accent: #0072b2; --second: #b84d00; --cell: #0072b2; --note: #ffffff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 0.75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 0.5rem; }
p { margin: 0 0 0.6rem; max-width: 46rem; overflow-wrap: anywhere; }
.lead { font-size: 1.2rem; font-weight: 600; line-height: 1.4; }
.note { background: var(--note); border-left: 4px solid var(--second); padding: 0.5rem 0.75rem; }
dt { color: var(--faint); font-size: 0.85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 0.75rem;
  margin: 1.25rem 0 0; }
.tiles div { background: var(--card); border-radius: 6px; padding: 0.6rem 0.8rem; min-width: 0; }
.tiles dd { font-size: 1.4rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles small { display: block; font-size: 0.8rem; font-weight: 400; color: var(--faint); }
.figures { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.figures > * { min-width: 0; max-width: 100%; }
figure { margin: 0 0 1.25rem; }
figcaption { color: var(--faint); font-size: 0.85rem; max-width: 30rem; margin-top: 0.4rem; }
.scroll { overflow-x: auto; }
svg { display: block; max-width: 100%; height: auto; }
svg text { font-family: inherit !important; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 0.75rem; }
.card { background: var(--card); border-radius: 6px; padding: 0.6rem; min-width: 0; break-inside: avoid; }
.card p { margin: 0; font-size: 0.9rem; line-height: 1.35; }
.picture { height: 8.5rem; display: grid; place-items: center; margin-bottom: 0.5rem; }
.picture img { max-width: 100%; max-height: 8.5rem; border-radius: 3px; }
.card .path { margin-top: 0.3rem; font-size: 0.72rem; color: var(--faint); }
.sets { display: flex; flex-wrap: wrap; gap: 0.75rem; align-items: flex-start; }
.set { border: 1px solid var(--line); border-radius: 8px; padding: 0.5rem; max-width: 100%; break-inside: avoid; }
.set .cards { display: flex; flex-wrap: wrap; }
.set .card { width: 9.5rem; }
.strip { display: flex; gap: 0.3rem; }
.strip img { max-width: 5rem; max-height: 5rem; border-radius: 3px; }
.right { color: var(--accent); }
.wrong { color: var(--second); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem;
  margin: 0 0 0.75rem; }
th, td { padding: 0.3rem 1.1rem 0.3rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
td.wide { white-space: normal; }
td.wide span { display: inline-block; white-space: nowrap; }
th { font-weight: 600; }
th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
thead th { color: var(--faint); font-size: 0.8rem; white-space: normal; }
.made { display: grid; grid-template-columns: minmax(5rem, max-content) 1fr; gap: 0.3rem 1.25rem; margin: 0; }
.made dd { font-family: ui-monospace, Consolas, monospace; font-size: 0.85rem; }
@media print { main { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } .scroll { overflow: visible; } svg { min-width: 0 !important; } }
"""
