"""Figure: what share of planted duplicates `pellucid check` finds, and how many other pictures it takes for duplicates.

n: 2,000 real pictures, to which 100 exact and 100 near copies are added (25 of each kind); seeds 0 to 4, so 500 and 500 in all.
Hardware: any; measured on two cores of an AMD EPYC.
Command: .venv/bin/python recipes/planted_duplicates.py [clothing] [cifar10-jpeg] [malaria-gray50]

| pictures | exact found | near found: half, quality 50, crop, brightness | all near | false alarms |
|---|---|---|---|---|
| clothing | 1.000 | 0.992, 1.000, 0.992, 0.976 | 0.990 | 0.0014 |
| clothing, imagehash, 4 bits | 1.000 | 1.000, 1.000, 0.200, 0.904 | 0.776 | 0.0026 |
| cifar10-jpeg | 1.000 | 0.984, 1.000, 1.000, 1.000 | 0.996 | 0.0022 |
| cifar10-jpeg, imagehash, 10 bits | 1.000 | 1.000, 1.000, 0.528, 1.000 | 0.882 | 0.0048 |
| malaria-gray50 | 1.000 | 1.000, 1.000, 0.832, 1.000 | 0.958 | 0.0030 |
| malaria-gray50, imagehash, 2 bits | 1.000 | 1.000, 0.976, 0.000, 1.000 | 0.744 | 0.0006 |

An exact copy is the file again. Near copies: resized to half and back; saved as JPEG of quality 50; cropped to 95 % of width
and height at a random place; made brighter by 1.3. All but the second are saved as JPEG of quality 95, or as PNG where the
original is one. A false alarm is an original that is reported as a duplicate of anything but its copy. The data sets have some
true near duplicates of their own, which count as false alarms here. For comparison the perceptual hash of the library
imagehash (`pip install imagehash`), by the number of bits that may differ; above are those with the best recall at no more than
1 % false alarms.
The pictures are the archives of the folder PELLUCID_SHARED (default ../shared).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance
from scipy.sparse.csgraph import connected_components

from pellucid.data.check import check
from pellucid.data.dataset import open_dataset

SHARED = Path(os.environ.get("PELLUCID_SHARED", Path(__file__).resolve().parents[2] / "shared"))
KINDS = ("half", "quality 50", "crop", "brightness")
EACH = 25


@dataclass(frozen=True)
class Found:
    """Shares, 0 to 1: exact copies found, near copies found by kind, and originals that were reported wrongly."""

    exact: float
    near: dict[str, float]
    false_alarms: float

    @property
    def near_recall(self) -> float:
        """Over all kinds, which are equally many."""
        return sum(self.near.values()) / len(self.near)


def plant(archive: Path, folder: Path, *, pictures: int = 2000, seed: int = 0) -> None:
    """Unpacks that many random pictures of a zip into `folder`/originals and adds their copies in `folder`/copies.

    A copy is called like its original, with the kind of copy before it.
    """
    rng = np.random.default_rng(seed)
    for name in ("originals", "copies"):
        (folder / name).mkdir(parents=True)
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.endswith((".jpg", ".png")))
        for k, i in enumerate(rng.permutation(len(names))[:pictures].tolist()):
            data, ending = files.read(names[i]), Path(names[i]).suffix
            (folder / "originals" / f"{k:04}{ending}").write_bytes(data)
            if k < len(KINDS) * EACH:
                kind = KINDS[k % len(KINDS)]
                quality_50 = kind == "quality 50"
                changed = copied(Image.open(BytesIO(data)), kind, rng)
                file = folder / "copies" / f"{kind} {k:04}{'.jpg' if quality_50 else ending}"
                options: dict[str, Any] = {"quality": 50 if quality_50 else 95} if file.suffix == ".jpg" else {}
                changed.save(file, **options)
            elif k < 2 * len(KINDS) * EACH:
                (folder / "copies" / f"exact {k:04}{ending}").write_bytes(data)


def copied(picture: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """A near copy of a kind."""
    width, height = picture.size
    if kind == "half":
        return picture.resize((width // 2, height // 2), Image.Resampling.BICUBIC).resize(
            (width, height), Image.Resampling.BICUBIC
        )
    if kind == "crop":
        wide, high = round(0.95 * width), round(0.95 * height)
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        return picture.crop((left, top, left + wide, top + high))
    return ImageEnhance.Brightness(picture).enhance(1.3) if kind == "brightness" else picture


def score(folder: Path, exact: Iterable[Sequence[str]], near: Iterable[Sequence[str]]) -> Found:
    """How well clusters of paths like "originals/0042.jpg" agree with what was planted in `folder`."""
    hits: dict[str, list[bool]] = {kind: [] for kind in ("exact", *KINDS)}
    found: dict[str, set[str]] = {"exact": set(), "near": set()}
    wrong: set[str] = set()
    for how, clusters in (("exact", exact), ("near", near)):
        for cluster in clusters:
            originals = {_number(path) for path in cluster if path.startswith("originals")}
            copies = {_number(path) for path in cluster if path.startswith("copies")}
            found[how] |= originals & copies
            if len(originals | copies) > 1:
                wrong |= originals
    for file in (folder / "copies").iterdir():
        kind = file.stem.rsplit(" ", 1)[0]
        hits[kind].append(_number(file.name) in found["exact" if kind == "exact" else "near"])
    shares = {kind: float(np.mean(values)) for kind, values in hits.items()}
    return Found(shares.pop("exact"), shares, len(wrong) / len(list((folder / "originals").iterdir())))


def by_check(folder: Path) -> Found:
    """What `check` finds."""
    found = check(open_dataset(folder))
    return score(folder, found.duplicates, found.near)


def by_imagehash(folder: Path) -> list[tuple[int, Found]]:
    """What the perceptual hash of imagehash finds, by the number of its 64 bits that may differ."""
    import imagehash

    paths = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*"))
    hashes = np.array([imagehash.phash(Image.open(folder / path)).hash.ravel() for path in paths])
    differing = (hashes[:, None] != hashes).sum(2)
    results = []
    for bits in range(0, 17, 2):
        label = connected_components(differing <= bits, directed=False)[1]
        clusters = [[paths[i] for i in np.flatnonzero(label == k)] for k in np.flatnonzero(np.bincount(label) > 1)]
        results.append((bits, score(folder, clusters, clusters)))
    return results


def _number(path: str) -> str:
    return Path(path).stem[-4:]


def _row(name: str, rows: Sequence[Found]) -> str:
    kinds = ", ".join(f"{np.mean([row.near[kind] for row in rows]):.3f}" for kind in KINDS)
    exact, near, wrong = (
        float(np.mean([getattr(row, what) for row in rows])) for what in ("exact", "near_recall", "false_alarms")
    )
    return f"| {name} | {exact:.3f} | {kinds} | {near:.3f} | {wrong:.4f} |"


def main() -> None:
    print("| pictures | exact found | near found: half, quality 50, crop, brightness | all near | false alarms |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or ("clothing", "cifar10-jpeg", "malaria-gray50"):
        ours, theirs = [], []
        for seed in range(5):
            with tempfile.TemporaryDirectory() as place:
                plant(SHARED / "data" / f"{name}.zip", Path(place), seed=seed)
                ours.append(by_check(Path(place)))
                if importlib.util.find_spec("imagehash"):
                    theirs.append(by_imagehash(Path(place)))
        print(_row(name, ours), flush=True)
        for at, (bits, _) in enumerate(theirs[0] if theirs else ()):
            print(_row(f"{name}, imagehash, {bits} bits", [seed[at][1] for seed in theirs]), flush=True)


if __name__ == "__main__":
    main()
