"""Near duplicates: the same picture resized, re-encoded, a little cropped, or brighter.

Every picture is compared with every other one, in two steps on their small grey copies. The first compares 32 numbers a
picture, by matrix products: of 60,000 pictures 1.8 billion pairs. What is left is laid over each other, corrected for a
shift and a scale, and compared in detail. In both, frequencies are weighed by their height, which makes them count alike,
since the amplitudes of natural pictures fall as 1/f (Field 1987); otherwise the large shapes that pictures of one kind
share (a shirt on a table, a cell on black) would count for everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct

from pellucid.data.duplicates import MIN_SIDE, USUAL, NearPairs
from pellucid.data.looks import SIDE, Thumbnails
from pellucid.data.scan import in_threads
from pellucid.device import give_memory_back

# Measured on 400 pictures each of clothing, cifar10-jpeg and malaria cells against changed copies of themselves; see
# docs/decisions/009-near-duplicates.md.
_COARSE, _FINE = 6, 16  # frequencies (half periods a side) below which the two steps look
_CANDIDATE = 0.84  # cosine in the first step; 97 % of the copies cropped by 5 % have more
_PER_PICTURE = 2  # candidates at most, each way; a larger set of copies is linked through its members
_BLOCK, _FEW = (
    (1024, 2048),
    8,
)  # pictures compared at once, which fit the cache; places a row that are looked at one by one
_CLOSE = 0.9  # from here on the second step is done once more, in full detail
_ZOOM = 0.95  # a second comparison is with the middle of the picture, for copies that were cropped
# Cosine in the second step, by the shorter side in pixels: small pictures lose more when they are saved again.
_SIDES, _AGREES = (32.0, 64.0), (0.94, USUAL)
_LEVELS = 8  # between the darkest and the brightest place; what has fewer shows nothing
_RANK, _SHARE = 20, 0.25  # see _required
_SAMPLE, _MANY = 500, 200
_PART, _PAIRS = 1024, 128  # pictures, and pairs of them, that a thread works on at once

Fetch = Callable[[np.ndarray], torch.Tensor]  # int (M,) -> uint8 (M, 32, 32)


def find_near(thumbnails: np.ndarray | Thumbnails, sides: np.ndarray) -> NearPairs:
    """The pairs of near duplicates among pictures that are all different.

    `thumbnails` uint8 (N, 32, 32); `sides` int (N,), the shorter side of each picture in pixels. Pictures that show nothing,
    and those smaller than 24 pixels, have none. Mirrored and rotated copies are not found.
    """
    parts = range(0, len(thumbnails), _PART)
    levels = np.concatenate([np.zeros(0, np.uint8), *(np.ptp(thumbnails[k : k + _PART], axis=(1, 2)) for k in parts)])
    rows = np.flatnonzero((sides >= MIN_SIDE) & (levels >= _LEVELS))
    if len(rows) < 2:
        return NearPairs(np.zeros((0, 2), np.int64), _AGREES[1])

    def small(some: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(thumbnails[rows[some]])

    whole = _in_parts(small, len(rows), lambda part: _spectrum(part, _COARSE))
    middle = _in_parts(small, len(rows), lambda part: _spectrum(_window(part, _start(len(part), _ZOOM)), _COARSE))
    give_memory_back()
    found = []
    for query, zoom in ((whole, 1.0), (middle, _ZOOM)):
        pairs = _candidates(query, whole, later_only=zoom == 1)
        found.append(np.column_stack((pairs, _agreement(small, pairs, zoom))))
        give_memory_back()
    pairs_and_scores = np.concatenate(found)
    pairs, scores = pairs_and_scores[:, :2].astype(np.int64), pairs_and_scores[:, 2]

    required = _required(small, whole)
    usual = np.interp(sides[rows][pairs].min(1), _SIDES, _AGREES)
    pairs = rows[np.sort(pairs[scores >= np.maximum(usual, required)], axis=1)]
    return NearPairs(np.unique(pairs, axis=0), max(required, _AGREES[1]))


def _spectrum(pictures: torch.Tensor, below: int) -> torch.Tensor:
    """Unit vectors, float (N, K): cosine coefficients of slightly smoothed pictures, the mean left out, times their frequency."""
    transform = torch.from_numpy(dct(np.eye(SIDE), axis=0, norm="ortho")[:below]).float()  # (below, 32)
    along = torch.arange(below)
    frequency = torch.hypot(*torch.meshgrid(along.float(), along.float(), indexing="ij"))
    smooth = (1 + torch.cos(torch.pi * along / SIDE)) / 2  # of the binomial filter 1 2 1
    weight = frequency * smooth[:, None] * smooth
    values = (transform @ pictures.float() @ transform.T * weight)[:, (frequency < below) & (frequency > 0)]
    return F.normalize(values, dim=1)


def _candidates(query: torch.Tensor, whole: torch.Tensor, *, later_only: bool) -> np.ndarray:
    """int (M, 2): for each row of `query` the rows of `whole` that are most similar, at most _PER_PICTURE; with `later_only`
    those behind it.

    Whole numbers of 8 bits tell first, in a third of the time, where no cosine can reach _CANDIDATE.
    """
    n, (height, width) = len(whole), _BLOCK
    rough, columns = _rounded(query), _rounded(whole)
    slack = rough.error + columns.error * (1 + rough.error)  # of a product of vectors that were at most 1 long
    limit = (_CANDIDATE - slack) / (rough.unit * columns.unit)

    def work(first: int) -> np.ndarray:
        rows = torch.arange(first, min(first + height, n))
        found = [(rows[:0], rows[:0], query[:0, 0])]
        room = None
        for start in range(first if later_only else 0, n, width):
            product = _product(rough.values[first : first + height], columns.values[start : start + width], room)
            room = product if product.shape[1] == width else None  # new room for each would be scattered over the heap
            _hide(product, rows, start, later_only)
            near = product.amax(1) >= limit
            if near.any():
                block = whole[start : start + width]
                found.append(_best(query[rows[near]], block, product[near] >= limit, rows[near], start))
        row, column, cosine = (torch.cat(part).numpy() for part in zip(*found, strict=True))
        order = np.lexsort((-cosine, row))
        row, column = row[order], column[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        return np.column_stack((row, column))[rank < _PER_PICTURE]

    return np.concatenate(list(in_threads(work, range(0, n, height), at_once=1)))


def _best(
    query: torch.Tensor, whole: torch.Tensor, near: torch.Tensor, rows: torch.Tensor, start: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, columns and cosines of the candidates in one block, where `near` says that they may be: all of them, or, where
    they are many, the best _PER_PICTURE of each row."""
    if int(near.sum()) <= _FEW * len(rows):
        row, column = near.nonzero().T
        cosine = (query[row] * whole[column]).sum(1)
    else:
        cosines, best = (query @ whole.T).masked_fill_(~near, -1.0), []
        for _ in range(_PER_PICTURE):  # faster than topk
            best.append(cosines.max(1))
            cosines.scatter_(1, best[-1].indices[:, None], -1.0)
        cosine, column = (torch.cat(some) for some in zip(*best, strict=True))
        row = torch.arange(len(rows)).repeat(_PER_PICTURE)
    enough = cosine >= _CANDIDATE
    return rows[row[enough]], start + column[enough], cosine[enough]


