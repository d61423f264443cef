"""Measuring a run's classifier on pictures whose labels are known, and writing the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pellucid.config import CautionConfig
from pellucid.data.dataset import Dataset
from pellucid.data.manifest import USED
from pellucid.data.scan import Progress
from pellucid.data.task import CLASS, LABELS, NUMBER
from pellucid.data.wording import rounded, shown, some
from pellucid.errors import ConfigError, DataError, PellucidError, UnknownNameError, nearest
from pellucid.evaluation.answers import Answers
from pellucid.evaluation.baseline import MOST_TRAINING, Baseline, nearest_baselines, some_of
from pellucid.evaluation.caution import validated
from pellucid.evaluation.change import change_by_verdicts
from pellucid.evaluation.confidence import measure_confidence
from pellucid.evaluation.draw import as_image, drawn_channels
from pellucid.evaluation.folds import AnyScores, FoldsEvaluation
from pellucid.evaluation.growth import LearningCurve
from pellucid.evaluation.intervals import group_numbers
from pellucid.evaluation.labels import evaluate_labels
from pellucid.evaluation.looked import Looked, logits_of, look, own_part, refuse_series, right, used_in_training
from pellucid.evaluation.metrics import evaluate_predictions
from pellucid.evaluation.number import NumberEvaluation, evaluate_numbers
from pellucid.evaluation.page import how_trained
from pellucid.evaluation.predict import find_pictures, readable_pixels
from pellucid.evaluation.ranking import OperatingPoint, choose_threshold, operating_point
from pellucid.evaluation.report import render_report
from pellucid.evaluation.robustness import Robustness
from pellucid.evaluation.robustness import robustness as measure_robustness
from pellucid.evaluation.series import evaluate_series
from pellucid.files import atomic_write, storage_errors, write_json
from pellucid.model.classifier import Classifier, load
from pellucid.model.prediction import THRESHOLD
from pellucid.run import Run

AnyEvaluation = AnyScores | FoldsEvaluation | LearningCurve

_SAMPLES = 24


def evaluate(
    run: Run | str | Path,
    data: str | Path | Dataset | None = None,
    *,
    split: str = "test",
    abstain: float | None = None,
    sets: float | None = None,
    unlike: Sequence[str | Path] = (),
    positive: str | None = None,
    sensitivity: float | None = None,
    specificity: float | None = None,
    robustness: bool = False,
    engine: str = "auto",
    on_engine: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> AnyEvaluation:
    """Measures the classifier of `run` on a split of its own pictures, or on other labelled pictures `data`; a run of several
    trainings, of folds or of a learning curve, is put together.

    Writes reports/NAME.json and NAME.html into the run, NAME being the split or the name of `data`.
    `abstain` (0.05 when None): the share of answers that may be wrong; `sets` (0.9): how often label sets hold the true class;
    `unlike`: folders of pictures of other kinds, which it should tell from these.
    With `positive`, a class or label, it also measures what happens at the threshold that has at least this `sensitivity` (or
    `specificity`) for it on the run's validation part; without either, from a probability of a half on.
    `engine` is one of `pellucid.model.engine`; `on_engine` is told in a sentence what was measured to choose it.
    With `robustness` it also looks at the pictures noisy, blurred, in bad weather, damaged, turned, resized and relit.
    Raises RunError when there is no classifier, DataError when there is nothing to measure on, ConfigError and UnknownNameError
    for a point that cannot be chosen.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    content = run.read()
    if data is None and "members" in content:
        return evaluate_series(run)
    refuse_series(content, run)
    classifier = load(run.path)
    _require_point(classifier, positive, sensitivity, specificity)
    if robustness and classifier.task.kind == NUMBER:
        raise ConfigError(
            "--robustness counts answers that are no longer right, and a number is seldom quite right. Leave it out."
        )
    CautionConfig(abstain=abstain, sets=sets)
    validated(classifier, {"--abstain": abstain, "--sets": sets, "--unlike": unlike})
    others = {str(folder): find_pictures([folder]) for folder in unlike}
    looked = look(run, data, split=split, engine=engine, on_engine=on_engine, progress=progress, classifier=classifier)
    evaluation = _evaluation(looked, _point(looked, positive, sensitivity, specificity))
    if not isinstance(evaluation, NumberEvaluation):
        confidence = measure_confidence(
            looked.classifier, looked.logits, looked.chosen.labels, groups=looked.chosen.groups, abstain=abstain, sets=sets,
            unlike={folder: _logits_of_files(looked.classifier, folder, files) for folder, files in others.items()},
        )  # fmt: skip
        evaluation = replace(evaluation, confidence=confidence)
    seen = () if data is None else _seen_in_training(run, looked.hashes)
    changed = _change(looked) if data is None else ()
    evaluation = replace(evaluation, notes=(*seen, *changed, *looked.chosen.notes, *evaluation.notes))
    if robustness and not isinstance(evaluation, NumberEvaluation):
        evaluation = replace(evaluation, robustness=_robustness(looked, engine, progress))
    _write_report(looked, evaluation)
    return evaluation


