"""Where in the picture a number of a layer looks: its receptive field, clipped at the border."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pellucid.model.classifier import Classifier
from pellucid.model.summary import fields


@dataclass(frozen=True)
class Looked:
    """`rows` and `columns` are the first and the last pixel that is looked at, counted from 0, within the picture.

    `field` is the (height, width) of the whole receptive field; what lies over the border was padding. `jump` is how many
    pixels further the next number of the layer looks, down and across; None where there are no rows and columns.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    field: tuple[int, int]
    jump: tuple[int, int] | None
    picture: tuple[int, int]

    @property
    def clipped(self) -> bool:
        """Whether the receptive field reaches over the border."""
        return self.size != self.field

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is looked at, in pixels."""
        return self.rows[1] - self.rows[0] + 1, self.columns[1] - self.columns[0] + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()} | {
            "clipped": self.clipped
        }

    def __str__(self) -> str:
        if self.size == self.picture:
            return f"looks at the whole picture, {_times(self.picture)} pixels"
        text = f"looks at rows {self.rows[0]} to {self.rows[1]} and columns {self.columns[0]} to {self.columns[1]} of the picture"
        if self.clipped:
            text += f" (its field of {_times(self.field)} pixels reaches over the border)"
        return text + (f"; the next number looks {_times(self.jump)} pixels further" if self.jump else "")


def where(classifier: Classifier, layer: str, index: tuple[int, ...]) -> Looked | None:
    """What the number at `index` of a layer's output, batch included, can see of the picture; None when it sees nothing of it.

    Raises ShapeError.
    """
    field = fields(classifier.module, classifier.input_shape).get(layer)
    if field is None:
        return None
    picture = classifier.contract.height, classifier.contract.width
    ends = [
        (min(max(first, 0), side - 1), max(min(last, side - 1), 0))
        for (first, last), side in zip(field.box(index), picture, strict=True)
    ]
    return Looked(ends[0], ends[1], field.seen(picture), field.jump, picture)


def _times(sides: tuple[int, int]) -> str:
    return f"{sides[0]}x{sides[1]}"
