"""The page of a check: shows what was found, stays small, fetches and runs nothing, whatever the files are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.data.check import check
from pellucid.data.dataset import open_dataset
from pellucid.evaluation.check_page import render_check
from pellucid.evaluation.draw import as_image


def save(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(levels).save(file)


def page(root: Path) -> str:
    data = open_dataset(root)
    return render_check(check(data), data, picture=as_image)


class Seen(HTMLParser):
    """Tags, sections' headings, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self._in_heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_heading = tag == "h2"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_heading and data.strip():
            self.headings.append(data)


def test_every_finding_has_a_section_with_its_pictures(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "train" / "cat" / f"{i}.png", i)
        save(tmp_path / "train" / "dog" / f"{i}.png", 10 + i)
        save(tmp_path / "test" / "cat" / f"{i}.png", 20 + i)
        save(tmp_path / "test" / "dog" / f"{i}.png", 30 + i)
    save(tmp_path / "train" / "dog" / "contradiction.png", 0)
    save(tmp_path / "train" / "cat" / "seen.png", 20)
    (tmp_path / "train" / "cat" / "broken.png").write_bytes(b"")
    Image.new("L", (8, 8), 9).save(tmp_path / "train" / "cat" / "blank.png")
    seen = Seen(page(tmp_path))
    assert seen.headings == [
        "What is shown", "The same picture under two classes: 1", "The same picture in two splits: 1", "Unreadable: 1",
        "The same picture more than once: 2", "Blank: 1", "How it was made",
    ]  # fmt: skip
    images = sum(tag == "img" for tag, _ in seen.tags)
    assert images == 12 + 2 + 2 + 4 + 1  # six samples of each class; every finding's pictures
    for word in ("contradiction.png", "file is empty (0 bytes)", "test: cat", "5 things to mend in 19 pictures"):
        assert word in seen.text


def test_a_sound_data_set_has_only_its_classes(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / "cat" / f"{i}.png", i)
        save(tmp_path / "dog" / f"{i}.png", 50 + i)
    seen = Seen(page(tmp_path))
    assert seen.headings == ["What is shown", "How it was made"]
    assert "Nothing to mend was found." in seen.text


def test_the_page_stays_small_and_says_so(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / "cat" / f"{i}.png", i)
        save(tmp_path / "dog" / f"{i}.png", i)
    for i in range(30):
        save(tmp_path / "cat" / f"again {i}.png", 1)
    seen = Seen(page(tmp_path))
    assert "24 of 40 are shown; check --json lists all." in seen.text
    assert "6 of 32 are shown" in seen.text
    assert sum(tag == "img" for tag, _ in seen.tags) <= 12 + 2 * (23 * 2 + 6)


def test_names_cannot_run_or_load_anything(tmp_path: Path) -> None:
    evil = '"><script>alert(1)<img src=x onerror=alert(2)>'
    try:
        save(tmp_path / evil / f"{evil}.png", 0)
        save(tmp_path / "dog" / f"\x1b[31m{evil}.png", 0)
    except OSError:
        pytest.skip("this file system refuses such names")
    (tmp_path / "dog" / f"broken {evil}.png").write_bytes(b"")
    text = page(tmp_path)
    seen = Seen(text)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "iframe", "object", "link"})
    assert all((attributes["src"] or "").startswith("data:image/") for tag, attributes in seen.tags if tag == "img")
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    assert "\x1b" not in text
    assert "alert(1)" in seen.text  # shown as text
    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href)=\"?https?:", text)


def test_a_picture_that_is_gone_meanwhile_is_told_in_its_place(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "cat" / f"{i}.png", 0)
        save(tmp_path / "dog" / f"{i}.png", 5)
    data = open_dataset(tmp_path)
    found = check(data)
    (tmp_path / "cat" / "1.png").unlink()
    assert "file is missing" in Seen(render_check(found, data, picture=as_image)).text
