"""Scores against scikit-learn, intervals against formulas and plain resampling, words against the numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from pellucid.errors import DataError, UnknownNameError
from pellucid.evaluation.intervals import Interval, bootstrap, wilson
from pellucid.evaluation.metrics import Evaluation, evaluate_predictions

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
BOTH_ENDS = [0.025, 0.975]


def measured(labels, probabilities, *, classes=None, **options) -> Evaluation:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, float)
    classes = classes or [f"class {k}" for k in range(probabilities.shape[1])]
    paths = options.pop("paths", [f"{i}.png" for i in range(len(labels))])
    return evaluate_predictions(labels, probabilities, classes, paths=paths, **options)


def answering(predictions, num_classes: int, confidence: float = 0.9) -> np.ndarray:
    """Probabilities that give each picture's prediction `confidence` and spread the rest."""
    rest = (1 - confidence) / max(num_classes - 1, 1)
    probabilities = np.full((len(predictions), num_classes), rest)
    probabilities[np.arange(len(predictions)), predictions] = confidence
    return probabilities


@st.composite
def predictions(draw):
    num_classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 40))
    some = st.lists(st.integers(0, num_classes - 1), min_size=n, max_size=n)
    return np.array(draw(some)), np.array(draw(some)), num_classes


# Intervals


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=50)
def test_wilson_is_the_closed_formula(pair):
    k, n = pair
    p = k / n
    center = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    assert wilson(k, n).to_dict() == pytest.approx({"value": p, "low": center - half, "high": center + half})


def test_nothing_measured_is_no_number():
    nothing = wilson(0, 0)
    assert nothing.to_dict() == {"value": None, "low": None, "high": None}
    assert str(nothing) == "not measured"
    assert str(Interval(0.953, 0.9312, 0.9689)) == "0.953 (0.931 to 0.969)"


def test_bootstrap_agrees_with_resampling_pictures_one_by_one():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 150)
    predicted = np.where(rng.random(150) < 0.7, labels, rng.integers(0, 3, 150))
    fast = bootstrap(labels, predicted, 3, draws=4000)
    slow = []
    for _ in range(500):
        rows = rng.integers(0, 150, 150)
        slow.append(
            (
                (labels[rows] == predicted[rows]).mean(),
                sk.f1_score(labels[rows], predicted[rows], average="macro"),
                sk.recall_score(labels[rows], predicted[rows], labels=[0], average="macro"),
            )
        )
    for ours, theirs in zip((fast.accuracy, fast.macro_f1, fast.recall[:, 0]), np.transpose(slow), strict=True):
        assert np.quantile(ours, BOTH_ENDS) == pytest.approx(np.quantile(theirs, BOTH_ENDS), abs=0.02)
        assert ours.mean() == pytest.approx(theirs.mean(), abs=0.008)


def test_group_bootstrap_agrees_with_resampling_groups_one_by_one():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(20), rng.integers(1, 15, 20))
    labels = rng.integers(0, 2, len(groups))
    skill = rng.uniform(0.3, 1.0, 20)[groups]
    predicted = np.where(rng.random(len(groups)) < skill, labels, 1 - labels)
    fast = bootstrap(labels, predicted, 2, groups=groups, draws=4000)
    members = [np.flatnonzero(groups == g) for g in range(20)]
    slow = []
    for _ in range(500):
        rows = np.concatenate([members[g] for g in rng.integers(0, 20, 20)])
        f1 = sk.f1_score(labels[rows], predicted[rows], average="macro")
        slow.append(((labels[rows] == predicted[rows]).mean(), f1))
    for ours, theirs in zip((fast.accuracy, fast.macro_f1), np.transpose(slow), strict=True):
        assert np.quantile(ours, BOTH_ENDS) == pytest.approx(np.quantile(theirs, BOTH_ENDS), abs=0.03)
        assert ours.std() == pytest.approx(theirs.std(), rel=0.15)


