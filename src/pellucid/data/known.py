"""Well-known data sets by name: where their files come from, and how each lies in them.

Addresses, checksums and class names are torchvision's, save for CIFAR: torchvision reads its pickled version, this
reads the one of plain bytes. Pictures stay where they are: files are opened when they are needed, arrays are mapped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.arrays import Arrays, read_arrays
from pellucid.data.fetch import Progress, Source, is_here, obtain
from pellucid.data.layout import Entries, read_layout
from pellucid.data.sources import Files, Folder, below
from pellucid.errors import DataError

Opened = tuple[Entries, Files | Arrays]
Part = tuple[str, np.ndarray, np.ndarray]  # split, images (N, H, W[, C]), labels (N,)
Row = tuple[str, str, str | None, str | None]  # path, label, split, group


@dataclass(frozen=True)
class KnownSet:
    """`sources` are the files, `read` makes entries of the folder that they were unpacked into, as far as `keep` says."""

    sources: tuple[Source, ...]
    read: Callable[[Path], Opened]
    keep: str = ""


def open_known(name: str, *, progress: Progress | None = None) -> Opened:
    """The pictures of a well-known set, with its given splits; it is fetched when it is not on this machine.

    Raises DataError when it cannot be fetched or is damaged, StorageError.
    """
    known = KNOWN[name]
    folder = obtain(name, known.sources, keep=known.keep, progress=progress)
    try:
        return known.read(folder)
    except (OSError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The well-known set '{name}' is damaged in '{folder}': {error}. Delete this folder, so that it is made anew."
        ) from error


def needs_fetching(name: str) -> bool:
    """Whether the files of the well-known set `name` are not on this machine yet."""
    return not is_here(name, KNOWN[name].sources)


def _from_parts(parts: Sequence[Part], classes: Sequence[str]) -> Opened:
    images = [image for _, pictures, _ in parts for image in pictures]
    labels = np.concatenate([labels.astype(np.int64) for _, _, labels in parts])
    splits = [split for split, _, labels in parts for _ in labels]
    return read_arrays(images, labels, classes=classes, splits=splits)


def _from_rows(rows: Sequence[Row], folder: Path) -> Opened:
    paths, labels, splits, groups = map(list, zip(*rows, strict=True))
    return Entries(paths=paths, labels=labels, splits=splits, groups=groups), Folder(folder)


def _from_folders(folder: Path) -> Opened:
    files = Folder(folder)
    tree, notes = files.tree()
    entries = read_layout(tree, files.head)
    entries.notes = [*notes, *entries.notes]
    return entries, files


def _bytes(file: Path, row: tuple[int, ...], *, skip: int = 0) -> np.ndarray:
    """uint8 (N, *row) on the disk, after `skip` bytes."""
    return np.asarray(np.memmap(file, np.uint8, "r", offset=skip)).reshape(-1, *row)


def _mnist(folder: Path, peer: str) -> Opened:
    """Source of the format: Y. LeCun, The MNIST database; images behind 16 bytes, labels behind 8."""
    parts = []
    for split, name in (("train", "train"), ("test", "t10k")):
        images = _bytes(folder / f"{name}-images-idx3-ubyte", (28, 28), skip=16)
        parts.append((split, images, _bytes(folder / f"{name}-labels-idx1-ubyte", (), skip=8)))
    return _from_parts(parts, _classes(peer))


def _cifar(folder: Path, files: Sequence[tuple[str, str]], names: str, labels: int) -> Opened:
    """Rows of `labels` bytes, the last of which counts, and 3 x 32 x 32 levels. Source: A. Krizhevsky, the set's page."""
    rows = [(split, _bytes(folder / file, (labels + 3072,))) for split, file in files]
    parts = [(s, np.moveaxis(r[:, labels:].reshape(-1, 3, 32, 32), 1, 3), r[:, labels - 1]) for s, r in rows]
    return _from_parts(parts, (folder / names).read_text().split())


def _stl10(folder: Path) -> Opened:
    """Levels column by column, (N, 3, W, H); labels from 1."""
    place = folder / "stl10_binary"
    parts = [
        (
            split,
            _bytes(place / f"{split}_X.bin", (3, 96, 96)).transpose(0, 3, 2, 1),
            _bytes(place / f"{split}_y.bin", ()) - 1,
        )
        for split in ("train", "test")
    ]
    return _from_parts(parts, (place / "class_names.txt").read_text().split())


def _svhn(folder: Path) -> Opened:
    """Images (32, 32, 3, N), and the label 10 for the digit 0."""
    parts = []
    for split in ("train", "test"):
        content = _mat(folder / f"{split}_32x32.mat")
        parts.append((split, np.moveaxis(content["X"], 3, 0), content["y"].ravel() % 10))
    return _from_parts(parts, [str(digit) for digit in range(10)])


def _flowers102(folder: Path) -> Opened:
    labels, splits = _mat(folder / "imagelabels.mat")["labels"].ravel(), _mat(folder / "setid.mat")
    named = (("train", "trnid"), ("validation", "valid"), ("test", "tstid"))
    numbers = [(split, number) for split, key in named for number in splits[key].ravel().tolist()]
    classes = _classes("Flowers102")
    return _from_rows(
        [(f"jpg/image_{n:05d}.jpg", classes[labels[n - 1] - 1], split, None) for split, n in numbers], folder
    )


def _food101(folder: Path) -> Opened:
    rows = []
    for split in ("train", "test"):
        listed = json.loads((folder / f"food-101/meta/{split}.json").read_text())
        rows += [(f"images/{path}.jpg", label, split, None) for label, paths in listed.items() for path in paths]
    return _from_rows(rows, folder / "food-101")


