"""Predictions for files, folders and globs: decoded by threads, answered in batches, a broken file gets its own row."""

from __future__ import annotations

import csv
import glob
import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pellucid.data.contract import PixelContract
from pellucid.data.decode import Picture, decode
from pellucid.data.layout import only_pictures
from pellucid.data.sources import Folder, below
from pellucid.data.task import ONE_CLASS
from pellucid.data.wording import shown
from pellucid.device import num_cpus, workers
from pellucid.errors import DataError, PictureError
from pellucid.evaluation.caution import Caution
from pellucid.evaluation.draw import as_image, draw_labels
from pellucid.files import atomic_write, storage_errors
from pellucid.model.classifier import Classifier
from pellucid.model.engine import PROBE, told, with_engine
from pellucid.model.prediction import AnyPrediction, columns

_AT_ONCE = 64  # pictures
_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Answer:
    """What the classifier says about one file: a prediction, or the reason why there is none."""

    path: str
    prediction: AnyPrediction | None
    error: str | None
    notes: tuple[str, ...] = ()  # what decoding noted, like 'first of 3 frames used'

    def to_dict(self, top: int) -> dict[str, Any]:
        """Plain JSON data: path, what the prediction says (labels, or a number), error, notes."""
        found = self.prediction.to_dict(top) if self.prediction else {"labels": []}
        return {"path": self.path, **found, "error": self.error, "notes": list(self.notes)}

    def line(self, top: int) -> str:
        """One line for a person."""
        if self.prediction is None:
            return f"{shown(self.path)}: ERROR {self.error}"
        return f"{shown(self.path)}: {self.prediction.text(top)}" + (
            f" ({', '.join(self.notes)})" if self.notes else ""
        )


def find_pictures(paths: Sequence[str | Path]) -> list[Path]:
    """The picture files that files, folders (searched to the bottom) and globs name; sorted within each, none twice.

    A file that is named stays in the list whatever it is; in folders, other files than pictures are passed over.
    Raises DataError when a path names nothing.
    """
    found: dict[str, Path] = {}
    for given in map(str, paths):
        path = Path(given).expanduser()
        if path.is_dir():
            files = sorted(_in_folder(path))
            if not files:
                raise DataError(f"There is no picture in the folder '{given}'.")
        elif os.path.lexists(path):
            files = [path]
        else:
            matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207
            files = [file for match in matches for file in (sorted(_in_folder(match)) if match.is_dir() else [match])]
            if not files:
                raise DataError(
                    f"There is no file, folder or match for '{given}'. Expected pictures, a folder of pictures, or a "
                    "pattern in quotes like 'photos/*.jpg'."
                )
        for file in files:
            found.setdefault(os.path.abspath(file), file)  # noqa: PTH100
    return list(found.values())


def predict_files(
    classifier: Classifier,
    paths: Sequence[Path],
    *,
    caution: Caution | None = None,
    engine: str = "auto",
    on_engine: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_picture: Callable[[Answer, Picture], None] | None = None,
) -> Iterator[Answer]:
    """One Answer a path, in order. Every core reads, decodes and answers batches of its own.

    `caution` says when to keep silent, and what else to say than one answer.
    `engine` is one of `pellucid.model.engine`; `on_engine` is told in a sentence what was measured to choose it. `on_picture` is told each
    readable picture with its answer.
    """
    keep = on_picture is not None
    if engine != "auto" or len(paths) >= PROBE:
        probe = paths[:PROBE] if engine == "auto" else []
        some = [f.pixels for path in probe if isinstance(f := _read(path, classifier.contract, False), _File)]
        pixels = np.stack(some) if some else np.zeros(0, np.uint8)
        classifier, trials = with_engine(classifier, engine, pixels=pixels, count=len(paths))
        if on_engine and trials:
            on_engine(told(trials))

    def answer(chunk: Sequence[Path]) -> list[tuple[Answer, Picture | None]]:
        files = [_read(path, classifier.contract, keep) for path in chunk]
        pixels = [file.pixels for file in files if isinstance(file, _File)]
        predictions = iter(_predictions(classifier, np.stack(pixels), caution) if pixels else ())
        return [
            (Answer(str(path), next(predictions), None, file.notes), file.picture)
            if isinstance(file, _File)
            else (Answer(str(path), None, file), None)
            for path, file in zip(chunk, files, strict=True)
        ]

    chunks = _chunks(paths, classifier.batch_size)
    with classifier.answering(), workers() as pool:
        done = 0
        for answers in map(answer, chunks) if len(chunks) == 1 else _ahead(pool, answer, chunks):
            for found, picture in answers:
                if on_picture and picture:
                    on_picture(found, picture)
                yield found
            done += len(answers)
            if progress:
                progress(done, len(paths))


