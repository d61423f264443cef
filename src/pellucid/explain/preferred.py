"""Optimized pictures beside the user's own: what a unit would like to see most, and what it liked most of what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pellucid.data.scan import Progress
from pellucid.errors import ConfigError
from pellucid.evaluation.draw import Tile, TileRow, as_image, drawn_channels, fit, tile_sheet
from pellucid.explain.excite import LOGITS, Tops, excited
from pellucid.explain.own import MOST_PICTURES, OWN
from pellucid.explain.visualise import CHANNELS, STEPS, Optimized, class_number, optimize
from pellucid.model.classifier import Classifier

_CELL, _LARGEST = 128, 224  # pixels
_OWN = 6  # pictures beside each
_COLUMNS = 6  # where there are none beside it
_LEVEL = 0.01  # share of the ceiling that counts as reached


@dataclass(frozen=True, eq=False)
class Preferred:
    """Optimized pictures, and what excites the same units most among the own pictures, where these were looked at."""

    optimized: Optimized
    tops: Tops | None

    def largest(self, i: int) -> float | None:
        """What the i-th unit reaches on the own pictures."""
        if self.tops is None:
            return None
        return float(self.tops.layers[self.optimized.layer].high[self.optimized.units[i]])

    def verdict(self, i: int) -> str:
        """Whether the i-th optimized picture worked, in words."""
        made, own = float(self.optimized.reached[i]), self.largest(i)
        ceiling = self.optimized.ceiling
        if ceiling is not None and made >= (1 - _LEVEL) * ceiling:
            return f"reaches {made:.3g}, the most that the layer can give"
        if own is None:
            rose = made > self.optimized.start[i]
            return f"reaches {made:.3g}, {'up from' if rose else 'NO MORE than'} {self.optimized.start[i]:.3g} at the start"
        if made > own:
            times = f", {made / own:.1f} times" if own > 0 else ", above"
            return f"reaches {made:.3g}{times} the largest of the own pictures, {own:.3g}"
        return f"reaches only {made:.3g}, NOT above the own pictures' {own:.3g}: do not trust it"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data without the pictures."""
        o = self.optimized
        units = [
            {"unit": unit, "name": o.names[i], "reached": float(o.reached[i]), "start": float(o.start[i]),
             "own": self.largest(i), "verdict": self.verdict(i)}
            for i, unit in enumerate(o.units)
        ]  # fmt: skip
        return {
            "layer": o.layer or None, "kind": o.kind, "units": units, "ceiling": o.ceiling, "steps": o.steps, "seed": o.seed,
            "seconds": round(o.seconds, 2), "own": None if self.tops is None else str(self.tops.own),
            "shape": list(o.pictures.shape[1:]),
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"  {name}: {self.verdict(i)}" for i, name in enumerate(self.optimized.names)]
        return "\n".join([f"{self._what()} ({self.optimized.seconds:.0f} s)", *lines])

    def sheet(self) -> Image.Image:
        """The contact sheet, RGB: a row a unit with the own pictures beside it, or the optimized pictures alone."""
        o = self.optimized
        cell = min(max(_CELL, o.pictures.shape[1], o.pictures.shape[2]), _LARGEST)
        made = [fit(as_image(pixels), cell) for pixels in o.pictures]
        lines = [self._what()]
        if drawn := drawn_channels(o.pictures.shape[3]):
            lines.append(f"shown: {drawn}")
        if self.tops is None:
            lines.append("below each: the value that its finished picture reaches")
            tiles = [Tile(made[i], name, f"{o.reached[i]:.3g}") for i, name in enumerate(o.names)]
            return tile_sheet(self._title(), lines, [TileRow(tiles)], columns=_COLUMNS)
        lines.append(f"first the optimized picture, then what excites the unit most among {self.tops.own}")
        lines.append("below each: label and the value that the unit reaches there")
        rows = []
        for i, beside in enumerate(self.tops.tiles(o.layer, o.units, cell=cell)):
            optimized = Tile(made[i], "optimized", f"{o.reached[i]:.3g}", framed=True)
            worked = f"{o.reached[i]:.3g} optimized", f"{self.largest(i):.3g} at most in own", *self._judged(i)
            rows.append(TileRow([optimized, *beside[:_OWN]], o.names[i], worked))
        return tile_sheet(self._title(), lines, rows, columns=1 + _OWN)

    def _judged(self, i: int) -> tuple[str, ...]:
        if "NOT" in self.verdict(i):
            return ("not above: do not", "trust it")
        return ("the layer's ceiling",) if "the most that" in self.verdict(i) else ()

    def _title(self) -> str:
        return f"What {self.optimized.layer} prefers" if self.optimized.layer else "What the classes prefer"

    def _what(self) -> str:
        o = self.optimized
        where = f"{o.layer} ({o.kind})" if o.layer else "logits of the classes"
        return f"{where}, optimized pictures after {o.steps} steps, seed {o.seed}"


def preferred(
    classifier: Classifier,
    network: str | Path,
    *,
    layer: str | None = None,
    units: Sequence[int] = (),
    classes: Sequence[str] = (),
    count: int = CHANNELS,
    steps: int = STEPS,
    seed: int = 0,
    top: str | None = None,
    most: int = MOST_PICTURES,
    progress: Progress | None = None,
) -> Preferred:
    """Optimized pictures for channels of a layer, or for classes, beside the own pictures that excite them most.

    `network` is what the classifier was opened by, a run or a name; `top` names the own pictures, "none" leaves them out, and
    by default they are those of the run. Raises what `optimize` and `own_pictures` raise, ConfigError for channels of classes.
    """
    if classes and units:
        raise ConfigError(
            "Channels belong to a layer and classes to the whole network: give --layer and --channel, or --class."
        )
    numbers = [class_number(classifier, name) for name in classes]
    made = optimize(
        classifier,
        layer=layer or LOGITS,
        units=units or numbers,
        count=count,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    if top is None:
        top = OWN if (Path(network) / "run.json").exists() else "none"
    tops = None if top == "none" else excited(classifier, top, network, [made.layer], most=most, progress=progress)
    return Preferred(made, tops)
