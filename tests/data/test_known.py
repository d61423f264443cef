"""Well-known sets: torchvision reads the same pictures, names and splits; files are checked, fetched and unpacked whole."""

from __future__ import annotations

import csv
import gzip
import hashlib
import inspect
import io
import json
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets as peers
from PIL import Image
from scipy.io import savemat

from pellucid.data import fetch, known
from pellucid.data.dataset import Dataset, open_dataset
from pellucid.data.fetch import Source, set_folder
from pellucid.data.known import KNOWN
from pellucid.data.manifest import make_manifest
from pellucid.data.reopen import reopen
from pellucid.data.scan import scan
from pellucid.errors import ConfigError, DataError
from pellucid.evaluation.measure import evaluate
from pellucid.training.pipeline import train

Files = dict[str, bytes]
RNG = np.random.default_rng(7)


def picture(kind: str, height: int = 9, width: int = 11) -> bytes:
    """A file of noise; JPEG is written losslessly enough by being read by the same decoder on both sides."""
    content = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(content, kind)
    return content.getvalue()


def tar_gz(files: Files) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def zipped(files: Files) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def mat(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    savemat(content, arrays)
    return content.getvalue()


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(int(n).to_bytes(4) for n in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def mnist(digits: tuple[np.ndarray, np.ndarray]) -> Files:
    """Real digits, enlarged to 28 x 28; the first 400 to train, 100 to test."""
    images = np.pad(digits[0][:500].repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))
    labels = digits[1][:500].astype(np.uint8)
    return {
        "train-images-idx3-ubyte.gz": idx(images[:400]), "train-labels-idx1-ubyte.gz": idx(labels[:400]),
        "t10k-images-idx3-ubyte.gz": idx(images[400:]), "t10k-labels-idx1-ubyte.gz": idx(labels[400:]),
    }  # fmt: skip


def svhn() -> Files:
    parts = {}
    for split, labels in (("train", [10, 1, 2, 10, 9]), ("test", [3, 10])):
        images = RNG.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        parts[f"{split}_32x32.mat"] = mat(X=images, y=np.array(labels, np.uint8)[:, None])
    return parts


def stl10() -> Files:
    files = {"stl10_binary/class_names.txt": b"airplane\nbird\ncar\n", "stl10_binary/unlabeled_X.bin": b"much"}
    for split, labels in (("train", [1, 2, 3]), ("test", [3, 1])):
        files[f"stl10_binary/{split}_X.bin"] = RNG.bytes(len(labels) * 3 * 96 * 96)
        files[f"stl10_binary/{split}_y.bin"] = bytes(labels)
    return {"stl10_binary.tar.gz": tar_gz(files)}


def eurosat() -> Files:
    names = ("Forest/Forest_1", "Forest/Forest_2", "River/River_1")
    return {"EuroSAT.zip": zipped({f"2750/{name}.jpg": picture("JPEG") for name in names})}


def flowers102() -> Files:
    labels = np.array([77, 77, 5, 102, 5, 1, 5])
    return {
        "102flowers.tgz": tar_gz({f"jpg/image_{n:05d}.jpg": picture("JPEG") for n in range(1, 8)}),
        "imagelabels.mat": mat(labels=labels[None]),
        "setid.mat": mat(trnid=np.array([[1, 4]]), valid=np.array([[6, 7]]), tstid=np.array([[2, 3, 5]])),
    }


def food101() -> Files:
    files = {f"food-101/images/{name}.jpg": picture("JPEG") for name in ("apple_pie/1", "apple_pie/2", "tacos/3")}
    files["food-101/meta/train.json"] = json.dumps({"apple_pie": ["apple_pie/1"], "tacos": ["tacos/3"]}).encode()
    files["food-101/meta/test.json"] = json.dumps({"apple_pie": ["apple_pie/2"], "tacos": []}).encode()
    return {"food-101.tar.gz": tar_gz(files)}


def oxford_pets() -> Files:
    names = ("Egyptian_Mau_14", "Egyptian_Mau_2", "pug_1", "pug_20")
    return {
        "images.tar.gz": tar_gz({f"images/{name}.jpg": picture("JPEG") for name in names}),
        "annotations.tar.gz": tar_gz({
            "annotations/trainval.txt": b"Egyptian_Mau_14 1 1 5\npug_1 2 2 25\n",
            "annotations/test.txt": b"Egyptian_Mau_2 1 1 5\npug_20 2 2 25\n",
            "annotations/._test.txt": b"left by a Mac",
        }),
    }  # fmt: skip


def dtd() -> Files:
    names = [f"{texture}/{texture}_{k:02d}.jpg" for texture in ("banded", "woven") for k in (1, 2, 3)]
    files = {f"dtd/images/{name}": picture("JPEG") for name in names}
    files["dtd/labels/train1.txt"] = b"banded/banded_01.jpg\nwoven/woven_02.jpg\n"
    files["dtd/labels/val1.txt"] = b"woven/woven_01.jpg\nbanded/banded_03.jpg\n"
    files["dtd/labels/test1.txt"] = b"banded/banded_02.jpg\nwoven/woven_03.jpg\n"
    return {"dtd-r1.0.1.tar.gz": tar_gz(files)}


def gtsrb() -> Files:
    """Three signs of two kinds, filmed twice each."""
    training = {
        f"GTSRB/Training/{label:05d}/{track:05d}_{frame:05d}.ppm": picture("PPM")
        for label, track in ((0, 0), (0, 1), (14, 0))
        for frame in (0, 1)
    }
    training["GTSRB/Training/00000/GT-00000.csv"] = b"Filename;Width\n"
    truth = "Filename;Width;ClassId\n00000.ppm;11;14\n00001.ppm;11;0\n"
    return {
        "GTSRB-Training_fixed.zip": zipped(training),
        "GTSRB_Final_Test_Images.zip": zipped({f"GTSRB/Final_Test/Images/0000{k}.ppm": picture("PPM") for k in (0, 1)}),
        "GTSRB_Final_Test_GT.zip": zipped({"GT-final_test.csv": truth.encode()}),
    }


def caltech101() -> Files:
    names = ("accordion/image_0001", "accordion/image_0002", "yin_yang/image_0001", "BACKGROUND_Google/image_0001")
    inner = {f"101_ObjectCategories/{name}.jpg": picture("JPEG") for name in names}
    return {
        "caltech-101.zip": zipped({
            "caltech-101/101_ObjectCategories.tar.gz": tar_gz(inner),
            "caltech-101/Annotations.tar": b"not wanted",
            "__MACOSX/caltech-101/._101_ObjectCategories.tar.gz": b"left by a Mac",
        })
    }  # fmt: skip


def put(name: str, files: Files, monkeypatch: pytest.MonkeyPatch, address: str = "http://127.0.0.1:9") -> None:
    """The files of a set in its folder, and their checksums in the place of the published ones."""
    home = set_folder(name)
    home.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (home / file).write_bytes(data)
    publish(name, files, monkeypatch, address)


def publish(name: str, files: Files, monkeypatch: pytest.MonkeyPatch, address: str = "http://127.0.0.1:9") -> None:
    assert [source.name for source in KNOWN[name].sources] == list(files)
    sources = tuple(Source(f"{address}/{file}", hashlib.md5(data).hexdigest()) for file, data in files.items())
    monkeypatch.setitem(KNOWN, name, replace(KNOWN[name], sources=sources))


def content(data: Dataset) -> Counter[tuple[bytes, str, str | None]]:
    """Pixels (as RGB), class and split of every picture."""
    found = (
        (np.broadcast_to(data.picture(i).pixels, (*data.picture(i).pixels.shape[:2], 3)).tobytes(), item)
        for i, item in enumerate(data.items)
    )
    return Counter((pixels, data.classes[item.label], item.split) for pixels, item in found)


def peer_content(
    parts: dict[str | None, object], names: Callable[[int], str]
) -> Counter[tuple[bytes, str, str | None]]:
    return Counter(
        (np.asarray(image.convert("RGB")).tobytes(), names(int(label)), split)
        for split, part in parts.items()
        for image, label in (part[i] for i in range(len(part)))  # type: ignore[index, arg-type]
    )


def test_mnist_is_what_torchvision_reads(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put("mnist", mnist(digits), monkeypatch)
    data = open_dataset("mnist")
    assert (data.kind, data.source, data.name, len(data)) == ("known", "mnist", "mnist", 500)
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(set_folder("mnist") / "unpacked")
    parts = {split: peers.MNIST(tmp_path, train=split == "train") for split in ("train", "test")}
    assert content(data) == peer_content(parts, peers.MNIST.classes.__getitem__)
    assert data.picture(0).pixels.shape == (28, 28, 1)


def test_svhn_is_what_torchvision_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    put("svhn", svhn(), monkeypatch)
    monkeypatch.setattr(peers.SVHN, "_check_integrity", lambda self: True)
    data = open_dataset("svhn")
    parts = {split: peers.SVHN(set_folder("svhn"), split=split) for split in ("train", "test")}
    assert content(data) == peer_content(parts, str)
    assert data.classes == ("0", "1", "2", "3", "9")


def test_stl10_is_what_torchvision_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    put("stl10", stl10(), monkeypatch)
    monkeypatch.setattr(peers.STL10, "_check_integrity", lambda self: True)
    data = open_dataset("stl10")
    place = set_folder("stl10") / "unpacked"
    parts = {split: peers.STL10(place, split=split) for split in ("train", "test")}
    assert content(data) == peer_content(parts, parts["train"].classes.__getitem__)
    assert not (place / "stl10_binary" / "unlabeled_X.bin").exists()


FOLDERS = {  # set -> its files, torchvision's class, the link that torchvision wants, what it calls the splits
    "eurosat": (eurosat, peers.EuroSAT, "eurosat", {None: {}}),
    "flowers102": (flowers102, peers.Flowers102, "flowers-102",
                   {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}),
    "food101": (food101, peers.Food101, "", {"train": {"split": "train"}, "test": {"split": "test"}}),
    "oxford-pets": (oxford_pets, peers.OxfordIIITPet, "oxford-iiit-pet",
                    {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "dtd": (dtd, peers.DTD, "dtd", {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}),
    "caltech101": (caltech101, peers.Caltech101, "caltech101", {None: {}}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_sets_of_files_are_what_torchvision_reads(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files, peer, link, splits = FOLDERS[name]
    put(name, files(), monkeypatch)
    monkeypatch.setattr(peers.Flowers102, "_check_integrity", lambda self: True)
    data = open_dataset(name)
    unpacked = set_folder(name) / "unpacked"
    root = tmp_path if link else unpacked
    if link:
        (tmp_path / link).symlink_to(unpacked / "caltech-101" if name == "caltech101" else unpacked)
    parts = {split: peer(root, **arguments) for split, arguments in splits.items()}
    some = next(iter(parts.values()))
    classes = some.categories if name == "caltech101" else some.classes
    assert content(data) == peer_content(parts, classes.__getitem__)
    assert all(data.read(i) is not None for i in range(len(data)))  # files, not arrays: nothing is in memory


def test_gtsrb_is_what_torchvision_reads_and_its_tracks_are_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put("gtsrb", gtsrb(), monkeypatch)
    data = open_dataset("gtsrb")
    (tmp_path / "gtsrb").symlink_to(set_folder("gtsrb") / "unpacked")
    train = peers.GTSRB(tmp_path, split="train")  # numbers the two folders 0 and 1
    test = peers.GTSRB(tmp_path, split="test")
    assert content(data) == peer_content({"train": train}, ["00000", "00014"].__getitem__) + peer_content(
        {"test": test}, "{:05d}".format
    )
    assert {item.group for item in data.items} == {"00000/00000", "00000/00001", "00014/00000", None}


def cifar(
    labels: int, names: str, parts: dict[str, int], classes: tuple[str, ...]
) -> tuple[Files, list[tuple[int, bytes]]]:
    """Rows of labels and levels, the fine label last; and what is in them: (class, levels plane by plane)."""
    files: Files = {names: "\n".join([*classes, ""]).encode()}
    rows = []
    for file, count in parts.items():
        data = b""
        for _ in range(count):
            label, levels = int(RNG.integers(len(classes))), RNG.bytes(3072)
            data += bytes([99] * (labels - 1) + [label]) + levels
            rows.append((label, levels))
        files[file] = data
    return files, rows


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_its_plain_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "cifar10":
        batches = {f"cifar-10-batches-bin/data_batch_{k}.bin": 4 for k in range(1, 6)}
        parts = batches | {"cifar-10-batches-bin/test_batch.bin": 3}
        files, rows = cifar(1, "cifar-10-batches-bin/batches.meta.txt", parts, ("airplane", "frog", "truck"))
    else:
        parts = {"cifar-100-binary/train.bin": 20, "cifar-100-binary/test.bin": 3}
        files, rows = cifar(2, "cifar-100-binary/fine_label_names.txt", parts, ("airplane", "frog", "truck"))
    archive = KNOWN[name].sources[0].name
    put(name, {archive: tar_gz(files)}, monkeypatch)
    data = open_dataset(name)
    assert len(data) == 23
    assert [item.split for item in data.items] == ["train"] * 20 + ["test"] * 3
    for i, (label, levels) in enumerate(rows):
        red, green, blue = (np.frombuffer(levels[k * 1024 : (k + 1) * 1024], np.uint8) for k in range(3))
        pixels = data.picture(i).pixels
        assert data.classes[data.items[i].label] == ("airplane", "frog", "truck")[label]
        assert np.array_equal(pixels[..., 0].ravel(), red)
        assert np.array_equal(pixels[..., 1].ravel(), green)
        assert np.array_equal(pixels[..., 2].ravel(), blue)


PEERS = {
    "mnist": peers.MNIST, "fashion-mnist": peers.FashionMNIST, "kmnist": peers.KMNIST, "stl10": peers.STL10,
    "svhn": peers.SVHN, "gtsrb": peers.GTSRB, **{name: entry[1] for name, entry in FOLDERS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_names_and_checksums_are_those_of_torchvision(name: str) -> None:
    for source in KNOWN[name].sources:
        assert len(source.md5) == 32
        if name.startswith("cifar"):
            assert source.name.endswith("-binary.tar.gz")
            continue
        text = inspect.getsource(PEERS[name])
        assert source.md5 in text
        assert source.name in text


def test_no_set_is_pickled() -> None:
    """torchvision reads CIFAR with pickle; nothing here may."""
    for module in (known, fetch):
        assert "pickle" not in inspect.getsource(module).replace("pickled version", "")


def test_what_is_unpacked_needs_its_archive_no_longer(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", mnist(digits), monkeypatch)
    first = content(open_dataset("mnist"))
    for file in set_folder("mnist").glob("*.gz"):
        file.unlink()
    assert content(open_dataset("mnist")) == first


def test_a_file_with_another_checksum_is_named_and_nothing_is_unpacked(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist", mnist(digits), monkeypatch)
    bad = set_folder("mnist") / "t10k-labels-idx1-ubyte.gz"
    good = bad.read_bytes()
    bad.write_bytes(good[:-1])
    with pytest.raises(
        DataError, match=rf"t10k-labels-idx1-ubyte.gz' is not the published file.*{hashlib.md5(good).hexdigest()}"
    ):
        open_dataset("mnist")
    assert not (set_folder("mnist") / "unpacked").exists()
    bad.write_bytes(good)
    assert len(open_dataset("mnist")) == 500


def test_an_archive_that_breaks_off_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = food101()["food-101.tar.gz"]
    put("food101", {"food-101.tar.gz": whole[:-2000]}, monkeypatch)  # its own checksum: published like this
    with pytest.raises(DataError, match=r"food-101.tar.gz' cannot be unpacked"):
        open_dataset("food101")
    assert [file.name for file in set_folder("food101").iterdir()] == ["food-101.tar.gz"]


def test_members_that_point_out_of_the_archive_are_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"../../out.txt": b"x", str(tmp_path / "absolute.txt"): b"x", "2750/a/1.jpg": picture("JPEG"),
             "2750/b/1.jpg": picture("JPEG")}  # fmt: skip
    put("eurosat", {"EuroSAT.zip": zipped(files)}, monkeypatch)
    assert len(open_dataset("eurosat")) == 2
    assert not list(tmp_path.iterdir())
    assert not list(set_folder("eurosat").parent.glob("*.txt"))


# Fetching


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A web server on this machine: its folder and address."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_set_is_fetched_by_its_name(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = server
    files = oxford_pets()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    publish("oxford-pets", files, monkeypatch, address)
    told: list[tuple[int, int]] = []
    assert len(open_dataset("oxford-pets", progress=lambda done, total: told.append((done, total)))) == 4
    assert (len(files["images.tar.gz"]), len(files["images.tar.gz"])) in told
    assert sorted(f.name for f in set_folder("oxford-pets").iterdir()) == [
        "annotations.tar.gz",
        "images.tar.gz",
        "unpacked",
    ]


def test_only_what_is_missing_is_fetched(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = server
    files = oxford_pets()
    put("oxford-pets", files, monkeypatch, address)
    (set_folder("oxford-pets") / "images.tar.gz").unlink()
    (folder / "images.tar.gz").write_bytes(files["images.tar.gz"])  # the other is nowhere to be fetched
    assert len(open_dataset("oxford-pets")) == 4


def test_what_was_fetched_and_is_another_file_is_not_kept(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    publish("eurosat", eurosat(), monkeypatch, address)
    (folder / "EuroSAT.zip").write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError, match="is not the published file"):
        open_dataset("eurosat")
    assert not list(set_folder("eurosat").iterdir())


def test_without_a_network_the_files_and_their_place_are_named(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = mnist(digits)
    put("mnist", files, monkeypatch)  # nobody listens at its address
    (set_folder("mnist") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        open_dataset("mnist")
    message = str(caught.value)
    assert "t10k-labels-idx1-ubyte.gz could not be fetched" in message
    assert str(set_folder("mnist")) in message
    assert hashlib.md5(files["t10k-labels-idx1-ubyte.gz"]).hexdigest() in message
    assert "train-images" not in message  # that one is here


# Names


def test_a_folder_of_the_same_name_is_told_apart(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for label in ("a", "b"):
        (tmp_path / "mnist" / label).mkdir(parents=True)
        (tmp_path / "mnist" / label / "1.png").write_bytes(picture("PNG"))
    publish("mnist", mnist(digits), monkeypatch)
    with pytest.raises(DataError, match=r"not on this machine.*'\./mnist'"):  # it was hardly asked for
        open_dataset("mnist")
    put("mnist", mnist(digits), monkeypatch)
    data = open_dataset("mnist")
    assert len(data) == 500
    assert any("./mnist" in note for note in data.notes)
    assert open_dataset("./mnist").kind == "folder"


@pytest.mark.parametrize(
    "typed, meant", [("cifar-10", "cifar10"), ("FashionMNIST", "fashion-mnist"), ("food-101", "food101")]
)
def test_the_nearest_sets_are_named(typed: str, meant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"does not exist.*Did you mean .*{meant}"):
        open_dataset(typed)


def test_columns_do_not_go_with_a_set() -> None:
    with pytest.raises(ConfigError, match="the data set is mnist"):
        open_dataset("mnist", label_column="x")


def test_given_splits_stay_and_a_run_finds_its_set_again(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put("mnist", mnist(digits), monkeypatch)
    run = train("mnist", model="fastnet-8-8-8", epochs=1, out=tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "mnist" / "a").mkdir(parents=True)  # must not be taken for it
    monkeypatch.chdir(elsewhere)
    assert run.read()["source"] == "mnist"
    assert reopen(run.read()).kind == "known"
    measured = evaluate(run)
    assert measured.n == sum(
        1 for row in csv_rows(run.path / "data.csv") if row["split"] == "test" and row["status"] == "used"
    )
    data = open_dataset("mnist")
    manifest = make_manifest(data, scan(data))
    assert {row.split for item, row in zip(data.items, manifest.rows, strict=True) if item.split == "test"} == {"test"}


def csv_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as handle:
        return list(csv.DictReader(handle))
