"""What a classifier says about one picture: a class, several labels, or a number.

The three have the same methods, so that commands, tables and drawn pictures need not ask which it is: `text`, `to_dict`,
`cells` (of a CSV row, below `columns`) and `rows` (of a drawn picture).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.data.task import LABELS, NONE, NUMBER, Task
from pellucid.data.wording import rounded

THRESHOLD = 0.5  # the probability from which on a label is given
NOT_SURE = "not sure"  # in place of an answer
UNLIKE = "unlike the training pictures"


@dataclass(frozen=True, eq=False)
class Prediction:
    """The classes of one picture with their probabilities, most probable first.

    None where it was not asked for: `silent`, whether it is too unsure to be given as an answer; `label_set`, the classes that may
    be the true one; `unlike`, whether the picture is like none that the classifier knows.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    silent: bool | None = None
    label_set: tuple[str, ...] | None = None
    unlike: bool | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[0]

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[0]

    def top(self, k: int) -> tuple[tuple[str, float], ...]:
        """The k most probable classes as (label, probability) pairs."""
        return tuple(zip(self.labels, self.probabilities, strict=True))[:k]

    def text(self, top: int) -> str:
        """One line."""
        ranked = ", ".join(f"{label} {probability:.1%}" for label, probability in self.top(top))
        parts = [f"{NOT_SURE} (at most {self.probability:.1%})" if self.silent else ranked]
        if self.label_set is not None:
            parts.append(
                f"one of {', '.join(self.label_set)}" if len(self.label_set) > 1 else f"only {self.label_set[0]}"
            )
        return "; ".join([*parts, UNLIKE] if self.unlike else parts)

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Plain JSON data; no label where it is silent."""
        shown = {"labels": [] if self.silent else _pairs(self.top(top or len(self.labels)))}
        caution = {
            "answer": None if self.silent is None else NOT_SURE if self.silent else self.label,
            "confidence": None if self.silent is None else self.probability,
            "label_set": None if self.label_set is None else list(self.label_set),
            "flag": None if self.unlike is None else UNLIKE if self.unlike else "",
        }
        return shown | {name: value for name, value in caution.items() if value is not None}

    def cells(self, top: int) -> list[str]:
        """label_1, probability_1, label_2, ...; then not_sure, label_set and flag, as far as they were asked for."""
        ranked = [cell for label, p in self.top(top) for cell in (label, f"{p:.6f}")]
        cells = [""] * 2 * top if self.silent else ranked + [""] * (2 * top - len(ranked))
        if self.silent is not None:
            cells.append(NOT_SURE if self.silent else "")
        if self.label_set is not None:
            cells.append(";".join(self.label_set))
        return cells if self.unlike is None else [*cells, UNLIKE if self.unlike else ""]

    def rows(self, top: int) -> tuple[tuple[tuple[str, float | str], ...], int]:
        """What stands below a drawn picture, and how many of these rows are bold."""
        rows: list[tuple[str, float | str]] = [(NOT_SURE, self.probability)] if self.silent else [*self.top(top)]
        if self.label_set is not None:
            rows.append(("one of", ", ".join(self.label_set)))
        return tuple([*rows, (UNLIKE, "")] if self.unlike else rows), 1

    def __str__(self) -> str:
        return self.text(3)


@dataclass(frozen=True, eq=False)
class LabelsPrediction:
    """All labels with the probability of each, most probable first; they need not sum to 1. `separator` is that of a table."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    separator: str = ";"

    @property
    def given(self) -> tuple[str, ...]:
        """The labels whose probability is a half or more: those that the picture is said to have."""
        return tuple(label for label, p in zip(self.labels, self.probabilities, strict=True) if p >= THRESHOLD)

    def top(self, k: int) -> tuple[tuple[str, float], ...]:
        """The k most probable labels as (label, probability) pairs."""
        return tuple(zip(self.labels, self.probabilities, strict=True))[:k]

    def text(self, top: int) -> str:
        """One line: the labels that are given; where there are none the most probable one in parentheses."""
        if given := self.top(len(self.given)):
            return ", ".join(f"{label} {probability:.1%}" for label, probability in given)
        return f"{NONE} (next {self.labels[0]} {self.probabilities[0]:.1%})"

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Plain JSON data: the labels that are given, and the probabilities of all."""
        return {"labels": _pairs(self.top(len(self.given))), "probabilities": dict(self.top(len(self.labels)))}

    def cells(self, top: int) -> list[str]:
        """The given labels in one cell, then the probability of every label, by name."""
        return [
            self.separator.join(sorted(self.given)) or NONE,
            *(f"{p:.6f}" for _, p in sorted(self.top(len(self.labels)))),
        ]

    def rows(self, top: int) -> tuple[tuple[tuple[str, float | str], ...], int]:
        """What stands below a drawn picture, and how many of these rows are bold: the given ones."""
        return self.top(max(top, len(self.given))), len(self.given)

    def __str__(self) -> str:
        return self.text(3)


@dataclass(frozen=True, eq=False)
class NumberPrediction:
    """A number in its own unit, with the interval that holds the true one in 90 of 100 pictures like those of the validation.

    `low` and `high` are None where too few validation pictures were there to tell. `step`: what matters in writing it.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    step: float

    def text(self, top: int = 1) -> str:
        """One line."""
        interval = f" ({self._range()})" if self._range() else ""
        return f"{self.name} {rounded(self.value, self.step)}{interval}"

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Plain JSON data."""
        return {"labels": [], "name": self.name, "number": self.value, "low": self.low, "high": self.high}

    def cells(self, top: int) -> list[str]:
        """The number, and the ends of its interval."""
        return ["" if number is None else f"{number:.6g}" for number in (self.value, self.low, self.high)]

    def rows(self, top: int) -> tuple[tuple[tuple[str, float | str], ...], int]:
        """What stands below a drawn picture, and how many of these rows are bold."""
        value = (self.name, rounded(self.value, self.step))
        return ((value, ("nine in ten", self._range())) if self._range() else (value,)), 1

    def _range(self) -> str:
        if self.low is None or self.high is None:
            return ""
        return f"{rounded(self.low, self.step)} to {rounded(self.high, self.step)}"

    def __str__(self) -> str:
        return self.text()


AnyPrediction = Prediction | LabelsPrediction | NumberPrediction


def columns(task: Task, classes: Sequence[str], top: int, caution: Sequence[str] = ()) -> list[str]:
    """The header above the `cells` of a task's predictions. `caution`: what was asked for of not_sure, label_set and flag."""
    if task.kind == NUMBER:
        return [classes[0], f"{classes[0]}_low", f"{classes[0]}_high"]
    if task.kind == LABELS:
        return ["labels", *(f"probability_{name}" for name in sorted(classes))]
    return [f"{name}_{k}" for k in range(1, top + 1) for name in ("label", "probability")] + list(caution)


def _pairs(found: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "probability": probability} for label, probability in found]
