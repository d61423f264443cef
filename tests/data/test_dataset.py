"""Opening data sets: what becomes a picture of which class, what is left out and told, what is refused."""

from __future__ import annotations

import errno
import io
import os
import re
import struct
import sys
import threading
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data import sources
from pellucid.data.dataset import Dataset, from_arrays, open_dataset
from pellucid.errors import ConfigError, DataError, MissingExtraError, PictureError, UnknownNameError


def png(level: int = 0) -> bytes:
    """A grey picture of 2 x 3 pixels (height x width)."""
    buffer = io.BytesIO()
    Image.new("L", (3, 2), level).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, *paths: str) -> Path:
    """Pictures at `paths` below `root`."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png())
    return root


def write_text(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def zipped(file: Path, members: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def labelled(data: Dataset) -> dict[str, str]:
    return {item.path: data.classes[item.label] for item in data.items}


def splits(data: Dataset) -> dict[str, str | None]:
    return {item.path: item.split for item in data.items}


def groups(data: Dataset) -> dict[str, str | None]:
    return {item.path: item.group for item in data.items}


# Folders


def test_the_folder_is_the_class_however_deep_the_picture(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, "dog/b.png", "cat/a.png", "cat/garden/night/c.JPG"))
    assert labelled(data) == {"cat/a.png": "cat", "cat/garden/night/c.JPG": "cat", "dog/b.png": "dog"}
    assert data.classes == ("cat", "dog")
    assert [item.path for item in data.items] == ["cat/a.png", "cat/garden/night/c.JPG", "dog/b.png"]
    assert set(splits(data).values()) == {None}
    assert (data.kind, data.source, len(data)) == ("folder", str(tmp_path), 3)


def test_bytes_pixels_and_stat_are_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "dog" / "b.png").write_bytes(png(200))
    data = open_dataset(tmp_path)
    assert data.read(1) == (tmp_path / "dog" / "b.png").read_bytes()
    assert np.array_equal(data.picture(1).pixels, np.full((2, 3, 1), 200, np.uint8))
    status = (tmp_path / "dog" / "b.png").stat()
    assert data.stat(1) == (f"{tmp_path}/dog/b.png", status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "validation", "test"),
        ("Train", "VAL", "Testing"),
        ("training", "dev", "test"),
        ("TRAIN", "valid", "test"),
    ],
)
def test_folders_named_like_splits_are_splits(tmp_path: Path, train: str, validation: str, test: str) -> None:
    data = open_dataset(
        write(
            tmp_path,
            f"{train}/cat/1.png",
            f"{train}/dog/2.png",
            f"{validation}/cat/3.png",
            f"{test}/dog/deep/4.png",
        )
    )
    assert labelled(data) == {
        f"{train}/cat/1.png": "cat", f"{train}/dog/2.png": "dog",
        f"{validation}/cat/3.png": "cat", f"{test}/dog/deep/4.png": "dog",
    }  # fmt: skip
    assert splits(data) == {
        f"{train}/cat/1.png": "train", f"{train}/dog/2.png": "train",
        f"{validation}/cat/3.png": "validation", f"{test}/dog/deep/4.png": "test",
    }  # fmt: skip
    assert "class 'cat' has 2 pictures: none in test" in data.notes
    assert "class 'dog' has 2 pictures: none in validation" in data.notes


def test_train_alone_is_a_split(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, "train/cat/1.png", "train/dog/2.png"))
    assert data.classes == ("cat", "dog")
    assert set(splits(data).values()) == {"train"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, "car/1.png", "train/2.png", "bus/3.png", "train/steam/4.png"))
    assert data.classes == ("bus", "car", "train")
    assert set(splits(data).values()) == {None}


def test_an_empty_folder_train_is_no_split(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert open_dataset(write(tmp_path, "car/1.png", "test/2.png")).classes == ("car", "test")


def test_test_without_train_is_a_class(tmp_path: Path) -> None:
    assert open_dataset(write(tmp_path, "test/a/1.png", "other/2.png")).classes == ("other", "test")


def test_what_lies_beside_splits_is_left_out_and_told(tmp_path: Path) -> None:
    data = open_dataset(
        write(
            tmp_path,
            "train/a/1.png",
            "train/b/2.png",
            "raw/a/3.png",
            "raw/x/4.png",
            "test/5.png",
            "test/a/6.png",
        )
    )
    assert sorted(labelled(data)) == ["test/a/6.png", "train/a/1.png", "train/b/2.png"]
    assert "'raw' beside the splits is left out, 2 pictures" in data.notes
    assert "1 picture in no class folder, left out: 'test/5.png'" in data.notes


def test_a_folder_that_stands_alone_is_entered(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, "download/photos/cat/1.png", "download/photos/dog/2.png"))
    assert labelled(data) == {"download/photos/cat/1.png": "cat", "download/photos/dog/2.png": "dog"}
    assert "the class folders are those in 'download/photos'" in data.notes


def test_a_folder_that_stands_alone_may_hold_splits(tmp_path: Path) -> None:
    given = {"d/train/cat/1.png": "train", "d/train/dog/2.png": "train", "d/test/dog/3.png": "test"}
    assert splits(open_dataset(write(tmp_path, *given))) == given


def test_a_folder_that_stands_alone_with_pictures_is_a_class(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, "cat/1.png", "cat/kittens/2.png"))
    assert labelled(data) == {"cat/1.png": "cat", "cat/kittens/2.png": "cat"}


def test_what_is_hidden_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, ".git/x/1.png", "cat/.a.png", "cat/.ipynb_checkpoints/2.png", "__MACOSX/cat/3.png")
    data = open_dataset(write(tmp_path, "cat/1.png", "dog/2.png", "cat/Thumbs.db", "dog/desktop.ini"))
    assert list(labelled(data)) == ["cat/1.png", "dog/2.png"]
    assert data.notes == ()
    assert data.ignored == ()


def test_content_makes_a_picture_where_the_name_does_not(tmp_path: Path) -> None:
    write(tmp_path, "cat/a", "cat/b.dat", "dog/c.png", "dog/jpg")
    write_text(tmp_path / "cat" / "notes.txt", "no picture")
    write_text(tmp_path / "dog" / "text.PNG", "no picture, but it is called so")
    write_text(tmp_path / "README.md", "# pictures")
    data = open_dataset(tmp_path)
    assert sorted(labelled(data)) == ["cat/a", "cat/b.dat", "dog/c.png", "dog/jpg", "dog/text.PNG"]
    assert data.ignored == ("README.md", "cat/notes.txt")


def test_empty_class_folders_and_pictures_outside_are_told(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "dog/2.png", "cover.png", "back.png")
    (tmp_path / "horse").mkdir()
    (tmp_path / "zebra" / "deep").mkdir(parents=True)
    data = open_dataset(tmp_path)
    assert data.classes == ("cat", "dog")
    assert "2 folders without pictures, no class: 'horse', 'zebra'" in data.notes
    assert "2 pictures in no class folder, left out: 'back.png', 'cover.png'" in data.notes


NAMES = ["-dash", "line\nbreak", "ünïcödé 猫", "two  blanks ", "it's", "back\\slash", "tab\there", "\udcff"]


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux")
def test_any_name_works_and_messages_show_it_harmlessly(tmp_path: Path) -> None:
    for name in NAMES:
        write(tmp_path, f"{name}/{name}.png")
    data = open_dataset(tmp_path)
    assert labelled(data) == {f"{name}/{name}.png": name for name in NAMES}
    assert all(data.read(i) == png() for i in range(len(data)))
    assert all(line.isprintable() for line in str(data).split("\n"))
    assert r"line\nbreak" in str(data)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = write(tmp_path / "root", "cat/1.png", "dog/2.png")
    write(tmp_path / "elsewhere", "3.png")
    (root / "bird").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    (root / "a-dog").symlink_to(root / "dog", target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    (root / "dog" / "gone.jpg").symlink_to(root / "nothing.jpg")
    data = open_dataset(root)
    assert labelled(data) == {
        "bird/3.png": "bird", "cat/1.png": "cat", "dog/2.png": "dog", "dog/gone.jpg": "dog",
    }  # fmt: skip
    assert "'cat/up' is left out: a link to '.'" in data.notes
    assert "'a-dog' is left out: a link to 'dog'" in data.notes
    gone = list(labelled(data)).index("dog/gone.jpg")
    assert data.stat(gone) is None
    with pytest.raises(PictureError) as caught:
        data.read(gone)
    assert caught.value.reason == "file is missing"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_told_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(write(tmp_path, "cat/1.png", "dog/2.png") / "cat" / "pipe.png")
    data = open_dataset(tmp_path)
    assert len(data) == 2
    assert "'cat/pipe.png' is left out: no regular file" in data.notes


def test_trouble_with_one_file_is_a_picture_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset(write(tmp_path, "cat/1.png", "dog/2.png"))
    (tmp_path / "cat" / "1.png").unlink()
    (tmp_path / "cat" / "1.png").mkdir()
    with pytest.raises(PictureError, match=f"^cannot be read: {os.strerror(errno.EISDIR)}$"):
        data.read(0)
    monkeypatch.setattr(sources, "MAX_BYTES", len(png()) - 1)
    with pytest.raises(PictureError, match="more than the limit"):
        data.read(1)
    monkeypatch.setattr(sources, "MAX_BYTES", len(png()))
    assert data.read(1) == png()


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "cat/1.png", "dog/2.png")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"dog' cannot be listed: Permission denied"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("paths", [[], ["a.png", "b.png"]], ids=["empty", "flat"])
def test_a_folder_without_class_folders_says_how_to_arrange_them(tmp_path: Path, paths: list[str]) -> None:
    found = "2 pictures in no class folder, left out: 'a.png', 'b.png'" if paths else "it is empty"
    with pytest.raises(DataError, match=rf"\({found}\)\. Put the pictures .*photos/cat/1\.jpg"):
        open_dataset(write(tmp_path, *paths))


def test_one_class_is_no_error_here(tmp_path: Path) -> None:
    assert open_dataset(write(tmp_path, "cat/1.png")).classes == ("cat",)


def test_a_path_that_does_not_exist_suggests_its_neighbors(tmp_path: Path) -> None:
    write(tmp_path, "photos/cat/1.png")
    with pytest.raises(DataError, match=r"no 'phtoos' in '.*'\. Expected a folder.* Did you mean photos\?$"):
        open_dataset(tmp_path / "phtoos")
    with pytest.raises(DataError, match=r"no 'phtoos' in .* Did you mean photos\?$"):
        open_dataset(tmp_path / "phtoos" / "cat")
    with pytest.raises(DataError, match="does not exist"):
        open_dataset("")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png' is no data set\. Expected a folder"):
        open_dataset(write(tmp_path, "1.png") / "1.png")


def test_the_name_is_fit_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write(tmp_path / "my photos/v1.2", "cat/1.png")
    monkeypatch.chdir(photos)
    assert open_dataset(".").name == "v1.2"
    assert open_dataset(photos, name="../my run: 1").name == "my-run-1"
    assert open_dataset(zipped(tmp_path / "cells.zip", {"a/1.png": png()})).name == "cells"


def test_text_of_a_data_set_has_counts_per_class_and_split(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/1.png", "train/cat/2.png", "train/dog/3.png", "test/cat/4", "test/dog/5")
    write_text(tmp_path / "LICENSE", "free")
    assert str(open_dataset(tmp_path)).split("\n") == [
        f"{tmp_path} (folder): 5 pictures, 2 classes",
        "  class    pictures       train        test",
        "  cat             3           2           1",
        "  dog             2           1           1",
        "1 file left out, no picture: 'LICENSE'",
    ]


# Archives


def test_an_archive_is_read_like_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write(root, "train/cat/1.png", "train/dog/2", "test/dog/3.png", "train/.hidden/4.png", "raw/5.png")
    write_text(root / "LICENSE", "free")
    (root / "train" / "horse").mkdir()
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(root))
    folder, packed = open_dataset(root), open_dataset(tmp_path / "photos.zip")
    assert packed.items == folder.items
    assert (packed.classes, packed.ignored, packed.notes) == (folder.classes, folder.ignored, folder.notes)
    assert [packed.read(i) for i in range(3)] == [folder.read(i) for i in range(3)]
    assert np.array_equal(packed.picture(0).pixels, folder.picture(0).pixels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "photos.zip"]  # nothing is unpacked
    assert packed.kind == "zip"


def test_the_stat_of_a_member_changes_with_the_archive(tmp_path: Path) -> None:
    file = zipped(tmp_path / "x.zip", {"cat/1.png": png(), "dog/2.png": png()})
    status = file.stat()
    expected = (f"{file}/cat/1.png", len(png()), status.st_mtime_ns, status.st_ctime_ns)
    assert open_dataset(file).stat(0) == expected
    os.utime(file, ns=(1, 1))
    assert open_dataset(file).stat(0) != expected


def test_members_that_point_out_of_the_archive_are_left_out(tmp_path: Path) -> None:
    outside = ["/cat/1.png", "../cat/2.png", "cat/../../3.png", "C:/cat/4.png", "\\cat\\5.png"]
    names = [*outside, "cat/6.png", "./dog//7.png"]
    data = open_dataset(zipped(tmp_path / "x.zip", dict.fromkeys(names, png())))
    assert labelled(data) == {"cat/6.png": "cat", "dog/7.png": "dog"}
    (note,) = data.notes
    assert note.startswith("left out, pointing out of the archive: '../cat/2.png', ")
    assert data.read(1) == png()


def test_names_with_backslashes_are_paths(tmp_path: Path) -> None:
    data = open_dataset(zipped(tmp_path / "x.zip", {"d\\cat\\1.png": png(), "d\\dog\\2.png": png()}))
    assert labelled(data) == {"d/cat/1.png": "cat", "d/dog/2.png": "dog"}


def test_a_member_that_is_there_twice_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("cat/1.png", png(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/1.png", png(2))
        archive.writestr("dog/2.png", png(3))
    data = open_dataset(tmp_path / "x.zip")
    assert "more than once in the archive, the last one counts: 'cat/1.png'" in data.notes
    assert data.read(0) == png(2)


def test_a_member_nested_beyond_reason_is_just_a_path(tmp_path: Path) -> None:
    deep = "cat/" * 12000 + "1.png"
    data = open_dataset(zipped(tmp_path / "x.zip", {deep: png(), "dog/2.png": png()}))
    assert labelled(data) == {deep: "cat", "dog/2.png": "dog"}


def patched(file: Path, name: bytes, offset: int, value: int, kind: str = "<I") -> None:
    """Overwrites a field of the entry of `name` in the archive's directory, `offset` bytes from its start."""
    data = bytearray(file.read_bytes())
    entry = data.rindex(name) - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    struct.pack_into(kind, data, entry + offset, value)
    file.write_bytes(data)


