"""How long a step takes on this machine, in each precision and layout."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pellucid.config import TrainConfig
from pellucid.data.contract import PixelContract
from pellucid.device import autocast, describe_machine, give_memory_back
from pellucid.files import cache_folder, storage_errors, write_json
from pellucid.model.zoo import Architecture
from pellucid.training.optimizer import make_optimizer

_PROBE, _PROBE_PIXELS = 128, 2**18  # the most of a measured step; a step's time grows with its pictures
_STEADY = 1.5  # equal steps that differ more were disturbed
_DISTURBED = 3.0
_FILE = "speed.json"


def measure_speed(
    architecture: Architecture, module: nn.Module, contract: PixelContract, batch: int, device: torch.device,
    config: TrainConfig, training: bool = True,
) -> dict[tuple[str, bool], float]:  # fmt: skip
    """Seconds a step by (precision, channels_last), measured here once and kept in the cache. A step trains, or without
    `training` only looks.

    Kept, so that one machine chooses alike every time and equal commands give equal results, unless a training shows that
    other work disturbed the measurement. A deterministic training must
    not depend on a measurement: it is given one choice, fp32 unless another precision was asked for.
    """
    probe = _probe(batch, contract)
    key, known = _key(architecture, module, contract, probe, device, training), _known()
    if key not in known:
        x = torch.randint(0, 256, (probe, contract.height, contract.width, contract.channels), dtype=torch.uint8)
        candidates = [("fp32", True), ("fp32", False), ("bf16", True)]
        if device.type == "mps":
            candidates = candidates[:2]
        if not training:
            candidates.remove(("fp32", False))
        known[key] = _seconds_a_step(module, contract, x, device, candidates, training)
        give_memory_back()
        _keep(known)
    wanted = None if config.precision == "auto" else config.precision
    if config.deterministic:
        name = f"{wanted or 'fp32'} True"
        return {(wanted or "fp32", True): float(known[key][name])}
    found = {}
    for name, seconds in known[key].items():
        precision, channels_last = name.split()
        if wanted in (None, precision):
            found[precision, channels_last == "True"] = float(seconds) * batch / probe
    return found


def forget_if_disturbed(
    architecture: Architecture, module: nn.Module, contract: PixelContract, batch: int, device: torch.device,
    choice: tuple[str, bool], seconds: float,
) -> None:  # fmt: skip
    """Forgets what was measured when a training's steps took `seconds` each by `choice`, and that is less than a third."""
    probe = _probe(batch, contract)
    key, known = _key(architecture, module, contract, probe, device, True), _known()
    measured = known.get(key, {}).get(f"{choice[0]} {choice[1]}", 0.0)
    if measured * batch / probe > _DISTURBED * seconds:
        del known[key]
        _keep(known)


def fastest(speed: dict[tuple[str, bool], float]) -> tuple[str, bool]:
    """The fastest (precision, channels_last); bf16 only where it saves at least a fifth of the time."""
    return min(speed, key=lambda choice: speed[choice] * (1.25 if choice[0] == "bf16" else 1.0))


def _key(
    architecture: Architecture, module: nn.Module, contract: PixelContract, probe: int, device: torch.device,
    training: bool,
) -> str:  # fmt: skip
    machine = describe_machine(device)
    learning = sum(parameter.requires_grad for parameter in module.parameters())
    identity = [str(architecture), [probe, contract.channels, contract.height, contract.width], learning if training else False,
                machine["processor"], machine["threads"], machine["device"], machine["versions"]["torch"]]  # fmt: skip
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _probe(batch: int, contract: PixelContract) -> int:
    return min(batch, _PROBE, max(8, _PROBE_PIXELS // (contract.height * contract.width)))


def _known() -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads((cache_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    return known


def _keep(known: dict[str, Any]) -> None:
    file = cache_folder() / _FILE
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, known)


def _seconds_a_step(
    module: nn.Module, contract: PixelContract, pixels: torch.Tensor, device: torch.device,
    candidates: Sequence[tuple[str, bool]], training: bool,
) -> dict[str, float]:  # fmt: skip
    """The fastest of four steps of each candidate, of two when they take long, of eight when other work disturbs them. The
    candidates take turns, so that what else the machine does for a moment meets all of them alike."""
    steps = {
        f"{p} {c}": _one_step(copy.deepcopy(module), contract, pixels, device, p, c, training) for p, c in candidates
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(8):
        if turn >= 2 and sum(map(sum, times.values())) > 2:
            break
        if turn >= 4 and all(max(t[1:]) < _STEADY * min(t[1:]) for t in times.values()):
            break
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - started)
    return {name: min(seconds) for name, seconds in times.items()}


def _one_step(
    module: nn.Module, contract: PixelContract, pixels: torch.Tensor, device: torch.device, precision: str,
    channels_last: bool, training: bool,
) -> Callable[[], None]:  # fmt: skip
    """A step on `pixels`, to be called again and again; it changes the module next to nothing."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    module = module.to(device=device, memory_format=memory_format).train(training)  # type: ignore[call-overload]
    optimizer = make_optimizer(module, "muon", learning_rate=1e-6, weight_decay=0.0, momentum=0.9)
    x = contract.tensor(pixels.to(device)).contiguous(memory_format=memory_format)
    y = torch.zeros(len(x), dtype=torch.long, device=device)

    def look() -> None:
        with torch.inference_mode(), autocast(device, precision):
            module(x).float().sum().item()

    def step() -> None:
        with autocast(device, precision):
            logits = module(x)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()

    return step if training else look
