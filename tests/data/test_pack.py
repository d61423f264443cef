"""Packs: every row is what the pixel contract makes of its file, found again by content, whole or not there."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from pellucid.data import scan as scanning
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import from_arrays, open_dataset
from pellucid.data.decode import Picture, decode
from pellucid.data.manifest import make_manifest
from pellucid.data.pack import open_pack
from pellucid.data.scan import scan
from pellucid.errors import DataError, StorageError

CONTRACT = PixelContract(height=6, width=5, channels=3)
ROW = 6 * 5 * 3


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty random pictures of many sizes, grey and colored, in two classes."""
    rng = np.random.default_rng(0)
    for i in range(40):
        shape = (*rng.integers(3, 20, 2), 3)[: 2 + i % 2]
        save(tmp_path / "photos" / f"{i // 20}" / f"{i:02}.png", rng.integers(0, 256, shape, dtype=np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once called, a scan that decodes fails."""

    def refuse(_: bytes) -> Picture:
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(scanning, "decode", refuse)


def content(cache: Path) -> set[str]:
    """Names of all files of the packs, hidden ones too."""
    return {file.name for file in (cache / "packs").iterdir()}


# Rows


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_row_is_the_contract_applied_to_the_file(photos: Path, fit: str, channels: int) -> None:
    contract = PixelContract(height=6, width=5, channels=channels, fit=fit)
    data = open_dataset(photos)
    for _ in range(2):  # made, then found
        pack = open_pack(data, contract)
        assert (pack.pixels.dtype, pack.pixels.shape) == (np.uint8, (40, 6, 5, channels))
        for item, row in zip(data.items, pack.pixels, strict=True):
            assert np.array_equal(row, contract.pixels(decode((photos / item.path).read_bytes()).pixels)), item.path


def test_records_are_those_of_a_scan(photos: Path) -> None:
    (photos / "1" / "broken.png").write_bytes(b"")
    assert open_pack(open_dataset(photos), CONTRACT).records == scan(open_dataset(photos))


def test_pixels_cannot_be_overwritten(photos: Path) -> None:
    pack = open_pack(open_dataset(photos), CONTRACT)
    with pytest.raises(ValueError, match="read-only"):
        pack.pixels[0] = 0


def test_the_row_of_an_unreadable_picture_is_zero_and_in_no_split(photos: Path) -> None:
    """Broken ones lie first, in the middle and last."""
    for path in ("0/00.png", "0/15.png", "1/39.png"):
        (photos / path).write_bytes(b"\x89PNG\r\n\x1a\n")
    data = open_dataset(photos)
    pack = open_pack(data, CONTRACT)
    assert np.flatnonzero([record.reason is not None for record in pack.records]).tolist() == [0, 15, 39]
    assert not pack.pixels[[0, 15, 39]].any()
    assert pack.pixels[[1, 14, 16, 38]].any(axis=(1, 2, 3)).all()
    manifest = make_manifest(data, pack.records)
    used = np.concatenate([manifest.indices(split) for split in ("train", "validation", "test")])
    assert sorted(used) == sorted(set(range(40)) - {0, 15, 39})


def test_arrays_are_packed_anew_each_time(digits: tuple[np.ndarray, np.ndarray]) -> None:
    contract = PixelContract(height=8, width=8, channels=1)
    for images in (digits[0][:5], digits[0][5:10]):
        assert np.array_equal(open_pack(from_arrays(images, [0, 1, 0, 1, 0]), contract).pixels[..., 0], images)


def test_arrays_with_equal_bytes_in_another_shape_keep_their_own_rows() -> None:
    contract = PixelContract(height=2, width=2, channels=1)
    levels = np.array([[0, 50, 100, 150, 200, 250]] * 2, np.uint8)
    first, second = levels.reshape(2, 1, 6), levels.reshape(2, 3, 2)
    one = open_pack(from_arrays(first, [0, 1]), contract).pixels
    two = open_pack(from_arrays(second, [0, 1]), contract).pixels
    assert np.array_equal(one[0], contract.pixels(first[0][..., None]))
    assert np.array_equal(two[0], contract.pixels(second[0][..., None]))
    assert not np.array_equal(one, two)


# Found again by content


def test_copied_files_find_the_same_pack(photos: Path, forbid_decoding: Callable[[], None]) -> None:
    first = open_pack(open_dataset(photos), CONTRACT)
    copy = Path(shutil.copytree(photos, photos.parent / "elsewhere"))
    scan(open_dataset(copy))
    forbid_decoding()
    second = open_pack(open_dataset(copy), CONTRACT)
    assert second.file == first.file
    assert np.array_equal(second.pixels, first.pixels)


def test_a_second_run_decodes_nothing(photos: Path, forbid_decoding: Callable[[], None], own_cache: Path) -> None:
    file = open_pack(open_dataset(photos), CONTRACT).file
    os.utime(file, (0, 0))
    forbid_decoding()
    assert open_pack(open_dataset(photos), CONTRACT).file == file
    assert file.stat().st_mtime > 0  # its time tells when it was last used
    with pytest.raises(AssertionError, match="decoded again"):  # the negative control
        open_pack(open_dataset(photos), PixelContract(height=7, width=5))
    assert content(own_cache) == {file.name}


def test_mean_and_std_share_a_pack(photos: Path, forbid_decoding: Callable[[], None]) -> None:
    file = open_pack(open_dataset(photos), CONTRACT).file
    forbid_decoding()
    other = PixelContract(height=6, width=5, channels=3, mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7))
    assert open_pack(open_dataset(photos), other).file == file


def test_every_geometry_has_a_pack_of_its_own(photos: Path, own_cache: Path) -> None:
    geometries: list[dict[str, Any]] = [{}, {"height": 5}, {"width": 6}, {"channels": 1}, {"fit": "crop"}, {"fit": "pad"}]
    for changes in geometries:
        open_pack(open_dataset(photos), PixelContract(**({"height": 6, "width": 5} | changes)))
    assert len(content(own_cache)) == len(geometries)


def test_a_changed_pixel_makes_another_pack(photos: Path) -> None:
    first = open_pack(open_dataset(photos), CONTRACT)
    pixels = np.array(Image.open(photos / "0" / "07.png"))
    pixels[0, 0] ^= 255
    save(photos / "0" / "07.png", pixels)
    second = open_pack(open_dataset(photos), CONTRACT)
    assert second.file != first.file
    differ = [i for i in range(40) if not np.array_equal(first.pixels[i], second.pixels[i])]
    assert differ == [7]


def test_the_same_files_in_another_order_make_another_pack(photos: Path) -> None:
    first = open_pack(open_dataset(photos), CONTRACT)
    (photos / "0" / "00.png").rename(photos / "1" / "99.png")
    second = open_pack(open_dataset(photos), CONTRACT)
    assert second.file != first.file
    assert np.array_equal(second.pixels, np.roll(first.pixels, -1, axis=0))


def test_a_repaired_picture_gets_its_row(photos: Path) -> None:
    whole = (photos / "0" / "03.png").read_bytes()
    (photos / "0" / "03.png").write_bytes(whole[:-8])
    assert not open_pack(open_dataset(photos), CONTRACT).pixels[3].any()
    (photos / "0" / "03.png").write_bytes(whole)
    assert np.array_equal(open_pack(open_dataset(photos), CONTRACT).pixels[3], CONTRACT.pixels(decode(whole).pixels))


# What goes wrong leaves nothing behind


def test_a_disk_that_is_too_small_is_told_before_a_file_is_opened(
    photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, forbid_decoding: Callable[[], None]
) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, 40 * ROW - 1))
    forbid_decoding()
    with pytest.raises(StorageError, match=r"needs 3,600 bytes.*has only 3,599 free.*PELLUCID_CACHE"):
        open_pack(open_dataset(photos), CONTRACT)
    assert content(own_cache) == set()


def test_exactly_enough_space_is_enough(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(40 * ROW))
    assert open_pack(open_dataset(photos), CONTRACT).file.stat().st_size == 40 * ROW


def test_a_disk_that_fills_up_meanwhile_leaves_no_file(
    photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > 20 * ROW:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    original = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "open", lambda path, mode="r", **more: FullDisk(path, "w") if mode == "wb" else original(path, mode, **more)
        )
        with pytest.raises(StorageError, match=r"disk is full.*3,600 bytes were needed"):
            open_pack(open_dataset(photos), CONTRACT)
    assert content(own_cache) == set()
    assert open_pack(open_dataset(photos), CONTRACT).pixels.any(axis=(1, 2, 3)).all()  # with space again


def test_channels_that_do_not_fit_leave_no_file(own_cache: Path) -> None:
    data = from_arrays(np.zeros((4, 6, 5, 2), np.uint8), [0, 1, 0, 1])
    with pytest.raises(DataError, match="2 channels, but 3 are expected"):
        open_pack(data, CONTRACT)
    assert content(own_cache) == set()


def test_an_interrupted_pack_leaves_no_file(photos: Path, own_cache: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(open_dataset(photos), CONTRACT, progress=interrupt)
    assert content(own_cache) == set()


def test_a_cache_that_is_a_file_is_told(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "occupied"))
    with pytest.raises(StorageError, match="could not be written"):
        open_pack(open_dataset(photos), CONTRACT)
