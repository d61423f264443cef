"""The figures behind fastnet's widths, its frozen whitening layer and its recipe for tiny pictures.

Figure     tables of docs/decisions/003-fastnet.md: test accuracy on digits, pictures a second and ingredients on CIFAR-10
n          digits: 4 seeds of split and training, 180 test pictures each; CIFAR-10: --seeds (1), 10,000 test pictures
Hardware   two cores of an AMD EPYC (AVX-512, bf16) without a GPU: some minutes, and ten more a seed with --long
Command    .venv/bin/python recipes/fastnet_widths.py [CIFAR10] [--long] [--seeds N]

CIFAR10 is a folder or zip of the pictures, by default cifar10-jpeg.zip in the data folder of PELLUCID_SHARED (../shared);
without it only the digits are measured.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid import Dataset, Evaluation, fit, load, open_dataset, train
from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.data.pack import open_pack
from pellucid.device import seed_everything
from pellucid.model.fastnet import FastNet
from pellucid.training.loop import Recipe
from pellucid.training.plan import with_statistics

SHARED = Path(os.environ.get("PELLUCID_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WIDTHS = ((8, 32, 32), (16, 32, 32), (16, 64, 64), (32, 128, 128))
BATCH = 256
_LOOKED_AT = 33  # steps until which training health looks often; the speed is measured after them


def measured(data: Dataset, **settings: Any) -> tuple[float, int, float]:
    """(accuracy, n, seconds) of one training, on the test part."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, out=Path(folder) / "run", **settings)
        test = run.evaluate("test")
        assert isinstance(test, Evaluation)
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
        steps=steps, max_steps=steps, batch_size=BATCH, optimizer="muon", learning_rate=0.375, weight_decay=0.00133,
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


def ingredients(data: Dataset, seeds: int) -> None:
    """Each ingredient of a short training left out or changed by itself; then widths, by CPU time."""
    base: dict[str, Any] = {"model": "fastnet-16-64-64", "epochs": 1.4, "near": False}
    rows: dict[str, dict[str, Any]] = {
        "the recipe": {},
        "sgd for all": {"optimizer": "sgd"},
        "batch 512": {"batch_size": 512},
        "batch 128": {"batch_size": 128},
        "no weight average": {"ema": False},
        "label smoothing 0.1": {"label_smoothing": 0.1},
        "no shifts": {"augment": "flip"},
        "filters of 8-32-32": {"model": "fastnet-8-32-32", "epochs": 2.2},
        "filters of 16-32-32": {"model": "fastnet-16-32-32", "epochs": 2},
        "filters of 16-128-128": {"model": "fastnet-16-128-128", "epochs": 0.8},
        "16-64-64, longer": {"epochs": 3.4},
        "32-128-128, as long": {"model": "fastnet-32-128-128", "epochs": 1.4},
    }
    print(
        f"| {base['model']}, {base['epochs']} epochs | CPU seconds | test accuracy | without the mirror image |\n|---|---|---|---|"
    )
    for name, change in rows.items():
        found = np.array([answered(data, **(base | change), seed=seed) for seed in range(seeds)]).mean(0)
        print(f"| {name} | {found[2]:.0f} | {found[0]:.4f} | {found[1]:.4f} |", flush=True)


def answered(data: Dataset, **settings: Any) -> tuple[float, float, float]:
    """(test accuracy, the same without mirror images, CPU seconds of the training without reading pictures)."""
    begun: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            data, out=Path(folder) / "run", on_event=lambda e: begun.append(time.process_time()) if e["event"] == "plan" else None,
            **settings,
        )  # fmt: skip
        seconds = time.process_time() - begun[0]
        both = load(run.path)
    test = np.flatnonzero([item.split == "test" for item in data.items])
    pixels, truth = open_pack(data, both.contract).pixels, data.targets()[test]
    first, second = (
        float((classifier.predict_proba(pixels[test]).argmax(1) == truth).mean())
        for classifier in (both, replace(both, mirror=False))
    )
    return first, second, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar10", nargs="?", type=Path, default=SHARED / "data" / "cifar10-jpeg.zip")
    parser.add_argument(
        "--long", action="store_true", help="each ingredient on CIFAR-10, too: some ten minutes more for each seed"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each ingredient")
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
        ingredients(data, arguments.seeds)


if __name__ == "__main__":
    main()
