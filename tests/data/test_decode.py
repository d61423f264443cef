from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from pellucid.data import decode as module
from pellucid.data.decode import MAX_PIXELS, Picture, decode, from_array, looks_like_picture
from pellucid.errors import PictureError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}


def scene(height: int = 67, width: int = 93) -> np.ndarray:
    """A colored picture, uint8 (H, W, 3), with slopes and noise and without symmetry."""
    noise = np.random.default_rng(7).integers(0, 40, (height, width, 3))
    rows, columns = np.mgrid[0:height, 0:width]
    slopes = np.stack([2 * columns, 3 * rows, rows + columns], axis=-1) % 210
    return (slopes + noise).astype(np.uint8)


def encode(picture: np.ndarray | Image.Image, name: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def png(color_type: int, rows: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a channel, written by hand: rows is uint16 (H, W, C); no row is filtered."""
    height, width = rows.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)),
        *extra,
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, *zip(*chunks, strict=True)))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(levels: np.ndarray, order: str, tags: dict[int, int] | None = None, *, deflate: bool = False) -> bytes:
    """A TIFF of one strip, written by hand: levels is (H, W, C), the byte order "<" or ">"."""
    height, width, channels = levels.shape
    strip = levels.astype(levels.dtype.newbyteorder(order)).tobytes()
    strip = zlib.compress(strip) if deflate else strip
    entries = {
        256: width,
        257: height,
        258: 8 * levels.itemsize,
        259: 8 if deflate else 1,
        262: 2 if channels > 1 else 1,
        273: 0,
        277: channels,
        278: height,
        279: len(strip),
    } | (tags or {})
    start = 8 + 2 + 12 * len(entries) + 4
    bits = struct.pack(f"{order}{channels}H", *[entries[258]] * channels)
    entries[273] = start + len(bits)
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in sorted(entries.items()):
        if tag == 258 and channels > 2:
            directory += struct.pack(f"{order}HHII", tag, 3, channels, start)
        else:
            directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    magic = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return magic + directory + b"\0\0\0\0" + bits + strip


def exif(orientation: int, order: str = "<") -> bytes:
    name = b"II" if order == "<" else b"MM"
    return b"Exif\0\0" + struct.pack(f"{order}2sHIHHHIHHI", name, 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)


def on_white(levels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """levels * alpha + white * (1 - alpha), computed in fractions of 255 and rounded; alpha is (H, W, 1)."""
    wide = levels.astype(np.int64) * alpha + 255 * (255 - alpha.astype(np.int64))
    return np.floor(wide / 255 + 0.5).astype(np.uint8)


# What the pixels are


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_gives_back_its_pixels(name: str, channels: int) -> None:
    original = scene()[..., :channels]
    picture = decode(encode(original.squeeze(), name, **LOSSLESS[name]))
    assert picture.format.upper() == name
    assert picture.notes == ()
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    if name == "WEBP":  # which has no grey
        original = np.broadcast_to(original, (*original.shape[:2], 3))
    assert np.array_equal(picture.pixels, original)


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_every_small_png_gives_back_its_pixels(height: int, width: int, channels: int, random: Any) -> None:
    original = np.frombuffer(random.randbytes(height * width * channels), np.uint8).reshape(height, width, channels)
    image = Image.fromarray(original[..., 0] if channels == 1 else original)
    assert np.array_equal(decode(encode(image, "PNG")).pixels, original)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_every_compression_of_tiff_gives_back_its_pixels(compression: str) -> None:
    assert np.array_equal(decode(encode(scene(), "TIFF", compression=compression)).pixels, scene())


@pytest.mark.parametrize("simplejpeg", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2, "quality": 40}, {"keep_rgb": True}],
    ids=str,
)
def test_jpeg_is_decoded_as_pillow_does(
    options: dict[str, Any], simplejpeg: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not simplejpeg:
        monkeypatch.setattr(module, "simplejpeg", None)
    data = encode(scene(), "JPEG", **options)
    assert np.array_equal(decode(data).pixels, np.asarray(Image.open(io.BytesIO(data))))
    grey = encode(scene()[..., 0], "JPEG")
    assert np.array_equal(decode(grey).pixels[..., 0], np.asarray(Image.open(io.BytesIO(grey))))


def test_a_jpeg_with_remarks_and_one_without_have_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way is taken for the plain one alone, and each way checks the size first."""
    tags = Image.Exif()
    tags[0x010E] = "a description"
    plain, remarked = encode(scene(), "JPEG"), encode(scene(), "JPEG", exif=tags)
    taken: list[bool] = []
    original = module._decode_plain_jpeg

    def told(data: bytes, max_pixels: int) -> module.Picture | None:
        picture = original(data, max_pixels)
        taken.append(picture is not None)
        return picture

    monkeypatch.setattr(module, "_decode_plain_jpeg", told)
    assert np.array_equal(decode(plain).pixels, decode(remarked).pixels)
    assert taken == [True, False]
    for data in (plain, remarked):
        with pytest.raises(PictureError, match="more than the limit of 100"):
            decode(data, max_pixels=100)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_exif_orientation_is_applied(name: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = encode(scene(), name, exif=tags, **LOSSLESS.get(name, {}))
    plain = encode(scene(), name, **LOSSLESS.get(name, {}))
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    pixels = decode(data).pixels
    assert np.array_equal(pixels, turn[orientation](decode(plain).pixels))
    assert np.array_equal(pixels, ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(order: str) -> None:
    assert decode(encode(scene(), "JPEG", exif=exif(6, order))).pixels.shape == (93, 67, 3)


@pytest.mark.parametrize("block", [exif(6)[:-8], exif(0), exif(9), b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_an_exif_block_that_makes_no_sense_turns_nothing(block: bytes) -> None:
    assert decode(encode(scene(), "JPEG", exif=block)).pixels.shape == (67, 93, 3)


def test_a_palette_becomes_rgb() -> None:
    image = Image.fromarray(scene()).quantize(50)
    expected = np.asarray(image.convert("RGB"))
    for name in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(decode(encode(image, name)).pixels, expected), name


def test_bilevel_becomes_grey_of_0_and_255() -> None:
    bits = scene()[..., 0] > 120
    for name in ("PNG", "BMP", "TIFF"):
        picture = decode(encode(bits, name))
        assert np.array_equal(picture.pixels[..., 0], np.where(bits, 255, 0)), name


def test_grey_of_2_and_4_bits_spans_0_to_255() -> None:
    for bits in (2, 4):
        steps = np.arange(2**bits)[None]
        packed = int("".join(f"{step:0{bits}b}" for step in steps[0]), 2).to_bytes(bits * 2**bits // 8)
        header = struct.pack(">IIBBBBB", 2**bits, 1, bits, 0, 0, 0, 0)
        parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + packed)), chunk(b"IEND", b""))
        expected = np.rint(steps * 255 / (2**bits - 1))
        assert np.array_equal(decode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).pixels[..., 0], expected)


@pytest.mark.parametrize("ink, color", [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0))])
def test_cmyk_becomes_rgb(ink: tuple[int, ...], color: tuple[int, ...]) -> None:
    image = Image.new("CMYK", (16, 16), ink)
    for name in ("TIFF", "JPEG"):  # Pillow writes CMYK JPEG as Adobe does, inverted
        picture = decode(encode(image, name))
        assert np.abs(picture.pixels.astype(int) - color).max() <= 2, name


def test_lab_becomes_srgb() -> None:
    # The red of sRGB has L* 54.29, a* 80.80, b* 69.89 under D50, the white of ICC profiles.
    image = Image.new("LAB", (4, 4), (round(54.29 * 2.55), 128 + 81, 128 + 70))
    pixels = decode(encode(image, "TIFF")).pixels
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 8  # one step of 8-bit LAB is 2.5
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    expected = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert np.array_equal(pixels, np.asarray(expected))


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(name: str) -> None:
    alpha = scene()[..., :1]
    rgba = np.concatenate((scene(), alpha), axis=2)
    options = LOSSLESS[name] | ({"exact": True} if name == "WEBP" else {})
    picture = decode(encode(rgba, name, **options))
    assert np.array_equal(picture.pixels, on_white(scene(), alpha))
    assert picture.notes == ("transparent: laid on white",)


def test_grey_with_alpha_stays_grey() -> None:
    levels, alpha = scene()[..., 1:2], scene()[..., :1]
    picture = decode(encode(Image.fromarray(np.concatenate((levels, alpha), axis=2), "LA"), "PNG"))
    assert np.array_equal(picture.pixels, on_white(levels, alpha))


def test_an_alpha_channel_that_hides_nothing_is_not_worth_a_note() -> None:
    rgba = np.dstack((scene(), np.full((67, 93), 255, np.uint8)))
    picture = decode(encode(rgba, "PNG"))
    assert picture.notes == ()
    assert np.array_equal(picture.pixels, scene())


@pytest.mark.parametrize("mode, clear", [("1", 0), ("L", 40), ("RGB", (40, 40, 40)), ("P", 1), ("P", b"\xff\x00")])
def test_one_transparent_color_is_laid_on_white(mode: str, clear: Any) -> None:
    pixels = {"1": [[False, True]], "L": [[40, 41]], "RGB": [[[40, 40, 40], [41, 40, 40]]], "P": [[1, 0]]}[mode]
    image = Image.fromarray(np.array(pixels, bool if mode == "1" else np.uint8), None if mode != "P" else "P")
    if mode == "P":
        image.putpalette([41, 40, 40, 40, 40, 40])
    for name in ("PNG", "GIF") if isinstance(clear, int) and mode == "P" else ("PNG",):
        picture = decode(encode(image, name, transparency=clear))
        assert picture.pixels[0, 0].tolist() == [255] * picture.pixels.shape[2]
        assert picture.pixels[0, 1, 0] == (255 if mode == "1" else 41)
        assert picture.pixels.shape[2] == (1 if mode in ("1", "L") else 3)
        assert picture.notes == ("transparent: laid on white",)


# More than 8 bits

LEVELS = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
SCALED = np.rint(LEVELS.astype(np.float64) / 257).astype(np.uint8)


def test_truncating_16_bits_would_be_noticed() -> None:
    assert (LEVELS >> 8 != SCALED).mean() > 0.2


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_all_levels_of_16_bit_grey_are_rounded(name: str, mode: str) -> None:
    data = encode(
        Image.frombytes(mode, (256, 256), LEVELS.astype(">u2" if mode == "I;16B" else "<u2").tobytes()),
        name,
    )
    assert name == "PNG" or data[:2] == (b"MM" if mode == "I;16B" else b"II")
    picture = decode(data)
    assert np.array_equal(picture.pixels, SCALED)
    assert picture.notes == ("16-bit scaled to 8-bit",)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_16_bit_rgb_of_tiff_is_rounded(order: str, deflate: bool) -> None:
    rgb = np.concatenate((LEVELS, LEVELS[::-1], LEVELS[:, ::-1]), axis=2)
    expected = np.concatenate((SCALED, SCALED[::-1], SCALED[:, ::-1]), axis=2)
    assert np.array_equal(decode(tiff(rgb, order, deflate=deflate)).pixels, expected)


def test_16_bit_rgb_of_png_is_rounded() -> None:
    rgb = np.concatenate((LEVELS, LEVELS[::-1], LEVELS[:, ::-1]), axis=2)
    expected = np.concatenate((SCALED, SCALED[::-1], SCALED[:, ::-1]), axis=2)
    assert np.array_equal(decode(png(2, rgb)).pixels, expected)


@pytest.mark.parametrize("color_type, channels", [(4, 1), (6, 3)])
def test_16_bit_alpha_of_png_is_laid_on_white(color_type: int, channels: int) -> None:
    levels = np.concatenate((LEVELS, LEVELS[::-1], LEVELS[:, ::-1])[:channels], axis=2)
    scaled = np.concatenate((SCALED, SCALED[::-1], SCALED[:, ::-1])[:channels], axis=2)
    alpha, scaled_alpha = LEVELS.swapaxes(0, 1), SCALED.swapaxes(0, 1)
    picture = decode(png(color_type, np.concatenate((levels, alpha), axis=2)))
    assert np.array_equal(picture.pixels, on_white(scaled, scaled_alpha))
    assert picture.notes == ("16-bit scaled to 8-bit", "transparent: laid on white")


@pytest.mark.parametrize("color_type, clear", [(0, [300]), (2, [300, 300, 300])])
def test_a_transparent_16_bit_color_is_compared_in_16_bits(color_type: int, clear: list[int]) -> None:
    levels = np.full((1, 2, len(clear)), 300, np.uint16)
    levels[0, 1, -1] = 301  # the same in 8 bits
    picture = decode(png(color_type, levels, (b"tRNS", np.array(clear, ">u2").tobytes())))
    assert picture.pixels[0].tolist() == [[255] * len(clear), [1] * len(clear)]


def test_32_bit_integers_within_16_bits_are_scaled_like_them() -> None:
    picture = decode(encode(Image.fromarray(LEVELS[..., 0].astype(np.int32)), "TIFF"))
    assert np.array_equal(picture.pixels, SCALED)


@pytest.mark.parametrize("level", [-1, 65536])
def test_integers_beyond_16_bits_are_refused_not_clipped(level: int) -> None:
    image = Image.fromarray(np.array([[5, level]], np.int32))
    with pytest.raises(PictureError, match=rf"levels from .*{level}.*expected 0 to 65535"):
        decode(encode(image, "TIFF"))


def test_floating_point_levels_0_to_1_are_scaled() -> None:
    levels = np.array([[0, 0.25, 0.5, 1]], np.float32)
    assert decode(encode(Image.fromarray(levels), "TIFF")).pixels.tolist() == [[[0], [64], [128], [255]]]


@pytest.mark.parametrize("level", [-0.01, 1.01, 255, np.nan, np.inf])
def test_other_floating_point_levels_are_refused(level: float) -> None:
    levels = np.array([[0.5, level]], np.float32)
    with pytest.raises(PictureError, match="expected 0 to 1: scale the picture"):
        decode(encode(Image.fromarray(levels), "TIFF"))


# Several frames


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_used_and_the_number_told(name: str) -> None:
    first, *others = [Image.fromarray(np.roll(scene(), 9 * shift, axis=1)).quantize(64) for shift in range(3)]
    if name != "GIF":
        first, *others = [image.convert("RGB") for image in (first, *others)]
    options = {"lossless": True} if name == "WEBP" else {}
    picture = decode(encode(first, name, save_all=True, append_images=others, **options))
    assert picture.notes == ("first of 3 frames used",)
    alone = encode(first, "JPEG" if name == "MPO" else name, **options)
    assert np.array_equal(picture.pixels, decode(alone).pixels)


# What is refused


def reason(data: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data)
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", "file is empty (0 bytes)"),
        (bytes(range(10)), r"not a picture: begins with b'\x00\x01\x02\x03\x04\x05\x06\x07'"),
        (b"<html>\n<body>404", "not a picture: a text file that begins with '<html> <body>404'"),
        ("Größe\t3".encode(), "not a picture: a text file that begins with 'Größe 3'"),
        (b"BM is no bitmap yet", "not a picture: a text file that begins with 'BM is no bitmap yet'"),
        (b"a" * 10**6, f"not a picture: a text file that begins with '{'a' * 30}'"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL is not supported; convert it to JPEG or PNG"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "PDF is not supported; convert it to JPEG or PNG"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(data: bytes, expected: str) -> None:
    assert reason(data) == expected


def bomb(name: str) -> bytes:
    """A few bytes that claim 50,000 x 50,000 pixels (WebP: 16,000 x 16,000)."""
    side = 50_000
    if name == "JPEG":
        data = bytearray(encode(scene(16, 16), "JPEG"))
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
        return bytes(data)
    if name == "PNG":
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    if name == "BMP":
        data = bytearray(encode(scene(4, 4), "BMP"))
        data[18:26] = struct.pack("<ii", side, side)
        return bytes(data)
    if name == "GIF":
        data = bytearray(encode(scene(4, 4), "GIF"))
        data[6:10] = struct.pack("<HH", side, side)
        return bytes(data)
    if name == "TIFF":
        return tiff(scene(4, 4), "<", {256: side, 257: side})
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16_000 - 1).to_bytes(3, "little") * 2
    body += encode(scene(4, 4), "WEBP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize("name", FORMATS)
def test_a_decompression_bomb_is_refused_by_its_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(*_: Any) -> None:
        pytest.fail("pixels were allocated")

    data = bomb(name)
    for function in ("new", "fill"):
        monkeypatch.setattr(Image.core, function, allocate)
    monkeypatch.setattr("PIL._webp.WebPAnimDecoder", allocate)
    size = "16,000 x 16,000 = 256,000,000" if name == "WEBP" else "50,000 x 50,000 = 2,500,000,000"
    assert reason(data) == f"{size} pixels, more than the limit of 100,000,000"


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"lossless": True, "exif": exif(1)}])
def test_the_limit_counts_the_pixels_of_every_kind_of_webp(options: dict[str, Any]) -> None:
    data = encode(scene(), "WEBP", **options)
    assert decode(data, max_pixels=67 * 93).pixels.shape == (67, 93, 3)
    with pytest.raises(PictureError, match="93 x 67 = 6,231 pixels, more than the limit of 6,230"):
        decode(data, max_pixels=67 * 93 - 1)


