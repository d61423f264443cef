"""The nearest, held against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from pellucid.errors import UnknownNameError
from pellucid.explain.neighbors import DISTANCES, Neighbors

VECTORS = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32) + 1
QUERIES = np.random.default_rng(1).normal(size=(7, 12)).astype(np.float32) + 1


@pytest.mark.parametrize("distance", DISTANCES)
def test_they_are_those_of_scikit_learn(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.explain.neighbors._AT_ONCE", 600)  # two queries at a time
    positions, distances = Neighbors(VECTORS, distance).of(QUERIES, 9)
    away, near = NearestNeighbors(n_neighbors=9, metric=distance).fit(VECTORS).kneighbors(QUERIES)
    np.testing.assert_array_equal(positions, near)
    np.testing.assert_allclose(distances, away, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_is_equal_is_at_distance_zero_to_the_bit(distance: str) -> None:
    vectors = np.concatenate([1000 * VECTORS, 1000 * VECTORS[:5]])
    positions, distances = Neighbors(vectors, distance).of(vectors[:5], 2)
    assert (np.sort(positions) == np.stack([np.arange(5), np.arange(300, 305)], 1)).all()
    assert (distances == 0).all()


def test_those_of_the_same_group_are_passed_over_and_missing_ones_told() -> None:
    groups = np.arange(300) // 100
    near = Neighbors(VECTORS)
    positions, _ = near.of(VECTORS[:3], 300, apart=(groups[:3], groups))
    assert (positions[:, :200] >= 100).all()
    assert (positions[:, 200:] == -1).all()
    positions, distances = near.of(VECTORS[:3], 5, apart=(groups[:3], np.zeros(300, int)))
    assert (positions == -1).all()
    assert np.isinf(distances).all()


def test_zero_vectors_are_at_distance_half_of_everything_and_no_error() -> None:
    _, distances = Neighbors(np.concatenate([np.zeros((1, 12), np.float32), VECTORS])).of(QUERIES, 301)
    assert np.isfinite(distances).all()


def test_an_unknown_distance_is_told() -> None:
    with pytest.raises(UnknownNameError, match=r"'cosin'.*Did you mean cosine"):
        Neighbors(VECTORS, "cosin")
