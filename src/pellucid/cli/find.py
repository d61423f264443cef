"""search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pellucid.cli.app import Json, Labels, Network, Source, Weights, app, print_result
from pellucid.terminal import progress


@app.command()
def search(
    run: Network,
    data: Source,
    image: Annotated[
        str | None, typer.Argument(metavar="[IMAGE]", help="A picture file, or the path of a picture of DATA.")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="A name of summary, 'pixels', or 'best' by the score.  [default: the last before the logits]"
        ),
    ] = None,
    distance: Annotated[Literal["cosine", "euclidean"], typer.Option(help="How far vectors are apart.")] = "cosine",
    top: Annotated[int, typer.Option(min=1, help="How many pictures to find.")] = 15,
    sheet: Annotated[Path | None, typer.Option(help="Write the query and what was found as a PNG.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Score every stage of the network instead.")] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN|NAME", help="With --compare: another network, or weights; may be repeated."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="With --compare: write a page with tables and charts.")] = None,
    map_file: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE.html", help="Write a map of all pictures, as a page and a PNG."),
    ] = None,
    projection: Annotated[Literal["pca", "umap"], typer.Option(help="How the map is laid out.")] = "pca",
    group: Annotated[
        str | None, typer.Option(help="What proves nothing about each other: a column, or a regular expression.")
    ] = None,
    index: Annotated[Path | None, typer.Option(help="Keep the index in this folder.  [default: the cache]")] = None,
    weights: Weights = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Find the pictures of DATA most like IMAGE, score layers and networks by that (--compare), draw a map (--map)."""
    if (compare and (image or map_file)) or ((html or against) and not compare):
        raise typer.BadParameter(
            "--compare takes no IMAGE and no --map; --html and --against go with --compare. Make two commands of it."
        )
    if (map_file and image) or (sheet and not image):
        raise typer.BadParameter("--map shows all pictures and takes no IMAGE; --sheet shows what IMAGE found.")
    from pellucid.explain.index import open_for
    from pellucid.explain.search_compare import open_networks, trained_on

    networks = open_networks(run, against or (), weights=weights, labels=labels)
    with progress("looking at the pictures") as show:
        dataset = open_for(next(iter(networks.values())), data, group=group, progress=show)
        common: dict[str, Any] = {"distance": distance, "folder": index, "progress": show}
        common["seen"] = trained_on([run, *(against or ())])
        if map_file:
            content, text = _map(networks, dataset, layer, projection, map_file, common)
        elif image:
            content, text = _search(networks, dataset, image, layer, top, sheet, common)
        else:
            content, text = _compare(networks, dataset, layer, compare, html, common)
    print_result(content, as_json, text)


def _search(
    networks: Any, dataset: Any, image: str, layer: str | None, top: int, sheet: Path | None, common: dict[str, Any]
) -> tuple[Any, str]:
    from pellucid.explain.search import search as find
    from pellucid.explain.search import search_sheet
    from pellucid.files import atomic_write, png_bytes

    found = find(next(iter(networks.values())), dataset, image, layer=layer, top=top, **common)
    content, text = found.to_dict(), str(found)
    if sheet:
        atomic_write(sheet, png_bytes(search_sheet(found)))
        content["sheet"] = str(sheet)
        text += f"\nsheet  {sheet}"
    return content, text


def _compare(
    networks: Any, dataset: Any, layer: str | None, every: bool, html: Path | None, common: dict[str, Any]
) -> tuple[Any, str]:
    from pellucid.explain.search_compare import choose_layer, compare_layers
    from pellucid.files import atomic_write

    layers = [] if every else [choose_layer(next(iter(networks.values())), dataset, layer, **common)[0]]
    found = compare_layers(networks, dataset, layers=layers, **common)
    content, text = found.to_dict(), str(found)
    if html:
        from pellucid.explain.search_page import render_comparison

        atomic_write(html, render_comparison(found).encode())
        content["html"] = str(html)
        text += f"\nhtml  {html}"
    return content, text


def _map(
    networks: Any, dataset: Any, layer: str | None, projection: str, file: Path, common: dict[str, Any]
) -> tuple[Any, str]:
    from pellucid.explain.picture_map import make_map, write_map

    found = make_map(next(iter(networks.values())), dataset, layer=layer, projection=projection, **common)
    page, picture = write_map(found, file)
    return found.to_dict() | {"html": str(page), "png": str(picture)}, f"{found}\nhtml  {page}\npng   {picture}"
