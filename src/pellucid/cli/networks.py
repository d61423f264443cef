"""summary, models."""

from __future__ import annotations

from typing import Annotated

import typer

from pellucid.cli.app import Json, app, print_result
from pellucid.terminal import progress


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
    """The layer table of a network: output shape, parameters, multiply-adds, memory, receptive field."""
    from pellucid.model.describe import summary_of, versus_dense_of

    table = summary_of(model, input_shape=input_shape, num_classes=classes)
    content, text = table.to_dict(), str(table)
    if versus_dense:
        versus = versus_dense_of(model, input_shape=input_shape, num_classes=classes)
        content, text = content | {"versus_dense": versus.to_dict()}, f"{text}\n\n{versus}"
    print_result(content, as_json, text)


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
    print_result(found.to_dict(), as_json, str(found))
