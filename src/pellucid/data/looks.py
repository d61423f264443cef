"""What one look keeps of a picture's looks: a small grey copy and three figures, from which near duplicates and poor pictures
are told later, without the file.
"""

from __future__ import annotations

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


def look_at(pixels: np.ndarray) -> Looks:
    """The looks of a decoded picture, uint8 (H, W, C).

    Source of the sharpness: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", which is the variance
    of the Laplacian. That depends on what is shown (a black shirt on a white table has little of it, however sharp); divided
    by the squared gradient it tells only how abrupt the edges are.
    """
    image = _grey(pixels)
    if max(image.size) > _WORKING:
        scale = _WORKING / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX)
    levels = np.asarray(image, np.float32)
    middle = levels[1:-1, 1:-1]
    up, down, left, right = levels[:-2, 1:-1], levels[2:, 1:-1], levels[1:-1, :-2], levels[1:-1, 2:]
    slope = float((np.square(down - up) + np.square(right - left)).mean()) / 4 if middle.size else 0.0
    return Looks(
        brightness=float(levels.mean()) / 255,
        contrast=float(levels.std()) / 255,
        sharpness=float((up + down + left + right - 4 * middle).var()) / slope if slope else 0.0,
        thumbnail=image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).tobytes(),
    )


def _grey(pixels: np.ndarray) -> Image.Image:
    channels = pixels.shape[2]
    if channels == 3:
        return Image.fromarray(pixels).convert("L")
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels.mean(2).astype(np.uint8))
