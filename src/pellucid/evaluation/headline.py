"""The one score that a training is judged by on its validation part, with its interval, whatever is asked of a picture."""

from __future__ import annotations

import numpy as np

from pellucid.data.task import CLASS, LABELS, Task
from pellucid.evaluation.intervals import Interval, wilson
from pellucid.evaluation.labels import average_precision_interval
from pellucid.evaluation.number import mae_interval


def headline(task: Task, targets: np.ndarray, answers: np.ndarray) -> Interval:
    """The task's metric. `targets` as `Task.encode` gives them, `answers` as `Classifier.predict_proba` does."""
    if task.kind == CLASS:
        return wilson(int((answers.argmax(1) == targets).sum()), len(targets))
    return average_precision_interval(targets, answers) if task.kind == LABELS else mae_interval(targets, answers)
