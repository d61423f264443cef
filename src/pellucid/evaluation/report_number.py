"""What a report shows of a network that answers with a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.evaluation import figures
from pellucid.evaluation.number import NumberEvaluation
from pellucid.evaluation.page import PictureOf, card, figure, html_percent, html_range, safe, section, table, verdict

_MAX_DOTS = 2000  # each is an element of the page


def number_sections(
    e: NumberEvaluation, picture: PictureOf, samples: Sequence[tuple[int, str, str, float]]
) -> list[str]:
    """The verdict, then figures, the farthest answers, samples and the table of scores."""
    median, mean = e.baseline["median"], e.baseline["mean"]
    tiles = [
        ("Mean absolute error", e.written(e.mae.value), f"{e.written(e.mae.low)} to {e.written(e.mae.high)}"),
        ("Root mean square error", e.written(e.rmse.value), f"{e.written(e.rmse.low)} to {e.written(e.rmse.high)}"),
        ("Baseline", e.written(median["mae"]), f"error when always {e.written(median['number'])}"),
        ("Pictures", f"{e.n:,}", safe(e.split)),
    ]
    if e.within is not None and e.margin is not None:
        tiles.insert(2, (f"Within ± {e.written(e.margin)}", html_percent(e.within.value), html_range(e.within)))
    rows = [
        (
            "Mean absolute error",
            e.interval(e.mae),
            f"{e.written(median['mae'])} (always {e.written(median['number'])})",
        ),
        (
            "Root mean square error",
            e.interval(e.rmse),
            f"{e.written(mean['rmse'])} (always {e.written(mean['number'])})",
        ),
        ("R²", str(e.r2), "0 at most"),
        ("Bias", e.interval(e.bias), "–"),
    ]
    scores = table(("Score", "This network (95 % interval)", "Always the median or mean"), rows) + (
        "<p>Mean absolute error: how far answers are off on average. Root mean square error: the same, with large errors "
        "counting more. R²: the share of the differences between pictures that is explained. Bias: the mean of answer minus "
        "truth.</p>"
    )
    return [
        verdict(e.verdict(), e.notes, tiles),
        section("How answers and true numbers lie", _figures(e)),
        section("Farthest off", _worst(e, picture)),
        section("Sample pictures", _samples(e, samples, picture)) if samples else "",
        section("Scores", scores),
    ]


def _figures(e: NumberEvaluation) -> str:
    band = "" if e.margin is None else " The band is the interval that it gives around its answers, for nine in ten."
    dots = np.random.default_rng(0).permutation(e.n)[:_MAX_DOTS]
    if e.n > _MAX_DOTS:
        band += f" Shown are {_MAX_DOTS:,} of {e.n:,} pictures, drawn at random."
    scatter = figure(
        figures.scatter_plot(e.truth[dots], e.answers[dots], e.name, e.margin),
        "Answers against true numbers",
        f"A dot a picture. On the dotted line the answer is true; above it is too high, below too low.{band}",
    )
    residuals = figure(
        figures.residual_plot(e.truth[dots], e.answers[dots], e.name, e.margin),
        "How far it is off",
        "Answer minus truth. Dots that fall from left to right: small numbers are answered too high and large ones too low.",
    )
    return f'<div class="figures">{scatter}{residuals}</div>'


def _worst(e: NumberEvaluation, picture: PictureOf) -> str:
    cards = (
        card(
            picture, miss.index, None, f"<b>{e.written(miss.answer)}</b>", f"<b>{e.written(miss.truth)}</b>", miss.path
        )
        for miss in e.worst
    )
    return (
        "<p>The pictures whose answer is farthest from the truth. A wrong number in the data looks like this too, so check "
        f'first whether the true number is true.</p>\n<div class="cards">{"".join(cards)}</div>'
    )


def _samples(e: NumberEvaluation, samples: Sequence[tuple[int, str, str, float]], picture: PictureOf) -> str:
    cards = "".join(
        card(picture, index, None, f"<b>{e.written(e.answers[index])}</b>", f"<b>{e.written(e.truth[index])}</b>")
        for index, *_ in samples
    )
    return f'<p>Some of the pictures.</p>\n<div class="cards">{cards}</div>'
