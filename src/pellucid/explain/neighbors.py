"""The nearest of many vectors, exactly: by cosine distance (1 - cosine, 0 to 2) or by Euclidean distance."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.errors import UnknownNameError, nearest

COSINE, EUCLIDEAN = "cosine", "euclidean"
DISTANCES = (COSINE, EUCLIDEAN)
_AT_ONCE = 20_000_000  # distances between queries and points: bounds the memory


class Neighbors:
    """Vectors (N, K) made ready to be asked for the nearest ones. `points` float32 (N, K) have length 1 for the cosine."""

    def __init__(self, vectors: np.ndarray, distance: str = COSINE) -> None:
        """Raises UnknownNameError for a distance that is none."""
        if distance not in DISTANCES:
            raise UnknownNameError(
                f"There is no distance '{distance}'; it must be one of {', '.join(DISTANCES)}. {nearest(distance, DISTANCES)}".rstrip()
            )
        self.distance = distance
        self.points = self._ready(vectors)
        self._half_square = (self.points**2).sum(1) / 2

    def __len__(self) -> int:
        return len(self.points)

    def of(
        self, queries: np.ndarray, k: int, *, apart: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions int (Q, k) of the nearest to `queries` (Q, K), nearest first, and their distances float32 (Q, k).

        `apart`, int (Q,) and (N,): a point whose number is the query's is passed over. Where fewer than k are left, positions
        are -1 and distances inf; k is at most N.
        """
        k = min(k, len(self))
        found = []
        groups = None if apart is None else (torch.from_numpy(apart[0]), torch.from_numpy(apart[1]))
        size = max(1, _AT_ONCE // len(self))
        for start in range(0, len(queries), size):
            some = self._ready(queries[start : start + size])
            closeness = some @ self.points.T - self._half_square
            if groups is not None:
                closeness.masked_fill_(groups[0][start : start + size, None] == groups[1], -torch.inf)
            near = closeness.topk(k, dim=1)
            away = self._distances(some, self.points[near.indices])
            gone = near.values == -torch.inf
            found.append((near.indices.masked_fill(gone, -1), away.masked_fill(gone, torch.inf)))
        positions, distances = (torch.cat(part).numpy() for part in zip(*found, strict=True))
        return positions, distances

    def _ready(self, vectors: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(np.asarray(vectors, np.float32))
        return F.normalize(x) if self.distance == COSINE else x

    def _distances(self, queries: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """(Q, K) and (Q, k, K) -> (Q, k), from differences: exactly 0 for what is equal, unlike the form with products."""
        away = (queries[:, None] - points).norm(dim=2)
        return away**2 / 2 if self.distance == COSINE else away  # of length 1: |a - b|^2 = 2 - 2 cos