def test_group_intervals_hold_the_truth_where_picture_intervals_do_not():
    """30 patients with 20 pictures each; skill differs between patients around a true accuracy of 0.75."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(30), 20)
    labels = np.zeros(600, int)
    held = {"groups": 0, "pictures": 0}
    for seed in range(200):
        right = rng.random(600) < rng.beta(3, 1, 30)[groups]  # the mean of beta(3, 1) is 0.75
        low, high = np.quantile(bootstrap(labels, 1 - right, 2, groups=groups, seed=seed).accuracy, BOTH_ENDS)
        held["groups"] += low <= 0.75 <= high
        pictures = wilson(int(right.sum()), 600)
        held["pictures"] += pictures.low <= 0.75 <= pictures.high
    assert held["groups"] / 200 > 0.88
    assert held["pictures"] / 200 < 0.75


def test_groups_make_the_interval_wider_only_when_their_pictures_resemble_each_other():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 600)
    by_patient = np.repeat(rng.random(30) < 0.8, 20)
    alike = answering(np.where(by_patient, labels, 1 - labels), 2)
    patients = np.repeat(np.arange(30), 20)

    def width(interval: Interval) -> float:
        return interval.high - interval.low

    plain, grouped = measured(labels, alike), measured(labels, alike, groups=patients)
    assert (plain.interval_method, grouped.interval_method) == ("wilson", "bootstrap over 30 groups")
    assert width(grouped.accuracy) > 3 * width(plain.accuracy)
    assert width(grouped.macro_f1) > 3 * width(plain.macro_f1)
    assert width(grouped.per_class[0].recall) > 3 * width(plain.per_class[0].recall)
    shuffled = measured(labels, alike, groups=rng.permutation(patients))
    assert width(shuffled.accuracy) == pytest.approx(width(plain.accuracy), rel=0.35)


def test_a_picture_without_a_group_stands_for_itself():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 80)
    probabilities = answering(rng.integers(0, 2, 80), 2)
    groups = ["a"] * 40 + [""] * 20 + [None] * 20
    named = ["a"] * 40 + [f"own {i}" for i in range(40)]
    ours, expected = (
        measured(labels, probabilities, groups=groups),
        measured(labels, probabilities, groups=named),
    )
    assert ours.interval_method == "bootstrap over 41 groups"
    assert ours.to_dict() == expected.to_dict()


@pytest.mark.parametrize(("groups", "trials"), [(None, 40), (np.repeat(np.arange(8), 5), 8)])
def test_no_mistake_does_not_mean_no_doubt(groups, trials):
    """Every resample of perfect answers is perfect; the interval is Wilson's for the independent trials."""
    labels = np.tile([0, 1], 20)
    perfect = measured(labels, answering(labels, 2), groups=groups)
    expected = trials / (trials + Z**2)  # Wilson's lower end for n right of n
    assert perfect.accuracy.to_dict() == pytest.approx({"value": 1, "low": expected, "high": 1})
    assert perfect.macro_f1.to_dict() == pytest.approx({"value": 1, "low": expected, "high": 1})
    assert perfect.interval_method == ("wilson" if groups is None else "wilson over 8 groups")


def test_a_perfect_macro_f1_is_as_unsure_as_its_rarest_class():
    """100 and 4 pictures: a mean over the two is as unsure as one over 2^2 / (1/100 + 1/4) = 15 pictures."""
    labels = np.repeat([0, 1], [100, 4])
    perfect = measured(labels, answering(labels, 2))
    assert perfect.macro_f1.low == pytest.approx(15 / (15 + Z**2))


def test_one_group_proves_next_to_nothing():
    labels = np.zeros(50, int)
    one = measured(labels, answering([0] * 40 + [1] * 10, 2), groups=["patient 1"] * 50)
    assert one.accuracy.value == 0.8
    assert one.accuracy.low < 0.25
    assert one.accuracy.high == 1
    assert any("only 1 group" in note for note in one.notes)


