"""What is left of a time limit for the last look at the validation part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pellucid
from pellucid.training import work


@pytest.mark.parametrize(("seconds", "looked_at"), [(0.0, None), (1e3, 20)])
def test_the_last_look_takes_a_small_part_of_the_time(
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    looked_at: int,
) -> None:
    monkeypatch.setattr(work, "_FEWEST_LOOKED_AT", 20)
    monkeypatch.setattr(work, "_seconds_of_validation", lambda *_: seconds)
    run = pellucid.train((digits[0][:900], digits[1][:900]), out=tmp_path / "run", time_limit="2s", model="fastnet-4-8")
    content = run.read()
    assert content.get("looked_at") == looked_at
    assert content["valid"]["n"] == looked_at or (looked_at is None and 80 <= content["valid"]["n"] <= 100)
