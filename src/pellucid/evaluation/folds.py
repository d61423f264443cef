"""Folds put together: every picture answered by a classifier that has not seen it, scored fold by fold and all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.config import METRICS
from pellucid.data.manifest import USED
from pellucid.data.task import CLASS, LABELS, Task
from pellucid.evaluation.answers import Answers, answers_file, joined, read_answers, write_answers
from pellucid.evaluation.intervals import Interval
from pellucid.evaluation.labels import LabelsEvaluation, evaluate_labels
from pellucid.evaluation.metrics import Evaluation, evaluate_predictions
from pellucid.evaluation.number import NumberEvaluation, evaluate_numbers
from pellucid.evaluation.text import counted
from pellucid.run import Run, members_of

AnyScores = Evaluation | LabelsEvaluation | NumberEvaluation
OUT_OF_FOLD = "out-of-fold.csv"


@dataclass(frozen=True)
class FoldScore:
    """One fold: `n` pictures of `groups` groups (0: none are known), answered after training on `trained_on` others."""

    name: str
    n: int
    groups: int
    trained_on: int
    score: Interval
    macro_f1: Interval | None

    def to_dict(self) -> dict[str, Any]:
        macro_f1 = self.macro_f1 and self.macro_f1.to_dict()
        return vars(self) | {"score": self.score.to_dict(), "macro_f1": macro_f1}


@dataclass(frozen=True, eq=False)
class FoldsEvaluation:
    """What the folds of a run say together: `pooled` is about all pictures, each answered out of fold; `metric` is the task's.

    `group` is what the folds were made by, None for folds of single pictures; `answers` are those behind `pooled`.
    """

    split: str
    group: str | None
    metric: str
    folds: tuple[FoldScore, ...]
    pooled: AnyScores
    answers: Answers

    @property
    def mean(self) -> float:
        """Of the folds' scores."""
        return float(np.mean([fold.score.value for fold in self.folds]))

    @property
    def std(self) -> float:
        """Standard deviation of the folds' scores. The folds share training pictures, so it is no standard error of the mean."""
        return float(np.std([fold.score.value for fold in self.folds], ddof=1))

    @property
    def kind(self) -> str:
        """What kind of folds these are, and what their score is therefore about."""
        if self.group is not None:
            groups = sum(fold.groups for fold in self.folds)
            return (
                f"The folds keep each of {counted(groups, 'group')} ({self.group}) together, so this is how pictures of new groups are "
                "answered."
            )
        return (
            "The folds deal single pictures out at random, so this is how more pictures of the same sources are answered. Where "
            "several show one patient, plant or machine it flatters: say so with --group."
        )

    def sentences(self) -> Iterator[str]:
        """The folds in words."""
        values = [fold.score.value for fold in self.folds]
        yield (
            f"Over {len(self.folds)} folds the {METRICS[self.metric]} is {self.mean:.4g} on average, from {min(values):.4g} to "
            f"{max(values):.4g}, with a standard deviation of {self.std:#.2g} from fold to fold."
        )
        yield self.kind

    def next_step(self, run: Run) -> str:
        """What a user may do now."""
        suspects = f"pellucid suspects {run}    # which labels may be wrong\n        " * isinstance(
            self.pooled, Evaluation
        )
        return suspects + "pellucid train DATA, without --folds, for a classifier that has learned from all of it"

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "split": self.split, "group": self.group, "kind": self.kind, "metric": self.metric, "mean": self.mean,
            "std": self.std, "folds": [fold.to_dict() for fold in self.folds], "pooled": self.pooled.to_dict(),
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join([*self.sentences(), "", *self._table(), "", str(self.pooled)])

    def _table(self) -> Iterator[str]:
        yield f"{'fold':<8}{'trained on':>11}{'tested':>9}{'groups':>8}  {METRICS[self.metric]}"
        for fold in self.folds:
            groups = f"{fold.groups:,}" if fold.groups else "–"
            yield f"{fold.name:<8}{fold.trained_on:>11,}{fold.n:>9,}{groups:>8}  {fold.score}"


def evaluate_folds(run: Run) -> FoldsEvaluation:
    """Scores the folds of a run that are all finished, and writes their answers as one table, reports/out-of-fold.csv."""
    content = run.read()
    task = Task(**content["task"])
    parts = [read_answers(answers_file(member)) for member in members_of(run)]
    every = joined(parts)
    write_answers(run.path / "reports" / OUT_OF_FOLD, every)
    pooled = scored(task, every, "out-of-fold")
    folds = []
    for answers in parts:
        found = scored(task, answers, answers.parts[0])
        folds.append(
            FoldScore(
                name=answers.parts[0], n=len(answers.paths), groups=len(set(answers.groups) - {""}),
                trained_on=trained_on(run, answers.parts[0]), score=getattr(found, task.metric),
                macro_f1=None if isinstance(found, NumberEvaluation) else found.macro_f1,
            )
        )  # fmt: skip
    group = None if every.grouped() is None else content["config"]["data"]["group"] or "given with the pictures"
    return FoldsEvaluation("folds", group, task.metric, tuple(folds), pooled, every)


def scored(task: Task, answers: Answers, name: str) -> AnyScores:
    """The scores of a table of answers. Raises as the function for the task does."""
    truth = task.encode(answers.labels, answers.outputs)
    if task.kind == CLASS:
        return evaluate_predictions(
            truth, answers.values, answers.outputs, paths=answers.paths, groups=answers.grouped(), split=name
        )
    if task.kind == LABELS:
        return evaluate_labels(
            truth, answers.values, answers.outputs, paths=answers.paths, groups=answers.grouped(), split=name
        )
    return evaluate_numbers(
        truth, answers.values, answers.outputs[0], paths=answers.paths, groups=answers.grouped(), split=name
    )


def trained_on(run: Run, member: str) -> int:
    """Training pictures of one of the trainings in `run`."""
    rows = Run(run.path / member).read_manifest()
    return sum(row["status"] == USED and row["split"] == "train" for row in rows)
