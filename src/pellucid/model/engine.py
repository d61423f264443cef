"""Engines: other ways to run a network forward, and which of them is the fastest here that still gives its answers.

The reference is the module itself in full precision. An engine counts only when its probabilities are within 0.01 of the
reference's, and its most probable answer the same, on every picture of a probe; both are measured on this machine and kept.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from pellucid.device import autocast, describe_machine, num_cpus
from pellucid.errors import ConfigError, StorageError
from pellucid.files import atomic_write, cache_folder, storage_errors, write_json
from pellucid.model.classifier import Classifier, Forward

REFERENCE = "torch fp32"
TOLERANCE = 0.01  # of a probability
PROBE = 32  # pictures
# Seconds that the reference would need for all pictures, from which on it pays to build and measure the engines (half a
# minute for ResNet-50), and to take one that was measured before.
_WORTH_MEASURING, _WORTH_USING = 60.0, 10.0
_TRIALS = "trials.json"


@dataclass(frozen=True)
class Trial:
    """What the probe found of an engine: pictures a second, and the largest difference of a probability to the reference;
    `correct` when that is within TOLERANCE and every most probable answer is the same."""

    engine: str
    speed: float
    difference: float
    correct: bool


def told(trials: list[Trial]) -> str:
    """A sentence about what was measured."""
    best = next(trial for trial in trials if trial.correct)
    others = ", ".join(
        f"{t.engine} {t.speed:,.0f}" + ("" if t.correct else f" (off by {t.difference:.2g}, not used)")
        for t in trials if t != best
    )  # fmt: skip
    return (
        f"engine: {best.engine}, {best.speed:,.0f} pictures/s; probabilities within {best.difference:.1g} of full precision "
        f"on {PROBE} pictures. Others: {others}"
    )


def with_engine(classifier: Classifier, name: str, *, pixels: np.ndarray, count: int) -> tuple[Classifier, list[Trial]]:
    """The classifier with an engine, and what was measured to choose it, the fastest first.

    'auto' takes the fastest correct one, and the reference when it would answer all `count` pictures before the others are
    even built. `pixels` uint8 (N, H, W, C), as `contract.pixels` gives them, are some of these pictures. The measurement is
    kept in the cache, under the network, the machine and the versions of the libraries.
    Raises ConfigError when there is no engine `name` here, or when it cannot run this network.
    """
    if name == REFERENCE:
        return classifier, []
    if name != "auto":
        if name not in _BUILD:
            raise ConfigError(f"There is no engine '{name}'. There are: auto, {REFERENCE}, {', '.join(_BUILD)}.")
        return replace(classifier, forward=_built(classifier, name, _folder(classifier))), []
    pixels = pixels[:PROBE]
    if len(pixels) < PROBE:
        return classifier, []
    try:
        folder = _folder(classifier)
        if trials := _known(folder):
            if count / next(trial.speed for trial in trials if trial.engine == REFERENCE) < _WORTH_USING:
                return classifier, []
        else:
            expected, speed = _timed(classifier, pixels)
            if count / speed < _WORTH_MEASURING:
                return classifier, []
            trials = _measured(classifier, pixels, expected, speed, folder)
        best = next(trial.engine for trial in trials if trial.correct)
        return classifier if best == REFERENCE else replace(
            classifier, forward=_built(classifier, best, folder)
        ), trials
    except StorageError:  # the answers matter more than the cache
        return classifier, []


def _known(folder: Path) -> list[Trial]:
    try:
        trials = [Trial(**row) for row in json.loads((folder / _TRIALS).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
    return trials if any(trial.engine == REFERENCE for trial in trials) else []


def _measured(
    classifier: Classifier, pixels: np.ndarray, expected: np.ndarray, speed: float, folder: Path
) -> list[Trial]:
    """The reference, whose answers and speed are given, and all engines that can be built here, fastest first; kept in
    `folder`."""
    trials = [Trial(REFERENCE, speed, 0.0, True)]
    for name in _BUILD:
        try:
            engine = replace(classifier, forward=_built(classifier, name, folder))
            answers, speed = _timed(engine, pixels)
        except (ConfigError, RuntimeError):  # a library that is missing, or gives up on this network
            continue
        difference = float(np.abs(answers - expected).max())
        same = bool((answers.argmax(1) == expected.argmax(1)).all())
        trials.append(Trial(name, speed, difference, same and difference <= TOLERANCE))
    trials.sort(key=lambda trial: -trial.speed)
    write_json(folder / _TRIALS, [asdict(trial) for trial in trials])
    return trials


def _timed(classifier: Classifier, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Its answers, and pictures a second."""
    classifier.predict_proba(pixels[:2])  # the first time is slower
    started = time.perf_counter()
    answers = classifier.predict_proba(pixels)
    return answers, round(len(pixels) / (time.perf_counter() - started), 1)


