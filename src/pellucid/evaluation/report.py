"""One HTML file that tells how good a classifier is: to a physician in sentences, to an engineer in figures.

It carries its pictures and figures inside, runs no script and fetches nothing (a content policy forbids it):
it opens offline, prints, and can be sent by mail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pellucid.config import METRICS
from pellucid.evaluation import figures
from pellucid.evaluation.draw import as_image
from pellucid.evaluation.labels import LabelsEvaluation
from pellucid.evaluation.metrics import Evaluation
from pellucid.evaluation.number import NumberEvaluation
from pellucid.evaluation.page import (
    PictureOf,
    card,
    figure,
    html_percent,
    html_range,
    render_page,
    safe,
    section,
    sentence,
    table,
    verdict,
)
from pellucid.evaluation.report_confidence import confidence_body
from pellucid.evaluation.report_labels import label_sections
from pellucid.evaluation.report_number import number_sections
from pellucid.evaluation.report_ranking import threshold_section
from pellucid.evaluation.report_robustness import robustness_section
from pellucid.evaluation.text import counted, number

_METRIC_CAPTIONS = {
    "macro_f1": "The mean F1 over the classes on the validation pictures after each epoch; it chose the weights that were kept.",
    "accuracy": "The share of the validation pictures that were labeled correctly after each epoch.",
    "average_precision": "How well the validation pictures were ordered by each label's probability after each epoch; 1 is perfect.",
    "mae": "How far the answers for the validation pictures were off on average after each epoch: lower is better.",
}


def render_report(
    *,
    title: str,
    evaluation: Evaluation | LabelsEvaluation | NumberEvaluation,
    history: Sequence[Mapping[str, Any]],
    picture: PictureOf,
    samples: Sequence[tuple[int, str, str, float]],
    made: Mapping[str, str],
    changed: np.ndarray | None = None,
    prior: Mapping[str, Any] | None = None,
    health: Sequence[Mapping[str, Any]] = (),
    warnings: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The report as the text of one self-contained HTML file.

    history: a mapping of each epoch with "epoch", "train_loss", "valid_loss" and "valid_" + the task's metric; may be
    empty.
    picture: the picture of an index as the user sees it; where it cannot be read, the report says why.
    samples: (index, true answer, given answer, probability) of what to show. made: how it was made.
    changed: uint8 (H, W, C), a picture as the network takes it, to show on it what was done to test its robustness.
    prior: what a balanced training found of both ways to answer, see training.prior.
    health, warnings: the events of these names that the training left.
    """
    curves = section("How the training went", _curves(history)) if history else ""
    doctor = section("Training health", _health(health, warnings)) if health else ""
    lead, *others = score_sections(evaluation, picture, samples)
    if prior and isinstance(evaluation, Evaluation):
        others += [section("What balancing did", _balance_table(evaluation, prior))]
    robust = ""
    if changed is not None and not isinstance(evaluation, NumberEvaluation) and evaluation.robustness:
        robust = section("Where it breaks", robustness_section(evaluation.robustness, changed, as_image))
    return render_page(title, [lead, curves, doctor, *others, robust], made)


def score_sections(
    evaluation: Evaluation | LabelsEvaluation | NumberEvaluation,
    picture: PictureOf,
    samples: Sequence[tuple[int, str, str, float]],
) -> list[str]:
    """The sections of HTML that tell the scores; the first one is the verdict."""
    if isinstance(evaluation, LabelsEvaluation):
        return label_sections(evaluation, picture, samples)
    if isinstance(evaluation, NumberEvaluation):
        return number_sections(evaluation, picture, samples)
    return _class_sections(evaluation, picture, samples)


def _class_sections(e: Evaluation, picture: PictureOf, samples: Sequence[tuple[int, str, str, float]]) -> list[str]:
    best = max(e.baseline.values(), key=lambda baseline: baseline.accuracy.value)
    between = f"{number(e.auc.low)} to {number(e.auc.high)}"
    tiles = (
        ("Accuracy", html_percent(e.accuracy.value), html_range(e.accuracy)),
        ("Macro-F1", html_percent(e.macro_f1.value), html_range(e.macro_f1)),
        ("Balanced accuracy", html_percent(e.balanced_accuracy.value), html_range(e.balanced_accuracy)),
        *([("Mean ROC AUC", number(e.auc.value), between)] if math.isfinite(e.auc.value) else []),
        ("Best baseline", html_percent(best.accuracy.value), safe(best.rule)),
        ("Calibration error", html_percent(e.ece), "ECE, 15 bins"),
        ("Pictures", f"{e.n:,}", f"{safe(e.split)}, {counted(len(e.classes), 'class', 'classes')}"),
    )
    return [
        verdict(e.verdict(), e.notes, tiles),
        section("Where it is right and where it is wrong", _figures(e)),
        section("Can it be believed, and when is it silent?", confidence_body(e.confidence)) if e.confidence else "",
        section("At every threshold", threshold_section(e.rankings, e.point)) if math.isfinite(e.auc.value) else "",
        section("Beside simpler rules", _baseline_table(e)),
        section("Most confident mistakes", _mistakes(e, picture)),
        section("Sample pictures", _samples(samples, picture)) if samples else "",
        section("Scores of every class", _class_table(e)),
    ]


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    loss = figure(figures.loss_curves(history), "Loss", "The loss after each epoch: lower is better.")
    metric = next((name for name in METRICS if f"valid_{name}" in history[-1]), "accuracy")
    score = figure(figures.metric_curve(history, metric), f"Validation {METRICS[metric]}", _METRIC_CAPTIONS[metric])
    return f'<div class="figures">{loss}{score}</div>'


