"""NPY, DICOM and TIFF of many channels: the right levels, the right reasons, no more memory than allowed."""

from __future__ import annotations

import builtins
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pellucid.data.dataset import open_dataset
from pellucid.data.decode import decode, from_array
from pellucid.data.scan import scan
from pellucid.errors import DataError, PictureError
from pellucid.training.plan import sample_shapes

pydicom = pytest.importorskip("pydicom")
tifffile = pytest.importorskip("tifffile")
pytest.importorskip("pi_heif")
HEIC = Path(__file__).parent / "heic"  # written with pillow-heif 1.8.1, whose wheels hold the encoder x265 (GPL)
RNG = np.random.default_rng(3)
FIVE = RNG.integers(0, 256, (23, 37, 5), dtype=np.uint8)


def npy(array: np.ndarray, **options: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, array, **{"photometric": "minisblack", "planarconfig": "contig", **options})
    return content.getvalue()


def dicom(stored: np.ndarray, *, compressed: str = "", **values: Any) -> bytes:
    """A file of what is stored: (H, W), (H, W, 3), or frames of (H, W) with NumberOfFrames."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    header = Dataset()
    header.file_meta = meta
    header.Rows, header.Columns = stored.shape[-3:-1] if stored.shape[-1] == 3 else stored.shape[-2:]
    header.SamplesPerPixel = 3 if stored.shape[-1] == 3 else 1
    if header.SamplesPerPixel == 3:
        header.PlanarConfiguration = 0
    header.PhotometricInterpretation = "RGB" if header.SamplesPerPixel == 3 else "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8 * stored.dtype.itemsize
    header.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in values.items():
        setattr(header, name, value)
    header.HighBit = header.BitsStored - 1
    header.PixelData = stored.tobytes()
    if compressed:
        header.compress(compressed, generate_instance_uid=False)
    content = io.BytesIO()
    header.save_as(content, enforce_file_format=True)
    return content.getvalue()


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data, **options)
    return caught.value.reason


# NPY


@pytest.mark.parametrize("shape", [(23, 37), (23, 37, 1), (23, 37, 2), (23, 37, 3), (23, 37, 5), (9, 9, 200)])
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<f4", ">f8", "?"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_npy_is_the_array_that_it_holds(shape: tuple[int, ...], kind: str, version: tuple[int, int]) -> None:
    levels = RNG.random(shape)
    dtype = np.dtype(kind)
    array = (levels if dtype.kind == "f" else levels > 0.5 if kind == "?" else levels * np.iinfo(dtype).max).astype(
        dtype
    )
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=version)
    found = decode(content.getvalue())
    assert found.format == "NPY"
    assert np.array_equal(found.pixels, from_array(array.astype(dtype.newbyteorder("="))).pixels)
    assert (
        np.abs(
            found.pixels / 255 - np.atleast_3d(array.astype(float) / (1 if dtype.kind in "fb" else np.iinfo(dtype).max))
        ).max()
        <= 0.5 / 255 + 1e-6
    )


def test_an_npy_in_the_order_of_fortran_is_read_upright() -> None:
    assert np.array_equal(decode(npy(np.asfortranarray(FIVE))).pixels, FIVE)


@pytest.mark.parametrize(
    "array, expected",
    [
        (FIVE.astype(np.float32), "floating-point levels from 0 to 255; expected 0 to 1"),
        (FIVE.astype(np.int16), "array of int16; expected uint8, uint16, bool"),
        (FIVE[0, 0], "shape (5,) and type uint8; expected numbers (height, width[, channels])"),
        (FIVE[None], "shape (1, 23, 37, 5)"),
        (FIVE[:0], "shape (0, 37, 5)"),
        (np.moveaxis(FIVE, 2, 0), "channels come last"),
        (np.moveaxis(FIVE[..., :3], 2, 0), "channels come last"),
        (np.full((4, 4), None), "type object; expected numbers"),
        (np.zeros((4, 4), [("a", "u1")]), "expected uint8"),
    ],
)  # fmt: skip
def test_an_npy_of_another_kind_is_refused_with_its_reason(array: np.ndarray, expected: str) -> None:
    assert expected in reason(npy(array, allow_pickle=True))


def test_a_pickle_in_an_npy_is_never_opened() -> None:
    """The array of objects runs code when it is unpickled; its header alone refuses it."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    assert "type object" in reason(npy(np.full((4, 4), Bomb()), allow_pickle=True))


def test_an_npy_that_is_cut_off_or_longer_is_named() -> None:
    whole = npy(FIVE)
    for length in (len(whole) - 1, len(whole) - FIVE.size, 100, 20, 9):
        assert "NPY" in reason(whole[:length])
    assert reason(whole[:-1]).startswith("truncated NPY: 4,254 of 4,255 bytes")
    assert reason(whole + b"x") == "damaged NPY: 1 bytes follow the array"


