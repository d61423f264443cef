"""evaluate, suspects, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.app import Engine, Json, RunPath, app, print_result
from pellucid.terminal import progress, say


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help="Other labelled pictures.")] = None,
    split: Annotated[str, typer.Option(help="Which part to measure on: test, validation or train.")] = "test",
    abstain: Annotated[
        float | None,
        typer.Option(help="Measure silence that keeps mistakes below this share of the answers.  [default: 0.05]"),
    ] = None,
    sets: Annotated[
        float | None, typer.Option(help="Measure label sets that hold the true class this often.  [default: 0.9]")
    ] = None,
    unlike: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of other things, to measure how well they are told; may be repeated."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Also measure a threshold on the probability of this class.")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="Choose it for this sensitivity on the validation part.  [default: it is 0.5]")
    ] = None,
    specificity: Annotated[float | None, typer.Option(help="Or for this specificity.")] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also under noise, blur, weather, damage, turned, resized, relit.")
    ] = False,
    engine: Engine = "auto",
    as_json: Json = False,
) -> None:
    """Measure a classifier on pictures it has not seen, and write the report."""
    from pellucid.evaluation.measure import evaluate as measure

    with progress("looking at pictures") as show:
        evaluation = measure(
            run, data, split=split, abstain=abstain, sets=sets, unlike=unlike or (), positive=positive,
            sensitivity=sensitivity, specificity=specificity, robustness=robustness, engine=engine, on_engine=say, progress=show,
        )  # fmt: skip
    report = run / "reports" / f"{evaluation.split}.html"
    print_result(evaluation.to_dict() | {"report": str(report)}, as_json, f"{evaluation}\n\nreport  {report}")


@app.command()
def suspects(run: RunPath, as_json: Json = False) -> None:
    """List the labels that may be wrong, for your verdict; RUN was trained with --folds. Nothing is changed."""
    from pellucid.evaluation.suspects import find_suspects

    found = find_suspects(run)
    print_result(found.to_dict(), as_json, f"{found}\n\ntable  {found.table}\nhtml   {found.page}")


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders; the others are held against the first.")
    ],
    data: Annotated[str | None, typer.Option(help="Other labelled pictures to compare them on.")] = None,
    split: Annotated[str, typer.Option(help="Which part of their own to compare them on.")] = "test",
    engine: Engine = "auto",
    as_json: Json = False,
) -> None:
    """Which run is better, by a paired test on the same pictures."""
    from pellucid.evaluation.compare import compare as compare_runs

    with progress("looking at pictures") as show:
        found = compare_runs(runs, data, split=split, engine=engine, progress=show)
    print_result(found.to_dict(), as_json, str(found))
