"""Which of several runs is better: a paired test on the same pictures, or the word that they cannot be told apart.

Two intervals that overlap say little about a difference: both classifiers find the same pictures hard, so what counts is where
they disagree. Several runs are each compared with the first, and their p values corrected for that.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.dataset import Dataset
from pellucid.data.scan import Progress
from pellucid.data.task import CLASS, LABELS, NUMBER, Task
from pellucid.data.wording import counted, rounded
from pellucid.errors import ConfigError, DataError
from pellucid.evaluation.answers import answers_file, joined, read_answers
from pellucid.evaluation.intervals import Interval, group_numbers, resamples, share, spread
from pellucid.evaluation.looked import Looked, look, right
from pellucid.evaluation.metrics import few_notes
from pellucid.evaluation.paired import holm, paired
from pellucid.evaluation.text import printable
from pellucid.run import Run, members_of

LEVEL = 0.05
_FOLDS = "the folds"
_POWER = 1.96 + 0.84  # standard errors that a difference must have to be seen four times in five at that level
_METRIC = {CLASS: "accuracy", LABELS: "all labels right", NUMBER: "mean absolute error"}


@dataclass(frozen=True)
class Rival:
    """One run: its score, and for all but the first what it is better by than the first (negative: worse).

    `only_first` and `only_this` count the pictures that one of the two alone gets right (None for numbers); `p` is that of the
    paired test, `corrected` Holm's. A true difference below `detectable` would be missed more than one time in five.
    """

    run: str
    score: Interval
    gain: Interval | None = None
    only_first: int | None = None
    only_this: int | None = None
    p: float | None = None
    corrected: float | None = None
    detectable: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plain = {k: getattr(self, k) for k in ("only_first", "only_this", "p", "corrected", "detectable")}
        return {"run": self.run, "score": self.score.to_dict(), "gain": self.gain and self.gain.to_dict(), **plain}


@dataclass(frozen=True)
class Comparison:
    """Runs on the same `n` pictures, whose files and answers `fingerprint` names; the first is what the others are held against."""

    split: str
    n: int
    num_groups: int
    task: str
    fingerprint: str
    step: float  # what difference matters, of a number
    rivals: tuple[Rival, ...]
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """What is compared, in words."""
        return _METRIC[self.task]

    @property
    def test(self) -> str:
        """How the p values were made, in words."""
        if self.num_groups > 1:
            return f"paired bootstrap over {counted(self.num_groups, 'group')}"
        return "paired bootstrap over pictures" if self.task == NUMBER else "exact McNemar test"

    def verdict(self) -> tuple[str, ...]:
        """A sentence for each run but the first."""
        return tuple(self._sentence(rival) for rival in self.rivals[1:])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plain = {k: getattr(self, k) for k in ("split", "n", "num_groups", "metric", "test", "fingerprint")}
        return plain | {
            "runs": [rival.to_dict() for rival in self.rivals], "verdict": list(self.verdict()), "notes": list(self.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        width = max(3, *(len(printable(rival.run)) for rival in self.rivals))
        lines = [*self.verdict(), "", f"{'run':<{width}}  {self.metric:<24}  {'better by':<26}  alone right   p (Holm)"]
        for rival in self.rivals:
            line = f"{printable(rival.run):<{width}}  {rival.score!s:<24}"
            if rival.gain:
                alone = "" if rival.only_this is None else f"{rival.only_this:,} : {rival.only_first:,}"
                line += f"  {self._gain(rival.gain):<26}  {alone:<12}  {rival.corrected:.2g}"
            lines.append(line.rstrip())
        lines += [
            "",
            f"{self.test}; {counted(self.n, 'picture')} of {printable(self.split)}, fingerprint {self.fingerprint}",
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def _sentence(self, rival: Rival) -> str:
        assert rival.gain is not None and rival.corrected is not None and rival.detectable is not None
        first, this = printable(self.rivals[0].run), printable(rival.run)
        gain = f"{self._gain(rival.gain)}, n {self.n:,}"
        if rival.corrected < LEVEL and rival.gain.value:
            return f"{this} is {'better' if rival.gain.value > 0 else 'worse'} than {first}: {gain}."
        unseen = self._amount(rival.detectable).lstrip("+")
        return f"{this} and {first} cannot be told apart: {gain}; a difference below {unseen} would not be seen."

    def _gain(self, gain: Interval) -> str:
        low, high = (self._amount(value).split(" ")[0].lstrip("+") for value in (gain.low, gain.high))
        return f"{self._amount(gain.value)} ({low} to {high})"

    def _amount(self, value: float) -> str:
        if self.task == NUMBER:
            return f"{'+' if value >= 0 else ''}{rounded(value, self.step)}"
        return f"{100 * value + 0.0:+.1f} points"


def compare(
    runs: Sequence[Run | str | Path],
    data: str | Path | Dataset | None = None,
    *,
    split: str = "test",
    engine: str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Holds every run against the first, on the same part of their own pictures or on other labelled pictures `data`; of runs with
    folds it is all pictures, each answered out of fold.

    Raises ConfigError for fewer than two runs, DataError when their pictures or true answers differ, with how many do.
    """
    if len(runs) < 2:
        raise ConfigError(f"{counted(len(runs), 'run')} given; a comparison needs two or more.")
    sides = []
    for run in (run if isinstance(run, Run) else Run(Path(run)) for run in runs):
        content = run.read()
        folds = data is None and "members" in content and content["config"]["train"].get("folds")
        if folds and split != "test":
            raise ConfigError(
                f"--split is '{split}', but '{run}' holds folds, which are compared on all pictures, each answered by the fold that has "
                "not seen it. Leave --split out."
            )
        sides.append(
            _folds_side(run) if folds else _side(look(run, data, split=split, engine=engine, progress=progress))
        )
    first = sides[0]
    for side in sides[1:]:
        _require_same(first, side)
    orders = [sorted(range(len(side.keys)), key=side.keys.__getitem__) for side in sides]
    scores = [side.scores[order] for side, order in zip(sides, orders, strict=True)]
    grouped = next(((side.groups, order) for side, order in zip(sides, orders, strict=True) if side.groups), None)
    groups = None if grouped is None else group_numbers([grouped[0][i] for i in grouped[1]])
    n, num_groups = len(first.keys), 0 if groups is None else int(groups.max()) + 1
    digest = hashlib.sha256("\n".join(f"{a} {b}" for a, b in sorted(first.keys)).encode("utf-8", "surrogateescape"))
    return Comparison(
        split=first.name, n=n, num_groups=num_groups, task=first.task.kind, fingerprint=digest.hexdigest()[:16],
        step=first.task.step, notes=(*few_notes(n, num_groups), *_kinds_of_folds(sides)),
        rivals=rivals([str(run) for run in runs], scores, groups=groups, errors=first.task.kind == NUMBER),
    )  # fmt: skip


