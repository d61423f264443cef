"""The command line: parse, call, print. Every command is one function of the package; nothing is decided here."""

from __future__ import annotations

import time

STARTED = time.monotonic()  # a time limit covers the whole command, imports included

import inspect  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import MISSING, fields  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated, Any, Literal, get_type_hints  # noqa: E402

import typer  # noqa: E402

from pellucid.config import METRICS, CautionConfig, DataConfig, ModelConfig, TrainConfig  # noqa: E402
from pellucid.errors import PellucidError  # noqa: E402
from pellucid.terminal import TrainingScreen, harmless, progress, say  # noqa: E402

app = typer.Typer(
    name="pellucid",
    help="Image classifiers you can see through: from a folder of labelled pictures to a classifier you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder of class folders, a zip, a CSV or Parquet table, 'digits', or a well-known set like mnist.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help="How the network is run: auto (the fastest way with the same answers), 'torch fp32', openvino ..."
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that train made.")]


def main() -> None:
    """Runs the command line; exits 0, 1 (an error told in a paragraph), 2 (usage) or 130 (interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names that are no valid text
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        app(args=arguments)
    except PellucidError as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        say(f"{type(error).__name__}: {error}")
        sys.exit(1)


def command() -> None:
    """`main` for the shell. It leaves without taking torch down in order, which takes up to a second."""
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else end.code is not None)


@app.callback(
    invoke_without_command=True,
    epilog="Any command takes --debug, which shows where in the code an error comes from.",
)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from pellucid import __version__

        typer.echo(__version__)
        raise typer.Exit


def _with_settings(*configs: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command one flag for each field of `configs`; the command receives them as the dict `settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        generated = [_flag(config, field.name) for config in configs for field in fields(config)]

        def with_flags(**arguments: Any) -> None:
            settings = {parameter.name: arguments.pop(parameter.name) for parameter in generated}
            command(**arguments, settings=settings)

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *generated]]
        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {p.name: p.annotation for p in parameters}
        with_flags.__name__, with_flags.__doc__ = command.__name__, command.__doc__
        return with_flags

    return decorate


def _flag(config: type, name: str) -> inspect.Parameter:
    field = next(f for f in fields(config) if f.name == name)
    assert field.default is not MISSING
    choices = field.metadata["choices"]
    group = {DataConfig: "Data", ModelConfig: "Network", TrainConfig: "Training", CautionConfig: "Caution"}.get(config)
    option = typer.Option(help=field.metadata["help"], rich_help_panel=group)
    hint = get_type_hints(config)[name]
    if choices:
        hint = Literal[choices] if isinstance(field.default, str) else Literal[choices] | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=Annotated[hint, option]
    )


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Run folder to make.  [default: runs/DATE-digits-N]")] = None,
    as_json: Json = False,
) -> None:
    """The whole story on 1,797 real handwritten digits: check, train, evaluate, predict."""
    from pellucid.demo import demo as run_demo

    with TrainingScreen() as screen:
        story = run_demo(out=out, on_event=screen)
    _print(
        story.to_dict(), as_json,
        f"{story.check}\n\n{story.test}\n\n"
        f"run      {story.run}\n"
        f"report   {story.run.path / 'reports' / 'test.html'}\n"
        f"answers  {story.sheet}\n\n"
        f"Next: pellucid check YOUR-FOLDER, then pellucid train YOUR-FOLDER",
    )  # fmt: skip


@app.command()
@_with_settings(DataConfig)
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
        from pellucid.evaluation.draw import grid_sheet
        from pellucid.evaluation.predict import as_image, drawn_channels
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
    _print(content, as_json, text)


@app.command()
@_with_settings(DataConfig, ModelConfig, TrainConfig)
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
        _print(result, as_json, f"Interrupted; everything is saved. Go on with:\n  pellucid train --resume {run}")
        raise typer.Exit(130)
    if "members" in content:
        _print_series(run, result, as_json)
        return
    metric, score = next((name, content["valid"][name]) for name in METRICS if name in content["valid"])
    _print(
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
    _print(
        result | found.to_dict() | {"report": str(report)}, as_json,
        f"{found}\n\nreport  {report}\nrun     {run}\nnext    {found.next_step(run)}",
    )  # fmt: skip


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

    with progress("reading pictures") as show:
        evaluation = measure(
            run, data, split=split, abstain=abstain, sets=sets, unlike=unlike or (), positive=positive,
            sensitivity=sensitivity, specificity=specificity, robustness=robustness, engine=engine, on_engine=say, progress=show,
        )  # fmt: skip
    report = run / "reports" / f"{evaluation.split}.html"
    _print(evaluation.to_dict() | {"report": str(report)}, as_json, f"{evaluation}\n\nreport  {report}")


@app.command()
def suspects(run: RunPath, as_json: Json = False) -> None:
    """List the labels that may be wrong, for your verdict; RUN was trained with --folds. Nothing is changed."""
    from pellucid.evaluation.suspects import find_suspects

    found = find_suspects(run)
    _print(found.to_dict(), as_json, f"{found}\n\ntable  {found.table}\nhtml   {found.page}")


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

    with progress("reading pictures") as show:
        found = compare_runs(runs, data, split=split, engine=engine, progress=show)
    _print(found.to_dict(), as_json, str(found))


@app.command()
@_with_settings(CautionConfig)
def predict(
    settings: dict[str, Any],
    run: Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run folder, or a network's name with --weights.")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Pictures, folders, or patterns in quotes.")],
    top: Annotated[int, typer.Option(min=1, help="How many labels a picture.")] = 3,
    csv: Annotated[Path | None, typer.Option(help="Write the answers to this CSV file.")] = None,
    draw: Annotated[Path | None, typer.Option(help="Write each picture with its labels into this folder.")] = None,
    weights: Annotated[str | None, typer.Option(help="For a name: imagenet, or a .safetensors file.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="For a name: the classes, a line each, or JSON.  [default: ImageNet's]")
    ] = None,
    engine: Engine = "auto",
    as_json: Json = False,
) -> None:
    """Answer for pictures: classes, labels or a number; a file that cannot be read gets an error row and the rest goes on."""
    from pellucid.evaluation.caution import make_caution
    from pellucid.evaluation.predict import Drawer, drawn_channels, find_pictures, predict_files, write_csv
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
    _print([a.to_dict(top) for a in answers], as_json, "\n".join(lines))


@app.command()
def summary(
    model: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A name, a network as text, or a run folder.")],
    input_shape: Annotated[str | None, typer.Option("--input", help="Channels x height x width.")] = None,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 10,
    versus_dense: Annotated[
        bool,
        typer.Option("--versus-dense", help="Also the parameters of fully connected layers in place of convolutions."),
    ] = False,
    as_json: Json = False,
) -> None:
    """The layer table of a network: output shape, parameters, multiply-adds, receptive field."""
    from pellucid.model.describe import summary_of, versus_dense_of

    table = summary_of(model, input_shape=input_shape, num_classes=classes)
    content, text = table.to_dict(), str(table)
    if versus_dense:
        versus = versus_dense_of(model, input_shape=input_shape, num_classes=classes)
        content, text = content | {"versus_dense": versus.to_dict()}, f"{text}\n\n{versus}"
    _print(content, as_json, text)


@app.command()
def models(
    pattern: Annotated[
        str | None, typer.Argument(metavar="[PATTERN]", help="A part of a name, or a pattern in quotes like 'resnet*'.")
    ] = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="Count parameters, with 1,000 classes.")] = False,
    as_json: Json = False,
) -> None:
    """The networks that --model knows: those of the courses first; with a pattern also those of timm and torchvision."""
    from pellucid.model.catalog import list_networks

    with progress("counting parameters") as show:
        found = list_networks(pattern, parameters=parameters, progress=show)
    _print(found.to_dict(), as_json, str(found))


def _print(content: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=True) if as_json else harmless(text))
