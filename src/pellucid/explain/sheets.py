"""Files of what is shown: where they go and what they are called."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from pellucid.files import atomic_write, png_bytes, storage_errors


def write_sheet(sheet: Image.Image, network: str | Path, out: Path | None, *parts: str) -> Path:
    """Writes a PNG named after its `parts` into `out`, by default the reports of a run or else the current folder."""
    run = Path(network)
    folder = out or (run / "reports" if (run / "run.json").exists() else Path())
    name = "-".join(re.sub(r"[^\w.]+", "-", part).strip("-.")[:60] for part in parts if part)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.png"
    atomic_write(file, png_bytes(sheet))
    return file