def _health(health: Sequence[Mapping[str, Any]], warnings: Sequence[Mapping[str, Any]]) -> str:
    told = {
        (w["kind"], w["layers"][0]): f"Step {w['step']:,}: {w['text']}" for w in reversed(warnings)
    }  # the first of each
    notes = "".join(f'<p class="note">{sentence(text)}</p>\n' for text in reversed(told.values()))
    gradients = figure(
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
    matrix = figure(
        figures.confusion_matrix(e),
        "Confusion matrix",
        "Numbers of pictures: true classes in rows, predicted ones in columns. The stronger the color, the "
        f"larger the share of its row. Right answers lie on the diagonal; all else is a mistake.{limit}",
    )
    recall = figure(
        figures.recall_plot(e),
        "Recall of each class",
        "The share of a class that was recognized, with its 95 % interval; in parentheses its number of "
        f"pictures. The dotted line is the accuracy over all pictures.{limit}",
    )
    calibration = figure(
        figures.calibration_plot(e.calibration),
        "Calibration",
        "Can its confidence be believed? Dots below the dotted line: it is too sure of itself; above: it is "
        "right more often than it claims. The larger a dot, the more pictures.",
    )
    return f'<div class="figures">{matrix}<div>{recall}{"" if e.confidence else calibration}</div></div>'


def _mistakes(e: Evaluation, picture: PictureOf) -> str:
    num_wrong = e.n - e.num_right
    if not num_wrong:
        return "<p>No picture was labeled wrongly.</p>"
    shown = "" if len(e.worst) == num_wrong else f" Here are the {len(e.worst)} that it was most sure of."
    cards = (_class_card(picture, m.index, m.label, m.predicted, m.probability, m.path) for m in e.worst)
    return (
        f"<p>{counted(num_wrong, 'mistake')} in {counted(e.n, 'picture')}.{shown} A wrong label in the data "
        "looks like a confident mistake, so check first whether the true label is true.</p>\n"
        f'<div class="cards">{"".join(cards)}</div>'
    )


def _samples(samples: Sequence[tuple[int, str, str, float]], picture: PictureOf) -> str:
    cards = "".join(_class_card(picture, *sample) for sample in samples)
    return f'<p>Some of the pictures, right or wrong.</p>\n<div class="cards">{cards}</div>'


def _class_card(picture: PictureOf, index: int, label: str, predicted: str, probability: float, path: str = "") -> str:
    says = f"<b>{safe(predicted)}</b>, {html_percent(probability)}"
    return card(picture, index, label == predicted, says, f"<b>{safe(label)}</b>", path)


def _class_table(e: Evaluation) -> str:
    heads = ["Class", "Pictures", "Precision", "Recall", "F1", "ROC AUC"]
    areas = {ranking.label: ranking.auc for ranking in e.rankings}
    known = any(s.share is not None for s in e.per_class)
    rows = [
        (safe(s.label), f"{s.n:,}", str(s.precision), str(s.recall), str(s.f1), str(areas.get(s.label, "–")),
         *([html_percent(s.share or 0.0)] if known else []))
        for s in e.per_class
    ]  # fmt: skip
    return table([*heads, "Share in training"] if known else heads, rows) + (
        "<p>Precision: of the pictures that were given this label, the share that deserve it. Recall: of "
        "the pictures of this class, the share that were recognized. F1: their harmonic mean. ROC AUC: how often a picture of the "
        "class gets a higher probability of it than one of another class. All with 95 % intervals.</p>"
    )


def _balance_table(e: Evaluation, prior: Mapping[str, Any]) -> str:
    """Recall of each class, rarest first, beside its share, with both ways to answer."""
    words = {"equal": "equally frequent", "data": "as frequent as in the data"}
    scores = sorted(e.per_class, key=lambda score: score.share or 0.0)
    rows = [
        (safe(s.label), html_percent(s.share or 0.0), str(s.recall),
         *(number(prior["recall"][way].get(s.label)) for way in ("equal", "data")))
        for s in scores
    ]  # fmt: skip
    heads = (
        "Class",
        "Share in training",
        "Recall here",
        "In validation, as if equally frequent",
        "as frequent as in the data",
    )
    macro = prior["macro_f1"]
    return (
        f"<p>The training saw classes about equally often. It answers as if they were {words[prior['taken']]}; macro-F1 on "
        f"{prior['n']:,} validation pictures: {macro['equal']:.3f} as if equally frequent, {macro['data']:.3f} as frequent as in the "
        "data. The second is right more often and gives rare classes away.</p>"
    ) + table(heads, rows)


def _baseline_table(e: Evaluation) -> str:
    rows = [
        ("the classifier", str(e.accuracy), str(e.macro_f1), f"{e.n:,}"),
        *((safe(b.rule), str(b.accuracy), str(b.macro_f1), f"{b.n:,}") for b in e.baseline.values()),
    ]
    neighbors = (
        " Neighbors in plain pixels need no network; neighbors in what the network sees before its last layer say what that layer "
        "adds."
    ) * (len(e.baseline) > 1)
    told = f"<p>What simpler rules would have scored on the same pictures.{neighbors}</p>"
    return table(("Rule", "Accuracy (95 % interval)", "Macro-F1", "Pictures"), rows) + told
