from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pellucid.data import ahead
from pellucid.data.ahead import asked_ahead


def stats_of(files: list[Path]) -> list[tuple[str, int, int, int] | None]:
    return [None, *((str(file), 5, 0, 0) for file in files)]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no such questions")
def test_every_file_is_asked_for_and_what_is_no_file_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{i}.bin" for i in range(1100)]
    for file in files:
        file.write_bytes(b"12345")
    asked, told = list[int](), threading.Event()

    def advise(handle: int, *_: int) -> None:
        asked.append(os.fstat(handle).st_ino)
        if len(asked) == len(files):
            told.set()

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(ahead, "_waits", lambda _: True)
    with asked_ahead(stats_of([tmp_path / "archive.zip" / "member.png", *files])):
        assert told.wait(20)
    assert sorted(asked) == sorted(file.stat().st_ino for file in files)


def test_files_that_are_in_memory_and_few_files_are_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{i}.bin" for i in range(1100)]
    monkeypatch.setattr(ahead, "_ask", lambda _: pytest.fail("asked"))
    monkeypatch.setattr(ahead, "_waits", lambda _: False)
    with asked_ahead(stats_of(files)):
        pass
    monkeypatch.setattr(ahead, "_waits", lambda _: pytest.fail("tried"))
    with asked_ahead(stats_of(files[:100])):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    ahead._waits([str(tmp_path / "pipe.png")])
    ahead._ask([str(tmp_path / "pipe.png")])
