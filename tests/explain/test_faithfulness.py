"""The figures of a heat map against hand computations, direct solutions and, where it is installed, Quantus."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve
from scipy.stats import spearmanr

from pellucid.explain import faithfulness as faith
from pellucid.explain.impute import impute

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (8, 8, 1), np.uint8)


def weighted(weights: np.ndarray, picture: np.ndarray = PICTURE) -> faith.Answer:
    """The answer of a linear network: all of it for the picture."""
    full = float((picture[..., 0] * weights).sum())
    return lambda batch: (batch[..., 0] * weights).sum((1, 2)) / full


def test_deletion_and_insertion_against_a_slow_direct_way() -> None:
    weights, heat = RNG.random((8, 8)), RNG.random((8, 8))
    found = faith.measure(weighted(weights), PICTURE, [heat], hidden=np.full_like(PICTURE, 100))[0]
    answer, blurred = weighted(weights), faith.blur(PICTURE)
    order = sorted(((y, x) for y in range(8) for x in range(8)), key=lambda place: -heat[place])
    for curve, start, end in (
        (found.deletion_curve, PICTURE, np.full_like(PICTURE, 100)),
        (found.insertion_curve, blurred, PICTURE),
    ):
        expected = []
        for count in np.round(np.linspace(0, 64, faith.STEPS + 1)).astype(int):
            picture = start.copy()
            for y, x in order[:count]:
                picture[y, x] = end[y, x]
            expected.append(float(answer(picture[None])[0]))
        np.testing.assert_allclose(curve, expected)
    assert found.deletion == pytest.approx(np.trapezoid(found.deletion_curve, dx=1 / faith.STEPS))
    assert found.insertion == pytest.approx(np.trapezoid(found.insertion_curve, dx=1 / faith.STEPS))


def test_the_truth_beats_its_opposite_and_what_knows_nothing() -> None:
    weights = np.zeros((8, 8))
    weights[2:5, 3:6] = 1
    picture = np.full((8, 8, 1), 50, np.uint8)
    picture[2:5, 3:6] = 250
    maps = [weights, -weights, faith.random_map((8, 8), 0)]
    truth, opposite, random = faith.measure(weighted(weights, picture), picture, maps, hidden=np.zeros_like(picture))
    assert truth.deletion < random.deletion < opposite.deletion
    assert truth.insertion > random.insertion > opposite.insertion
    assert truth.road > 0 > opposite.road


def test_cells_are_pixels_in_tiny_pictures_and_nearly_equal_in_others() -> None:
    assert len(np.unique(faith.cell_numbers(8, 8))) == 64
    sizes = np.bincount(faith.cell_numbers(50, 33).ravel())
    assert len(sizes) == 7 * 7
    assert sizes.min() >= 7 * 4
    assert sizes.max() <= 8 * 5
    values = RNG.random((28, 28))
    np.testing.assert_allclose(
        faith.in_cells(values, faith.cell_numbers(28, 28))[:2], [values[:4, :4].mean(), values[:4, 4:8].mean()]
    )


def test_rank_correlation_with_ties_is_that_of_scipy() -> None:
    one, other = RNG.integers(0, 4, (8, 8)).astype(float), RNG.random((8, 8))
    assert faith.rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert np.isnan(faith.rank_correlation(one, np.ones((8, 8))))


def test_the_share_of_the_margin() -> None:
    assert faith.margin(16, 16).mean() == pytest.approx(1 - 12**2 / 16**2)
    heat = np.full((16, 16), -1.0)  # what speaks against does not count
    heat[8, 8], heat[0, 3] = 3, 1
    assert faith.margin_share(heat) == pytest.approx(0.25)


def test_edges_are_found_and_a_flat_picture_has_none() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    assert faith.edge_map(picture).max() == 0
    picture[:, 4:] = 200
    assert set(np.flatnonzero(faith.edge_map(picture)[3])) == {3, 4}


def direct(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The equations of ROAD written out and solved: each missing pixel is the weighted mean of its neighbors."""
    height, width, channels = picture.shape
    number = np.cumsum(hole).reshape(hole.shape) - 1
    rows, columns, values = [], [], []
    right = np.zeros((hole.sum(), channels))
    for y, x in np.argwhere(hole):
        total = 0.0
        for dy, dx in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                weight = 1 / 12 if dy and dx else 1 / 6
                total += weight
                if hole[y + dy, x + dx]:
                    rows.append(number[y, x]), columns.append(number[y + dy, x + dx]), values.append(-weight)
                else:
                    right[number[y, x]] += weight * picture[y + dy, x + dx]
        rows.append(number[y, x]), columns.append(number[y, x]), values.append(total)
    solved = picture.astype(float)
    solved[hole] = spsolve(coo_array((values, (rows, columns))).tocsc(), right).reshape(-1, channels)
    return solved


