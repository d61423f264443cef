"""Real processes, really stopped: Ctrl-C, SIGTERM and SIGKILL at any moment, then --resume, then the same bits.

make test-faults
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

pytestmark = [pytest.mark.slow, pytest.mark.faults]

# The real command, with a checkpoint after every epoch instead of every 15 seconds.
COMMAND = """
from pellucid.training import loop
loop._CHECKPOINT_SECONDS = 0.0
from pellucid.cli import main
main()
"""
SETTINGS = ("--epochs", 40, "--split", "70/15/15",  # enough validation pictures to calibrate by
            "--precision", "fp32", "--batch-size", 16, "--augment", "none", "--model", "conv16 relu dense256 relu dense256")  # fmt: skip
MODEL = "model/model.safetensors"


class Process:
    """A command in a process of its own, watched through the run folder that it writes."""

    def __init__(self, run: Path, *arguments: object) -> None:
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> tuple[int, str, str]:
        """(exit code, stdout, stderr); a process killed by signal n has the code -n."""
        out, err = self.process.communicate(timeout=240)
        return self.process.returncode, out, err

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition came true while the process ran."""
        deadline = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.002)
        return False

    def has(self, event: str, count: int = 1) -> bool:
        """Whether the run has told so many of an event by now."""
        file = self.run / "events.jsonl"
        return file.exists() and file.read_text(errors="replace").count(f'"event": "{event}"') >= count

    def send(self, number: int) -> tuple[int, str, str]:
        """Sends a signal and waits for the end."""
        self.process.send_signal(number)
        return self.wait()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """Digits 0 to 3 as PNG files in class folders, 100 each."""
    folder = tmp_path_factory.mktemp("faults") / "photos"
    for label in range(4):
        (folder / str(label)).mkdir(parents=True)
        for i in np.flatnonzero(digits[1] == label)[:100]:
            Image.fromarray(digits[0][i]).save(folder / str(label) / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def whole(photos: Path) -> Path:
    """A training that nobody stopped."""
    run = photos.parent / "whole"
    code, _, err = Process(run, "train", photos, *SETTINGS, "--out", run).wait()
    assert code == 0, err
    assert json.loads((run / "model" / "card.json").read_text())["calibration"]
    return run


def assert_resumes_to(whole: Path, run: Path) -> None:
    code, _, err = Process(run, "train", "--resume", run).wait()
    assert code == 0, err
    assert contents(run) == contents(whole)  # the weights, and what was learned of them in validation
    mine, theirs = (
        [{k: v for k, v in event.items() if k != "time"} for event in events(folder) if event["event"] == "epoch"]
        for folder in (run, whole)
    )
    assert mine == theirs  # nothing is told twice, nothing is lost


def contents(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / "model").iterdir()}


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_saves_and_goes_on(photos: Path, whole: Path, tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    process = Process(run, "train", photos, *SETTINGS, "--out", run, "--json")
    assert process.wait_until(lambda: process.has("epoch", 5))
    code, out, err = process.send(number)
    assert code == 130, err
    assert "Traceback" not in err
    assert json.loads(out)["state"] == "interrupted"
    assert 0 < events(run)[-1].get("epochs", 0) < 40
    assert_resumes_to(whole, run)


def test_kill_at_random_moments_again_and_again(photos: Path, whole: Path, tmp_path: Path) -> None:
    """Ten kills of one training, each at another moment of what is left of it."""
    run, chance = tmp_path / "run", random.Random(0)
    process = Process(run, "train", photos, *SETTINGS, "--out", run)
    assert process.wait_until(lambda: process.has("epoch", 2))
    for _ in range(10):
        time.sleep(chance.uniform(0, 0.4))
        code, _, err = process.send(signal.SIGKILL)
        assert code == -signal.SIGKILL, err  # else it had ended by itself, and nothing was tested
        told = len(events_of_a_torn_file(run))
        process = Process(run, "train", "--resume", run)
        process.wait_until(lambda told=told: len(events_of_a_torn_file(run)) > told + 3)  # type: ignore[misc]
    code, _, err = process.send(signal.SIGKILL)
    assert code == -signal.SIGKILL, err
    assert_resumes_to(whole, run)


def events_of_a_torn_file(run: Path) -> list[str]:
    return [line for line in (run / "events.jsonl").read_text(errors="replace").splitlines() if line.endswith("}")]


@pytest.mark.parametrize("name", [".step-*.safetensors.*.tmp", ".best.safetensors.*.tmp", ".step-*.json.*.tmp"])
def test_kill_in_the_middle_of_a_checkpoint(photos: Path, whole: Path, tmp_path: Path, name: str) -> None:
    """Killed when a half-written file was seen; where the moment is missed, the next write is waited for."""
    run = tmp_path / "run"
    process = Process(run, "train", photos, *SETTINGS, "--out", run)
    assert process.wait_until(lambda: process.has("checkpoint", 3))
    assert process.wait_until(lambda: any((run / "checkpoints").glob(name)))
    assert process.send(signal.SIGKILL)[0] == -signal.SIGKILL
    assert_resumes_to(whole, run)
    assert not list(run.rglob(".*.tmp"))  # what was half-written is gone


def test_kill_before_the_training_begins_is_told(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = Process(run, "train", photos, *SETTINGS, "--out", run)
    assert process.wait_until(lambda: (run / "run.json").exists())
    process.send(signal.SIGKILL)
    if "architecture" not in json.loads((run / "run.json").read_text()):
        code, _, err = Process(run, "train", "--resume", run).wait()
        assert code == 1
        assert "ended before its training began" in err


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small network that takes a while for a few hundred pictures."""
    torch.manual_seed(0)
    state = timm.create_model("resnet10t", num_classes=5).state_dict()
    file = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    metadata = {
        "architecture": "resnet10t",
        "input_size": "3, 160, 160",
        "mean": "[0.5, 0.5, 0.5]",
        "std": "[0.5, 0.5, 0.5]",
    }
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file, metadata)
    return file


@pytest.mark.parametrize("moment", ["features", "step"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_while_a_pretrained_network_looks_at_the_pictures_or_is_fine_tuned(
    photos: Path, weights: Path, tmp_path: Path, number: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--weights", weights, "--precision", "fp32")
    runs = tmp_path / "whole", tmp_path / "run"
    for run in runs:
        monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / f"cache-{run.name}"))  # what was seen is not seen again
        process = Process(run, "train", photos, *settings, "--out", run)
        if run is runs[0]:
            code, _, err = process.wait()
            assert code == 0, err
    assert process.wait_until(lambda: process.has(moment, 1))
    code, _, err = process.send(number)
    assert code == (-number if number == signal.SIGKILL else 130), err
    assert not (runs[1] / MODEL).exists()
    code, _, err = Process(runs[1], "train", "--resume", runs[1]).wait()
    assert code == 0, err
    assert contents(runs[1]) == contents(runs[0])
