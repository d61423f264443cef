"""Several trainings on one data set, in one run folder: folds, or growing shares of the training part.

Each is an ordinary run in a folder of its own, whose manifest is written before the first one begins. So a series that was
killed goes on with those that are not finished, and any of them can be evaluated, used or resumed by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pellucid.data.dataset import Dataset
from pellucid.data.loader import Pictures
from pellucid.data.manifest import USED, Manifest
from pellucid.data.pack import Pack
from pellucid.evaluation.answers import Answers, answers_file, write_answers
from pellucid.evaluation.headline import headline
from pellucid.model.classifier import load
from pellucid.run import Run, create_run, members_of
from pellucid.training.loop import OnEvent
from pellucid.training.work import answers_of, closing_seconds

WAITING = "waiting"


def begin_series(run: Run, members: Mapping[str, Manifest], *, content: Mapping[str, Any]) -> None:
    """Makes the run folders of the trainings inside `run`, in their order, with their manifests; `content` describes all."""
    created = {name: value for name, value in run.read().items() if name in ("created", "command")}
    for name, manifest in members.items():
        member = create_run(name, {"state": WAITING, **created, "part": name}, out=run.path / name)
        member.write_manifest(manifest.to_rows())
    run.update(**content, members=list(members))


def train_series(
    run: Run,
    pack: Pack,
    dataset: Dataset,
    train_member: Callable[[Run, float, float | None], None],
    tell: OnEvent,
    started: float,
    limit: float | None,
) -> None:
    """Trains and measures what is not finished, with `train_member(its run, when it began, its seconds or None)`.

    `limit` seconds are for the whole series: half of them are shared out like the training pictures and half equally, since a
    small training begins no faster; also when the series goes on. It ends early, 'interrupted', when one of them is.
    """
    members = members_of(run)
    rows = {member: _rows(member) for member in members}
    sizes = {member: sum(row["split"] == "train" for row in rows[member]) for member in members}
    weight = {member: size / sum(sizes.values()) + 1 / len(members) for member, size in sizes.items()}
    todo = [m for m in members if m.read()["state"] != "finished" or not answers_file(m).exists()]
    deadline, measuring = None, 0.0
    if limit is not None:
        part = sum(weight[m] for m in todo) / sum(weight.values())
        deadline = started + part * limit - 2 * closing_seconds(limit)  # the common report takes its time, too
    for position, member in enumerate(todo):
        name, began = member.path.name, time.monotonic()
        if member.read()["state"] != "finished":
            tell({"event": "member", "name": name, "number": members.index(member) + 1, "of": len(members)})
            share = None
            if deadline is not None:
                left = deadline - began - measuring * (len(todo) - position)
                share = max(left * weight[member] / sum(weight[m] for m in todo[position:]), 1.0)
            try:
                with member.lock():
                    train_member(member, began, share)
            finally:
                if (state := member.read()["state"]) != WAITING:  # else a new series, which then is removed
                    run.update(state="running")
            if state != "finished":
                return _end(run, tell, "interrupted")
        began = time.monotonic()
        answers = _measured(member, rows[member], pack, dataset)
        measuring = time.monotonic() - began
        truth = dataset.task.encode(answers.labels, answers.outputs)
        score = headline(dataset.task, truth, answers.values)
        tell({"event": "tested", "name": name, "n": len(truth), dataset.task.metric: score.to_dict()})
    return _end(run, tell, "finished")


def _rows(member: Run) -> list[dict[str, str]]:
    return [row for row in member.read_manifest() if row["status"] == USED]


def _measured(member: Run, rows: list[dict[str, str]], pack: Pack, dataset: Dataset) -> Answers:
    """What the member's classifier answers for its test part; also written into its folder."""
    test = [row for row in rows if row["split"] == "test"]
    place = {item.path: i for i, item in enumerate(dataset.items)}
    indices = np.array([place[row["path"]] for row in test], np.int64)
    classifier = load(member.path)
    paths, labels, groups = (tuple(row[name] for row in test) for name in ("path", "label", "group"))
    values = answers_of(classifier, Pictures(pack.pixels, np.zeros(0), indices))
    answers = Answers(paths, labels, groups, (member.path.name,) * len(test), classifier.classes, values)
    write_answers(answers_file(member), answers)
    return answers


def _end(run: Run, tell: OnEvent, state: str) -> None:
    seconds = round(sum(member.read().get("seconds", 0.0) for member in members_of(run)), 2)
    run.update(state=state, seconds=seconds)
    tell({"event": state, "seconds": seconds})
