"""size, filter, steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.app import Json, Labels, Network, Weights, app, print_result


@app.command()
def size(
    input_size: Annotated[str, typer.Option("--input", help="Side, or height x width, of what comes in.")],
    kernel: Annotated[str, typer.Option(help="Side, or height x width, of the kernel or window.")],
    stride: Annotated[str, typer.Option(help="Pixels from one window to the next.")] = "1",
    padding: Annotated[str, typer.Option(help="Pixels on each side, or none, same, wide.")] = "none",
    dilation: Annotated[str, typer.Option(help="Pixels from one weight to the next.")] = "1",
    ceil: Annotated[bool, typer.Option("--ceil", help="Round up: keep the ragged edge, as some poolings do.")] = False,
    as_json: Json = False,
) -> None:
    """The size of what a convolution or pooling gives, with the formula filled in."""
    from pellucid.model.size import padding_of, pair, size_of

    found = size_of(
        pair(input_size, "--input"), pair(kernel, "--kernel"), stride=pair(stride, "--stride"),
        padding=padding_of(padding), dilation=pair(dilation, "--dilation"), ceil_mode=ceil,
    )  # fmt: skip
    print_result(found.to_dict(), as_json, str(found))


@app.command("filter")
def filter_photograph(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture of any size.")],
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            help="A name like sharpen or edges, all, random5 (5x5, drawn), or '0 -1 0; -1 5 -1; 0 -1 0'; may be repeated.  [default: all]"
        ),
    ] = None,
    stride: Annotated[str, typer.Option(help="Pixels from one window to the next.")] = "1",
    padding: Annotated[str, typer.Option(help="Black pixels on each side, or none, same, wide.")] = "none",
    pool: Annotated[
        str | None, typer.Option(help="Then pooling: a window like 3, or as in networks: pool,k3,s2 avgpool,k2.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random kernels.")] = 0,
    out: Annotated[Path, typer.Option(help="Write the pictures side by side to this PNG.")] = Path("filtered.png"),
    save: Annotated[Path | None, typer.Option(help="Write each result in its full size into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Slide hand-made kernels over a photograph, each color by itself, and show what they find."""
    from pellucid.explain.filter import filter_photo, named_kernels, pooling_of, read_photo
    from pellucid.explain.filter_sheet import filter_sheet, save_results
    from pellucid.files import atomic_write, png_bytes
    from pellucid.model.size import padding_of, pair

    pixels, kernels = read_photo(photo), named_kernels(kernel or ["all"], seed)
    steps, border, pooling = pair(stride, "--stride"), padding_of(padding), pooling_of(pool) if pool else None
    results = [
        filter_photo(pixels, name, matrix, stride=steps, padding=border, pooling=pooling)
        for name, matrix in kernels.items()
    ]
    atomic_write(out, png_bytes(filter_sheet(pixels, results)))
    files = save_results(save, results) if save else []
    content = {
        "photo": str(photo), "kernel": [result.to_dict() for result in results], "output": str(out),
        "files": [str(file) for file in files],
    }  # fmt: skip
    lines = [*map(str, results), f"output  {out}", *(f"file    {file}" for file in files)]
    print_result(content, as_json, "\n".join(lines))


@app.command()
def steps(
    run: Network,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")],
    layer: Annotated[
        str | None,
        typer.Option(help="A layer of pellucid summary, a block, or answer.  [default: the first convolution]"),
    ] = None,
    channel: Annotated[int | None, typer.Option(help="Which map, from 0.  [default: the strongest]")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="Y,X", help="Which row and column of it, from 0.  [default: the strongest]")
    ] = None,
    weights: Weights = None,
    labels: Labels = None,
    out: Annotated[Path | None, typer.Option(help="Draw where it looked and what was added, into this PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Work out one number of one layer, term by term, and hold it against torch's."""
    from pellucid.explain.filter import read_photo
    from pellucid.explain.steps import position_of, work_out
    from pellucid.files import atomic_write
    from pellucid.model.pretrained import open_classifier

    classifier = open_classifier(run, weights=weights, labels=labels)
    step = work_out(classifier, read_photo(image), layer, channel=channel, at=position_of(at) if at else None)
    content, text = step.to_dict(), str(step)
    if out:
        from pellucid.explain.steps_figure import draw_step

        atomic_write(out, draw_step(step))
        content, text = content | {"output": str(out)}, f"{text}\n\noutput  {out}"
    print_result(content, as_json, text)
