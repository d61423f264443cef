"""How fast pictures are answered: `predict` on a folder of photographs beside the engines on tensors that lie ready.

    .venv/bin/python bench/predict.py [PICTURES]     or, in one line,     .venv/bin/python bench/run.py predict

ResNet-50 (random weights: speed does not depend on them) and MobileNet v2 on the photographs of `clothing`, repeated to
PICTURES files (512). The tensors are float32, batches of 32, and each engine is called as its documentation does, with all cores
on one batch; 64 pictures. The folder is decoded, resized, answered and ranked, by the engine that `--engine auto` takes, a
batch on each core. All of them take turns; medians of seven rounds. What `predict` needs once, to start an engine (a second or
two) and to measure which one (kept), is not in it.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
BATCH, TENSORS, ROUNDS = 32, 64, 7
FOLDER, NO_NETWORK = "a folder", "a folder, without the network"


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


def in_turn(works: dict[str, Callable[[], object]], pictures: dict[str, int]) -> dict[str, float]:
    """Pictures a second of each, the median of ROUNDS; they take turns, since what else the machine does changes from minute to
    minute, and each is done once before."""
    speeds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if turn:
                speeds[name].append(pictures[name] / (time.perf_counter() - started))
    return {name: statistics.median(speed) for name, speed in speeds.items()}


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


def measure(count: int = 512) -> list[Speed]:
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
            chosen, trials = with_engine(classifier, "auto", pixels=pixels, count=10**9)
            works = {name: _on_tensors(_as_documented(classifier, name), classifier, pixels) for name in ENGINES}
            works[FOLDER] = _on_folder(chosen, files)
            works[NO_NETWORK] = _on_folder(_answering_nothing(classifier), files)
            speeds = in_turn(works, dict.fromkeys(ENGINES, len(pixels)) | dict.fromkeys((FOLDER, NO_NETWORK), count))
            engine = next(trial.engine for trial in trials if trial.correct)
            found.append(Speed(name, speeds, engine, speeds[FOLDER], speeds[NO_NETWORK], trials))
    return found


def _on_tensors(
    engine: Callable[[torch.Tensor], object], classifier: Classifier, pixels: np.ndarray
) -> Callable[[], None]:
    batches = classifier.contract.tensor(torch.from_numpy(pixels)).contiguous().split(BATCH)  # as libraries want them

    def work() -> None:
        with torch.inference_mode():
            for batch in batches:
                engine(batch)

    return work


def _on_folder(classifier: Classifier, files: Sequence[Path]) -> Callable[[], None]:
    def work() -> None:
        for _ in predict_files(classifier, files, engine=REFERENCE):  # whatever engine the classifier has
            pass

    return work


def _answering_nothing(classifier: Classifier) -> Classifier:
    nothing = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 1000))
    return Classifier(nothing.eval(), classifier.classes, classifier.contract, classifier.architecture)


def main() -> None:
    rows = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 512)
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
