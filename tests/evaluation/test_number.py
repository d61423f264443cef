"""Scores of numbers against scikit-learn's; intervals and baselines in the number's unit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from pellucid.errors import DataError
from pellucid.evaluation.intervals import quantiles, resamples
from pellucid.evaluation.number import evaluate_numbers


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.gamma(3, 20, 300) + 500
    return truth, truth + rng.normal(2, 9, 300)


def paths(n: int) -> list[str]:
    return [f"{i}.png" for i in range(n)]


def test_scores_are_scikit_learns(answers: tuple[np.ndarray, np.ndarray]) -> None:
    e = evaluate_numbers(*answers, "weight", paths=paths(300))
    assert e.mae.value == pytest.approx(mean_absolute_error(*answers))
    assert e.rmse.value == pytest.approx(root_mean_squared_error(*answers))
    assert e.r2.value == pytest.approx(r2_score(*answers))
    assert e.bias.value == pytest.approx((answers[1] - answers[0]).mean())
    assert all(i.low < i.value < i.high for i in (e.mae, e.rmse, e.r2, e.bias))
    json.dumps(e.to_dict(), allow_nan=False)


def test_intervals_are_those_of_scores_of_resamples(answers: tuple[np.ndarray, np.ndarray]) -> None:
    truth, given = answers
    weights = np.concatenate(list(resamples(300)))
    e = evaluate_numbers(truth, given, "weight", paths=paths(300))
    for interval, score in ((e.r2, r2_score), (e.mae, mean_absolute_error), (e.rmse, root_mean_squared_error)):
        draws = [score(truth, given, sample_weight=weight) for weight in weights]
        assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(draws, quantiles(300))))


def test_groups_make_intervals_wider() -> None:
    rng = np.random.default_rng(1)
    truth, off = rng.normal(size=15).repeat(20), rng.normal(size=15).repeat(20)
    groups = [i // 20 for i in range(300)]
    alone = evaluate_numbers(truth, truth + off, "x", paths=paths(300))
    grouped = evaluate_numbers(truth, truth + off, "x", paths=paths(300), groups=groups)
    assert grouped.mae.high - grouped.mae.low > 3 * (alone.mae.high - alone.mae.low)
    assert grouped.interval_method == "bootstrap over 15 groups"


def test_one_group_cannot_tell_how_groups_differ(answers: tuple[np.ndarray, np.ndarray]) -> None:
    e = evaluate_numbers(*answers, "weight", paths=paths(300), groups=["all"] * 300)
    assert e.mae.low < e.mae.value < e.mae.high
    assert any("only 1 group" in note for note in e.notes)


def test_baselines_come_from_the_training_part() -> None:
    e = evaluate_numbers(
        np.array([1.0, 3.0]), np.array([1.0, 3.0]), "x", paths=paths(2), training=np.array([0.0, 2.0, 10.0])
    )
    assert e.baseline["median"] == {"number": 2.0, "mae": 1.0}
    assert e.baseline["mean"]["rmse"] == pytest.approx(np.sqrt((9 + 1) / 2))


def test_the_margin_is_held_against_what_it_promises() -> None:
    truth = np.arange(100.0)
    e = evaluate_numbers(truth, truth + np.r_[np.zeros(60), np.full(40, 5.0)], "x", paths=paths(100), margin=4.0)
    assert e.within is not None
    assert e.within.value == 0.6
    assert any("too rarely" in sentence for sentence in e.verdict())
    assert e.worst[0].answer - e.worst[0].truth == 5.0


@pytest.mark.parametrize(
    "share, said",
    [
        (0.0, "is not clearly better than that"),
        (0.04, "is hardly better"),
        (0.5, "is clearly better"),
        (1.0, "is clearly better"),
    ],
)
def test_better_is_said_of_what_is_of_use(share: float, said: str) -> None:
    """20,000 normal numbers and the best answers that know `share` of their variance, which is R²: 4 % of it is certain,
    and saves 2 % of the error (1 - sqrt(0.96))."""
    known, unknown = np.random.default_rng(0).normal(size=(2, 20_000))
    answers = share**0.5 * known
    e = evaluate_numbers(answers + (1 - share) ** 0.5 * unknown, answers, "x", paths=["a.png"] * 20_000)
    assert e.r2.value == pytest.approx(share, abs=0.02)
    assert (e.mae.high < e.baseline["median"]["mae"]) == (share > 0)
    assert said in e.verdict()[1]


def test_a_few_wild_answers_do_not_hide_that_the_others_are_better() -> None:
    truth = np.random.default_rng(0).normal(size=2000)
    answers = truth + np.where(np.arange(2000) % 400 == 0, 30.0, 0.1)
    e = evaluate_numbers(truth, answers, "x", paths=paths(2000))
    assert e.r2.value < 0
    assert "is clearly better" in e.verdict()[1]


def test_no_differences_no_r2() -> None:
    e = evaluate_numbers(np.ones(40), np.ones(40) + np.arange(40) % 3, "x", paths=paths(40))
    assert np.isnan(e.r2.value)
    assert e.to_dict()["r2"]["value"] is None
    assert "R²" not in " ".join(e.verdict())


def test_answers_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"not finite.*'1\.png'"):
        evaluate_numbers(np.ones(2), np.array([1.0, np.nan]), "x", paths=paths(2))
    with pytest.raises(DataError, match="one of each"):
        evaluate_numbers(np.ones(2), np.ones((2, 2)), "x", paths=paths(2))
