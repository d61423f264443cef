"""Where in the picture a value of a map comes from: the window that it can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pellucid.model.classifier import Classifier
from pellucid.model.summary import fields

_BEYOND = (222, 226, 233)


@dataclass(frozen=True)
class Window:
    """What the places of a map see: height and width in pixels, how far the next place's window lies, and the middle of the
    first one, from the middle of the first pixel."""

    size: tuple[int, int]
    jump: tuple[int, int]
    center: tuple[float, float]

    def crop(self, picture: Image.Image, place: Sequence[int]) -> Image.Image:
        """The part of a picture that the value at `place`, row and column, sees, RGB; light grey where it lies beyond the border.

        Along a side that is no longer than the window it is the whole picture.
        """
        sides = picture.height, picture.width
        box = []
        for side, size, jump, center, step in zip(sides, self.size, self.jump, self.center, place, strict=True):
            start = 0 if size >= side else round(center + step * jump - (size - 1) / 2)
            box.append((start, min(size, side)))
        (top, height), (left, width) = box
        canvas = Image.new("RGB", (width, height), _BEYOND)
        canvas.paste(picture.convert("RGB"), (-left, -top))
        return canvas


def window_of(classifier: Classifier, layer: str) -> Window:
    """The window of a layer's places; the whole picture where there are none, or where they cannot be told."""
    height, width = classifier.input_shape[1:]
    field = fields(classifier.module, classifier.input_shape).get(layer)
    if field is None or field.jump is None:
        return Window((height, width), (0, 0), ((height - 1) / 2, (width - 1) / 2))
    return Window(field.seen((height, width)), field.jump, (float(field.center[0]), float(field.center[1])))
