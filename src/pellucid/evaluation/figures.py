"""The figures of a report as inline SVG that follows the page's colors, light or dark.

Matplotlib draws with stand-in colors, which become CSS variables of the page. The strength of one color,
never its hue, carries the meaning, so the figures survive color blindness and a black-and-white printer.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pellucid.evaluation.growth import LearningCurve
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.metrics import CalibrationBin, Evaluation
from pellucid.evaluation.ranking import OperatingPoint, Ranking
from pellucid.evaluation.robustness import Course, Robustness
from pellucid.evaluation.silence import RiskCoverage, Silence
from pellucid.evaluation.text import shorten

MAX_CURVES = 8
MAX_CLASSES = 50  # a figure shows at most so many; beyond, the weakest ones
_MAX_LAYERS = 8
_SHRINK = 0.7  # a figure shrinks this far on a narrow screen before it scrolls, so that it stays legible
_INK, _FAINT, _ACCENT, _SECOND, _CELL = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
    _CELL: "var(--cell)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and the browser has fonts for every script
    "svg.hashsalt": "pellucid",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}


def loss_curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Training and validation loss against the epoch."""
    with _style():
        figure, axes = _epochs(history)
        _line(axes, history, "train_loss", "training", _ACCENT, "-")
        _line(axes, history, "valid_loss", "validation", _SECOND, "--")
        if axes.lines:
            axes.legend(frameon=False)
        return _svg(figure, "loss")