def rivals(
    names: Sequence[str], scores: Sequence[np.ndarray], *, groups: np.ndarray | None = None, errors: bool = False
) -> tuple[Rival, ...]:
    """Every run with what it scores and gains over the first.

    scores: of each run float (N,), right 1 or wrong 0 of each picture, or with `errors` how far off it is. groups: int (N,).
    """
    n = len(scores[0])
    units = n if groups is None or groups.max() == 0 else int(groups.max()) + 1
    found: list[Rival] = []
    for name, values in zip(names, scores, strict=True):
        if errors:
            draws = [weight @ values / weight.sum(1) for weight in resamples(n, groups=groups)]
            score = spread(float(values.mean()), np.concatenate(draws), units=units)
        else:
            score = share(values > 0.5, groups)
        if not found:
            found.append(Rival(name, score))
            continue
        gains = (scores[0] - values) if errors else (values - scores[0])
        gain, p, error = paired(gains, groups=groups, exact=not errors)
        only_first, only_this = (None, None) if errors else (int((gains < 0).sum()), int((gains > 0).sum()))
        found.append(Rival(name, score, gain, only_first, only_this, p, None, _POWER * error or gain.high))
    corrected = holm([rival.p for rival in found[1:] if rival.p is not None])
    others = [replace(rival, corrected=c) for rival, c in zip(found[1:], corrected, strict=True)]
    return (found[0], *others)


