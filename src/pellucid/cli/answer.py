"""predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.app import Engine, Json, Labels, Network, Weights, app, print_result
from pellucid.cli.settings import with_settings
from pellucid.config import CautionConfig
from pellucid.terminal import progress, say


@app.command()
@with_settings(CautionConfig)
def predict(
    settings: dict[str, Any],
    run: Network,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Pictures, folders, or patterns in quotes.")],
    top: Annotated[int, typer.Option(min=1, help="How many labels a picture.")] = 3,
    csv: Annotated[Path | None, typer.Option(help="Write the answers to this CSV file.")] = None,
    draw: Annotated[Path | None, typer.Option(help="Write each picture with its labels into this folder.")] = None,
    weights: Weights = None,
    labels: Labels = None,
    engine: Engine = "auto",
    as_json: Json = False,
) -> None:
    """Answer for pictures: classes, labels or a number; a file that cannot be read gets an error row and the rest goes on."""
    from pellucid.evaluation.caution import make_caution
    from pellucid.evaluation.draw import drawn_channels
    from pellucid.evaluation.predict import Drawer, find_pictures, predict_files, write_csv
    from pellucid.model.pretrained import open_classifier

    classifier = open_classifier(run, weights=weights, labels=labels)
    caution = make_caution(classifier, **settings)
    if weights:
        say(f"{classifier.architecture}: {classifier.weights['origin']}; pictures become {classifier.contract}")
    top = min(top, len(classifier.classes))
    files = find_pictures(paths)
    with progress("predicting") as show:
        drawer = Drawer(draw, top) if draw else None
        found = predict_files(
            classifier, files, caution=caution, engine=engine, on_engine=say, progress=show, on_picture=drawer
        )  # fmt: skip
        answers = list(found)
    if csv:
        write_csv(csv, answers, top, classifier, caution)
    lines = [answer.line(top) for answer in answers]
    if draw and (drawn := drawn_channels(classifier.contract.channels)):
        lines.append(f"The drawings show {drawn}.")
    for promise in caution.promises():
        say(promise)
    lines.extend(caution.counts([answer.prediction for answer in answers]))
    failed = sum(a.error is not None for a in answers)
    if failed:
        lines.append(f"{failed:,} of {len(answers):,} files could not be read.")
    print_result([a.to_dict(top) for a in answers], as_json, "\n".join(lines))
