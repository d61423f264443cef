"""Near duplicates: what is planted is found, what only looks alike is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from pellucid.data import near
from pellucid.data.near import find_near


def scenes(count: int, seed: int = 0, side: int = 128) -> list[Image.Image]:
    """Clouds whose amplitudes fall with the frequency, as those of photographs do."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        clouds = sum(
            sigma * gaussian_filter(rng.standard_normal((side, side)), sigma) for sigma in (1, 2, 4, 8, 16, 32)
        )
        levels = 127 + 45 * (clouds - clouds.mean()) / clouds.std()
        found.append(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))
    return found


def small(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR)) for picture in pictures])


def pairs(pictures: list[Image.Image], side: int = 128) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in find_near(small(pictures), np.full(len(pictures), side)).pairs}


def test_crops_and_changed_levels_are_found_and_nothing_else() -> None:
    pictures = scenes(60)
    copies = [
        pictures[0].crop((0, 0, 122, 122)),
        pictures[1].crop((6, 3, 128, 125)),
        pictures[2].point(lambda level: level * 0.6),
        pictures[3].resize((40, 30)),
    ]
    assert pairs(pictures + copies) == {(0, 60), (1, 61), (2, 62), (3, 63)}
    assert pairs(copies + pictures) == {(0, 4), (1, 5), (2, 6), (3, 7)}  # whichever comes first
    assert pairs(pictures) == set()


def test_other_pictures_of_one_outline_are_no_duplicates() -> None:
    """The same large shape in every picture, as of shirts on a table: only the inside differs."""
    shape = np.zeros((128, 128))
    shape[20:108, 40:88] = 150
    alike = [Image.fromarray((shape + np.asarray(p) * 0.4).astype(np.uint8)) for p in scenes(80)]
    assert np.corrcoef(small(alike).reshape(80, -1)).min() > 0.8  # plain correlation takes them for the same
    assert pairs(alike) == set()
    again = alike[7].resize((64, 64)).resize((128, 128))
    assert pairs([*alike, again]) == {(7, 80)}


def test_a_set_of_copies_is_linked_as_a_whole() -> None:
    first = scenes(1, seed=5)[0]
    copies = [first.point(lambda level, gain=0.5 + 0.04 * k: level * gain) for k in range(12)]  # type: ignore[misc]
    found = pairs(scenes(60) + copies)
    linked = {60}
    while more := {j for pair in found for j in pair if set(pair) & linked} - linked:
        linked |= more
    assert linked == set(range(60, 72))


def test_small_and_empty_pictures_have_no_near_duplicates() -> None:
    twins = scenes(1) * 2
    assert pairs(twins, side=24) == {(0, 1)}
    assert pairs(twins, side=23) == set()
    assert pairs([Image.new("L", (128, 128), level) for level in (10, 11, 200)]) == set()
    assert find_near(np.zeros((0, 32, 32), np.uint8), np.zeros(0, np.int64)).pairs.shape == (0, 2)


def test_sets_that_resemble_each_other_ask_for_more() -> None:
    """Pictures made of one picture and a tenth of another agree with their neighbors to far more than 0.97."""
    common, *others = (np.asarray(picture, float) for picture in scenes(221, side=64))
    alike = small([Image.fromarray((0.9 * common + 0.1 * other).astype(np.uint8)) for other in others])
    sides = np.full(len(alike), 128)
    close, usual = find_near(alike, sides), find_near(small(scenes(220, side=64)), sides)
    assert close.required > 0.99 > usual.required == usual.usual == 0.97
    assert len(close.pairs) < 8


def test_blocks_of_the_search_miss_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than a block, against the whole matrix at once."""
    rng = torch.Generator().manual_seed(0)
    whole = torch.nn.functional.normalize(torch.randn(700, 6, generator=rng), dim=1)
    query = torch.nn.functional.normalize(whole + 0.1 * torch.randn(700, 6, generator=rng), dim=1)
    monkeypatch.setattr(near, "_PER_PICTURE", 700)
    for first, later_only in ((whole, True), (query, False)):
        cosines = (first @ whole.T).numpy()
        expected = np.argwhere((np.triu(cosines, 1) if later_only else cosines * ~np.eye(700, dtype=bool)) >= 0.84)
        found = near._candidates(first, whole, later_only=later_only)
        assert {tuple(pair) for pair in found.tolist()} == {tuple(pair) for pair in expected.tolist()}


def test_the_spectrum_is_that_of_scipy() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(float)
    padded = np.pad(picture, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    smooth = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    frequency = np.hypot(*np.mgrid[:32, :32])
    values = (dctn(smooth, norm="ortho") * frequency)[(frequency < 16) & (frequency > 0)]
    found = near._spectrum(torch.from_numpy(picture)[None], 16)[0].numpy()
    assert found == pytest.approx(values / np.linalg.norm(values), abs=1e-5)


def test_a_window_is_what_pillow_cuts_out() -> None:
    picture = scenes(1, side=32)[0]
    window = torch.tensor([[0.5, 0.5, -0.5, 0.0]])  # the left half of the middle: columns 0 to 16, rows 8 to 24
    cut = picture.crop((0, 8, 16, 24)).resize((32, 32), Image.Resampling.BILINEAR)
    found = near._window(torch.from_numpy(np.array(picture))[None], window)[0].numpy()
    assert np.abs(found - np.asarray(cut, float))[2:-2, 2:-2].max() < 2


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["clothing", "cifar10-jpeg"])
def test_planted_duplicates_among_real_pictures(name: str, shared: Path, tmp_path: Path) -> None:
    """100 exact and 100 near copies among 2,000 pictures: recipes/planted_duplicates.py."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))
    from planted_duplicates import by_check, plant

    plant(shared / "data" / f"{name}.zip", tmp_path, seed=7)
    found = by_check(tmp_path)
    assert found.exact == 1
    assert found.near_recall >= 0.95
    assert found.false_alarms <= 0.01


def test_whole_numbers_lose_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of which many lie at the limit: with 8 bits first, in small blocks, and by cosines alone the pairs are the same,
    and those of all cosines at once."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 32)).repeat(8, 0)
    vectors = torch.nn.functional.normalize(
        torch.from_numpy(centers + 0.42 * rng.normal(size=(320, 32))).float(), dim=1
    )
    cosines = (vectors @ vectors.T).numpy()
    for later_only in (False, True):
        hidden = np.tril(np.ones_like(cosines, bool)) if later_only else np.eye(320, dtype=bool)
        open_ = np.where(hidden, -1, cosines)
        best = np.argsort(-open_, axis=1)[:, :2]
        expected = {(i, int(j)) for i in range(320) for j in best[i] if open_[i, j] >= near._CANDIDATE}
        assert 100 < len(expected) < 600  # some have one or none
        for block, few, capability in (((64, 48), 8, "AVX2"), ((64, 48), 0, "AVX2"), ((1024, 2048), 8, "DEFAULT")):
            monkeypatch.setattr(near, "_BLOCK", block)
            monkeypatch.setattr(near, "_FEW", few)
            monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
            found = near._candidates(vectors, vectors, later_only=later_only)
            assert {(int(i), int(j)) for i, j in found} == expected
