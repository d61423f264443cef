"""The figures behind fastnet's widths, its frozen whitening layer and its recipe for tiny pictures.

Figure     tables of docs/decisions/003-fastnet.md: test accuracy on digits, pictures a second and accuracy on CIFAR-10
n          digits: 4 seeds of split and training, 180 test pictures each; CIFAR-10: 1 seed, 10,000 test pictures
Hardware   two cores of an AMD EPYC (AVX-512, bf16) without a GPU: five minutes, and four more with --long
Command    .venv/bin/python recipes/fastnet_widths.py [CIFAR10] [--long]

CIFAR10 is a folder or zip of the pictures, by default cifar10-jpeg.zip in the data folder of PELLUCID_SHARED (../shared);
without it only the digits are measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid import Dataset, fit, open_dataset, train
from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.data.pack import open_pack
from pellucid.device import seed_everything
from pellucid.model.fastnet import FastNet
from pellucid.training.loop import Recipe
from pellucid.training.plan import with_statistics

SHARED = Path(os.environ.get("PELLUCID_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WIDTHS = ((8, 32, 32), (16, 64, 64), (24, 96, 128))
BATCH = 512
_LOOKED_AT = 33  # steps until which training health looks often; the speed is measured after them


def measured(data: Dataset, **settings: Any) -> tuple[float, int, float]:
    """(accuracy, n, seconds) of one training, on the test part."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, out=Path(folder) / "run", **settings)
        test = run.evaluate("test")
        return test.accuracy.value, test.n, run.read()["seconds"]


def on_digits() -> None:
    """Batch size and epochs for 8x8 pictures."""
    print("| digits | mean test accuracy of 4 seeds | lowest | highest |\n|---|---|---|---|")
    for batch, epochs in ((64, 60), (32, 40)):
        scores = [measured(open_dataset("digits"), batch_size=batch, epochs=epochs, seed=seed)[0] for seed in range(4)]
        print(
            f"| batch {batch}, {epochs} epochs | {np.mean(scores):.4f} | {min(scores):.4f} | {max(scores):.4f} |",
            flush=True,
        )


def speeds(data: Dataset) -> None:
    """Pictures a second of `fit` with the bias of the whitening layer frozen or learned."""
    contract = PixelContract(height=32, width=32, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    pack = open_pack(data, contract)
    labels = np.array([item.label for item in data.items])
    pictures = Pictures(pack.pixels, labels, np.flatnonzero([item.split != "test" for item in data.items]))
    contract = with_statistics(contract, pictures)
    some = pictures.subset(2000, seed=0)
    start = contract.tensor(torch.from_numpy(some.pixels[some.indices]))
    print("| fastnet | pictures/s, whitening frozen entirely | its bias learned | ratio |\n|---|---|---|---|")
    for widths in WIDTHS:
        found = []
        for learned in (False, True):
            seed_everything(0)
            module = FastNet(input_shape=(3, 32, 32), num_classes=10, widths=widths)
            module.start_from(start)
            module.whiten.bias.requires_grad_(learned)  # type: ignore[union-attr]
            found.append(speed(module, pictures, contract))
        print(
            f"| {'-'.join(map(str, widths))} | {found[0]:,.0f} | {found[1]:,.0f} | {found[0] / found[1]:.2f} |",
            flush=True,
        )


def speed(module: nn.Module, pictures: Pictures, contract: PixelContract) -> float:
    """Pictures a second over one epoch without its first steps and without the validation."""
    steps = -(-len(pictures) // BATCH)
    recipe = Recipe(
        steps=steps, max_steps=steps, batch_size=BATCH, optimizer="sgd", learning_rate=0.75, weight_decay=0.00133,
        momentum=0.85, warmup=0.2, label_smoothing=0.2, average_steps=steps, clip=None, class_weights=None, patience=None,
        augmentation=Augmentation("flip shift2"), precision="bf16", channels_last=True, seed=0,
    )  # fmt: skip
    passed: list[tuple[int, float]] = []  # (step, seconds so far), about once a second

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] > _LOOKED_AT:
            passed.append((event["step"], event["step"] * BATCH / event["pictures_per_second"]))

    with tempfile.TemporaryDirectory() as folder:
        fit(
            module, pictures, pictures.subset(512, seed=0), contract=contract, recipe=recipe, device=torch.device("cpu"),
            folder=Path(folder), on_event=note,
        )  # fmt: skip
    (first, started), (last, ended) = passed[0], passed[-1]
    return (last - first) * BATCH / (ended - started)


def widths_against_epochs(data: Dataset) -> None:
    """The same time for a narrow network with more epochs and a wider one with fewer."""
    print("| fastnet | epochs | seconds | test accuracy |\n|---|---|---|---|")
    for widths, epochs in ((WIDTHS[1], 8), (WIDTHS[2], 4)):
        name = "-".join(map(str, widths))
        accuracy, n, seconds = measured(data, model=f"fastnet-{name}", epochs=epochs, batch_size=BATCH)
        print(f"| {name} | {epochs} | {seconds:.0f} | {accuracy:.4f} (n {n:,}) |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar10", nargs="?", type=Path, default=SHARED / "data" / "cifar10-jpeg.zip")
    parser.add_argument("--long", action="store_true", help="widths against epochs, too: four minutes more")
    arguments = parser.parse_args()
    on_digits()
    if not arguments.cifar10.exists():
        print(f"\n'{arguments.cifar10}' is not there: CIFAR-10 is left out.")
        return
    data = open_dataset(arguments.cifar10)
    print()
    speeds(data)
    if arguments.long:
        print()
        widths_against_epochs(data)


if __name__ == "__main__":
    main()
