"""What a prediction says beside its classes: that it is not sure, the set of classes that may be true, that a picture is unlike
those of the training. Everything rests on what the classifier said of its validation part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pellucid.config import CautionConfig
from pellucid.data.task import CLASS, LABELS
from pellucid.errors import ConfigError
from pellucid.evaluation.label_sets import SetRule, find_rule
from pellucid.evaluation.silence import Threshold, find_threshold
from pellucid.evaluation.text import counted
from pellucid.evaluation.unlike import UnlikeRule, find_unlike
from pellucid.model.classifier import Classifier
from pellucid.model.prediction import AnyPrediction, Prediction
from pellucid.model.validation import Validation


@dataclass(frozen=True, eq=False)
class Caution:
    """The rules that are applied to every answer; None where nothing was asked for, or nothing is known."""

    classes: tuple[str, ...]
    threshold: Threshold | None = None
    sets: SetRule | None = None
    unlike: UnlikeRule | None = None

    @property
    def columns(self) -> list[str]:
        """The names of what it adds to a table."""
        names = {"not_sure": self.threshold, "label_set": self.sets, "flag": self.unlike}
        return [name for name, rule in names.items() if rule is not None]

    def __call__(
        self, predictions: Sequence[AnyPrediction], logits: np.ndarray, probabilities: np.ndarray
    ) -> list[AnyPrediction]:
        """The predictions, of which logits and probabilities are (N, outputs), with what the rules say."""
        found = []
        members = self.sets.members(probabilities) if self.sets else None
        unlike = self.unlike.flags(logits) if self.unlike else None
        for i, prediction in enumerate(predictions):
            if isinstance(prediction, Prediction):
                inside = None if members is None else {self.classes[k] for k in np.flatnonzero(members[i])}
                prediction = replace(
                    prediction,
                    silent=None if self.threshold is None else prediction.probability < self.threshold.value,
                    label_set=None if inside is None else tuple(name for name in prediction.labels if name in inside),
                    unlike=None if unlike is None else bool(unlike[i]),
                )
            found.append(prediction)
        return found

    def promises(self) -> Iterator[str]:
        """What the user must know of the rules that were asked for, in words."""
        if self.threshold:
            yield str(self.threshold)
        if self.sets:
            yield str(self.sets)

    def counts(self, predictions: Sequence[AnyPrediction | None]) -> Iterator[str]:
        """How many pictures the rules met, in words."""
        given = [p for p in predictions if isinstance(p, Prediction)]
        if self.threshold and given:
            silent = sum(bool(p.silent) for p in given)
            yield f"{counted(len(given) - silent, 'picture')} answered, {silent:,} not sure."
        if flagged := sum(bool(p.unlike) for p in given):
            yield f"{flagged:,} of {counted(len(given), 'picture')} flagged: unlike the training pictures."


def make_caution(
    classifier: Classifier, *, abstain: float | None = None, sets: float | None = None, set_method: str = "lac"
) -> Caution:
    """The rules of a classifier, found on its validation part: silence below a guaranteed threshold, label sets, and always,
    where that is known, the flag of pictures unlike those of the training.

    Raises ConfigError when one is asked for that cannot be had.
    """
    CautionConfig(abstain=abstain, sets=sets, set_method=set_method)
    known = validated(classifier, {"--abstain": abstain, "--sets": sets})
    if known is None:
        return Caution(classifier.classes)
    validation, probabilities = known
    truth, groups = validation.targets, validation.groups
    return Caution(
        classifier.classes,
        None if abstain is None else find_threshold(probabilities, truth, abstain, groups=groups),
        None if sets is None else find_rule(probabilities, truth, sets, set_method),
        find_unlike(validation.logits),
    )


def validated(classifier: Classifier, wishes: Mapping[str, Any]) -> tuple[Validation, np.ndarray] | None:
    """What the classifier said of its validation part, and its calibrated probabilities (N, C) there; None for other tasks than
    classes and where nothing is kept. Raises ConfigError in place of None when one of `wishes`, flags and values, is given."""
    asked = " and ".join(flag for flag, value in wishes.items() if value)
    if classifier.task.kind == CLASS and classifier.validation is not None:
        return classifier.validation, classifier.answers(torch.from_numpy(classifier.validation.logits))
    if not asked:
        return None
    if classifier.task.kind != CLASS:
        what = "several labels" if classifier.task.kind == LABELS else "a number"
        raise ConfigError(
            f"{asked} is for classifiers that give one class a picture; this one answers with {what}. Leave it out."
        )
    raise ConfigError(
        f"{asked} rests on what the classifier said of its validation part, and that was not kept: it was trained with an earlier "
        "version, or its weights came without a run. Train it with this version."
    )
