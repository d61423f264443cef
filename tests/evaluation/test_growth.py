"""Learning curves: a law is found where there is one, and not where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.evaluation.growth import fit_power_law

SIZES = [250, 500, 1000, 2000]


def draws(errors: np.ndarray, n: int = 5000, count: int = 400) -> np.ndarray:
    return np.random.default_rng(0).binomial(n, errors, (count, len(errors))) / n


def test_a_power_law_is_found_and_drawn_on() -> None:
    errors = 3.0 * np.array(SIZES) ** -0.5
    law, _ = fit_power_law(SIZES, errors.tolist(), draws(errors))
    assert law is not None
    assert law.exponent.value == pytest.approx(0.5)
    assert law.exponent.low < 0.5 < law.exponent.high
    assert law.doubled.value == pytest.approx(1 - 3.0 * 4000**-0.5)
    assert law.doubled.low < law.doubled.value < law.doubled.high


def test_the_expected_accuracy_holds_the_truth_as_often_as_it_says() -> None:
    """Test pictures and trainings both have their luck: errors scatter by 5 % around the law."""
    rng = np.random.default_rng(1)
    held, tried = 0, 0
    for _ in range(200):
        errors = 3.0 * np.array(SIZES) ** -0.5 * np.exp(rng.normal(0, 0.05, 4))
        measured = np.maximum(rng.binomial(2000, errors), 1) / 2000
        law, _ = fit_power_law(SIZES, measured.tolist(), draws(measured, 2000))
        truth = 1 - 3.0 * 4000**-0.5
        if law:
            tried += 1
            held += law.doubled.low <= truth <= law.doubled.high
    assert tried > 150
    assert held / tried > 0.88


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        ([0.4, 0.1, 0.098, 0.097], "do not fall like a power"),
        ([0.2, 0.2, 0.2, 0.2], "do not fall for certain"),
        ([0.2, 0.1, 0.05, 0.0], "makes no mistake"),
    ],
)
def test_without_a_law_nothing_is_drawn_on(errors: list[float], why: str) -> None:
    law, told = fit_power_law(SIZES, errors, draws(np.array(errors)))
    assert law is None
    assert why in told


def test_two_shares_are_too_few() -> None:
    law, why = fit_power_law([100, 200], [0.2, 0.1], draws(np.array([0.2, 0.1])))
    assert law is None
    assert "too few" in why
