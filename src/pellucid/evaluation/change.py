"""What a person's verdicts about labels changed: the run that doubted the labels against the one trained with the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.evaluation.answers import Answers, read_answers
from pellucid.evaluation.folds import OUT_OF_FOLD
from pellucid.evaluation.intervals import Interval, group_numbers, resamples, spread
from pellucid.evaluation.text import counted, percent


def change_by_verdicts(content: Mapping[str, Any], now: Answers) -> tuple[str, ...]:
    """Sentences for a run of classes whose run.json is `content`, and its answers to pictures that it did not learn from.

    Each picture counts that the run of folds, in whose reports the table of verdicts lies, has answered out of fold, too.
    """
    verdicts = content.get("verdicts")
    if not verdicts:
        return ()
    file = Path(content["config"]["train"]["verdicts"]).parent / OUT_OF_FOLD
    if not file.exists():
        return (
            "What the verdicts changed cannot be said: their table no longer lies in the reports of the run of folds that it is from",
        )
    before = read_answers(file)
    place = {path: i for i, path in enumerate(before.paths)}
    rows = [i for i, path in enumerate(now.paths) if path in place]
    if before.outputs != now.outputs or not rows:
        return ("What the verdicts changed cannot be said: the run that they are from has other pictures or classes",)
    position = {name: k for k, name in enumerate(now.outputs)}
    truth = np.array([position[now.labels[i]] for i in rows])
    right_now = now.values[rows].argmax(1) == truth
    right_before = before.values[[place[now.paths[i]] for i in rows]].argmax(1) == truth
    groups = None if now.grouped() is None else group_numbers([now.groups[i] for i in rows])
    judged = np.array([now.paths[i] in verdicts for i in rows])
    told = [
        f"Before the verdicts {percent(right_before.mean())} of {counted(len(rows), 'picture')} that neither run learned from were "
        f"right, now {percent(right_now.mean())} are: {_difference(right_before, right_now, groups)}"
    ]
    if judged.any():
        told[0] += (
            f"; by the labels with the verdicts, which {int(judged.sum()):,} of them have. They were given to pictures that the "
            "first run doubted, so they lean towards what networks say"
        )
    if judged.any() and not judged.all():
        groups = groups if groups is None else groups[~judged]
        told.append(
            f"On the {int((~judged).sum()):,} without a verdict: before {percent(right_before[~judged].mean())}, now "
            f"{percent(right_now[~judged].mean())}, {_difference(right_before[~judged], right_now[~judged], groups)}"
        )
    return tuple(told)


def _difference(before: np.ndarray, now: np.ndarray, groups: np.ndarray | None) -> str:
    """The difference of two shares of the same pictures, in points, with its 95 % interval over the pictures or groups."""
    gained = now.astype(np.float64) - before
    groups = groups if groups is None else np.unique(groups, return_inverse=True)[1]
    draws = np.concatenate([w @ gained / w.sum(1) for w in resamples(len(gained), groups=groups)])
    units = len(gained) if groups is None else int(groups.max()) + 1
    found: Interval = spread(float(gained.mean()), draws, units=units)
    return f"{100 * found.value:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
