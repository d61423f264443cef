"""Packs: every row is what the pixel contract makes of its file, found again by content, whole or not there."""

from __future__ import annotations

import errno
import io
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

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
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From `monkeypatch.undo()` on, files may be decoded again."""

    def refuse(_: bytes) -> Picture:
        raise AssertionError("decoded again")

    def forbid() -> None:
        monkeypatch.setattr(scanning, "decode", refuse)

    monkeypatch.forbid = forbid  # type: ignore[attr-defined]
    return monkeypatch


def packs(cache: Path) -> set[str]:
    return {file.name for file in (cache / "packs").iterdir()}
