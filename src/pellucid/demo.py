"""The whole story on the 1,797 real handwritten digits inside scikit-learn: check, train, evaluate, predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.data.check import Check, check
from pellucid.data.dataset import open_dataset
from pellucid.evaluation.draw import as_image, grid_sheet
from pellucid.evaluation.measure import evaluate
from pellucid.evaluation.metrics import Evaluation
from pellucid.files import atomic_write, png_bytes
from pellucid.model.classifier import load
from pellucid.model.prediction import Prediction
from pellucid.run import Run
from pellucid.training.loop import OnEvent
from pellucid.training.pipeline import train


@dataclass(frozen=True)
class Demo:
    """What the demo made: its check, run, evaluation on pictures never seen, and a sheet of answered pictures."""

    check: Check
    run: Run
    test: Evaluation
    sheet: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"run": str(self.run), "test": self.test.to_dict(), "sheet": str(self.sheet)}


def demo(*, out: Path | None = None, on_event: OnEvent | None = None) -> Demo:
    """Runs the story into `out` (default: a new run folder) and returns what it made."""
    digits = open_dataset("digits")
    looked = check(digits)
    run = train(digits, out=out, on_event=on_event)
    test = evaluate(run)
    assert isinstance(test, Evaluation)  # of classes, as the digits are
    classifier = load(run.path)
    place = {item.path: i for i, item in enumerate(digits.items)}
    rows: dict[str, list[Any]] = {name: [] for name in classifier.classes}
    for row in run.read_manifest():
        if row["split"] == "test":
            picture = digits.picture(place[row["path"]])
            answer = classifier.predict(picture)
            assert isinstance(answer, Prediction)
            rows[answer.label].append(as_image(picture.pixels))
    sheet = run.path / "reports" / "answers.png"
    atomic_write(
        sheet,
        png_bytes(grid_sheet([(f"answered {name}", found[:16]) for name, found in rows.items()], cell=48)),
    )
    return Demo(looked, run, test, sheet)
