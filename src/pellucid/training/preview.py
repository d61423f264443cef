"""What an augmentation does to one's own pictures, before anything is trained: pictures to look at, and what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from pellucid.config import DataConfig
from pellucid.data.augment import Augmentation
from pellucid.data.dataset import Dataset
from pellucid.data.loader import Pictures
from pellucid.data.meaning import MeaningTest
from pellucid.data.scan import Progress, in_threads
from pellucid.errors import DataError, PictureError
from pellucid.evaluation.draw import as_image, grid_sheet
from pellucid.training.plan import (
    choose_augmentation,
    choose_contract,
    require_policy,
    sample_shapes,
    tell_augmentation,
)

_MOST = 3000  # pictures that are read
_TREATED = 7  # of each picture that is shown


@dataclass(frozen=True, eq=False)
class Preview:
    """An augmentation with what was measured about it, for up to 3,000 of a data set's training pictures."""

    augmentation: Augmentation
    tests: tuple[MeaningTest, ...]
    pictures: Pictures
    classes: tuple[str, ...]  # or what stands for them: labels, or ranges of a number

    def __str__(self) -> str:
        return "\n  ".join(tell_augmentation(self.augmentation, self.tests, self.classes))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, with the names of classes that are confused."""
        tests = [test.to_dict() for test in self.tests]
        for test in tests:
            test["pairs"] = [[self.classes[a], self.classes[b], share] for a, b, share in test["pairs"]]
        return {"policy": self.augmentation.policy, "tests": tests}

    def sheet(self, *, per_class: int = 2) -> Image.Image:
        """Some pictures of each class, a row each: as it is, and as seven epochs of a training would treat it."""
        labels, (height, width) = self.pictures.labels, self.pictures.pixels.shape[1:3]
        chosen = np.concatenate([np.flatnonzero(labels == k)[:per_class] for k in range(len(self.classes))])
        columns = [self.pictures.pixels[chosen]]
        for epoch in range(_TREATED):
            batch, _, _ = self.augmentation.treated(
                lambda rows: torch.from_numpy(self.pictures.pixels[rows]),
                chosen, among=self.pictures.indices, seed=0, epoch=epoch,
            )  # fmt: skip
            columns.append(batch.numpy())
        rows = [
            (f"{self.classes[labels[row]]}\nas it is, then treated", [as_image(column[k]) for column in columns])
            for k, row in enumerate(chosen)
        ]
        side = max(height, width)
        return grid_sheet(rows, cell=side * max(1, round(96 / side)))  # a pixel stays a square


def preview(dataset: Dataset, policy: str, config: DataConfig, *, progress: Progress | None = None) -> Preview:
    """Treats training pictures of `dataset` as a training with --augment `policy` would, at the size that it would choose.

    Raises UnknownNameError, ConfigError for a policy that cannot be; DataError when no picture can be read.
    """
    contract, _ = choose_contract(sample_shapes(dataset), config, None)
    require_policy(policy, contract)
    rng = np.random.default_rng(0)
    usable = rng.permutation(
        [i for i, item in enumerate(dataset.items) if item.split in (None, "train") and item.label >= 0]
    )
    some = np.sort(usable[:_MOST])

    def read(i: int) -> np.ndarray | None:
        try:
            return contract.pixels(dataset.picture(i).pixels)
        except PictureError:
            return None

    found = zip(some.tolist(), in_threads(read, some.tolist(), progress), strict=True)
    good = [(i, pixels) for i, pixels in found if pixels is not None]
    if not good:
        raise DataError(
            f"None of {len(some)} training pictures of '{dataset.source}' can be read. "
            f"Look at the reasons with: pellucid check {dataset.source}"
        )
    targets, pixels = dataset.targets()[[i for i, _ in good]], np.stack([pixels for _, pixels in good])
    pictures = Pictures(pixels, dataset.task.strata(targets), np.arange(len(good)))
    augmentation, tests = choose_augmentation(policy, pictures, seed=0)
    return Preview(augmentation, tests, pictures, tuple(dataset.task.strata_names(targets, dataset.classes)))
