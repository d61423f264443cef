"""The curves of a report: ROC, precision and recall, silence, damage, learning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pellucid.evaluation.chart import ACCENT, FAINT, INK, SECOND, page_style, svg
from pellucid.evaluation.growth import LearningCurve
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.ranking import OperatingPoint, Ranking
from pellucid.evaluation.robustness import Course, Robustness
from pellucid.evaluation.silence import RiskCoverage, Silence
from pellucid.evaluation.text import shorten

MAX_CURVES = 8


def risk_coverage_plot(curve: RiskCoverage, silence: Silence | None) -> str:
    """The share of wrong answers against the share of pictures that are answered, the surest first; a dot where `silence` ends."""
    n = len(curve.error)
    shown = np.unique(np.linspace(0, n - 1, min(n, 400)).astype(int))
    with page_style():
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(curve.error[-1], color=FAINT, linewidth=0.8, linestyle=":")
        axes.plot((shown + 1) / n, curve.error[shown], color=ACCENT)
        if silence and silence.answered:
            axes.plot(silence.answered / n, silence.error.value, "o", color=SECOND, markersize=6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
        axes.set(xlabel="answers, the surest first", ylabel="wrong", xlim=(-0.02, 1.02))
        axes.set_ylim(bottom=0, top=max(1.15 * float(curve.error[shown[shown >= n // 20]].max()), 0.01))
        return svg(figure, "risk")


def ranked_shown(rankings: Sequence[Ranking]) -> list[Ranking]:
    """Those whose curves a figure shows: at most eight, of the smallest area, the best first."""
    measured = sorted((r for r in rankings if len(r.curve)), key=lambda r: r.auc.value)
    return measured[:MAX_CURVES][::-1]


def roc_curves(shown: Sequence[Ranking], point: OperatingPoint | None) -> str:
    """Sensitivity against the false positive rate of each class, with the chosen point and its intervals."""
    with page_style():
        figure, axes = _curves("others taken for it (false positive rate)", "found (sensitivity)")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
        for ranking, style in zip(shown, _curve_styles(len(shown)), strict=True):
            axes.plot(ranking.curve[:, 1], ranking.curve[:, 0], label=_curve_label(ranking, ranking.auc), **style)
        if point:
            x = Interval(*(1 - v for v in (point.specificity.value, point.specificity.high, point.specificity.low)))
            _cross(axes, x, point.sensitivity)
        return _with_legend(figure, axes, "roc")


def precision_recall_curves(shown: Sequence[Ranking], point: OperatingPoint | None) -> str:
    """Precision against sensitivity (recall) of each class, with the chosen point and its intervals."""
    with page_style():
        figure, axes = _curves("found (sensitivity, recall)", "right among those taken for it (precision)")
        for ranking, style in zip(shown, _curve_styles(len(shown)), strict=True):
            label = _curve_label(ranking, ranking.average_precision)
            axes.plot(ranking.curve[:, 0], ranking.curve[:, 2], label=label, **style)
        if point:
            _cross(axes, point.sensitivity, point.precision)
        return _with_legend(figure, axes, "precision-recall")


def robustness_curves(r: Robustness) -> str:
    """The mean score of each family of damage against its severity."""
    families: dict[str, list[Course]] = {}
    for course in r.corruptions:
        families.setdefault(course.family, []).append(course)
    with page_style():
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="severity", ylim=(0, 1.02))
        axes.axhline(r.clean.value, color=FAINT, linewidth=0.8, linestyle=":")
        for (family, courses), style in zip(families.items(), _curve_styles(len(families)), strict=True):
            means = np.mean([[level.score.value for level in c.levels] for c in courses], axis=0)
            axes.plot([0, 1, 2, 3, 4, 5], [r.clean.value, *means], label=family, marker="o", markersize=3, **style)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)
        return _with_legend(figure, axes, "damage")


def sweep_curve(course: Course, clean: float) -> str:
    """The score with its interval against the level of one sweep."""
    with page_style():
        figure = Figure(figsize=(3.2, 2.4), layout="constrained")
        axes = figure.add_subplot(xlabel=course.unit, ylim=(0, 1.02))
        axes.axhline(clean, color=FAINT, linewidth=0.8, linestyle=":")
        levels = [level.level for level in course.levels]
        low, high = ([getattr(level.score, end) for level in course.levels] for end in ("low", "high"))
        axes.fill_between(levels, low, high, color=ACCENT, alpha=0.15, linewidth=0)
        axes.plot(levels, [level.score.value for level in course.levels], color=ACCENT, marker="o", markersize=3)
        if levels[0] < 1:  # the further to the right, the worse
            axes.invert_xaxis()
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)
        return svg(figure, course.name)


def growth_plot(curve: LearningCurve) -> str:
    """Accuracy with its interval against the number of training pictures, and the power law where there is one."""
    sizes = np.array([point.trained_on for point in curve.points])
    with page_style():
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="training pictures", ylabel="accuracy", xscale="log")
        if curve.law:
            x = np.geomspace(sizes[0], 2 * sizes[-1], 60)
            axes.plot(x, [1 - curve.law.error(size) for size in x], "--", color=SECOND, linewidth=1)
            doubled = curve.law.doubled
            axes.plot([2 * sizes[-1]] * 2, [doubled.low, doubled.high], color=SECOND, linewidth=2, alpha=0.5)
        for size, point in zip(sizes, curve.points, strict=True):
            axes.plot([size] * 2, [point.accuracy.low, point.accuracy.high], color=ACCENT, linewidth=2, alpha=0.5)
        axes.plot(sizes, [point.accuracy.value for point in curve.points], "o-", color=ACCENT, markersize=5)
        ticks = [*sizes.tolist(), *([2 * sizes[-1]] if curve.law else [])]
        axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.6)
        return svg(figure, "growth")


def _curves(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)
    return figure, axes


def _curve_styles(count: int) -> Iterator[dict[str, Any]]:
    for k in range(count):
        color, line = (ACCENT, SECOND)[k % 2], ("-", "--", "-.", ":")[k // 2 % 4]
        yield {"color": color, "linestyle": line, "linewidth": 1.3, "drawstyle": "default"}


def _curve_label(ranking: Ranking, area: Interval) -> str:
    return f"{shorten(ranking.label, 18)} {area.value:.3f}"


def _cross(axes: Axes, x: Interval, y: Interval) -> None:
    """A point with its intervals along both axes."""
    if math.isfinite(x.value) and math.isfinite(y.value):
        axes.plot([x.low, x.high], [y.value] * 2, color=INK, linewidth=1.2)
        axes.plot([x.value] * 2, [y.low, y.high], color=INK, linewidth=1.2)
        axes.plot(x.value, y.value, "o", color=INK, markersize=5)


def _with_legend(figure: Figure, axes: Axes, name: str) -> str:
    for text in axes.legend(
        frameon=False, fontsize=8, loc="lower right" if name == "roc" else "lower left"
    ).get_texts():
        text.set_parse_math(False)
    return svg(figure, name)