def _oxford_pets(folder: Path) -> Opened:
    """A line is "Egyptian_Mau_14 7 1 5": the file, which says the breed, and numbers."""
    rows = []
    for split, file in (("train", "trainval"), ("test", "test")):
        for line in (folder / f"annotations/{file}.txt").read_text().splitlines():
            name = line.split()[0]
            rows.append((f"images/{name}.jpg", name.rpartition("_")[0].replace("_", " ").title(), split, None))
    return _from_rows(rows, folder)


def _dtd(folder: Path) -> Opened:
    """The first of its ten partitions."""
    rows = []
    for split, file in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        for path in (folder / f"dtd/labels/{file}.txt").read_text().split():
            rows.append((f"images/{path}", path.partition("/")[0], split, None))
    return _from_rows(rows, folder / "dtd")


def _gtsrb(folder: Path) -> Opened:
    """Up to thirty training pictures show one and the same sign: "00007_00012.ppm" is the 13th of the 8th; a group."""
    files = Folder(folder / "GTSRB")
    rows: list[Row] = []
    for place, names in files.tree()[0].items():
        label = place.removeprefix("Training/")
        for name in names if label != place else ():
            if name.endswith(".ppm"):
                rows.append((below(place, name), label, "train", f"{label}/{name.partition('_')[0]}"))
    with (folder / "GT-final_test.csv").open(newline="") as lines:
        for line in csv.DictReader(lines, delimiter=";", skipinitialspace=True):
            rows.append((f"Final_Test/Images/{line['Filename']}", f"{int(line['ClassId']):05d}", "test", None))
    return _from_rows(rows, folder / "GTSRB")


def _caltech101(folder: Path) -> Opened:
    place = folder / "caltech-101/101_ObjectCategories"
    found, _ = _from_folders(place)
    kept = [i for i, label in enumerate(found.labels) if label != "BACKGROUND_Google"]
    note = f"{len(found.labels) - len(kept)} pictures of the folder BACKGROUND_Google are left out: it is no class"
    entries, files = _from_rows([(found.paths[i], found.labels[i], None, None) for i in kept], place)
    entries.notes = [*found.notes, note]
    return entries, files


def _classes(peer: str) -> Sequence[str]:
    """The class names in torchvision's reader `peer`."""
    from torchvision import datasets  # three seconds to import, for nobody who brings pictures

    names: Sequence[str] = getattr(datasets, peer).classes
    return names


def _mat(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    return loadmat(file)


def _sources(place: str, *files: tuple[str, str]) -> tuple[Source, ...]:
    return tuple(Source(f"{place}/{name}", md5) for name, md5 in files)


_CIFAR10 = [*(("train", f"cifar-10-batches-bin/data_batch_{k}.bin") for k in range(1, 6)),
            ("test", "cifar-10-batches-bin/test_batch.bin")]  # fmt: skip
_CIFAR100 = [("train", "cifar-100-binary/train.bin"), ("test", "cifar-100-binary/test.bin")]

KNOWN: dict[str, KnownSet] = {
    "mnist": KnownSet(
        _sources(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        partial(_mnist, peer="MNIST"),
    ),
    "fashion-mnist": KnownSet(
        _sources(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        partial(_mnist, peer="FashionMNIST"),
    ),
    "kmnist": KnownSet(
        _sources(
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
            ("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
            ("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
            ("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
            ("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134"),
        ),
        partial(_mnist, peer="KMNIST"),
    ),
    "cifar10": KnownSet(
        _sources("https://www.cs.toronto.edu/~kriz", ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")),
        partial(_cifar, files=_CIFAR10, names="cifar-10-batches-bin/batches.meta.txt", labels=1),
    ),
    "cifar100": KnownSet(
        _sources("https://www.cs.toronto.edu/~kriz", ("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")),
        partial(_cifar, files=_CIFAR100, names="cifar-100-binary/fine_label_names.txt", labels=2),
    ),
    "stl10": KnownSet(
        _sources("http://ai.stanford.edu/~acoates/stl10", ("stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb")),
        _stl10,
        keep=r"(train|test)_[Xy]\.bin$|class_names\.txt$",  # 2.7 GB have no labels
    ),
    "svhn": KnownSet(
        _sources(
            "http://ufldl.stanford.edu/housenumbers",
            ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
            ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
        ),
        _svhn,
    ),
    "eurosat": KnownSet(
        _sources(
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd",
            ("EuroSAT.zip", "c8fa014336c82ac7804f0398fcb19387"),
        ),
        _from_folders,
    ),
    "flowers102": KnownSet(
        _sources(
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
            ("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            ("imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
            ("setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
        _flowers102,
    ),
    "food101": KnownSet(
        _sources("http://data.vision.ee.ethz.ch/cvl", ("food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87")),
        _food101,
    ),
    "oxford-pets": KnownSet(
        _sources(
            "https://www.robots.ox.ac.uk/~vgg/data/pets/data",
            ("images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            ("annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
        _oxford_pets,
    ),
    "dtd": KnownSet(
        _sources(
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download", ("dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1")
        ),
        _dtd,
    ),
    "gtsrb": KnownSet(
        _sources(
            "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370",
            ("GTSRB-Training_fixed.zip", "513f3c79a4c5141765e10e952eaa2478"),
            ("GTSRB_Final_Test_Images.zip", "c7e4e6327067d32654124b0fe9e82185"),
            ("GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5"),
        ),
        _gtsrb,
    ),
    "caltech101": KnownSet(
        _sources(
            "https://data.caltech.edu/records/mzrjq-6wc02/files",
            ("caltech-101.zip", "3138e1922a9193bfa496528edbbc45d0"),
        ),
        _caltech101,
        keep=r"101_ObjectCategories",
    ),
}  # fmt: skip