def _chunks(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """Of `size`, the last ones of a quarter, so that all cores are done at about the same time."""
    whole = max(0, len(paths) // size - num_cpus()) * size
    quarter = max(1, size // 4)
    return [
        *(paths[start : start + size] for start in range(0, whole, size)),
        *(paths[start : start + quarter] for start in range(whole, len(paths), quarter)),
    ]


def _ahead(pool: ThreadPoolExecutor, work: Callable[[_S], _T], tasks: Sequence[_S]) -> Iterator[_T]:
    """The results in order, a few of them in advance: pictures that are kept must not fill the memory."""
    coming: deque[Future[_T]] = deque()
    for task in tasks:
        coming.append(pool.submit(work, task))
        if len(coming) > 2 * num_cpus():
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def write_csv(
    file: Path,
    answers: Sequence[Answer],
    top: int,
    classifier: Classifier | None = None,
    caution: Caution | None = None,
) -> None:
    """path, the cells of the prediction (label_1, probability_1, ... for classes), error: one row an answer."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    header = columns(ONE_CLASS, (), top) if classifier is None else columns(
        classifier.task, classifier.classes, top, caution.columns if caution else ()
    )  # fmt: skip
    writer.writerow(["path", *header, "error"])
    for answer in answers:
        cells = answer.prediction.cells(top) if answer.prediction else []
        writer.writerow([answer.path, *cells, *[""] * (len(header) - len(cells)), answer.error or ""])
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, text.getvalue().encode("utf-8", "surrogateescape"))


def _predictions(classifier: Classifier, pixels: np.ndarray, caution: Caution | None) -> list[AnyPrediction]:
    logits = classifier.predict_logits(pixels)
    probabilities = classifier.answers(logits)
    predictions = [classifier.rank(row) for row in probabilities]
    return caution(predictions, logits.numpy(), probabilities) if caution else predictions


def file_stem(path: str, taken: set[str]) -> str:
    """The name of a file to write about the picture `path`, without an ending: safe on every disk, and none of those that are
    `taken`, to which it is added."""
    stem = re.sub(r"[^\w.-]+", "-", Path(path).stem).strip("-.") or "picture"
    stem = stem.encode()[:120].decode(errors="ignore")  # names are limited in bytes
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name


class Drawer:
    """Writes each picture with its top labels below it into a folder, under names that never collide."""

    def __init__(self, folder: Path, top: int) -> None:
        self.folder, self.top = folder, top
        self._taken: set[str] = set()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, answer: Answer, picture: Picture) -> None:
        """Draws one answer; to be given to `predict_files` as `on_picture`."""
        assert answer.prediction is not None
        name = file_stem(answer.path, self._taken)
        content = io.BytesIO()
        labels, bold = answer.prediction.rows(self.top)
        draw_labels(as_image(picture.pixels), labels, bold=bold).save(content, "PNG")
        atomic_write(self.folder / f"{name}.png", content.getvalue())


def readable_pixels(paths: Sequence[Path], contract: PixelContract) -> Iterator[np.ndarray]:
    """uint8 (n, H, W, C) of the files that can be read, a chunk at a time."""
    with workers() as pool:
        for chunk in _ahead(
            pool, lambda some: [_read(path, contract, False) for path in some], _chunks(paths, _AT_ONCE)
        ):
            if pixels := [file.pixels for file in chunk if isinstance(file, _File)]:
                yield np.stack(pixels)


@dataclass(frozen=True, eq=False)
class _File:
    """A file that can be answered: its pixels as the network takes them, and where it will be drawn the picture itself."""

    pixels: np.ndarray
    notes: tuple[str, ...]
    picture: Picture | None


def _read(path: Path, contract: PixelContract, keep: bool) -> _File | str:
    """What is in a file, or why the classifier cannot answer it."""
    try:
        picture = decode(path.read_bytes())
    except PictureError as error:
        return error.reason
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    misfit = contract.misfit(picture.pixels.shape[2])
    return misfit or _File(contract.pixels(picture.pixels), picture.notes, picture if keep else None)


def _in_folder(folder: Path) -> list[Path]:
    source = Folder(folder)
    tree, _ = source.tree()
    return [
        folder / below(place, name) for place, names in only_pictures(tree, source.head, []).items() for name in names
    ]
