"""What all readers share: levels of any kind become 8 bits, a size has a limit, a picture is turned upright."""

from __future__ import annotations

import numpy as np

from pellucid.errors import PictureError

# round(level / 257) for every level of 16 bits; there are no ties, because 257 is odd.
EIGHT_BITS = ((np.arange(65536) + 128) // 257).astype(np.uint8)

_MANY_CHANNELS = 4  # from here on a picture may have as many values as one of so many channels, not as many pixels


def eight_bits(levels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 of the shape of `levels` (uint8, uint16, bool, or floating point in 0..1), and what to note.

    uint8 is not copied; 16 bits become round(v / 257). Raises PictureError for other types and values.
    """
    if not levels.dtype.isnative:
        levels = levels.astype(levels.dtype.newbyteorder("="))
    if levels.dtype == np.uint8:
        return levels, ()
    if levels.dtype == np.bool_:
        return levels * np.uint8(255), ()
    if levels.dtype == np.uint16:
        return EIGHT_BITS[levels], ("16-bit scaled to 8-bit",)
    if np.issubdtype(levels.dtype, np.floating):
        return from_unit_range(levels), ()
    raise PictureError(f"array of {levels.dtype}; expected uint8, uint16, bool, or floating point in 0..1")


def from_unit_range(levels: np.ndarray) -> np.ndarray:
    """Floating-point levels 0..1 as uint8. Raises PictureError for others."""
    if not ((levels >= 0) & (levels <= 1)).all():  # also when one is not a number
        low, high = levels.min(), levels.max()
        raise PictureError(
            f"floating-point levels from {low:g} to {high:g}; expected 0 to 1: scale the picture to that"
        )
    return np.rint(levels * np.float64(255)).astype(np.uint8)


def check_size(size: tuple[int, int], max_pixels: int, channels: int = 1) -> None:
    """Raises PictureError when a header claims more than `max_pixels` pixels, or too many values; size: width, height."""
    width, height = size
    if width * height > max_pixels:
        count = f"{width:,} x {height:,} = {width * height:,} pixels"
        raise PictureError(f"{count}, more than the limit of {max_pixels:,}")
    if width * height * channels > _MANY_CHANNELS * max_pixels:
        count = f"{width:,} x {height:,} x {channels:,} = {width * height * channels:,} values"
        raise PictureError(f"{count}, more than the limit of {_MANY_CHANNELS * max_pixels:,}")


def channels_seem_first(shape: tuple[int, ...]) -> bool:
    """Whether (..., H, W, C) looks like (..., C, H, W): hardly any rows, but more channels than colors."""
    height, width, channels = shape[-3:]
    return channels > 4 >= min(height, width) or height <= 16 < min(width, channels)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Mirror and turn (H, W, C) as the EXIF orientation, 1 to 8, demands. Source: Exif 2.32, tag 274."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