def holes_of(side: int) -> np.ndarray:
    """A disc, its surroundings, and cells all over, bool (3, side, side)."""
    y, x = np.mgrid[:side, :side] - side / 2
    disc = y**2 + x**2 < (0.3 * side) ** 2
    return np.stack(
        [disc, ~disc, RNG.random((14, 14)).repeat(-(-side // 14), 0).repeat(-(-side // 14), 1)[:side, :side] < 0.6]
    )


@pytest.mark.parametrize("side", [10, 42, 50])
def test_holes_are_filled_as_the_equations_of_road_say(side: int) -> None:
    y, x = np.mgrid[:side, :side]
    picture = np.stack([y * 255 // side, 255 * (np.hypot(y - 5, x) < side / 2), (x * y) % 256], axis=2).astype(np.uint8)
    holes = holes_of(side)
    for hole, filled in zip(holes, impute(picture, holes, noise=0), strict=True):
        assert np.array_equal(filled[~hole], picture[~hole])
        error = np.abs(filled - direct(picture, hole))[hole]
        assert error.mean() < 0.5, "half a level is lost in rounding"


def test_nothing_shows_where_a_hole_was_but_noise() -> None:
    flat = np.full((40, 40, 3), 90, np.uint8)
    filled = impute(flat, holes_of(40), seed=1)
    assert abs(filled.astype(float).mean() - 90) < 0.2
    assert 2.0 < filled[0][holes_of(40)[0]].std() < 3.0
    assert (
        np.abs(impute(flat, np.ones((1, 40, 40), bool), noise=0).astype(int) - 128).max() <= 1
    )  # nothing to go by: grey


def test_holes_of_large_pictures_are_filled_at_half_the_size() -> None:
    y, x = np.mgrid[:224, :224]
    picture = np.stack([128 + 100 * np.sin(x / 25), 128 + 100 * np.cos(y / 40), (x + y) / 2], axis=2).astype(np.uint8)
    holes = holes_of(224)[:2]
    filled = impute(picture, holes, noise=0)
    for hole, one in zip(holes, filled, strict=True):
        assert np.abs(one - direct(picture, hole))[hole].mean() < 6


def test_quantus_deletes_and_fills_in_the_same_way() -> None:
    """Quantus is LGPL and heavy: an oracle for those who install the extra `oracles`."""
    quantus = pytest.importorskip("quantus", reason="needs the extra oracles: pip install 'pellucid[oracles]'")
    from quantus.functions.perturb_func import noisy_linear_imputation

    picture = RNG.integers(0, 256, (42, 42, 3), np.uint8)
    hole = holes_of(42)[0]
    expected = noisy_linear_imputation(picture.transpose(2, 0, 1).astype(float), np.flatnonzero(hole), noise=0)
    filled = impute(picture, hole[None], noise=0)[0]
    assert np.abs(filled - expected.transpose(1, 2, 0))[hole].mean() < 0.5

    heat, weights = RNG.random((8, 8)), RNG.random((8, 8))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2, bias=False))
    module[1].weight.data = torch.from_numpy(np.stack([0 * weights, weights]).reshape(2, 64)).float()
    flipping = quantus.PixelFlipping(
        features_in_step=16, perturb_baseline=100.0, normalise=False, disable_warnings=True
    )
    x = PICTURE.transpose(2, 0, 1)[None].astype(np.float32)
    found = flipping(module.eval(), x, np.array([1]), heat[None, None], softmax=False, device="cpu", channel_first=True)
    full = float((PICTURE[..., 0] * weights).sum())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faith, "STEPS", 4)
        ours = faith.measure(weighted(weights), PICTURE, [heat], hidden=np.full_like(PICTURE, 100))[0]
    np.testing.assert_allclose(ours.deletion_curve[1:], np.array(found[0]) / full, rtol=1e-4)
