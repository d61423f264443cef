"""Is it an X or an O? A convolutional network with nothing learned, small enough to follow every number.

Three filters made by hand look for a stroke that falls, a cross, and a stroke that rises. Where a filter meets its own
picture, the mean of the products is 1. ReLU forgets what does not resemble it, max pooling keeps the best of each
corner, and the twelve numbers that are left vote.

    from pellucid.lessons.x_or_o import draw, read
    print(read(draw("x", noise=0.05, seed=1)))

Source of the example: Brandon Rohrer 2016, "How do Convolutional Neural Networks work?"; the O is drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pellucid.errors import ConfigError, ShapeError, UnknownNameError
from pellucid.explain.kernels import convolve, pool

PAPER, INK = -1.0, 1.0
SIDE = 9
DRAWINGS = {
    "x": (
        ".........",
        ".#.....#.",
        "..#...#..",
        "...#.#...",
        "....#....",
        "...#.#...",
        "..#...#..",
        ".#.....#.",
        ".........",
    ),
    "o": (
        ".........",
        "...###...",
        "..#...#..",
        ".#.....#.",
        ".#.....#.",
        ".#.....#.",
        "..#...#..",
        "...###...",
        ".........",
    ),
}
FILTERS = {
    "falling": ((1, -1, -1), (-1, 1, -1), (-1, -1, 1)),
    "cross": ((1, -1, 1), (-1, 1, -1), (1, -1, 1)),
    "rising": ((-1, -1, 1), (-1, 1, -1), (1, -1, -1)),
}
# Which of the twelve numbers speak for a letter, counted from 1: each filter's corners, row by row.
POSITIONS = {"x": (1, 4, 5, 10, 11), "o": (2, 3, 9, 12)}


def draw(letter: str, *, shift: tuple[int, int] = (0, 0), noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """The letter x or o as float64 (9, 9), ink 1 and paper -1; moved by `shift` pixels (down, right).

    `noise` is the probability that a pixel changes from ink to paper or back. What is moved over the edge is lost.
    """
    if letter not in DRAWINGS:
        raise UnknownNameError(f"There is no drawing of '{letter}'; expected x or o.")
    if not 0 <= noise <= 1 or max(map(abs, shift)) >= SIDE:
        raise ConfigError(f"noise {noise} must lie between 0 and 1, and shift {shift} within {SIDE - 1} pixels.")
    ink = np.pad(np.array([list(row) for row in DRAWINGS[letter]]) == "#", SIDE)
    down, right = shift
    ink = ink[SIDE - down : 2 * SIDE - down, SIDE - right : 2 * SIDE - right]
    ink = ink ^ (np.random.default_rng(seed).random(ink.shape) < noise)
    return np.where(ink, INK, PAPER)


@dataclass(frozen=True)
class Vote:
    """What twelve numbers say: the sum and the mean of those that speak for each letter. `answer` is x, o or a tie."""

    x_sum: float
    x_score: float
    o_sum: float
    o_score: float

    @property
    def answer(self) -> str:
        """The letter with the higher mean."""
        if np.isclose(self.x_score, self.o_score):
            return "tie"
        return "x" if self.x_score > self.o_score else "o"

    def __str__(self) -> str:
        return (
            f"x: numbers {_listed('x')} sum to {self.x_sum:.2f}, mean {self.x_score:.2f}\n"
            f"o: numbers {_listed('o')} sum to {self.o_sum:.2f}, mean {self.o_score:.2f}\n"
            f"answer: {self.answer}"
        )


def vote(numbers: ArrayLike) -> Vote:
    """The vote of twelve numbers. Raises ShapeError when there are not twelve."""
    vector = np.asarray(numbers, np.float64)
    if vector.shape != (12,):
        raise ShapeError(f"{vector.shape} numbers cannot vote; expected (12,): three filters with 2x2 values each.")
    x, o = (vector[np.array(POSITIONS[letter]) - 1] for letter in ("x", "o"))
    return Vote(float(x.sum()), float(x.mean()), float(o.sum()), float(o.mean()))


@dataclass(frozen=True, eq=False)
class Look:
    """What one filter finds, step by step."""

    filter: np.ndarray  # (3, 3)
    map: np.ndarray  # (7, 7), the mean of the products at each position
    rectified: np.ndarray  # (7, 7), without what is below zero
    pooled: np.ndarray  # (4, 4), the largest of each 2x2 window, the ragged edge included
    pooled_twice: np.ndarray  # (2, 2)


@dataclass(frozen=True, eq=False)
class Reading:
    """A drawing, every number on the way, and the answer. `str(reading)` shows them all."""

    drawing: np.ndarray  # (9, 9)
    looks: dict[str, Look]
    flat: np.ndarray  # (12,)
    vote: Vote

    @property
    def answer(self) -> str:
        """x, o or a tie."""
        return self.vote.answer

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        looks = {
            name: {step: array.tolist() for step, array in vars(look).items()} for name, look in self.looks.items()
        }
        return {
            "drawing": self.drawing.tolist(), "looks": looks, "flat": self.flat.tolist(),
            **vars(self.vote), "answer": self.answer,
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(_told(self))


def read(drawing: ArrayLike) -> Reading:
    """Reads a drawing (9, 9), ink 1 and paper -1; anything between is gray. Raises ShapeError, ConfigError."""
    pixels = np.asarray(drawing, np.float64)
    if pixels.shape != (SIDE, SIDE):
        raise ShapeError(
            f"The drawing has the shape {pixels.shape}, but this network reads {SIDE}x{SIDE} pixels: "
            "its twelve last numbers are the corners of that size."
        )
    if not (np.abs(pixels) <= 1).all():
        raise ConfigError(
            "The drawing holds values outside of -1 (paper) to 1 (ink). For dark ink on white give 1 - pixels / 127.5."
        )
    looks = {}
    for name, kernel in FILTERS.items():
        found = convolve(pixels, kernel, reduce="mean")
        rectified = np.maximum(found, 0)
        pooled = pool(rectified, 2, ragged=True)
        looks[name] = Look(np.array(kernel), found, rectified, pooled, pool(pooled, 2, ragged=True))
    flat = np.concatenate([look.pooled_twice.ravel() for look in looks.values()])
    return Reading(pixels, looks, flat, vote(flat))


def _told(reading: Reading) -> Iterator[str]:
    yield "the drawing"
    yield from ("  " + " ".join("·+#"[int(v > -0.5) + int(v > 0.5)] for v in row) for row in reading.drawing)
    titles = {
        "filter": "the filter",
        "map": "mean of the products at each position",
        "rectified": "ReLU: nothing below zero",
        "pooled": "the largest of each 2x2 window",
        "pooled_twice": "and once more",
    }
    for name, look in reading.looks.items():
        for step, title in titles.items():
            yield f"\n{name}: {title}"
            form = "{:3d}" if step == "filter" else "{:6.2f}"
            yield from ("".join(map(form.format, row)) for row in getattr(look, step))
    yield "\nthe twelve numbers"
    yield "".join(f"{number:6d}" for number in range(1, 13))
    yield "".join(f"{value:6.2f}" for value in reading.flat)
    yield f"\n{reading.vote}"


def _listed(letter: str) -> str:
    return ", ".join(map(str, POSITIONS[letter]))