FLAGS, METHOD, CRC, UNPACKED_SIZE = 8, 10, 16, 24  # APPNOTE.TXT 4.3.12


@pytest.mark.parametrize(
    ("offset", "kind", "value", "reason"),
    [
        (UNPACKED_SIZE, "<I", 2**29 + 1, "file of 536,870,913 bytes unpacked, more than the limit of .*"),
        (UNPACKED_SIZE, "<I", 100, r"damaged in the archive: Bad CRC-32.*"),
        (UNPACKED_SIZE, "<I", 100_000_000, r"damaged in the archive: .*"),
        (CRC, "<I", 0, r"damaged in the archive: Bad CRC-32.*"),
        (FLAGS, "<H", 1, "encrypted in the archive"),
        (METHOD, "<H", 97, r"damaged in the archive: .*compression.*"),
    ],
    ids=["too large", "claims less", "claims more", "wrong checksum", "encrypted", "unknown method"],
)
def test_a_member_that_cannot_be_trusted_is_a_picture_error(
    tmp_path: Path, offset: int, kind: str, value: int, reason: str
) -> None:
    """The bomb, 10 MB of zeros, is unpacked no further than it claims; its neighbor can be read."""
    file = zipped(tmp_path / "x.zip", {"cat/bomb.png": png() + bytes(10_000_000), "dog/2.png": png()})
    assert len(open_dataset(file).read(0) or b"") == len(png()) + 10_000_000
    patched(file, b"cat/bomb.png", offset, value, kind)
    data = open_dataset(file)
    assert list(labelled(data)) == ["cat/bomb.png", "dog/2.png"]
    with pytest.raises(PictureError) as caught:
        data.read(0)
    assert re.fullmatch(reason, caught.value.reason)
    assert data.read(1) == png()


