"""What a check found, as one HTML page that shows the pictures: duplicates and contradictions side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from pellucid.data.check import Check, sample_pictures
from pellucid.data.dataset import Dataset
from pellucid.data.task import CLASS, LABELS
from pellucid.errors import PellucidError
from pellucid.evaluation.page import data_uri, render_page, safe, section, table, verdict
from pellucid.evaluation.text import counted

_SETS = 24  # sets or pictures shown in a section at most
_IN_SET = 6
_CLASSES = 30
_PER_CLASS = 6

Entry = tuple[str, str]  # path, and what to say of it


def render_check(found: Check, dataset: Dataset, *, picture: Callable[[np.ndarray], Image.Image]) -> str:
    """The page as the text of one self-contained HTML file, its size bounded: of long lists the beginning is shown.

    `picture` turns the pixels of a data set's picture into one to look at.
    """
    index = {item.path: i for i, item in enumerate(dataset.items)}
    label = {item.path: dataset.label(i) for i, item in enumerate(dataset.items)}

    def image(path: str) -> str:
        try:
            return f'<img alt="" src="{data_uri(picture(dataset.picture(index[path]).pixels))}">'
        except (PellucidError, OSError) as error:
            return f"<p>{safe(error)}</p>"

    def cards(entries: Iterable[Entry]) -> str:
        return "".join(
            f'<div class="card"><div class="picture">{image(path)}</div><p><b>{safe(says)}</b></p>'
            f'<p class="path">{safe(path)}</p></div>\n'
            for path, says in entries
        )

    def sets(heading: str, why: str, clusters: Sequence[Sequence[Entry]]) -> str:
        if not clusters:
            return ""
        shown = "".join(
            f'<div class="set"><div class="cards">{cards(cluster[:_IN_SET])}</div>{_more(len(cluster), _IN_SET)}</div>\n'
            for cluster in clusters[:_SETS]
        )
        return section(
            f"{heading}: {len(clusters):,}",
            f'<p>{why}</p>\n<div class="sets">{shown}</div>{_more(len(clusters), _SETS)}',
        )

    def single(heading: str, why: str, entries: Sequence[Entry]) -> str:
        if not entries:
            return ""
        shown = f'<div class="cards">{cards(entries[:_SETS])}</div>{_more(len(entries), _SETS)}'
        return section(f"{heading}: {len(entries):,}", f"<p>{why}</p>\n{shown}")

    def labelled(clusters: Sequence[Sequence[str]]) -> list[list[Entry]]:
        return [[(path, label[path]) for path in cluster] for cluster in clusters]

    def in_splits(clusters: Sequence[Sequence[Entry]]) -> list[list[Entry]]:
        return [[(path, f"{split}: {label[path]}") for path, split in cluster] for cluster in clusters]

    quality = found.quality
    near = "Resized, saved again, a little cropped or brighter."
    sections = [
        _summary(found),
        _classes(found, dataset, picture),
        sets(
            "The same picture under two classes",
            "One label at least is wrong. A table without these pictures is made by --fix.",
            found.conflicts,
        ),
        sets("Nearly the same picture under two classes", f"{near} One label at least is wrong.", found.near_conflicts),
        sets("The same picture in two splits", "A score on such pictures is a memory.", in_splits(found.leaks)),
        sets("Nearly the same picture in two splits", f"{near} A score on them is a memory.", in_splits(found.near_leaks)),
        _unreadable(found),
        sets("The same picture more than once", "The pixels are equal.", labelled(found.duplicates)),
        sets("Nearly the same picture", f"{near} New splits keep them together.", labelled(found.near)),
        single(
            "Blurry", "The edges are less abrupt than those of nearly all other pictures here.",
            [(path, f"sharpness {value:.2f}") for path, value in quality.blurry],
        ),
        single(
            "Dark", "Nearly black, and much darker than the others here.",
            [(path, f"brightness {value:.2f}") for path, value in quality.dark],
        ),
        single("Blank", "One level all over.", [(path, f"contrast {value:.3f}") for path, value in quality.blank]),
        single(
            "Of odd size", "A side is more than three times longer or shorter than the median one.",
            [(path, f"{height} x {width}") for path, (height, width) in quality.odd_sized],
        ),
        single(
            "Ending unlike the content", "They are read by their content; other programs may not do so.",
            [(path, f"is {name}") for path, name in quality.wrong_ending],
        ),
    ]  # fmt: skip
    made = {"Data": found.source, "Pictures": f"{found.pictures:,}"}
    return render_page(f"{dataset.name}: a look at the pictures", sections, made)


def _summary(found: Check) -> str:
    exact, near = len(found.duplicates), len(found.near)
    torn = len(found.conflicts) + len(found.near_conflicts)
    leaks = len(found.leaks) + len(found.near_leaks) + len(found.leaking_groups)
    what = counted(found.mendable, "thing")
    lead = (
        f"{what} to mend in {counted(found.pictures, 'picture')}." if found.mendable else "Nothing to mend was found."
    )
    tiles = (
        ("Pictures", f"{found.pictures:,}", counted(len(found.classes), "class", "classes")),
        ("Unreadable", f"{len(found.unreadable):,}", "left out everywhere"),
        ("Duplicates", f"{exact:,}", f"sets; {near:,} of near ones"),
        ("Under two classes", f"{torn:,}", "sets"),
        ("In two splits", f"{leaks:,}", "sets and groups"),
    )
    return verdict([lead], found.notes, tiles)


def _classes(found: Check, dataset: Dataset, picture: Callable[[np.ndarray], Image.Image]) -> str:
    rows = []
    samples = sample_pictures(dataset, per_class=_PER_CLASS, picture=picture)
    heaps = [(name, found.classes.get(name, len(items)), k) for k, (name, items) in enumerate(dataset.heaps())]
    for name, n, k in sorted(heaps, key=lambda heap: -heap[1])[:_CLASSES]:
        images = "".join(f'<img alt="" src="{data_uri(image)}">' for image in samples[k][1])
        rows.append((safe(name), f"{n:,}", f'<div class="strip">{images}</div>'))
    kind = {CLASS: "Class", LABELS: "Label"}.get(found.task, "Number")
    body = table((kind, "Pictures", ""), rows)
    return section("What is shown", body + _more(len(heaps), _CLASSES))


def _unreadable(found: Check) -> str:
    if not found.unreadable:
        return ""
    rows = [(safe(path), safe(reason)) for path, reason in found.unreadable[:_SETS]]
    body = table(("File", "Why"), rows) + _more(len(found.unreadable), _SETS)
    return section(f"Unreadable: {len(found.unreadable):,}", body)


def _more(total: int, shown: int) -> str:
    return f'<p class="path">{shown} of {total:,} are shown; check --json lists all.</p>' if total > shown else ""
