"""Policies as text: what is read, in which order it is written back, and how mistakes are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.policy import KINDS, Policy, parse_policy
from pellucid.errors import ConfigError, UnknownNameError

WORDS = [name + (f"{(kind.low + kind.high) // 2:g}" if kind.high > 1 else "0.25" if kind.high else "")
         for name, kind in KINDS.items()]  # fmt: skip


@given(st.permutations(WORDS), st.integers(0, len(WORDS)))
def test_the_order_of_the_words_makes_no_difference(words: list[str], count: int) -> None:
    policy = parse_policy(" ".join(words[:count]) or "none")
    assert str(policy).split() == ([word for word in WORDS if word in words[:count]] or ["none"])
    assert parse_policy(str(policy)) == policy


def test_what_is_read() -> None:
    assert parse_policy(" Flip  crop4 CUTOUT8 rotate15 color.2 mixup0.20") == Policy(
        (("flip", 1.0), ("shift", 4.0), ("rotate", 15.0), ("color", 0.2), ("cutout", 8.0), ("mixup", 0.2))
    )
    assert str(parse_policy("crop4 mixup0.20 color.2 flip")) == "flip shift4 color0.2 mixup0.2"
    assert parse_policy("none") == Policy(())
    assert [str(p) for p in parse_policy("flip shift2 mixup1").alone()] == ["flip", "shift2"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("flop", UnknownNameError, r"no transform 'flop' .*Did you mean flip"),
        ("rotat15", UnknownNameError, r"no transform 'rotat' \(in 'rotat15'\).*Did you mean rotate"),
        ("15", UnknownNameError, r"no transform '15'"),
        ("", ConfigError, "expected 'none' or words like"),
        ("flip none", UnknownNameError, "no transform 'none'"),
        ("flip0.5", ConfigError, r"'flip0.5': flip takes no number, but got '0.5'. Write flip."),
        ("rotate", ConfigError, r"the number of rotate is missing; expected a number from 0.1 to 180 \(.*such as rotate15"),
        ("rotate-5", ConfigError, "number of rotate is -5"),
        ("rotate5.5.5", ConfigError, "number of rotate is 5.5.5"),
        ("rotateinf", UnknownNameError, "no transform 'rotateinf'"),
        ("rotate181", ConfigError, "181; expected a number from 0.1 to 180"),
        ("zoom0", ConfigError, r"number of zoom is 0; .*smallest share of the area that is kept"),
        ("crop1.5", ConfigError, r"number of crop is 1.5; expected a whole number from 1 to 4096 .*such as crop2"),
        ("mixup0", ConfigError, "number of mixup is 0"),
        ("flip flip", ConfigError, "has flip twice"),
        ("crop4 shift2", ConfigError, r"has shift twice \(crop is a shift\)"),
        ("r³", UnknownNameError, "no transform 'r'"),
    ],
)  # fmt: skip
def test_mistakes_are_told(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_policy(text)


def test_every_transform_has_an_example_that_can_be_read() -> None:
    """The example stands in the error for a number that is missing."""
    for name, kind in KINDS.items():
        if kind.high:
            with pytest.raises(ConfigError) as caught:
                parse_policy(name)
            example = str(caught.value).rsplit("such as ", 1)[1].rstrip(".")
            assert [known for known, _ in parse_policy(example)] == [name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop32", r"'shift32' of the augmentation 'shift32' leaves no picture.* is 32, but the input is 32x40 pixels"),
        ("flip cutout32", r"'cutout32'.*leaves no picture.*Use less than 32, better 8"),
        ("hue0.1", r"'hue0.1'.*needs pictures in color \(3 channels\), but these have 1"),
    ],
)
def test_a_policy_that_leaves_no_picture_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_policy(text).require(32, 40, 1)
    parse_policy("crop31 cutout31 zoom0.01 color1 rand8 mixup1").require(32, 40, 1)
