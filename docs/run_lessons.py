"""Runs the lessons and writes what comes out back into their pages: printed numbers and figures.

    .venv/bin/python docs/run_lessons.py [PAGE ...]      default: every page of docs/lessons that has what it needs

A page is one program: its Python blocks run in order in one namespace, in an empty temporary folder. What a block prints
stands in the text block right behind it. A figure that the page shows as `images/NAME` is written by a block as `NAME`.
A line `needs: FILE, FILE` on top names pictures or weights of the folder `PELLUCID_SHARED` (../shared), which then lie in
the temporary folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
LESSONS = ROOT / "docs" / "lessons"
SHARED = Path(os.environ.get("PELLUCID_SHARED", ROOT.parent / "shared"))
_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n^```text(?P<title>[^\n]*)\n(?P<said>.*?)^```\n)?",
    re.M | re.S,
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_FIGURE = re.compile(r"\]\(images/([\w.-]+)\)")


@dataclass(frozen=True)
class Block:
    """What one block printed, beside what its page says."""

    match: re.Match[str]
    said: str
    printed: str

    @property
    def agrees(self) -> bool:
        """Whether the page tells the truth: letter by letter; what was trained, within 10 % or 0.03."""
        if "trained" not in (self.match["title"] or ""):
            return self.said == self.printed
        said, printed = _NUMBER.findall(self.said), _NUMBER.findall(self.printed)
        same_words = re.sub(r"[ -]+", " ", _NUMBER.sub("#", self.said)) == re.sub(
            r"[ -]+", " ", _NUMBER.sub("#", self.printed)
        )
        return same_words and all(
            _near(_value(a), _value(b)) for a, b in zip(said, printed, strict=True)
        )

    def as_it_came_out(self) -> str:
        """The block as it should stand in the page."""
        code = f"```python\n{self.match['code']}```\n"
        return code + (
            f"\n```text{self.match['title'] or ''}\n{self.printed}```\n"
            if self.printed
            else ""
        )


def pages() -> list[Path]:
    """The lessons, in their order."""
    return sorted(LESSONS.glob("[0-9]*.md"))


def needs(page: Path) -> list[Path]:
    """The shared files that the page works on."""
    found = re.search(r"^needs: (.*)$", page.read_text(encoding="utf-8"), re.M)
    names = found[1].split(", ") if found else []
    return [
        SHARED / ("weights" if name.endswith(".safetensors") else "data") / name
        for name in names
    ]


def figures(page: Path) -> list[str]:
    """The names of the figures that the page shows."""
    return _FIGURE.findall(page.read_text(encoding="utf-8"))


def run(page: Path, folder: Path) -> list[Block]:
    """Runs the page's blocks in `folder`, where its figures are afterwards."""
    for file in needs(page):
        (folder / file.name).symlink_to(file.resolve())
    torch.set_num_threads(1)  # how a sum is split decides its last digits
    namespace = {"__name__": "__main__"}
    blocks = []
    with contextlib.chdir(folder):
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(
                    compile(
                        match["code"], f"{page.name}, block {len(blocks) + 1}", "exec"
                    ),
                    namespace,
                )
            printed = "".join(
                f"{line.rstrip()}\n" for line in out.getvalue().splitlines()
            )
            blocks.append(Block(match, match["said"] or "", printed))
    return blocks


def rewrite(page: Path) -> Iterator[str]:
    """Runs the page, brings its figures and its printed numbers up to date, and tells what changed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blocks = run(page, folder)
        (LESSONS / "images").mkdir(exist_ok=True)
        for figure in figures(page):
            shutil.copyfile(folder / figure, LESSONS / "images" / figure)
            yield f"  wrote images/{figure}"
    text, end, parts = page.read_text(encoding="utf-8"), 0, []
    for number, block in enumerate(blocks, start=1):
        parts += [text[end : block.match.start()], block.as_it_came_out()]
        end = block.match.end()
        if block.said != block.printed:
            yield f"  block {number} now prints\n{block.printed}"
    page.write_text("".join([*parts, text[end:]]), encoding="utf-8")


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= max(0.03, 0.1 * max(abs(a), abs(b)))


def main(names: list[str]) -> None:
    for page in [Path(name).resolve() for name in names] or pages():
        missing = [file for file in needs(page) if not file.exists()]
        print(
            page.name + (f"  left as it is: needs {missing[0]}" if missing else ""),
            flush=True,
        )
        for line in () if missing else rewrite(page):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
