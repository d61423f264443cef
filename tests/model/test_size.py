"""The size of a layer's output with its formula: against torch, worked examples, and what cannot be."""

from __future__ import annotations

import json
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import ConfigError, ShapeError, UnknownNameError
from pellucid.model.size import padding_of, pair, size_of

numbers = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    st.tuples(st.integers(9, 20), st.integers(9, 20)),
    numbers,
    numbers,
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    numbers,
)
@settings(max_examples=80, deadline=None)
def test_the_output_is_torchs_and_the_formula_ends_in_it(size, kernel, stride, padding, dilation):
    x, weight = torch.zeros(1, 1, *size), torch.zeros(1, 1, *kernel)
    try:
        expected = tuple(F.conv2d(x, weight, None, stride, padding, dilation).shape[2:])
    except RuntimeError:
        with pytest.raises(ShapeError):
            size_of(size, kernel, stride=stride, padding=padding, dilation=dilation)
        return
    found = size_of(size, kernel, stride=stride, padding=padding, dilation=dilation)
    assert found.output == expected
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    for side in (found.height, found.width):
        assert int(re.findall(r"\d+", side.formula)[-1]) == side.output
        grown = F.conv1d(
            torch.zeros(1, 1, side.size), torch.zeros(1, 1, side.kernel), None, 1, side.padding, side.dilation
        ).shape[2]
        assert side.kind == ("same" if grown == side.size else "wide" if grown > side.size else "narrow")


@given(st.integers(5, 30), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_rounding_up_is_torchs(size, kernel, stride, padding):
    padding = min(padding, kernel // 2)
    expected = F.max_pool2d(torch.zeros(1, 1, size, size), kernel, stride, padding, ceil_mode=True).shape[2]
    found = size_of((size, size), (kernel, kernel), stride=(stride, stride), padding=(padding, padding), ceil_mode=True)
    assert found.output == (expected, expected)
    assert int(re.findall(r"\d+", found.height.formula)[-1]) == expected


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "stride", "output", "kind"),
    [
        (7, 3, "none", 1, 5, "narrow"), (7, 5, "none", 1, 3, "narrow"), (7, 3, "same", 1, 7, "same"), (9, 3, "0", 1, 7, "narrow"),
        (224, 11, "2", 4, 55, "narrow"), (32, 2, "none", 2, 16, "narrow"), (5, 3, "wide", 1, 7, "wide"), (7, 5, "same", 1, 7, "same"),
    ],
)  # fmt: skip
def test_worked_examples(size, kernel, padding, stride, output, kind):
    found = size_of((size, size), (kernel, kernel), stride=(stride, stride), padding=padding_of(padding))
    assert found.output == (output, output)
    assert found.height.kind == kind


def test_the_text_fills_the_formula_in_for_each_side_that_differs():
    text = str(size_of((224, 224), (11, 11), stride=(4, 4), padding=(2, 2)))
    assert "floor((W - K + 2P) / S) + 1 = floor((224 - 11 + 2·2) / 4) + 1 = floor(217 / 4) + 1 = 54 + 1 = 55" in text
    assert "1 of 228 pixels at the end" in text
    text = str(size_of((7, 9), (3, 2), dilation=(2, 1)))
    assert [line[:6].strip() for line in text.splitlines() if line[:1].strip()] == ["7x9 ->", "height", "width"]
    assert "2·(3 - 1) + 1 = 5" in text


@pytest.mark.parametrize("text", ["", "x3", "3x", "-1", "3.5", "3x4x5", "three"])
def test_what_is_no_pair_is_told(text):
    with pytest.raises(ConfigError, match=r"--kernel is .*3x5"):
        pair(text, "--kernel")


def test_what_cannot_be_is_told():
    with pytest.raises(UnknownNameError, match=r"'sane'.*none, same, wide.*same"):
        size_of((7, 7), (3, 3), padding="sane")
    with pytest.raises(ShapeError, match="keep the size"):
        size_of((7, 7), (4, 3), padding="same")
    with pytest.raises(ShapeError, match=r"needs at least W = 5"):
        size_of((3, 7), (5, 5))
