"""Where and how precisely the arithmetic runs: device, threads, seeds, and a description of the machine."""

from __future__ import annotations

import ctypes
import os
import platform
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.errors import ConfigError, TrainingError

if TYPE_CHECKING:  # two seconds to import: only where something is computed
    import torch

_DETERMINISTIC_THREADS = 2  # how sums are split among threads decides their last bits, so the number is always the same


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; 'auto' takes CUDA, then Apple's MPS, then the CPU. Raises ConfigError if it is not here."""
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, here in present.items() if here)
    if not present.get(name, False):
        here = ", ".join(kind for kind, is_here in present.items() if is_here)
        raise ConfigError(f"--device {name} was asked for, but torch finds none on this machine. Here: {here}.")
    return torch.device(name)


def num_cpus() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch. Data order and augmentation do not use these: they are functions of the seed."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def reproducible(wanted: bool) -> Iterator[None]:
    """When `wanted`, what runs inside gives the same bits every time, however many threads or cores there are to use.

    That holds for processors of one kind (or GPUs of one kind) and the same versions of the libraries; other processors
    round sums otherwise. torch refuses operations that have no deterministic way on the device: then TrainingError.
    """
    if not wanted:
        yield
        return
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(_DETERMINISTIC_THREADS)
    try:
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        raise TrainingError(
            f"--deterministic was asked for, but this network needs an operation that has no deterministic way on this "
            f"device: {str(error).split(' does not')[0]}. Train with --device cpu, with another --model, or without "
            "--deterministic."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        torch.set_num_threads(before[2])


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 where it is asked for, else nothing."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def workers(count: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute alone, by default one for each core: two batches on two cores take less time than two cores on
    one batch after another."""
    import torch

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count or num_cpus(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def give_memory_back() -> None:
    """Returns to the system what the process has freed: glibc keeps the parts of its heap that many threads have used."""
    with suppress(OSError, AttributeError):  # another system, another library
        ctypes.CDLL(None).malloc_trim(0)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a reader needs to know to judge a timing or to reproduce a run; no host name, no user name."""
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor_name(),
        "cpus": num_cpus(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "versions": {
            name: _version(name)
            for name in ("pellucid", "torch", "torchvision", "timm", "numpy", "pillow", "onnxruntime", "openvino")
        },
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