def _built(classifier: Classifier, name: str, folder: Path) -> Forward:
    """Raises ConfigError when the library is missing or cannot run this network."""
    library = name.split()[0]
    if find_spec(library) is None:
        raise ConfigError(f"The engine '{name}' needs a library: pip install \"pellucid[engines]\"")
    if library != "torch" and classifier.device.type != "cpu":
        raise ConfigError(f"The engine '{name}' runs on the processor, but the network is on {classifier.device}.")
    try:
        with _quiet(), classifier.answering():
            return _BUILD[name](classifier, folder)
    except StorageError:
        raise
    except Exception as error:  # whatever a library raises of a network that it does not know
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ConfigError(f"The engine '{name}' cannot run {classifier.architecture}: {reason}") from error


def _torch(classifier: Classifier, precision: str) -> Forward:
    device = classifier.device
    module = copy.deepcopy(classifier.module).eval().to(memory_format=torch.channels_last)

    def forward(x: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            logits: torch.Tensor = module(x.contiguous(memory_format=torch.channels_last))
        return logits

    return forward


def _openvino(classifier: Classifier, folder: Path, precision: str) -> Forward:
    import openvino

    file = folder / "openvino.xml"
    if not file.exists():
        example = torch.zeros(1, *classifier.input_shape)
        model = openvino.convert_model(classifier.module, example_input=example)
        model.reshape([-1, *classifier.input_shape])
        with storage_errors(file):  # the weights first: the .xml is what is looked for
            openvino.save_model(model, file.with_name("new.xml"), compress_to_fp16=False)
            file.with_name("new.bin").replace(file.with_suffix(".bin"))
            file.with_name("new.xml").replace(file)
    hints = {"INFERENCE_NUM_THREADS": num_cpus(), "NUM_STREAMS": num_cpus(), "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(file, "CPU", hints)
    own = threading.local()  # a request answers one batch at a time

    def forward(x: torch.Tensor) -> torch.Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return torch.from_numpy(own.request.infer(x.numpy())[0].copy())

    return forward


def _onnxruntime(classifier: Classifier, folder: Path) -> Forward:
    import onnxruntime

    file = folder / "model.onnx"
    if not file.exists():
        example = torch.zeros(2, *classifier.input_shape)
        batch = torch.export.Dim("batch")
        program = torch.onnx.export(
            classifier.module, (example,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
        )
        assert program is not None
        atomic_write(file, program.model_proto.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a batch is answered by one core, see predict_proba
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: x.numpy()})[0])

    return forward


_BUILD: dict[str, Callable[[Classifier, Path], Forward]] = {
    "torch channels-last": lambda classifier, _: _torch(classifier, "fp32"),
    "torch bf16": lambda classifier, _: _torch(classifier, "bf16"),
    "onnxruntime": _onnxruntime,
    "openvino": lambda classifier, folder: _openvino(classifier, folder, "f32"),
    "openvino bf16": lambda classifier, folder: _openvino(classifier, folder, "bf16"),
}


def _folder(classifier: Classifier) -> Path:
    """Where this network's engines are kept: a function of its weights, its input, the machine and the libraries."""
    machine = describe_machine(classifier.device)
    hashed = hashlib.sha256()
    for name, tensor in classifier.module.state_dict().items():
        hashed.update(name.encode() + tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    identity = [str(classifier.architecture), *classifier.input_shape, machine["processor"], machine["threads"],
                machine["device"], machine["versions"]]  # fmt: skip
    hashed.update(json.dumps(identity).encode())
    folder = cache_folder() / "engines" / hashed.hexdigest()[:16]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Converters tell much that is of no use to whoever wants an answer."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
