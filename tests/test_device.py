"""Deterministic training: the same bits for any number of threads, and torch left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pellucid
from pellucid.device import reproducible
from pellucid.errors import ConfigError, TrainingError


def test_torch_is_left_as_it_was() -> None:
    torch.set_num_threads(1)
    with pytest.raises(ZeroDivisionError), reproducible(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 2
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    with reproducible(False):
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 1


def test_an_operation_without_a_deterministic_way_is_told() -> None:
    with (
        pytest.raises(TrainingError, match=r"no deterministic way on this device: adaptive_max_pool2d_backward_cuda\."),
        reproducible(True),
    ):
        raise RuntimeError(
            "adaptive_max_pool2d_backward_cuda does not have a deterministic implementation, but you set ..."
        )
    with pytest.raises(RuntimeError, match="something else"), reproducible(True):
        raise RuntimeError("something else")


def test_a_clock_decides_nothing_in_a_deterministic_training() -> None:
    with pytest.raises(ConfigError, match="--time-limit 10m lets the clock decide"):
        pellucid.train("digits", time_limit="10m", deterministic=True)


def weights(folder: Path, threads: int, data: pellucid.Dataset, **settings: Any) -> bytes:
    torch.set_num_threads(threads)
    run = pellucid.train(data, out=folder, epochs=2, augment="shift1", **settings)
    return (run.path / "model" / "model.safetensors").read_bytes()


def test_the_same_bits_for_any_number_of_threads(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pellucid.open_dataset((digits[0][:600], digits[1][:600]))
    ends = []
    for threads in (1, 2, 3):
        monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / f"cache-{threads}"))  # speeds are measured anew
        ends.append(weights(tmp_path / f"run-{threads}", threads, data, deterministic=True))
    assert ends[0] == ends[1] == ends[2]
    plain = {"precision": "fp32"}
    assert weights(tmp_path / "a", 1, data, **plain) != weights(tmp_path / "b", 2, data, **plain)  # what it is for
