"""What a report shows of a classifier's confidence: reliability before and after calibration, silence, label sets, other pictures."""

from __future__ import annotations

from pellucid.evaluation import curves, figures
from pellucid.evaluation.confidence import Confidence
from pellucid.evaluation.page import figure, html_percent, html_range, safe, sentence, table


def confidence_body(c: Confidence, *, labels: bool = False) -> str:
    """Figures and tables in HTML; `labels`: the classifier gives any number of labels."""
    return _calibration(c, labels) + _silence(c) + _sets(c) + _unlike(c)


def _calibration(c: Confidence, labels: bool) -> str:
    says, is_so = ("probability of a label", "the label is there") if labels else ("says it is sure", "is right")
    drawn = "The larger a dot, the more pictures. Dots below the dotted line: it is too sure of itself; above: it is right more often than it says."
    shown = [("after", "Calibration", c.after)]
    if c.method:
        shown = [("before", "As the network says it", c.before), ("after", "Calibrated", c.after)]
    plots = "".join(
        figure(
            figures.calibration_plot(s.bins, says=says, is_so=is_so, name=f"calibration-{name}"), heading,
            drawn if name == "after" else "",
        )
        for name, heading, s in shown
    )  # fmt: skip
    rows = [(heading, f"{s.ece:.4f}", f"{s.nll:.4f}", f"{s.brier:.4f}") for _, heading, s in shown]
    method = (
        f"<p>Fitted on the validation pictures alone ({safe(c.method)}), measured here on others. "
        if c.method
        else "<p>The probabilities are not calibrated. "
    )
    return (
        f'<div class="figures">{plots}</div>'
        + table(("Probabilities", "Calibration error (ECE)", "Log loss", "Brier score"), rows)
        + method
        + "The calibration error is the mean distance of the dots from the line; all three scores are 0 at best.</p>\n"
    )


def _silence(c: Confidence) -> str:
    if c.curve is None:
        return ""
    curve = figure(
        curves.risk_coverage_plot(c.curve, c.silence),
        "Wrong answers, when only the surest are given",
        f"The lower, the better. The area below the curve is {c.curve.area:.4f}; {c.curve.best:.4f} would be perfect with as many "
        f"mistakes, and {c.curve.error[-1]:.4f} means that its confidence says nothing (the dotted line)."
        + (" The dot: where it falls silent to keep the promise." if c.silence and c.silence.answered else ""),
    )
    words = f"<p>{sentence(str(c.silence.threshold))}</p>\n<p>{sentence(str(c.silence))}</p>\n" if c.silence else ""
    return f"<h3>Silence</h3>\n{words}{curve}"


def _sets(c: Confidence) -> str:
    if not c.sets:
        return ""
    rows = [
        (s.rule.method.upper(), html_percent(s.rule.coverage), f"{html_percent(s.coverage.value)} ({html_range(s.coverage)})",
         f"{s.mean_size:.2f}", html_percent(s.single))
        for s in c.sets
    ]  # fmt: skip
    heads = ("Label sets", "Promised", "Hold the true class (95 % interval)", "Classes on average", "Sets of one class")
    return "<h3>Label sets</h3>\n" + table(heads, rows) + f"<p>{sentence(str(c.sets[0].rule))}</p>\n"


def _unlike(c: Confidence) -> str:
    if c.flagged is None:
        return ""
    words = f"<p>{html_percent(c.flagged)} of the pictures here are flagged as unlike those of the training; of the validation pictures "
    words += f"it is {sentence('1 %')} by design.</p>\n"
    rows = [(safe(u.name), f"{u.n:,}", str(u.auroc), html_percent(u.flagged)) for u in c.unlike]
    heads = ("Pictures of another kind", "Pictures", "AUROC (95 % interval)", "Flagged")
    return "<h3>Unlike the training pictures</h3>\n" + words + (table(heads, rows) if rows else "")