def test_a_class_seen_in_one_group_only_is_as_unsure_as_one_trial():
    """Ten patients, all answers right; the second class comes from a single patient with 20 pictures."""
    groups = np.repeat(np.arange(10), 20)
    labels = (groups == 9).astype(int)
    common, rare = measured(labels, answering(labels, 2), groups=groups).per_class
    assert rare.recall.low == pytest.approx(1 / (1 + Z**2))
    assert common.recall.low == pytest.approx(9 / (9 + Z**2))


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(6)
    labels, probabilities = rng.integers(0, 3, 90), answering(rng.integers(0, 3, 90), 3)
    first, again, other = (measured(labels, probabilities, seed=s).macro_f1 for s in (1, 1, 2))
    assert first == again
    assert first != other


# Scores


@given(predictions())
@settings(max_examples=40, deadline=None)
def test_scores_are_those_of_scikit_learn(case):
    labels, predicted, num_classes = case
    ours = measured(labels, answering(predicted, num_classes))
    everything, present = range(num_classes), np.unique(labels)
    assert (ours.confusion == sk.confusion_matrix(labels, predicted, labels=everything)).all()
    assert ours.accuracy.value == pytest.approx(sk.accuracy_score(labels, predicted))
    macro = sk.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert ours.macro_f1.value == pytest.approx(macro)
    theirs = sk.precision_recall_fscore_support(labels, predicted, labels=everything, zero_division=np.nan)
    for score, precision, recall, f1, n in zip(ours.per_class, *theirs, strict=True):
        assert score.n == n
        assert score.precision.value == pytest.approx(precision, nan_ok=True)
        assert score.recall.value == pytest.approx(recall, nan_ok=True)
        assert score.f1.value == pytest.approx(f1 if n else math.nan, nan_ok=True)
    recalls = [score.recall.value for score in ours.per_class if score.n]
    assert ours.balanced_accuracy.value == pytest.approx(np.mean(recalls))
    for interval in (ours.accuracy, ours.balanced_accuracy, ours.macro_f1):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    json.dumps(ours.to_dict(), allow_nan=False)


@given(predictions(), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_pictures_changes_nothing(case, random):
    labels, predicted, num_classes = case
    order = random.sample(range(len(labels)), len(labels))
    before = measured(labels, answering(predicted, num_classes)).to_dict()
    after = measured(labels[order], answering(predicted[order], num_classes)).to_dict()
    for name in ("accuracy", "macro_f1", "per_class", "confusion", "baseline", "notes"):
        assert before[name] == after[name]
    assert before["ece"] == pytest.approx(after["ece"])


def test_a_class_without_pictures_is_listed_and_not_scored():
    ours = measured([0, 0, 1, 1], answering([0, 0, 1, 0], 3), classes=["cat", "dog", "owl"])
    cat, dog, owl = ours.to_dict()["per_class"]
    nothing = {"value": None, "low": None, "high": None}
    assert owl == {"label": "owl", "n": 0, "precision": nothing, "recall": nothing, "f1": nothing, "share": None}
    assert ours.macro_f1.value == pytest.approx((cat["f1"]["value"] + dog["f1"]["value"]) / 2)
    assert [ranking.auc.value > 0.5 for ranking in ours.rankings] == [True, True, False]
    assert any("1 of 3 classes ('owl')" in note for note in ours.notes)


def test_calibration_error_by_hand():
    """Four pictures said 0.9, three right; two said 0.6, none right: 4/6 x 0.15 + 2/6 x 0.6 = 0.3."""
    probabilities = np.concatenate([answering([0, 0, 0, 0], 2, 0.9), answering([0, 0], 2, 0.6)])
    ours = measured([0, 0, 0, 1, 1, 1], probabilities)
    assert ours.ece == pytest.approx(0.3)
    assert [(b.n, round(b.confidence, 6), b.accuracy) for b in ours.calibration] == [
        (2, 0.6, 0),
        (4, 0.9, 0.75),
    ]


def test_calibration_error_is_that_of_torchmetrics():
    rng = np.random.default_rng(7)
    probabilities = rng.dirichlet(np.full(4, 0.5), 500).astype(np.float32)
    labels = rng.integers(0, 4, 500)
    theirs = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), 4, n_bins=15)
    assert measured(labels, probabilities).ece == pytest.approx(float(theirs), abs=1e-5)


