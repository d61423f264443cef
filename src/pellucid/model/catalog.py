"""Which networks there are: those of the courses, fastnet, and all classifiers of timm and torchvision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from pellucid.errors import ShapeError, UnknownNameError, nearest
from pellucid.model.courses import COURSE
from pellucid.model.summary import num_parameters
from pellucid.model.table import aligned
from pellucid.model.zoo import Architecture, default_input, find_architecture, library_names, outline

_CLASSES = 1000


@dataclass(frozen=True)
class Listed:
    """A network by the name that `--model` takes; `input_shape` is (channels, height, width) of its usual pictures.

    `parameters` with 1,000 classes; None when not counted.
    """

    name: str
    family: str
    input_shape: tuple[int, int, int]
    about: str
    parameters: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Catalog:
    """Networks, those of the courses first; `more` counts the names of each library that a pattern would show."""

    networks: tuple[Listed, ...]
    more: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"networks": [network.to_dict() for network in self.networks], "more": self.more}

    def __str__(self) -> str:
        columns: dict[str, list[str]] = {
            "name": [network.name for network in self.networks],
            "family": [network.family for network in self.networks],
            "about": [network.about for network in self.networks],
            "input": ["x".join(map(str, network.input_shape)) for network in self.networks],
            "parameters": [f"{network.parameters:,}" if network.parameters else "" for network in self.networks],
        }
        shown = [[title, *texts] for title, texts in columns.items() if any(texts)]
        text = "\n".join(aligned(list(zip(*shown, strict=True)), left=len(shown)))
        if self.more:
            more = " and ".join(f"{count:,} of {family}" for family, count in self.more.items())
            text += f"\n\nMore: {more}. See them with a pattern: pellucid models 'resnet*'"
        return text


def list_networks(
    pattern: str | None = None, *, parameters: bool = False, progress: Callable[[int, int], None] | None = None
) -> Catalog:
    """The networks whose name fits `pattern` (* and ? stand for anything; a plain word may be anywhere in the name).

    Without a pattern those of the courses and fastnet. `parameters` counts them with 1,000 classes; no weight is made.
    Raises UnknownNameError with the nearest names when none fits.
    """
    networks = list(_first())
    if pattern is None:
        more = {family: len(names) for family, names in library_names().items()}
    else:
        more = {}
        wanted = pattern.lower() if set(pattern) & set("*?[") else f"*{pattern.lower()}*"
        known = [*networks, *_of_libraries({network.name for network in networks})]
        networks = [network for network in known if fnmatchcase(network.name.lower(), wanted)]
        if not networks:
            hint = nearest(pattern, [network.name for network in known])
            raise UnknownNameError(
                f"No network fits '{pattern}'; expected a part of a name, or a pattern such as 'resnet*'. {hint}".rstrip()
            )
    if parameters:
        for done, network in enumerate(networks):
            networks[done] = replace(network, parameters=_parameters(network))
            if progress:
                progress(done + 1, len(networks))
    return Catalog(tuple(networks), more)


def _first() -> Iterator[Listed]:
    for name, course in COURSE.items():
        yield Listed(name, find_architecture(name).family, course.input_shape, course.about)
    about = "our own for small pictures, built to learn fast; also with widths, like fastnet-16-64-64"
    yield Listed("fastnet", "fastnet", default_input(Architecture("fastnet", "fastnet")), about)


def _of_libraries(listed: set[str]) -> Iterator[Listed]:
    for family, names in library_names().items():
        for name in sorted(set(names) - listed):
            listed.add(name)  # a name of both libraries means timm's
            yield Listed(name, family, default_input(Architecture(family, name)), "")


def _parameters(network: Listed) -> int | None:
    """None where the library cannot build the network without numbers."""
    architecture = find_architecture(network.name)
    try:
        return num_parameters(outline(architecture, input_shape=network.input_shape, num_classes=_CLASSES))
    except (ShapeError, RuntimeError):  # NotImplementedError is a RuntimeError
        return None