def metric_curve(history: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The metric of the validation pictures against the epoch; accuracy in percent."""
    with _style():
        figure, axes = _epochs(history)
        _line(axes, history, f"valid_{metric}", "validation", _SECOND, "--")
        if metric in ("accuracy", "macro_f1"):
            axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        return _svg(figure, "accuracy")


def gradient_norms(health: Sequence[Mapping[str, Any]]) -> str:
    """Gradient norm of at most eight layers against the epoch, on a logarithmic axis; the last layer is the strongest."""
    names = _learning_layers(health)
    shown = [names[round(i)] for i in np.linspace(0, len(names) - 1, min(len(names), _MAX_LAYERS))]
    with _style():
        figure = Figure(figsize=(6.4, 2.9), layout="constrained")
        axes = figure.add_subplot(xlabel="epoch", ylabel="gradient norm")
        for position, name in enumerate(shown):
            rows = [(e["epoch"], row) for e in health for row in e["layers"] if row["name"] == name]
            points = [
                (epoch, row["gradient"]) for epoch, row in rows if _is_number(row.get("gradient")) and row["gradient"]
            ]
            strength = 0.25 + 0.75 * (position + 1) / len(shown)
            style = ("-", "--", ":")[position % 3]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=_ACCENT, alpha=strength, label=shorten(name, 22))
        if axes.lines:
            axes.set_yscale("log")
            for text in axes.legend(
                frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), reverse=True
            ).get_texts():
                text.set_parse_math(False)
        axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
        return _svg(figure, "gradients")


def layers_left_out(health: Sequence[Mapping[str, Any]]) -> str:
    """A sentence when `gradient_norms` does not show every layer, else nothing."""
    count = len(_learning_layers(health))
    return f" Shown are {_MAX_LAYERS} of {count} layers, evenly spaced." if count > _MAX_LAYERS else ""


def _learning_layers(health: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["name"] for row in health[0]["layers"] if "gradient" in row]


def confusion_matrix(evaluation: Evaluation) -> str:
    """Counts, true classes in rows; a cell is as strong as its share of its row."""
    shown = _shown(evaluation)
    counts = evaluation.confusion[np.ix_(shown, shown)]
    share = counts / np.maximum(evaluation.confusion[shown].sum(axis=1, keepdims=True), 1)
    font_size = 7 if len(shown) > 12 else 9
    letter = 0.0088 * font_size  # inches
    names = [shorten(evaluation.classes[k], 22) for k in shown]
    longest = letter * max(map(len, names))
    side = max(0.24, min(0.9, 4.2 / len(shown)), letter * len(f"{counts.max():,}"))  # inches a cell
    upright = longest < side
    with _style():
        width = side * len(shown) + longest + 0.4
        height = side * len(shown) + (0.2 if upright else longest) + 0.4
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        for (row, column), count in np.ndenumerate(counts):
            if count:
                strength = 0.06 + 0.94 * share[row, column]
                corner = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=_CELL, alpha=strength, linewidth=0))
                color = "#ffffff" if strength > 0.8 else _INK
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=font_size)
        ticks = range(len(shown))
        axes.set_xticks(ticks, names, rotation=0 if upright else 90, parse_math=False, fontsize=font_size)
        axes.set_yticks(ticks, names, parse_math=False, fontsize=font_size)
        axes.set_xticks(np.arange(len(shown) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(shown) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=_FAINT, alpha=0.3, linewidth=0.5)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted", ylabel="true", aspect="equal")
        axes.set(xlim=(-0.5, len(shown) - 0.5), ylim=(len(shown) - 0.5, -0.5))
        return _svg(figure, "confusion")


def recall_plot(evaluation: Evaluation) -> str:
    """Recall of each class with its interval, weakest on top, beside the accuracy over all pictures."""
    rows = [(score.label, score.n, score.recall) for score in evaluation.weakest(MAX_CLASSES)]
    return interval_plot(rows, evaluation.accuracy.value, "recall")


def interval_plot(rows: Sequence[tuple[str, int, Interval]], line: float, name: str) -> str:
    """A share with its interval for each (name, n, share), the first on top, beside that over everything."""
    with _style():
        figure = Figure(figsize=(5.0, 0.9 + 0.25 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(line, color=_FAINT, linewidth=0.8, linestyle=":")
        for row, (_, _, share) in enumerate(rows):
            axes.plot([share.low, share.high], [row, row], color=_ACCENT, linewidth=2, alpha=0.5)
            axes.plot(share.value, row, "o", color=_ACCENT, markersize=5)
        names = [f"{shorten(label, 22)} ({n:,})" for label, n, _ in rows]
        axes.set_yticks(range(len(rows)), names, parse_math=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=_FAINT, alpha=0.25, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6))
        return _svg(figure, name)


def calibration_plot(
    bins: Sequence[CalibrationBin], *, says: str = "says it is sure", is_so: str = "is right", name: str = "calibration"
) -> str:
    """How often it is right against how sure it says it is; a dot's area grows with its pictures."""
    with _style():
        figure = Figure(figsize=(3.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.8, linestyle=":")
        n = sum(b.n for b in bins)
        said, right = [b.confidence for b in bins], [b.accuracy for b in bins]
        axes.scatter(said, right, s=[12 + 250 * b.n / n for b in bins], color=_ACCENT, linewidths=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(color=_FAINT, alpha=0.25, linewidth=0.6)
        axes.set(xlabel=says, ylabel=is_so, aspect="equal", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        return _svg(figure, name)


def risk_coverage_plot(curve: RiskCoverage, silence: Silence | None) -> str:
    """The share of wrong answers against the share of pictures that are answered, the surest first; a dot where `silence` ends."""
    n = len(curve.error)
    shown = np.unique(np.linspace(0, n - 1, min(n, 400)).astype(int))
    with _style():
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(curve.error[-1], color=_FAINT, linewidth=0.8, linestyle=":")
        axes.plot((shown + 1) / n, curve.error[shown], color=_ACCENT)
        if silence and silence.answered:
            axes.plot(silence.answered / n, silence.error.value, "o", color=_SECOND, markersize=6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.grid(color=_FAINT, alpha=0.25, linewidth=0.6)
        axes.set(xlabel="answers, the surest first", ylabel="wrong", xlim=(-0.02, 1.02))
        axes.set_ylim(bottom=0, top=max(1.15 * float(curve.error[shown[shown >= n // 20]].max()), 0.01))
        return _svg(figure, "risk")


def scatter_plot(truth: np.ndarray, answers: np.ndarray, name: str, margin: float | None) -> str:
    """Answers against true numbers, a dot a picture; on the dotted line they agree, in the band they are `margin` off at most."""
    ends = np.array([min(truth.min(), answers.min()), max(truth.max(), answers.max())])
    pad = 0.04 * max(ends[1] - ends[0], 1e-9)
    with _style():
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        ends = ends + np.array([-pad, pad])
        if margin is not None:
            axes.fill_between(ends, ends - margin, ends + margin, color=_ACCENT, alpha=0.12, linewidth=0)
        axes.plot(ends, ends, color=_FAINT, linewidth=0.8, linestyle=":")
        axes.scatter(truth, answers, **_dots(len(truth)))
        axes.grid(color=_FAINT, alpha=0.25, linewidth=0.6)
        axes.set_xlabel(f"true {shorten(name, 40)}", parse_math=False)
        axes.set(ylabel="answer", aspect="equal", xlim=ends, ylim=ends)
        return _svg(figure, "scatter")


def residual_plot(truth: np.ndarray, answers: np.ndarray, name: str, margin: float | None) -> str:
    """Answer minus truth against the true number: what lies above zero is answered too high."""
    with _style():
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.add_subplot()
        if margin is not None:
            axes.axhspan(-margin, margin, color=_ACCENT, alpha=0.12, linewidth=0)
        axes.axhline(0, color=_FAINT, linewidth=0.8, linestyle=":")
        axes.scatter(truth, answers - truth, **_dots(len(truth)))
        axes.grid(color=_FAINT, alpha=0.25, linewidth=0.6)
        axes.set_xlabel(f"true {shorten(name, 40)}", parse_math=False)
        axes.set(ylabel="answer − truth")
        return _svg(figure, "residuals")


def ranked_shown(rankings: Sequence[Ranking]) -> list[Ranking]:
    """Those whose curves a figure shows: at most eight, of the smallest area, the best first."""
    measured = sorted((r for r in rankings if len(r.curve)), key=lambda r: r.auc.value)
    return measured[:MAX_CURVES][::-1]


def roc_curves(shown: Sequence[Ranking], point: OperatingPoint | None) -> str:
    """Sensitivity against the false positive rate of each class, with the chosen point and its intervals."""
    with _style():
        figure, axes = _curves("others taken for it (false positive rate)", "found (sensitivity)")
        axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=0.8, linestyle=":")
        for ranking, style in zip(shown, _curve_styles(len(shown)), strict=True):
            axes.plot(ranking.curve[:, 1], ranking.curve[:, 0], label=_curve_label(ranking, ranking.auc), **style)
        if point:
            x = Interval(*(1 - v for v in (point.specificity.value, point.specificity.high, point.specificity.low)))
            _cross(axes, x, point.sensitivity)
        return _with_legend(figure, axes, "roc")


def precision_recall_curves(shown: Sequence[Ranking], point: OperatingPoint | None) -> str:
    """Precision against sensitivity (recall) of each class, with the chosen point and its intervals."""
    with _style():
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
    with _style():
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="severity", ylim=(0, 1.02))
        axes.axhline(r.clean.value, color=_FAINT, linewidth=0.8, linestyle=":")
        for (family, courses), style in zip(families.items(), _curve_styles(len(families)), strict=True):
            means = np.mean([[level.score.value for level in c.levels] for c in courses], axis=0)
            axes.plot([0, 1, 2, 3, 4, 5], [r.clean.value, *means], label=family, marker="o", markersize=3, **style)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
        return _with_legend(figure, axes, "damage")


def sweep_curve(course: Course, clean: float) -> str:
    """The score with its interval against the level of one sweep."""
    with _style():
        figure = Figure(figsize=(3.2, 2.4), layout="constrained")
        axes = figure.add_subplot(xlabel=course.unit, ylim=(0, 1.02))
        axes.axhline(clean, color=_FAINT, linewidth=0.8, linestyle=":")
        levels = [level.level for level in course.levels]
        low, high = ([getattr(level.score, end) for level in course.levels] for end in ("low", "high"))
        axes.fill_between(levels, low, high, color=_ACCENT, alpha=0.15, linewidth=0)
        axes.plot(levels, [level.score.value for level in course.levels], color=_ACCENT, marker="o", markersize=3)
        if levels[0] < 1:  # the further to the right, the worse
            axes.invert_xaxis()
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
        return _svg(figure, course.name)


def _curves(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(color=_FAINT, alpha=0.25, linewidth=0.6)
    return figure, axes


def _curve_styles(count: int) -> Iterator[dict[str, Any]]:
    for k in range(count):
        color, line = (_ACCENT, _SECOND)[k % 2], ("-", "--", "-.", ":")[k // 2 % 4]
        yield {"color": color, "linestyle": line, "linewidth": 1.3, "drawstyle": "default"}


def _curve_label(ranking: Ranking, area: Interval) -> str:
    return f"{shorten(ranking.label, 18)} {area.value:.3f}"


def _cross(axes: Axes, x: Interval, y: Interval) -> None:
    """A point with its intervals along both axes."""
    if math.isfinite(x.value) and math.isfinite(y.value):
        axes.plot([x.low, x.high], [y.value] * 2, color=_INK, linewidth=1.2)
        axes.plot([x.value] * 2, [y.low, y.high], color=_INK, linewidth=1.2)
        axes.plot(x.value, y.value, "o", color=_INK, markersize=5)


def _with_legend(figure: Figure, axes: Axes, name: str) -> str:
    for text in axes.legend(
        frameon=False, fontsize=8, loc="lower right" if name == "roc" else "lower left"
    ).get_texts():
        text.set_parse_math(False)
    return _svg(figure, name)


def growth_plot(curve: LearningCurve) -> str:
    """Accuracy with its interval against the number of training pictures, and the power law where there is one."""
    sizes = np.array([point.trained_on for point in curve.points])
    with _style():
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="training pictures", ylabel="accuracy", xscale="log")
        if curve.law:
            x = np.geomspace(sizes[0], 2 * sizes[-1], 60)
            axes.plot(x, [1 - curve.law.error(size) for size in x], "--", color=_SECOND, linewidth=1)
            doubled = curve.law.doubled
            axes.plot([2 * sizes[-1]] * 2, [doubled.low, doubled.high], color=_SECOND, linewidth=2, alpha=0.5)
        for size, point in zip(sizes, curve.points, strict=True):
            axes.plot([size] * 2, [point.accuracy.low, point.accuracy.high], color=_ACCENT, linewidth=2, alpha=0.5)
        axes.plot(sizes, [point.accuracy.value for point in curve.points], "o-", color=_ACCENT, markersize=5)
        ticks = [*sizes.tolist(), *([2 * sizes[-1]] if curve.law else [])]
        axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
        return _svg(figure, "growth")


def _dots(n: int) -> dict[str, Any]:
    """How dots are drawn: the more, the smaller and fainter."""
    size, alpha = (14, 0.5) if n <= 500 else (6, 0.35)
    return {"s": size, "alpha": alpha, "color": _ACCENT, "linewidths": 0}


def _shown(evaluation: Evaluation) -> list[int]:
    """Positions of the classes that a figure shows, in their usual order."""
    if len(evaluation.classes) <= MAX_CLASSES:
        return list(range(len(evaluation.classes)))
    weakest = {score.label for score in evaluation.weakest(MAX_CLASSES)}
    return [k for k, label in enumerate(evaluation.classes) if label in weakest]


def _epochs(history: Sequence[Mapping[str, Any]]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel="epoch", xlim=(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=_FAINT, alpha=0.25, linewidth=0.6)
    return figure, axes


def _line(axes: Axes, history: Sequence[Mapping[str, Any]], key: str, label: str, color: str, style: str) -> None:
    points = [(epoch["epoch"], epoch[key]) for epoch in history if _is_number(epoch.get(key))]
    if points:
        marker = "o" if len(points) <= 20 else None
        axes.plot(*zip(*points, strict=True), style, color=color, label=label, marker=marker, markersize=3)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _style() -> Any:
    return matplotlib.rc_context(_STYLE)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element with unique ids and without anything that an HTML page does not need."""
    text = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has other fonts
        FigureCanvasSVG(figure).print_svg(text, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = svg.replace("<svg", f'<svg style="min-width: {72 * _SHRINK * figure.get_figwidth():.0f}pt"', 1)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<[^<>]* (?:id="|xlink:href="#|clip-path="url\(#))', rf"\g<1>{name}-", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(f": {color}", f": {variable}")
    return svg