def test_full_confidence_belongs_to_the_highest_bin():
    probabilities = np.array([[1.0, 0.0], [0.96, 0.04]])
    ours = measured([0, 1], probabilities)
    assert [b.n for b in ours.calibration] == [2]
    assert ours.ece == pytest.approx(0.98 - 0.5)


def test_probabilities_a_rounding_above_one_are_still_probabilities():
    labels = np.zeros(40, int)
    exact, rounded = answering(labels, 2, 1.0), answering(labels, 2, 1.0)
    rounded[0, 0] = 1.0000001
    assert measured(labels, rounded).ece == measured(labels, exact).ece == 0


def test_the_worst_mistakes_come_most_confident_first_and_not_more_than_24():
    confidence = np.linspace(0.51, 0.99, 40)
    probabilities = np.stack([1 - confidence, confidence], axis=1)
    labels = np.array([0] * 35 + [1] * 5)  # the 5 most confident ones are right
    ours = measured(labels, probabilities, classes=["cat", "dog"], paths=[f"p{i}.png" for i in range(40)])
    assert [m.index for m in ours.worst] == list(range(34, 10, -1))
    first = ours.worst[0]
    assert (first.path, first.label, first.predicted) == ("p34.png", "cat", "dog")
    assert first.probability == pytest.approx(confidence[34])


def test_the_baseline_is_the_training_majority_when_it_is_known():
    labels = np.repeat([0, 1], [30, 10])
    probabilities = answering(labels, 2)
    given_one = measured(labels, probabilities, classes=["cat", "dog"], training={"cat": 10, "dog": 30})
    assert given_one.majority == "dog"
    assert given_one.baseline["majority"].accuracy == wilson(10, 40)
    assert [score.share for score in given_one.per_class] == [0.25, 0.75]
    derived = measured(labels, probabilities, classes=["cat", "dog"])
    assert derived.majority == "cat"
    assert derived.baseline["majority"].accuracy == wilson(30, 40)
    with pytest.raises(UnknownNameError, match="Did you mean dog"):
        measured(labels, probabilities, classes=["cat", "dog"], training={"dogs": 3})


