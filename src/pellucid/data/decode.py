"""How the bytes of a picture become pixels, safely and always in the same way.

JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, AVIF, HEIC, DICOM and NPY are recognized by their first bytes, never by
the name of the file. The size is read from the header and compared with a limit before any pixel is
allocated, and a file that is cut off or damaged is an error, never a half-grey picture. All of it may be
called from many threads at once.

Pillow reads every format and nearly every header, HEIC by pi-heif; for measurements, with levels and channels of
another kind, there is `pellucid.data.scientific`. The pixels of grey and RGB JPEG come from simplejpeg where it is
installed: the same pixels, bit for bit, in half the time.
"""

from __future__ import annotations

import re
import struct
import sys
import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pellucid.data.damage import check_png, check_tiff, check_webp, ends_in_grey, runs_out
from pellucid.data.levels import EIGHT_BITS, check_size, eight_bits, from_unit_range, upright
from pellucid.data.scientific import has_extra_channels, read_dicom, read_npy, read_tiff
from pellucid.errors import PictureError

try:
    import simplejpeg
except ImportError:  # Pillow does the same
    simplejpeg = None

MAX_PIXELS = 100_000_000

# Not Image.open(): it warns of large pictures by a limit of its own, which is one for the whole process.
_READERS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    "PPM": PpmImageFile,
    "AVIF": AvifImageFile,
}

_SIGNATURES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "DICOM": re.compile(rb".{128}DICM", re.DOTALL),  # before TIFF, as which its first 128 bytes may be read, too
    "WebP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    # Bytes 14 and 15 of a BMP are the size of its next header, 12 to 124; text has no \0.
    "BMP": re.compile(rb"BM.{12}[^\0]\0", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "PPM": re.compile(rb"P[56]\s[\d#]"),
    # The brand of a container for any codec is followed by a version and the brands that it is compatible with.
    "AVIF": re.compile(rb".{4}ftyp(avi[fs]|m[is]f1.{4}(.{4}){0,12}?avi[fs])", re.DOTALL),
    "HEIC": re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL),
    "NPY": re.compile(rb"\x93NUMPY"),
}
HEAD = 132  # bytes: as many as the signatures look at

_UNSUPPORTED = {
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "JPEG XL": re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"),
    "Photoshop": re.compile(rb"8BPS"),
    "PDF": re.compile(rb"%PDF-"),
}

# What a header of a JPEG can say beyond the size and the coding: EXIF (APP1), several pictures (APP2), colors (APP14).
_REMARKS = re.compile(rb"\xff[\xe1\xe2\xee]")
_COLORS = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}  # as a JPEG is coded -> as simplejpeg gives it out

_TIFF_SUBFILE, _EXIF_ORIENTATION, _MPF_PICTURES = 0x00FE, 0x0112, 0xB001

_READER_WARNINGS = ("ignore", None, UserWarning, re.compile(r"PIL\.\w+ImagePlugin|pydicom\."), 0)


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture.

    pixels: uint8 (H, W, C), C-contiguous; C is 1 (grey), 3 (RGB), or what a TIFF, NPY or array holds.
    format: "JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "HEIC", "DICOM", "NPY", or "array".
    notes: short phrases on what a user should know, such as "first of 12 frames used".
    """

    pixels: np.ndarray
    format: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        height, width, channels = self.pixels.shape
        return "; ".join((f"{self.format}, {width} x {height} pixels, channels: {channels}", *self.notes))


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture in the bytes of one file.

    The EXIF orientation is applied. Grey stays one channel; palettes, CMYK, YCbCr and LAB become RGB;
    transparency is laid on white; 16 bits become round(v / 257); floating-point levels must lie in 0..1.
    Color profiles are not applied. Of an animation or a document the first frame or page is used; the rest
    need not be complete. A TIFF with channels beyond its colors and an NPY file keep all their channels, an
    NPY has the levels that `from_array` takes, and DICOM is shown through its window.

    A JPEG without its end marker counts as truncated even when these two bytes alone are missing: nothing
    then says that it is complete. JPEG has no checksum: data missing before an end marker are noticed unless
    they concern only the last block (up to 16 x 16 pixels) or the later scans of a progressive file.

    Raises PictureError, with a short reason, unless it is a complete picture of at most `max_pixels` pixels.
    """
    if not data:
        raise PictureError("file is empty (0 bytes)")
    name = _match(_SIGNATURES, data)
    if name is None:
        raise PictureError(_not_a_picture(data))
    try:
        return (name == "JPEG" and _decode_plain_jpeg(data, max_pixels)) or _decode(data, name, max_pixels)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # on bad bytes Pillow's readers raise a dozen types
        raise PictureError(_reason(name, error)) from error


