"""activations, filters, visualise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.app import Json, Labels, Network, Weights, app, print_result
from pellucid.terminal import progress

Top = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Your pictures, which of them excite each channel most: a folder, a data set, or own for those of RUN.",
    ),
]
Pictures = Annotated[int, typer.Option(min=1, help="Of these, look at no more than so many, drawn at random.")]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="POINT", help="Hold RUN against itself at this point: initial (before training), or a checkpoint."
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for the pictures.  [default: reports of RUN, else where you are]")
]


@app.command()
def activations(
    run: Network,
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="A picture; not needed with --top.")] = None,
    layer: Annotated[str, typer.Option(help="A layer as summary names it, or all.")] = "all",
    scale: Annotated[str, typer.Option(help="What shares one scale of colors: map, layer or global.")] = "layer",
    channels: Annotated[
        int | None, typer.Option(min=1, help="Channels shown of a layer.  [default: 64 of one, 10 of each of all]")
    ] = None,
    top: Top = None,
    pictures: Pictures = 2000,
    against: Against = None,
    out: Out = None,
    weights: Weights = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """What the channels of a layer answer to a picture, and with --top which of your pictures excite each of them most."""
    if image is None and top is None:
        raise typer.BadParameter("Give a picture to look at, or --top with pictures of your own.")
    from pellucid.explain.excite import excited, layers_to_watch
    from pellucid.explain.maps import feature_maps
    from pellucid.explain.sheets import write_sheet
    from pellucid.model.pretrained import open_classifier

    classifier = open_classifier(run, weights=weights, labels=labels)
    content: dict[str, Any] = {"network": str(classifier), "files": []}
    text: list[str] = []
    if image is not None:
        before, states = _earlier(run, against)
        maps = feature_maps(
            classifier, image, layer=layer, scale=scale, channels=channels, before=before, states=states
        )  # fmt: skip
        file = write_sheet(maps.sheet(), run, out, "activations", image.stem, layer, against or "")
        content |= maps.to_dict()
        content["files"].append(str(file))
        text += [str(maps), f"sheet  {file}"]
    if top is not None:
        shown, watched = layers_to_watch(classifier, layer)
        with progress("looking at pictures") as show:
            tops = excited(classifier, top, run, watched, most=pictures, progress=show)
            file = write_sheet(tops.sheet(shown, channels=channels), run, out, "top", shown)
        content["tops"] = tops.to_dict()
        content["files"].append(str(file))
        text += [str(tops), f"sheet  {file}"]
    print_result(content, as_json, "\n".join(text))


@app.command()
def filters(
    run: Network,
    layer: Annotated[str | None, typer.Option(help="A layer as summary names it.  [default: the first one]")] = None,
    channels: Annotated[int, typer.Option(min=1, help="Filters shown at most.")] = 64,
    against: Against = None,
    out: Out = None,
    weights: Weights = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """The weights of the first layer, or of another convolution, as pictures."""
    from pellucid.explain.filters import first_filters
    from pellucid.explain.sheets import write_sheet
    from pellucid.model.pretrained import open_classifier

    classifier = open_classifier(run, weights=weights, labels=labels)
    before, states = _earlier(run, against)
    found = first_filters(classifier, layer, count=channels, before=before, states=states)
    file = write_sheet(found.sheet(), run, out, "filters", found.layer, against or "")
    print_result(
        {"network": str(classifier), **found.to_dict(), "files": [str(file)]}, as_json, f"{found}\nsheet  {file}"
    )


@app.command()
def visualise(
    run: Network,
    layer: Annotated[str | None, typer.Option(help="A layer as summary names it.")] = None,
    channel: Annotated[
        list[int] | None, typer.Option(help="A channel of it; may be repeated.  [default: 6 drawn by --seed]")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="In place of a layer: a class; may be repeated.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many channels are drawn where none is named.")] = 6,
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient ascent.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pictures.")] = 0,
    top: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Your pictures, to stand beside: a folder, a data set, own, or none.  [default: own of a RUN]",
        ),
    ] = None,
    pictures: Pictures = 2000,
    out: Out = None,
    weights: Weights = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """The picture that a channel or a class would like to see most, beside those of your own that it likes most."""
    if (layer is None) == (not classes):
        raise typer.BadParameter("Give --layer, with --channel if you like, or --class.")
    from pellucid.explain.preferred import preferred
    from pellucid.explain.sheets import write_sheet
    from pellucid.model.pretrained import open_classifier

    classifier = open_classifier(run, weights=weights, labels=labels)
    with progress("optimizing pictures") as show:
        found = preferred(
            classifier, run, layer=layer, units=channel or (), classes=classes or (), count=count, steps=steps, seed=seed,
            top=top, most=pictures, progress=show,
        )  # fmt: skip
        named = [str(unit) for unit in found.optimized.units] if channel or classes else []
        file = write_sheet(found.sheet(), run, out, "visualise", layer or "class", *named[:4])
    print_result(
        {"network": str(classifier), **found.to_dict(), "files": [str(file)]}, as_json, f"{found}\nsheet  {file}"
    )


def _earlier(run: str, against: str | None) -> tuple[Any, tuple[str, ...]]:
    if against is None:
        return None, ("now",)
    from pellucid.training.earlier import classifier_at

    return classifier_at(run, against), (against, "now")