# What cannot be measured


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": [], "probabilities": np.zeros((0, 2)), "paths": []}, "0 labels"),
        ({"paths": ["a.png"]}, "3 labels, 3 probabilities, 1 paths"),
        ({"groups": ["g"]}, "1 groups"),
        ({"probabilities": np.full((3, 5), 0.2)}, r"\(3, 5\)"),
        ({"labels": [0, 1, 2]}, "from 0 to 1.*received 2"),
        ({"labels": [0, -1, 1]}, "received -1"),
        ({"labels": [0.0, 1.0, 1.0]}, "received 0.0"),
        ({"labels": ["cat", "dog", "dog"]}, "received 'cat'"),
        ({"probabilities": [[1, 0], [math.nan, 0], [1, 0]]}, "1 picture are not finite.*'b.png'"),
        ({"probabilities": [[1, 0], [math.inf, 0], [1, 0]]}, "not finite"),
        ({"probabilities": [[2.5, -1], [0, 1], [1, 0]]}, "softmax"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(changes, words):
    good = {
        "labels": [0, 1, 1],
        "probabilities": [[1, 0], [0, 1], [1, 0]],
        "paths": ["a.png", "b.png", "c.png"],
    }
    measured(classes=["cat", "dog"], **good)
    with pytest.raises(DataError, match=words):
        measured(classes=["cat", "dog"], **(good | changes))


# Words


def test_the_verdict_tells_what_was_measured():
    """100 cats, 100 dogs; 20 dogs taken for cats; always 80 % sure."""
    labels = np.repeat([0, 1], 100)
    predicted = np.repeat([0, 1, 0], [100, 80, 20])
    lead, baseline, weakest, confusion, calibration = measured(
        labels, answering(predicted, 2, 0.8), classes=["cat", "dog"]
    ).verdict()
    assert lead.startswith("180 of 200 test pictures are labeled correctly: 90.0 %")
    assert "'cat' would be right for 50.0 %; the classifier is clearly better" in baseline
    assert "'dog': 80.0 % of its 100 pictures" in weakest
    assert "'dog' taken for 'cat': 20 pictures" in confusion
    assert "80.0 % sure on average and is right for 90.0 %, so it is right more often" in calibration
    assert "when it says about 80 %, it is right for 90 % (200 pictures)" in calibration


def test_the_verdict_does_not_praise_what_is_no_better_than_the_majority():
    labels = np.repeat([0, 1], [80, 20])
    always = measured(labels, answering(np.zeros(100, int), 2, 0.99))
    assert "not clearly better" in always.verdict()[1]
    assert "too sure of itself" in always.verdict()[-1]


def test_a_perfect_result_names_no_weakest_class_and_no_confusion():
    labels = np.tile([0, 1], 50)
    perfect = measured(labels, answering(labels, 2, 0.99))
    assert len(perfect.verdict()) == 3
    assert perfect.confusions() == ()


def test_few_pictures_and_a_single_class_are_noted():
    few = measured([0] * 29, answering([0] * 29, 2))
    assert any("Only 29 pictures" in note for note in few.notes)
    assert any("one class, 'class 0'" in note for note in few.notes)
    enough = measured([0, 1] * 15, answering([0, 1] * 15, 2))
    assert enough.notes == ()


@pytest.mark.parametrize(("labels", "given"), [([0] * 12, [0, 1, 2] * 4), ([0, 1, 2] * 4, [0] * 12), ([1], [0])])
def test_one_class_alone_in_the_truth_or_in_the_answers_is_measured_as_far_as_it_goes(labels, given):
    result = measured(labels, answering(given, 3, 1.0))
    assert result.accuracy.value == np.mean(np.array(labels) == given)
    for ranking in result.rankings:
        assert bool(len(ranking.curve)) == (0 < ranking.n < len(labels))
    assert ("not measured" in str(result)) == (len(set(labels)) < 3 or len(set(given)) < 3)
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_table_names_every_class_until_there_are_too_many():
    rng = np.random.default_rng(8)
    for num_classes, lines in ((30, 30), (31, 10)):
        labels = np.tile(np.arange(num_classes), 10)
        predicted = np.where(rng.random(len(labels)) < 0.7, labels, rng.integers(0, num_classes, len(labels)))
        result = measured(labels, answering(predicted, num_classes))
        table = [line for line in str(result).splitlines() if line.startswith("class ") and " > " not in line]
        assert len(table) == lines + 1  # and the heading
    worst = sorted(result.per_class, key=lambda score: score.recall.value)[0].recall.value
    assert f"{worst:.3f} (" in table[1]
    assert "of 31)" in str(result)


def test_a_hostile_class_name_cannot_steer_the_terminal():
    name = "cat\x1b[31m\nAccuracy 1.000\u202e\udcff"
    text = str(measured([0, 1], answering([1, 1], 2), classes=[name, "dog"]))
    assert "\x1b" not in text
    assert r"cat\x1b[31m\nAccuracy" in text
    assert not any(line.startswith("Accuracy") for line in text.splitlines())
    text.encode("utf-8")
