"""What a report shows of robustness: sentences, curves, a table of every level, and a picture under each kind of damage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from pellucid.data.corrupt import CHANGES
from pellucid.evaluation import curves
from pellucid.evaluation.page import data_uri, figure, html_percent, safe, sentence, table
from pellucid.evaluation.robustness import Course, Robustness


def robustness_section(r: Robustness, sample: np.ndarray, as_image: Callable[[np.ndarray], Image.Image]) -> str:
    """`sample` uint8 (H, W, C) is a picture as the network takes it, on which every change is shown."""
    damage = figure(
        curves.robustness_curves(r),
        "Damage",
        f"The {safe(r.metric)} as each family of damage grows more severe, the mean of its kinds. The dotted line is that of the "
        "untouched pictures.",
    )
    sweeps = "".join(
        figure(
            curves.sweep_curve(course, r.clean.value),
            course.name.capitalize(),
            f"The {safe(r.metric)} with its 95 % interval. {safe(_breaks(course))}",
        )
        for course in r.sweeps
    )
    return (
        "".join(f"<p>{sentence(text)}</p>\n" for text in r.verdict())
        + f'<div class="figures">{damage}{sweeps}</div>\n'
        + _corruption_table(r)
        + _strips(sample, as_image)
    )


def _breaks(course: Course) -> str:
    if course.breaks_at is None:
        return "It does not break."
    return f"It breaks at {course.breaks_at:g} {course.unit}: five points lost or more, beyond chance."


def _corruption_table(r: Robustness) -> str:
    heads = ["Damage", *(f"Severity {k}" for k in range(1, 6)), "Mean", "Breaks at"]
    rows = [
        (safe(c.name), *(f"{level.score}" for level in c.levels), html_percent(c.mean),
         "–" if c.breaks_at is None else f"{c.breaks_at:g}")
        for c in r.corruptions
    ]  # fmt: skip
    return table(heads, rows) + (
        "<p>Severities after Hendrycks and Dietterich (2019), scaled to the size of these pictures. It breaks where the score is five "
        "points or more below that of the untouched pictures, beyond chance.</p>"
    )


def _strips(sample: np.ndarray, as_image: Callable[[np.ndarray], Image.Image]) -> str:
    """One picture under every change, from the mildest level to the most severe."""
    batch = torch.from_numpy(sample[None].copy())
    rows = []
    for change in CHANGES:
        shown = [change.levels[round(k)] for k in np.linspace(0, len(change.levels) - 1, 5)]
        pictures = "".join(
            f'<img alt="{safe(change.name)} {level:g}" '
            f'src="{data_uri(as_image(change(batch, level, np.zeros(1, np.int64), seed=0)[0].numpy()))}">'
            for level in shown
        )
        rows.append(f'<div class="set"><h3>{safe(change.name)}</h3><div class="strip">{pictures}</div></div>')
    return f'<p>The same picture under each, from mild to severe.</p>\n<div class="sets">{"".join(rows)}</div>'
