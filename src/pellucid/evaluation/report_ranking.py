"""What a report shows of thresholds: ROC and precision-recall curves, and what happens at a chosen point."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.evaluation import curves
from pellucid.evaluation.page import figure, safe, sentence, table
from pellucid.evaluation.ranking import SCORES, OperatingPoint, Ranking


def threshold_section(rankings: Sequence[Ranking], point: OperatingPoint | None) -> str:
    """Both curves of each class or label, and the table of the point."""
    shown, limit = curves.ranked_shown(rankings), ""
    if len(shown) < len(rankings):
        limit = f" Shown are the {len(shown)} of the smallest area, of {len(rankings)}."
    roc = figure(
        curves.roc_curves(shown, point),
        "ROC curves",
        "For every threshold on the probability of a class: how many of its pictures are found (sensitivity) against how many others "
        f"are taken for it. The dotted line is guessing. In the legend the area under the curve.{limit}",
    )
    precision = figure(
        curves.precision_recall_curves(shown, point),
        "Precision-recall curves",
        "For every threshold: how many of those taken for the class are right, against how many of its pictures are found. In the "
        f"legend the average precision; guessing gives the share of the class.{limit}",
    )
    return f'<div class="figures">{roc}{precision}</div>' + (_point(point) if point else "")


def _point(point: OperatingPoint) -> str:
    rows = [(name.replace("_", " ").capitalize(), str(getattr(point, name)), _MEANING[name]) for name in SCORES]
    return (
        f"<p>A picture counts as '{safe(point.positive)}' from a probability of {point.threshold:.3g} on: the threshold with "
        f"{sentence(point.aim)} on {safe(point.chosen_on)}. On the pictures measured here:</p>"
        + table(("At this threshold", "Share (95 % interval)", "Meaning"), rows)
    )


_MEANING = {
    "sensitivity": "of the positive pictures, those that are found",
    "specificity": "of the others, those that are left alone",
    "precision": "of those called positive, those that are",
    "negative_predictive_value": "of those called negative, those that are",
}
