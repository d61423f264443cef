"""Scores of a classifier that gives any number of labels: of each label and of all together, with 95 % intervals.

Average precision asks how well pictures are ordered by a label's probability, whatever the threshold; precision, recall and F1
are those of the labels that are given, from a probability of a half on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.errors import DataError
from pellucid.evaluation.intervals import Interval, group_numbers, percentiles, ratio, resamples, wilson
from pellucid.evaluation.metrics import (
    MAX_WORST,
    CalibrationBin,
    Mistake,
    calibration_bins,
    few_notes,
    require_measurable,
)
from pellucid.evaluation.ranking import OperatingPoint, Ranking, areas, curve
from pellucid.evaluation.robustness import Robustness
from pellucid.evaluation.text import counted, percent, printable, shorten
from pellucid.model.prediction import THRESHOLD

if TYPE_CHECKING:
    from pellucid.evaluation.confidence import Confidence

SCORES = ("average_precision", "auc", "precision", "recall", "f1")
_NAME = 32
_MAX_IN_TABLE = 30


@dataclass(frozen=True)
class LabelScore:
    """How one label does on the `n` pictures that have it. `missed` of these are not given it, `false` others are."""

    label: str
    n: int
    missed: int
    false: int
    average_precision: Interval
    auc: Interval
    precision: Interval
    recall: Interval
    f1: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        scores = {name: getattr(self, name).to_dict() for name in SCORES}
        return {"label": self.label, "n": self.n, "missed": self.missed, "false": self.false, **scores}


@dataclass(frozen=True, eq=False)
class LabelsEvaluation:
    """What one split says. `average_precision` is a mean over the labels that some pictures have and others not, `macro_f1` over those that some have; `subset_accuracy`
    is the share of pictures whose labels are all right. `baseline` always gives the labels of most training pictures, and ranks
    by chance. `worst` holds the pictures with a wrong label, most confident first."""

    split: str
    classes: tuple[str, ...]
    n: int
    average_precision: Interval
    subset_accuracy: Interval
    micro_f1: Interval
    macro_f1: Interval
    micro_precision: float
    micro_recall: float
    per_label: tuple[LabelScore, ...]
    ece: float
    calibration: tuple[CalibrationBin, ...]
    baseline: Mapping[str, Any]
    rankings: tuple[Ranking, ...]
    point: OperatingPoint | None
    worst: tuple[Mistake, ...]
    interval_method: str
    notes: tuple[str, ...]
    confidence: Confidence | None = None
    robustness: Robustness | None = None

    @property
    def num_right(self) -> int:
        """Number of pictures whose labels are all right."""
        return round(self.subset_accuracy.value * self.n)

    def weakest(self, count: int = 1) -> tuple[LabelScore, ...]:
        """The `count` labels of lowest average precision, lowest first; labels without pictures are left out."""
        measured = [score for score in self.per_label if math.isfinite(score.average_precision.value)]
        return tuple(sorted(measured, key=lambda score: (score.average_precision.value, -score.n))[:count])

    def verdict(self) -> tuple[str, ...]:
        """The result in a few plain sentences."""
        return tuple(_verdict(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; what is undefined is None."""
        return {
            "split": self.split,
            "n": self.n,
            "average_precision": self.average_precision.to_dict(),
            "subset_accuracy": self.subset_accuracy.to_dict(),
            "micro_f1": self.micro_f1.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "micro_precision": self.micro_precision,
            "micro_recall": self.micro_recall,
            "interval_method": self.interval_method,
            "per_label": [score.to_dict() for score in self.per_label],
            "ece": self.ece,
            "calibration": [asdict(b) for b in self.calibration],
            "baseline": dict(self.baseline),
            "confidence": self.confidence and self.confidence.to_dict(),
            "rankings": [ranking.to_dict() for ranking in self.rankings],
            "point": self.point and self.point.to_dict(),
            "worst": [asdict(mistake) for mistake in self.worst],
            "notes": list(self.notes),
            "robustness": self.robustness and self.robustness.to_dict(),
        }

    def __str__(self) -> str:
        return "\n".join(_table(self))


