"""Colors for numbers: viridis from zero up, and blue, white, orange on both sides of zero.

Both survive color blindness. In grey, viridis rises evenly; below zero the second falls to almost black, above zero only
to a middle grey, so that the sign can still be told.
"""

from __future__ import annotations

from functools import lru_cache

import matplotlib
import numpy as np
from PIL import Image

_AROUND_ZERO = ((9, 32, 84), (64, 126, 190), (255, 255, 255), (245, 165, 70), (196, 84, 0))
_STEPS = 255  # an odd number, so that zero has a color of its own


def colored(values: np.ndarray, low: float, high: float, factor: int = 1) -> Image.Image:
    """Numbers (H, W) as an RGB picture, each a square of `factor` pixels; a negative factor makes the mean of squares of so
    many numbers one pixel.

    From 0 to `high` where nothing is negative, else around zero as far as the larger of -low and high. What is not finite is
    grey.
    """
    if factor < -1:
        height, width = (side // -factor * -factor for side in values.shape)
        squares = values[:height, :width].reshape(height // -factor, -factor, width // -factor, -factor)
        values = squares.mean((1, 3))
    most = max(abs(low), abs(high)) or 1.0
    share = values / most if low >= 0 else (values / most + 1) / 2
    finite = np.isfinite(share)
    index = np.round(np.clip(np.where(finite, share, 0), 0, 1) * (_STEPS - 1)).astype(int)
    pixels = _table(low < 0)[index]
    pixels[~finite] = 128
    return Image.fromarray(pixels.repeat(max(factor, 1), 0).repeat(max(factor, 1), 1))


def scale_bar(low: float, high: float, *, length: int = 192, height: int = 12) -> tuple[Image.Image, tuple[str, ...]]:
    """The colors of `colored` in a row, and the numbers that belong below its left end, middle and right end."""
    most = max(abs(low), abs(high)) or 1.0
    start = -most if low < 0 else 0.0
    strip = colored(np.tile(np.linspace(start, most, length), (height, 1)), start, most)
    return strip, (f"{start:.3g}", "0" if low < 0 else "", f"{most:.3g}")


def whole_factor(side: int, cell: int) -> int:
    """By which whole number a map with this larger side is enlarged to fit `cell` pixels; negative: made smaller."""
    return cell // side if side <= cell else -side // cell


@lru_cache
def _table(around_zero: bool) -> np.ndarray:
    """uint8 (255, 3)."""
    if not around_zero:
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 1, _STEPS))[:, :3]
        return np.round(colors * 255).astype(np.uint8)
    anchors = np.array(_AROUND_ZERO, float)
    at = np.linspace(0, 1, len(anchors))
    channels = [np.interp(np.linspace(0, 1, _STEPS), at, anchors[:, k]) for k in range(3)]
    return np.round(np.stack(channels, 1)).astype(np.uint8)
