"""The run folder: whole files or none, versions, the lock, events."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from pellucid.errors import RunError, StorageError
from pellucid.files import atomic_write, write_json
from pellucid.run import FORMAT, Run, create_run


def test_names_count_up_and_are_safe(tmp_path: Path) -> None:
    runs = [create_run("my photos/ü\n", {"state": "preparing"}, parent=tmp_path) for _ in range(2)]
    assert [run.path.name.split("-", 3)[3] for run in runs] == ["my-photos-1", "my-photos-2"]
    assert runs[0].read() == {"format": FORMAT, "state": "preparing"}


def test_out_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match=r"not empty.*--resume"):
        create_run("x", {}, out=tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_newer_format_is_refused(tmp_path: Path) -> None:
    run = create_run("x", {}, parent=tmp_path)
    write_json(run.path / "run.json", {"format": FORMAT + 1})
    with pytest.raises(RunError, match=r"newer Pellucid.*Upgrade"):
        run.read()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": "x"}'])
def test_damaged_run_json_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match="damaged"):
        Run(tmp_path).read()


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        Run(tmp_path).read()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    file = tmp_path / "a.json"
    atomic_write(file, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), full)
    with pytest.raises(StorageError, match=r"disk is full.*3 bytes"):
        atomic_write(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_lock_keeps_a_second_training_out(tmp_path: Path) -> None:
    run = create_run("x", {}, parent=tmp_path)
    with run.lock(), pytest.raises(RunError, match="Another training"), run.lock():
        pass
    with run.lock():
        pass


def test_events_survive_a_torn_line_and_rewind(tmp_path: Path) -> None:
    run = create_run("x", {}, parent=tmp_path)
    for step in (1, 2, 3):
        run.append_event({"event": "step", "step": step})
    with (run.path / "events.jsonl").open("a") as handle:
        handle.write('{"event": "st')
    assert [e["step"] for e in run.events()] == [1, 2, 3]
    run.rewind_events(2)
    assert [e["step"] for e in run.events()] == [1, 2]


def test_manifest_keeps_any_name(tmp_path: Path) -> None:
    run = create_run("x", {}, parent=tmp_path)
    names = ["a\nb.png", 'quo"te,.png', "ünï.png", os.fsdecode(b"latin\xe9.png")]
    rows = [dict.fromkeys(("label", "split", "group", "sha256", "status", "reason"), "") | {"path": n} for n in names]
    run.write_manifest(rows)
    assert run.read_manifest() == rows
    assert json.loads(json.dumps(run.read_manifest())) == rows


def test_what_killed_writes_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    run = create_run("x", {}, out=tmp_path / "run")
    torn = [run.path / ".run.json.77.tmp", run.path / "checkpoints" / ".best.safetensors.77.tmp"]
    kept = [run.path / "run.json", run.path / "checkpoints" / "best.safetensors", run.path / "notes.tmp"]
    for file in (*torn, *kept[1:]):
        file.write_text("half")
    run.remove_torn_files()
    assert not any(file.exists() for file in torn)
    assert all(file.exists() for file in kept)
