"""The layer table, and what convolutions save, of whatever a user names: a network of the zoo, a network as text, or a run."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from pellucid.errors import ConfigError
from pellucid.model.classifier import load
from pellucid.model.courses import COURSE
from pellucid.model.summary import Summary, summarize
from pellucid.model.versus import VersusDense, versus_dense
from pellucid.model.zoo import default_input, find_architecture, outline


def summary_of(name: str | Path, *, input_shape: str | None = None, num_classes: int = 10) -> Summary:
    """The layer table of a run folder's classifier, or of a network by name or text for pictures like '3x32x32'.

    Without `input_shape` a network is shown for the input it is usually given. No weights are made or read.
    Raises ConfigError for a shape that is none, UnknownNameError, SpecError, ShapeError.
    """
    return summarize(*_network(name, input_shape, num_classes))


def versus_dense_of(name: str | Path, *, input_shape: str | None = None, num_classes: int = 10) -> VersusDense:
    """The convolutions of the same networks against fully connected layers; arguments and errors as of `summary_of`."""
    return versus_dense(*_network(name, input_shape, num_classes))


def _network(name: str | Path, input_shape: str | None, num_classes: int) -> tuple[nn.Module, tuple[int, int, int]]:
    if Path(name).is_dir():
        classifier = load(name)
        return classifier.module, classifier.input_shape
    architecture = find_architecture(str(name))
    if input_shape is not None:
        shape = _parse(input_shape)
    else:
        shape = COURSE[str(name)].input_shape if name in COURSE else default_input(architecture)
    return outline(architecture, input_shape=shape, num_classes=num_classes), shape


def _parse(text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip())
    if not found or min(map(int, found.groups())) < 1:
        raise ConfigError(f"--input is '{text}'; expected channels x height x width, like 3x32x32.")
    channels, height, width = map(int, found.groups())
    return channels, height, width
