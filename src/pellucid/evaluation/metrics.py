"""Scores of a classifier on labeled pictures: each with n and a 95 % interval, beside a baseline.

Pictures of one patient (video, plant) resemble each other, so where groups are known the intervals come from
resampling groups: a formula that counts pictures as independent would promise more than the data can hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.errors import DataError, UnknownNameError, nearest
from pellucid.evaluation.baseline import MAJORITY, Baseline, scored
from pellucid.evaluation.intervals import (
    NOT_MEASURED,
    Interval,
    all_alike,
    bootstrap,
    group_numbers,
    macro_f1_score,
    macro_trials,
    percentiles,
    wilson,
)
from pellucid.evaluation.ranking import OperatingPoint, Ranking, rankings
from pellucid.evaluation.robustness import Robustness
from pellucid.evaluation.text import counted, printable, shorten, table, verdict

if TYPE_CHECKING:
    from pellucid.evaluation.confidence import Confidence

NUM_CALIBRATION_BINS = 15  # Guo et al. 2017, arXiv 1706.04599
MAX_WORST = 24
FEW_PICTURES = 30
FEW_GROUPS = 10
MAX_RANKED = 50  # classes that are each ranked against the rest; of more, the weakest


@dataclass(frozen=True)
class ClassScore:
    """How one class does, and its `share` of the training pictures (None: not known). What has nothing to be measured on is nan:
    precision when it was never predicted, recall and F1 when it has no picture."""

    label: str
    n: int
    precision: Interval
    recall: Interval
    f1: Interval
    share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        scores = {name: getattr(self, name).to_dict() for name in ("precision", "recall", "f1")}
        return {"label": self.label, "n": self.n, **scores, "share": self.share}


@dataclass(frozen=True)
class Mistake:
    """A picture labeled wrongly. `probability` is that of the predicted class, `index` the picture's row."""

    path: str
    label: str
    predicted: str
    probability: float
    index: int


@dataclass(frozen=True)
class CalibrationBin:
    """`n` pictures of similar confidence: what the classifier said on average, and how often it was right."""

    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one split says about a classifier.

    `confusion` has true classes in rows, predicted ones in columns, both in the order of `classes`; `worst`
    holds the wrong pictures, most confident first; `auc` is the mean area under the ROC curves of `rankings`, each class against
    the rest; `point` is what happens at a threshold chosen on other pictures; `calibration` the occupied ones of 15 equal-width bins of
    confidence. `interval_method` made the intervals of accuracy and recall: "wilson", "bootstrap over 30
    groups", or "wilson over 30 groups" where resampling shows no variation. Macro-F1 is always resampled.
    `confidence` says whether its probabilities can be believed, and when it should keep silent.
    """

    split: str
    classes: tuple[str, ...]
    n: int
    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    auc: Interval
    per_class: tuple[ClassScore, ...]
    confusion: np.ndarray
    ece: float
    calibration: tuple[CalibrationBin, ...]
    baseline: Mapping[str, Baseline]
    majority: str
    rankings: tuple[Ranking, ...]
    point: OperatingPoint | None
    worst: tuple[Mistake, ...]
    interval_method: str
    notes: tuple[str, ...]
    confidence: Confidence | None = None
    robustness: Robustness | None = None

    @property
    def num_right(self) -> int:
        """Number of pictures whose predicted class is the true one."""
        return int(self.confusion.trace())

    def weakest(self, count: int = 1) -> tuple[ClassScore, ...]:
        """The `count` classes of lowest recall, lowest first; classes without pictures are left out."""
        measured = [score for score in self.per_class if score.n]
        return tuple(sorted(measured, key=lambda score: (score.recall.value, -score.n))[:count])

    def confusions(self, count: int = 5) -> tuple[tuple[str, str, int], ...]:
        """The `count` most frequent mistakes as (true class, predicted class, number of pictures)."""
        wrong = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        cells = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return tuple((self.classes[t], self.classes[p], int(wrong[t, p])) for t, p in cells if wrong[t, p])

    def verdict(self) -> tuple[str, ...]:
        """The result in three to five plain sentences, for somebody who reads nothing else."""
        return tuple(verdict(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; what is undefined is None."""
        return {
            "split": self.split,
            "n": self.n,
            "accuracy": self.accuracy.to_dict(),
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "auc": self.auc.to_dict(),
            "interval_method": self.interval_method,
            "per_class": [score.to_dict() for score in self.per_class],
            "confusion": {"classes": list(self.classes), "matrix": self.confusion.tolist()},
            "ece": self.ece,
            "calibration": [asdict(b) for b in self.calibration],
            "baseline": {name: baseline.to_dict() for name, baseline in self.baseline.items()},
            "majority": self.majority,
            "rankings": [ranking.to_dict() for ranking in self.rankings],
            "point": self.point and self.point.to_dict(),
            "confidence": self.confidence and self.confidence.to_dict(),
            "worst": [asdict(mistake) for mistake in self.worst],
            "notes": list(self.notes),
            "robustness": self.robustness and self.robustness.to_dict(),
        }

    def __str__(self) -> str:
        return "\n".join(table(self))


