"""Confidence of trained networks: calibrated by every door, silent when unsure, and what is promised held on pictures never seen."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, log_loss
from typer.testing import CliRunner

import pellucid
from pellucid.cli import app
from pellucid.data.task import ONE_CLASS
from pellucid.errors import ConfigError, DataError
from pellucid.evaluation.caution import make_caution
from pellucid.evaluation.confidence import score_probabilities
from pellucid.evaluation.label_sets import find_rule, measure_sets
from pellucid.evaluation.measure import evaluate
from pellucid.evaluation.predict import find_pictures, predict_files, write_csv
from pellucid.evaluation.silence import find_threshold
from pellucid.model.calibration import fit_calibration
from pellucid.model.classifier import Classifier
from pellucid.model.prediction import Prediction
from pellucid.run import Run

SETTINGS: dict[str, Any] = {"precision": "fp32", "model": "conv16 relu pool dense32 relu", "augment": "none"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Iterator[Path]:
    """A folder with the digits 0 to 4 as `photos`, 5 and 6 as `others`, and the `run` that was trained on few of the photos."""
    home = tmp_path_factory.mktemp("confidence")
    for i, (image, label) in enumerate(zip(*digits, strict=True)):
        if label < 7:
            folder = home / ("photos" if label < 5 else "others") / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(home / "cache"))
        pellucid.train(
            home / "photos", out=home / "run", split="4/36/60", epochs=12, batch_size=2, learning_rate=0.02, optimizer="sgd", ema=False,
            label_smoothing=0.0, **SETTINGS,
        )  # fmt: skip
        yield home


def test_scores_of_probabilities_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 200)
    y = rng.integers(0, 4, 200)
    found = score_probabilities(p, y)
    assert found.nll == pytest.approx(log_loss(y, p))
    assert found.brier == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean())
    truth = (rng.random((200, 4)) < p).astype(np.float32)
    labels = score_probabilities(p, truth)
    assert labels.brier == pytest.approx(np.mean([brier_score_loss(truth[:, k], p[:, k]) for k in range(4)]))
    assert labels.nll == pytest.approx(np.mean([log_loss(truth[:, k], p[:, k]) for k in range(4)]))
    assert np.isfinite(score_probabilities(np.array([[1.0, 0.0]]), np.array([1])).nll)


def test_a_training_leaves_calibrated_probabilities_and_tells_it(home: Path) -> None:
    run, classifier = Run(home / "run"), pellucid.load(home / "run")
    assert classifier.calibration is not None
    rows = [row for row in run.read_manifest() if row["split"] == "validation"]
    assert classifier.validation is not None
    assert len(classifier.validation) == classifier.calibration.n == len(rows)
    pixels = np.stack([np.asarray(Image.open(home / "photos" / row["path"])) for row in rows])[..., None]
    np.testing.assert_allclose(classifier.predict_logits(pixels).numpy(), classifier.validation.logits, atol=1e-4)
    assert [classifier.classes[k] for k in classifier.validation.targets] == [row["label"] for row in rows]
    (told,) = [event["text"] for event in run.events() if event["event"] == "calibration"]
    assert f"calibrated on {len(rows)} validation pictures: {classifier.calibration}" in told


def test_few_validation_pictures_are_told(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    few = np.flatnonzero(digits[1] < 2)[:100]
    run = pellucid.train((digits[0][few], digits[1][few]), out=tmp_path / "run", epochs=1, **SETTINGS)
    assert pellucid.load(run.path).calibration is None
    (told,) = [event["text"] for event in run.events() if event["event"] == "calibration"]
    assert told.startswith("probabilities are not calibrated: the validation part has 10 pictures")


def test_an_evaluation_tells_before_and_after_and_what_was_asked_for(home: Path) -> None:
    evaluation = evaluate(home / "run", abstain=0.1, sets=0.8, unlike=[home / "others"])
    found = evaluation.confidence
    assert found is not None
    assert evaluation.ece == pytest.approx(found.after.ece)
    assert found.before.nll > found.after.nll
    assert found.silence is not None
    assert found.silence.threshold.level == 0.1
    assert [(s.rule.method, s.rule.coverage) for s in found.sets] == [("lac", 0.8), ("aps", 0.8)]
    (other,) = found.unlike
    assert other.n == len(find_pictures([home / "others"]))
    assert other.auroc.low > 0.6
    page = re.sub("</?span>", "", (home / "run" / "reports" / "test.html").read_text())
    for part in ("As the network says it", "Calibrated", "Brier score", "Label sets", "AUROC", str(other.auroc)):
        assert part in page
    saved = json.loads((home / "run" / "reports" / "test.json").read_text())["confidence"]
    assert saved["unlike"][0]["auroc"]["value"] == other.auroc.value
    assert saved["abstain"]["answered"] + saved["abstain"]["silent"] == evaluation.n
    text = str(evaluation)
    for part in ("from", "Brier score", "Of its answers at most 10 %", "AUROC"):
        assert part in text


def test_silence_sets_and_flags_reach_every_kind_of_output(home: Path, tmp_path: Path) -> None:
    classifier = pellucid.load(home / "run")
    caution = make_caution(classifier, abstain=0.05, sets=0.95)
    paths = find_pictures([home / "photos" / "1", home / "others"])
    (tmp_path / "broken.png").touch()
    answers = list(predict_files(classifier, [*paths, tmp_path / "broken.png"], caution=caution))
    assert caution.threshold is not None
    given = [a.prediction for a in answers if isinstance(a.prediction, Prediction)]
    silent = [p for p in given if p.silent]
    assert 0 < len(silent) < len(given) == len(paths)
    assert all((p.probability < caution.threshold.value) == p.silent for p in given)
    assert all(p.label_set and p.label_set[0] == p.label for p in given)
    assert any(len(p.label_set or ()) > 1 for p in given)
    assert any(p.unlike for p in given)
    counts = list(caution.counts([a.prediction for a in answers]))
    assert counts[0] == f"{len(given) - len(silent)} pictures answered, {len(silent)} not sure."
    write_csv(tmp_path / "a.csv", answers, 2, classifier, caution)
    with (tmp_path / "a.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row, answer in zip(rows[:-1], answers[:-1], strict=True):
        assert isinstance(answer.prediction, Prediction)
        if answer.prediction.silent:
            assert (row["label_1"], row["probability_1"], row["not_sure"]) == ("", "", "not sure")
            assert answer.to_dict(2)["labels"] == []
            assert answer.to_dict(2)["answer"] == "not sure"
            assert f": not sure (at most {answer.prediction.probability:.1%})" in answer.line(2)
        else:
            assert (row["label_1"], row["not_sure"]) == (answer.prediction.label, "")
            assert answer.to_dict(2)["answer"] == answer.prediction.label
        assert row["label_set"].split(";") == list(answer.prediction.label_set or ())
        assert (row["flag"] == "unlike the training pictures") == answer.prediction.unlike
    assert {name: value for name, value in rows[-1].items() if value} == {
        "path": str(tmp_path / "broken.png"), "error": "file is empty (0 bytes)"
    }  # fmt: skip


def test_on_the_command_line(home: Path) -> None:
    some = [str(path) for path in find_pictures([home / "photos" / "1"])[:5]]
    done = CliRunner().invoke(
        app, ["predict", str(home / "run"), *some, "--abstain", "0.0001", "--sets", "0.9", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert [row["answer"] for row in json.loads(done.stdout)] == ["not sure"] * 5
    assert "cannot promise that at most 0.01 % of the answers are wrong" in done.stderr
    done = CliRunner().invoke(app, ["predict", str(home / "run"), *some, "--abstain", "0.0001"])
    assert "0 pictures answered, 5 not sure." in done.stdout


def test_what_cannot_be_had_is_told_before_any_work(home: Path, tmp_path: Path) -> None:
    classifier = pellucid.load(home / "run")
    for bad in (0.0, 1.0, -1, 5, float("nan")):
        for name, flag in (("abstain", "--abstain"), ("sets", "--sets")):
            with pytest.raises(ConfigError, match=f"{flag} is "):
                make_caution(classifier, **{name: bad})
            with pytest.raises(ConfigError, match=f"{flag} is "):
                evaluate(home / "run", **{name: bad})
    old = replace(classifier, validation=None)
    assert make_caution(old).columns == []
    with pytest.raises(ConfigError, match=r"--abstain and --sets rests on .* earlier"):
        make_caution(old, abstain=0.05, sets=0.9)
    with pytest.raises(DataError, match="no file, folder or match"):
        evaluate(home / "run", unlike=[tmp_path / "nowhere"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").touch()
    with pytest.raises(DataError, match="No picture of --unlike"):
        evaluate(home / "run", unlike=[tmp_path / "broken"])


def unseen(home: Path) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """The classifier, its logits on the test part, and the labels there."""
    classifier = pellucid.load(home / "run")
    rows = [row for row in Run(home / "run").read_manifest() if row["split"] == "test"]
    pixels = np.stack([np.asarray(Image.open(home / "photos" / row["path"])) for row in rows])[..., None]
    return classifier, classifier.predict_logits(pixels).numpy(), np.array([int(row["label"]) for row in rows])


def test_an_overconfident_network_is_calibrated_and_keeps_its_accuracy(digits: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.neural_network import MLPClassifier

    order = np.random.default_rng(0).permutation(len(digits[1]))
    x, y = digits[0].reshape(-1, 64)[order] / 255, digits[1][order]
    network = MLPClassifier((64,), alpha=0, solver="lbfgs", max_iter=200, random_state=0).fit(x[:100], y[:100])
    logits = np.log(network.predict_proba(x[100:]).clip(1e-30)).astype(np.float32)
    labels = y[100:]
    calibration = fit_calibration(ONE_CLASS, logits[:600], labels[:600], only_temperature=True)
    assert calibration is not None
    test, truth = torch.from_numpy(logits[600:]), labels[600:]
    before, after = (z.softmax(1).numpy() for z in (test, calibration(test)))
    assert before.max(1).mean() > (before.argmax(1) == truth).mean() + 0.02  # it is too sure
    assert (before.argmax(1) == after.argmax(1)).all()
    assert score_probabilities(after, truth).ece <= score_probabilities(before, truth).ece / 2


@pytest.mark.slow
def test_what_is_promised_holds_in_twenty_splits_of_pictures_never_seen(home: Path) -> None:
    classifier, logits, labels = unseen(home)
    wrong = answered = 0
    coverage = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(labels))
        fit, test = order[: len(order) // 2], order[len(order) // 2 :]
        fitted = replace(classifier, calibration=fit_calibration(ONE_CLASS, logits[fit], labels[fit]))
        known, new = (fitted.answers(torch.from_numpy(logits[rows])) for rows in (fit, test))
        threshold = find_threshold(known, labels[fit], 0.05)
        given = new.max(1) >= threshold.value
        mistakes = int((new.argmax(1) != labels[test])[given].sum())
        assert mistakes <= binom.ppf(0.999, int(given.sum()), 0.05)
        wrong, answered = wrong + mistakes, answered + int(given.sum())
        coverage.append(measure_sets(find_rule(known, labels[fit], 0.9), new, labels[test]).coverage.value)
        assert coverage[-1] >= binom.ppf(0.001, len(test), 0.9) / len(test) - 0.03
    assert answered > 0.3 * 20 * len(labels) / 2
    assert wrong / answered <= 0.05
    assert np.mean(coverage) >= 0.9 - 0.01
