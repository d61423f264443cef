"""Every error that Pellucid raises on purpose.

One root, so that a program can catch everything of ours, and each error is also the standard type that it resembles.
A message is one paragraph: what happened (with the value received), what was expected, what to do next.

    PellucidError
    ├── ConfigError (ValueError)        a setting that cannot be used
    ├── UnknownNameError (ValueError)   a name that is not in the list; the nearest ones are suggested
    ├── DataError (ValueError)          a data set that cannot be used
    │   ├── PictureError                one picture that cannot be read; `reason` says why
    │   └── SplitError                  splits that cannot be made or that leak
    ├── ShapeError (ValueError)         a layer that cannot work on what it receives
    ├── SpecError (ValueError)          a network text that cannot be parsed
    ├── WeightsError (ValueError)       a weights file or model folder that does not fit or is damaged
    ├── RunError (ValueError)           a run folder that is missing, damaged, in use or of a newer version
    ├── TrainingError (RuntimeError)    a training that cannot go on (not-a-number loss)
    ├── StorageError (OSError)          disk full, folder not writable
    └── MissingExtraError (ImportError) an optional library that is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PellucidError(Exception):
    """Root of all errors that Pellucid raises on purpose."""


class ConfigError(PellucidError, ValueError):
    """A setting that cannot be used."""


class UnknownNameError(PellucidError, ValueError):
    """A name that is not in the list; the message suggests the nearest ones."""


class DataError(PellucidError, ValueError):
    """A data set that cannot be used."""


class PictureError(DataError):
    """One picture that cannot be read. `reason` is a short phrase without the path, e.g. 'file is empty (0 bytes)'."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SplitError(DataError):
    """Splits that cannot be made, or that leak."""


class ShapeError(PellucidError, ValueError):
    """A layer that cannot work on the shape that it receives."""


class SpecError(PellucidError, ValueError):
    """A network written as text that cannot be parsed."""


class WeightsError(PellucidError, ValueError):
    """A weights file or model folder that does not fit or is damaged."""


class RunError(PellucidError, ValueError):
    """A run folder that is missing, damaged, in use or of a newer version."""


class TrainingError(PellucidError, RuntimeError):
    """A training that cannot go on."""


class StorageError(PellucidError, OSError):
    """Something could not be written: disk full, folder not writable."""


class MissingExtraError(PellucidError, ImportError):
    """An optional library that is not installed; the message names the pip line."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """A sentence that suggests the known names nearest to `name`: 'Did you mean resnet18, resnet34?', or ''."""
    lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), list(lower), n=count, cutoff=0.6)
    return f"Did you mean {', '.join(lower[f] for f in found)}?" if found else ""