def test_a_picture_within_the_limit_is_read_though_pillow_would_warn() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < 9_500 * 9_500 < MAX_PIXELS
    data = encode(Image.new("1", (9_500, 9_500), 1), "PNG")
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))
    assert decode(data).pixels.shape == (9_500, 9_500, 1)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_is_an_error(name: str, share: float) -> None:
    data = encode(scene(), name)
    assert reason(data[: int(len(data) * share)]).startswith(("truncated", "damaged", "unsupported TIFF"))


@pytest.mark.parametrize("missing", [1, 2, 3, 50, 500])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_end_of_a_file_belongs_to_it(name: str, missing: int) -> None:
    assert reason(encode(scene(), name)[:-missing]).startswith("truncated")


END_OF_IMAGE = b"\xff\xd9"


@pytest.mark.parametrize("simplejpeg", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["rgb", "grey", "restart", "thumbnail"])
def test_a_truncated_jpeg_with_an_end_marker_is_an_error(
    kind: str, share: float, simplejpeg: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not simplejpeg:
        monkeypatch.setattr(module, "simplejpeg", None)
    thumbnail = b"Exif\0\0" + encode(scene(16, 16), "JPEG")
    options: dict[str, Any] = {"restart": {"restart_marker_rows": 1}, "thumbnail": {"exif": thumbnail}}.get(kind, {})
    data = encode(scene()[..., 0] if kind == "grey" else scene(), "JPEG", **options)
    scan = data.rindex(b"\xff\xda") + 14
    cut = data[: scan + int((len(data) - scan) * share)].removesuffix(b"\xff") + END_OF_IMAGE
    filled = np.asarray(Image.open(io.BytesIO(cut)))  # Pillow takes it, and fills it up
    assert (filled[-1, -1] == 128).all()
    assert reason(cut) == "truncated JPEG: the data end before the picture does"


def test_a_marker_that_damage_brings_into_the_data_of_a_jpeg_is_an_error() -> None:
    data = bytearray(encode(scene(), "JPEG"))
    middle = (data.rindex(b"\xff\xda") + len(data)) // 2
    data[middle : middle + 2] = END_OF_IMAGE
    assert reason(bytes(data)) == "truncated JPEG: the data end before the picture does"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
def test_a_complete_jpeg_may_end_in_mid_grey(options: dict[str, Any]) -> None:
    original = scene(64, 64)
    original[24:, 24:] = 128
    data = encode(original, "JPEG", **options)
    assert decode(data).pixels[-1, -1].tolist() == [128] * 3
    assert decode(data + b"and more").pixels[-1, -1].tolist() == [128] * 3


@pytest.mark.parametrize("kind", [b"IHDR", b"tEXt", b"IDAT", b"IEND"])
def test_a_wrong_checksum_in_a_png_is_an_error(kind: bytes) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Author", "nobody")
    data = bytearray(encode(scene(), "PNG", pnginfo=text))
    start = data.index(kind)
    length = int.from_bytes(data[start - 4 : start])
    data[start + 4 + length] ^= 1
    assert reason(bytes(data)).startswith("damaged PNG")


def test_damaged_pixels_under_a_right_checksum_are_an_error() -> None:
    good = png(0, LEVELS)
    start = good.index(b"IDAT")
    length = int.from_bytes(good[start - 4 : start])
    body = bytearray(good[start + 4 : start + 4 + length])
    body[length // 2] ^= 0xFF
    bad = good[: start - 4] + chunk(b"IDAT", bytes(body)) + chunk(b"IEND", b"")
    assert reason(bad).startswith("damaged PNG")


def test_the_preview_of_a_camera_raw_file_is_not_taken_for_the_picture() -> None:
    assert np.array_equal(decode(tiff(scene(), "<", {254: 0})).pixels, scene())
    assert "camera raw" in reason(tiff(scene(), "<", {254: 1}))


def test_a_tiff_whose_directory_is_cut_off_is_an_error() -> None:
    rgbx = np.concatenate((scene(), scene()[..., :1]), axis=2)
    whole = tiff(rgbx, "<", {338: 0})  # tag 338: the fourth channel is no transparency
    directory = whole[8 : 8 + 2 + 12 * whole[8] + 4]
    at_the_end = whole[:4] + struct.pack("<I", len(whole)) + whole[8:] + directory
    assert np.array_equal(decode(at_the_end).pixels, rgbx)
    cut = at_the_end[:-16]
    with pytest.warns(UserWarning):
        image = Image.open(io.BytesIO(cut))
    assert image.mode == "RGBA"  # Pillow goes on without the tag
    assert reason(cut) == "truncated TIFF: the directory of its tags is not in the file"


@given(st.sampled_from(FORMATS), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_raise_nothing_but_picture_errors(name: str, data: st.DataObject) -> None:
    damaged = bytearray(encode(scene(12, 12), name))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(damaged), max_pixels=1_000_000)
    except PictureError as error:
        assert 0 < len(error.reason) < 200
        assert "\n" not in error.reason
    else:
        assert picture.pixels.ndim == 3


@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0+"]),
    st.binary(max_size=80),
)
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_raise_nothing_but_picture_errors(head: bytes, rest: bytes) -> None:
    with pytest.raises(PictureError):
        decode(head + rest)


# Warnings and threads


def odd_tiff() -> bytes:
    """A whole picture with a private tag of a million fractions that are not in the file."""
    return tiff(scene(), "<", {65000: 0}).replace(
        struct.pack("<HHI", 65000, 4, 1), struct.pack("<HHI", 65000, 5, 10**6)
    )


def odd_jpeg() -> bytes:
    """A whole picture with the same tag in its EXIF block."""
    return encode(scene(), "JPEG", exif=b"Exif\0\0" + odd_tiff()[:200])


@pytest.mark.parametrize("odd, plain", [(odd_tiff(), tiff(scene(), "<")), (odd_jpeg(), encode(scene(), "JPEG"))])
def test_odd_metadata_of_a_readable_file_warns_nobody(odd: bytes, plain: bytes) -> None:
    with pytest.warns(UserWarning):
        Image.open(io.BytesIO(odd)).getexif()
    assert np.array_equal(decode(odd).pixels, decode(plain).pixels)


def test_warnings_stay_hidden_when_the_filters_were_reset_and_filters_do_not_pile_up() -> None:
    with warnings.catch_warnings():
        decode(odd_tiff())
        warnings.resetwarnings()
        warnings.simplefilter("error")
        decode(odd_tiff())
        decode(odd_tiff())
        assert len(warnings.filters) == 2


def test_settings_of_pillow_are_left_alone() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3


def test_many_threads_give_what_one_gives() -> None:
    files = [encode(np.roll(scene(), shift, axis=0), name) for shift in range(8) for name in FORMATS]
    files += [data[:-100] for data in files]

    def outcome(data: bytes) -> bytes | str:
        try:
            return decode(data).pixels.tobytes()
        except PictureError as error:
            return error.reason

    alone = [outcome(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, files)) == alone


# Arrays


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.array([[0, 7], [9, 255]], np.uint8), [[[0], [7]], [[9], [255]]]),
        (np.array([[False, True]]), [[[0], [255]]]),
        (np.array([[0, 128, 129, 65535]], np.uint16), [[[0], [0], [1], [255]]]),
        (np.array([[0, 0.25, 1]], np.float16), [[[0], [64], [255]]]),
        (np.array([[0, 0.5, 1]], np.float64), [[[0], [128], [255]]]),
        (np.zeros((2, 1, 5), np.uint8), [[[0] * 5], [[0] * 5]]),
    ],
)
def test_arrays_become_pictures(array: np.ndarray, expected: list[Any]) -> None:
    picture = from_array(array)
    assert picture.format == "array"
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.tolist() == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_uint8_survives_the_way_through_0_to_1(dtype: type) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(from_array(levels.astype(dtype) / dtype(255)).pixels, levels)


