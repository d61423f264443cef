"""The figures of the README and of docs/benchmarks.md, measured on this machine: each is one command of the package, timed as
a whole process.

    make bench                       all figures, about two hours; writes bench/results.json and docs/benchmarks.md
    .venv/bin/python bench/run.py malaria clothing       some of them; the others keep what was measured before

The pictures are the archives of the folder PELLUCID_SHARED (default ../shared); they are unpacked into a temporary folder,
and the cache is a new and empty one, so every figure includes the first decoding.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from simplejpeg import encode_jpeg

from pellucid.device import describe_machine

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("PELLUCID_SHARED", HERE.parent.parent / "shared"))
RESULTS, PAGE = HERE / "results.json", HERE.parent / "docs" / "benchmarks.md"
PELLUCID = Path(sys.executable).with_name("pellucid")
PEERS = HERE.parent / ".venv-bench" / "bin" / "python"
TUTORIAL = "conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu"


@dataclass(frozen=True)
class Row:
    """One figure: what was run, how long it took as a whole process, its peak memory, the score, what it must be and what it
    should be one day."""

    name: str
    command: str
    seconds: float
    peak_mb: float
    score: str
    must: str
    aim: str = ""


def run(*arguments: str, folder: Path) -> tuple[str, float, float]:
    """(stdout, wall seconds, peak resident MB) of one pellucid command."""
    started = time.perf_counter()
    out = folder / "stdout"
    with out.open("wb") as handle:
        pid = os.posix_spawn(
            PELLUCID, [str(PELLUCID), *arguments], os.environ | {"PELLUCID_CACHE": str(folder / "cache")},
            file_actions=[(os.POSIX_SPAWN_DUP2, handle.fileno(), 1)],
        )  # fmt: skip
        peak = 0.0
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            peak = max(peak, _high_water(pid))
            time.sleep(0.02)
        status = ended[1]
    if status:
        sys.exit(f"pellucid {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return out.read_text(), time.perf_counter() - started, peak


def _high_water(pid: int) -> float:
    """MB; not ru_maxrss, which begins with that of the process that starts another."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


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


def read_once(data: Path) -> None:
    """So that the system's own cache of files, which comes and goes, is warm for every run."""
    for file in data.rglob("*"):
        if file.is_file():
            file.read_bytes()


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


def limited(limit: str, must: float, aim: float) -> Callable[[Path], Row]:
    """cifar10-jpeg within a time limit: three seeds, the cache cold for each."""

    def figure(folder: Path) -> Row:
        data = unpacked("cifar10-jpeg", folder)
        accuracies, seconds, peaks = [], [], []
        for seed in range(3):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            read_once(data)
            target = folder / f"run-{limit}-{seed}"
            _, wall, peak = run("train", str(data), "--time-limit", limit, "--seed", str(seed), "--out", str(target),
                                folder=folder)  # fmt: skip
            result = json.loads(run("evaluate", str(target), "--json", folder=folder)[0])
            accuracies.append(result["accuracy"]["value"])
            seconds.append(wall)
            peaks.append(peak)
        each = ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)
        score = f"test accuracy {statistics.mean(accuracies):.4f}, mean of seeds 0, 1, 2 ({each}), n {result['n']:,}"
        return Row(f"cifar {limit}", f"pellucid train {data.name} --time-limit {limit}", max(seconds), max(peaks),
                   score, f">= {must} in {limit}", f">= {aim}")  # fmt: skip

    return figure


def tutorial(folder: Path) -> Row:
    data = unpacked("cifar10-jpeg", folder)
    return trained("tutorial", data, ">= 0.66 in 100 s", folder, "--model", TUTORIAL, "--time-limit", "95s")


def malaria(folder: Path) -> Row:
    data = unpacked("malaria-gray50", folder) / "patients.csv"
    return trained("malaria", data, ">= 0.93 in 300 s", folder, "--group", "patient", "--time-limit", "5m")


def clothing(folder: Path) -> Row:
    return photographs("clothing", folder, ">= 0.80 in 300 s")


def clothing_60s(folder: Path) -> Row:
    return photographs("clothing 60s", folder, ">= 0.865 in 60 s", "--time-limit", "60s")


def clothing_3m(folder: Path) -> Row:
    return photographs("clothing 3m", folder, ">= 0.88 in 180 s, aim 0.90", "--time-limit", "3m")


def photographs(name: str, folder: Path, must: str, *arguments: str) -> Row:
    weights = SHARED / "weights" / "mobilenetv2_100.safetensors"
    return trained(name, unpacked("clothing", folder), must, folder, "--weights", str(weights), *arguments)


def again(folder: Path) -> Row:
    """The same pictures with other settings: what is kept of them is used."""
    photographs("first", folder, "", "--freeze")
    data, weights = unpacked("clothing", folder), SHARED / "weights" / "mobilenetv2_100.safetensors"
    _, seconds, peak = run("train", str(data), "--weights", str(weights), "--freeze", "--seed", "1",
                           "--out", str(folder / "run-again"), folder=folder)  # fmt: skip
    score = "whole command, imports included, when all features are known"
    command = f"pellucid train {data.name} --weights {weights.name} --freeze --seed 1"
    return Row("again", command, seconds, peak, score, "under 5 s for the head")


