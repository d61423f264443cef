"""What one look keeps of a picture's looks: a small grey copy and three figures, from which near duplicates and poor pictures
are told later, without the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = (
    32  # pixels of the grey copy's side; more tell near duplicates no better apart, fewer do worse on 32 x 32 pictures
)
_WORKING = 256  # pixels; figures are taken from a copy no larger, so that they do not depend on the camera's resolution


class Looks(NamedTuple):
    """brightness: mean level, 0 to 1. contrast: standard deviation of the levels, 0 to 1.
    sharpness: variance of the Laplacian over the mean squared gradient, both of a copy with at most 256 pixels a side; 0 for
    a picture of one level. thumbnail: uint8 (32, 32) as bytes, the whole picture in grey.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    thumbnail: bytes = b""


NO_LOOKS = Looks()


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Thumbnails as they lie in the looks, so that those of a large set are not in memory twice; indexed like an array of uint8
    (N, 32, 32), by a slice or int (M,)."""

    each: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.each)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        some = self.each[rows] if isinstance(rows, slice) else [self.each[i] for i in rows.tolist()]
        return np.frombuffer(bytearray().join(some), np.uint8).reshape(-1, SIDE, SIDE)


def look_at(pixels: np.ndarray) -> Looks:
    """The looks of a decoded picture, uint8 (H, W, C); as `look_at_all` of this one."""
    return look_at_all([pixels])[0]


def look_at_all(pictures: Sequence[np.ndarray]) -> list[Looks]:
    """The looks of decoded pictures of one shape, uint8 (H, W, C) each. Many small ones at once take a tenth of the time.

    Source of the sharpness: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", which is the variance
    of the Laplacian. That depends on what is shown (a black shirt on a white table has little of it, however sharp); divided
    by the squared gradient it tells only how abrupt the edges are.
    """
    grey = _grey(pictures)  # uint8 (N, H, W)
    count, height, width = grey.shape
    if max(height, width) > _WORKING:
        scale = _WORKING / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BOX)) for one in grey])
    levels = grey.astype(np.float32)
    brightness, contrast = _figure(np.mean, levels) / 255, _figure(np.std, levels) / 255
    sharpness = np.zeros(count)
    if min(levels.shape[1:]) > 2:
        middle = levels[:, 1:-1, 1:-1]
        up, down, left, right = levels[:, :-2, 1:-1], levels[:, 2:, 1:-1], levels[:, 1:-1, :-2], levels[:, 1:-1, 2:]
        slope = _figure(np.mean, np.square(down - up) + np.square(right - left)) / 4
        bend = _figure(np.var, up + down + left + right - 4 * middle)
        np.divide(bend, slope, out=sharpness, where=slope > 0)
    figures = zip(brightness.tolist(), contrast.tolist(), sharpness.tolist(), map(_thumbnail, grey), strict=True)
    return [Looks(*row) for row in figures]


def _grey(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (N, H, W)"""
    height, width, channels = pictures[0].shape
    tall = pictures[0] if len(pictures) == 1 else np.concatenate(pictures)  # (N * H, W, C)
    if channels == 3:
        tall = np.asarray(Image.fromarray(tall).convert("L"))
    elif channels > 1:
        tall = tall.mean(2).astype(np.uint8)
    return tall.reshape(-1, height, width)


def _thumbnail(grey: np.ndarray) -> bytes:
    if grey.shape == (SIDE, SIDE):
        return grey.tobytes()
    return Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR).tobytes()


def _figure(of: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """float64 (N,): one figure for each of N pictures, the same whichever others are there."""
    return of(values.reshape(len(values), -1), axis=1).astype(np.float64)
