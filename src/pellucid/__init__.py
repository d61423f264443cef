"""Pellucid: image classifiers you can see through. The public names; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pellucid.data.check import Check, check
    from pellucid.data.contract import PixelContract
    from pellucid.data.dataset import Dataset, open_dataset
    from pellucid.data.split import make_splits
    from pellucid.errors import PellucidError
    from pellucid.evaluation.measure import evaluate
    from pellucid.evaluation.metrics import Evaluation
    from pellucid.evaluation.predict import predict_files
    from pellucid.model.classifier import Classifier, load
    from pellucid.model.prediction import Prediction
    from pellucid.model.pretrained import load_pretrained
    from pellucid.model.spec import Spec, parse_spec
    from pellucid.model.summary import summarize
    from pellucid.run import Run
    from pellucid.training.loop import fit
    from pellucid.training.pipeline import resume, train

__version__ = "0.1.0"

_HOME = {
    "Check": "data.check",
    "Classifier": "model.classifier",
    "Dataset": "data.dataset",
    "Evaluation": "evaluation.metrics",
    "PellucidError": "errors",
    "PixelContract": "data.contract",
    "Prediction": "model.prediction",
    "Run": "run",
    "Spec": "model.spec",
    "check": "data.check",
    "evaluate": "evaluation.measure",
    "fit": "training.loop",
    "load": "model.classifier",
    "load_pretrained": "model.pretrained",
    "make_splits": "data.split",
    "open_dataset": "data.dataset",
    "parse_spec": "model.spec",
    "predict_files": "evaluation.predict",
    "resume": "training.pipeline",
    "summarize": "model.summary",
    "train": "training.pipeline",
}

__all__ = [
    "Check", "Classifier", "Dataset", "Evaluation", "PellucidError", "PixelContract", "Prediction", "Run", "Spec",
    "check", "evaluate", "fit", "load", "load_pretrained", "make_splits", "open_dataset", "parse_spec", "predict_files",
    "resume", "summarize", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pellucid' has no attribute '{name}'")
    return getattr(import_module(f"pellucid.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