def evaluate_labels(
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    paths: Sequence[str],
    groups: Sequence[Any] | None = None,
    split: str = "test",
    training: np.ndarray | None = None,
    point: OperatingPoint | None = None,
    seed: int = 0,
) -> LabelsEvaluation:
    """Measures label probabilities (N, L) against 0 and 1 (N, L).

    `training` are the labels of the training pictures (M, L), for the baseline; by default the split's own. A group is resampled
    as a whole. `point` is what was measured at a chosen threshold. Raises DataError when these cannot be measured.
    """
    truth, given = np.asarray(targets) > 0.5, np.asarray(probabilities) >= THRESHOLD
    require_measurable(probabilities, labels=targets, probabilities=probabilities, paths=paths, groups=groups)
    if truth.shape != given.shape or truth.shape[1] != len(classes):
        raise DataError(
            f"Labels of shape {truth.shape} and probabilities of shape {given.shape} do not belong to {len(classes)} labels; "
            f"expected ({len(truth)}, {len(classes)}) both times."
        )
    n = len(truth)
    group_of = None if groups is None else group_numbers(groups)
    num_groups = 0 if group_of is None else int(group_of.max()) + 1
    exact = (truth == given).all(1)
    hits, have, said = (truth & given).sum(0), truth.sum(0), given.sum(0)
    drawn = _Drawn.make(truth, given, np.asarray(probabilities), exact, group_of, seed)
    subset = wilson(int(exact.sum()), n)
    if group_of is not None:
        subset = percentiles(subset.value, drawn.exact, trials=num_groups)
    method = "pictures" if num_groups < 2 else counted(num_groups, "group")
    apart = _told_apart(truth)
    precisions, aucs = (
        np.where(apart, area[0], math.nan) for area in areas(truth, np.asarray(probabilities), np.ones((1, n)))
    )
    f1 = ratio(2.0 * hits, have + said)

    def of_label(value: float, draws: np.ndarray, where: np.ndarray) -> Interval:
        """The interval of a label's score; `where`: the pictures that it is about."""
        if not math.isfinite(value):
            return Interval(math.nan, math.nan, math.nan)
        trials = int(where.sum()) if group_of is None else len(np.unique(group_of[where]))
        return percentiles(value, draws, trials=max(trials, 1))

    def share(part: int, whole: int, draws: np.ndarray, where: np.ndarray) -> Interval:
        return wilson(part, whole) if group_of is None or not whole else of_label(part / whole, draws, where)

    per_label = tuple(
        LabelScore(
            label=name, n=int(have[k]), missed=int(have[k] - hits[k]), false=int(said[k] - hits[k]),
            average_precision=of_label(precisions[k], drawn.average_precision[:, k], truth[:, k]),
            auc=of_label(aucs[k], drawn.auc[:, k], truth[:, k]),
            precision=share(int(hits[k]), int(said[k]), drawn.precision[:, k], given[:, k]),
            recall=share(int(hits[k]), int(have[k]), drawn.recall[:, k], truth[:, k]),
            f1=of_label(f1[k] if have[k] else math.nan, drawn.f1[:, k], truth[:, k]),
        )
        for k, name in enumerate(classes)
    )  # fmt: skip
    present = have > 0
    trials = num_groups or n
    macro = float(f1[present].mean()) if present.any() else math.nan
    mean_precision = float(precisions[apart].mean()) if apart.any() else math.nan
    micro = float(ratio(2.0 * hits.sum(), (have + said).sum()))
    calibration = calibration_bins(np.asarray(probabilities, np.float64).clip(0, 1).ravel(), truth.ravel())
    return LabelsEvaluation(
        split=split, classes=tuple(classes), n=n,
        average_precision=_over(mean_precision, drawn.average_precision[:, apart], trials),
        subset_accuracy=subset,
        micro_f1=percentiles(micro, drawn.micro_f1, trials=trials) if math.isfinite(micro) else Interval(*[math.nan] * 3),
        macro_f1=_over(macro, drawn.f1[:, present], trials),
        micro_precision=float(ratio(hits.sum(), said.sum())), micro_recall=float(ratio(hits.sum(), have.sum())),
        per_label=per_label,
        ece=sum(b.n * abs(b.accuracy - b.confidence) for b in calibration) / truth.size, calibration=calibration,
        baseline=_baseline(truth, truth if training is None else training, classes),
        rankings=tuple(
            Ranking(s.label, s.n, s.auc, s.average_precision, curve(truth[:, k], np.asarray(probabilities)[:, k]))
            for k, s in enumerate(per_label)
        ),
        point=point,
        worst=_worst(truth, given, np.asarray(probabilities), classes, paths), interval_method=f"bootstrap over {method}",
        notes=tuple(_notes(truth, classes, num_groups)),
    )  # fmt: skip


