"""Measuring a run's classifier on pictures whose labels are known, and writing the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pellucid.data.dataset import Dataset, open_dataset
from pellucid.data.manifest import SPLITS, USED
from pellucid.data.pack import open_pack
from pellucid.data.reopen import reopen
from pellucid.data.scan import Progress, Record
from pellucid.data.task import CLASS, LABELS, NUMBER
from pellucid.data.wording import counted, rounded, shown, some
from pellucid.errors import DataError, RunError, nearest
from pellucid.evaluation.answers import Answers
from pellucid.evaluation.change import change_by_verdicts
from pellucid.evaluation.folds import AnyScores, FoldsEvaluation
from pellucid.evaluation.growth import LearningCurve
from pellucid.evaluation.labels import evaluate_labels
from pellucid.evaluation.metrics import evaluate_predictions
from pellucid.evaluation.number import evaluate_numbers
from pellucid.evaluation.page import how_trained
from pellucid.evaluation.predict import as_image, drawn_channels
from pellucid.evaluation.report import render_report
from pellucid.evaluation.series import evaluate_series
from pellucid.files import atomic_write, storage_errors, write_json
from pellucid.model.classifier import Classifier, load
from pellucid.model.engine import told, with_engine
from pellucid.model.prediction import THRESHOLD
from pellucid.run import Run

AnyEvaluation = AnyScores | FoldsEvaluation | LearningCurve

_BATCH = 1024
_SAMPLES = 24


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The items of a data set that are measured: their rows, true answers (as `Task.encode` gives them), groups; and what a
    reader must know."""

    dataset: Dataset
    rows: np.ndarray
    labels: np.ndarray
    groups: list[str] | None
    notes: tuple[str, ...]
    hashes: tuple[str, ...] = ()  # SHA-256 that the files had when the run began, where that is known


