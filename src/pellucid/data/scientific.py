"""Pictures that are measurements: NumPy files, DICOM, and TIFF with channels of any number.

Each reader compares the size in the header with the limit before it touches a pixel, and refuses what is cut off.
What is no color is kept as it was measured: all channels, in their order.
"""

from __future__ import annotations

import logging
from io import BytesIO
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pellucid.data.levels import channels_seem_first, check_size, eight_bits, from_unit_range, upright
from pellucid.errors import PictureError

_TIFF_PHOTOMETRIC, _TIFF_SAMPLES, _TIFF_EXTRA, _TIFF_ORIENTATION = 262, 277, 338, 274
_TIFF_COLORS = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}  # samples of RGB, CMYK, YCbCr and LAB; one for all other kinds
_TIFF_ALPHA = (1, 2)
_DEFLATED = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.8.1")  # transfer syntaxes whose size no header bounds

_SILENT = logging.NullHandler()  # tifffile logs odd tags, which would otherwise be printed

Pixels = tuple[np.ndarray, tuple[str, ...]]  # uint8 (H, W, C), notes


def read_npy(data: bytes, max_pixels: int) -> Pixels:
    """The array (H, W) or (H, W, C) in a NumPy file. Objects, which only pickle can read, are refused."""
    stream = BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise PictureError(f"NPY of version {version[0]}.{version[1]}; expected 1.0 or 2.0")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = header(stream)
    if len(shape) not in (2, 3) or 0 in shape or kind.hasobject:
        raise PictureError(f"NPY of shape {shape} and type {kind}; expected numbers (height, width[, channels])")
    if len(shape) == 3 and channels_seem_first(shape):
        raise PictureError(f"NPY of shape {shape}; expected (height, width, channels): channels come last")
    height, width, *channels = shape
    check_size((width, height), max_pixels, *channels)
    needed, found = int(np.prod(shape)) * kind.itemsize, len(data) - stream.tell()
    if found < needed:
        raise PictureError(f"truncated NPY: {found:,} of {needed:,} bytes")
    if found > needed:
        raise PictureError(f"damaged NPY: {found - needed:,} bytes follow the array")
    stream.seek(0)
    pixels, notes = eight_bits(np.load(stream, allow_pickle=False))
    return np.atleast_3d(pixels), notes


def has_extra_channels(data: bytes) -> bool:
    """Whether a TIFF has samples beyond its colors that are no transparency, like near infrared.

    Pillow cannot read most of these, and of the others it drops such samples without a word.
    """
    tags = ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])  # 43: BigTIFF
    stream = BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    extra = tags.get(_TIFF_SAMPLES, 1) - _TIFF_COLORS.get(tags.get(_TIFF_PHOTOMETRIC, 1), 1)
    return extra > 1 or (extra == 1 and tags.get(_TIFF_EXTRA, _TIFF_ALPHA)[0] not in _TIFF_ALPHA)


def read_tiff(data: bytes, max_pixels: int) -> Pixels:
    """All samples of the first page of a TIFF, in their order."""
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise PictureError('TIFF of many channels needs tifffile: pip install "pellucid[tiff]"') from error
    logging.getLogger("tifffile").addHandler(_SILENT)  # once, however often it is said
    with TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        check_size((page.imagewidth, page.imagelength), max_pixels, page.samplesperpixel)
        if page.axes not in ("YXS", "SYX"):
            raise PictureError(f"unsupported TIFF: its axes are {page.axes}; expected height, width and channels")
        parts = zip(page.dataoffsets, page.databytecounts, strict=True)
        if not all(count and offset + count <= len(data) for offset, count in parts):
            raise PictureError("truncated TIFF: a part of the picture is not in the file")
        frames = len(file.pages)
        levels = page.asarray(maxworkers=1)
        if levels.ndim != 3 or levels.size == 0:
            raise PictureError("damaged TIFF: it holds no pixels of the size that it names")
        orientation = page.tags.valueof(_TIFF_ORIENTATION, 1)
    if page.axes == "SYX":
        levels = np.moveaxis(levels, 0, 2)  # (C, H, W) -> (H, W, C)
    pixels, notes = eight_bits(upright(levels, orientation))
    return pixels, (*([f"first of {frames} frames used"] if frames > 1 else []), *notes)


def read_dicom(data: bytes, max_pixels: int) -> Pixels:
    """The first frame of a DICOM file: grey as a radiologist sees it (rescaled, windowed, bright is more), or RGB.

    More than 8 bits without a window are shown from the picture's own lowest to its highest level, as viewers do.
    Source: DICOM PS3.3, C.11.1 and C.11.2.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels import apply_color_lut, pixel_array
    except ImportError as error:
        raise PictureError('DICOM needs pydicom: pip install "pellucid[dicom]"') from error
    if any(syntax in data[:1024] for syntax in _DEFLATED):
        raise PictureError("unsupported DICOM: deflated; write it uncompressed")
    header = dcmread(BytesIO(data))
    if not all(name in header for name in ("PixelData", "Rows", "Columns")):
        raise PictureError("DICOM without a picture")
    check_size((header.Columns, header.Rows), max_pixels, header.SamplesPerPixel)
    frames = int(header.get("NumberOfFrames") or 1)
    notes = [f"first of {frames} frames used"] if frames > 1 else []
    stored = pixel_array(header, index=0)  # (H, W) or (H, W, 3); YCbCr has become RGB
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels, more = eight_bits(apply_color_lut(stored, header))
        return pixels, (*notes, *more)
    bits = header.BitsStored
    if stored.ndim == 2 and header.get("WindowWidth") not in (None, ""):
        levels = _windowed(stored, header)
        notes.append("DICOM window applied")
    elif stored.ndim == 3 or (bits <= 8 and not header.PixelRepresentation):
        levels = np.clip(stored / (2.0**bits - 1), 0, 1)
        notes += [f"{bits}-bit scaled to 8-bit"] if bits != 8 else []
    else:
        low, high = float(stored.min()), float(stored.max())
        levels = (stored - low) / max(high - low, 1)
        notes.append(f"no DICOM window: {bits}-bit shown from its lowest to its highest level")
    if header.PhotometricInterpretation == "MONOCHROME1":
        levels = 1 - levels
    return np.atleast_3d(from_unit_range(levels)), tuple(notes)


def _windowed(stored: np.ndarray, header: Any) -> np.ndarray:
    """Levels 0..1 of the (first) window, after the rescale. Source: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    from pydicom.pixels import apply_modality_lut
    from scipy.special import expit

    center, width = (float(np.ravel(header[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    if width < 1:
        raise PictureError(f"DICOM window {width:g} wide; expected 1 or more")
    levels = apply_modality_lut(stored, header).astype(np.float64)
    shape = header.get("VOILUTFunction", "LINEAR")
    if shape == "SIGMOID":
        return expit(4 * (levels - center) / width)
    if shape == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)
    return np.clip((levels - center) / width + 0.5, 0, 1)
