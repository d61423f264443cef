"""Sigmoid against ReLU in a deep network, with and without batch norm: who learns, and what gradient reaches the first layer.

Figure     loss, validation accuracy and gradient norm by layer of one network, eight convolutions deep, in four kinds
n          1,617 digits (8x8) for training, 180 for validation; three seeds of weights, order and split
Hardware   two cores of an AMD EPYC without a GPU: about two minutes
Command    .venv/bin/python recipes/sigmoid_against_relu.py [FOLDER]      writes two PNG files into FOLDER (default: here)

The sigmoid's slope is at most 1/4, so each layer leaves at most a quarter of the gradient (times its weights): after eight
layers the first one receives next to nothing. ReLU's slope is 1 where it is open. Batch norm keeps the values where the
slope is large, for either of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pellucid import fit, open_dataset
from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.loader import Pictures
from pellucid.data.pack import open_pack
from pellucid.device import seed_everything
from pellucid.model.zoo import build, find_architecture
from pellucid.training.loop import Recipe
from pellucid.training.plan import with_statistics

DEPTH, EPOCHS, SEEDS = 8, 15, 3
KINDS = {  # name: (what stands after each convolution, color, line); colors of Okabe and Ito, lines for grey print
    "ReLU + batch norm": ("bn relu", "#0072b2", "-"),
    "ReLU": ("relu", "#56b4e9", "--"),
    "sigmoid + batch norm": ("bn sigmoid", "#d55e00", "-."),
    "sigmoid": ("sigmoid", "#000000", ":"),
}


def digits(seed: int) -> tuple[Pictures, Pictures, PixelContract]:
    """Training and validation part, and the contract with their statistics."""
    dataset = open_dataset("digits")
    contract = PixelContract(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
    pack = open_pack(dataset, contract)
    labels = np.array([item.label for item in dataset.items])
    order = np.random.default_rng(seed).permutation(len(labels))
    train = Pictures(pack.pixels, labels, np.sort(order[180:]))
    return train, Pictures(pack.pixels, labels, np.sort(order[:180])), with_statistics(contract, train)


def trained(kind: str, seed: int) -> list[dict[str, Any]]:
    """The events of one training."""
    train, valid, contract = digits(seed)
    seed_everything(seed)
    text = f"conv16,psame {KINDS[kind][0]} " * DEPTH + "globalpool"
    module = build(find_architecture(text), input_shape=(1, 8, 8), num_classes=10)
    steps = EPOCHS * -(-len(train) // 64)
    recipe = Recipe(
        steps=steps, max_steps=steps, batch_size=64, optimizer="adamw", learning_rate=3e-3, weight_decay=0.02, momentum=0.9,
        warmup=0.2, label_smoothing=0.0, average_steps=0, clip=None, class_weights=None, patience=None,
        augmentation=Augmentation(), precision="fp32", channels_last=True, seed=seed,
    )  # fmt: skip
    events: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        fit(
            module, train, valid, contract=contract, recipe=recipe, device=torch.device("cpu"), folder=Path(folder),
            on_event=events.append,
        )  # fmt: skip
    return events


def curve(runs: list[list[dict[str, Any]]], key: str) -> np.ndarray:
    """(seeds, epochs) of one figure of the epochs."""
    return np.array([[event[key] for event in events if event["event"] == "epoch"] for events in runs])


def gradients(events: list[dict[str, Any]]) -> np.ndarray:
    """(looks, layers): gradient norms of the eight convolutions and of the last layer."""
    looks = [event["layers"] for event in events if event["event"] == "health"]
    return np.array([[row["gradient"] for row in layers if "gradient" in row] for layers in looks])


def draw_learning(found: dict[str, list[list[dict[str, Any]]]], file: Path) -> None:
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = np.arange(1, EPOCHS + 1)
    for kind, runs in found.items():
        _, color, line = KINDS[kind]
        for axes, key in ((loss, "train_loss"), (accuracy, "valid_accuracy")):
            values = curve(runs, key)
            axes.plot(epochs, values.mean(0), line, color=color, linewidth=2, label=kind)
            axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
    loss.axhline(np.log(10), color="#888888", linewidth=0.8)
    loss.text(EPOCHS, 2.36, "guessing: ln 10", ha="right", fontsize=9, color="#555555")
    loss.set(xlabel="epoch", ylabel="training loss", ylim=(0, 2.6))
    accuracy.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    figure.legend(*loss.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(KINDS))
    figure.suptitle(f"{DEPTH} convolutions on digits; mean and range of {SEEDS} seeds", fontsize=11)
    _write(figure, file)


def draw_gradients(found: dict[str, list[list[dict[str, Any]]]], file: Path) -> None:
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    layers = np.arange(1, DEPTH + 2)
    names = [*map(str, layers[:-1]), "last"]
    for axes, look, when in zip(figure.subplots(1, 2, sharey=True), (0, -1), ("first step", "end"), strict=True):
        for kind, runs in found.items():
            _, color, line = KINDS[kind]
            norms = np.array([gradients(events)[look] for events in runs])
            axes.semilogy(layers, np.exp(np.log(norms).mean(0)), line, color=color, linewidth=2, marker="o", markersize=4,
                          label=kind)  # fmt: skip
        axes.set_xticks(layers, names)
        axes.set(xlabel="layer", title=f"gradient norm at the {when}")
        axes.grid(axis="y", alpha=0.3)
    figure.axes[0].set_ylabel(f"gradient norm (geometric mean of {SEEDS} seeds)")
    figure.axes[1].legend(frameon=False, loc="lower right")
    _write(figure, file)


def _write(figure: Figure, file: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure).print_png(str(file))
    print(f"wrote {file}")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    folder.mkdir(parents=True, exist_ok=True)
    found = {kind: [trained(kind, seed) for seed in range(SEEDS)] for kind in KINDS}
    print(
        "| network | training loss | validation accuracy | first layer's gradient / last layer's, at the first step | warning |"
    )
    print("|---|---|---|---|---|")
    for kind, runs in found.items():
        norms = np.array([gradients(events)[0] for events in runs])
        ratio = np.exp(np.log(norms[:, 0] / norms[:, -1]).mean())
        told = sorted({event["kind"] for events in runs for event in events if event["event"] == "warning"})
        right = curve(runs, "valid_accuracy")[:, -1]
        print(f"| {kind} | {curve(runs, 'train_loss')[:, -1].mean():.3f} | {right.mean():.3f} ({right.min():.3f} to "
              f"{right.max():.3f}) | {ratio:.1e} | {', '.join(told) or 'none'} |", flush=True)  # fmt: skip
    draw_learning(found, folder / "sigmoid_against_relu_learning.png")
    draw_gradients(found, folder / "sigmoid_against_relu_gradients.png")


if __name__ == "__main__":
    main()
