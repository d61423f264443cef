"""A series of trainings: folds measured without leaks, killed and gone on with, verdicts read back, a learning curve."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

import pellucid
from pellucid.errors import ConfigError, DataError, RunError, SplitError
from pellucid.evaluation.answers import read_answers
from pellucid.evaluation.compare import compare
from pellucid.evaluation.folds import FoldsEvaluation
from pellucid.evaluation.growth import LearningCurve
from pellucid.evaluation.suspects import find_suspects
from pellucid.run import Run, members_of
from pellucid.training import pipeline

QUICK: dict[str, Any] = {"model": "conv8,k3,psame relu pool flatten", "epochs": 6, "precision": "fp32", "batch_size": 16,
                         "learning_rate": 0.01, "augment": "none", "near": False}  # fmt: skip


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """50 each of the digits 0, 1 and 2; five zeros are called 1."""
    folder = tmp_path_factory.mktemp("digits")
    for label in (0, 1, 2):
        for i, k in enumerate(np.flatnonzero(digits[1] == label)[:50]):
            name = "1" if label == 0 and i < 5 else str(label)
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(digits[0][k]).save(folder / name / f"{label}-{i:02}-{'abcde'[i % 5]}{i // 10}.png")
    return folder


@pytest.fixture(scope="session")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three finished folds. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        run = pellucid.train(photos, out=tmp_path_factory.mktemp("runs") / "whole", folds=3, **QUICK)
        run.evaluate()
    return run


def weights(run: Run) -> list[str]:
    return [json.loads((m.path / "model" / "card.json").read_text())["sha256"] for m in members_of(run)]


def test_every_picture_is_answered_by_the_fold_that_did_not_see_it(whole: Run) -> None:
    found = read_answers(whole.path / "reports" / "out-of-fold.csv")
    assert len(set(found.paths)) == len(found.paths) == 150
    for member in members_of(whole):
        rows = {row["path"]: row["split"] for row in member.read_manifest()}
        mine = [path for path, part in zip(found.paths, found.parts, strict=True) if part == member.path.name]
        assert {rows[path] for path in mine} == {"test"}
        assert len(mine) == 50
        classifier = pellucid.load(member.path)
        source = Path(whole.read()["source"])
        answer = classifier.predict(source / mine[0])
        values = found.values[found.paths.index(mine[0])]
        assert answer.label == found.outputs[int(values.argmax())]
        assert answer.probability == pytest.approx(values.max(), abs=1e-5)


def test_scores_are_those_of_scikit_learn(whole: Run) -> None:
    evaluation = whole.evaluate()
    assert isinstance(evaluation, FoldsEvaluation)
    found = evaluation.answers
    says = np.array(found.outputs)[found.values.argmax(1)]
    truth, parts = np.array(found.labels), np.array(found.parts)
    by_fold = [accuracy_score(truth[parts == f"fold-{k}"], says[parts == f"fold-{k}"]) for k in (1, 2, 3)]
    assert [fold.score.value for fold in evaluation.folds] == pytest.approx(by_fold)
    assert evaluation.mean == pytest.approx(np.mean(by_fold))
    assert evaluation.std == pytest.approx(np.std(by_fold, ddof=1))
    assert evaluation.pooled.accuracy.value == pytest.approx(accuracy_score(truth, says))
    assert "single pictures out at random" in str(evaluation)
    written = json.loads((whole.path / "reports" / "folds.json").read_text())
    assert written == json.loads(json.dumps(evaluation.to_dict()))


def test_the_stopping_set_is_never_the_test_fold(
    photos: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[int], set[int], set[int]]] = []
    real = pipeline.fit_and_save

    def watched(work: Any, *rest: Any, **more: Any) -> None:
        seen.append(tuple(set(work.parts[p].indices.tolist()) for p in ("train", "validation", "test")))  # type: ignore[arg-type]
        real(work, *rest, **more)

    monkeypatch.setattr(pipeline, "fit_and_save", watched)
    settings = QUICK | {"epochs": 2, "patience": 1, "group": "([a-e][0-9]).png"}
    run = pellucid.train(photos, out=tmp_path / "run", folds=3, **settings)
    assert len(seen) == 3
    groups = [row["group"] for row in run.read_manifest()]
    for train, valid, test in seen:
        assert train
        assert valid
        assert test
        owners = [{groups[i] for i in part} for part in (train, valid, test)]
        assert not owners[0] & owners[1]
        assert not owners[0] & owners[2]
        assert not owners[1] & owners[2]
    assert set.union(*(test for _, _, test in seen)) == set(range(150))
    grouped, single = run.evaluate(), whole.evaluate()
    assert "keep each of 25 groups" in str(grouped)

    compared = compare([run, whole])  # folds by groups with folds of single pictures
    assert (compared.n, compared.num_groups) == (150, 25)
    scores = [found.pooled.accuracy.value for found in (grouped, single)]
    assert [rival.score.value for rival in compared.rivals] == pytest.approx(scores)
    assert compared.rivals[1].gain.value == pytest.approx(scores[1] - scores[0])
    assert "keep groups together and those of" in compared.notes[-1]
    assert not any("keep groups together" in note for note in compare([whole, whole]).notes)
    with pytest.raises(DataError, match="not measured on the same pictures"):
        compare([whole, members_of(whole)[0]])
    with pytest.raises(ConfigError, match="each answered by the fold that has not seen it"):
        compare([whole, run], split="validation")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in a fold", "between folds"])
def test_a_killed_series_goes_on_with_what_is_unfinished(
    photos: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    begun: list[str] = []
    real = pipeline.fit_and_save

    def dies(work: Any, *rest: Any, **more: Any) -> None:
        begun.append(work.run.path.name)
        if len(begun) == 2 and when == "between folds":
            raise MemoryError
        if len(begun) == 2:
            real_tell = work.tell

            def tell(event: dict[str, Any]) -> None:
                real_tell(event)
                if event["event"] == "epoch" and event["epoch"] == 3:
                    raise MemoryError

            object.__setattr__(work, "tell", tell)
        real(work, *rest, **more)

    monkeypatch.setattr(pipeline, "fit_and_save", dies)
    with pytest.raises(MemoryError):
        pellucid.train(photos, out=tmp_path / "run", folds=3, **QUICK)
    run = Run(tmp_path / "run")
    assert run.read()["state"] == "running"
    with pytest.raises(RunError, match="fold-2, fold-3 of 3 trainings are left"):
        run.evaluate()
    begun += ["", ""]
    pellucid.resume(run)
    assert begun[-2:] == ["fold-2", "fold-3"]  # the first is not trained again
    assert run.read()["state"] == "finished"
    assert weights(run) == weights(whole)
    with pytest.raises(RunError, match="nothing to resume"):
        pellucid.resume(run)


def test_an_error_before_the_first_fold_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="give --folds 5 or fewer"):
        pellucid.train(photos, out=tmp_path / "run", folds=9, **QUICK | {"group": "([a-e])[0-9].png"})
    assert not (tmp_path / "run").exists()


def test_a_series_is_no_classifier_and_says_which_ones_it_holds(whole: Run) -> None:
    with pytest.raises(RunError, match=r"holds several trainings, name one of them like .*fold-3"):
        pellucid.load(whole.path)
    with pytest.raises(RunError, match="holds 3 trainings"):
        pellucid.evaluate(whole, "digits")


def test_folds_go_with_no_other_split_and_no_curve(photos: Path) -> None:
    with pytest.raises(ConfigError, match="--split is '80/10/10' and --folds is 3"):
        pellucid.train(photos, folds=3, split="80/10/10")
    with pytest.raises(ConfigError, match="each is a series"):
        pellucid.train(photos, folds=3, learning_curve=True)


def test_wrong_labels_are_suspected_and_verdicts_trained_with(whole: Run, photos: Path, tmp_path: Path) -> None:
    found = find_suspects(whole)
    wrong = {f"1/0-{i:02}-{'abcde'[i]}0.png" for i in range(5)}
    assert wrong <= {suspect.path for suspect in found.found[:7]}
    assert "data:image/png" in found.page.read_text()
    with found.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [suspect.path for suspect in found.found]
    for row in rows:
        row["verdict"] = row["suggested"] if row["path"] in wrong else "ok"
    rows[-1]["verdict"] = ""
    unjudged = rows[-1]["path"]
    with found.table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    again = find_suspects(whole)  # what was written by hand is kept
    assert [suspect.path for suspect in again.found] == [unjudged]
    assert again.judged == len(rows) - 1

    run = pellucid.train(photos, out=tmp_path / "run", folds=3, verdicts=str(found.table), **QUICK)
    relabeled = {row["path"]: row for row in run.read_manifest() if row["reason"]}
    assert set(relabeled) == wrong
    assert {(row["label"], row["reason"]) for row in relabeled.values()} == {("0", "relabeled by verdict, was '1'")}
    evaluation = run.evaluate()
    assert isinstance(evaluation, FoldsEvaluation)
    told, rest = evaluation.pooled.notes[:2]
    assert f"by the labels with the verdicts, which {len(rows) - 1} of them have" in told
    assert rest.startswith(f"On the {150 - len(rows) + 1} without a verdict")
    second = find_suspects(run)  # the labels before any verdict, so that its table can be used in place of the first
    with second.table.open(encoding="utf-8", newline="") as file:
        kept = {row["path"]: row for row in csv.DictReader(file)}
    assert {kept[path]["label"] for path in wrong} == {"1"}
    assert {kept[path]["verdict"] for path in wrong} == {"0"}


def test_suspects_need_folds(photos: Path, tmp_path: Path, whole: Run) -> None:
    with pytest.raises(RunError, match=r"not a run of folds.*--folds 5"):
        find_suspects(members_of(whole)[0])


@pytest.mark.slow
def test_a_learning_curve_is_made_of_ordinary_runs(photos: Path, tmp_path: Path) -> None:
    run = pellucid.train(photos, out=tmp_path / "run", learning_curve=True, **QUICK)
    curve = run.evaluate()
    assert isinstance(curve, LearningCurve)
    sizes = [point.trained_on for point in curve.points]
    assert [point.name for point in curve.points] == ["quarter", "half", "all"]
    assert sizes == [30, 60, 120]
    for member, point in zip(members_of(run), curve.points, strict=True):
        assert member.evaluate().accuracy.value == pytest.approx(point.accuracy.value)
    before, after = (m.evaluate() for m in members_of(run)[1:])
    for grown in curve.classes:
        k = after.classes.index(grown.label)
        gain = after.per_class[k].recall.value - before.per_class[k].recall.value
        assert grown.gain.value == pytest.approx(gain)
        assert grown.gain.low <= gain <= grown.gain.high
    assert "growth" in (run.path / "reports" / "learning-curve.html").read_text()