def evaluate_predictions(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    paths: Sequence[str],
    groups: Sequence[Any] | None = None,
    split: str = "test",
    seed: int = 0,
    training: Mapping[str, int] | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    point: OperatingPoint | None = None,
) -> Evaluation:
    """Measures predictions against labels.

    labels: integers (N,), positions in `classes`. probabilities: floats (N, C) in [0, 1]. paths: one of each
    picture. groups: what each picture belongs to, for example its patient; a group is resampled as a whole; a
    picture whose group is "" or None stands for itself. training: how many training pictures each class has, whose most frequent
    one is the baseline; by default the split's own. baselines: more of them, measured on the same pictures. point: what was measured
    at a chosen threshold.

    Raises DataError when there is no picture, lengths differ, a label has no class or a probability is none;
    UnknownNameError when `training` names a class that is none of `classes`.
    """
    labels, probabilities, classes = np.asarray(labels), np.asarray(probabilities), tuple(classes)
    _check(labels, probabilities, classes, paths, groups)
    labels = labels.astype(np.int64)
    n, num_classes = len(labels), len(classes)
    predictions = probabilities.argmax(axis=1)
    confidences = probabilities.max(axis=1).astype(np.float64).clip(0.0, 1.0)
    right = predictions == labels
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)

    group_of = None if groups is None else group_numbers(groups)
    num_groups = 0 if group_of is None else int(group_of.max()) + 1
    resampled = bootstrap(labels, predictions, num_classes, groups=group_of, seed=seed)
    units = support  # independent ones of each class
    if group_of is not None:
        units = np.array([len(np.unique(group_of[labels == k])) for k in range(num_classes)])
    trials = macro_trials(units)
    macro_f1 = percentiles(
        float(macro_f1_score(hits, support, predicted)), resampled.macro_f1, trials=min(trials, num_groups or n)
    )
    balanced = percentiles(
        float((hits[support > 0] / support[support > 0]).mean()), resampled.balanced_accuracy,
        trials=min(trials, num_groups or n),
    )  # fmt: skip
    accuracy = wilson(hits.sum(), n)
    recalls = [wilson(*pair) for pair in zip(hits, support, strict=True)]
    precisions = [wilson(*pair) for pair in zip(hits, predicted, strict=True)]
    f1 = [
        percentiles(float(2 * hits[k] / (support[k] + predicted[k])), resampled.f1[:, k], trials=int(units[k]))
        if support[k] else NOT_MEASURED
        for k in range(num_classes)
    ]  # fmt: skip
    method = "wilson"
    if group_of is not None:
        accuracy = percentiles(accuracy.value, resampled.accuracy, trials=num_groups)
        method = "wilson" if all_alike(resampled.accuracy) else "bootstrap"
        method += f" over {counted(num_groups, 'group')}"
        for k in np.flatnonzero(support):
            recalls[k] = percentiles(recalls[k].value, resampled.recall[:, k], trials=int(units[k]))
        for k in np.flatnonzero(predicted):
            groups_with = len(np.unique(group_of[predictions == k]))
            precisions[k] = percentiles(precisions[k].value, resampled.precision[:, k], trials=groups_with)

    majority = _majority(classes, support, training)
    always = np.full(n, classes.index(majority))
    ranked = (
        np.argsort(hits / support.clip(1), kind="stable")[:MAX_RANKED]
        if num_classes > MAX_RANKED
        else range(num_classes)
    )
    each, auc = rankings(
        labels[:, None] == np.array(ranked), probabilities[:, ranked], [classes[k] for k in ranked],
        groups=group_of, seed=seed,
    )  # fmt: skip
    calibration = calibration_bins(confidences, right)
    wrong = np.flatnonzero(~right)
    most_confident = wrong[np.argsort(-confidences[wrong], kind="stable")][:MAX_WORST]
    return Evaluation(
        split=split,
        classes=classes,
        n=n,
        accuracy=accuracy,
        balanced_accuracy=balanced,
        macro_f1=macro_f1,
        auc=auc,
        per_class=tuple(
            ClassScore(
                label=classes[k],
                n=int(support[k]),
                precision=precisions[k],
                recall=recalls[k],
                f1=f1[k],
                share=training.get(classes[k], 0) / sum(training.values()) if training else None,
            )
            for k in range(num_classes)
        ),
        confusion=confusion,
        ece=sum(b.n * abs(b.accuracy - b.confidence) for b in calibration) / n,
        calibration=calibration,
        baseline={
            MAJORITY: scored(f"always '{shorten(majority, 60)}'", labels, always, num_classes, group_of),
            **(baselines or {}),
        },
        majority=majority,
        rankings=each,
        point=point,
        worst=tuple(
            Mistake(
                path=str(paths[i]),
                label=classes[labels[i]],
                predicted=classes[predictions[i]],
                probability=float(confidences[i]),
                index=int(i),
            )
            for i in most_confident
        ),
        interval_method=method,
        notes=tuple(_notes(classes, support, num_groups)),
    )