def test_unpacking_stops_at_the_claimed_size(tmp_path: Path) -> None:
    """A member that claims 100 bytes and holds 64 MiB costs no 64 MiB of memory."""
    import tracemalloc

    file = zipped(tmp_path / "x.zip", {"cat/bomb.png": bytes(64 * 2**20), "dog/2.png": png()})
    patched(file, b"cat/bomb.png", UNPACKED_SIZE, 100)
    data = open_dataset(file)
    tracemalloc.start()
    try:
        with pytest.raises(PictureError):
            data.read(0)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 but no archive")
    with pytest.raises(DataError, match="no data set"):
        open_dataset(tmp_path / "x.zip")
    file = zipped(tmp_path / "y.zip", {"cat/1.png": png()})
    patched(file, b"cat/1.png", 0, 0)
    with pytest.raises(DataError, match=r"cannot be opened: .*pack it again"):
        open_dataset(file)


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "zip"])
def test_many_threads_read_at_once(tmp_path: Path, pack: bool) -> None:
    members = {f"{'ab'[i % 2]}/{i:03}.png": png(i) for i in range(200)}
    source = zipped(tmp_path / "x.zip", members)
    if not pack:
        source = tmp_path / "folder"
        zipfile.ZipFile(tmp_path / "x.zip").extractall(source)
    data = open_dataset(source)
    start = threading.Barrier(8)

    def read_all(_: int) -> bool:
        start.wait()
        return all(
            data.read(i) == members[item.path] and data.picture(i).pixels[0, 0, 0] == int(item.path[2:5])
            for i, item in enumerate(data.items)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read_all, range(8)))


