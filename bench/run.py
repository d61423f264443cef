"""The figures of the README, measured on this machine: each is one command of the package, timed as a whole process.

    make bench                       all figures; prints a table, writes bench/results.json
    .venv/bin/python bench/run.py malaria clothing       some of them

The pictures are the archives of the folder PELLUCID_SHARED (default ../shared); they are unpacked into a temporary folder,
and the cache is a new and empty one, so every figure includes the first decoding.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("PELLUCID_SHARED", HERE.parent.parent / "shared"))
PELLUCID = Path(sys.executable).with_name("pellucid")
TUTORIAL = "conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu"


@dataclass(frozen=True)
class Row:
    """One figure: what was run, how long it took as a whole process, its peak memory, the score and what it must be."""

    name: str
    command: str
    seconds: float
    peak_mb: float
    score: str
    must: str


def run(*arguments: str, folder: Path) -> tuple[str, float, float]:
    """(stdout, wall seconds, peak resident MB) of one pellucid command."""
    started = time.perf_counter()
    out = folder / "stdout"
    with out.open("wb") as handle:
        pid = os.posix_spawn(
            PELLUCID, [str(PELLUCID), *arguments], os.environ | {"PELLUCID_CACHE": str(folder / "cache")},
            file_actions=[(os.POSIX_SPAWN_DUP2, handle.fileno(), 1)],
        )  # fmt: skip
        _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"pellucid {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return out.read_text(), time.perf_counter() - started, usage.ru_maxrss / 1024


def trained(name: str, data: Path, must: str, folder: Path, *arguments: str) -> Row:
    """Trains on a cold cache and measures on the test part."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    target = str(folder / f"run-{name.replace(' ', '-')}")
    _, seconds, peak = run("train", str(data), "--out", target, *arguments, folder=folder)
    result = json.loads(run("evaluate", target, "--json", folder=folder)[0])
    accuracy = result["accuracy"]
    score = (
        f"test accuracy {accuracy['value']:.4f} ({accuracy['low']:.4f} to {accuracy['high']:.4f}, n {result['n']:,})"
    )
    command = " ".join(["pellucid train", data.name, *(f"'{a}'" if " " in a else Path(a).name for a in arguments)])
    return Row(name, command, seconds, peak, score, must)


def unpacked(name: str, folder: Path) -> Path:
    if not (folder / name).exists():
        with zipfile.ZipFile(SHARED / "data" / f"{name}.zip") as archive:
            archive.extractall(folder)
    return folder / name


def help_time(folder: Path) -> Row:
    times = sorted(run("--help", folder=folder)[1] for _ in range(7))
    return Row(
        "help",
        "pellucid --help",
        times[3],
        0,
        f"median of 7, {times[0]:.2f} to {times[-1]:.2f} s",
        "under 0.3 s",
    )


def demo(folder: Path) -> Row:
    text, seconds, peak = run("demo", "--json", "--out", str(folder / "run-demo"), folder=folder)
    test = json.loads(text)["test"]
    accuracy = test["accuracy"]
    score = f"test accuracy {accuracy['value']:.4f} ({accuracy['low']:.4f} to {accuracy['high']:.4f}, n {test['n']:,})"
    return Row("demo", "pellucid demo", seconds, peak, score, ">= 0.985 in 60 s")


def check(folder: Path) -> Row:
    data = unpacked("cifar10-jpeg", folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    text, seconds, peak = run("check", str(data), "--json", folder=folder)
    again = sorted(run("check", str(data), folder=folder)[1] for _ in range(3))
    return Row(
        "check",
        f"pellucid check {data.name}",
        seconds,
        peak,
        f"{json.loads(text)['images']:,} files; again {again[1]:.1f} s",
        "under 90 s, again under 5 s",
    )


def cifar(folder: Path) -> Row:
    data = unpacked("cifar10-jpeg", folder)
    return trained("cifar", data, ">= 0.78 in 120 s, under 2,500 MB", folder, "--time-limit", "2m")


def tutorial(folder: Path) -> Row:
    data = unpacked("cifar10-jpeg", folder)
    return trained("tutorial", data, ">= 0.66 in 100 s", folder, "--model", TUTORIAL, "--time-limit", "95s")


def malaria(folder: Path) -> Row:
    data = unpacked("malaria-gray50", folder) / "patients.csv"
    return trained("malaria", data, ">= 0.93 in 300 s", folder, "--group", "patient", "--time-limit", "5m")


def clothing(folder: Path) -> Row:
    weights = SHARED / "weights" / "mobilenetv2_100.safetensors"
    return trained("clothing", unpacked("clothing", folder), ">= 0.80 in 300 s", folder, "--weights", str(weights))


def augment(folder: Path) -> Row:
    """In this process: the figure of bench/augment.py."""
    from augment import FIGURE, measure

    started = time.perf_counter()
    speeds = measure()
    figure = next(row for row in speeds if row.policy == FIGURE)
    slowest = min((row for row in speeds if row.ratio), key=lambda row: row.ratio)
    score = (
        f"{figure.ours:,.0f} pictures/s with '{FIGURE}' (32x32, batches of 512), {figure.ratio:.1f} times torchvision v2 "
        f"for each picture; of all transforms the nearest to v2 is {slowest.policy}, {slowest.ratio:.1f} times"
    )
    seconds, must = time.perf_counter() - started, ">= 20,000 pictures/s; none slower than v2 for each picture"
    return Row("augment", "python bench/augment.py", seconds, 0, score, must)


def decode(folder: Path) -> Row:
    """In this process: the figures of bench/decode.py."""
    from decode import measure

    started = time.perf_counter()
    score = "; ".join(
        f"{row.name} {row.all[0]:,.0f} pictures/s, {row.ratio:.2f} times a DataLoader with Pillow, {row.scaling:.0%} of linear"
        for row in measure()
    )
    must = "JPEG >= 1.8 times, >= 80 % of linear"
    return Row("decode", "python bench/decode.py", time.perf_counter() - started, 0, score, must)


FIGURES = {f.__name__: f for f in (help_time, demo, check, cifar, tutorial, malaria, clothing, augment, decode)}


def main() -> None:
    wanted = sys.argv[1:] or list(FIGURES)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in wanted:
            rows.append(FIGURES[name](Path(place)))
            print(f"{rows[-1].name}: {rows[-1].seconds:.1f} s, {rows[-1].score}", file=sys.stderr, flush=True)
    print(f"| figure | command | seconds | peak MB | score | must |\n|{'---|' * 6}")
    for row in rows:
        print(f"| {row.name} | `{row.command}` | {row.seconds:.1f} | {row.peak_mb:,.0f} | {row.score} | {row.must} |")
    machine = {"system": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()}
    results = {"machine": machine, "figures": [asdict(row) for row in rows]}
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
