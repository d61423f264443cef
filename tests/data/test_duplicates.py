"""Clusters of duplicates, and the cache of the long search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.data import duplicates as module
from pellucid.data import near
from pellucid.data.duplicates import find_duplicates
from pellucid.data.looks import Looks
from pellucid.data.near import NearPairs, find_near
from pellucid.data.scan import Record


def records(shown: list[int], *, side: int = 64, darker: tuple[int, ...] = ()) -> list[Record]:
    """Records of pictures by number, -1 for an unreadable one; those at the places `darker` have other pixels."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(50, 256, (max(shown) + 1, 8, 8)).repeat(4, 1).repeat(4, 2)
    found = []
    for place, number in enumerate(shown):
        gain = 0.7 if place in darker else 1.0
        looks = Looks(thumbnail=(pictures[number] * gain).astype(np.uint8).tobytes())
        pixels = f"{number} {gain}"
        readable = Record(pixels=pixels, height=side, width=2 * side, channels=1, looks=looks)
        found.append(Record(reason="broken") if number < 0 else readable)
    return found


def test_copies_of_near_duplicates_belong_to_the_cluster() -> None:
    """0 = 2, 5 is a darker 0; 1 = 6, alone; 3 and 8 are unreadable; 7 is a darker 4."""
    found = find_duplicates(records([0, 1, 0, -1, 2, 0, 1, 2, -1], darker=(5, 7)))
    assert found.exact == ((0, 2), (1, 6))
    assert found.near == ((0, 2, 5), (4, 7))
    assert found.notes == ()


def test_the_search_can_be_left_out_or_narrowed() -> None:
    these = records([0, 1, 0, 2, 0, 2], darker=(4, 5))
    assert find_duplicates(these, near=False).near == ()
    assert find_duplicates(these, near=False).exact == ((0, 2),)
    narrow = find_duplicates(these, among=[5, 3, 1, 0])
    assert (narrow.exact, narrow.near) == ((), ((3, 5),))


def test_small_pictures_are_counted_in_a_note() -> None:
    found = find_duplicates(records([0, 0, 1], side=23, darker=(1,)))
    assert found.near == ()
    assert found.notes == ("near duplicates are not looked for among 3 pictures below 24 pixels a side",)


def test_records_without_looks_have_no_near_duplicates() -> None:
    assert find_duplicates([Record(pixels="a"), Record(pixels="b"), Record(pixels="a")]).exact == ((0, 2),)
    assert find_duplicates([]).exact == ()


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of pictures of the searches from now on, of which all are worth keeping."""
    done: list[int] = []

    def counted(thumbnails: np.ndarray, sides: np.ndarray) -> NearPairs:
        done.append(len(thumbnails))
        return find_near(thumbnails, sides)

    monkeypatch.setattr(near, "find_near", counted)
    monkeypatch.setattr(module, "_WORTH_KEEPING", 2)
    return done


def test_a_search_is_kept_under_the_content_of_the_pictures(searches: list[int], own_cache: Path) -> None:
    first = find_duplicates(records([0, 1, 0], darker=(2,)))
    again = find_duplicates(records([0, 1, 0], darker=(2,)))
    assert first.near == again.near == ((0, 2),)
    assert searches == [3]
    assert find_duplicates(records([0, 1, 2])).near == ()  # another content
    assert find_duplicates(records([0, 1, 0], darker=(2,), side=20)).near == ()  # another size
    assert searches == [3, 3, 3]
    for file in (own_cache / "near").iterdir():
        file.write_bytes(b"PK damaged")
    assert find_duplicates(records([0, 1, 0], darker=(2,))).near == first.near
    assert len(searches) == 4


def test_a_cache_that_cannot_be_written_does_not_stop_the_search(searches: list[int], own_cache: Path) -> None:
    (own_cache / "near").write_text("a file where a folder should be")
    assert find_duplicates(records([0, 1, 0], darker=(2,))).near == ((0, 2),)
    assert searches == [3]
