"""How fast pictures are varied: every transform of a policy beside torchvision.transforms.v2 doing the same, in one run.

    .venv/bin/python bench/augment.py [SIDE [THREADS]]     or, in one line,     .venv/bin/python bench/run.py augment

Pellucid treats a batch (512 pictures of 32x32, fewer of larger ones, at least 32), each picture by itself; where it can in
place, as in training, where the batch was fetched for it (so these pictures change from turn to turn). torchvision treats a
batch alike, so that for the same effect it is called for each picture: the column "v2 each", uint8 (C, H, W), not put together
to a batch again. "v2 batch" is one call for the batch, every picture treated alike (uint8; float for MixUp and CutMix, which
need it). Random noise of SIDE x SIDE pixels (32), two threads, median of seven; with one thread it is the time of the processor
that counts, which other work on the machine disturbs less.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms import v2

from pellucid.data.augment import measured
from pellucid.data.policy import parse_policy

ROUNDS = 7
FIGURE = "crop4 flip cutout8"


@dataclass(frozen=True)
class Speed:
    """Pictures a second, as medians, and the spread of ours; None where torchvision has no such thing."""

    policy: str
    ours: float
    spread: tuple[float, float]
    each: float | None
    batch: float | None

    @property
    def ratio(self) -> float | None:
        """Ours to torchvision's for each picture."""
        return self.ours / self.each if self.each else None


def peers(side: int) -> dict[str, v2.Transform | None]:
    """Policies, and what does the same in torchvision."""
    bilinear = v2.InterpolationMode.BILINEAR
    crop, flip = v2.RandomCrop(side, 4, padding_mode="reflect"), v2.RandomHorizontalFlip()
    area = (8 / side) ** 2
    cutout = v2.RandomErasing(1, (area, area), (1, 1))
    return {
        FIGURE: v2.Compose([crop, flip, cutout]),
        "flip": flip,
        "vflip": v2.RandomVerticalFlip(),
        "crop4": crop,
        "zoom0.5": v2.RandomResizedCrop(side, (0.5, 1)),
        "rotate15": v2.RandomRotation(15, bilinear),
        "perspective0.5": v2.RandomPerspective(0.5, 1, bilinear),
        "elastic1": v2.ElasticTransform(50.0, 5.0, bilinear),
        "brightness0.2": v2.ColorJitter(brightness=0.2),
        "contrast0.2": v2.ColorJitter(contrast=0.2),
        "saturation0.2": v2.ColorJitter(saturation=0.2),
        "hue0.05": v2.ColorJitter(hue=0.05),
        "color0.2": v2.ColorJitter(0.2, 0.2, 0.2),
        "lighting0.1": None,
        "whiten0.5": None,
        "blur1": v2.GaussianBlur(2 * math.ceil(3 * 1) + 1, (0.01, 1)),
        "cutout8": cutout,
        "rand2": v2.RandAugment(2),
        "mixup0.2": v2.MixUp(alpha=0.2, num_classes=10),
        "cutmix1": v2.CutMix(alpha=1.0, num_classes=10),
    }


def batch_size(side: int) -> int:
    """Pictures of a batch: as many levels as 512 pictures of 32x32."""
    return max(32, 512 * 32**2 // side**2)


def measure(side: int = 32, threads: int = 2) -> list[Speed]:
    """One row a policy. The three ways take turns, so that what else the machine does meets all of them alike."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    count = batch_size(side)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8))
    planes = pixels.permute(0, 3, 1, 2).contiguous()
    floats, labels = planes.float(), torch.arange(count) % 10
    indices = np.arange(count)
    found = []
    for policy, peer in peers(side).items():
        augmentation = measured(parse_policy(policy), pixels.numpy())
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda a=augmentation: a.treated(
                lambda rows: pixels if rows is indices else pixels.index_select(0, torch.from_numpy(rows)), indices, among=indices, seed=0, epoch=0)
        }  # fmt: skip
        if isinstance(peer, (v2.MixUp, v2.CutMix)):
            ways["batch"] = lambda p=peer: p(floats, labels)
        elif peer:
            ways["each"] = lambda p=peer: [p(picture) for picture in planes]
            ways["batch"] = lambda p=peer: p(planes)
        speeds = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, work in ways.items():
                started = clock()
                work()
                if turn:  # the first one warms up
                    speeds[name].append(count / (clock() - started))
        middle = {name: statistics.median(speed) for name, speed in speeds.items()}
        ours = speeds["ours"]
        found.append(Speed(policy, middle["ours"], (min(ours), max(ours)), middle.get("each"), middle.get("batch")))
    return found


def main() -> None:
    side, threads = (int(sys.argv[k]) if len(sys.argv) > k else default for k, default in ((1, 32), (2, 2)))
    rows = measure(side, threads)
    print(f"pictures a second, {side}x{side}x3, batches of {batch_size(side)}, {threads} thread{'s' * (threads > 1)}")
    print(
        "| policy | Pellucid, each by itself (spread) | v2 each | ratio | v2 batch, all alike |\n|---|--:|--:|--:|--:|"
    )
    for row in rows:
        each, batch = (f"{speed:,.0f}" if speed else "–" for speed in (row.each, row.batch))
        ratio = f"{row.ratio:.1f}" if row.ratio else "–"
        print(
            f"| `{row.policy}` | {row.ours:,.0f} ({row.spread[0]:,.0f} to {row.spread[1]:,.0f}) | {each} | {ratio} | {batch} |"
        )


if __name__ == "__main__":
    main()
