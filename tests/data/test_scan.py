"""Scanning: one verdict a file, what makes two pictures the same, and a cache that is trusted only when it can be."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data import scan as scanning
from pellucid.data.dataset import Dataset, from_arrays, open_dataset
from pellucid.data.decode import Picture
from pellucid.data.looks import look_at
from pellucid.data.scan import in_threads, recall, scan
from pellucid.errors import PictureError


def save(file: Path, pixels: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """Ten digits as PNG, in the folders 0 to 9."""
    for i in range(10):
        save(tmp_path / "photos" / str(digits[1][i]) / f"{i}.png", digits[0][i])
    return tmp_path / "photos"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that scan() decodes from now on."""
    files: list[bytes] = []
    original = scanning.decode

    def counted(data: bytes) -> Picture:
        files.append(data)
        return original(data)

    monkeypatch.setattr(scanning, "decode", counted)
    return files


def verdicts(data: Dataset) -> dict[str, str | None]:
    return {item.path: record.reason for item, record in zip(data.items, scan(data), strict=True)}


# Verdicts


def test_every_file_has_one_verdict_with_its_reason(photos: Path) -> None:
    (photos / "0" / "empty.png").write_bytes(b"")
    (photos / "0" / "text.jpg").write_text("hello")
    whole = (photos / "1" / "1.png").read_bytes()
    (photos / "1" / "cut.png").write_bytes(whole[: len(whole) // 2])
    found = verdicts(open_dataset(photos))
    assert len(found) == 13
    assert found["0/empty.png"] == "file is empty (0 bytes)"
    assert found["0/text.jpg"] == "not a picture: a text file that begins with 'hello'"
    assert found["1/cut.png"] == "truncated PNG: the end of the file is missing"
    assert [path for path, reason in found.items() if reason is None] == [f"{k}/{k}.png" for k in range(10)]


def test_a_file_that_a_table_names_and_nobody_has_is_unreadable(photos: Path) -> None:
    table = photos / "table.csv"
    table.write_text("path,label\n0/0.png,zero\n1/1.png,one\n1/gone.png,one\n")
    assert verdicts(open_dataset(table)) == {"0/0.png": None, "1/1.png": None, "1/gone.png": "file is missing"}


def test_size_channels_and_hash_are_those_of_the_file(tmp_path: Path) -> None:
    grey = save(tmp_path / "a" / "grey.png", np.zeros((3, 7), np.uint8))
    color = save(tmp_path / "b" / "color.png", np.zeros((5, 2, 3), np.uint8))
    first, second = scan(open_dataset(tmp_path))
    assert (first.height, first.width, first.channels, first.notes) == (3, 7, 1, "")
    assert (second.height, second.width, second.channels) == (5, 2, 3)
    assert first.sha256 == hashlib.sha256(grey.read_bytes()).hexdigest()
    assert second.sha256 == hashlib.sha256(color.read_bytes()).hexdigest()


def test_what_decoding_noted_is_kept_and_comes_back_from_the_cache(tmp_path: Path) -> None:
    save(tmp_path / "a" / "clear.png", np.zeros((2, 2, 4), np.uint8))
    save(tmp_path / "b" / "deep.png", np.full((2, 2), 40_000, np.uint16))
    data = open_dataset(tmp_path)
    first = scan(data)
    assert [record.notes for record in first] == ["transparent: laid on white", "16-bit scaled to 8-bit"]
    assert scan(data) == first


def test_format_and_looks_come_back_from_the_cache(tmp_path: Path, decoded: list[bytes]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    save(tmp_path / "a" / "1.png", pixels)
    save(tmp_path / "b" / "2.bmp", pixels)
    data = open_dataset(tmp_path)
    first = scan(data)
    assert [record.format for record in first] == ["PNG", "BMP"]
    assert [record.side for record in first] == [30, 30]
    assert first[0].looks == look_at(pixels)
    assert scan(data) == first
    assert len(decoded) == 2


# What makes pictures the same


def test_two_encodings_of_one_picture_share_their_pixels_but_not_their_hash(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    for ending in ("bmp", "png"):
        save(tmp_path / "a" / f"same.{ending}", pixels)
    pixels[3, 2, 1] ^= 1  # the negative control: one level in one channel
    save(tmp_path / "b" / "other.png", pixels)
    bmp, png, other = scan(open_dataset(tmp_path))
    assert bmp.pixels == png.pixels
    assert bmp.sha256 != png.sha256
    assert other.pixels != png.pixels


def test_equal_bytes_in_another_shape_are_another_picture(tmp_path: Path) -> None:
    levels = np.arange(6, dtype=np.uint8)
    for name, shape in {"1x6": (1, 6), "2x3": (2, 3), "3x2": (3, 2), "1x2 color": (1, 2, 3)}.items():
        save(tmp_path / "a" / f"{name}.png", levels.reshape(shape))
    records = scan(open_dataset(tmp_path))
    assert len({record.pixels for record in records}) == 4


def test_folder_and_zip_give_the_same_records(photos: Path) -> None:
    (photos / "3" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    archive = photos.parent / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in photos.rglob("*.png"):
            file.write(path, path.relative_to(photos))
    assert scan(open_dataset(archive)) == scan(open_dataset(photos))


def test_arrays_have_records_but_no_cache(digits: tuple[np.ndarray, np.ndarray], own_cache: Path) -> None:
    data = from_arrays(digits[0][:4], [0, 1, 2, 3])
    records = scan(data)
    assert [(r.reason, r.height, r.width, r.channels) for r in records] == [(None, 8, 8, 1)] * 4
    assert [r.sha256 for r in records] == [hashlib.sha256(image.tobytes()).hexdigest() for image in digits[0][:4]]
    assert not recall(data).is_most
    assert list(own_cache.iterdir()) == []


# The order, the threads, the calls


def test_records_stand_in_the_order_of_the_items_whichever_thread_is_first(tmp_path: Path) -> None:
    """200 pictures of 1 to 200 columns: more than one thread takes at a time; every third is delayed."""
    for i in range(200):
        save(tmp_path / "ab"[i % 2] / f"{i:03}.png", np.zeros((1, i + 1), np.uint8))
    data = open_dataset(tmp_path)

    def delay(indices: Sequence[int], _: Sequence[Picture]) -> None:
        if indices[0] % 3 == 0:
            time.sleep(0.001)

    widths = [record.width for record in scan(data, on_pictures=delay)]
    assert widths == [int(Path(item.path).stem) + 1 for item in data.items]


@pytest.mark.parametrize("known", [False, True])
def test_every_readable_picture_is_handed_over_once(
    photos: Path, digits: tuple[np.ndarray, np.ndarray], known: bool
) -> None:
    (photos / "5" / "broken.png").write_bytes(b"")
    data = open_dataset(photos)
    before = scan(data) if known else None
    lock, seen = threading.Lock(), []

    def keep(indices: Sequence[int], pictures: Sequence[Picture]) -> None:
        with lock:
            seen.extend((data.items[i].path, p.pixels) for i, p in zip(indices, pictures, strict=True))

    records = scan(data, on_pictures=keep)
    assert Counter(path for path, _ in seen) == {f"{k}/{k}.png": 1 for k in range(10)}
    for path, pixels in seen:
        assert np.array_equal(pixels[..., 0], digits[0][int(path[0])])
    assert before is None or records == before


def test_an_exception_of_on_pictures_comes_out_as_it_is(photos: Path) -> None:
    class OwnError(Exception):
        pass

    def refuse(indices: Sequence[int], _: Sequence[Picture]) -> None:
        if 7 in indices:
            raise OwnError(7)

    with pytest.raises(OwnError, match="7"):
        scan(open_dataset(photos), on_pictures=refuse)
    assert set(verdicts(open_dataset(photos)).values()) == {None}  # nothing wrong was remembered


def test_torch_rests_during_a_scan_and_has_its_threads_back_afterwards(photos: Path) -> None:
    torch.set_num_threads(3)
    inside: set[int] = set()
    scan(open_dataset(photos), on_pictures=lambda *_: inside.add(torch.get_num_threads()))
    assert inside == {1}
    assert torch.get_num_threads() == 3

    def refuse(*_: Any) -> None:
        raise PictureError("not today")

    with pytest.raises(PictureError):
        scan(open_dataset(photos), on_pictures=refuse)
    assert torch.get_num_threads() == 3


def test_progress_rises_to_the_number_of_pictures() -> None:
    told: list[tuple[int, int]] = []
    squares = list(in_threads(lambda i: i * i, range(150), lambda done, total: told.append((done, total))))
    assert squares == [i * i for i in range(150)]
    assert [total for _, total in told] == [150] * len(told)
    assert len(told) > 1 and told[-1][0] == 150
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@pytest.mark.parametrize("small", [0, 10**9], ids=["threads", "one thread"])
def test_runs_of_mixed_shapes_and_broken_files_give_what_each_file_gives_alone(
    tmp_path: Path, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes change within a run, a run is longer than what is described at once, and every seventh file is broken."""
    monkeypatch.setattr(scanning, "_SMALL", small)
    monkeypatch.setattr(scanning, "num_cpus", lambda: 4)
    rng = np.random.default_rng(0)
    for i in range(150):
        side = (32, 32, 32, 45)[i % 4] if i < 60 else 64
        file = save(tmp_path / "ab"[i % 2] / f"{i:03}.png", rng.integers(0, 256, (side, 32, 3), dtype=np.uint8))
        if i % 7 == 0:
            file.write_bytes(file.read_bytes()[:-20])
    data = open_dataset(tmp_path)
    pixels: dict[int, np.ndarray] = {}

    def keep(indices: Sequence[int], pictures: Sequence[Picture]) -> None:
        assert len({picture.pixels.shape for picture in pictures}) == 1
        pixels.update(zip(indices, (picture.pixels for picture in pictures), strict=True))

    for i, record in enumerate(scan(data, on_pictures=keep)):
        name = int(Path(data.items[i].path).stem)
        if name % 7 == 0:
            assert record.reason == "truncated PNG: the end of the file is missing"
            assert i not in pixels
            continue
        file = tmp_path / data.items[i].path
        levels = np.asarray(Image.open(file))
        assert np.array_equal(pixels[i], levels)
        assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (record.height, record.width, record.channels) == levels.shape
        assert record.looks == look_at(levels)


def test_what_was_seen_before_an_interruption_is_kept(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_CHUNK", 2)

    def interrupted(done: int, _: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(open_dataset(photos), progress=interrupted)
    assert [record is not None for record in recall(open_dataset(photos)).records] == [True] * 6 + [False] * 4


# The cache


def test_a_second_scan_decodes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(open_dataset(photos))

    def refuse(_: bytes) -> Picture:
        raise AssertionError("decoded again")

    monkeypatch.setattr(scanning, "decode", refuse)
    assert scan(open_dataset(photos)) == first
    monkeypatch.setenv("PELLUCID_CACHE", str(photos.parent / "other"))  # the negative control
    with pytest.raises(AssertionError, match="decoded again"):
        scan(open_dataset(photos))


def test_what_is_known_is_known_under_another_door(photos: Path, decoded: list[bytes]) -> None:
    """The whole folder was scanned; a table of some of its pictures finds them in the cache."""
    scan(open_dataset(photos))
    decoded.clear()
    table = photos.parent / "some.csv"
    table.write_text("path,label\nphotos/3/3.png,three\nphotos/4/4.png,four\n")
    scan(open_dataset(table))
    assert decoded == []


def test_only_a_changed_file_is_looked_at_again(photos: Path, decoded: list[bytes]) -> None:
    before = scan(open_dataset(photos))
    decoded.clear()
    changed = save(photos / "4" / "4.png", np.full((9, 8), 200, np.uint8))
    after = scan(open_dataset(photos))
    assert decoded == [changed.read_bytes()]
    assert [a == b for a, b in zip(after, before, strict=True)] == [k != 4 for k in range(10)]
    assert after[4].height == 9


def test_a_change_that_keeps_size_and_modification_time_is_noticed(tmp_path: Path) -> None:
    """As when files are swapped by a tool that restores their times."""
    file = save(tmp_path / "a" / "1.bmp", np.zeros((4, 4), np.uint8))
    save(tmp_path / "b" / "2.bmp", np.ones((4, 4), np.uint8))
    status = file.stat()
    first = scan(open_dataset(tmp_path))
    time.sleep(0.05)  # clocks of file systems tick every few milliseconds
    save(file, np.full((4, 4), 7, np.uint8))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    second = scan(open_dataset(tmp_path))
    assert second[0].pixels != first[0].pixels
    assert second[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert second[1] == first[1]


def test_a_broken_file_is_looked_at_every_time_and_heals(photos: Path, decoded: list[bytes]) -> None:
    file = photos / "2" / "2.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    for _ in range(3):
        decoded.clear()
        assert verdicts(open_dataset(photos))["2/2.png"] == "truncated PNG: the end of the file is missing"
        assert whole[:-4] in decoded
    file.write_bytes(whole)
    assert verdicts(open_dataset(photos))["2/2.png"] is None


def test_a_picture_that_breaks_is_no_longer_readable(photos: Path) -> None:
    assert verdicts(open_dataset(photos))["2/2.png"] is None
    (photos / "2" / "2.png").write_bytes(b"")
    assert verdicts(open_dataset(photos))["2/2.png"] == "file is empty (0 bytes)"


def test_mostly_known_is_nine_pictures_of_ten(photos: Path) -> None:
    assert not recall(open_dataset(photos)).is_most
    scan(open_dataset(photos))
    assert recall(open_dataset(photos)).is_most
    save(photos / "0" / "0.png", np.zeros((3, 3), np.uint8))
    assert recall(open_dataset(photos)).is_most
    save(photos / "1" / "1.png", np.zeros((3, 3), np.uint8))
    assert not recall(open_dataset(photos)).is_most


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000], ids=["all", "inside"])
def test_a_damaged_cache_is_begun_anew(photos: Path, own_cache: Path, decoded: list[bytes], content: bytes) -> None:
    first = scan(open_dataset(photos))
    (own_cache / "scan.sqlite").write_bytes(content)
    assert scan(open_dataset(photos)) == first
    decoded.clear()
    assert scan(open_dataset(photos)) == first
    assert decoded == []


def test_damage_behind_the_first_page_is_begun_anew(photos: Path, own_cache: Path) -> None:
    first = scan(open_dataset(photos))
    file = own_cache / "scan.sqlite"
    data = file.read_bytes()
    file.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    assert scan(open_dataset(photos)) == first
    assert scan(open_dataset(photos)) == first


def test_a_scan_goes_on_where_no_cache_can_be_kept(
    photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scan(open_dataset(photos))
    (own_cache / "scan.sqlite").unlink()
    connect = sqlite3.connect

    def locked(database: Any, **options: Any) -> sqlite3.Connection:
        if database != ":memory:":
            raise sqlite3.OperationalError("database is locked")
        return connect(database, **options)

    monkeypatch.setattr(sqlite3, "connect", locked)
    assert scan(open_dataset(photos)) == expected
    assert not recall(open_dataset(photos)).is_most
    assert not (own_cache / "scan.sqlite").exists()


def test_a_folder_in_the_place_of_the_cache_does_not_stop_a_scan(photos: Path, own_cache: Path) -> None:
    (own_cache / "scan.sqlite").mkdir()
    assert set(verdicts(open_dataset(photos)).values()) == {None}


def test_a_cache_that_fills_up_does_not_stop_a_scan(
    photos: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real full disk in small: SQLite may not grow beyond the pages that it has."""
    connect = sqlite3.connect

    def limited(database: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(database, **options)
        connection.execute("PRAGMA max_page_count = 4")
        return connection

    for i in range(60):  # more rows than fit on a page of 4,096 bytes
        save(photos / "0" / f"more{i}.png", np.full((1, i + 1), i, np.uint8))
    monkeypatch.setattr(sqlite3, "connect", limited)
    assert set(verdicts(open_dataset(photos)).values()) == {None}
    assert not recall(open_dataset(photos)).is_most


def test_the_cache_holds_names_that_are_no_text(tmp_path: Path, decoded: list[bytes]) -> None:
    """A name in Latin-1, as old archives have them, is no UTF-8."""
    save(tmp_path / "a" / "1.png", np.zeros((2, 2), np.uint8))
    source = save(tmp_path / "b" / "2.png", np.ones((2, 2), np.uint8))
    try:
        source.rename(os.fsdecode(os.fsencode(tmp_path / "b") + b"/caf\xe9.png"))
    except OSError:
        pytest.skip("this file system takes only names that are UTF-8")
    first = scan(open_dataset(tmp_path))
    decoded.clear()
    assert scan(open_dataset(tmp_path)) == first
    assert decoded == []
