"""The application that every command registers with, the arguments that several share, and how a result is printed."""

from __future__ import annotations

import time

STARTED = time.monotonic()  # a time limit covers the whole command, imports included

import json  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Annotated, Any  # noqa: E402

import typer  # noqa: E402

from pellucid.terminal import harmless  # noqa: E402

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
Network = Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run folder, or a network's name with --weights.")]
Weights = Annotated[str | None, typer.Option(help="For a name: imagenet, or a .safetensors file.")]
Labels = Annotated[
    Path | None, typer.Option(help="For a name: the classes, a line each, or JSON.  [default: ImageNet's]")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that train made.")]


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


def print_result(content: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=True) if as_json else harmless(text))
