"""Can its confidence be believed, and when should it keep silent? Measured on pictures that fitted nothing: probabilities before and
after calibration, the answers that are left when it may keep silent, label sets, and pictures of another kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from pellucid.config import LABEL_SETS
from pellucid.data.task import CLASS, NUMBER
from pellucid.evaluation.caution import validated
from pellucid.evaluation.label_sets import SetScore, find_rule, measure_sets
from pellucid.evaluation.metrics import CalibrationBin, calibration_bins
from pellucid.evaluation.silence import RiskCoverage, Silence, find_threshold, measure_silence, risk_coverage
from pellucid.evaluation.text import percent
from pellucid.evaluation.unlike import Unlike, find_unlike, measure_unlike
from pellucid.model.classifier import Classifier

ABSTAIN, SETS = 0.05, 0.9  # what is measured unasked


@dataclass(frozen=True)
class ProbabilityScores:
    """How good probabilities are; 0 is perfect in all three. `nll`: the mean log loss in nats; `brier`: the squared error, summed over
    the classes (0 to 2; of labels the mean, 0 to 1), Brier 1950. `ece` with the `bins` of a reliability diagram."""

    ece: float
    nll: float
    brier: float
    bins: tuple[CalibrationBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def score_probabilities(probabilities: np.ndarray, targets: np.ndarray) -> ProbabilityScores:
    """probabilities (N, C) with targets int (N,), or of labels (N, L) with 0 and 1 (N, L)."""
    p = probabilities.astype(np.float64).clip(0, 1)
    tiny = np.finfo(np.float32).tiny
    if targets.ndim == 2:
        truth = targets > 0.5
        bins = calibration_bins(p.ravel(), truth.ravel())
        nll, brier = -np.log(np.where(truth, p, 1 - p).clip(tiny)).mean(), ((p - truth) ** 2).mean()
    else:
        bins = calibration_bins(p.max(1), p.argmax(1) == targets)
        rows = np.arange(len(targets))
        nll, brier = -np.log(p[rows, targets].clip(tiny)).mean(), ((p - np.eye(p.shape[1])[targets]) ** 2).sum(1).mean()
    ece = sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / sum(b.n for b in bins)
    return ProbabilityScores(float(ece), float(nll), float(brier), bins)


@dataclass(frozen=True, eq=False)
class Confidence:
    """`method` says how the probabilities were calibrated ("" if they were not, then `before` and `after` are the same). The rest is of
    classes only, and None or empty where it was not measured; `flagged` is the share of pictures flagged as unlike the training's."""

    method: str
    before: ProbabilityScores
    after: ProbabilityScores
    curve: RiskCoverage | None = None
    silence: Silence | None = None
    sets: tuple[SetScore, ...] = ()
    flagged: float | None = None
    unlike: tuple[Unlike, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "calibration_method": self.method,
            "before_calibration": self.before.to_dict(),
            "after_calibration": self.after.to_dict(),
            "risk_coverage": self.curve and self.curve.to_dict(),
            "abstain": self.silence and self.silence.to_dict(),
            "label_sets": [score.to_dict() for score in self.sets],
            "flagged": self.flagged,
            "unlike": [score.to_dict() for score in self.unlike],
        }

    def sentences(self) -> Iterator[str]:
        """What was measured, in words."""
        before, after = self.before, self.after
        if self.method:
            yield (
                f"Calibration ({self.method}) changes the calibration error (ECE) from {before.ece:.3f} to {after.ece:.3f}, the log loss "
                f"from {before.nll:.3f} to {after.nll:.3f} and the Brier score from {before.brier:.3f} to {after.brier:.3f}."
            )
        else:
            yield f"Its probabilities are not calibrated: log loss {after.nll:.3f}, Brier score {after.brier:.3f}."
        if self.silence:
            yield f"{self.silence.threshold} {self.silence}"
        for score in self.sets:
            yield str(score)
        if self.flagged is not None:
            yield f"{percent(self.flagged)} of the pictures are flagged as unlike those of the training."
        for other in self.unlike:
            yield str(other)


def measure_confidence(
    classifier: Classifier,
    logits: torch.Tensor,
    targets: np.ndarray,
    *,
    groups: Sequence[Any] | None = None,
    abstain: float | None = None,
    sets: float | None = None,
    unlike: Mapping[str, torch.Tensor] | None = None,
) -> Confidence | None:
    """What pictures with known answers say of the classifier's confidence; None for numbers.

    logits (N, outputs), not calibrated; targets as `Task.encode` gives them; `unlike`: the logits of pictures of other kinds, by name.
    Silence at 0.05 and sets at 0.9 are measured unasked where the validation part is known. Raises ConfigError for what was asked
    for and cannot be measured.
    """
    known = validated(classifier, {"--abstain": abstain, "--sets": sets, "--unlike": unlike})
    if classifier.task.kind == NUMBER:
        return None
    probabilities = classifier.answers(logits)
    before = score_probabilities(replace(classifier, calibration=None).answers(logits), targets)
    after = score_probabilities(probabilities, targets)
    found = Confidence(str(classifier.calibration or ""), before, after)
    if classifier.task.kind == CLASS:
        found = replace(found, curve=risk_coverage(probabilities, targets))
    if known is None:
        return found
    validation, said = known
    threshold = find_threshold(said, validation.targets, abstain or ABSTAIN, groups=validation.groups)
    rules = (find_rule(said, validation.targets, sets or SETS, method) for method in LABEL_SETS)
    rule = find_unlike(validation.logits)
    return replace(
        found,
        silence=measure_silence(threshold, probabilities, targets, groups),
        sets=tuple(measure_sets(rule, probabilities, targets, groups) for rule in rules),
        flagged=None if rule is None else float(rule.flags(logits.numpy()).mean()),
        unlike=tuple(
            measure_unlike(rule, name, logits.numpy(), other.numpy(), groups) for name, other in (unlike or {}).items()
        ) if rule else (),
    )  # fmt: skip
