"""demo, check, train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.app import STARTED, Json, Source, app, print_result
from pellucid.cli.settings import with_settings
from pellucid.config import METRICS, DataConfig, ModelConfig, TrainConfig
from pellucid.terminal import TrainingScreen, progress


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Run folder to make.  [default: runs/DATE-digits-N]")] = None,
    as_json: Json = False,
) -> None:
    """The whole story on 1,797 real handwritten digits: check, train, evaluate, predict."""
    from pellucid.demo import demo as run_demo

    with TrainingScreen() as screen:
        story = run_demo(out=out, on_event=screen)
    print_result(
        story.to_dict(), as_json,
        f"{story.check}\n\n{story.test}\n\n"
        f"run      {story.run}\n"
        f"report   {story.run.path / 'reports' / 'test.html'}\n"
        f"answers  {story.sheet}\n\n"
        f"Next: pellucid check YOUR-FOLDER, then pellucid train YOUR-FOLDER",
    )  # fmt: skip


@app.command()
@with_settings(DataConfig)
def check(
    data: Source,
    settings: dict[str, Any],
    sheet: Annotated[Path | None, typer.Option(help="Write a PNG with sample pictures of every class.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="What train --augment POLICY would do to them; the sheet shows it.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that shows what was found, side by side.")] = None,
    fix: Annotated[Path | None, typer.Option(help="Write a CSV table without what is wrong, to train on.")] = None,
    as_json: Json = False,
) -> None:
    """Look before training: unreadable files, duplicates, conflicts, leaks, poor pictures, what a crop would hide."""
    from pellucid.data.check import check as check_data
    from pellucid.data.check import sample_pictures
    from pellucid.data.fix import mend
    from pellucid.data.reopen import open_with
    from pellucid.files import atomic_write, png_bytes

    config = DataConfig(**settings)
    with progress(f"getting {data}") as show:
        dataset = open_with(data, config, progress=show)
    treated = None
    if augment:
        from pellucid.training.preview import preview

        with progress("treating pictures") as show:
            treated = preview(dataset, augment, config, progress=show)
    with progress("reading pictures") as show:
        mended = mend(dataset, fix, near=config.near, progress=show) if fix else None
        found = check_data(dataset, size=config.input_size(), near=config.near, progress=show)
    content, text = found.to_dict(), str(found)
    if treated:
        content["augmentation"] = treated.to_dict()
        text += f"\n{treated}"
    if sheet or html:  # half a second to import, for those who look
        from pellucid.evaluation.check_page import render_check
        from pellucid.evaluation.draw import as_image, drawn_channels, grid_sheet
    if sheet:
        rows = [] if treated else sample_pictures(dataset, per_class=10, picture=as_image)
        atomic_write(sheet, png_bytes(treated.sheet() if treated else grid_sheet(rows)))
        content["sheet"] = str(sheet)
        text += f"\nsheet  {sheet}"
        text += "".join(
            f"\n       {drawn}" for k in found.sizes.get("channels", ()) if (drawn := drawn_channels(int(k)))
        )
    if html:
        atomic_write(html, render_check(found, dataset, picture=as_image).encode())
        content["html"] = str(html)
        text += f"\nhtml   {html}"
    if mended:
        content["fix"] = mended.to_dict()
        text += f"\nfix    {mended}"
    print_result(content, as_json, text)


@app.command()
@with_settings(DataConfig, ModelConfig, TrainConfig)
def train(
    settings: dict[str, Any],
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="As for check; not needed with --resume.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make.  [default: runs/DATE-NAME-N]")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this interrupted run, exactly as it would have.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier; everything not given is chosen, and said why."""
    if (data is None) == (resume is None):
        raise typer.BadParameter("Give the data set to train on, or --resume RUN, and not both.")
    from pellucid.training.pipeline import resume as go_on
    from pellucid.training.pipeline import train as train_run

    with TrainingScreen() as screen:
        if resume is not None:
            run = go_on(resume, on_event=screen, started=STARTED)
        else:
            run = train_run(str(data), out=out, on_event=screen, started=STARTED, **settings)
    content = run.read()
    result = {"run": str(run), "state": content["state"], "seconds": content["seconds"]}
    if "members" not in content:
        result |= {
            "epochs": content["epochs"], "model": content["architecture"]["name"], "parameters": content["parameters"],
            "valid": content.get("valid"),
        }  # fmt: skip
    if content["state"] == "interrupted":
        print_result(result, as_json, f"Interrupted; everything is saved. Go on with:\n  pellucid train --resume {run}")
        raise typer.Exit(130)
    if "members" in content:
        _print_series(run, result, as_json)
        return
    metric, score = next((name, content["valid"][name]) for name in METRICS if name in content["valid"])
    print_result(
        result, as_json,
        f"validation {METRICS[metric]} {score['value']:.4f} ({score['low']:.4f} to {score['high']:.4f}, "
        f"n {content['valid']['n']:,}) after {content['seconds']:.0f} s\n"
        f"run   {run}\n"
        f"next  pellucid evaluate {run}\n"
        f"      pellucid predict {run} PICTURES",
    )  # fmt: skip


def _print_series(run: Any, result: dict[str, Any], as_json: bool) -> None:
    from pellucid.evaluation.series import evaluate_series

    found = evaluate_series(run)
    report = run.path / "reports" / f"{found.split}.html"
    print_result(
        result | found.to_dict() | {"report": str(report)}, as_json,
        f"{found}\n\nreport  {report}\nrun     {run}\nnext    {found.next_step(run)}",
    )  # fmt: skip
