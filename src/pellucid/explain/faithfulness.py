"""Whether a heat map tells the truth about the network: what it marks is taken away, and the answer must fall.

Every map is measured like two that know nothing of the network: a random one and the edges of the picture. All three rank the
same cells of the picture, so that none wins by the grain of what it hides: specks of noise spread all over a picture
destroy more than one large patch of the same area, whatever lies below them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.device import workers
from pellucid.explain.impute import impute

Answer = Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, C) -> float (N,): 1 is all of the answer, 0 nothing of it

CELLS = 7  # of a side: as many as usual networks have places in their last maps
_TINY = 14  # pixels of a side, up to which a cell is a pixel
STEPS = 10  # of a curve
SHARES = (0.2, 0.4, 0.6, 0.8)  # of the cells, that ROAD takes away
MARGIN = 1 / 8  # of a side: the outer margin of a picture
_BLUR = 1 / 6  # of a side: standard deviation of the blur that hides everything


@dataclass(frozen=True, eq=False)
class Scores:
    """deletion, insertion: areas below the curves; lower and higher is better. road: by how much the answer falls more when the
    most important cells are replaced than when the least important are, half the difference; higher is better."""

    deletion: float
    insertion: float
    road: float
    deletion_curve: np.ndarray  # (STEPS + 1,): the answer when 0 .. all cells are hidden
    insertion_curve: np.ndarray  # (STEPS + 1,): when 0 .. all cells are shown
    road_curves: np.ndarray  # (2, len(SHARES)): when the most and the least important ones are replaced

    def to_dict(self) -> dict[str, float]:
        return {"deletion": self.deletion, "insertion": self.insertion, "road": self.road}


def measure(
    answer: Answer, pixels: np.ndarray, maps: Sequence[np.ndarray], *, hidden: np.ndarray, seed: int = 0
) -> list[Scores]:
    """Scores of heat maps (H, W) of one picture, uint8 (H, W, C).

    Deletion puts those of the picture `hidden` in place of the most important cells, step by step; insertion shows them on a
    blurred picture; ROAD fills them from their surroundings.
    Sources: Petsiuk et al. 2018 (RISE), arXiv 1806.07421; Rong et al. 2022 (ROAD), arXiv 2202.00449.
    """
    cells = cell_numbers(pixels.shape[0], pixels.shape[1])
    count = int(cells.max()) + 1
    blurred = blur(pixels)
    steps = np.round(np.linspace(0, count, STEPS + 1)).astype(int)[1:-1]
    shares = [round(share * count) for share in SHARES]

    def changed(values: np.ndarray) -> np.ndarray:
        place = _places(values, cells, seed)[cells]  # (H, W): 0 where it is most important
        holes = np.stack([place < k for k in shares] + [place >= count - k for k in shares])
        covered, shown = (place < k for k in steps), (place < k for k in steps)
        return np.concatenate(
            [_mixed(hidden, pixels, covered), _mixed(pixels, blurred, shown), impute(pixels, holes, seed=seed)]
        )

    with workers() as pool:
        pictures = list(pool.map(changed, maps))
    found = answer(
        np.concatenate([np.stack([pixels, hidden, blurred]), *pictures])
    )  # first where all curves begin or end
    full, none, vague = found[:3]
    scores = []
    for row in found[3:].reshape(len(maps), -1):
        deleted, inserted, road = np.split(row, [len(steps), 2 * len(steps)])
        scores.append(
            _scores(np.array([full, *deleted, none]), np.array([vague, *inserted, full]), road.reshape(2, -1))
        )
    return scores


def cell_numbers(height: int, width: int, cells: int = CELLS) -> np.ndarray:
    """int (H, W): which cell a pixel belongs to, of cells x cells nearly equal ones; along sides of up to 14 pixels, each pixel."""
    rows, columns = (np.arange(side) * (side if side <= _TINY else cells) // side for side in (height, width))
    return rows[:, None] * (columns.max() + 1) + columns


def in_cells(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The mean of (H, W) over each cell -> (cells,)."""
    numbers = cells.ravel()
    return np.bincount(numbers, values.ravel().astype(np.float64)) / np.bincount(numbers)


def random_map(shape: tuple[int, int], seed: int) -> np.ndarray:
    """A map that knows nothing, float (H, W)."""
    return np.random.default_rng(seed).random(shape)


def edge_map(pixels: np.ndarray) -> np.ndarray:
    """Strength of the edges of a picture uint8 (H, W, C), float (H, W): Sobel's gradient, which knows nothing of the network."""
    from scipy.ndimage import sobel

    grey = pixels.astype(np.float64).mean(axis=2)
    return np.hypot(sobel(grey, axis=0), sobel(grey, axis=1))


def blur(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C), with a Gaussian of a sixth of the larger side: color without shapes."""
    from scipy.ndimage import gaussian_filter

    sigma = _BLUR * max(pixels.shape[:2])
    return np.round(gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0))).astype(np.uint8)


def margin(height: int, width: int) -> np.ndarray:
    """bool (H, W): the outer margin, an eighth of each side."""
    inner = np.zeros((height, width), bool)
    top, left = max(1, round(MARGIN * height)), max(1, round(MARGIN * width))
    inner[top : height - top, left : width - left] = True
    return ~inner


def margin_share(values: np.ndarray) -> float:
    """Which share of the heat, the positive part of a map (H, W), lies in the outer margin."""
    heat = np.maximum(values, 0)
    return float(heat[margin(*heat.shape)].sum() / heat.sum())


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two maps (H, W) over the cells; nan where one of them is constant."""
    cells = cell_numbers(*one.shape)
    first, second = (_ranks(in_cells(values, cells)) for values in (one, other))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _scores(deletion: np.ndarray, insertion: np.ndarray, road: np.ndarray) -> Scores:
    areas = [float((curve[:-1] + curve[1:]).mean() / 2) for curve in (deletion, insertion)]
    return Scores(areas[0], areas[1], float((road[1] - road[0]).mean() / 2), deletion, insertion, road)


def _places(values: np.ndarray, cells: np.ndarray, seed: int) -> np.ndarray:
    """int (cells,): the place of each cell, the most important first; cells of equal heat in random order."""
    heat = in_cells(values, cells)
    shuffled = np.random.default_rng(seed).permutation(len(heat))
    order = shuffled[np.argsort(-heat[shuffled], kind="stable")]
    places = np.empty(len(heat), int)
    places[order] = np.arange(len(heat))
    return places


def _mixed(there: np.ndarray, elsewhere: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack([np.where(mask[..., None], there, elsewhere) for mask in masks])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 on, their mean for equal values."""
    _, which, seen = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(seen) - (seen + 1) / 2)[which]