def test_a_huge_npy_is_refused_by_its_header() -> None:
    """The header of 10**12 values with nothing behind it: the limit speaks before the missing bytes do."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)})
    assert "more than the limit of 100,000,000" in reason(content.getvalue())
    deep = npy(np.zeros((10, 10, 41), np.uint8))
    assert reason(deep, max_pixels=1000).startswith("10 x 10 x 41 = 4,100 values, more than the limit of 4,000")
    assert decode(deep, max_pixels=1025).pixels.shape == (10, 10, 41)


# TIFF


@pytest.mark.parametrize("options", [
    {}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"bigtiff": True},
    {"byteorder": ">"}, {"rowsperstrip": 4},
])  # fmt: skip
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_keeps_all_its_channels(options: dict[str, Any], kind: type) -> None:
    five = FIVE.astype(kind) * (257 if kind is np.uint16 else 1)
    for file in (tiff(five, **options), tiff(np.moveaxis(five, 2, 0), **{**options, "planarconfig": "separate"})):
        found = decode(file)
        assert np.array_equal(found.pixels, FIVE)
        assert found.notes == (("16-bit scaled to 8-bit",) if kind is np.uint16 else ())


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}])
def test_a_tiff_of_many_channels_is_turned_upright(options: dict[str, Any]) -> None:
    file = tiff(FIVE, extratags=[(274, 3, 1, 6, True)], **options)
    assert np.array_equal(decode(file).pixels, np.rot90(FIVE, -1))


@pytest.mark.parametrize("channels", [2, 4, 7])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_samples_without_a_meaning_are_channels(channels: int, photometric: str) -> None:
    """Pillow reads RGB and near infrared as RGB."""
    if photometric == "rgb" and channels < 4:
        return
    levels = RNG.integers(0, 256, (23, 37, channels), dtype=np.uint8)
    file = tiff(
        levels, photometric=photometric, extrasamples=["unspecified"] * (channels - (3 if photometric == "rgb" else 1))
    )
    assert np.array_equal(decode(file).pixels, levels)


def test_transparency_is_no_channel() -> None:
    rgba = FIVE[..., :4].copy()
    rgba[..., 3] = 255
    file = tiff(rgba, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(decode(file).pixels, rgba[..., :3])


def test_pages_are_frames_and_no_channels() -> None:
    content = io.BytesIO()
    with tifffile.TiffWriter(content) as writer:
        for page in (FIVE, 255 - FIVE):
            writer.write(page, photometric="minisblack", planarconfig="contig")
    found = decode(content.getvalue())
    assert np.array_equal(found.pixels, FIVE)
    assert found.notes == ("first of 2 frames used",)


def test_a_tiff_that_is_cut_off_is_an_error() -> None:
    for file in (tiff(FIVE), tiff(FIVE, compression="zlib"), tiff(FIVE, rowsperstrip=4)):
        for missing in (1, 40, len(file) // 2):
            assert "TIFF" in reason(file[:-missing])
    empty = bytearray(tiff(FIVE, rowsperstrip=4))
    counts = (
        empty.index(struct.pack("<HHI", 279, 4, 6))
        if struct.pack("<HHI", 279, 4, 6) in empty
        else empty.index(struct.pack("<HHI", 279, 3, 6))
    )
    start = struct.unpack_from("<I", empty, counts + 8)[0]
    empty[start : start + 2] = b"\0\0"  # the first strip is said to be empty: it would be black
    assert reason(bytes(empty)).startswith("truncated TIFF")


def test_the_size_of_a_tiff_is_read_from_its_header() -> None:
    file = tiff(np.zeros((100, 100, 50), np.uint8), compression="zlib")
    assert "100 x 100 = 10,000 pixels, more than the limit of 9,999" in reason(file, max_pixels=9_999)
    assert "100 x 100 x 50 = 500,000 values" in reason(file, max_pixels=10_000)


# DICOM


def test_grey_dicom_of_8_bits_is_what_it_stores() -> None:
    found = decode(dicom(FIVE[..., 0]))
    assert found.format == "DICOM"
    assert np.array_equal(found.pixels[..., 0], FIVE[..., 0])
    assert found.notes == ()


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_real_scans_are_shown_as_pydicom_shows_them(name: str) -> None:
    """These come with pydicom, and begin with the bytes of a TIFF, as DICOM allows."""
    from pydicom.data import get_testdata_file
    from pydicom.pixels import apply_modality_lut, apply_windowing

    data = Path(str(get_testdata_file(name, download=False))).read_bytes()
    assert data.startswith((b"II*\0", b"MM\0*"))
    header = pydicom.dcmread(io.BytesIO(data))
    levels = apply_modality_lut(header.pixel_array, header).astype(float)
    if "WindowWidth" in header:
        levels = apply_windowing(header.pixel_array, header)
    found = decode(data).pixels[..., 0].astype(float)
    assert np.corrcoef(found.ravel(), levels.ravel())[0, 1] > 0.999
    assert ("DICOM window applied" in decode(data).notes) == ("WindowWidth" in header)


def test_rgb_dicom_is_what_it_stores() -> None:
    assert np.array_equal(decode(dicom(FIVE[..., :3])).pixels, FIVE[..., :3])


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.uint32])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": None, "WindowWidth": None}])
def test_without_a_window_the_own_range_is_shown(kind: type, window: dict[str, None]) -> None:
    stored = (np.arange(256) * 5 - (700 if kind is np.int16 else 0)).astype(kind).reshape(16, 16)
    bits = 8 * stored.dtype.itemsize
    found = decode(dicom(stored, **window))
    assert found.pixels.ravel().tolist() == list(range(256))
    assert found.notes == (f"no DICOM window: {bits}-bit shown from its lowest to its highest level",)
    assert not decode(dicom(np.full((4, 4), 7, kind))).pixels.any()


def test_a_bit_is_black_or_white() -> None:
    assert np.array_equal(decode(dicom(FIVE[..., 0] % 2, BitsStored=1)).pixels[..., 0], FIVE[..., 0] % 2 * 255)


def test_the_window_is_applied_after_the_rescale() -> None:
    """A CT: 1,024 is water, 0 Hounsfield units. The window 40/400 shows -160 as black and 239 as white."""
    stored = np.array([[0, 1024 - 160, 1024 + 40, 1024 + 239, 4000]], np.uint16)
    found = decode(dicom(stored, RescaleSlope="1", RescaleIntercept="-1024", WindowCenter="40", WindowWidth="400"))
    assert found.pixels[0, :, 0].tolist() == [0, 0, round(255 * (0.5 / 399 + 0.5)), 255, 255]
    assert found.notes == ("DICOM window applied",)


@pytest.mark.parametrize("shape", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(shape: str) -> None:
    from pydicom.pixels import apply_windowing

    stored = RNG.integers(0, 4096, (16, 16), dtype=np.uint16)
    file = dicom(stored, BitsStored=12, WindowCenter="1500", WindowWidth="900.5", VOILUTFunction=shape)
    expected = apply_windowing(stored, pydicom.dcmread(io.BytesIO(file))) / 4095 * 255
    assert np.abs(decode(file).pixels[..., 0] - expected).max() <= 0.5 + 1e-6


def test_the_first_of_several_windows_counts() -> None:
    stored = np.arange(256, dtype=np.uint16).reshape(16, 16)
    one = decode(dicom(stored, WindowCenter="100", WindowWidth="50"))
    two = decode(dicom(stored, WindowCenter=["100", "200"], WindowWidth=["50", "10"]))
    assert np.array_equal(one.pixels, two.pixels)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": "100", "WindowWidth": "50"}])
def test_monochrome1_is_turned_so_that_bright_is_more(window: dict[str, str]) -> None:
    stored = FIVE[..., 0]
    inverted = decode(dicom(stored, PhotometricInterpretation="MONOCHROME1", **window)).pixels
    assert np.array_equal(inverted, 255 - decode(dicom(stored, **window)).pixels)


def test_of_several_frames_the_first_is_used() -> None:
    frames = np.stack([FIVE[..., 0], FIVE[..., 1]])
    found = decode(dicom(frames, NumberOfFrames=2))
    assert np.array_equal(found.pixels[..., 0], FIVE[..., 0])
    assert found.notes == ("first of 2 frames used",)


def test_a_palette_becomes_rgb() -> None:
    tables = {f"{color}PaletteColorLookupTable{what}": value
              for color, levels in (("Red", FIVE[0, :4, 0]), ("Green", FIVE[0, :4, 1]), ("Blue", FIVE[0, :4, 2]))
              for what, value in (("Descriptor", [4, 0, 8]), ("Data", levels.tobytes()))}  # fmt: skip
    stored = np.array([[0, 1], [2, 3]], np.uint8)
    found = decode(dicom(stored, PhotometricInterpretation="PALETTE COLOR", **tables))
    assert np.array_equal(found.pixels, FIVE[0, :4, :3].reshape(2, 2, 3))


def test_run_lengths_are_decoded() -> None:
    assert np.array_equal(decode(dicom(FIVE[..., 0], compressed="1.2.840.10008.1.2.5")).pixels[..., 0], FIVE[..., 0])


def test_a_dicom_that_cannot_be_shown_says_why() -> None:
    whole = dicom(FIVE[..., 0])
    assert "DICOM" in reason(whole[: len(whole) // 2])
    assert reason(whole[:-2]).startswith("truncated DICOM")  # the last byte fills up to an even number
    assert "DICOM" in reason(whole[:200])
    assert "23 = 851 pixels, more than the limit of 850" in reason(whole, max_pixels=850)
    assert "window 0 wide" in reason(dicom(FIVE[..., 0], WindowCenter="1", WindowWidth="0"))


def test_a_compression_that_nothing_here_can_read_is_named() -> None:
    from pydicom.encaps import encapsulate

    header = pydicom.dcmread(io.BytesIO(dicom(FIVE[..., 0])))
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"  # JPEG-LS
    header.PixelData = encapsulate([b"whatever"])
    header["PixelData"].VR = "OB"
    content = io.BytesIO()
    header.save_as(content, enforce_file_format=True)
    assert reason(content.getvalue()).startswith("unsupported DICOM: Unable to decompress 'JPEG-LS")


def test_a_deflated_dicom_is_refused_before_it_is_inflated() -> None:
    header = pydicom.dcmread(io.BytesIO(dicom(np.zeros((2000, 2000), np.uint8))))
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    content = io.BytesIO()
    header.save_as(content, enforce_file_format=True)
    assert reason(content.getvalue()) == "unsupported DICOM: deflated; write it uncompressed"


# HEIC and AVIF


def like(pixels: np.ndarray, scene: np.ndarray) -> bool:
    return pixels.shape == scene.shape and float(np.abs(pixels.astype(int) - scene).mean()) < 8


def scene() -> np.ndarray:
    """What tests/data/heic shows: a ramp under noise, as in tests/contract/test_doors.py."""
    ramp = np.linspace(0, 200, 37)[None, :, None] + np.arange(23)[:, None, None]
    return np.clip(ramp + np.random.default_rng(0).integers(0, 30, (23, 37, 3)), 0, 255).astype(np.uint8)


def test_heic_is_read_upright() -> None:
    assert like(decode((HEIC / "rgb.heic").read_bytes()).pixels, scene())
    assert like(decode((HEIC / "rotated.heic").read_bytes()).pixels, np.rot90(scene(), -1))
    two = decode((HEIC / "two.heic").read_bytes())  # its second picture, mirrored, is the one to show
    assert like(two.pixels, scene()[:, ::-1])
    assert two.notes == ("number 2 of 2 frames used",)


def test_a_heic_that_is_cut_off_is_an_error() -> None:
    whole = (HEIC / "rgb.heic").read_bytes()
    for length in (16, 60, len(whole) // 2, len(whole) - 1):
        assert reason(whole[:length]).startswith("truncated HEIC")
    assert "more than the limit of 850" in reason(whole, max_pixels=850)


def test_avif_is_read_upright_whatever_its_brand() -> None:
    upright = Image.Exif()
    upright[0x0112] = 6
    content = io.BytesIO()
    Image.fromarray(scene()).save(content, "AVIF", quality=90, exif=upright)
    data = content.getvalue()
    for file in (data, data.replace(b"ftypavif", b"ftypmif1", 1)):
        found = decode(file)
        assert found.format == "AVIF"
        assert like(found.pixels, np.rot90(scene(), -1))
    assert "AVIF" in reason(data[:-1])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_ppm_is_what_pillow_wrote(mode: str) -> None:
    content = io.BytesIO()
    Image.fromarray(scene()).convert(mode).save(content, "PPM")
    found = decode(content.getvalue())
    assert found.format == "PPM"
    assert np.array_equal(found.pixels, np.atleast_3d(np.asarray(Image.fromarray(scene()).convert(mode))))
    assert reason(content.getvalue()[:-1]).startswith("truncated PPM")


# All of them

FILES = {
    "npy": npy(FIVE), "tiff": tiff(FIVE, compression="zlib"), "dicom": dicom(FIVE[..., 0], WindowCenter="9", WindowWidth="9"),
    "heic": (HEIC / "rgb.heic").read_bytes(),
}  # fmt: skip


@given(st.sampled_from(sorted(FILES)), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_raise_nothing_but_picture_errors(name: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(damaged), max_pixels=10**6)
    except PictureError as error:
        assert error.reason


@pytest.mark.parametrize("missing, file, extra", [
    ("pi_heif", "heic", "heic"), ("pydicom", "dicom", "dicom"), ("tifffile", "tiff", "tiff"),
])  # fmt: skip
def test_a_missing_library_is_named_with_its_extra(
    missing: str, file: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a data set the file counts as unreadable for this reason, and is read once the library is there."""
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ImportError(f"No module named '{missing}'")
        return original(name, *arguments, **options)

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "picture").write_bytes(FILES[file])
    data = open_dataset(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        assert scan(data)[0].reason.endswith(f'pip install "pellucid[{extra}]"')
        with pytest.raises(DataError, match=rf"mostly because: .*pellucid\[{extra}\]"):
            sample_shapes(data)
    assert scan(data)[0].reason is None