def from_array(array: np.ndarray) -> Picture:
    """The picture in an array (H, W) or (H, W, C) of uint8, uint16, bool, or floating point in 0..1.

    All but uint8 is scaled to 8 bits; a C-contiguous uint8 array is not copied.

    Raises PictureError for other shapes, types and values.
    """
    if array.ndim not in (2, 3) or array.size == 0:
        raise PictureError(f"array of shape {array.shape}; expected (height, width[, channels])")
    pixels, notes = eight_bits(array)
    return Picture(np.ascontiguousarray(np.atleast_3d(pixels)), "array", notes)


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins with `head` (HEAD bytes) claims to be in one of the formats."""
    return _match(_SIGNATURES, head) is not None


def _decode_plain_jpeg(data: bytes, max_pixels: int) -> Picture | None:
    """A sound JPEG with nothing to heed but its pixels, as most small ones are; None leaves the verdict to `_decode`.

    A third of the time, since Pillow has no part in it.
    """
    if simplejpeg is None or _REMARKS.search(data):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > max_pixels or colors not in _COLORS:
            return None
        pixels = simplejpeg.decode_jpeg(data, _COLORS[colors])
    except ValueError:
        return None
    return None if ends_in_grey(pixels) else Picture(pixels, "JPEG")


def _decode(data: bytes, name: str, max_pixels: int) -> Picture:
    _silence_readers()
    if name == "WebP":
        check_size(_webp_size(data), max_pixels)  # before opening, which allocates the canvas
        check_webp(data)
    elif name == "TIFF":
        check_tiff(data)
    measured = {"DICOM": read_dicom, "NPY": read_npy, "TIFF": read_tiff}.get(name)
    if measured and (name != "TIFF" or has_extra_channels(data)):
        pixels, noted = measured(data, max_pixels)
        return Picture(np.ascontiguousarray(pixels), name, noted)
    stream = BytesIO(data)
    image = _reader(name)(stream)
    header = stream.tell()
    check_size(image.size, max_pixels)
    frames = _tag(image.info.get("mp", b""), _MPF_PICTURES) or getattr(image, "n_frames", 1)
    which = "first" if image.tell() == 0 else f"number {image.tell() + 1}"  # a HEIC says itself which
    notes = [f"{which} of {frames} frames used"] if frames > 1 else []
    if name == "JPEG" and image.mode in ("L", "RGB"):
        pixels = _jpeg_pixels(data, image)
        if runs_out(data, header, pixels):
            raise PictureError("truncated JPEG: the data end before the picture does")
    else:
        if name == "PNG":
            check_png(data)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_SUBFILE, 0) & 1:
            raise PictureError("unsupported TIFF: a preview comes first, as in camera raw; convert it to JPEG")
        pixels = _pixels(image, data, notes)
    # A TIFF, which Pillow turns itself, has no such block.
    pixels = upright(pixels, _tag(image.info.get("exif") or b"", _EXIF_ORIENTATION))
    return Picture(np.ascontiguousarray(pixels), name, tuple(notes))


def _silence_readers() -> None:
    """Hide what Pillow's file readers warn of: odd metadata (EXIF, TIFF tags, animation), never pixels.

    One filter for the whole process, put back whenever the filters have been reset: warnings.catch_warnings,
    which would undo it after each file, is not safe in threads.
    """
    if _READER_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=_READER_WARNINGS[3].pattern)


def _reader(name: str) -> type[ImageFile]:
    if name != "HEIC":
        return _READERS[name]
    try:
        from pi_heif import HeifImageFile
    except ImportError as error:
        raise PictureError('HEIC needs pi-heif: pip install "pellucid[heic]"') from error
    return HeifImageFile


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a WebP. Source: RFC 9649, sections 2.5 to 2.7."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _jpeg_pixels(data: bytes, image: ImageFile) -> np.ndarray:
    """uint8 (H, W, C) of a grey or RGB JPEG as it is stored, not turned upright."""
    if simplejpeg is None:
        return np.atleast_3d(np.asarray(image))
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "GRAY" if image.mode == "L" else "RGB")
        return pixels
    except ValueError as error:  # also of what is only odd, which Pillow takes
        if "Premature end of JPEG file" in str(error):
            raise
        return np.atleast_3d(np.asarray(image))


def _pixels(reader: ImageFile, data: bytes, notes: list[str]) -> np.ndarray:
    """uint8 (H, W, 1 or 3) of a picture in any mode of Pillow; extends `notes`."""
    image: Image.Image = reader
    levels = _deep_levels(reader, data)
    if levels is not None:
        notes.append("16-bit scaled to 8-bit")
        image = Image.fromarray(EIGHT_BITS[levels])
    elif image.mode == "F":
        return np.atleast_3d(from_unit_range(np.asarray(image)))
    target = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        image = image.convert(f"{target}A")
        alpha = image.getchannel("A")
        if alpha.getextrema() != (255, 255):
            notes.append("transparent: laid on white")
            white = Image.new(target, image.size, "white")
            white.paste(image.convert(target), mask=alpha)
            image = white
    return np.atleast_3d(np.asarray(image if image.mode == target else image.convert(target)))


def _deep_levels(image: ImageFile, data: bytes) -> np.ndarray | None:
    """Levels 0..65535, (H, W) or (H, W, C), of a picture with integers beyond 8 bits; None for any other.

    Of colors with 16 bits a channel Pillow keeps the upper 8; asked for the other byte order, the lower.
    """
    arguments = image.tile[0].args if image.tile else ""
    rawmode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    color = re.fullmatch("(RGB|RGBA|RGBX);16([BLN])", rawmode)
    if color:
        lower = type(image)(BytesIO(data))
        order = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[color[2]]
        _set_rawmode(lower, f"{color[1]};16{order}")
        levels = np.asarray(image) * np.uint16(256) + np.asarray(lower)
    elif rawmode == "LA;16B":
        _set_rawmode(image, "RGBA")  # four bytes a pixel: two big-endian numbers
        levels = np.asarray(image).view(">u2")
    elif image.mode.startswith("I"):
        levels = np.asarray(image)
        low, high = levels.min(), levels.max()
        if low < 0 or high > 65535:
            raise PictureError(f"levels from {low} to {high}; expected 0 to 65535: scale the picture to 8 or 16 bits")
    else:
        return None
    clear = image.info.get("transparency")  # the one level, or color, that is transparent
    if clear is not None:
        levels = np.atleast_3d(levels)
        opaque = (levels != clear).any(axis=2, keepdims=True)
        levels = np.concatenate((levels, opaque * np.uint16(65535)), axis=2)
    return levels


def _set_rawmode(image: ImageFile, rawmode: str) -> None:
    """Have Pillow unpack the bytes of the file as `rawmode` when it reads the pixels."""
    for number, tile in enumerate(image.tile):
        arguments = (rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
        image.tile[number] = tile._replace(args=arguments)


def _tag(block: bytes, tag: int) -> int:
    """The first number of `tag` in a block that is built like a TIFF (EXIF, multi-picture format), or 0.

    Pillow's reader of EXIF takes longer, and follows XMP as well, which browsers and torchvision do not.
    """
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 0
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            name, kind = struct.unpack_from(f"{order}HH", block, entry)
            if name == tag:
                return int(struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", block, entry + 8)[0])
    except struct.error:  # cut off: as good as missing
        pass
    return 0


def _match(patterns: dict[str, re.Pattern[bytes]], head: bytes) -> str | None:
    return next((name for name, pattern in patterns.items() if pattern.match(head)), None)


def _not_a_picture(data: bytes) -> str:
    """Why bytes that no reader recognizes are refused."""
    other = _match(_UNSUPPORTED, data)
    if other:
        return f"{other} is not supported; convert it to JPEG or PNG"
    start = " ".join(data[:400].decode("utf-8", "replace").split())[:30]
    if start.isprintable() and "\ufffd" not in start:
        return f"not a picture: a text file that begins with {start!r}"
    return f"not a picture: begins with {data[:8]!r}"


def _reason(name: str, error: Exception) -> str:
    """Why a file of the format `name`, whose reader raised `error`, is refused."""
    message = str(error).partition("\n")[0]
    if message.endswith(":"):  # and goes on, as pydicom's
        message = " ".join(str(error).split())[:200]
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than Pillow allows: {message}"
    if re.search(
        "truncated|premature end of jpeg file|incomplete|not enough|requires a buffer|no more images|end of file|too small|full meta|less than expected",
        message,
        re.IGNORECASE,
    ):
        return f"truncated {name}: the end of the file is missing"
    if re.search(
        "cannot handle|unsupported|not support|unknown|unable to decompress|requires the", message, re.IGNORECASE
    ):
        return f"unsupported {name}: {message}"
    if " " not in message:  # such as the number of a missing tag
        message = f"{type(error).__name__} {message}".rstrip()
    return f"damaged {name}: {message}"