def _check(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    paths: Sequence[str],
    groups: Sequence[Any] | None,
) -> None:
    n, num_classes = len(labels), len(classes)
    require_measurable(probabilities, labels=labels, probabilities=probabilities, paths=paths, groups=groups)
    if probabilities.shape != (n, num_classes):
        raise DataError(
            f"The probabilities have shape {probabilities.shape}, but {n} pictures and {num_classes} classes "
            f"need ({n}, {num_classes}). Evaluate with the classes that the classifier was trained on."
        )
    misplaced = labels if labels.dtype.kind not in "iu" else labels[(labels < 0) | (labels >= num_classes)]
    if misplaced.size:
        raise DataError(
            f"Labels must be whole numbers from 0 to {num_classes - 1}, positions in the list of classes; "
            f"received {misplaced[0].item()!r}. Look names up with classes.index()."
        )
    low, high = probabilities.min(), probabilities.max()
    if low < -1e-3 or high > 1 + 1e-3:  # half precision may round a little beyond
        raise DataError(
            f"Probabilities must lie from 0 to 1, but {low:.3g} to {high:.3g} were received. "
            "These look like logits: apply softmax over the classes first."
        )


def require_measurable(answers: np.ndarray, /, **columns: Any) -> None:
    """Raises DataError when there is no picture, when `columns` (None: not given) differ in length, or when an answer is not
    finite."""
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if not max(lengths.values()):
        raise DataError(
            "There is no picture to evaluate: 0 labels were received, at least 1 is needed. "
            "Look at the splits with `pellucid check`, or name another split."
        )
    if len(set(lengths.values())) > 1:
        received = ", ".join(f"{count:,} {name}" for name, count in lengths.items())
        raise DataError(f"Each picture needs one of each, but {received} were received. Pass equally many.")
    bad = np.flatnonzero(~np.isfinite(answers).reshape(len(answers), -1).all(axis=1))
    if bad.size:
        raise DataError(
            f"The probabilities of {counted(bad.size, 'picture')} are not finite, first of all those of "
            f"'{printable(columns['paths'][bad[0]])}'. Every probability must be a number from 0 to 1; look for "
            "not-a-number values in the weights, or go back to an earlier checkpoint."
        )


def calibration_bins(confidences: np.ndarray, right: np.ndarray) -> tuple[CalibrationBin, ...]:
    position = np.minimum((confidences * NUM_CALIBRATION_BINS).astype(int), NUM_CALIBRATION_BINS - 1)
    members = (position == p for p in np.unique(position))
    return tuple(
        CalibrationBin(int(inside.sum()), float(confidences[inside].mean()), float(right[inside].mean()))
        for inside in members
    )


def _majority(classes: tuple[str, ...], support: np.ndarray, training: Mapping[str, int] | None) -> str:
    """The most frequent class of the training pictures, or of those measured."""
    if not training:
        return classes[support.argmax()]
    majority = max(sorted(training), key=lambda name: training[name])
    if majority not in classes:
        raise UnknownNameError(
            f"The baseline's class '{majority}' is none of the {len(classes)} classes. "
            f"{nearest(majority, classes) or f'The first one is {classes[0]!r}.'}"
        )
    return majority


def few_notes(n: int, num_groups: int) -> Iterator[str]:
    """What to say about few pictures, or few groups (0: none are known)."""
    if n < FEW_PICTURES:
        yield f"Only {counted(n, 'picture')}: the intervals are wide. More pictures make them narrower."
    if 0 < num_groups < FEW_GROUPS:
        yield (
            f"The pictures come from only {counted(num_groups, 'group')}, so the intervals are rough. "
            f"{FEW_GROUPS} groups or more make them dependable."
        )


def _notes(classes: Sequence[str], support: np.ndarray, num_groups: int) -> Iterator[str]:
    n, num_present = int(support.sum()), np.count_nonzero(support)
    yield from few_notes(n, num_groups)
    if num_present == 1:
        yield (
            f"All pictures are of one class, '{printable(classes[int(support.argmax())])}': "
            "this says nothing about how well classes are told apart."
        )
    elif num_present < len(classes):
        absent = [f"'{shorten(c, 40)}'" for c, count in zip(classes, support, strict=True) if count == 0]
        named = ", ".join(absent[:5]) + (" and others" if len(absent) > 5 else "")
        yield f"Not scored, for want of pictures: {len(absent)} of {len(classes)} classes ({named})."
