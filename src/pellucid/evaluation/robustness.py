"""Where a classifier breaks: its score on the same pictures under noise, blur, weather and digital damage, turned, resized, relit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pellucid.data.corrupt import CHANGES, Change
from pellucid.evaluation.intervals import Interval, share
from pellucid.evaluation.paired import paired
from pellucid.evaluation.text import counted, percent
from pellucid.model.classifier import Classifier
from pellucid.model.engine import with_engine

CLEAR = 0.05  # a fall of the score that is called a break, when it is more than chance, too
_MOST = 2000
_MOST_PIXELS = 8_192_000  # of one pass: 2,000 pictures of 64x64
_FEWEST = 200
_BATCH = 256


@dataclass(frozen=True)
class Level:
    """The score at one level, and how far it lies below that of the untouched pictures."""

    level: float
    score: Interval
    drop: Interval

    @property
    def breaks(self) -> bool:
        """Whether the score is clearly lower: by 5 points or more, and beyond chance."""
        return self.drop.value >= CLEAR and self.drop.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"level": self.level, "score": self.score.to_dict(), "drop": self.drop.to_dict()}


@dataclass(frozen=True)
class Course:
    """What one change does, level by level."""

    name: str
    family: str
    unit: str
    levels: tuple[Level, ...]

    @property
    def breaks_at(self) -> float | None:
        """The first level at which it breaks."""
        return next((level.level for level in self.levels if level.breaks), None)

    @property
    def mean(self) -> float:
        """The mean score over the levels."""
        return sum(level.score.value for level in self.levels) / len(self.levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "name": self.name, "family": self.family, "unit": self.unit, "mean": self.mean, "breaks_at": self.breaks_at,
            "levels": [level.to_dict() for level in self.levels],
        }  # fmt: skip


@dataclass(frozen=True)
class Robustness:
    """What changes do to a score of `n` pictures; `of` is how many there were to draw them from."""

    metric: str
    n: int
    of: int
    seed: int
    clean: Interval
    courses: tuple[Course, ...]

    @property
    def corruptions(self) -> tuple[Course, ...]:
        """Those with severities."""
        return tuple(course for course in self.courses if course.family != "sweep")

    @property
    def sweeps(self) -> tuple[Course, ...]:
        """Those with levels of their own."""
        return tuple(course for course in self.courses if course.family == "sweep")

    def verdict(self) -> tuple[str, ...]:
        """A few sentences."""
        return tuple(_verdict(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plain = {"metric": self.metric, "n": self.n, "of": self.of, "seed": self.seed, "clean": self.clean.to_dict()}
        return plain | {"courses": [c.to_dict() for c in self.courses], "verdict": list(self.verdict())}

    def __str__(self) -> str:
        return "\n".join(_table(self))


def robustness(
    classifier: Classifier,
    pixels: np.ndarray,
    rows: np.ndarray,
    right: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    metric: str = "accuracy",
    groups: np.ndarray | None = None,
    engine: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Measures every change on at most 2,000 of the `rows` of pixels uint8 (M, H, W, C), fewer where they are large.

    `right` is given answers (n, outputs) and positions int (n,) in `rows`, and says bool (n,) which are right. groups: int (N,).
    """
    size = classifier.contract.height * classifier.contract.width
    count = max(_FEWEST, min(_MOST, _MOST_PIXELS // size))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    group_of = None if groups is None else np.unique(groups[chosen], return_inverse=True)[1]
    passes = 1 + sum(len(change.levels) for change in CHANGES)
    some = pixels[rows[chosen]]
    classifier, _ = with_engine(classifier, engine, pixels=some, count=passes * len(chosen))
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, passes)

    def hits(change: Change | None, level: float) -> np.ndarray:
        found = []
        for start in range(0, len(chosen), _BATCH):
            part = torch.from_numpy(some[start : start + _BATCH])
            if change:  # by its row, so that a picture looks the same whichever others there are
                part = change(part, level, rows[chosen[start : start + _BATCH]], seed=seed)
            found.append(classifier.predict_proba(part.numpy()))
        tell()
        return right(np.concatenate(found), chosen)

    clean = hits(None, 0)

    def measured(change: Change, level: float) -> Level:
        hit = hits(change, level)
        drop, _, _ = paired(clean.astype(float) - hit, groups=group_of, exact=True)
        return Level(float(level), share(hit, group_of), drop)

    courses = (
        Course(change.name, change.family, change.unit, tuple(measured(change, level) for level in change.levels))
        for change in CHANGES
    )
    return Robustness(metric, len(chosen), len(rows), seed, share(clean, group_of), tuple(courses))


def _verdict(r: Robustness) -> Iterator[str]:
    worst, best = (choose(r.corruptions, key=lambda course: course.mean) for choose in (min, max))
    which = f"{r.n:,} of {r.of:,} pictures, drawn with seed {r.seed}" if r.n < r.of else counted(r.n, "picture")
    yield (
        f"On {which}, the {r.metric} is {percent(r.clean.value)} untouched and "
        f"{percent(sum(c.mean for c in r.corruptions) / len(r.corruptions))} on average over {len(r.corruptions)} kinds of damage "
        "in five severities."
    )
    yield (
        f"It stands {best.name} best ({percent(best.mean)} on average) and {worst.name} worst ({percent(worst.mean)}"
        + (f"; it breaks at severity {worst.breaks_at:g})." if worst.breaks_at else ").")
    )
    broken = [f"{c.name} by {c.breaks_at:g} {c.unit}" for c in r.sweeps if c.breaks_at is not None]
    holds = [f"{c.name} by {c.levels[-1].level:g} {c.unit}" for c in r.sweeps if c.breaks_at is None]
    if broken:
        yield f"It breaks, which is to lose {100 * CLEAR:.0f} points or more beyond chance, when pictures are {', '.join(broken)}."
    if holds:
        yield f"It does not even break when they are {', '.join(holds)}."


def _table(r: Robustness) -> Iterator[str]:
    yield from r.verdict()
    yield ""
    yield f"{'damage':<15}  " + "  ".join(f"{s:>6}" for s in range(1, 6)) + "    mean  breaks at"
    for c in r.corruptions:
        cells = "  ".join(f"{100 * level.score.value:6.1f}" for level in c.levels)
        yield f"{c.name:<15}  {cells}  {100 * c.mean:6.1f}  {'-' if c.breaks_at is None else f'{c.breaks_at:g}'}"
    yield ""
    for c in r.sweeps:
        cells = ", ".join(f"{level.level:g}: {100 * level.score.value:.1f}" for level in c.levels)
        yield f"{c.name} ({c.unit})  {cells}"
    widest = max((level.score for c in r.courses for level in c.levels), key=lambda score: score.high - score.low)
    yield f"Percent; no 95 % interval is wider than {percent(widest.high - widest.low)}, each stands in the report and in --json."
