"""explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.app import Json, Labels, Network, Weights, app, print_result
from pellucid.terminal import progress, say


@app.command()
def explain(
    run: Network,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Pictures, folders, or patterns in quotes.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="grad-cam, integrated-gradients, smoothgrad, occlusion, shapley, or all; may be repeated.  "
            "[default: grad-cam, or occlusion where no layer has maps]"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Explain this class or label, not the answer.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="The layer that Grad-CAM draws.  [default: found by running]")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="In place of PATH, a part of the run's own pictures: test, validation or train.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Of more pictures, so many are drawn at random.")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="The folder for page and pictures.  [default: explain, or RUN/reports/explain]")
    ] = None,
    weights: Weights = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 0,
    as_json: Json = False,
) -> None:
    """Heat maps of what speaks for an answer, and whether to believe them."""
    from pellucid.explain.heat_report import explain_pictures
    from pellucid.model.pretrained import open_classifier

    classifier = open_classifier(run, weights=weights, labels=labels)
    with progress("explaining") as show:
        report = explain_pictures(
            classifier, run, paths or [], split=split, methods=method or (), label=label, layer=layer, limit=limit, out=out,
            seed=seed, on_engine=say, progress=show,
        )  # fmt: skip
    print_result(report.to_dict(), as_json, f"{report}\n\npage  {report.page}")