# Tables


def test_a_csv_names_paths_labels_splits_and_groups(tmp_path: Path) -> None:
    write(tmp_path, "img/1.png", "img/2.png", "img/3.png")
    file = write_text(
        tmp_path / "t.csv", "File,Class,Subset,Patient", "img/1.png, cat ,train,P1", "./img/2.png,dog,VAL,P2",
        "img//3.png,cat,test,",
    )  # fmt: skip
    data = open_dataset(file)
    assert labelled(data) == {"img/1.png": "cat", "img/2.png": "dog", "img/3.png": "cat"}
    assert splits(data) == {"img/1.png": "train", "img/2.png": "validation", "img/3.png": "test"}
    assert groups(data) == {"img/1.png": "P1", "img/2.png": "P2", "img/3.png": None}
    assert data.notes[:3] == ("paths: column 'File'", "labels: column 'Class'", "splits: column 'Subset'")
    assert data.notes[3] == "groups: column 'Patient', 2 groups"
    assert (data.kind, data.name) == ("table", "t")
    assert data.read(0) == png()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_delimiters_quotes_and_byte_order_marks(tmp_path: Path, delimiter: str, bom: str) -> None:
    names = ["a,b.png", "c;d.png", "e\tf.png", 'g"h.png', "i\nj.png"]
    write(tmp_path, *names)
    rows = [["path", "label"], *([name, "x"] for name in names)]
    lines = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    data = open_dataset(write_text(tmp_path / "t.csv", bom + lines[0], "", *lines[1:]))
    assert labelled(data) == dict.fromkeys(names, "x")


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    write(tmp_path, "1.png", "2.png", "3.png")
    table = {
        "path": ["1.png", "2.png", "3.png"], "label": pyarrow.array([7, 8, 7]).dictionary_encode(),
        "group": ["a", None, "b"], "image": [{"bytes": b""}] * 3,
    }  # fmt: skip
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    data = open_dataset(tmp_path / "t.parquet")
    assert labelled(data) == {"1.png": "7", "2.png": "8", "3.png": "7"}
    assert groups(data) == {"1.png": "a", "2.png": None, "3.png": "b"}


