"""Paired tests against scipy's, and how often they are wrong when there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pellucid.evaluation.compare import rivals
from pellucid.evaluation.paired import holm, paired


def test_mcnemar_is_the_exact_binomial_test() -> None:
    gains = np.array([1.0] * 14 + [-1.0] * 4 + [0.0] * 182)
    gain, p, error = paired(gains, exact=True)
    assert p == pytest.approx(stats.binomtest(4, 18, 0.5).pvalue)
    assert gain.value == 0.05
    assert gain.low > 0 < p < 0.05
    assert error == pytest.approx(gains.std() / np.sqrt(200), rel=0.05)


def test_the_interval_is_the_bootstrap_of_the_gains() -> None:
    rng = np.random.default_rng(0)
    gains = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.05, 0.8, 0.15])
    draws = [rng.choice(gains, 400).mean() for _ in range(3000)]
    gain, _, _ = paired(gains, exact=True)
    assert (gain.low, gain.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.006)


def test_no_difference_at_all_still_leaves_doubt() -> None:
    gain, p, error = paired(np.zeros(50), exact=True)
    assert (gain.value, p, error) == (0, 1, 0)
    assert -gain.low == gain.high > 0.05


def test_groups_count_not_pictures() -> None:
    """20 patients whose 30 pictures gain together: nothing is proved, though 600 independent pictures would prove it."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 30)
    false_alarms = {"groups": 0, "pictures": 0}
    for _ in range(60):
        lean = rng.normal(0, 1.5, 20)[groups]
        gains = np.sign(lean + rng.normal(size=600)) * (rng.random(600) < 0.5)
        false_alarms["groups"] += paired(gains, groups=groups, exact=True)[1] < 0.05
        false_alarms["pictures"] += paired(gains, exact=True)[1] < 0.05
    assert false_alarms["groups"] <= 8
    assert false_alarms["pictures"] > 15


def test_holm_is_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_errors_are_better_when_they_are_smaller() -> None:
    rng = np.random.default_rng(2)
    off = rng.exponential(2.0, 300)
    first, better = rivals(["a", "b"], [off, off - 0.5 + 0.1 * rng.normal(size=300)], errors=True)
    assert first.gain is None
    assert better.gain is not None
    assert better.gain.value == pytest.approx(0.5, abs=0.03)
    assert better.gain.low > 0.4
    assert better.corrected is not None
    assert better.corrected < 1e-6
    gains = np.random.default_rng(3).normal(0.1, 1.0, 80)
    assert paired(gains, exact=False)[1] == pytest.approx(stats.ttest_1samp(gains, 0.0).pvalue, abs=0.03)