def evaluate(
    run: Run | str | Path,
    data: str | Path | Dataset | None = None,
    *,
    split: str = "test",
    engine: str = "auto",
    on_engine: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> AnyEvaluation:
    """Measures the classifier of `run` on a split of its own pictures, or on other labelled pictures `data`; a run of several
    trainings, of folds or of a learning curve, is put together.

    Writes reports/NAME.json and NAME.html into the run, NAME being the split or the name of `data`.
    `engine` is one of `pellucid.model.engine`; `on_engine` is told in a sentence what was measured to choose it.
    Raises RunError when there is no classifier, DataError when there is nothing to measure on.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    content = run.read()
    if members := content.get("members"):
        if data is not None:
            raise RunError(
                f"'{run}' holds {len(members)} trainings; other pictures are answered by one of them: '{run.path / members[-1]}'."
            )
        return evaluate_series(run)
    classifier = load(run.path)
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
    probabilities = np.concatenate([
        classifier.predict_proba(pack.pixels[rows])
        for rows in np.array_split(chosen.rows, -(-len(chosen.rows) // _BATCH))
    ])  # fmt: skip
    evaluation = _evaluation(run, classifier, chosen, probabilities, name)
    seen = () if data is None else _seen_in_training(run, [pack.records[i].sha256 for i in chosen.rows])
    changed = _change(content, classifier, chosen, probabilities) if data is None else ()
    evaluation = replace(evaluation, notes=(*seen, *changed, *chosen.notes, *evaluation.notes))
    _write_report(run, content, classifier, chosen, probabilities, evaluation, name)
    return evaluation


def _change(content: dict[str, Any], classifier: Classifier, chosen: _Chosen, answers: np.ndarray) -> tuple[str, ...]:
    """What the verdicts of this run changed, where it has some."""
    if not content.get("verdicts"):
        return ()
    labels = tuple(classifier.classes[k] for k in chosen.labels)
    groups = tuple(chosen.groups or [""] * len(labels))
    paths = tuple(chosen.dataset.items[i].path for i in chosen.rows)
    return change_by_verdicts(content, Answers(paths, labels, groups, groups, classifier.classes, answers))


def _opened(data: str | Path, content: dict[str, Any], classifier: Classifier) -> Dataset:
    """Other pictures, read for what the classifier answers: its separator, and its column where a table was named one."""
    task, column = classifier.task, content["config"]["data"].get("label_column")
    if task.kind == CLASS:
        return open_dataset(data)
    return open_dataset(data, task=task.kind, label_separator=task.separator if task.kind == LABELS else None,
                        label_column=column)  # fmt: skip


def _evaluation(run: Run, classifier: Classifier, chosen: _Chosen, answers: np.ndarray, name: str) -> AnyScores:
    task, classes = classifier.task, classifier.classes
    paths = [chosen.dataset.items[i].path for i in chosen.rows]
    if task.kind == CLASS:
        return evaluate_predictions(
            chosen.labels, answers, classes, paths=paths, groups=chosen.groups, split=name, majority=_majority(run)
        )
    training = task.encode([row["label"] for row in _training_rows(run)], classes)
    if task.kind == LABELS:
        return evaluate_labels(
            chosen.labels, answers, classes, paths=paths, groups=chosen.groups, split=name, training=training
        )
    return evaluate_numbers(
        chosen.labels, answers, classes[0], paths=paths, groups=chosen.groups, split=name, training=training,
        margin=task.margin,
    )  # fmt: skip


def _own_split(run: Run, content: dict[str, Any], classifier: Classifier, split: str) -> _Chosen:
    manifest = run.read_manifest()
    known = sorted({row["split"] for row in manifest if row["split"]})
    split = {"val": "validation", "valid": "validation"}.get(split, split)
    if split not in known:
        raise DataError(
            f"'{run}' has no part called '{split}'; it has {', '.join(known)}. {nearest(split, known)}".rstrip()
            + (" Measure with --split validation, or give labelled pictures." if split == "test" else "")
        )
    dataset = reopen(content)
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
    return _Chosen(dataset, rows, labels, groups if any(groups) else None, tuple(notes), hashes)


def _other_data(dataset: Dataset, classifier: Classifier, split: str) -> _Chosen:
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
            f"No class of '{dataset.source}' ({', '.join(dataset.classes[:5])}) is one of the classifier's "
            f"({', '.join(classifier.classes[:5])}). Class names must be the same, letter for letter."
        )
    labels = task.encode([dataset.label(i) for i, _ in items], classifier.classes)
    groups = [item.group or "" for _, item in items]
    return _Chosen(
        dataset,
        np.array([i for i, _ in items], np.int64),
        labels,
        groups if any(groups) else None,
        tuple(notes),
    )


def _without_bad(chosen: _Chosen, records: Sequence[Record]) -> _Chosen:
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


def _seen_in_training(run: Run, hashes: Sequence[str]) -> tuple[str, ...]:
    """What to tell when files that are measured on had a part in the training."""
    used = {row["sha256"] for row in run.read_manifest() if row["status"] == USED and row["split"] != "test"}
    count = sum(digest in used for digest in hashes)
    if not count:
        return ()
    return (f"{count:,} of {len(hashes):,} pictures were used to train this classifier, so the scores are too good",)


def _training_rows(run: Run) -> list[dict[str, str]]:
    return [row for row in run.read_manifest() if row["split"] == "train" and row["status"] == USED]


def _majority(run: Run) -> str | None:
    """The most frequent class of the training part."""
    counts = Counter(row["label"] for row in _training_rows(run))
    return max(sorted(counts), key=lambda name: counts[name]) if counts else None


def _sample(classifier: Classifier, index: int, truth: Any, answer: np.ndarray) -> tuple[int, str, str, float]:
    """Index, true answer, given answer and its probability (1 where it is a number)."""
    task, classes = classifier.task, classifier.classes
    if task.kind == CLASS:
        return index, classes[truth], classes[answer.argmax()], float(answer.max())
    if task.kind == NUMBER:
        return index, rounded(float(truth[0]), task.step), rounded(float(answer[0]), task.step), 1.0
    surest = np.where((truth > 0.5) == (answer >= THRESHOLD), np.maximum(answer, 1 - answer), 0)
    true, given = (task.decode(row, classes).replace(task.separator, ", ") for row in (truth, answer >= THRESHOLD))
    return index, true, given, float(surest.min())


def _write_report(
    run: Run, content: dict[str, Any], classifier: Classifier, chosen: _Chosen, probabilities: np.ndarray,
    evaluation: AnyScores, name: str,
) -> None:  # fmt: skip
    def picture(index: int) -> Image.Image:
        return as_image(chosen.dataset.picture(int(chosen.rows[index])).pixels)

    some_rows = np.random.default_rng(0).permutation(len(chosen.rows))[:_SAMPLES]
    samples = [_sample(classifier, int(i), chosen.labels[i], probabilities[i]) for i in some_rows]
    made = {
        "Pictures": f"{chosen.dataset.source} ({name})",
        "Data fingerprint": content["fingerprint"],
        "Network": str(classifier),
        "Parameters": f"{content['parameters']:,}",
        "Weights": classifier.weights.get("origin", ""),
        **how_trained(content),
    }
    if drawn := drawn_channels(classifier.contract.channels):
        made["Shown of each picture"] = drawn
    told: dict[str, list[dict[str, Any]]] = {}
    for event in run.events():
        told.setdefault(event["event"], []).append(event)
    page = render_report(
        title=f"{content['name']}: {name}", evaluation=evaluation, history=told.get("epoch", ()), picture=picture,
        samples=samples, made=made, health=told.get("health", ()), warnings=told.get("warning", ()),
    )  # fmt: skip
    folder = run.path / "reports"
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    write_json(folder / f"{name}.json", evaluation.to_dict())
    atomic_write(folder / f"{name}.html", page.encode())
