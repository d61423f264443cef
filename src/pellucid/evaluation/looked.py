"""A part of a run's pictures, or other labelled pictures, with what the run's classifier says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.data.dataset import Dataset, open_dataset
from pellucid.data.manifest import SPLITS, USED
from pellucid.data.pack import Pack, open_pack
from pellucid.data.reopen import reopen
from pellucid.data.scan import Progress, Record
from pellucid.data.task import CLASS, LABELS, NUMBER
from pellucid.data.wording import counted, shown, some
from pellucid.errors import DataError, RunError, nearest
from pellucid.model.classifier import Classifier, load
from pellucid.model.engine import told, with_engine
from pellucid.model.prediction import THRESHOLD
from pellucid.run import Run

_BATCH = 1024


@dataclass(frozen=True, eq=False)
class Chosen:
    """The items of a data set that are measured: their rows, true answers (as `Task.encode` gives them), groups; and what a
    reader must know."""

    dataset: Dataset
    rows: np.ndarray
    labels: np.ndarray
    groups: list[str] | None
    notes: tuple[str, ...]
    hashes: tuple[str, ...] = ()  # SHA-256 that the files had when the run began, where that is known


@dataclass(frozen=True, eq=False)
class Looked:
    """What a classifier answered, and the pictures and truths that belong to it; `answers` are of `chosen.rows` of `pack`."""

    run: Run
    content: dict[str, Any]
    classifier: Classifier
    chosen: Chosen
    pack: Pack
    logits: torch.Tensor  # not calibrated
    answers: np.ndarray
    name: str

    @property
    def paths(self) -> list[str]:
        return [self.chosen.dataset.items[i].path for i in self.chosen.rows]

    @property
    def hashes(self) -> list[str]:
        """SHA-256 of each picture's file."""
        return [self.pack.records[i].sha256 for i in self.chosen.rows]


def look(
    run: Run,
    data: str | Path | Dataset | None = None,
    *,
    split: str = "test",
    engine: str = "auto",
    on_engine: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    classifier: Classifier | None = None,
) -> Looked:
    """What the run's classifier, or `classifier` when it was loaded before, answers for a split of its own pictures, or for
    other labelled pictures; see `evaluate`."""
    content = run.read()
    refuse_series(content, run)
    classifier = classifier or load(run.path)
    if data is None:
        chosen, name = _own_split(run, content, classifier, split), split
    else:
        dataset = data if isinstance(data, Dataset) else _opened(data, content, classifier)
        chosen, name = _other_data(dataset, classifier, split), dataset.name
        if name in SPLITS:  # its report must not take the place of that of the run's own part
            name += "-data"
    pack = open_pack(chosen.dataset, classifier.contract, progress=progress)
    chosen = _without_bad(chosen, pack.records)
    if not len(chosen.rows):
        why = "; ".join(chosen.notes[-1:])
        raise DataError(
            f"No picture can be measured: '{name}' of '{chosen.dataset.source}' holds no readable one ({why}). Give others."
        )
    some = pack.pixels[chosen.rows[:64]]
    classifier, trials = with_engine(classifier, engine, pixels=some, count=len(chosen.rows))
    if on_engine and trials:
        on_engine(told(trials))
    logits = logits_of(classifier, pack.pixels, chosen.rows)
    return Looked(run, content, classifier, chosen, pack, logits, classifier.answers(logits), name)


def own_pictures(
    run: Run, classifier: Classifier, split: str, *, progress: Progress | None = None
) -> tuple[Chosen, Pack]:
    """A part of the run's own pictures, those that can be read, and the pack that holds their pixels; nothing is answered."""
    content = run.read()
    refuse_series(content, run)
    chosen = _own_split(run, content, classifier, split)
    pack = open_pack(chosen.dataset, classifier.contract, progress=progress)
    return _without_bad(chosen, pack.records), pack


def refuse_series(content: dict[str, Any], run: Run) -> None:
    """Raises RunError when the run holds several trainings."""
    if members := content.get("members"):
        raise RunError(
            f"'{run}' holds {len(members)} trainings; pictures are answered by one of them: '{run.path / members[-1]}'."
        )


