"""One HTML file that tells how good a classifier is: to a physician in sentences, to an engineer in figures.

It carries its pictures and figures inside, runs no script and fetches nothing (a content policy forbids it):
it opens offline, prints, and can be sent by mail.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image

from pellucid.errors import PellucidError
from pellucid.evaluation import figures
from pellucid.evaluation.draw import fit
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.metrics import Evaluation
from pellucid.evaluation.text import counted, number, percent, printable

_THUMBNAIL = 240  # pixels; about twice the shown size, for dense screens
_SMALL = 64  # pixels; up to here a picture is stored without loss, so that its pixels stay squares

PictureOf = Callable[[int], Image.Image]


def render_report(
    *,
    title: str,
    evaluation: Evaluation,
    history: Sequence[Mapping[str, Any]],
    picture: PictureOf,
    samples: Sequence[tuple[int, str, str, float]],
    made: Mapping[str, str],
    health: Sequence[Mapping[str, Any]] = (),
    warnings: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The report as the text of one self-contained HTML file.

    history: a mapping of each epoch with "epoch", "train_loss", "valid_loss", "valid_accuracy"; may be empty.
    picture: the picture of an index as the user sees it; where it cannot be read, the report says why.
    samples: (index, true label, predicted label, probability) of what to show. made: how it was made.
    health, warnings: the events of these names that the training left.
    """
    sections = [
        _verdict(evaluation),
        _section("How the training went", _curves(history)) if history else "",
        _section("Training health", _health(health, warnings)) if health else "",
        _section("Where it is right and where it is wrong", _figures(evaluation)),
        _section("Most confident mistakes", _mistakes(evaluation, picture)),
        _section("Sample pictures", _samples(samples, picture)) if samples else "",
        _section("Scores of every class", _class_table(evaluation)),
        _section("How it was made", _made(made)),
    ]
    return _PAGE.format(title=_safe(title), css=_CSS, body="\n".join(filter(None, sections)))


def _safe(text: object) -> str:
    """Text of any origin as HTML text or attribute value."""
    return escape(printable(text))


def _sentence(text: str) -> str:
    return _safe(text).replace(" %", "&nbsp;%")  # a number keeps its unit at the end of a line


def _percent(share: float) -> str:
    return _sentence(percent(share))


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>"


def _verdict(e: Evaluation) -> str:
    lead, *others = e.verdict()
    majority = e.baseline["majority"]
    scores = (
        ("Accuracy", _percent(e.accuracy.value), _range(e.accuracy)),
        ("Macro-F1", _percent(e.macro_f1.value), _range(e.macro_f1)),
        ("Baseline", _percent(majority["accuracy"]), f"always '{_safe(majority['label'])}'"),
        ("Calibration error", _percent(e.ece), "ECE, 15 bins"),
        ("Pictures", f"{e.n:,}", f"{_safe(e.split)}, {counted(len(e.classes), 'class', 'classes')}"),
    )
    return (
        f'<section>\n<p class="lead">{_sentence(lead)}</p>\n'
        + "".join(f"<p>{_sentence(sentence)}</p>\n" for sentence in others)
        + "".join(f'<p class="note">{_sentence(note)}</p>\n' for note in e.notes)
        + '<dl class="tiles">'
        + "".join(f"<div><dt>{a}</dt><dd>{b}<small>{c}</small></dd></div>" for a, b, c in scores)
        + "</dl>\n</section>"
    )


def _range(interval: Interval) -> str:
    return f"{_percent(interval.low)} to {_percent(interval.high)}"


def _figure(svg: str, heading: str, caption: str) -> str:
    return f'<figure><h3>{heading}</h3>\n<div class="scroll">{svg}</div>\n<figcaption>{caption}</figcaption></figure>\n'


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    loss = _figure(figures.loss_curves(history), "Loss", "The loss after each epoch: lower is better.")
    accuracy = _figure(
        figures.accuracy_curve(history),
        "Validation accuracy",
        "The share of the validation pictures that were labeled correctly after each epoch.",
    )
    return f'<div class="figures">{loss}{accuracy}</div>'


def _health(health: Sequence[Mapping[str, Any]], warnings: Sequence[Mapping[str, Any]]) -> str:
    told = {
        (w["kind"], w["layers"][0]): f"Step {w['step']:,}: {w['text']}" for w in reversed(warnings)
    }  # the first of each
    notes = "".join(f'<p class="note">{_sentence(text)}</p>\n' for text in reversed(told.values()))
    gradients = _figure(
        figures.gradient_norms(health),
        "Gradient of each layer",
        "The norm of what a step would change in a layer, before any clipping. The stronger the color, the closer the layer is "
        f"to the output. Far apart lines: some layers learn, others do not.{figures.layers_left_out(health)}",
    )
    return (notes or "<p>No layer gave cause for a warning.</p>\n") + gradients