def test_parquet_without_pyarrow_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r'pip install "pellucid\[parquet\]"'):
        open_dataset(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", b"", "has no rows"),
        ("t.csv", b"path,label\n", "has no rows"),
        ("t.csv", b"path,label\n\xe4.png,x\n", "no UTF-8 text: byte 11 is 0xe4.*'CSV UTF-8'"),
        ("t.csv", b'path,label\n"a.png"x,y\n', "is no CSV"),
        ("t.csv", b"path,label,label\na,b,c\n", "has two columns 'label'"),
        ("t.csv", b"path,label\na,b\na,b,c\nd\n", "2 rows of .* the 2 cells of the header: row 2, 3 "),
        ("t.csv", b"path,label\na.png,\n,b\nc,d\n", "2 rows of .* without a path or a label: row 1, 2 "),
        ("t.csv", b"path,kind\na,b\n", "name for labels .*columns are 'path', 'kind'.*--label-column"),
        ("t.csv", b"where,label\na,b\n", "name for paths .*--path-column"),
        ("t.csv", b"path,label,split\n1.png,b,train\n1.png,b,tset\n", "hold 'tset'; expected train"),
        ("t.csv", b"path,label\n1.png,b\n./1.png,c\n", r"contradict .*: '1.png \(b\)', '1.png \(c\)'"),
        ("t.csv", b"path,label,split\n1.png,b,train\n1.png,b,test\n", r"contradict .*'1.png \(b, test\)'"),
        ("t.parquet", b"PAR1 and no more", "is no Parquet"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (write(tmp_path, "1.png") / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){told}"):
        open_dataset(tmp_path / name)


def test_named_columns_come_before_usual_ones_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "2.png")
    rows = ["path,label,species,fold,who", "1.png,a,cat,train,x", "2.png,b,dog,test,y"]
    file = write_text(tmp_path / "t.csv", *rows)
    data = open_dataset(file, label_column="species", split_column="fold", group="who")
    assert labelled(data) == {"1.png": "cat", "2.png": "dog"}
    assert splits(data) == {"1.png": "train", "2.png": "test"}
    assert groups(data) == {"1.png": "x", "2.png": "y"}
    for option in ("path_column", "label_column", "split_column", "group"):
        with pytest.raises(UnknownNameError, match=r"no column 'spices'.*'who'\. Did you mean species\?"):
            open_dataset(file, **{option: "spices"})  # type: ignore[arg-type]


def test_a_column_with_parentheses_is_no_pattern(tmp_path: Path) -> None:
    file = write_text(write(tmp_path, "1.png") / "t.csv", "path,label,who (id)", "1.png,a,x")
    assert groups(open_dataset(file, group="who (id)")) == {"1.png": "x"}


def test_a_guessed_column_without_splits_is_no_split(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "2.png")
    file = write_text(tmp_path / "t.csv", "path,label,set", "1.png,a,blue", "2.png,b,red")
    assert set(splits(open_dataset(file)).values()) == {None}
    with pytest.raises(DataError, match="hold 'blue', 'red'"):
        open_dataset(file, split_column="set")


def test_an_empty_group_leaves_the_groups_of_a_table_out(tmp_path: Path) -> None:
    file = write_text(write(tmp_path, "1.png") / "t.csv", "path,label,patient", "1.png,a,P1")
    assert groups(open_dataset(file)) == {"1.png": "P1"}
    assert groups(open_dataset(file, group="")) == {"1.png": None}


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "2.png")
    data = open_dataset(write_text(tmp_path / "t.csv", "path,label", "1.png,a", "./1.png,a", "2.png,b"))
    assert labelled(data) == {"1.png": "a", "2.png": "b"}
    assert "1 row of 't.csv' left out as repeated" in data.notes


