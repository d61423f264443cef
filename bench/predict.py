"""How fast pictures are answered: `predict` on a folder of photographs beside the engines on tensors that lie ready.

    .venv/bin/python bench/predict.py [PICTURES]     or, in one line,     .venv/bin/python bench/run.py predict

ResNet-50 (random weights: speed does not depend on them) and MobileNet v2 on the photographs of `clothing`, repeated to
PICTURES files (2,048). The tensors are float32, batches of 32, and each engine is called as its documentation does, with all
cores on one batch; the median of three rounds over 128 pictures before the folder and of three behind it. The folder is
decoded, resized, answered and ranked, by the engine that `--engine auto` takes, a batch on each core.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import timm
import torch

from pellucid.data.contract import PixelContract
from pellucid.data.decode import decode
from pellucid.evaluation.predict import find_pictures, predict_files
from pellucid.model.classifier import Classifier
from pellucid.model.engine import REFERENCE, Trial, _folder, with_engine
from pellucid.model.pretrained import load_pretrained
from pellucid.model.zoo import Architecture
from run import SHARED, unpacked

ENGINES = (REFERENCE, "torch channels-last", "torch bf16", "onnxruntime", "openvino", "openvino bf16")
BATCH, TENSORS, ROUNDS = 32, 128, 3


@dataclass(frozen=True)
class Speed:
    """Pictures a second: of each engine on tensors, of `predict` on the folder; `engine` is the one that it took, `decoding`
    how many the threads decode a second when nothing else runs."""

    network: str
    engines: dict[str, float]
    engine: str
    folder: float
    decoding: float
    trials: list[Trial]

    @property
    def ratio(self) -> float:
        """To the fastest engine whose answers are those of full precision."""
        return self.folder / max(self.engines[t.engine] for t in self.trials if t.correct)


def classifiers() -> dict[str, Classifier]:
    size = {"height": 224, "width": 224, "channels": 3, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    torch.manual_seed(0)
    resnet = Classifier(timm.create_model("resnet50").eval(), tuple(map(str, range(1000))), PixelContract(**size),
                        Architecture("timm", "resnet50"))  # fmt: skip
    mobilenet = load_pretrained("mobilenetv2_100", str(SHARED / "weights" / "mobilenetv2_100.safetensors"))
    return {"resnet50": resnet, "mobilenetv2_100": mobilenet}


Engines = dict[str, Callable[[torch.Tensor], object]]


def on_tensors(engines: Engines, classifier: Classifier, pixels: np.ndarray) -> dict[str, list[float]]:
    """Pictures a second of each engine, of every round; they take turns."""
    batches = classifier.contract.tensor(torch.from_numpy(pixels)).contiguous().split(BATCH)  # as libraries want them
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    with torch.inference_mode():
        for turn in range(ROUNDS + 1):
            for name, engine in engines.items():
                started = time.perf_counter()
                for batch in batches:
                    engine(batch)
                if turn:  # the first one warms up
                    speeds[name].append(len(pixels) / (time.perf_counter() - started))
    return speeds


def _as_documented(classifier: Classifier, name: str) -> Callable[[torch.Tensor], object]:
    built = with_engine(classifier, name, pixels=np.zeros(0), count=0)[0]
    if name == "onnxruntime":
        session = onnxruntime.InferenceSession(_folder(classifier) / "model.onnx", providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0].name
        return lambda x: session.run(None, {entry: x.numpy()})
    if name.startswith("openvino"):
        precision = {"INFERENCE_PRECISION_HINT": "bf16" if "bf16" in name else "f32"}
        compiled = openvino.Core().compile_model(_folder(classifier) / "openvino.xml", "CPU", precision)
        return lambda x: compiled(x.numpy())
    return built.forward or built.module


def measure(count: int = 2048) -> list[Speed]:
    torch.set_num_threads(2)
    found = []
    with tempfile.TemporaryDirectory() as place:
        sources = find_pictures([unpacked("clothing", Path(place)) / "test"])
        folder = Path(place) / "photos"
        folder.mkdir()
        for i in range(count):
            shutil.copy(sources[i % len(sources)], folder / f"{i:05}.jpg")
        files = find_pictures([folder])
        for name, classifier in classifiers().items():
            pixels = np.stack(
                [classifier.contract.pixels(decode(file.read_bytes()).pixels) for file in files[:TENSORS]]
            )
            _, trials = with_engine(classifier, "auto", pixels=pixels, count=10**9)
            engines = {name: _as_documented(classifier, name) for name in ENGINES}
            before = on_tensors(engines, classifier, pixels)
            engine = next(trial.engine for trial in trials if trial.correct)
            started = time.perf_counter()
            for _ in predict_files(classifier, files, engine=engine):
                pass
            seconds = time.perf_counter() - started
            after = on_tensors(engines, classifier, pixels)  # what else the machine does changes from minute to minute
            started = time.perf_counter()
            for _ in predict_files(_answering_nothing(classifier), files, engine=REFERENCE):
                pass
            decoding = count / (time.perf_counter() - started)
            speeds = {name: statistics.median(before[name] + after[name]) for name in engines}
            found.append(Speed(name, speeds, engine, count / seconds, decoding, trials))
    return found


def _answering_nothing(classifier: Classifier) -> Classifier:
    nothing = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 1000))
    return Classifier(nothing.eval(), classifier.classes, classifier.contract, classifier.architecture)


def main() -> None:
    rows = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2048)
    print("| network | " + " | ".join(ENGINES) + " | predict, a folder | by | ratio | decoding alone |")
    print("|---|" + "--:|" * (len(ENGINES) + 1) + "---|--:|--:|")
    for row in rows:
        wrong = {trial.engine for trial in row.trials if not trial.correct}
        cells = (f"{row.engines[name]:.1f}" + (" (other answers)" if name in wrong else "") for name in ENGINES)
        print(
            f"| {row.network} | {' | '.join(cells)} | {row.folder:.1f} | {row.engine} | {row.ratio:.2f} | {row.decoding:.0f} |"
        )


if __name__ == "__main__":
    main()