def _figures(e: Evaluation) -> str:
    limit = ""
    if len(e.classes) > figures.MAX_CLASSES:
        limit = f" Shown are the {figures.MAX_CLASSES} weakest of {len(e.classes):,} classes."
    matrix = _figure(
        figures.confusion_matrix(e),
        "Confusion matrix",
        "Numbers of pictures: true classes in rows, predicted ones in columns. The stronger the color, the "
        f"larger the share of its row. Right answers lie on the diagonal; all else is a mistake.{limit}",
    )
    recall = _figure(
        figures.recall_plot(e),
        "Recall of each class",
        "The share of a class that was recognized, with its 95 % interval; in parentheses its number of "
        f"pictures. The dotted line is the accuracy over all pictures.{limit}",
    )
    calibration = _figure(
        figures.calibration_plot(e),
        "Calibration",
        "Can its confidence be believed? Dots below the dotted line: it is too sure of itself; above: it is "
        "right more often than it claims. The larger a dot, the more pictures.",
    )
    return f'<div class="figures">{matrix}<div>{recall}{calibration}</div></div>'


def _mistakes(e: Evaluation, picture: PictureOf) -> str:
    num_wrong = e.n - e.num_right
    if not num_wrong:
        return "<p>No picture was labeled wrongly.</p>"
    shown = "" if len(e.worst) == num_wrong else f" Here are the {len(e.worst)} that it was most sure of."
    cards = (_card(picture, m.index, m.label, m.predicted, m.probability, m.path) for m in e.worst)
    return (
        f"<p>{counted(num_wrong, 'mistake')} in {counted(e.n, 'picture')}.{shown} A wrong label in the data "
        "looks like a confident mistake, so check first whether the true label is true.</p>\n"
        f'<div class="cards">{"".join(cards)}</div>'
    )


def _samples(samples: Sequence[tuple[int, str, str, float]], picture: PictureOf) -> str:
    cards = "".join(_card(picture, *sample) for sample in samples)
    return f'<p>Some of the pictures, right or wrong.</p>\n<div class="cards">{cards}</div>'


def _card(picture: PictureOf, index: int, label: str, predicted: str, probability: float, path: str = "") -> str:
    try:
        shown = f'<img alt="" src="{_data_uri(picture(index))}">'
    except (PellucidError, OSError) as error:
        shown = f"<p>{_safe(error)}</p>"
    kind, mark = ("right", "✓") if label == predicted else ("wrong", "✗")
    return (
        f'<div class="card"><div class="picture">{shown}</div>\n'
        f'<p class="{kind}">{mark} says <b>{_safe(predicted)}</b>, {_percent(probability)}</p>\n'
        f'<p>is <b>{_safe(label)}</b></p><p class="path">{_safe(path)}</p></div>\n'
    )


def _data_uri(picture: Image.Image) -> str:
    """A thumbnail as a data URI: PNG for small pictures, whose pixels stay squares; JPEG for photographs."""
    file = BytesIO()
    if max(picture.size) <= _SMALL:
        kind = "png"
        fit(picture, _THUMBNAIL).save(file, "PNG", optimize=True)
    else:
        kind = "jpeg"
        fit(picture, _THUMBNAIL).save(file, "JPEG", quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _class_table(e: Evaluation) -> str:
    heads = ("Class", "Pictures", "Precision", "Recall (95 % interval)", "F1")
    rows = "".join(
        f'<tr><th scope="row">{_safe(score.label)}</th><td>{score.n:,}</td><td>{number(score.precision)}</td>'
        f"<td>{score.recall if score.n else '–'}</td><td>{number(score.f1)}</td></tr>\n"
        for score in e.per_class
    )
    return (
        '<div class="scroll"><table>\n<thead><tr>'
        + "".join(f'<th scope="col">{head}</th>' for head in heads)
        + f"</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
        "<p>Precision: of the pictures that were given this label, the share that deserve it. Recall: of "
        "the pictures of this class, the share that were recognized. F1: their harmonic mean.</p>"
    )


def _made(made: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(value)}</dd>\n" for name, value in made.items())
    return f'<dl class="made">\n{items}</dl>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
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
.right { color: var(--accent); }
.wrong { color: var(--second); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem;
  margin: 0 0 0.75rem; }
th, td { padding: 0.3rem 1.1rem 0.3rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; }
th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
thead th { color: var(--faint); font-size: 0.8rem; }
.made { display: grid; grid-template-columns: minmax(5rem, max-content) 1fr; gap: 0.3rem 1.25rem; margin: 0; }
.made dd { font-family: ui-monospace, Consolas, monospace; font-size: 0.85rem; }
@media print { main { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } .scroll { overflow: visible; } svg { min-width: 0 !important; } }
"""