class _Rounded(NamedTuple):
    """`values` times `unit` are vectors to within a distance of `error`."""

    values: torch.Tensor
    unit: float
    error: float


def _rounded(vectors: torch.Tensor) -> _Rounded:
    """int8 (N, K) where the processor multiplies such numbers fast; elsewhere the vectors (N, K) as they are."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return _Rounded(vectors, 1.0, 0.0)
    unit = max(float(part.abs().max()) for part in vectors.split(_PART)) / 127
    values = torch.empty(vectors.shape, dtype=torch.int8)
    error = 0.0
    for some, part in zip(values.split(_PART), vectors.split(_PART), strict=True):
        some.copy_((part / unit).round_())
        error = max(error, float((part - some * unit).norm(dim=1).max()))
    return _Rounded(values, unit, error + 1e-5)


def _product(first: torch.Tensor, second: torch.Tensor, room: torch.Tensor | None) -> torch.Tensor:
    """(N, M) of rows (N, K) and (M, K), in `room` where that fits."""
    multiply = torch._int_mm if first.dtype == torch.int8 else torch.mm
    if room is None or room.shape != (len(first), len(second)):
        return multiply(first, second.T)
    return multiply(first, second.T, out=room)


def _hide(similar: torch.Tensor, rows: torch.Tensor, start: int, later_only: bool) -> None:
    """Sets to -1, in columns from `start` on, a picture with itself, and with `later_only` those before it."""
    if start <= int(rows[-1]) and start + similar.shape[1] > int(rows[0]):
        columns = torch.arange(start, start + similar.shape[1])
        similar.masked_fill_(columns <= rows[:, None] if later_only else columns == rows[:, None], -1)


def _required(small: Fetch, whole: torch.Tensor) -> float:
    """The agreement that this set asks for, whatever the resolution: where a picture agrees to 0.94 with its 20th neighbour,
    as among cells, 0.97 says nothing. A tenth of the sampled pictures come at least as near to their 20th neighbour as the
    value from which the distance to 1 is shortened to a quarter. 0 for fewer than 200 pictures, which have few pairs.
    """
    n = len(whole)
    if n < _MANY:
        return 0.0
    rows = torch.from_numpy(np.unique(np.linspace(0, n - 1, _SAMPLE).astype(np.int64)))
    neighbours = []
    for some in rows.split(20):
        cosines = whole[some] @ whole.T
        _hide(cosines, some, 0, later_only=False)
        neighbours.append(cosines.topk(_RANK).indices[:, -1])
    neighbour = torch.cat(neighbours)
    agreement = _agreement(small, torch.stack((rows, neighbour), 1).numpy(), 1.0)
    return 1 - _SHARE * (1 - float(np.quantile(agreement, 0.9)))


def _agreement(small: Fetch, pairs: np.ndarray, zoom: float) -> np.ndarray:
    """float (M,): how well the first picture of each pair, moved and scaled, agrees with the second, -1 to 1.

    `zoom` is the share of the first that the second is taken to show, before that is improved.
    """

    def work(start: int) -> np.ndarray:
        part = pairs[start : start + _PAIRS]
        first, second = small(part[:, 0]).float(), small(part[:, 1]).float()
        wanted, window = _spectrum(second, _FINE), _start(len(part), zoom)
        window = _aligned(F.avg_pool2d(first, 2), F.avg_pool2d(second, 2), window, steps=2)
        agreement = (_spectrum(_window(first, window), _FINE) * wanted).sum(1)
        close = agreement >= _CLOSE
        if close.any():
            window = _aligned(first[close], second[close], window[close], steps=1)
            agreement[close] = (_spectrum(_window(first[close], window), _FINE) * wanted[close]).sum(1)
        return agreement.numpy()

    parts = in_threads(work, range(0, len(pairs), _PAIRS), at_once=1)
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _aligned(first: torch.Tensor, second: torch.Tensor, window: torch.Tensor, *, steps: int) -> torch.Tensor:
    """The window of `first` that shows what `second` shows, from a first guess, by steps of Gauss and Newton.

    Unknown are the window's scale and place, and brightness and contrast. Source: Lucas and Kanade 1981; Baker and Matthews
    2004, "Lucas-Kanade 20 years on".
    """
    first, second = _smooth(first), _smooth(second)
    target = F.normalize((second - second.mean((1, 2), keepdim=True)).flatten(1), dim=1)
    side = first.shape[-1]
    across, down = torch.zeros_like(first), torch.zeros_like(first)
    across[:, :, 1:-1] = (first[:, :, 2:] - first[:, :, :-2]) * side / 4  # per half a side
    down[:, 1:-1] = (first[:, 2:] - first[:, :-2]) * side / 4
    stack = torch.stack((first, across, down), 1)
    x, y = _coordinates(side)
    for _ in range(steps):
        seen, dx, dy = _window(stack, window).unbind(1)
        mean = seen.mean((1, 2), keepdim=True)
        gain = ((seen - mean).flatten(1) * target).sum(1, keepdim=True).clamp(min=1e-3)
        miss = gain * target - (seen - mean).flatten(1)
        slopes = torch.stack((dx * x, dy * y, dx, dy, seen, torch.ones_like(seen)), 1).flatten(2)  # (M, 6, side * side)
        squares = slopes @ slopes.transpose(1, 2)
        damping = squares.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * 1e-4 + 1e-6
        step = torch.linalg.solve(squares + damping * torch.eye(6), slopes @ miss[..., None])[:, :4, 0]
        window = window + step.clamp(-0.05, 0.05)
        window = torch.cat((window[:, :2].clamp(0.85, 1.15), window[:, 2:].clamp(-0.12, 0.12)), 1)
    return window


def _start(count: int, zoom: float) -> torch.Tensor:
    return torch.tensor([zoom, zoom, 0.0, 0.0]).repeat(count, 1)


def _window(pictures: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """What lies in a window of each picture, (N, 32, 32) or (N, C, 32, 32), stretched to the whole.

    `window` (N, 4): its width and height as shares of the picture's, and its middle in units of half a side.
    """
    x, y = _coordinates(pictures.shape[-1])
    wide, high, right, low = window.T[:, :, None, None]
    grid = torch.stack(torch.broadcast_tensors(x * wide + right, y * high + low), -1)
    planes = pictures.float() if pictures.ndim == 4 else pictures.float()[:, None]
    seen = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return seen if pictures.ndim == 4 else seen[:, 0]


def _coordinates(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of the pixels' middles, (1, side) and (side, 1), from -1 to 1."""
    along = (torch.arange(side) + 0.5) * 2 / side - 1
    return along[None], along[:, None]


def _smooth(pictures: torch.Tensor) -> torch.Tensor:
    """By the binomial filter 1 2 1, both ways."""
    padded = F.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def _in_parts(small: Fetch, count: int, work: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    starts = range(0, count, _PART)
    parts = in_threads(lambda k: work(small(np.arange(k, min(k + _PART, count)))), starts, at_once=1)
    first = next(parts)
    found = torch.empty(count, first.shape[1])  # parts put together at the end would be there twice
    found[: len(first)] = first
    for start, part in zip(starts[1:], parts, strict=True):
        found[start : start + len(part)] = part
    return found