@dataclass(frozen=True, eq=False)
class _Side:
    """What a run is compared by: of each picture the SHA-256 and the true answer, its group, and whether it is right (1 or 0), or
    how far off the number is. `name` is that of the part."""

    run: Run
    name: str
    task: Task
    keys: list[tuple[str, str]]
    groups: Sequence[str] | None
    scores: np.ndarray


def _side(looked: Looked) -> _Side:
    task, classes, truth = looked.classifier.task, looked.classifier.classes, looked.chosen.labels
    keys = [(h, task.decode(t, classes)) for h, t in zip(looked.hashes, truth, strict=True)]
    return _Side(looked.run, looked.name, task, keys, looked.chosen.groups, _scores(task, looked.answers, truth))


def _folds_side(run: Run) -> _Side:
    answers = joined([read_answers(answers_file(member)) for member in members_of(run)])
    hashes = {row["path"]: row["sha256"] for row in run.read_manifest()}
    task = Task(**run.read()["task"])
    truth = task.encode(answers.labels, answers.outputs)
    keys = [(hashes[path], label) for path, label in zip(answers.paths, answers.labels, strict=True)]
    return _Side(run, _FOLDS, task, keys, answers.grouped(), _scores(task, answers.values, truth))


def _kinds_of_folds(sides: Sequence[_Side]) -> list[str]:
    """What it means when some runs kept groups together in their folds and others did not."""
    folds = [side for side in sides if side.name == _FOLDS]
    if all(side.groups for side in folds) or not any(side.groups for side in folds):
        return []
    apart, together = (
        ", ".join(f"'{printable(str(side.run))}'" for side in folds if bool(side.groups) == kept)
        for kept in (False, True)
    )
    return [
        f"the folds of {together} keep groups together and those of {apart} do not: what those score more, they owe to other pictures "
        "of the groups that they are tested on, and lose on new ones. The figure by group is the one to report"
    ]


def _require_same(a: _Side, b: _Side) -> None:
    if a.task.kind != b.task.kind:
        raise DataError(
            f"'{a.run}' answers with task '{a.task.kind}' and '{b.run}' with task '{b.task.kind}', so their scores cannot be "
            "compared. Give runs of one task."
        )
    if Counter(a.keys) == Counter(b.keys):
        return
    files_a, files_b = (Counter(h for h, _ in side.keys) for side in (a, b))
    only_a, only_b = (files_a - files_b).total(), (files_b - files_a).total()
    labels = (Counter(a.keys) - Counter(b.keys)).total() - only_a
    differ = [
        f"{count:,} {what}"
        for count, what in (
            (only_a, f"only in that of '{a.run}'"), (only_b, f"only in that of '{b.run}'"),
            (labels, "in both with another true answer"),
        )
        if count
    ]  # fmt: skip
    raise DataError(
        f"The runs were not measured on the same pictures: of the files of the {printable(a.name)} part, {', '.join(differ)}. Scores on "
        "different pictures cannot be compared: train both with the same data, --split and --seed, or name labelled pictures that "
        "neither has learned from with --data."
    )


def _scores(task: Task, answers: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float (N,): 1 where all is right and 0 else; of numbers how far off each is."""
    if task.kind == NUMBER:
        return np.asarray(abs(answers - truth).ravel(), np.float64)
    return right(answers, truth).astype(np.float64)