def _require_point(
    classifier: Classifier, positive: str | None, sensitivity: float | None, specificity: float | None
) -> None:
    asked = [f"--{k} {v:g}" for k, v in (("sensitivity", sensitivity), ("specificity", specificity)) if v is not None]
    if positive is None:
        if asked:
            raise ConfigError(
                f"{asked[0]} needs to know of which class: add --positive with one of {some(classifier.classes)}."
            )
        return
    if classifier.task.kind == NUMBER or positive not in classifier.classes:
        raise UnknownNameError(
            f"--positive is '{shown(positive)}', which is none of the classes: {some(classifier.classes)}. "
            f"{nearest(positive, classifier.classes)}".rstrip()
        )
    if len(asked) > 1:
        raise ConfigError(f"{asked[0]} and {asked[1]} would be two thresholds. Give one of the two.")
    for value in (sensitivity, specificity):
        if value is not None and not 0 < value <= 1:
            raise ConfigError(f"{asked[0]}: it must lie above 0 and up to 1, like 0.95.")


def _point(
    looked: Looked, positive: str | None, sensitivity: float | None, specificity: float | None
) -> OperatingPoint | None:
    """What happens at the threshold that was chosen on the validation part; None when no class is asked about."""
    if positive is None:
        return None
    k, classifier = looked.classifier.classes.index(positive), looked.classifier
    threshold, aim, chosen_on = 0.5, "the probability of a half", "no pictures"
    if sensitivity is not None or specificity is not None:
        chosen, pack = own_part(looked, "validation")
        aim = f"sensitivity {sensitivity:g}" if sensitivity is not None else f"specificity {specificity:g}"
        aim = f"{aim} or more"
        also = ", which is measured here, too" if looked.name == "validation" else ""
        chosen_on = f"the validation part, n {len(chosen.rows):,}{also}"
        threshold = choose_threshold(
            is_positive(chosen.labels, k), classifier.answers(logits_of(classifier, pack.pixels, chosen.rows))[:, k],
            sensitivity=sensitivity, specificity=specificity,
        )  # fmt: skip
    groups = None if looked.chosen.groups is None else group_numbers(looked.chosen.groups)
    return operating_point(
        is_positive(looked.chosen.labels, k), looked.answers[:, k], threshold,
        positive=positive, aim=aim, chosen_on=chosen_on, groups=groups,
    )  # fmt: skip


def _robustness(looked: Looked, engine: str, progress: Progress | None) -> Robustness:
    chosen, kind = looked.chosen, looked.classifier.task.kind
    return measure_robustness(
        replace(looked.classifier, forward=None), looked.pack.pixels, chosen.rows,
        lambda answers, which: right(answers, chosen.labels[which]),
        metric="accuracy" if kind == CLASS else "share of pictures with all labels right",
        groups=None if chosen.groups is None else group_numbers(chosen.groups), engine=engine, progress=progress,
    )  # fmt: skip


def is_positive(labels: np.ndarray, k: int) -> np.ndarray:
    """bool (N,): the pictures of class k, of int (N,), or with label k, of 0 and 1 (N, L)."""
    return labels == k if labels.ndim == 1 else labels[:, k] > 0.5