def test_a_few_missing_files_stay_as_unreadable_items(tmp_path: Path) -> None:
    write(tmp_path, "1.png", "2.png")
    file = write_text(tmp_path / "t.csv", "path,label", "1.png,a", "2.png,b", "gone.png,b", "nul\0.png,b")
    data = open_dataset(file)
    assert list(labelled(data)) == ["1.png", "2.png", "gone.png", "nul\0.png"]
    assert r"2 files of 't.csv' missing: 'gone.png', 'nul\x00.png'" in data.notes
    with pytest.raises(PictureError, match=r"^file is missing$"):
        data.read(2)
    with pytest.raises(PictureError, match=r"^cannot be read: embedded null byte$"):
        data.read(3)
    assert data.stat(2) is data.stat(3) is None


def test_mostly_missing_files_mean_a_wrong_root(tmp_path: Path) -> None:
    write(tmp_path / "pictures", *(f"{i}.png" for i in range(7)))
    file = write_text(tmp_path / "t.csv", "path,label", *(f"{i}.png,{i % 2}" for i in range(7)))
    told = r"^Of 7 pictures in 't.csv' 7 are missing: '0.png', .*'4.png' and 2 more\. .*--root"
    with pytest.raises(DataError, match=told):
        open_dataset(file)
    data = open_dataset(file, root=tmp_path / "pictures")
    assert len(data) == 7
    assert data.read(0) == png()


def test_paths_of_a_table_may_lead_out_of_its_folder_on_disk(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", "b/2.png", "b/3.png")
    file = write_text(
        tmp_path / "a" / "t.csv",
        "path,label",
        "1.png,x",
        "../b/2.png,y",
        f"{tmp_path}/b/3.png,y",
        f"{tmp_path}/a/1.png,x",
    )
    data = open_dataset(file)
    assert list(labelled(data)) == sorted(["1.png", "../b/2.png", f"{tmp_path}/b/3.png"])
    assert all(data.read(i) == png() for i in range(3))


@pytest.mark.skipif(os.sep != "/", reason="on Windows a backslash is the separator")
def test_backslashes_in_a_table_are_tried_as_slashes(tmp_path: Path) -> None:
    write(tmp_path, "img/1.png", "img\\2.png")
    data = open_dataset(write_text(tmp_path / "t.csv", "path,label", "img\\1.png,a", "img\\2.png,b"))
    assert labelled(data) == {"img/1.png": "a", "img\\2.png": "b"}


def test_class_folders_come_before_a_table_and_the_note_says_how_to_use_it(tmp_path: Path) -> None:
    root = write(tmp_path / "my photos", "cat/1.png", "dog/2.png")
    write_text(root / "patients.csv", "path,label,patient", "cat/1.png,x,P1", "dog/2.png,y,P2")
    data = open_dataset(root)
    assert data.classes == ("cat", "dog")
    assert f"'patients.csv' is not used; to use it: pellucid check '{root}/patients.csv'" in data.notes
    assert open_dataset(root / "patients.csv").classes == ("x", "y")


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("options", [{"label_column": "kind"}, {"group": "patient"}, {"root": "."}], ids=str)
def test_a_named_column_makes_a_folder_read_its_table(tmp_path: Path, pack: bool, options: dict[str, str]) -> None:
    table = "path,label,kind,patient\ncat/1.png,c,x,P1\ndog/2.png,d,y,P2\n"
    file = zipped(tmp_path / "x.zip", {"cat/1.png": png(), "dog/2.png": png(), "patients.csv": table})
    if not pack:
        zipfile.ZipFile(file).extractall(tmp_path / "x")
        file = tmp_path / "x"
    if options == {"root": "."} and not pack:
        options = {"root": str(file)}
    data = open_dataset(file, **options)  # type: ignore[arg-type]
    assert data.classes == (("x", "y") if "label_column" in options else ("c", "d"))
    assert [item.label for item in data.items] == [0, 1]
    assert set(groups(data).values()) == {"P1", "P2"}


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "zip"])
def test_a_folder_with_a_table_and_no_class_folders_is_read_by_it(tmp_path: Path, pack: bool) -> None:
    table = "path,label\nimages/1.png,x\nimages/2.png,y\n../outside.png,y\n"
    members = {"d/images/1.png": png(1), "d/images/2.png": png(2), "d/labels.csv": table}
    source = zipped(tmp_path / "x.zip", members)
    if not pack:
        zipfile.ZipFile(source).extractall(tmp_path / "x")
        source = tmp_path / "x"
    data = open_dataset(source)
    assert labelled(data) == {"d/images/1.png": "x", "d/images/2.png": "y", "d/../outside.png": "y"}
    assert "labels: table 'd/labels.csv'" in data.notes
    assert data.read(2) == png(2)
    with pytest.raises(PictureError, match="file is missing"):
        data.read(0)


