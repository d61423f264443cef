"""Worked numbers from teaching material: the drawing of an X, three filters, two poolings, a vote."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.lessons.x_or_o import FILTERS, draw, read, vote

POOLED = {
    "falling": [[1.0, 0.33, 0.56, 0.33], [0.33, 1.0, 0.33, 0.56], [0.56, 0.33, 1.0, 0.11], [0.33, 0.56, 0.11, 0.78]],
    "cross": [[0.56, 0.33, 0.56, 0.33], [0.33, 1.0, 0.56, 0.11], [0.56, 0.56, 0.56, 0.11], [0.33, 0.11, 0.11, 0.33]],
    "rising": [[0.33, 0.56, 1.0, 0.78], [0.56, 0.56, 1.0, 0.33], [1.0, 1.0, 0.11, 0.56], [0.78, 0.33, 0.56, 0.33]],
}


def test_the_three_filters():
    assert {name: [list(row) for row in kernel] for name, kernel in FILTERS.items()} == {
        "falling": [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]],
        "cross": [[1, -1, 1], [-1, 1, -1], [1, -1, 1]],
        "rising": [[-1, -1, 1], [-1, 1, -1], [1, -1, -1]],
    }


def test_the_first_row_of_what_the_falling_stroke_finds():
    row = read(draw("x")).looks["falling"].map[0]
    assert np.round(row, 2).tolist() == [0.78, -0.11, 0.11, 0.33, 0.56, -0.11, 0.33]


@pytest.mark.parametrize("name", POOLED)
def test_what_is_left_after_pooling_once(name):
    assert np.round(read(draw("x")).looks[name].pooled, 2).tolist() == POOLED[name]


def test_the_twelve_numbers_after_pooling_twice():
    flat = np.round(read(draw("x")).flat, 2).tolist()
    assert flat == [1.0, 0.56, 0.56, 1.0, 1.0, 0.56, 0.56, 0.56, 0.56, 1.0, 1.0, 0.56]


def test_a_vote():
    found = vote([0.9, 0.65, 0.45, 0.87, 0.96, 0.73, 0.23, 0.63, 0.44, 0.89, 0.94, 0.53])
    assert (round(found.x_sum, 2), round(found.x_score, 2)) == (4.56, 0.91)
    assert (round(found.o_sum, 2), round(found.o_score, 2)) == (2.07, 0.52)
    assert found.answer == "x"
    assert "numbers 1, 4, 5, 10, 11 sum to 4.56" in str(found)
    assert "numbers 2, 3, 9, 12 sum to 2.07" in str(found)
