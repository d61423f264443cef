"""Whether a file is whole, where the readers of pictures do not say so themselves."""

from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from pellucid.errors import PictureError


def check_webp(data: bytes) -> None:
    """Raises PictureError when the end of a WebP is missing."""
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise PictureError("truncated WebP: the end of the file is missing")


def check_png(data: bytes) -> None:
    """Raises PictureError when a chunk has another checksum, or IEND is missing; Pillow looks no further than the pixels."""
    view, start, kind = memoryview(data), 8, b""
    while kind != b"IEND":
        end = start + 12 + int.from_bytes(data[start : start + 4])
        if end > len(data):
            raise PictureError("truncated PNG: the end of the file is missing")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise PictureError(f"damaged PNG: wrong checksum in a chunk {kind.decode('latin-1')!r}")
        start = end


def check_tiff(data: bytes) -> None:
    """Raises PictureError when the first directory of tags is not whole; Pillow goes without the tags that are missing."""
    order = "<" if data[:2] == b"II" else ">"
    big = b"+" in data[2:4]
    try:
        (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)
        whole = start + count * (20 if big else 12) <= len(data)
    except (struct.error, OverflowError):
        whole = False
    if not whole:
        raise PictureError("truncated TIFF: the directory of its tags is not in the file")


def runs_out(data: bytes, scan: int, pixels: np.ndarray) -> bool:
    """Whether the first scan of a JPEG, which begins after the offset `scan`, ends before the picture does.

    libjpeg then paints the rest in mid-grey and says nothing. So a last pixel of this grey raises a
    suspicion, and more bytes at the end of the scan settle it: they change an incomplete picture, and no
    other.
    """
    if not ends_in_grey(pixels):
        return False
    marker = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, scan)
    end = marker.start() if marker else len(data)
    longer = JpegImageFile(BytesIO(data[:end] + bytes(range(255)) + data[end:]))
    return not np.array_equal(np.atleast_3d(np.asarray(longer)), pixels)


def ends_in_grey(pixels: np.ndarray) -> bool:
    """Whether the last pixel, uint8 (H, W, C), is the grey that libjpeg paints where data are missing."""
    return set(pixels[-1, -1].tolist()) == {128}
