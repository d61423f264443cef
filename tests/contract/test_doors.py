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
    "wrong-ending.png": _file("RGB", "JPEG"),
}
CONTRACTS = [
    PixelContract(height=16, width=16, channels=3),
    PixelContract(height=16, width=24, channels=1, fit="crop"),
    PixelContract(height=40, width=33, channels=3, fit="pad"),
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
    return (folder / "a" / name for name in FILES)


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
    return dict(zip(FILES, (x[0] for x in module.seen), strict=True))


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
    return dict(zip(FILES, torch.cat(module.seen), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
    for name, data in FILES.items():
        (tmp_path / "set" / "a" / name).write_bytes(data)
    (tmp_path / "set" / "b" / "other.png").write_bytes(FILES["rgb.png"])
    return tmp_path / "set"


@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
@pytest.mark.parametrize(
    "door", [training, training_again, archive, table, predict_path, predict_bytes, predict_array, predict_many]
)
def test_same_file_same_tensor(folder: Path, contract: PixelContract, door: Door) -> None:
    found = door(folder, contract)
    for path in _paths(folder):
        pixels = contract.pixels(decode(path.read_bytes()).pixels)
        assert torch.equal(found[path.name], contract.tensor(pixels[None])[0]), path.name


def test_the_files_differ(folder: Path) -> None:
    """The negative control: a door that gave one picture for all would be seen."""
    found = training(folder, CONTRACTS[0])
    assert len({tensor.numpy().tobytes() for tensor in found.values()}) > len(FILES) * 0.6
