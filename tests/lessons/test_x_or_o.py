"""The lesson reads what it should: moved, noisy, gray; how often noise misleads it is measured over many seeds."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from pellucid.errors import ConfigError, ShapeError, UnknownNameError
from pellucid.evaluation.intervals import wilson
from pellucid.explain.kernels import convolve
from pellucid.lessons.x_or_o import DRAWINGS, FILTERS, draw, read, vote


def test_a_drawing_is_ink_on_paper():
    x = draw("x")
    assert x.shape == (9, 9)
    assert {(int(i), int(j)) for i, j in np.argwhere(x == 1)} == {(i, j) for i in range(1, 8) for j in (i, 8 - i)}
    assert (x == -1).sum() == 81 - 13


@pytest.mark.parametrize("letter", DRAWINGS)
@pytest.mark.parametrize("shift", list(product((-1, 0, 1), repeat=2)))
def test_a_letter_moved_by_a_pixel_is_read(letter, shift):
    moved = draw(letter, shift=shift)
    np.testing.assert_array_equal(moved, np.roll(draw(letter), shift, (0, 1)))  # nothing reaches the edge
    assert read(moved).answer == letter


def test_two_pixels_are_too_far_for_the_o_whose_strokes_then_pool_into_other_corners():
    assert read(draw("o", shift=(0, -2))).answer == "x"


@pytest.mark.parametrize("letter", DRAWINGS)
@pytest.mark.parametrize(("noise", "at_least"), [(0.05, 0.97), (0.1, 0.94), (0.2, 0.82)])
def test_how_often_a_noisy_letter_is_read(letter, noise, at_least):
    right = sum(read(draw(letter, noise=noise, seed=seed)).answer == letter for seed in range(300))
    assert wilson(right, 300).low >= at_least
    assert noise < 0.2 or right < 300  # and it can be misled


def test_a_drawing_of_noise_alone_is_not_read():
    answers = [read(draw("x", noise=0.5, seed=seed)).answer for seed in range(200)]
    assert 0.3 < answers.count("x") / 200 < 0.7


def test_a_letter_in_gray_is_read_and_each_step_follows_from_the_one_before():
    reading = read(0.5 * draw("o", noise=0.02, seed=3))
    assert reading.answer == "o"
    for name, look in reading.looks.items():
        np.testing.assert_allclose(look.map, convolve(reading.drawing, FILTERS[name]) / 9)
        np.testing.assert_array_equal(look.rectified, look.map.clip(0))
        assert look.pooled[3, 3] == look.rectified[6, 6]  # the ragged corner
        assert look.pooled_twice[0, 1] == look.rectified[:4, 4:].max()


def test_the_text_shows_every_number_and_the_json_holds_them():
    reading = read(draw("x"))
    text = str(reading)
    for look in reading.looks.values():
        for step in (look.map, look.rectified, look.pooled, look.pooled_twice):
            for row in step:
                assert "".join(f"{value:6.2f}" for value in row) in text
    assert text.splitlines()[1:10] == ["  " + " ".join(row.replace(".", "·")) for row in DRAWINGS["x"]]
    assert text.endswith("answer: x")
    data = reading.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert np.array(data["looks"]["rising"]["map"]).shape == (7, 7)


def test_equal_scores_are_a_tie():
    assert vote(np.ones(12)).answer == "tie"


def test_bad_input_is_told():
    with pytest.raises(UnknownNameError, match="x or o"):
        draw("q")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        draw("x", noise=2)
    with pytest.raises(ConfigError, match="within 8 pixels"):
        draw("x", shift=(9, 0))
    with pytest.raises(ShapeError, match=r"\(8, 8\).*9x9"):
        read(np.zeros((8, 8)))
    with pytest.raises(ConfigError, match=r"127\.5"):
        read(np.full((9, 9), 255))
    with pytest.raises(ShapeError, match=r"expected .12,.: three filters"):
        vote([1, 2])
