"""The run folder: everything that one training left behind, and the only state there is.

Whatever is written here is written whole or not at all (`files.atomic_write`), so that a process can be killed at any
moment. `events.jsonl` is appended line by line; a torn last line is ignored on reading.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.errors import RunError
from pellucid.files import atomic_write, storage_errors, write_json

if TYPE_CHECKING:
    from pellucid.evaluation.measure import AnyEvaluation

FORMAT = 1
MANIFEST_COLUMNS = ("path", "label", "split", "group", "sha256", "status", "reason")


@dataclass(frozen=True)
class Run:
    """A handle on a run folder. Holds nothing but the path: two handles on one folder see the same."""

    path: Path

    def read(self) -> dict[str, Any]:
        """The content of run.json. Raises RunError when it is missing, damaged or of a newer version."""
        file = self.path / "run.json"
        if not file.exists():
            raise RunError(
                f"'{self.path}' is no run folder: it has no run.json. "
                "Give a folder that `pellucid train` made, like runs/2026-11-21-photos-1."
            )
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            format_number = int(content["format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"'{file}' is damaged ({error}). Train again, or restore the file from a copy.") from error
        if format_number > FORMAT:
            raise RunError(
                f"'{self.path}' was written by a newer Pellucid: its format is {format_number}, this version reads up "
                f"to {FORMAT}. Upgrade with: pip install --upgrade pellucid"
            )
        return content

    def update(self, **changes: Any) -> None:
        """Changes fields of run.json, atomically."""
        write_json(self.path / "run.json", self.read() | changes)

    def write_manifest(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Writes data.csv: one row a picture, in or out, and why."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, MANIFEST_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(self.path / "data.csv", text.getvalue().encode("utf-8", "surrogateescape"))

    def read_manifest(self) -> list[dict[str, str]]:
        """The rows of data.csv."""
        file = self.path / "data.csv"
        if not file.exists():
            raise RunError(f"'{self.path}' has no data.csv: the training ended before the data were split.")
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
            return list(csv.DictReader(handle))

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Appends one JSON object to events.jsonl."""
        file = self.path / "events.jsonl"
        with storage_errors(file), file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(event, ensure_ascii=True) + "\n")

    def events(self) -> list[dict[str, Any]]:
        """All events so far; lines that a kill tore are left out."""
        file = self.path / "events.jsonl"
        found = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def rewind_events(self, step: int) -> None:
        """Drops what came after `step`, so that a resumed run does not tell it twice."""
        kept = [e for e in self.events() if e.get("step", 0) <= step and e["event"] != "finished"]
        text = "".join(json.dumps(e, ensure_ascii=True) + "\n" for e in kept)
        atomic_write(self.path / "events.jsonl", text.encode())

    def remove_torn_files(self) -> None:
        """Removes what writes that were killed half-way left behind; to be called under the lock."""
        for file in self.path.rglob(".*.tmp"):
            file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second training out of this folder. Raises RunError when one is at work."""
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks of this kind
            yield
            return
        file = self.path / ".lock"
        with storage_errors(file), file.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"Another training is writing to '{self.path}'. Wait for it, stop it, or train into another folder (--out)."
                ) from None
            yield

    def evaluate(self, split: str = "test") -> AnyEvaluation:
        """Measures the run's classifier on one of its splits; the same as `pellucid.evaluate(run, split=split)`."""
        import pellucid  # the one step upwards: the public door, for convenience in notebooks

        return pellucid.evaluate(self, split=split)

    def __str__(self) -> str:
        return str(self.path)


def members_of(run: Run) -> list[Run]:
    """The run folders inside one of several trainings (folds, a learning curve), in their order; none of an ordinary one."""
    return [Run(run.path / name) for name in run.read().get("members", ())]


def create_run(name: str, content: Mapping[str, Any], *, out: Path | None = None, parent: Path = Path("runs")) -> Run:
    """Makes a new run folder, `out` or runs/DATE-NAME-N, and writes its run.json.

    Raises StorageError when it cannot be made, RunError when `out` exists and is not empty.
    """
    if out is not None:
        folder = out
        with storage_errors(folder):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise RunError(
                    f"'{folder}' exists already and is not empty. Choose another folder, or continue the run that is "
                    f"in it with: pellucid train --resume {folder}"
                )
            folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = _next_folder(name, parent)
    run = Run(folder)
    with storage_errors(folder):
        for part in ("model", "checkpoints", "reports"):
            (folder / part).mkdir(exist_ok=True)
    write_json(folder / "run.json", {"format": FORMAT, **content})
    return run


def _next_folder(name: str, parent: Path) -> Path:
    stem = f"{datetime.date.today().isoformat()}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.') or 'data'}"
    number = 1
    while True:
        folder = parent / f"{stem}-{number}"
        with storage_errors(folder):
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                if not parent.is_dir():
                    raise
        number += 1
