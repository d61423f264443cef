"""An augmentation policy written as text, such as "flip crop4 cutout8 rotate15 color0.2 mixup0.2".

Words are separated by blanks; each is a name of `KINDS` with its one number. The order of the words makes no difference:
what moves pixels comes first, then what colors them, then what hides them, then what mixes pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pellucid.errors import ConfigError, UnknownNameError, nearest


@dataclass(frozen=True)
class Kind:
    """A transform: what it does, and what its number is and may be (`low` to `high`; none is taken where both are 0)."""

    does: str
    number: str = ""
    low: float = 0.0
    high: float = 0.0
    whole: bool = False


KINDS: Mapping[str, Kind] = {
    "flip": Kind("left and right change places, in every second epoch of a picture"),
    "vflip": Kind("top and bottom change places, half of the time"),
    "shift": Kind("move, mirrored border coming in", "the most pixels in each direction", 1, 4096, whole=True),
    "zoom": Kind("enlarge a part of other proportions", "the smallest share of the area that is kept", 0.01, 0.99),
    "rotate": Kind("turn about the middle", "the largest angle in degrees", 0.1, 180),
    "perspective": Kind("look from aside", "how far corners move, 1 is a quarter of the side", 0.01, 0.99),
    "elastic": Kind("bend in waves", "how far pixels move, root mean square in pixels", 0.01, 1000),
    "brightness": Kind("lighter or darker", "the largest change, as a share", 0.01, 1),
    "contrast": Kind("stronger or weaker contrast", "the largest change, as a share", 0.01, 1),
    "saturation": Kind("stronger or weaker colors", "the largest change, as a share", 0.01, 1),
    "hue": Kind("turn the colors", "the largest turn, as a share of the color circle", 0.01, 0.5),
    "color": Kind("brightness, contrast and, in color, saturation", "the largest change of each, as a share", 0.01, 1),
    "lighting": Kind("shift along the main axes of the data set's colors",
                     "the standard deviation, as a share of that along the axis", 0.01, 10),
    "whiten": Kind("mix with the ZCA-whitened picture", "the largest share of it", 0.01, 1),
    "blur": Kind("Gaussian blur", "the largest standard deviation in pixels", 0.05, 50),
    "cutout": Kind("a square of the picture's mean color hides something", "its side in pixels", 1, 4096, whole=True),
    "rand": Kind("transforms drawn anew for each picture", "how many of them", 1, 8, whole=True),
    "mixup": Kind("blend with another picture, and so the targets", "alpha of the shares' beta distribution", 0.01, 100),
    "cutmix": Kind("paste a box of another picture, and mix the targets", "alpha of the shares' beta distribution",
                   0.01, 100),
}  # fmt: skip
_ALIASES = {"crop": "shift"}  # padding by 4 mirrored pixels and cropping at random is a shift by up to 4
_COLORED = ("saturation", "hue")
_MIXING = ("mixup", "cutmix")


@dataclass(frozen=True)
class Policy:
    """The transforms with their numbers, in the order of `KINDS`. `str(policy)` is its canonical text."""

    numbers: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return (
            " ".join(name + (f"{number:.12g}" if KINDS[name].high else "") for name, number in self.numbers) or "none"
        )

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self.numbers)

    def __contains__(self, name: str) -> bool:
        return any(name == known for known, _ in self.numbers)

    def alone(self) -> tuple[Policy, ...]:
        """A policy for each transform that treats a picture by itself."""
        return tuple(Policy((entry,)) for entry in self.numbers if entry[0] not in _MIXING)

    def require(self, height: int, width: int, channels: int) -> None:
        """Raises ConfigError when a transform would leave nothing of pictures of this size, or can do nothing to them."""
        side = min(height, width)
        for name, number in self:
            if name in ("shift", "cutout", "elastic", "blur") and number >= side:
                raise ConfigError(
                    f"'{name}{number:g}' of the augmentation '{self}' leaves no picture: {KINDS[name].number} is {number:g}, but "
                    f"the input is {height}x{width} pixels. Use less than {side}, better {max(1, side // 4)}, or a larger --size."
                )
            if name in _COLORED and channels != 3:
                raise ConfigError(
                    f"'{name}{number:g}' of the augmentation '{self}' needs pictures in color (3 channels), but these have "
                    f"{channels}. Leave it out, or use brightness and contrast."
                )


def parse_policy(text: str) -> Policy:
    """Reads a policy from its text; 'none' is the empty one and upper case is read as lower case.

    Raises UnknownNameError for an unknown transform, ConfigError for a number that is missing, too much, or out of range.
    """
    numbers: dict[str, float] = {}
    words = text.lower().split()
    if not words:
        raise ConfigError("The augmentation is an empty text; expected 'none' or words like 'flip shift2 cutout8'.")
    for word in words if words != ["none"] else []:
        name, number = _word(word)
        if name in numbers:
            raise ConfigError(f"The augmentation '{text}' has {name} twice (crop is a shift). Write it once.")
        numbers[name] = number
    return Policy(tuple((name, numbers[name]) for name in KINDS if name in numbers))


def _word(word: str) -> tuple[str, float]:
    written = re.match("[a-z_]*", word)[0]  # type: ignore[index]
    rest, name = word[len(written) :], _ALIASES.get(written, written)
    if name not in KINDS:
        known = (*KINDS, *_ALIASES)
        raise UnknownNameError(
            f"The augmentation has no transform '{written or word}' (in '{word}'); it must be one of {', '.join(known)}. "
            f"{nearest(written, known)}".rstrip()
        )
    kind = KINDS[name]
    if not kind.high:
        if rest:
            raise ConfigError(f"'{word}': {name} takes no number, but got '{rest}'. Write {name}.")
        return name, 1.0
    pattern = r"\d+" if kind.whole else r"\d+\.?\d*|\.\d+"
    if not re.fullmatch(pattern, rest) or not kind.low <= float(rest) <= kind.high:
        expected = f"{'a whole number' if kind.whole else 'a number'} from {kind.low:g} to {kind.high:g}"
        raise ConfigError(
            f"'{word}': the number of {written} is {rest or 'missing'}; expected {expected} ({kind.number}), "
            f"such as {written}{_EXAMPLES[name]}."
        )
    return name, float(rest)


_EXAMPLES = {
    "shift": "2", "zoom": "0.5", "rotate": "15", "perspective": "0.3", "elastic": "1", "brightness": "0.2",
    "contrast": "0.2", "saturation": "0.2", "hue": "0.05", "color": "0.2", "lighting": "0.1", "whiten": "0.5",
    "blur": "1", "cutout": "8", "rand": "2", "mixup": "0.2", "cutmix": "1",
}  # fmt: skip