def test_the_root_of_a_table_in_an_archive_lies_in_the_archive(tmp_path: Path) -> None:
    members = {"images/1.png": png(), "images/2.png": png(), "labels.csv": "path,label\n1.png,x\n2.png,y\n"}
    data = open_dataset(zipped(tmp_path / "x.zip", members), root=Path("images"))
    assert labelled(data) == {"images/1.png": "x", "images/2.png": "y"}


def test_a_column_without_a_table_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.png", "dog/2.png")
    with pytest.raises(ConfigError, match=r"'patient' goes with a table, but .* holds none.* '\(C\[0-9\]\+\)'"):
        open_dataset(tmp_path, group="patient")
    for name in ("a.csv", "b.tsv"):
        write_text(tmp_path / name, "path,label", "cat/1.png,x")
    with pytest.raises(ConfigError, match=r"holds several \('a.csv', 'b.tsv'\): name one of them"):
        open_dataset(tmp_path, label_column="label")


# Groups


def test_a_pattern_finds_groups_in_paths(tmp_path: Path) -> None:
    write(tmp_path, "cat/C1P7.png", "cat/C22P1.png", "dog/C1P9.png")
    data = open_dataset(tmp_path, group="(C[0-9]+)P")
    assert groups(data) == {"cat/C1P7.png": "C1", "cat/C22P1.png": "C22", "dog/C1P9.png": "C1"}
    assert "groups: '(C[0-9]+)P' finds 2 groups" in data.notes


def test_a_pattern_works_on_the_paths_of_a_table(tmp_path: Path) -> None:
    write(tmp_path, "C1.png", "C2.png")
    file = write_text(tmp_path / "t.csv", "path,label,patient", "C1.png,a,x", "C2.png,b,x")
    assert groups(open_dataset(file, group="C([0-9])")) == {"C1.png": "1", "C2.png": "2"}


@pytest.mark.parametrize(
    ("pattern", "error", "told"),
    [
        ("(C[0-9]+)P", DataError, r"not found in 1 of 2 paths: 'dog/x.png'\. Expected a group for every"),
        ("C([0-9]*)", DataError, "not found in 1 of 2 paths"),
        ("()", DataError, "not found in 2 of 2 paths"),
        ("(C", ConfigError, "no regular expression: missing \\)"),
        ("(C)(1)", ConfigError, "has 2 pairs of parentheses"),
        ("(?:C)", ConfigError, "has 0 pairs of parentheses"),
    ],
)
def test_a_pattern_must_find_one_group_in_every_path(
    tmp_path: Path, pattern: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        open_dataset(write(tmp_path, "cat/C1P1.png", "dog/x.png"), group=pattern)


# Arrays


def test_arrays_keep_pixels_labels_and_order() -> None:
    images = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)
    data = open_dataset((images, ["b", "a", "b", "c"]))
    assert labelled(data) == {"00000": "b", "00001": "a", "00002": "b", "00003": "c"}
    assert all(np.array_equal(data.picture(i).pixels, images[i]) for i in range(4))
    assert data.read(0) is data.stat(0) is None
    assert (data.kind, data.source, data.name) == ("arrays", "arrays", "arrays")


def test_more_than_a_hundred_thousand_arrays_stay_in_order() -> None:
    data = from_arrays(np.zeros((100_001, 1, 1), np.uint8), np.arange(100_001) % 2)
    assert [data.items[i].path for i in (0, 99_999, 100_000)] == ["000000", "099999", "100000"]
    assert [data.items[i].label for i in (0, 99_999, 100_000)] == [0, 1, 0]


def test_channels_come_first_in_tensors_and_last_in_arrays() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
    tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    labels = torch.tensor([0, 1, 0, 1, 0])
    for images in (pixels, tensors, tensors.contiguous(), list(pixels), list(tensors), tuple(pixels)):
        data = from_arrays(images, labels)
        assert all(np.array_equal(data.picture(i).pixels, pixels[i]) for i in range(5))
    grey = from_arrays(torch.from_numpy(pixels[..., 0]), labels)
    assert np.array_equal(grey.picture(4).pixels, pixels[4, :, :, :1])
    floats = from_arrays((tensors / 255).requires_grad_(), labels)
    assert np.array_equal(floats.picture(2).pixels, pixels[2])


def test_a_list_may_mix_sizes() -> None:
    data = from_arrays([np.zeros((4, 5), np.uint8), np.zeros((7, 3, 3), np.uint8)], [0, 1])
    assert [data.picture(i).pixels.shape for i in range(2)] == [(4, 5, 1), (7, 3, 3)]


