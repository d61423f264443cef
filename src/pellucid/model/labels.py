"""Names of the classes of a pretrained network: those of ImageNet, or a file of the user's."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pellucid.errors import ConfigError


def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 classes of ImageNet (ILSVRC 2012) in the order of the outputs: one short, different name each."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def read_labels(file: str | Path) -> tuple[str, ...]:
    """The names in `file`: text with a line a class, or JSON, a list or {"0": name, "1": name, ...}.

    Names that stand there more than once get their number: 'crane (class 134)'. Raises ConfigError when the file cannot
    be read as such, or when a class has no name.
    """
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"The labels '{file}' cannot be read: {reason}. {_EXPECTED}") from error
    names = _from_json(text, file) if text[:1] in ("[", "{") else [line.strip() for line in text.splitlines()]
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"Class {number} (counted from 0) in the labels '{file}' has no name. {_EXPECTED}")
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} (class {number})" for number, name in enumerate(names))


_EXPECTED = 'Expected a line of text for each class, a JSON list, or JSON like {"0": "cat", "1": "dog"}.'


def _from_json(text: str, file: str | Path) -> list[Any]:
    try:
        content = json.loads(text)
        return content if isinstance(content, list) else [content[str(number)] for number in range(len(content))]
    except json.JSONDecodeError as error:
        raise ConfigError(f"The labels '{file}' are damaged JSON ({error}). {_EXPECTED}") from error
    except KeyError as error:
        raise ConfigError(f"The labels '{file}' have no class {error} (counted from 0). {_EXPECTED}") from error
