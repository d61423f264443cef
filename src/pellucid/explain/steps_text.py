"""A step in words and columns of numbers, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pellucid.explain.looked import Looked
from pellucid.explain.work import Index, Work, n, times
from pellucid.model.table import aligned

_MOST_CHANNELS = 3  # that are shown number by number
_MOST_SIDE = 7  # rows or columns of a window that is shown so
_MOST_TERMS = 10


def told(
    layer: str, kind: str, shape: Index, position: Index, works: Sequence[Work], main: Work, looked: Looked | None
) -> str:
    """The text of `str(step)`; the arguments are the fields of the step."""
    names = {1: ("number",), 3: ("channel", "row", "column")}.get(len(shape))
    place = (
        ", ".join(f"{a} {i}" for a, i in zip(names, position, strict=True)) if names else f"position {times(position)}"
    )
    lines = [f"{layer} ({kind}): {place} of {times(shape)}"]
    if looked:
        lines.append(str(looked))
    for work in works:
        lines += ["", work.operation]
        if work is main:
            lines += _terms(work)
        lines.append(f"  {work.formula}")
        lines.append(f"  torch: {work.torch:.8g}, difference {work.difference:.1e} of the size of what was added")
    return "\n".join(lines)


def is_window(work: Work) -> bool:
    """Whether the terms stand in rows and columns."""
    return len(work.grid) == 3 and max(work.grid[1:]) > 1


def varied(work: Work) -> bool:
    """Whether there are weights that differ, unlike those of a mean."""
    return work.weights is not None and len(np.unique(work.weights)) > 1


def largest_channels(work: Work, count: int) -> list[int]:
    """The input channels of a window that add most, the strongest first; the channel of a pooling."""
    strength = np.abs(work.products.reshape(work.grid)).sum((1, 2))
    return np.argsort(-strength, kind="stable")[:count].tolist()


def _terms(work: Work) -> Iterator[str]:
    if is_window(work) and max(work.grid[1:]) <= _MOST_SIDE:
        yield from _windows(work)
    elif len(work.inputs) > 1:
        yield from _list(work)


def _windows(work: Work) -> Iterator[str]:
    """Input, weights and products of the channels that add most, side by side."""
    shown = largest_channels(work, _MOST_CHANNELS)
    first = int(work.places[:, 0].max()) - work.grid[0] + 1
    inputs, products = work.inputs.reshape(work.grid), work.products.reshape(work.grid)
    padding = work.padding.reshape(work.grid)
    for channel in shown:
        name = f"channel {first + channel}"
        blocks = [(f"input, {name}", _cells(inputs[channel], padding[channel]))]
        if varied(work):
            blocks.append(("weights", _cells(work.weights.reshape(work.grid)[channel])))  # type: ignore[union-attr]
            blocks.append((f"products, sum {n(products[channel].sum())}", _cells(products[channel])))
        widths = [max(len(title), *map(len, rows)) for title, rows in blocks]
        yield "  " + "    ".join(title.ljust(width) for (title, _), width in zip(blocks, widths, strict=True)).rstrip()
        for row in zip(*(rows for _, rows in blocks), strict=True):
            yield "  " + "    ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    if rest := work.grid[0] - len(shown):
        others = products.sum() - products[shown].sum()
        yield f"  {rest:,} other channel{'s' * (rest > 1)}: {n(float(others))}"


def _cells(numbers: np.ndarray, padding: np.ndarray | None = None) -> list[str]:
    texts = [[f"{number:.4g}" for number in row] for row in numbers.tolist()]
    for row, column in np.argwhere(padding) if padding is not None else ():
        texts[row][column] = "pad"
    return aligned(texts, left=0)


def _list(work: Work) -> Iterator[str]:
    """The terms that add most, one a line."""
    order = np.argsort(-np.abs(work.products), kind="stable")[:_MOST_TERMS]
    rows = [["at", "input"] + ([] if work.weights is None else ["weight"]) + ["term"]]
    for i in order.tolist():
        place = work.places[i]
        source = work.sources[i] if len(work.sources) > 1 else ""
        name = "padding" if work.padding[i] else " ".join(filter(None, [source, ",".join(map(str, place.tolist()))]))
        weight = [] if work.weights is None else [f"{work.weights[i]:.5g}"]
        rows.append([name, f"{work.inputs[i]:.5g}", *weight, f"{work.products[i]:.5g}"])
    yield from (f"  {line}" for line in aligned(rows, left=1))
    if rest := len(work.inputs) - len(order):
        others = work.products.sum() - work.products[order].sum()
        yield f"  {rest:,} others: {n(float(others))}"