def test_ints_are_indices_into_classes_and_classes_are_sorted() -> None:
    data = from_arrays(np.zeros((3, 2, 2), np.uint8), [0, 1, 0], classes=["zebra", "ant"])
    assert data.classes == ("ant", "zebra")
    assert list(labelled(data).values()) == ["zebra", "ant", "zebra"]
    data = from_arrays(np.zeros((3, 2, 2), np.uint8), [10, 2, 10])
    assert list(labelled(data).values()) == ["10", "2", "10"]


def test_groups_and_splits_of_arrays() -> None:
    images, labels = np.zeros((3, 2, 2), np.uint8), ["a", "b", "a"]
    data = from_arrays(images, labels, groups=np.array([5, 5, 6]), splits=["train", "VAL", None])
    assert list(groups(data).values()) == ["5", "5", "6"]
    assert list(splits(data).values()) == ["train", "validation", None]


ONE = np.zeros((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "options", "told"),
    [
        (ONE, [0], {}, "2 pictures for 1 label; expected as many"),
        (ONE, [0, 1], {"groups": ["a"]}, "1 group for 2 labels"),
        (ONE, [0, 1], {"splits": ["train", "tset"]}, "splits hold 'tset'"),
        (ONE, [0.0, 1.0], {}, "type float64 cannot be used"),
        (ONE, [[0], [1]], {}, r"Labels of shape \(2, 1\)"),
        (ONE, ["a", ""], {}, "1 label of 2 are empty"),
        (ONE, [0, 2], {"classes": ["a", "b"]}, r"labels hold \[2\]; expected indices from 0 to 1"),
        (ONE, ["a", "c"], {"classes": ["a", "b"]}, "labels hold 'c'; expected names out of 'a', 'b'"),
        (ONE[:0], [], {}, "no pictures"),
        (ONE[0], [0, 1, 0, 1], {}, r"shape \(4, 4\) cannot be used; expected \(number, height, width"),
        (np.zeros((2, 3, 32, 32)), [0, 1], {}, r"shape \(2, 3, 32, 32\) .*channels in the wrong place"),
        (torch.zeros(2, 32, 32, 3), [0, 1], {}, r"shape \(2, 32, 32, 3\) .*channels in the wrong place"),
        (ONE + 200.0, [0, 1], {}, "first picture cannot be used: floating-point levels from 200 to 200"),
        (ONE.astype(np.int64), [0, 1], {}, "first picture cannot be used: array of int64"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(images: object, labels: object, options: dict, told: str) -> None:
    with pytest.raises(DataError, match=told):
        from_arrays(images, labels, **options)


def test_options_for_files_are_refused_for_arrays_and_digits() -> None:
    for source in ((ONE, [0, 1]), "digits"):
        with pytest.raises(ConfigError, match="go with files"):
            open_dataset(source, group="(0)")


# Digits


def test_the_digits_are_those_of_scikit_learn(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, targets = digits
    monkeypatch.chdir(tmp_path)
    data = open_dataset("digits")
    assert data.classes == tuple("0123456789")
    assert [item.label for item in data.items] == targets.tolist()
    assert all(np.array_equal(data.picture(i).pixels[..., 0], images[i]) for i in range(1797))
    assert (data.kind, data.source, data.name, data.notes) == ("digits", "digits", "digits", ())


def test_a_folder_called_digits_is_told_and_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, "digits/a/1.png").resolve())
    assert open_dataset("./digits").classes == ("a",)
    data = open_dataset("digits")
    assert len(data) == 1797
    assert "./digits" in data.notes[0]


# Real data sets


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "num_pictures", "num_classes", "given"),
    [
        ("cifar10-jpeg", 60_000, 10, {"train": 50_000, "test": 10_000}),
        ("malaria-gray50", 27_558, 2, {None: 27_558}),
        ("clothing", 3_781, 10, None),
    ],
)
def test_real_archives(
    shared: Path, name: str, num_pictures: int, num_classes: int, given: dict[str | None, int] | None
) -> None:
    """The figures are those of the archives' own description."""
    data = open_dataset(shared / "data" / f"{name}.zip")
    assert (len(data), len(data.classes)) == (num_pictures, num_classes)
    found = [item.split for item in data.items]
    assert given is None or {split: found.count(split) for split in set(found)} == given
    assert data.picture(0).pixels.dtype == np.uint8


@pytest.mark.shared
def test_patients_of_the_table_are_those_in_the_names(shared: Path) -> None:
    file = shared / "data" / "malaria-gray50.zip"
    by_table = open_dataset(file, group="patient")
    by_pattern = open_dataset(file, group="(C[0-9]+)")
    assert groups(by_table) == groups(by_pattern)
    assert labelled(by_table) == labelled(by_pattern)
    assert len(set(groups(by_table).values())) == 200
