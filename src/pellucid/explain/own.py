"""The user's own pictures, one after the other, as a network sees them: those of a run, of a data set, or of any folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pellucid.data.contract import PixelContract
from pellucid.data.decode import Picture
from pellucid.data.manifest import USED
from pellucid.data.reopen import reopen
from pellucid.data.scan import Progress
from pellucid.data.unlabeled import open_pictures
from pellucid.data.wording import shown
from pellucid.errors import DataError, PictureError
from pellucid.run import Run

OWN = "own"  # the word for a run's pictures
MOST_PICTURES = 2000  # that are looked at unless more are asked for
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class OwnPictures:
    """Some of `total` pictures of `source`: their names, and their labels ("" where none is known). `read` gives one of them as
    a Picture, or raises PictureError."""

    source: str
    total: int
    names: tuple[str, ...]
    labels: tuple[str, ...]
    read: Callable[[int], Picture]

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        name = shown(Path(self.source).name)
        if len(self) == self.total:
            return f"{self.total:,} pictures of {name}"
        return f"{len(self):,} of {self.total:,} pictures of {name}, drawn at random"

    def pixels(self, index: int, contract: PixelContract) -> np.ndarray:
        """uint8 (H, W, C) as a network takes it. Raises PictureError."""
        return contract.pixels(self.read(index).pixels)

    def batches(
        self, contract: PixelContract, *, progress: Progress | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers int (n,) and pixels uint8 (n, H, W, C) of the pictures that can be read; the next ones are read meanwhile."""
        chunks = [range(i, min(i + _AT_ONCE, len(self))) for i in range(0, len(self), _AT_ONCE)]

        def load(chunk: range) -> list[tuple[int, np.ndarray]]:
            return [(i, pixels) for i in chunk if (pixels := self._readable(i, contract)) is not None]

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(load, chunks[0])
            for k, chunk in enumerate(chunks):
                good = coming.result()
                if k + 1 < len(chunks):
                    coming = pool.submit(load, chunks[k + 1])
                if good:
                    yield np.array([i for i, _ in good]), np.stack([pixels for _, pixels in good])
                if progress:
                    progress(chunk.stop, len(self))

    def _readable(self, index: int, contract: PixelContract) -> np.ndarray | None:
        try:
            return self.pixels(index, contract)
        except PictureError:
            return None


def own_pictures(
    data: str | Path, *, run: str | Path | None = None, most: int = MOST_PICTURES, seed: int = 0
) -> OwnPictures:
    """Up to `most` pictures, drawn by `seed`: of `data`, a data set or a folder of pictures, or of `run` where `data` is "own".

    Of a run these are all that it used, of every part. Raises DataError when there is none, RunError.
    """
    if str(data) != OWN:
        dataset = open_pictures(data)
        rows = list(range(len(dataset)))
    elif run is None:
        raise DataError(
            f"'{OWN}' stands for the pictures of a run, and there is no run here. Name a folder or a data set of your own."
        )
    else:
        dataset = reopen(Run(Path(run)).read())
        used = {row["path"] for row in Run(Path(run)).read_manifest() if row["status"] == USED}
        rows = [i for i, item in enumerate(dataset.items) if item.path in used]
        if not rows:
            raise DataError(
                f"None of the pictures that the run used is in '{dataset.source}' anymore. Bring them back."
            )
    chosen = [rows[i] for i in sorted(np.random.default_rng(seed).permutation(len(rows))[:most].tolist())]
    names, labels = tuple(dataset.items[i].path for i in chosen), tuple(map(dataset.label, chosen))
    return OwnPictures(dataset.source, len(rows), names, labels, lambda index: dataset.picture(chosen[index]))