def average_precision_interval(targets: np.ndarray, probabilities: np.ndarray) -> Interval:
    """Mean average precision over the labels that can be told apart, with its bootstrap interval; 0 and 1 (N, L), (N, L)."""
    truth = np.asarray(targets) > 0.5
    present = _told_apart(truth)
    if not present.any():
        return Interval(math.nan, math.nan, math.nan)
    value = areas(truth, probabilities, np.ones((1, len(truth)))).average_precision[0, present].mean()
    draws = [
        areas(truth, probabilities, weight).average_precision[:, present] for weight in resamples(len(truth), draws=300)
    ]
    return _over(float(value), np.concatenate(draws), len(truth))


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Scores of D bootstrap draws: (D,), or (D, L) of each label."""

    exact: np.ndarray
    micro_f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    average_precision: np.ndarray
    auc: np.ndarray

    @classmethod
    def make(
        cls, truth: np.ndarray, given: np.ndarray, probabilities: np.ndarray, exact: np.ndarray,
        groups: np.ndarray | None, seed: int,
    ) -> _Drawn:  # fmt: skip
        parts = []
        for weight in resamples(len(truth), groups=groups, seed=seed):  # (D, N)
            hits, have, said = weight @ (truth & given), weight @ truth, weight @ given  # (D, L)
            micro = ratio(2 * hits.sum(1), have.sum(1) + said.sum(1))
            parts.append((
                weight @ exact / weight.sum(1), micro, ratio(hits, said), ratio(hits, have), ratio(2 * hits, have + said),
                *areas(truth, probabilities, weight),
            ))  # fmt: skip
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _told_apart(truth: np.ndarray) -> np.ndarray:
    """bool (L,): the labels that some pictures have and others not; of others the average precision means nothing."""
    return np.asarray(truth.any(0) & ~truth.all(0))


def _over(value: float, draws: np.ndarray, trials: int) -> Interval:
    """The interval of a mean over labels, from draws (D, labels) that may lack some of them."""
    if not draws.size or not math.isfinite(value):
        return Interval(math.nan, math.nan, math.nan)
    counts = np.isfinite(draws).sum(1)
    return percentiles(value, ratio(np.nansum(draws, axis=1), counts), trials=trials)


def _baseline(truth: np.ndarray, training: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    always = training.mean(0) > 0.5
    hits, have, said = (truth & always).sum(), truth.sum(), always.sum() * len(truth)
    return {
        "labels": [name for name, is_always in zip(classes, always, strict=True) if is_always],
        "subset_accuracy": float((truth == always).all(1).mean()),
        "micro_f1": float(ratio(2 * hits, have + said, otherwise=0.0)),
        "average_precision": float(truth.mean(0)[apart].mean()) if (apart := _told_apart(truth)).any() else None,
    }


def _worst(
    truth: np.ndarray, given: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], paths: Sequence[str]
) -> tuple[Mistake, ...]:
    """Pictures with a wrong label; `probability` is how sure it was of the one that it was most wrong about."""
    names = np.array(classes, object)
    surest = np.where(truth != given, np.where(given, probabilities, 1 - probabilities), 0).max(1)
    wrong = np.flatnonzero((truth != given).any(1))
    wrong = wrong[np.argsort(-surest[wrong], kind="stable")][:MAX_WORST]

    def text(row: np.ndarray) -> str:
        return ", ".join(names[row]) or "none"

    return tuple(
        Mistake(str(paths[i]), text(truth[i]), text(given[i]), float(surest[i]), int(i)) for i in wrong.tolist()
    )


def _notes(truth: np.ndarray, classes: Sequence[str], num_groups: int) -> Iterator[str]:
    yield from few_notes(len(truth), num_groups)
    for what, absent in (("on no picture here", ~truth.any(0)), ("on every picture here", truth.all(0))):
        if names := [
            f"'{shorten(name, 40)}'" for name, is_so in zip(classes, np.atleast_1d(absent), strict=True) if is_so
        ]:
            yield f"{counted(len(names), 'label')} {what}, which says nothing about how well they are told: {', '.join(names[:5])}."


def _verdict(e: LabelsEvaluation) -> Iterator[str]:
    subset, base = e.subset_accuracy, e.baseline
    yield (
        f"{e.num_right:,} of {counted(e.n, f'{printable(e.split)} picture')} {'has' if e.n == 1 else 'have'} all labels right: "
        f"{percent(subset.value)}, with a 95 % interval from {percent(subset.low)} to {percent(subset.high)}."
    )
    always = ", ".join(f"'{shorten(name, 40)}'" for name in base["labels"]) or "none of the labels"
    better = "clearly better" if subset.low > base["subset_accuracy"] else "not clearly better than that"
    yield (
        f"Always giving {always} would be all right for {percent(base['subset_accuracy'])}; the classifier is {better}."
    )
    if math.isfinite(e.micro_precision):
        yield (
            f"Of the labels that it gives, {percent(e.micro_precision)} are right; of the labels that are there, "
            f"it finds {percent(e.micro_recall)}."
        )
    else:
        yield "It gives no label to any picture: no probability reaches a half."
    if math.isfinite(e.average_precision.value):
        yield (
            f"The mean average precision over the labels is {str(e.average_precision)[:-1]}, {e.interval_method}): 1 would put every "
            f"picture with a label before all without it, chance gives {base['average_precision']:.3f}."
        )
    for weakest in e.weakest():
        if weakest.average_precision.value < 1:
            yield (
                f"The weakest label is '{shorten(weakest.label, 60)}', average precision {weakest.average_precision}: of the "
                f"{counted(weakest.n, 'picture')} that have it {weakest.missed:,} are missed, and "
                f"{counted(weakest.false, 'other')} get it."
            )
    said = sum(b.n * b.confidence for b in e.calibration) / (e.n * len(e.classes))
    there = sum(b.n * b.accuracy for b in e.calibration) / (e.n * len(e.classes))
    yield f"Its probabilities claim {percent(said)} on average and labels are there in {percent(there)}; they are {percent(e.ece)} off (ECE)."


def _table(e: LabelsEvaluation) -> Iterator[str]:
    yield from e.verdict()
    yield ""
    yield f"mean average precision  {e.average_precision}   micro-F1  {e.micro_f1}   macro-F1  {e.macro_f1}"
    yield ""
    crowded = len(e.classes) > _MAX_IN_TABLE
    scores = e.weakest(10) if crowded else e.per_label
    width = max(len("label"), *(len(shorten(score.label, _NAME)) for score in scores))
    yield f"{'label':<{width}}  {'n':>7}  {'average precision':<24}  {'precision':<24}  {'recall':<24}  {'F1':<24}"
    for s in scores:
        yield (
            f"{shorten(s.label, _NAME):<{width}}  {s.n:>7,}  {s.average_precision!s:<24}  {s.precision!s:<24}  "
            f"{s.recall!s:<24}  {s.f1!s:<24}"
        ).rstrip()
    if crowded:
        yield f"(the {len(scores)} labels of lowest average precision, of {len(e.classes):,})"
    if e.robustness:
        yield f"\n{e.robustness}"
    for note in e.notes:
        yield ""
        yield f"Note: {printable(note)}"
