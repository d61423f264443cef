"""An evaluation in words and as a terminal table; names that users chose, made safe to show on one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.evaluation.metrics import Evaluation

_JOINERS = "\u200c\u200d"  # invisible, but they shape Persian and Indic words
_MAX_CLASSES_IN_TABLE = 30
_NAME = 32  # characters of a class name in the table, 60 in sentences
_EXAMPLE = 0.9  # the confidence that the verdict likes to speak of


def printable(text: object) -> str:
    r"""`text` on one line: control characters, direction marks and broken bytes become escapes like \n."""
    return "".join(
        c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode("ascii") for c in str(text)
    )


def shorten(text: object, length: int) -> str:
    """`text`, made printable and at most `length` characters long; an ellipsis stands for what is missing.

    The ellipsis is in the middle: names of classes often begin alike and differ at the end.
    """
    shown = printable(text)
    if len(shown) <= length:
        return shown
    tail = (length - 1) // 2
    return shown[: length - 1 - tail] + "…" + shown[len(shown) - tail :]


def percent(share: float) -> str:
    """0.9123 as '91.2 %'."""
    return f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """A score with three decimals; a dash when it is undefined."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """'1 picture', '1,000 pictures'."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def verdict(evaluation: Evaluation) -> Iterator[str]:
    """Three to five plain sentences for somebody who reads nothing else."""
    e = evaluation
    yield (
        f"{e.num_right:,} of {counted(e.n, f'{printable(e.split)} picture')} "
        f"{'is' if e.n == 1 else 'are'} labeled correctly: "
        f"{percent(e.accuracy.value)}, with a 95 % interval from {percent(e.accuracy.low)} to "
        f"{percent(e.accuracy.high)} ({e.interval_method.replace('wilson', 'Wilson')})."
    )
    yield _baseline_sentence(e)
    weakest = e.weakest()[0]
    if weakest.recall.value < 1:
        yield (
            f"The weakest class is '{shorten(weakest.label, 60)}': {percent(weakest.recall.value)} of its "
            f"{counted(weakest.n, 'picture')} are recognized ({percent(weakest.recall.low)} to "
            f"{percent(weakest.recall.high)})."
        )
    for true, predicted, count in e.confusions(1):
        yield (
            f"The most frequent confusion is '{shorten(true, 60)}' taken for '{shorten(predicted, 60)}': "
            f"{counted(count, 'picture')}."
        )
    yield _calibration_sentence(e)


def table(evaluation: Evaluation) -> Iterator[str]:
    """The lines of the terminal text: verdict, scores, a table of classes, confusions and notes."""
    e = evaluation
    yield from verdict(e)
    yield ""
    yield f"accuracy  {e.accuracy}   balanced accuracy  {e.balanced_accuracy}   macro-F1  {e.macro_f1}"
    yield f"mean ROC AUC  {e.auc}   calibration error (ECE)  {e.ece:.3f}"
    yield ""
    yield "baselines on the same pictures"
    for baseline in e.baseline.values():
        yield f"  {baseline}"
    if e.point:
        yield ""
        yield printable(e.point)
    yield ""
    crowded = len(e.classes) > _MAX_CLASSES_IN_TABLE
    scores = e.weakest(10) if crowded else e.per_class
    width = max(len("class"), *(len(shorten(score.label, _NAME)) for score in scores))
    areas = {ranking.label: ranking.auc for ranking in e.rankings}
    yield f"{'class':<{width}}  {'n':>7}  {'precision':<24}  {'recall':<24}  {'F1':<24}  ROC AUC"
    for score in scores:
        yield (
            f"{shorten(score.label, _NAME):<{width}}  {score.n:>7,}  {score.precision!s:<24}  {score.recall!s:<24}  "
            f"{score.f1!s:<24}  {areas.get(score.label, '')}"
        ).rstrip()
    if crowded:
        yield f"(the {len(scores)} classes of lowest recall, of {len(e.classes):,})"
    if confusions := e.confusions():
        yield ""
        yield "most frequent confusions (true > predicted)"
        for true, predicted, count in confusions:
            yield f"  {shorten(true, _NAME)} > {shorten(predicted, _NAME)}: {count:,}"
    if e.confidence:
        yield ""
        yield from map(printable, e.confidence.sentences())
    if e.robustness:
        yield f"\n{e.robustness}"
    for note in e.notes:
        yield ""
        yield f"Note: {printable(note)}"


def _baseline_sentence(e: Evaluation) -> str:
    """The classifier beside always giving one answer, and beside the best of the nearest neighbors."""
    majority, *others = e.baseline.values()
    better = "clearly better" if e.accuracy.low > majority.accuracy.value else "not clearly better than that"
    text = (
        f"Always answering '{shorten(e.majority, 60)}' would be right for {percent(majority.accuracy.value)}; the classifier is "
        f"{better}."
    )
    if others:
        best = max(others, key=lambda baseline: baseline.accuracy.value)
        text += f" The majority of {best.rule} would be right for {percent(best.accuracy.value)}."
    return text


def _calibration_sentence(e: Evaluation) -> str:
    said = sum(b.n * b.confidence for b in e.calibration) / e.n
    if said > e.accuracy.high:
        judgment = "so it is too sure of itself"
    elif said < e.accuracy.low:
        judgment = "so it is right more often than it claims"
    else:
        judgment = "which agrees"
    example = min(e.calibration, key=lambda b: abs(b.confidence - _EXAMPLE))
    if example.n < 10 or abs(example.confidence - _EXAMPLE) > 0.05:
        example = max(e.calibration, key=lambda b: b.n)
    return (
        f"It claims to be {percent(said)} sure on average and is right for {percent(e.accuracy.value)}, "
        f"{judgment}; when it says about {100 * example.confidence:.0f} %, it is right for "
        f"{100 * example.accuracy:.0f} % ({counted(example.n, 'picture')})."
    )