def _nearest(looked: Looked) -> tuple[dict[str, Baseline], tuple[str, ...]]:
    """The baselines of the nearest training pictures, and what to tell when there are none."""
    chosen, classifier = looked.chosen, looked.classifier
    if looked.name == "train":
        return {}, ("each training picture is its own nearest one, so no nearest ones are compared with",)
    try:
        known, pack = own_part(looked, "train")
    except PellucidError:
        return {}, ("the training pictures are not at hand, so no nearest ones are compared with",)
    size = classifier.contract.height * classifier.contract.width
    among = some_of(len(known.rows), size, most=MOST_TRAINING)
    wanted = some_of(len(chosen.rows), size, seed=1)
    groups = None if chosen.groups is None else group_numbers([chosen.groups[i] for i in wanted])
    return nearest_baselines(
        classifier, (pack.pixels[known.rows[among]], known.labels[among]),
        (looked.pack.pixels[chosen.rows[wanted]], chosen.labels[wanted]), groups=groups,
    ), ()  # fmt: skip


def _change(looked: Looked) -> tuple[str, ...]:
    """What the verdicts of this run changed, where it has some."""
    if not looked.content.get("verdicts"):
        return ()
    chosen, classes = looked.chosen, looked.classifier.classes
    labels = tuple(classes[k] for k in chosen.labels)
    groups = tuple(chosen.groups or [""] * len(labels))
    return change_by_verdicts(
        looked.content, Answers(tuple(looked.paths), labels, groups, groups, classes, looked.answers)
    )


def _evaluation(looked: Looked, point: OperatingPoint | None) -> AnyScores:
    run, chosen, answers, name = looked.run, looked.chosen, looked.answers, looked.name
    task, classes, paths = looked.classifier.task, looked.classifier.classes, looked.paths
    if task.kind == CLASS:
        baselines, notes = _nearest(looked)
        evaluation = evaluate_predictions(
            chosen.labels, answers, classes, paths=paths, groups=chosen.groups, split=name,
            training=Counter(row["label"] for row in _training_rows(run)), baselines=baselines, point=point,
        )  # fmt: skip
        return replace(evaluation, notes=(*evaluation.notes, *notes))
    training = task.encode([row["label"] for row in _training_rows(run)], classes)
    if task.kind == LABELS:
        return evaluate_labels(
            chosen.labels,
            answers,
            classes,
            paths=paths,
            groups=chosen.groups,
            split=name,
            training=training,
            point=point,
        )
    return evaluate_numbers(
        chosen.labels, answers, classes[0], paths=paths, groups=chosen.groups, split=name, training=training,
        margin=task.margin,
    )  # fmt: skip


def _logits_of_files(classifier: Classifier, folder: str, files: Sequence[Path]) -> torch.Tensor:
    """Of those files that can be read, whatever they show."""
    parts = [classifier.predict_logits(pixels) for pixels in readable_pixels(files, classifier.contract)]
    if not parts:
        raise DataError(f"No picture of --unlike '{folder}' can be read by this classifier. Give a folder of others.")
    return torch.cat(parts)


def _seen_in_training(run: Run, hashes: Sequence[str]) -> tuple[str, ...]:
    """What to tell when files that are measured on had a part in the training."""
    used = used_in_training(run)
    count = sum(digest in used for digest in hashes)
    if not count:
        return ()
    return (f"{count:,} of {len(hashes):,} pictures were used to train this classifier, so the scores are too good",)


def _training_rows(run: Run) -> list[dict[str, str]]:
    return [row for row in run.read_manifest() if row["split"] == "train" and row["status"] == USED]


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


def _write_report(looked: Looked, evaluation: AnyScores) -> None:
    run, content, classifier, chosen, name = looked.run, looked.content, looked.classifier, looked.chosen, looked.name

    def picture(index: int) -> Image.Image:
        return as_image(chosen.dataset.picture(int(chosen.rows[index])).pixels)

    some_rows = np.random.default_rng(0).permutation(len(chosen.rows))[:_SAMPLES]
    samples = [_sample(classifier, int(i), chosen.labels[i], looked.answers[i]) for i in some_rows]
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
        samples=samples, made=made, changed=looked.pack.pixels[chosen.rows[0]], prior=content.get("prior"),
        health=told.get("health", ()), warnings=told.get("warning", ()),
    )  # fmt: skip
    folder = run.path / "reports"
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    write_json(folder / f"{name}.json", evaluation.to_dict())
    atomic_write(folder / f"{name}.html", page.encode())
