"""Every file format through every door gives the same tensor: training, measuring, predicting, from disk or archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import open_dataset
from pellucid.data.decode import decode
from pellucid.data.pack import open_pack
from pellucid.evaluation.predict import predict_files
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("pydicom")
pytest.importorskip("pi_heif")
EXIF_ROTATED = Image.Exif()
EXIF_ROTATED[0x0112] = 6


def _scene(mode: str) -> Image.Image:
    """A picture without symmetry, 37 x 23, with noise and a ramp."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 37)[None, :, None] + np.arange(23)[:, None, None]
    rgb = np.clip(ramp + rng.integers(0, 30, (23, 37, 3)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(rgb)
    if mode == "I;16":
        return Image.fromarray((np.asarray(picture.convert("L")).astype(np.uint16) << 8) + 77)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(rgb[..., 1]))
        return picture
    return picture.convert(mode)


def _file(mode: str, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    _scene(mode).save(content, kind, **options)
    return content.getvalue()


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _dicom() -> bytes:
    """12 bits of grey, shown through a window."""
    from pydicom.dataset import Dataset, FileMetaDataset

    stored = np.asarray(_scene("I;16")) >> 4
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PixelRepresentation, header.PhotometricInterpretation = 1, 0, "MONOCHROME1"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.WindowCenter, header.WindowWidth = "2000", "3000"
    header.PixelData = stored.tobytes()
    content = io.BytesIO()
    header.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _five(kind: str) -> np.ndarray:
    """Five channels without symmetry: a scene, its negative in grey, noise."""
    rgb, grey = np.asarray(_scene("RGB")), 255 - np.asarray(_scene("L"))
    noise = np.random.default_rng(1).integers(0, 256, grey.shape, dtype=np.uint8)
    five = np.dstack([rgb, grey, noise])
    return five / np.float32(255) if kind == "f4" else five.astype(kind) * (257 if kind == "u2" else 1)


def _tiff(array: np.ndarray, **options: object) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, array, photometric="minisblack", **options)
    return content.getvalue()


HEIC = Path(__file__).parents[1] / "data" / "heic"
FILES = {
    "rgb.jpg": _file("RGB", "JPEG", quality=90),
    "progressive.jpg": _file("RGB", "JPEG", progressive=True),
    "grey.jpg": _file("L", "JPEG"),
    "cmyk.jpg": _file("CMYK", "JPEG"),
    "rotated.jpg": _file("RGB", "JPEG", exif=EXIF_ROTATED),
    "rgb.png": _file("RGB", "PNG"),
    "grey.png": _file("L", "PNG"),
    "alpha.png": _file("RGBA", "PNG"),
    "palette.png": _file("P", "PNG"),
    "bilevel.png": _file("1", "PNG"),
    "deep.png": _file("I;16", "PNG"),
    "rotated.png": _file("RGB", "PNG", exif=EXIF_ROTATED),
    "lossless.webp": _file("RGB", "WEBP", lossless=True),
    "alpha.webp": _file("RGBA", "WEBP"),
    "rgb.bmp": _file("RGB", "BMP"),
    "palette.gif": _file("P", "GIF"),
    "rgb.tif": _file("RGB", "TIFF"),
    "deep.tif": _file("I;16", "TIFF"),
    "cmyk.tif": _file("CMYK", "TIFF", compression="tiff_lzw"),
    "rgb.ppm": _file("RGB", "PPM"),
    "rotated.avif": _file("RGB", "AVIF", exif=EXIF_ROTATED),
    "rgb.heic": (HEIC / "rgb.heic").read_bytes(),
    "rotated.heic": (HEIC / "rotated.heic").read_bytes(),
    "grey.dcm": _dicom(),
    "rgb.npy": _npy(np.asarray(_scene("RGB"))[::-1]),
    "grey.npy": _npy(np.asarray(_scene("L"))[::-1] / np.float32(255)),
    "wrong-ending.png": _file("RGB", "JPEG"),
}
FIVE_CHANNELS = {
    "bytes.npy": _npy(_five("u1")),
    "deep.npy": _npy(_five("u2")[::-1]),
    "float.npy": _npy(_five("f4")[:, ::-1]),
    "pixels.tif": _tiff(_five("u1")[::-1, ::-1], planarconfig="contig", compression="zlib"),
    "planes.tif": _tiff(np.moveaxis(_five("u2")[4:], 2, 0), planarconfig="separate"),
}
CONTRACTS = [
    PixelContract(height=16, width=16, channels=3),
    PixelContract(height=16, width=24, channels=1, fit="crop"),
    PixelContract(height=40, width=33, channels=3, fit="pad"),
    PixelContract(height=16, width=24, channels=5, fit="crop"),
]
Door = Callable[[Path, PixelContract], dict[str, torch.Tensor]]


class Recorder(nn.Module):
    """A classifier of two classes that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.clone())
        return x.mean((1, 2, 3))[:, None] + self.bias


def _classifier(contract: PixelContract) -> tuple[Classifier, Recorder]:
    module = Recorder()
    return Classifier(module, ("a", "b"), contract, Architecture("fastnet", "fastnet")), module


def _paths(folder: Path) -> Iterator[Path]:
    return (folder / "a" / name for name in (FILES | FIVE_CHANNELS) if (folder / "a" / name).exists())


def training(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    dataset = open_dataset(folder)
    pack = open_pack(dataset, contract)
    return {Path(item.path).name: contract.tensor(pack.pixels[i : i + 1])[0] for i, item in enumerate(dataset.items)}


def training_again(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    training(folder, contract)
    return training(folder, contract)


def archive(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    file = folder.parent / "set.zip"
    with zipfile.ZipFile(file, "w") as handle:
        for path in folder.rglob("*.*"):
            handle.write(path, path.relative_to(folder))
    return training(file, contract)


def table(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.*")]
    (folder / "set.csv").write_text("\n".join(["path,label", *rows]))
    return training(folder / "set.csv", contract)


def _one_by_one(folder: Path, contract: PixelContract, given: Callable[[Path], object]) -> dict[str, torch.Tensor]:
    classifier, module = _classifier(contract)
    for path in _paths(folder):
        classifier.predict(given(path))  # type: ignore[arg-type]
    return dict(zip([path.name for path in _paths(folder)], (x[0] for x in module.seen), strict=True))


def predict_path(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    return _one_by_one(folder, contract, str)


def predict_bytes(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    return _one_by_one(folder, contract, Path.read_bytes)


def predict_array(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    return _one_by_one(folder, contract, lambda path: decode(path.read_bytes()).pixels)


def predict_many(folder: Path, contract: PixelContract) -> dict[str, torch.Tensor]:
    classifier, module = _classifier(contract)
    answers = list(predict_files(classifier, list(_paths(folder))))
    assert all(answer.error is None for answer in answers)
    return dict(zip([path.name for path in _paths(folder)], torch.cat(module.seen), strict=True))


def _folder(place: Path, files: dict[str, bytes]) -> Path:
    for label in ("a", "b"):
        (place / label).mkdir(parents=True)
    for name, data in files.items():
        (place / "a" / name).write_bytes(data)
    (place / "b" / f"other-{name}").write_bytes(data)
    return place


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: f"{c.channels}x{c.height}x{c.width} {c.fit}")
@pytest.mark.parametrize(
    "door", [training, training_again, archive, table, predict_path, predict_bytes, predict_array, predict_many]
)
def test_same_file_same_tensor(tmp_path: Path, contract: PixelContract, door: Door) -> None:
    folder = _folder(tmp_path / "set", FIVE_CHANNELS if contract.channels == 5 else FILES)
    found = door(folder, contract)
    for path in _paths(folder):
        pixels = contract.pixels(decode(path.read_bytes()).pixels)
        assert torch.equal(found[path.name], contract.tensor(pixels[None])[0]), path.name


@pytest.mark.parametrize("files, contract", [(FILES, CONTRACTS[0]), (FIVE_CHANNELS, CONTRACTS[-1])])
def test_the_files_differ(tmp_path: Path, files: dict[str, bytes], contract: PixelContract) -> None:
    """The negative control: a door that gave one picture for all would be seen."""
    found = training(_folder(tmp_path / "set", files), contract)
    assert len({tensor.numpy().tobytes() for tensor in found.values()}) > len(files) * 0.6


@pytest.mark.parametrize("door", [training, training_again, predict_many])
def test_channels_that_do_not_fit_are_left_out_and_named(tmp_path: Path, door: Door) -> None:
    """One RGB picture among those of five channels stops nothing, and becomes nothing."""
    folder = _folder(tmp_path / "set", {"rgb.png": FILES["rgb.png"], **FIVE_CHANNELS})
    contract = CONTRACTS[-1]
    if door is predict_many:
        answers = list(predict_files(_classifier(contract)[0], list(_paths(folder))))
        reasons = {Path(answer.path).name: answer.error for answer in answers}
    else:
        door(folder, contract)
        pack = open_pack(open_dataset(folder), contract)
        names = [Path(item.path).name for item in open_dataset(folder).items]
        reasons = {name: record.reason for name, record in zip(names, pack.records, strict=True)}
        assert not pack.pixels[names.index("rgb.png")].any()
    assert {name for name, reason in reasons.items() if reason} == {"rgb.png"}
    assert reasons["rgb.png"] == "channels: 3, but expected 5; only 1 (grey) and 3 (RGB) become each other"
