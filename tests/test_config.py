"""Settings: what is refused, what a text means, and that every setting explains itself."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.config import DataConfig, ModelConfig, TrainConfig, parse_duration, to_dict
from pellucid.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize("kind", [DataConfig, ModelConfig, TrainConfig])
def test_every_field_explains_itself_and_its_default_is_allowed(kind: Any) -> None:
    for entry in fields(kind):
        assert len(entry.metadata["help"]) > 8, entry.name
        assert entry.metadata["help"].endswith((".", "]", ")")), entry.name
        choices = entry.metadata["choices"]
        assert not choices or entry.default is None or entry.default in choices, entry.name
    assert kind(**json.loads(json.dumps(to_dict(kind())))) == kind()


def test_no_name_stands_for_two_settings() -> None:
    names = [entry.name for kind in (DataConfig, ModelConfig, TrainConfig) for entry in fields(kind)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("epochs", [0, -1, 1e7, float("nan"), float("inf")]),
        ("batch_size", [0, -4, 65537]),
        ("learning_rate", [-0.1, 1001, float("nan")]),
        ("weight_decay", [-1e-9, 1001]),
        ("momentum", [-0.1, 1.1]),
        ("warmup", [-0.1, 1.5]),
        ("label_smoothing", [-0.1, 1.1]),
        ("clip", [-1, float("nan")]),
        ("patience", [0, -3]),
        ("seed", [-1, 2**63]),
    ],
)
def test_a_number_out_of_range_is_told_with_its_flag(setting: str, values: list[float]) -> None:
    for value in values:
        with pytest.raises(ConfigError) as caught:
            TrainConfig(**{setting: value})
        assert str(caught.value).startswith(f"--{setting.replace('_', '-')} is {value}")


@pytest.mark.parametrize(
    "good",
    [
        {"epochs": 0.01}, {"batch_size": 1}, {"learning_rate": 0.0}, {"weight_decay": 0.0}, {"momentum": 0.0},
        {"warmup": 0.0}, {"warmup": 1.0}, {"label_smoothing": 0.0}, {"patience": 1},
        {"seed": 2**63 - 1},
    ],
)  # fmt: skip
def test_the_ends_of_the_ranges_are_allowed(good: dict[str, float]) -> None:
    (name, value), = good.items()  # fmt: skip
    assert getattr(TrainConfig(**good), name) == value


@pytest.mark.parametrize(
    ("kind", "setting", "value", "hint"),
    [
        (TrainConfig, "optimizer", "adam", "Did you mean adamw?"),
        (TrainConfig, "balance", "weight", "Did you mean weights?"),
        (TrainConfig, "precision", "fp16", "auto, fp32, bf16"),
        (TrainConfig, "device", "gpu", "auto, cpu, cuda, mps"),
        (DataConfig, "fit", "streched", "Did you mean stretch?"),
    ],
)
def test_a_word_that_is_no_choice_gets_the_nearest(kind: Any, setting: str, value: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=f"--{setting.replace('_', '-')} is '{value}'") as caught:
        kind(**{setting: value})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("1.5m", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("1h30m15s", 5415),
        (" 10 m ", 600), ("1H", 3600), ("0.5s", 0.5),
    ],
)  # fmt: skip
def test_a_duration_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert TrainConfig(time_limit=text).seconds() == seconds


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
@settings(max_examples=30)
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "0m0s", "-5m", "ten", "5 minutes", "1d", "1e3", "5m!", "m", "1..5m", "inf", "1 0s", "1h30"]
)
def test_a_text_that_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="write it like 90s, 10m or 1h30m"):
        TrainConfig(time_limit=text)


def test_without_a_limit_there_are_no_seconds() -> None:
    assert TrainConfig().seconds() is None


@pytest.mark.parametrize(
    ("text", "size"), [("64", (64, 64)), ("48x64", (48, 64)), (" 32 ", (32, 32)), ("1", (1, 1)), ("4096x1", (4096, 1))]
)
def test_a_size_is_height_and_width(text: str, size: tuple[int, int]) -> None:
    assert DataConfig(size=text).input_size() == size


@pytest.mark.parametrize("text", ["0", "4097", "64x0", "0x64", "64x", "x64", "-8", "64x64x3", "6.5", "big", ""])
def test_a_text_that_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--size is '{text}'"):
        DataConfig(size=text)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("80/10/10", (0.8, 0.1, 0.1)),
        ("8:1:1", (0.8, 0.1, 0.1)),
        ("0.7, 0.2, 0.1", (0.7, 0.2, 0.1)),
        ("1/1/2", (0.25, 0.25, 0.5)),
    ],
)
def test_shares_become_fractions_of_one(text: str, shares: tuple[float, float, float]) -> None:
    found = DataConfig(split=text).fractions()
    assert found is not None
    assert list(found) == ["train", "validation", "test"]
    assert tuple(found.values()) == pytest.approx(shares)


@pytest.mark.parametrize("text", ["80/20", "80/10/5/5", "80/20/0", "-80/10/10", "a/b/c", "", "80 10 10", "1.2.3/1/1"])
def test_shares_that_cannot_be_used(text: str) -> None:
    with pytest.raises(ConfigError, match="three shares for train/validation/test"):
        DataConfig(split=text)


@pytest.mark.parametrize("channels", [0, -1])
def test_a_picture_without_channels_is_refused(channels: int) -> None:
    with pytest.raises(ConfigError, match=f"--channels is {channels}"):
        DataConfig(channels=channels)


def test_nothing_asked_for_is_none() -> None:
    assert DataConfig().fractions() is None
    assert DataConfig().input_size() is None


@pytest.mark.parametrize("text", ["80/10/10", "0.8/.1/.1", "8:1:1", " 80 , 10 , 10 "])
def test_shares_in_any_notation(text: str) -> None:
    assert DataConfig(split=text).fractions() == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1})
