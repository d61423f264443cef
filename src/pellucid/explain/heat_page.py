"""Explanations as one HTML page that opens offline: of one picture method by method, of many with means and average maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pellucid.evaluation.chart import ACCENT, FAINT, SECOND, page_style, svg
from pellucid.evaluation.draw import as_image, drawn_channels, fit
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.page import data_uri, render_page, safe, section, sentence, table, verdict
from pellucid.evaluation.text import counted, percent
from pellucid.explain.attribution import METHODS
from pellucid.explain.faithfulness import CELLS, MARGIN, SHARES, STEPS
from pellucid.explain.heat import Explanation, HeatMap
from pellucid.explain.heat_draw import GRAIN, LEVELS, SIDE, draw_curves, overlay
from pellucid.explain.heat_set import SCORES, Believed, ExplainedSet

_SHOWN = 24  # pictures of a set
_CLASSES = 30


def render_explanation(found: Explanation, made: Mapping[str, str]) -> str:
    """The page of one picture as text."""
    best = found.maps[0] if found.maps else None
    sentences = [f"{best.title} {best.verdict}" if best else "No map could be made.", f"The answer: {found.answer}."]
    notes = [f"{METHODS[method].title}: no map, {why}." for method, why in found.refused]
    if best and found.by_margin >= 0.5:
        notes.append(f"With the middle hidden, {percent(min(found.by_margin, 1))} of the answer's strength is left.")
    tiles = [
        (safe(heat.title), f"{heat.scores.road:.3f}", f"ROAD; deletion {heat.scores.deletion:.3f}")
        for heat in found.maps
    ]
    sections = [
        verdict(sentences, notes, tiles),
        *(section(safe(heat.title), _map(found, heat, index)) for index, heat in enumerate(found.maps)),
        section("What the figures mean", _meaning(found.pixels.shape[2])),
    ]
    return render_page(
        f"{Path(found.name).name}: what speaks for {found.label}", sections, {"Picture": found.name, **made}
    )


def render_set(found: ExplainedSet, made: Mapping[str, str]) -> str:
    """The page of many pictures as text; of long lists the beginning is shown."""
    sentences = [f"{each.title} {each.verdict}" for each in found.methods] + [found.margin_sentence]
    tiles = [
        (
            safe(each.title),
            f"{each.scores['road'].value:.3f}",
            f"ROAD, {each.scores['road'].low:.3f} to {each.scores['road'].high:.3f}",
        )
        for each in found.methods
    ]
    notes = [*found.warnings, *found.notes]
    if found.skipped:
        notes.append(
            f"{counted(len(found.skipped), 'picture')} left out, the first: {found.skipped[0][0]}: {found.skipped[0][1]}."
        )
    sections = [
        verdict(sentences, notes, tiles),
        *(section(safe(each.title), _method(each, found)) for each in found.methods),
        section("Pictures", _cards(found)),
        section("What the figures mean", _meaning(found.explanations[0].pixels.shape[2])),
    ]
    return render_page(f"{found.source}: where the classifier looks", sections, made)


def _map(found: Explanation, heat: HeatMap, index: int) -> str:
    method = METHODS[heat.method]
    small = min(found.pixels.shape[:2]) < SIDE // 4
    pictures = "".join(
        f"<figure>{_image(image, lossless=small)}<figcaption>{caption}</figcaption></figure>"
        for image, caption in (
            (fit(as_image(found.pixels), SIDE), "The picture as the network sees it."),
            (
                overlay(found.pixels, heat.values),
                f"What speaks for {safe(found.label)}: the more, the stronger the color.",
            ),
        )
    )
    charts = "".join(f"<figure>{_chart(heat, score, index)}</figure>" for score in ("deletion", "insertion"))
    rows = [
        (name, f"{s.deletion:.3f}", f"{s.insertion:.3f}", f"{s.road:.3f}")
        for name, s in ((safe(heat.title), heat.scores), ("Edges of the picture", heat.edges))
    ]
    random = [f"{np.mean([getattr(each, score) for each in heat.random]):.3f}" for score in SCORES]
    rows.append((f"Random map, mean of {len(heat.random)}", random[0], random[1], random[2]))
    layer = f" {safe(str(found.layer)).capitalize()}." if found.layer and method.needs_layer else ""
    like = "constant" if np.isnan(heat.similarity) else f"correlation {heat.similarity:.2f} with this one"
    return (
        f"<p><b>It {sentence(heat.verdict)}</b></p><p>{safe(method.how).capitalize()}.{layer} With random weights: {like}. "
        f"{sentence(percent(heat.in_margin))} of the heat lies in the outer margin.</p>"
        f'<div class="figures">{pictures}</div><div class="figures">{charts}</div>'
        + table(("", "deletion ↓", "insertion ↑", "ROAD ↑"), rows)
    )


def _chart(heat: HeatMap, score: str, index: int) -> str:
    with page_style():
        figure = Figure(figsize=(3.9, 2.8), layout="constrained")
        axes = figure.add_subplot(title=f"{score}: {'lower' if score == 'deletion' else 'higher'} is better")
        axes.title.set_fontsize(9)
        draw_curves(axes, heat, score, (ACCENT, FAINT, SECOND))
        return svg(figure, f"{score}-{index}")


def _method(each: Believed, found: ExplainedSet) -> str:
    def cells(row: Mapping[str, Interval]) -> list[str]:
        return [safe(row[score]) for score in SCORES]

    rows = [
        (safe(each.title), *cells(each.scores)),
        ("A random map", *cells(each.random)),
        ("Edges of the picture", *cells(each.edges)),
        ("Better than random by", *(safe(each.gains[score][0]) for score in SCORES)),
        ("Better than edges by", *(safe(each.gains[score][1]) for score in SCORES)),
    ]
    by_label: dict[str, list[np.ndarray]] = {}
    for explanation in found.explanations:
        by_label.setdefault(explanation.label, []).append(explanation.pixels)
    averages = sorted(each.averages.items(), key=lambda entry: -entry[1][0])[:_CLASSES]
    cards = "".join(
        f'<div class="card"><div class="picture">{_average(by_label[label], heat)}</div>'
        f"<p><b>{safe(label)}</b></p><p>{counted(n, 'picture')}</p></div>"
        for label, (n, heat) in averages
    )
    like = "constant maps" if np.isnan(each.similarity) else f"maps that correlate {each.similarity:.2f} with these"
    return (
        f"<p><b>It {sentence(each.verdict)}</b></p><p>{safe(METHODS[each.method].how).capitalize()}. Under random weights it gives {like}. "
        f"{sentence(percent(each.in_margin.value))} of the heat lies in the outer margin.</p>"
        + table((f"Mean of {counted(each.n, 'picture')}", "deletion ↓", "insertion ↑", "ROAD ↑"), rows)
        + f'<h3>Where it looks on average, over the mean picture</h3><div class="cards">{cards}</div>'
    )


def _average(pictures: list[np.ndarray], heat: np.ndarray) -> str:
    mean = np.stack(pictures).mean(axis=0).round().astype(np.uint8)
    return f'<img alt="" src="{data_uri(overlay(mean, heat, 224))}">'


def _cards(found: ExplainedSet) -> str:
    best = max(found.methods, key=lambda each: each.scores["road"].value)
    shown = found.explanations[:: max(1, len(found.explanations) // _SHOWN)][:_SHOWN]
    cards = "".join(
        f'<div class="card"><div class="picture"><img alt="" src="{data_uri(overlay(e.pixels, heat.values, 224))}"></div>'
        f'<p>{safe(e.answer.split(", ")[0])}</p><p class="{"right" if heat.believed else "wrong"}">{"✓ believe it" if heat.believed else "✗ not certain"}'
        f'</p><p class="path">{safe(e.name)}</p></div>'
        for e in shown
        for heat in e.maps
        if heat.method == best.method
    )
    return (
        f"<p>{safe(best.title)} of {len(shown)} of {counted(len(found.explanations), 'picture')}, evenly spaced. "
        "✓ where this one map beats both floors on deletion and ROAD.</p>"
        f'<div class="cards">{cards}</div>'
    )


def _image(image: Image.Image, *, lossless: bool) -> str:
    content = io.BytesIO()
    kind = "png" if lossless else "jpeg"
    image.convert("RGB").save(content, kind.upper(), quality=88)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    return f'<img alt="" width="{SIDE * 3 // 4}" src="data:image/{kind};base64,{data}">'


def _meaning(channels: int) -> str:
    shares = ", ".join(percent(share).replace(".0", "") for share in SHARES)
    drawn = drawn_channels(channels)
    lines = [
        f"The heat is shown in {GRAIN}x{GRAIN} cells and measured in {CELLS}x{CELLS} (in tiny pictures: in pixels); lines at {', '.join(f'{100 * level:.0f} %' for level in LEVELS)} of the strongest.",
        f"Deletion: the hottest cells are covered with the mean color of the pixel contract, in {STEPS} steps; the area below the answer, lower is better.",
        "Insertion: they are shown on a strongly blurred picture; the area, higher is better.",
        f"ROAD: the {shares} hottest or coolest cells are filled from their surroundings, so that no hole is seen; half the difference "
        "of the answers, higher is better.",
        "The floors, a random map and the edges (Sobel) of the picture, know nothing of the network and are measured in the same way.",
        "With random weights: the same network, its weights shuffled. A map that stays the same shows the picture, not the network.",
        f"The outer margin is an eighth ({MARGIN:.3f}) of each side, {percent(1 - (1 - 2 * MARGIN) ** 2)} of the area.",
    ]
    if drawn:
        lines.append(f"The pictures show {drawn}.")
    return "".join(f"<p>{sentence(line)}</p>" for line in lines)
