"""How fast files become pixels of 224x224: our threads beside a DataLoader of torch with Pillow, in one run.

    .venv/bin/python bench/decode.py [FOLDER]     or, in one line,     .venv/bin/python bench/run.py decode

Photographs of FOLDER (default: those of clothing.zip) are saved at 500x375, as JPEG of quality 90 and as PNG, in a temporary
folder. Ours is `decode` and the pixel contract in threads, on one core and on all. The DataLoader has two processes that live
on, batches of 64; each opens with Pillow, converts to RGB and resizes by torchvision.transforms.v2. Both end with uint8. The ways
take turns; median of seven and spread, after one round to warm up.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from pellucid.data.contract import PixelContract
from pellucid.data.decode import decode
from pellucid.data.scan import in_threads

ROUNDS, COUNT, SIDE, SIZE = 7, 512, 224, (500, 375)
SHARED = Path(os.environ.get("PELLUCID_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FORMATS = {"JPEG": {"quality": 90}, "PNG": {}}


@dataclass(frozen=True)
class Speed:
    """Pictures a second of one format: (median, lowest, highest) of ours on one core and on all, and of the DataLoader."""

    name: str
    one: tuple[float, float, float]
    all: tuple[float, float, float]
    peer: tuple[float, float, float]

    @property
    def ratio(self) -> float:
        """Ours on all cores to the DataLoader."""
        return self.all[0] / self.peer[0]

    @property
    def scaling(self) -> float:
        """Of one core's speed, the share that each of all cores reaches."""
        return self.all[0] / self.one[0] / len(os.sched_getaffinity(0))


class Peer(Dataset):
    """As in the tutorials."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = v2.Compose([v2.Resize((SIDE, SIDE)), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> object:
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def photographs(source: Path | None) -> Iterator[Image.Image]:
    """COUNT of them, at SIZE."""
    if source:
        names = sorted(p for p in source.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[:COUNT]
        for name in names:
            yield Image.open(name).convert("RGB").resize(SIZE)
        return
    with zipfile.ZipFile(SHARED / "data" / "clothing.zip") as archive:
        for name in sorted(n for n in archive.namelist() if n.endswith(".jpg"))[:COUNT]:
            yield Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize(SIZE)


def ours(files: list[Path]) -> None:
    contract = PixelContract(SIDE, SIDE, 3)
    for _ in in_threads(lambda i: contract.pixels(decode(files[i].read_bytes()).pixels), range(len(files)), at_once=8):
        pass


def on_one_core(work: Callable[[], None]) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        work()
    finally:
        os.sched_setaffinity(0, cores)


def timed(files: list[Path]) -> list[tuple[float, float, float]]:
    loader = DataLoader(Peer(files), batch_size=64, num_workers=2, persistent_workers=True)
    ways = (lambda: on_one_core(lambda: ours(files)), lambda: ours(files), lambda: [None for _ in loader])
    speeds: list[list[float]] = [[] for _ in ways]
    for turn in range(ROUNDS + 1):
        for way, found in zip(ways, speeds, strict=True):
            started = time.perf_counter()
            way()
            if turn:
                found.append(len(files) / (time.perf_counter() - started))
    return [(statistics.median(found), min(found), max(found)) for found in speeds]


def measure(source: Path | None = None) -> list[Speed]:
    with tempfile.TemporaryDirectory() as place:
        files: dict[str, list[Path]] = {name: [] for name in FORMATS}
        for k, picture in enumerate(photographs(source)):
            for name, options in FORMATS.items():
                files[name].append(Path(place) / f"{k}.{name.lower()}")
                picture.save(files[name][-1], name, **options)
        return [Speed(name, *timed(some)) for name, some in files.items()]


def main() -> None:
    print(f"pictures a second, {SIZE[0]}x{SIZE[1]} to {SIDE}x{SIDE}, {len(os.sched_getaffinity(0))} cores")
    print(
        "| format | Pellucid, one core | all cores | scaling | DataLoader, two processes | ratio |\n|---|--:|--:|--:|--:|--:|"
    )
    for row in measure(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        cells = [f"{middle:,.0f} ({low:,.0f} to {high:,.0f})" for middle, low, high in (row.one, row.all, row.peer)]
        print(f"| {row.name} | {cells[0]} | {cells[1]} | {row.scaling:.0%} | {cells[2]} | {row.ratio:.2f} |")


if __name__ == "__main__":
    main()