def logits_of(classifier: Classifier, pixels: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """What the classifier says, not calibrated, of some rows of the pixels of a pack: float32 (N, outputs)."""
    parts = np.array_split(rows, -(-len(rows) // _BATCH))
    return torch.cat([classifier.predict_logits(pixels[some]) for some in parts])


def own_part(looked: Looked, split: str) -> tuple[Chosen, Pack]:
    """Another part of the run's own pictures."""
    same = looked.chosen.hashes  # known only of the run's own pictures
    chosen = _own_split(looked.run, looked.content, looked.classifier, split, looked.chosen.dataset if same else None)
    pack = looked.pack if same else open_pack(chosen.dataset, looked.classifier.contract)
    return _without_bad(chosen, pack.records), pack


def used_in_training(run: Run | str | Path) -> set[str]:
    """SHA-256 of the files that had a part in a run's training: those of its training and its validation part."""
    run = run if isinstance(run, Run) else Run(Path(run))
    return {row["sha256"] for row in run.read_manifest() if row["status"] == USED and row["split"] != "test"}


def right(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool (N,): whether the most probable of answers (N, K) is the class int (N,), or all labels, 0 and 1 (N, K), are right."""
    found = answers.argmax(1) == labels if labels.ndim == 1 else ((answers >= THRESHOLD) == (labels > 0.5)).all(1)
    return np.asarray(found)


def _opened(data: str | Path, content: dict[str, Any], classifier: Classifier) -> Dataset:
    """Other pictures, read for what the classifier answers: its separator, and its column where a table was named one."""
    task, column = classifier.task, content["config"]["data"].get("label_column")
    if task.kind == CLASS:
        return open_dataset(data)
    return open_dataset(data, task=task.kind, label_separator=task.separator if task.kind == LABELS else None,
                        label_column=column)  # fmt: skip


def _own_split(
    run: Run, content: dict[str, Any], classifier: Classifier, split: str, dataset: Dataset | None = None
) -> Chosen:
    """A part of the run's own pictures; `dataset` holds them when it was opened before."""
    manifest = run.read_manifest()
    known = sorted({row["split"] for row in manifest if row["split"]})
    split = {"val": "validation", "valid": "validation"}.get(split, split)
    if split not in known:
        raise DataError(
            f"'{run}' has no part called '{split}'; it has {', '.join(known)}. {nearest(split, known)}".rstrip()
            + (" Measure with --split validation, or give labelled pictures." if split == "test" else "")
        )
    dataset = dataset or reopen(content)
    place = {item.path: i for i, item in enumerate(dataset.items)}
    wanted = [row for row in manifest if row["split"] == split and row["status"] == USED]
    missing = [row["path"] for row in wanted if row["path"] not in place]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(wanted):,} pictures of the {split} part are no longer in '{dataset.source}', for "
            f"example '{missing[0]}'. Bring them back, or give other labelled pictures to evaluate."
        )
    out = [row for row in manifest if row["split"] == split and row["status"] != USED]
    notes = [f"{len(out):,} pictures of this part are left out (see data.csv)"] if out else []
    labels = classifier.task.encode([row["label"] for row in wanted], classifier.classes)
    groups = [row["group"] for row in wanted]
    rows = np.array([place[row["path"]] for row in wanted], np.int64)
    hashes = tuple(row["sha256"] for row in wanted)
    return Chosen(dataset, rows, labels, groups if any(groups) else None, tuple(notes), hashes)


def _other_data(dataset: Dataset, classifier: Classifier, split: str) -> Chosen:
    task, known = classifier.task, set(classifier.classes)
    if dataset.task.kind != task.kind:
        raise DataError(
            f"'{dataset.source}' was opened with task '{dataset.task.kind}', but the classifier answers with task '{task.kind}'. "
            f"Open it with task='{task.kind}'."
        )
    items = [(i, item) for i, item in enumerate(dataset.items) if item.label >= 0 or task.kind == CLASS]
    if any(item.split == split for _, item in items):
        items = [(i, item) for i, item in items if item.split == split]
    notes = []
    unseen = sorted(set(dataset.classes) - known) if task.kind != NUMBER else []
    if task.kind == CLASS:
        unseen = sorted({dataset.label(i) for i, item in items if item.label >= 0} - known)
        if unseen:
            kept = [(i, item) for i, item in items if dataset.label(i) in known]
            notes.append(
                f"{len(items) - len(kept):,} pictures of classes that the classifier does not know are left out: "
                + ", ".join(f"'{name}'" for name in unseen[:10])
            )
            items = kept
    elif unseen:
        notes.append(f"labels that the classifier does not know are passed over: {some(unseen)}")
    if not items or len(unseen) == len(dataset.classes):
        raise DataError(
            f"No class of '{dataset.source}' ({some(dataset.classes)}) is one of the classifier's "
            f"({some(classifier.classes)}). Class names must be the same, letter for letter."
        )
    labels = task.encode([dataset.label(i) for i, _ in items], classifier.classes)
    groups = [item.group or "" for _, item in items]
    return Chosen(
        dataset,
        np.array([i for i, _ in items], np.int64),
        labels,
        groups if any(groups) else None,
        tuple(notes),
    )


def _without_bad(chosen: Chosen, records: Sequence[Record]) -> Chosen:
    """Leaves out what cannot be read and what is no longer the file that the run began with, and says so."""
    reasons = [records[i].reason for i in chosen.rows]
    for k, digest in enumerate(chosen.hashes):
        if reasons[k] is None and records[chosen.rows[k]].sha256 != digest:
            reasons[k] = "the file has changed since the training"
    bad = np.array([reason is not None for reason in reasons], bool)
    if not bad.any():
        return chosen
    first = int(np.flatnonzero(bad)[0])
    path = chosen.dataset.items[chosen.rows[first]].path
    note = f"{counted(int(bad.sum()), 'picture')} left out, for example '{shown(path)}': {reasons[first]}"
    groups = [g for g, out in zip(chosen.groups, bad, strict=True) if not out] if chosen.groups else None
    return replace(
        chosen, rows=chosen.rows[~bad], labels=chosen.labels[~bad], groups=groups, notes=(*chosen.notes, note)
    )
