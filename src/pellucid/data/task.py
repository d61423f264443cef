"""What is asked of a picture: one of several classes, any number of labels at once, or a number.

A picture's answer is kept as text everywhere ("cat", "loop;round", "3.5"), in the data set as in a run's data.csv; a Task
turns it into what a network learns and back. Whatever depends on the kind of question asks the Task.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pellucid.data.wording import counted, some
from pellucid.errors import DataError, UnknownNameError

CLASS, LABELS, NUMBER = "class", "labels", "number"
NONE = "none"  # what stands for a picture without any of the labels; an empty cell is a missing answer
_MAX_BINS = 10  # of numbers, for splits
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")
_METRICS = {CLASS: "accuracy", LABELS: "average_precision", NUMBER: "mae"}


@dataclass(frozen=True)
class Task:
    """`kind` is class, labels or number; `separator` stands between labels.

    Of a number: `mean` and `std` of the training part, by which it is learned; `margin`, the half-width around a predicted
    number that holds the true one in 90 of 100 cases, measured on the validation part (None: too few pictures).
    """

    kind: str = CLASS
    separator: str = ";"
    mean: float = 0.0
    std: float = 1.0
    margin: float | None = None

    @property
    def metric(self) -> str:
        """The score that chooses the best weights: accuracy, average_precision (mean over the labels) or mae."""
        return _METRICS[self.kind]

    @property
    def step(self) -> float:
        """What difference of a number matters when it is written: a hundredth of its standard deviation."""
        return self.std / 100

    def read(self, texts: Sequence[str], place: Callable[[Sequence[int]], str]) -> list[str]:
        """The answers as they are kept: labels sorted, each once; numbers in their shortest form.

        `place` says where the positions it is given are, for the errors. Raises DataError for what cannot be read.
        """
        if self.kind == CLASS:
            return list(texts)
        read = self._read_labels if self.kind == LABELS else _read_number
        found = [read(text) for text in texts]
        if bad := [i for i, text in enumerate(found) if text is None]:
            examples = some({texts[i] for i in bad})
            if self.kind == LABELS:
                raise DataError(
                    f"{counted(len(bad), 'picture')} without a label, or with labels beside the word {NONE}: {examples}, "
                    f"{place(bad)}. Expected labels with '{self.separator}' between them, or the word {NONE} for a "
                    "picture that has none of them; correct these."
                )
            comma = ", with a point and not a comma" if any(_COMMA.fullmatch(texts[i]) for i in bad) else ""
            raise DataError(
                f"{counted(len(bad), 'label')} of {len(texts):,} {'is' if len(bad) == 1 else 'are'} no finite number: "
                f"{examples}, {place(bad)}. To learn a number every picture needs one, like 12 or 3.5{comma}; correct or "
                "remove these, or leave out --task number to learn classes."
            )
        return [str(text) for text in found]

    def outputs(self, texts: Sequence[str], name: str) -> tuple[str, ...]:
        """The names of what a network puts out: the classes, the labels, or `name`, what the number is called."""
        if self.kind == NUMBER:
            return (name,)
        return tuple(sorted({label for text in set(texts) for label in self.labels_of(text)}))

    def labels_of(self, text: str) -> tuple[str, ...]:
        """The labels in an answer: none, one or several; those of a class or a number are itself."""
        if self.kind != LABELS:
            return (text,)
        return () if text == NONE else tuple(text.split(self.separator))

    def encode(self, texts: Sequence[str], outputs: Sequence[str]) -> np.ndarray:
        """The answers as numbers: int64 (N,) positions in `outputs`; float32 (N, len(outputs)) of 0 and 1; or float64 (N, 1).

        A label that is not in `outputs` is passed over; a class must be there.
        """
        if self.kind == NUMBER:
            return np.array([[float(text)] for text in texts]).reshape(-1, 1)
        position = {name: k for k, name in enumerate(outputs)}
        if self.kind == CLASS:
            return np.array([position[text] for text in texts], np.int64)
        table = np.zeros((len(texts), len(outputs)), np.float32)
        for i, text in enumerate(texts):
            table[i, [position[label] for label in self.labels_of(text) if label in position]] = 1
        return table

    def decode(self, target: np.ndarray | np.generic, outputs: Sequence[str]) -> str:
        """The answer as text, from one row of what `encode` gives."""
        if self.kind == NUMBER:
            return _shortest(float(np.ravel(target)[0]))
        if self.kind == CLASS:
            return outputs[int(target)]
        return self.separator.join(np.array(outputs)[np.asarray(target) > 0.5]) or NONE

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """int (N,): what every split should have its share of. The class; a picture's rarest label; bins of a number."""
        if self.kind == CLASS:
            return targets
        if self.kind == NUMBER:
            return _bins(targets[:, 0])
        count = targets.sum(0)
        rarity = np.where(targets > 0, count, np.inf)
        return np.where(targets.any(1), rarity.argmin(1), targets.shape[1])

    def strata_names(self, targets: np.ndarray, outputs: Sequence[str]) -> list[str]:
        """What `strata` counts: the classes, the labels and "none" of them, or the ranges of a number."""
        return bin_names(targets[:, 0], self.strata(targets)) if self.kind == NUMBER else [*outputs, NONE]

    def fitted(self, targets: np.ndarray) -> Task:
        """The task with mean and standard deviation of the training part's numbers; other tasks as they are."""
        if self.kind != NUMBER:
            return self
        return replace(self, mean=float(targets.mean()), std=float(targets.std()) or 1.0)

    def scaled(self, targets: np.ndarray) -> np.ndarray:
        """What the loss compares logits with: numbers by mean and std, float32; the rest as it is."""
        return ((targets - self.mean) / self.std).astype(np.float32) if self.kind == NUMBER else targets

    def unscaled(self, targets: np.ndarray) -> np.ndarray:
        """What `scaled` was given."""
        return targets * self.std + self.mean if self.kind == NUMBER else targets

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `Task(**data)` gives it back."""
        return asdict(self)

    def _read_labels(self, text: str) -> str | None:
        parts = {part.strip() for part in text.split(self.separator)} - {""}
        if not parts or (len(parts) > 1 and NONE in {part.lower() for part in parts}):
            return None
        return NONE if {part.lower() for part in parts} == {NONE} else self.separator.join(sorted(parts))


ONE_CLASS = Task()


def make_task(kind: str | None, separator: str | None) -> Task:
    """The task of the settings `task` and `label_separator`: a class, or labels where only a separator is given."""
    kind = kind or (LABELS if separator else CLASS)
    if kind not in _METRICS:
        raise UnknownNameError(f"There is no task '{kind}'; it must be one of {', '.join(_METRICS)}.")
    return Task(kind, separator or Task.separator)


def task_notes(
    task: Task, texts: Sequence[str], outputs: Sequence[str], place: Callable[[Sequence[int]], str]
) -> list[str]:
    """What a user should know about the answers in `texts`: what looks as if something else was meant."""
    if task.kind == CLASS:
        return _class_notes(texts, place)
    if task.kind == NUMBER:
        return (
            []
            if len(set(texts)) > 1
            else [f"every picture has the same number, {texts[0]}: from that nothing can be learned"]
        )
    notes = []
    several = sum(len(task.labels_of(text)) > 1 for text in texts)
    if not several:
        other = [
            s for s in (";", "|", ",", "/", "+", " ") if s != task.separator and any(s in label for label in outputs)
        ]
        hint = f"; '{other[0]}' occurs in labels: is that the separator?" if other else ""
        notes.append(
            f"the separator '{task.separator}' never stands between two labels: each picture has one at most{hint}"
        )
    if without := sum(text == NONE for text in texts):
        notes.append(f"{counted(without, 'picture')} with none of the labels")
    count = Counter(label for text in texts for label in task.labels_of(text))
    if everywhere := [label for label in outputs if count[label] == len(texts)]:
        notes.append(f"on every picture, so there is nothing to tell apart: {some(everywhere)}")
    if nowhere := [label for label in outputs if not count[label]]:
        notes.append(f"on no picture, so they cannot be learned: {some(nowhere)}")
    return notes


def bin_names(values: np.ndarray, bins: np.ndarray) -> list[str]:
    """The range of each bin: "12 to 40"."""
    return [f"{values[bins == k].min():g} to {values[bins == k].max():g}" for k in range(int(bins.max()) + 1)]


def conformal_margin(residuals: np.ndarray, *, coverage: float = 0.9) -> float | None:
    """Half-width around a prediction that holds the truth with probability `coverage`; None when n is too small for it.

    The ceil((n + 1) coverage)-th smallest absolute residual of pictures that were not learned from.
    Source: split conformal prediction, Lei et al. 2018, arXiv 1604.04173.
    """
    rank = math.ceil((len(residuals) + 1) * coverage)
    return None if rank > len(residuals) else float(np.sort(np.abs(residuals))[rank - 1])


def _bins(values: np.ndarray) -> np.ndarray:
    """int (N,): up to ten bins of about equally many numbers, at least two; equal numbers share a bin."""
    unique, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    num_bins = min(max(len(values) // 10, 2), _MAX_BINS, max(len(unique), 1))
    middle = (np.cumsum(count) - count / 2) / len(values)  # rank of the middle of each number, 0 to 1
    return np.unique((middle * num_bins).astype(int), return_inverse=True)[1][inverse]


def _class_notes(texts: Sequence[str], place: Callable[[Sequence[int]], str]) -> list[str]:
    numbers = {text for text in set(texts) if _read_number(text) is not None}
    if words := set(texts) - numbers:
        few = [i for i, text in enumerate(texts) if text in words]
        if numbers and len(few) < len(texts) / 10:
            return [f"labels are numbers, but words in {counted(len(few), 'picture')} ({some(words)}, {place(few)}): "
                    "each of these words is a class of its own"]  # fmt: skip
        return []
    if len(numbers) > 20 and any(float(text) % 1 for text in numbers):
        return [
            f"the labels are {len(numbers):,} different numbers, each a class of its own; to learn the number: --task number"
        ]
    return []


def _read_number(text: str) -> str | None:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return _shortest(value) if math.isfinite(value) else None


def _shortest(value: float) -> str:
    return repr(value + 0.0).removesuffix(".0")  # + 0.0: no -0
