"""What "95 %" promises: over many resamplings of a simulated classifier the intervals hold the truth 93 to 97 times in 100."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

from pellucid.evaluation.intervals import Interval, bootstrap, percentiles, quantiles, share
from pellucid.evaluation.metrics import Evaluation, evaluate_predictions

SHARES = np.array([0.5, 0.3, 0.2])
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auc")


def simulated(rng: np.random.Generator, num_groups: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), probabilities (N, 3), groups (N,): `each` pictures of every group, whose skill and classes differ when they are
    several."""
    groups = np.repeat(np.arange(num_groups), each)
    skill, chance = np.full(len(groups), 1.6), np.tile(SHARES, (len(groups), 1))
    if num_groups > 1:
        skill, chance = rng.normal(1.6, 0.5, num_groups)[groups], rng.dirichlet(6 * SHARES, num_groups)[groups]
    labels = (rng.random(len(groups))[:, None] > chance.cumsum(1)).sum(1).clip(0, 2)
    logits = rng.normal(size=(len(groups), 3))
    logits[np.arange(len(groups)), labels] += skill
    odds = np.exp(logits)
    return labels, odds / odds.sum(1, keepdims=True), groups


def scores(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None) -> Evaluation:
    return evaluate_predictions(labels, probabilities, ["a", "b", "c"], paths=[""] * len(labels), groups=groups)


def held(num_groups: int, each: int, *, by_group: bool, repeats: int) -> dict[str, float]:
    """How often the interval of each score holds what the same classifier scores on very many pictures."""
    rng = np.random.default_rng(5)
    labels, probabilities, _ = simulated(rng, 20_000 if num_groups > 1 else 1, 20 if num_groups > 1 else 400_000)
    hits, support, given = (np.bincount(part, minlength=3) for part in (
        labels[labels == probabilities.argmax(1)], labels, probabilities.argmax(1)))  # fmt: skip
    from sklearn.metrics import roc_auc_score

    truth = {
        "accuracy": hits.sum() / support.sum(), "balanced_accuracy": (hits / support).mean(),
        "macro_f1": (2 * hits / (support + given)).mean(),
        "auc": np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)]),
    }  # fmt: skip
    count = dict.fromkeys(SCORES, 0)
    for _ in range(repeats):
        labels, probabilities, groups = simulated(rng, num_groups, each)
        found = scores(labels, probabilities, groups if by_group else None)
        for name in SCORES:
            interval: Interval = getattr(found, name)
            count[name] += interval.low <= truth[name] <= interval.high
    return {name: number / repeats for name, number in count.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("num_groups", "each"), [(1, 300), (30, 12)])
def test_nominal_95_percent_intervals_hold_the_truth_93_to_97_times_in_100(num_groups: int, each: int) -> None:
    for name, share_held in held(num_groups, each, by_group=num_groups > 1, repeats=500).items():
        assert 0.93 <= share_held <= 0.97, name


@pytest.mark.slow
def test_intervals_that_know_of_no_groups_hold_it_too_rarely() -> None:
    """The negative control: 12 pictures of one patient are not 12 patients."""
    assert held(30, 40, by_group=False, repeats=100)["accuracy"] < 0.85


def test_few_units_need_quantiles_further_out() -> None:
    """Hesterberg's formula, with scipy's distributions."""
    for units in (5, 30, 1000):
        low, high = quantiles(units)
        assert low == pytest.approx(norm.cdf(-np.sqrt(units / (units - 1)) * t.ppf(0.975, units - 1)))
        assert low + high == pytest.approx(1)
    assert quantiles(10**6)[0] == pytest.approx(0.025, abs=1e-4)


def test_the_percentile_interval_of_few_units_is_wider_than_that_of_many() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.1, 4000)
    few, many = (percentiles(0.5, draws, trials=units) for units in (6, 10_000))
    assert few.high - few.low > 1.3 * (many.high - many.low)


def test_a_share_by_groups_is_the_bootstrap_of_their_hits() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(15), 8)
    hit = rng.random(120) < rng.uniform(0.3, 1.0, 15)[groups]
    found = share(hit, groups)
    draws = [np.mean(np.concatenate([hit[groups == g] for g in rng.integers(0, 15, 15)])) for _ in range(3000)]
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, quantiles(15)), abs=0.02)


def test_f1_precision_and_balanced_accuracy_are_resampled_like_scikit_learns() -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 150)
    predicted = np.where(rng.random(150) < 0.7, labels, rng.integers(0, 3, 150))
    fast = bootstrap(labels, predicted, 3, draws=4000)
    slow = []
    for _ in range(400):
        rows = rng.integers(0, 150, 150)
        y, p = labels[rows], predicted[rows]
        slow.append((f1_score(y, p, labels=[1], average="macro"), precision_score(y, p, labels=[1], average="macro"),
                     balanced_accuracy_score(y, p)))  # fmt: skip
    ours = (fast.f1[:, 1], fast.precision[:, 1], fast.balanced_accuracy)
    for mine, theirs in zip(ours, np.transpose(slow), strict=True):
        assert np.quantile(mine, [0.025, 0.975]) == pytest.approx(np.quantile(theirs, [0.025, 0.975]), abs=0.025)
