"""What a classifier answered for pictures whose answers are known, as a table: one row a picture, read by people and by us."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pellucid.errors import RunError
from pellucid.files import atomic_write
from pellucid.run import Run

_FIXED = ("path", "label", "group", "part")
_PREFIX = "answer "  # before the names of what the network puts out, which may be called path or label


@dataclass(frozen=True, eq=False)
class Answers:
    """`paths`, the true answers as text, groups ("" for none) and the part of a series that answered, of N pictures each;
    `values` float (N, outputs), as `Classifier.predict_proba` gives them."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    outputs: tuple[str, ...]
    values: np.ndarray

    def grouped(self) -> tuple[str, ...] | None:
        """The groups, None where there are none."""
        return self.groups if any(self.groups) else None


def answers_file(run: Run) -> Path:
    """Where the answers to a run's test part are kept."""
    return run.path / "reports" / "answers.csv"


def joined(every: Sequence[Answers]) -> Answers:
    """The rows of several, one after the other; their outputs are the same."""

    def column(name: str) -> tuple[str, ...]:
        return tuple(value for answers in every for value in getattr(answers, name))

    values = np.concatenate([answers.values for answers in every])
    return Answers(column("paths"), column("labels"), column("groups"), column("parts"), every[0].outputs, values)


def write_answers(file: Path, answers: Answers) -> None:
    """Writes the columns path, label, group, part and "answer NAME" of each output."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*_FIXED, *(_PREFIX + name for name in answers.outputs)])
    fixed = zip(answers.paths, answers.labels, answers.groups, answers.parts, strict=True)
    for cells, values in zip(fixed, answers.values, strict=True):
        writer.writerow([*cells, *(f"{value:.7g}" for value in values)])
    atomic_write(file, text.getvalue().encode("utf-8", "surrogateescape"))


def read_answers(file: Path) -> Answers:
    """What `write_answers` wrote. Raises RunError when it is missing or damaged."""
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
            header, *rows = csv.reader(handle)
        paths, labels, groups, parts = zip(*(row[: len(_FIXED)] for row in rows), strict=True)
        values = np.array([row[len(_FIXED) :] for row in rows], np.float64)
        outputs = tuple(name.removeprefix(_PREFIX) for name in header[len(_FIXED) :])
        return Answers(paths, labels, groups, parts, outputs, values)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"'{file}' is missing or damaged ({error}). Remove it and go on with: pellucid train --resume {file.parents[2]}"
        ) from error
