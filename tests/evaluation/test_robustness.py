"""Where it breaks, for classifiers whose breaking point is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.corrupt import CHANGES
from pellucid.evaluation.looked import right
from pellucid.evaluation.robustness import Course, robustness
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import find_architecture


class Bright(nn.Module):
    """Class 1 where the mean level is above a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(40.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.scale * (x.mean((1, 2, 3)) - 0.25)
        return torch.stack([-z, z], dim=1)


@pytest.fixture(scope="module")
def course() -> dict[str, Course]:
    """Half the pictures are black, half have 0.45 of the light: they are taken for black from 0.55 of that on."""
    pixels = np.repeat([0, 115], 60).astype(np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 1), np.uint8)
    labels = np.repeat([0, 1], 60)
    contract = PixelContract(16, 16, 1, "stretch", (0.0,), (1.0,))
    classifier = Classifier(Bright(), ("dark", "bright"), contract, find_architecture("dense2 relu"))
    rows = np.arange(120)
    found = robustness(classifier, pixels, rows, lambda answers, which: right(answers, labels[which]))
    assert (found.n, found.of, found.clean.value) == (120, 120, 1.0)
    assert "it breaks" in str(found).lower()
    return {course.name: course for course in found.courses}


def test_the_first_level_that_turns_answers_is_told(course: dict[str, Course]) -> None:
    darker = course["darker"]
    assert darker.breaks_at == 0.4  # 0.45 * 0.6 is above a quarter, 0.45 * 0.4 below
    assert [level.score.value for level in darker.levels] == [1.0, 1.0, 0.5, 0.5, 0.5]
    assert darker.levels[2].drop.low > 0.3


def test_what_does_not_matter_breaks_nothing(course: dict[str, Course]) -> None:
    for name in ("turned", "enlarged", "gaussian blur", "lighter", "jpeg"):
        assert course[name].breaks_at is None, name
    assert course["lighter"].levels[-1].drop.value == 0
    assert course["lighter"].levels[-1].drop.high > 0.02  # none of 120 lost is no proof of none


def test_a_loss_by_chance_is_no_break() -> None:
    """2 of 24 lost are more than five points, and might be none."""
    from pellucid.evaluation.paired import paired
    from pellucid.evaluation.robustness import Level

    drop, _, _ = paired(np.array([1.0] * 2 + [0.0] * 22), exact=True)
    assert drop.value > 0.05
    assert not Level(1.0, drop, drop).breaks


def test_large_sets_are_drawn_from_with_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [change for change in CHANGES if change.name in ("contrast", "darker")]
    monkeypatch.setattr("pellucid.evaluation.robustness.CHANGES", few)
    pixels, labels = np.zeros((2300, 2, 2, 1), np.uint8), np.zeros(2300, np.int64)
    contract = PixelContract(2, 2, 1, "stretch", (0.0,), (1.0,))
    classifier = Classifier(Bright(), ("dark", "bright"), contract, find_architecture("dense2 relu"))
    seen = []

    def noted(answers: np.ndarray, which: np.ndarray) -> np.ndarray:
        seen.append(which)
        return right(answers, labels[which])

    first = robustness(classifier, pixels, np.arange(2300), noted)
    assert first.n == 2000
    assert len(np.unique(seen[0])) == 2000
    assert all((which == seen[0]).all() for which in seen)
    assert "2,000 of 2,300 pictures, drawn with seed 0" in str(first)