def memory(folder: Path) -> Row:
    """200,000 pictures of 64x64: those of cifar10-jpeg enlarged, as they are and turned three times by a right angle."""
    data = folder / "many"
    for k, file in enumerate(sorted(unpacked("cifar10-jpeg", folder).rglob("*.jpg"))[:50_000]):
        pixels = np.asarray(Image.open(file).resize((64, 64), Image.Resampling.BICUBIC))
        target = data / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for turn in range(4):
            content = encode_jpeg(np.ascontiguousarray(np.rot90(pixels, turn)), quality=90)
            (target / f"{k}-{turn}.jpg").write_bytes(content)
    _, seconds, peak = run("train", str(data), "--time-limit", "4m", "--out", str(folder / "run-many"), folder=folder)
    score = "200,000 pictures of 64x64 (cifar10-jpeg enlarged and turned): the whole command's peak memory"
    return Row("memory", "pellucid train many --time-limit 4m", seconds, peak, score, "under 1,500 MB")


def peer(name: str, label: str, data: str, *arguments: str, note: str) -> Callable[[Path], Row]:
    """A row of bench/peers.py."""

    def figure(folder: Path) -> Row:
        if not PEERS.exists():
            sys.exit(f"'{PEERS}' is missing: make .venv-bench/.ready")
        pictures = unpacked(data, folder)
        command = [str(PEERS), str(HERE / "peers.py"), name, str(pictures), *arguments]
        started = time.perf_counter()
        found = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
        seconds = time.perf_counter() - started
        scores = "; ".join(f"after {f['seconds']:.0f} s {f['accuracy']:.4f}" for f in found)
        score = f"test accuracy {scores} (n {found[0]['n']:,}). {note}"
        return Row(label, f"python bench/peers.py {name}", seconds, 0, score, "a peer")

    return figure


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


def predict(folder: Path) -> Row:
    """In this process: the figures of bench/predict.py."""
    from predict import measure

    started = time.perf_counter()
    score = "; ".join(
        f"{row.network}: {row.folder:.1f} pictures/s by {row.engine}, {row.ratio:.2f} of the best engine on tensors"
        for row in measure()
    )
    return Row("predict", "python bench/predict.py", time.perf_counter() - started, 0, score, ">= 0.95 of the best")


FIGURES = {
    f.__name__: f for f in (help_time, demo, check, tutorial, malaria, clothing, clothing_60s, clothing_3m, again)
}
LIMITS = ("30", "60", "120", "300", "600")
FIGURES |= {
    "memory": memory,
    "cifar_30s": limited("30s", 0.65, 0.72),
    "cifar_60s": limited("60s", 0.75, 0.80),
    "cifar_2m": limited("2m", 0.81, 0.86),
    "cifar_5m": limited("5m", 0.855, 0.89),
    "cifar_10m": limited("10m", 0.875, 0.91),
    "augment": augment,
    "predict": predict,
    "decode": decode,
    "peer_keras": peer("keras", "Keras tutorial", "cifar10-jpeg", *LIMITS, note="One run, seen after each time"),
    "peer_torchvision": peer(
        "torchvision", "torchvision ResNet-18", "cifar10-jpeg", "300", note="One run by its reference recipe"
    ),
    "peer_fastai": peer(
        "fastai", "fastai fine_tune(1)", "clothing", str(SHARED / "weights" / "mobilenetv2_100.safetensors"),
        note="The same weights, one run",
    ),
}  # fmt: skip


def main() -> None:
    wanted = sys.argv[1:] or list(FIGURES)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = describe_machine(torch.device("cpu"))
    for name in wanted:
        with tempfile.TemporaryDirectory() as place:
            row = FIGURES[name](Path(place))
        print(f"{row.name}: {row.seconds:.1f} s, {row.score}", file=sys.stderr, flush=True)
        results[name] = asdict(row) | {"date": datetime.date.today().isoformat(), "machine": machine}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
        PAGE.write_text(page(results))


def page(results: dict[str, Any]) -> str:
    """docs/benchmarks.md."""
    rows = [results[name] for name in FIGURES if name in results]
    machines = sorted({_machine(row["machine"]) for row in rows})
    numbers = {machine: number for number, machine in enumerate(machines, 1)}
    lines = [
        "# Benchmarks", "",
        "Made by `make bench` (bench/run.py) from bench/results.json. Whole commands, imports included, one after the other with "
        "nothing else running; Pellucid's cache is empty at the start of each, the system's has the files. Seed 0 where no other is named.", "",
        "| figure | command | seconds | peak MB | score | must | aim | measured |", "|" + "---|" * 8,
        *(
            f"| {r['name']} | `{r['command']}` | {r['seconds']:.1f} | {_peak(r['peak_mb'])} | {r['score']} | {r['must']} | "
            f"{r['aim']} | {r['date']}, machine {numbers[_machine(r['machine'])]} |"
            for r in rows
        ), "",
        *(f"Machine {number}: {machine}" for machine, number in numbers.items()), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _peak(megabytes: float) -> str:
    return f"{megabytes:,.0f}" if megabytes else "–"


def _machine(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    return f"{found['cpus']} cores of {found['processor']}, {found['device']}, Python {found['python']}, {versions}."


if __name__ == "__main__":
    main()
