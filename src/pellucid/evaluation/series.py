"""The report of a run that holds several trainings: folds, or a learning curve."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from PIL import Image

from pellucid.config import METRICS
from pellucid.data.reopen import reopen
from pellucid.errors import RunError
from pellucid.evaluation.change import change_by_verdicts
from pellucid.evaluation.curves import growth_plot
from pellucid.evaluation.draw import as_image
from pellucid.evaluation.figures import interval_plot
from pellucid.evaluation.folds import FoldsEvaluation, evaluate_folds
from pellucid.evaluation.growth import LearningCurve, evaluate_growth
from pellucid.evaluation.page import (
    PictureOf,
    figure,
    how_trained,
    html_percent,
    html_range,
    render_page,
    safe,
    section,
    table,
    verdict,
)
from pellucid.evaluation.report import score_sections
from pellucid.files import atomic_write, write_json
from pellucid.run import Run, members_of


def evaluate_series(run: Run) -> FoldsEvaluation | LearningCurve:
    """Puts the trainings of `run` together and writes reports/folds or reports/learning-curve, .json and .html.

    Raises RunError when one of them is not finished.
    """
    content = run.read()
    if waiting := [member.path.name for member in members_of(run) if member.read()["state"] != "finished"]:
        raise RunError(
            f"'{run}' is not finished: {', '.join(waiting)} of {len(content['members'])} trainings are left. Go on with: pellucid "
            f"train --resume {run}"
        )
    made = {"Pictures": content["source"], "Data fingerprint": content["fingerprint"], **how_trained(content)}
    found: FoldsEvaluation | LearningCurve
    if content["config"]["train"]["learning_curve"]:
        found = evaluate_growth(run)
        sections = growth_sections(found)
    else:
        found = evaluate_folds(run)
        changed = change_by_verdicts(content, found.answers)
        found = replace(found, pooled=replace(found.pooled, notes=(*changed, *found.pooled.notes)))
        sections = _fold_sections(found, picture_of(content, found.answers.paths))
    page = render_page(f"{content['name']}: {found.split}", sections, made)
    write_json(run.path / "reports" / f"{found.split}.json", found.to_dict())
    atomic_write(run.path / "reports" / f"{found.split}.html", page.encode())
    return found


def _fold_sections(found: FoldsEvaluation, picture: PictureOf) -> list[str]:
    lead, *others = score_sections(found.pooled, picture, ())
    values = [fold.score for fold in found.folds]
    tiles = (
        ("Mean of the folds", f"{found.mean:.4g}", METRICS[found.metric]),
        ("From fold to fold", f"{found.std:#.2g}", "standard deviation"),
        ("Folds", f"{len(values)}", "by group" if found.group else "of single pictures"),
    )
    heads = ("Fold", "Trained on", "Tested", "Groups", METRICS[found.metric].capitalize(), "Macro-F1")
    rows = [
        (
            safe(fold.name), f"{fold.trained_on:,}", f"{fold.n:,}", f"{fold.groups:,}" if fold.groups else "–", str(fold.score),
            str(fold.macro_f1 or "–"),
        )
        for fold in found.folds
    ]  # fmt: skip
    plot = ""
    if found.metric != "mae":
        shares = [(fold.name, fold.n, fold.score) for fold in found.folds]
        plot = figure(
            interval_plot(shares, found.mean, "folds", start=math.floor(10 * min(v.low for v in values)) / 10),
            METRICS[found.metric].capitalize(),
            "Each fold with its 95 % interval; in parentheses its pictures. The dotted line is the mean of the folds.",
        )
    note = (
        "<p>Each picture is tested once, by a network that was trained, stopped and chosen without its fold. The folds share "
        "training pictures, so their spread shows how much a result depends on the pictures, and is no standard error.</p>"
    )
    return [
        verdict(list(found.sentences()), (), tiles),
        section("Every fold", note + table(heads, rows) + plot),
        lead.replace("<section>", "<section>\n<h2>All pictures, each answered out of fold</h2>", 1),
        *others,
    ]


def growth_sections(curve: LearningCurve) -> list[str]:
    """The sections of HTML about a learning curve."""
    last = curve.points[-1]
    tiles = [("Accuracy", html_percent(last.accuracy.value), html_range(last.accuracy)),
             ("Trained on", f"{last.trained_on:,}", "pictures")]  # fmt: skip
    if curve.law:
        doubled = curve.law.doubled
        tiles.append(("With twice as many", html_percent(doubled.value), f"{html_range(doubled)}, extrapolated"))
    picture = figure(
        growth_plot(curve),
        "Accuracy",
        f"On the same {curve.n:,} test pictures, with 95 % intervals ({safe(curve.interval_method.capitalize())}). "
        + ("Dashed: the power law that the errors follow." if curve.law else ""),
    )
    shares = table(
        ("Share", "Trained on", "Accuracy"),
        [(safe(p.name), f"{p.trained_on:,}", str(p.accuracy)) for p in curve.points],
    )
    classes = table(
        ("Class", "Trained on", "Half of it", "Tested", "Recall", "Gain of the last doubling"),
        [
            (safe(c.label), f"{c.trained_on:,}", f"{c.half:,}", f"{c.n:,}", str(c.recall), str(c.gain))
            for c in curve.classes
        ],
    )
    why = (
        "<p>What recall gained from the last doubling of the training pictures, with a 95 % interval over the test pictures. One "
        "training stands behind each share, so a small gain may be its luck.</p>"
    )
    return [
        verdict(list(curve.sentences()), (), tiles),
        section("Accuracy against training pictures", picture + shares),
        section("Which class needs pictures next", why + classes),
    ]


def picture_of(content: dict[str, Any], paths: tuple[str, ...]) -> PictureOf:
    """The pictures of a run by their place in `paths`. One from arrays in memory has none to show."""
    opened: dict[str, Any] = {}

    def picture(index: int) -> Image.Image:
        if not opened:
            dataset = reopen(content)
            opened.update(dataset=dataset, place={item.path: i for i, item in enumerate(dataset.items)})
        if paths[index] not in opened["place"]:
            raise RunError(f"'{paths[index]}' is no longer there")
        return as_image(opened["dataset"].picture(opened["place"][paths[index]]).pixels)

    return picture
