"""What others reach on the same pictures and cores, each as its own documentation teaches; run by bench/run.py in the
environment of bench/requirements.txt.

    .venv-bench/bin/python bench/peers.py keras FOLDER SECONDS...       accuracy on FOLDER/test after so many seconds
    .venv-bench/bin/python bench/peers.py torchvision FOLDER SECONDS
    .venv-bench/bin/python bench/peers.py fastai FOLDER WEIGHTS

Prints one JSON document. Seconds count from the start of the process, imports and reading of the pictures included; the
time of measuring in between does not count.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
CORES = len(os.sched_getaffinity(0))


def keras(folder: Path, *limits: str) -> list[dict[str, Any]]:
    """The network and settings of TensorFlow's tutorial "Convolutional Neural Network (CNN)", for as long as is asked, on
    pictures read by image_dataset_from_directory, which it keeps decoded."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import tensorflow as tf

    keras, layers = tf.keras, tf.keras.layers
    read = {"image_size": (32, 32), "batch_size": 32, "verbose": False}
    train = keras.utils.image_dataset_from_directory(folder / "train", seed=0, **read).cache().prefetch(2)
    test = keras.utils.image_dataset_from_directory(folder / "test", shuffle=False, **read).cache()
    model = keras.Sequential([
        layers.Input((32, 32, 3)), layers.Rescaling(1 / 255),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.Flatten(),
        layers.Dense(64, activation="relu"), layers.Dense(10),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    found: list[dict[str, Any]] = []
    waiting = sorted(map(float, limits))

    class Clock(keras.callbacks.Callback):
        measuring = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            now = time.perf_counter()
            if waiting and now - STARTED - self.measuring >= waiting[0]:
                asked = waiting.pop(0)
                answers = model.predict(test, verbose=0).argmax(1)
                truth = [label for _, labels in test for label in labels.numpy()]
                right = sum(int(a == b) for a, b in zip(answers, truth, strict=True))
                found.append({"seconds": asked, "accuracy": right / len(truth), "n": len(truth)})
                self.measuring += time.perf_counter() - now
            if not waiting:
                model.stop_training = True

    model.fit(train, epochs=10_000, verbose=0, callbacks=[Clock()])
    return found


def torchvision(folder: Path, limit: str) -> list[dict[str, Any]]:
    """ResNet-18 by the recipe of torchvision's references/classification (SGD 0.1, momentum 0.9, weight decay 1e-4, cosine,
    here over the time), with the crop and mirror images that are usual for pictures of 32x32; batches of 128."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import datasets, models
    from torchvision.transforms import v2

    normal = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))]
    learned = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), *normal])
    train = datasets.ImageFolder(folder / "train", learned)
    test = datasets.ImageFolder(folder / "test", v2.Compose(normal))
    loader = DataLoader(train, 128, shuffle=True, num_workers=CORES, persistent_workers=True, drop_last=True)
    torch.manual_seed(0)
    model = models.resnet18(num_classes=len(train.classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    seconds, spent = float(limit), 0.0
    model.train()
    while spent < seconds:
        for x, y in loader:
            spent = time.perf_counter() - STARTED
            if spent >= seconds:
                break
            optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * spent / seconds))
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    right = 0
    with torch.inference_mode():
        for x, y in DataLoader(test, 256):
            right += int((model(x).argmax(1) == y).sum())
    return [{"seconds": seconds, "accuracy": right / len(test), "n": len(test)}]


def fastai(folder: Path, weights: str) -> list[dict[str, Any]]:
    """`fine_tune(1)` of the same MobileNet v2 weights: an epoch of the new head, an epoch of everything."""
    from fastai.vision.all import ImageDataLoaders, Resize, accuracy, aug_transforms, set_seed, vision_learner
    from safetensors.torch import load_file

    set_seed(0)
    data = ImageDataLoaders.from_folder(folder, train="train", valid="validation", item_tfms=Resize(256),
                                        batch_tfms=aug_transforms(size=224), bs=32, num_workers=CORES)  # fmt: skip
    learner = vision_learner(data, "mobilenetv2_100", pretrained=False, metrics=accuracy)
    body = learner.model[0].model
    missing, _ = body.load_state_dict(load_file(weights), strict=False)
    assert not missing, f"weights that are not in the file: {missing}"
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(1)
        seconds = time.perf_counter() - STARTED
        test = learner.dls.test_dl(sorted((folder / "test").rglob("*.jpg")), with_labels=True)
        _, right = learner.validate(dl=test)
    return [{"seconds": seconds, "accuracy": float(right), "n": len(test.dataset)}]


def main() -> None:
    peer, folder, *rest = sys.argv[1:]
    print(json.dumps({"keras": keras, "torchvision": torchvision, "fastai": fastai}[peer](Path(folder), *rest)))


if __name__ == "__main__":
    main()
