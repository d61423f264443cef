"""The classifier: a plain torch module with its class names, its pixel contract and where its weights come from.

Saved as `model.safetensors` and `card.json`; loading reads numbers and names, and runs nobody's code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.decode import Picture, decode, from_array
from pellucid.data.task import CLASS, LABELS, NUMBER, ONE_CLASS, Task
from pellucid.device import workers
from pellucid.errors import ConfigError, PictureError, RunError, WeightsError
from pellucid.files import atomic_write, storage_errors, write_json
from pellucid.model.calibration import Calibration
from pellucid.model.prediction import AnyPrediction, LabelsPrediction, NumberPrediction, Prediction
from pellucid.model.validation import Validation, load_validation
from pellucid.model.zoo import Architecture, build

Forward = Callable[[torch.Tensor], torch.Tensor]  # float32 (N, C, H, W) -> logits (N, K)

FORMAT = 1
# Of the input, a batch: on a processor its maps stay in the cache of the core that computes it.
_BATCH_PIXELS, _BATCH_PIXELS_ELSEWHERE = 2**18, 2**22


@dataclass(frozen=True, eq=False)
class Classifier:
    """`module` maps float32 (N, C, H, W), as `contract.tensor` gives it, to logits (N, len(classes)).

    `task` says what they mean; `classes` are the classes, the labels, or what the number is called. With `mirror` every
    answer rests on the picture and its mirror image. `offsets` are added to the logits: they turn probabilities for classes that
    are equally frequent into those for classes as frequent as in the data. `calibration` then makes its probabilities mean what
    they say; `validation` is what it said of the validation part. Both are None where there were none (or too few) of these
    pictures.
    """

    module: nn.Module
    classes: tuple[str, ...]
    contract: PixelContract
    architecture: Architecture
    weights: Mapping[str, str] = field(default_factory=lambda: {"origin": "trained from scratch"})
    task: Task = ONE_CLASS
    mirror: bool = False
    calibration: Calibration | None = None
    validation: Validation | None = None
    forward: Forward | None = None  # another way to run the module, see engine.py
    offsets: tuple[float, ...] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.contract.channels, self.contract.height, self.contract.width

    def predict(self, picture: str | Path | bytes | np.ndarray | Picture) -> AnyPrediction:
        """Answers for one picture: a path, a file's bytes, or an array (H, W) or (H, W, C).

        Raises PictureError when it cannot be read.
        """
        return self.rank(self.predict_proba(self.pixels(picture)[None])[0])

    def pixels(self, picture: str | Path | bytes | np.ndarray | Picture) -> np.ndarray:
        """What the network is given of one picture: uint8 (H, W, C), before `contract.tensor`.

        Raises PictureError when it cannot be read.
        """
        return self.contract.pixels(_as_picture(picture).pixels).copy()

    def predict_proba(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W, C), as `contract.pixels` gives them, -> float32 (N, len(classes)).

        Probabilities: of classes, whose rows sum to 1; of labels, each by itself; or the number in its unit, (N, 1).
        """
        return self.answers(self.predict_logits(pixels))

    def predict_logits(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 (N, H, W, C), as `contract.pixels` gives them, -> float32 (N, len(classes)), not calibrated."""
        if not len(pixels):
            return torch.zeros(0, len(self.classes))
        batches = np.array_split(pixels, -(-len(pixels) // self.batch_size))
        with self.answering():
            if len(batches) == 1:
                return self._batch(pixels)
            with workers(None if self.device.type == "cpu" else 1) as pool:
                return torch.cat(list(pool.map(self._batch, batches)))

    @property
    def batch_size(self) -> int:
        """How many pictures are best answered at once."""
        most = _BATCH_PIXELS if self.device.type == "cpu" else _BATCH_PIXELS_ELSEWHERE
        return min(256, max(8, most // (self.contract.height * self.contract.width)))

    @cached_property
    def _names(self) -> np.ndarray:
        """The classes, to be picked by many numbers at once."""
        return np.array(self.classes, object)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While it answers, in one thread or several, the module is in evaluation mode."""
        was_training = self.module.training
        self.module.eval()
        try:
            yield
        finally:
            self.module.train(was_training)

    def rank(self, probabilities: np.ndarray) -> AnyPrediction:
        """float (len(classes),), a row of what `predict_proba` gives -> the prediction."""
        if self.task.kind == NUMBER:
            value, margin = float(probabilities[0]), self.task.margin
            low, high = (None, None) if margin is None else (value - margin, value + margin)
            return NumberPrediction(self.classes[0], value, low, high, self.task.step)
        order = np.argsort(-probabilities, kind="stable")
        labels, ranked = tuple(self._names[order].tolist()), tuple(probabilities[order].tolist())
        return (
            LabelsPrediction(labels, ranked, self.task.separator)
            if self.task.kind == LABELS
            else Prediction(labels, ranked)
        )

    def answers(self, logits: torch.Tensor) -> np.ndarray:
        """Logits (N, len(classes)), not calibrated -> what `predict_proba` gives."""
        logits = logits.float()
        if self.calibration:
            logits = self.calibration(logits)
        if self.task.kind == NUMBER:
            return (logits.double() * self.task.std + self.task.mean).float().cpu().numpy()
        return (logits.sigmoid() if self.task.kind == LABELS else logits.softmax(1)).cpu().numpy()

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, H, W), as `contract.tensor` gives it, -> (N, len(classes)): with `mirror` the mean of both
        sides, and with `offsets` on them."""
        forward = self.forward or self.module
        logits: torch.Tensor = forward(x)
        logits = (logits + forward(x.flip(3))) / 2 if self.mirror else logits
        return logits if self.offsets is None else logits + torch.tensor(self.offsets, device=logits.device)

    @torch.inference_mode()
    def _batch(self, pixels: np.ndarray) -> torch.Tensor:
        x = self.contract.tensor(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device))
        return self.logits(x).float().cpu()

    def save(self, folder: Path) -> None:
        """Writes model.safetensors, validation.safetensors and card.json into `folder`, each whole or not at all, the card last."""
        from safetensors.torch import save

        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        if bad := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
            raise WeightsError(f"The weights of '{bad[0]}' are not finite numbers; nothing was saved to '{folder}'.")
        data = save(state)
        atomic_write(folder / "model.safetensors", data)
        card = {
            "format": FORMAT,
            "classes": list(self.classes),
            "architecture": self.architecture.to_dict(),
            "contract": self.contract.to_dict(),
            "weights": dict(self.weights),
            "task": self.task.to_dict(),
            "mirror": self.mirror,
            "calibration": self.calibration and self.calibration.to_dict(),
            "validation": self.validation and self.validation.save(folder),
            "offsets": self.offsets,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        write_json(folder / "card.json", card)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        what = "classes" if self.task.kind == CLASS else "labels"
        answer = f"a number, {self.classes[0]}" if self.task.kind == NUMBER else f"{len(self.classes)} {what}"
        return f"{self.architecture} on {shape} pixels, {answer}"


def load(path: str | Path) -> Classifier:
    """The classifier of a run folder, or of a folder that holds card.json and model.safetensors.

    Raises RunError when there is none or when it is of a newer version, WeightsError when it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    folder = Path(path)
    if (folder / "model" / "card.json").exists():
        folder = folder / "model"
    if not (folder / "card.json").exists():
        what = "its training has not saved a model yet" if (folder / "run.json").exists() else "it is no run folder"
        if members := sorted(card.parents[1].name for card in folder.glob("*/model/card.json")):
            what = f"it holds several trainings, name one of them like '{folder / members[-1]}'"
        raise RunError(
            f"There is no classifier in '{path}': {what}. Expected model/card.json and model/model.safetensors."
        )
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        if int(card["format"]) > FORMAT:
            raise RunError(
                f"The classifier in '{path}' was written by a newer Pellucid: its format is {card['format']}, this version "
                f"reads up to {FORMAT}. Upgrade with: pip install --upgrade pellucid"
            )
        task = Task(**card.get("task", {}))  # older cards are of classes
        classes = _checked_classes(card["classes"], task)
        contract = PixelContract.from_dict(card["contract"])
        architecture = Architecture(**card["architecture"])
        data = (folder / "model.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != card["sha256"]:
            raise WeightsError(f"'{folder / 'model.safetensors'}' is damaged: its SHA-256 is not the one in card.json.")
        module = build(
            architecture,
            input_shape=(contract.channels, contract.height, contract.width),
            num_classes=len(classes),
        )
        module.load_state_dict(load_tensors(data))
        calibration = Calibration.from_dict(card["calibration"]) if card.get("calibration") else None
        validation = load_validation(folder, card["validation"]) if card.get("validation") else None
        offsets = tuple(float(number) for number in card.get("offsets") or ()) or None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, (RunError, WeightsError)):
            raise
        raise WeightsError(
            f"The classifier in '{path}' is damaged ({error}). Restore it from a copy, or train again."
        ) from error
    module.eval()
    return Classifier(
        module, classes, contract, architecture, card.get("weights", {}), task, bool(card.get("mirror")), calibration,
        validation, offsets=offsets,
    )  # fmt: skip


def _checked_classes(names: Sequence[Any], task: Task) -> tuple[str, ...]:
    fewest = 2 if task.kind == CLASS else 1
    if len(names) < fewest or not all(isinstance(n, str) for n in names) or len(set(names)) != len(names):
        raise ConfigError(f"the card's classes are not {fewest} or more different names")
    return tuple(names)


def _as_picture(picture: str | Path | bytes | np.ndarray | Picture) -> Picture:
    if isinstance(picture, Picture):
        return picture
    if isinstance(picture, np.ndarray):
        return from_array(picture)
    if isinstance(picture, bytes):
        return decode(picture)
    try:
        return decode(Path(picture).read_bytes())
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error