def test_16_bit_arrays_are_rounded() -> None:
    assert np.array_equal(from_array(LEVELS).pixels, SCALED)


def test_the_layout_of_an_array_makes_no_difference() -> None:
    for view in (scene()[::-1, ::2], scene().swapaxes(0, 1), np.asfortranarray(scene())):
        picture = from_array(view)
        assert picture.pixels.flags.c_contiguous
        assert np.array_equal(picture.pixels, view)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.array([[0, 1.5]]), "floating-point levels from 0 to 1.5; expected 0 to 1"),
        (np.array([[np.nan]]), "expected 0 to 1"),
        (np.array([[3]]), "array of int64; expected uint8"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (np.zeros((1, 2, 3, 4), np.uint8), r"shape \(1, 2, 3, 4\)"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        from_array(array)


# Signatures


@pytest.mark.parametrize("name", [*FORMATS, "MPO"])
def test_sixteen_bytes_tell_a_picture(name: str) -> None:
    assert looks_like_picture(encode(scene(), name)[:16])


@pytest.mark.parametrize(
    "head", [b"", b"BMW and Audi are", b"GIF88a", b"RIFF\0\0\0\0WAVEfmt ", b"\xff\xd8", b"PK\3\4", b"II is"]
)
def test_other_files_do_not_look_like_pictures(head: bytes) -> None:
    assert not looks_like_picture(head)


def test_a_picture_says_what_it_is() -> None:
    assert str(Picture(scene(), "PNG", ("first of 2 frames used",))) == (
        "PNG, 93 x 67 pixels, channels: 3; first of 2 frames used"
    )
