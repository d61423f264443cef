"""What a report shows of a classifier that gives any number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pellucid.evaluation import figures
from pellucid.evaluation.labels import LabelsEvaluation
from pellucid.evaluation.page import PictureOf, card, figure, html_percent, html_range, safe, section, table, verdict
from pellucid.evaluation.report_confidence import confidence_body
from pellucid.evaluation.report_ranking import threshold_section
from pellucid.evaluation.text import counted


def label_sections(
    e: LabelsEvaluation, picture: PictureOf, samples: Sequence[tuple[int, str, str, float]]
) -> list[str]:
    """The verdict, then figures, mistakes, samples and the table of labels."""
    always = ", ".join(e.baseline["labels"]) or "none"
    tiles = [
        ("All labels right", html_percent(e.subset_accuracy.value), html_range(e.subset_accuracy)),
        ("Mean average precision", html_percent(e.average_precision.value), html_range(e.average_precision)),
        ("Micro-F1", html_percent(e.micro_f1.value), html_range(e.micro_f1)),
        ("Macro-F1", html_percent(e.macro_f1.value), html_range(e.macro_f1)),
        ("Baseline, all right", html_percent(e.baseline["subset_accuracy"]), f"always '{safe(always)}'"),
        ("Pictures", f"{e.n:,}", f"{safe(e.split)}, {counted(len(e.classes), 'label')}"),
    ]
    tiles = [tile if "nan" not in tile[1] else (tile[0], "–", "not measured") for tile in tiles]
    return [
        verdict(e.verdict(), e.notes, tiles),
        section("Where it is right and where it is wrong", _figures(e)),
        section("Can its probabilities be believed?", confidence_body(e.confidence, labels=True))
        if e.confidence
        else "",
        section("At every threshold", threshold_section(e.rankings, e.point))
        if any(len(r.curve) for r in e.rankings)
        else "",
        section("Most confident mistakes", _mistakes(e, picture)),
        section("Sample pictures", _samples(samples, picture)) if samples else "",
        section("Scores of every label", _label_table(e)),
    ]


def _figures(e: LabelsEvaluation) -> str:
    weakest = e.weakest(figures.MAX_CLASSES)
    limit = f" Shown are the {len(weakest)} weakest of {len(e.classes):,}." if len(weakest) < len(e.classes) else ""
    shown = (
        figure(
            figures.interval_plot(
                [(s.label, s.n, s.average_precision) for s in weakest], e.average_precision.value, "precision"
            ),
            "Average precision of each label",
            "How well pictures with the label are put before those without it, with its 95 % interval; in parentheses the number "
            f"of pictures that have it. The dotted line is the mean.{limit}",
        )
        if weakest and math.isfinite(e.average_precision.value)
        else ""
    )
    calibration = figure(
        figures.calibration_plot(e.calibration, says="probability of a label", is_so="the label is there"),
        "Calibration",
        "Can its probabilities be believed? Dots below the dotted line: labels are there more rarely than it says; above: more "
        "often. The larger a dot, the more labels of pictures.",
    )
    return f'<div class="figures">{shown}{"" if e.confidence else calibration}</div>'


def _mistakes(e: LabelsEvaluation, picture: PictureOf) -> str:
    num_wrong = e.n - e.num_right
    if not num_wrong:
        return "<p>No picture has a wrong label.</p>"
    shown = "" if len(e.worst) == num_wrong else f" Here are the {len(e.worst)} where it was most sure of a wrong one."
    cards = (
        card(picture, m.index, False, f"<b>{safe(m.predicted)}</b>", f"<b>{safe(m.label)}</b>", m.path) for m in e.worst
    )
    return (
        f"<p>{counted(num_wrong, 'picture')} of {e.n:,} with a label too many or too few.{shown} A wrong label in the data looks "
        f'like a confident mistake, so check first whether the true labels are true.</p>\n<div class="cards">{"".join(cards)}</div>'
    )


def _samples(samples: Sequence[tuple[int, str, str, float]], picture: PictureOf) -> str:
    cards = "".join(
        card(picture, index, truth == given, f"<b>{safe(given)}</b>", f"<b>{safe(truth)}</b>")
        for index, truth, given, _ in samples
    )
    return f'<p>Some of the pictures, right or wrong.</p>\n<div class="cards">{cards}</div>'


def _label_table(e: LabelsEvaluation) -> str:
    heads = (
        "Label",
        "Pictures",
        "Missed",
        "Given wrongly",
        "Average precision (95 % interval)",
        "ROC AUC",
        "Precision",
        "Recall",
        "F1",
    )
    rows = [
        (safe(s.label), f"{s.n:,}", f"{s.missed:,}", f"{s.false:,}", str(s.average_precision), str(s.auc), str(s.precision),
         str(s.recall), str(s.f1))
        for s in e.per_label
    ]  # fmt: skip
    return table(heads, rows) + (
        "<p>Average precision: how well pictures with the label are put before those without it by its probability. Precision: "
        "of the pictures that are given the label, the share that have it. Recall: of the pictures that have it, the share that "
        "are given it. F1: their harmonic mean. A label is given from a probability of a half on.</p>"
    )
