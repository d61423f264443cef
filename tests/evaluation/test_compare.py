"""Comparing runs that were trained on real digits: the same pictures, or a refusal that counts what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pellucid
from pellucid.errors import ConfigError, DataError
from pellucid.evaluation.compare import compare
from pellucid.run import Run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Iterator[Path]:
    """Three runs on the digits 0 to 3: a good one, a bad one on the same pictures, and one with another split."""
    home = tmp_path_factory.mktemp("compare")
    for label in range(4):
        (home / "photos" / f"d{label}").mkdir(parents=True)
        for i, k in enumerate(np.flatnonzero(digits[1] == label)[:80]):
            Image.fromarray(digits[0][k]).save(home / "photos" / f"d{label}" / f"{i:02}.png")
    same = {"batch_size": 16, "precision": "fp32", "model": "fastnet-8-16", "split": "40/10/50"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(home / "cache"))
        pellucid.train(home / "photos", out=home / "good", epochs=8, **same)
        pellucid.train(home / "photos", out=home / "bad", epochs=0.2, **same)
        pellucid.train(home / "photos", out=home / "other", epochs=0.2, **(same | {"split": "50/25/25"}))
    yield home


def test_the_better_run_is_named_with_the_difference(home: Path) -> None:
    found = compare([home / "bad", home / "good"])
    first, good = found.rivals
    scores = [pellucid.evaluate(home / name).accuracy.value for name in ("bad", "good")]
    assert [first.score.value, good.score.value] == pytest.approx(scores)
    assert good.gain is not None
    assert good.gain.value == pytest.approx(scores[1] - scores[0])
    assert good.only_this - good.only_first == round(good.gain.value * found.n)
    assert good.gain.low > 0
    assert f"is better than {home / 'bad'}: +{100 * good.gain.value:.1f} points" in found.verdict()[0]
    assert compare([home / "good", home / "bad"]).verdict()[0].startswith(f"{home / 'bad'} is worse than")
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_run_cannot_be_told_from_itself(home: Path) -> None:
    found = compare([home / "good", home / "good", home / "good"])
    for rival, sentence in zip(found.rivals[1:], found.verdict(), strict=True):
        assert (rival.gain.value, rival.p, rival.corrected) == (0, 1, 1)
        assert rival.detectable > 0.01
        assert "cannot be told apart: +0.0 points" in sentence
        assert "would not be seen" in sentence


def test_runs_with_other_test_pictures_are_refused_and_the_files_counted(home: Path) -> None:
    test = [
        {row["sha256"] for row in Run(home / name).read_manifest() if row["split"] == "test"}
        for name in ("good", "other")
    ]
    only = [len(test[0] - test[1]), len(test[1] - test[0])]
    assert only[0] > 0
    with pytest.raises(DataError, match=rf"{only[0]} only in that of .*good") as error:
        compare([home / "good", home / "other"])
    assert (f" {only[1]} only in that of" in str(error.value)) == (only[1] > 0)


def test_a_true_answer_that_differs_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "good", tmp_path / "good")
    table = tmp_path / "good" / "data.csv"
    lines = table.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if ",d0,test," in line)
    lines[place] = lines[place].replace(",d0,test,", ",d1,test,")
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="1 in both with another true answer"):
        compare([home / "good", tmp_path / "good"])


def test_other_labelled_pictures_serve_runs_of_different_splits(home: Path, tmp_path: Path) -> None:
    for label in range(4):
        shutil.copytree(home / "photos" / f"d{label}", tmp_path / "new" / f"d{label}")
    assert compare([home / "good", home / "other"], tmp_path / "new").n == 320


def test_one_run_is_no_comparison(home: Path) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        compare([home / "good"])
