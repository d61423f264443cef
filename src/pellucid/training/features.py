"""Features: what the last layer of a frozen network receives, looked at once for every picture and view, and kept.

They lie in one SQLite file for each (weights, pixel contract, precision), by the content of the picture's file: a picture
that was added is looked at, one that was moved, renamed or dealt into another split is not. Each look is kept by itself,
so what a killed training has seen is there for the next one.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.feature_store import FeatureStore
from pellucid.data.loader import Pictures
from pellucid.device import autocast, workers
from pellucid.errors import ShapeError
from pellucid.model.fold import folded
from pellucid.model.zoo import head_of
from pellucid.training.loop import OnEvent

AS_IT_IS, MIRRORED = 0, 1  # views
NO_PLAIN_HEAD = (
    "The network does not end in a plain fully connected layer with a bias, so its last layer cannot be fitted by itself. "
    "Train all of it with --no-freeze."
)
_BATCH = {"cpu": 8}  # small on a processor: the maps of a batch stay in its cache
_BATCH_ELSEWHERE = 128
_KEEP_SECONDS = 2.0  # what was seen since is lost when the process is killed
_SAME = 1e-3  # relative difference that rounding of float32 may make


def look(
    module: nn.Module,
    pictures: Pictures,
    contents: Sequence[str],
    views: np.ndarray,
    contract: PixelContract,
    *,
    weights: str,
    device: torch.device,
    precision: str,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    fewest: int,
    deadline: float | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """float16 (L, width), the features of each picture of `pictures` in its view, and bool (L,), which were looked at.

    `contents` (one a row of the pack) and `weights` name files by their content; `views` is int (L,). When `deadline`, a
    reading of time.monotonic(), comes before the end, the first ones are done, at least `fewest`, and those that are known
    already. None when `should_stop` said yes. Raises ShapeError when the network does not end in a plain last layer.
    """
    rows = pictures.indices
    values = np.zeros((len(rows), head_of(module)[1].in_features), np.float16)
    with contextlib.closing(FeatureStore([weights, contract.to_dict(), precision])) as store:
        done = store.find([contents[row] for row in rows], views, values)
        places: dict[tuple[str, int], int] = {}  # a picture that is there twice is looked at once
        first = np.array([
            places.setdefault((contents[row], view), i)
            for i, (row, view) in enumerate(zip(rows, views.tolist(), strict=True))
        ])  # fmt: skip
        todo = np.flatnonzero(~done & (first == np.arange(len(first))))
        if not len(todo):
            return values, done
        size = _BATCH.get(device.type, _BATCH_ELSEWHERE)
        batches = [todo[k : k + size] for k in range(0, len(todo), size)]

        def batch(chosen: np.ndarray) -> torch.Tensor:
            pixels = torch.from_numpy(pictures.pixels[rows[chosen]])
            mirrored = torch.from_numpy(views[chosen] == MIRRORED)
            pixels[mirrored] = pixels[mirrored].flip(2)  # (N, H, W, C)
            return contract.tensor(pixels.to(device))

        body = _body(module, batch(batches[0]), device)
        body = body.to(torch.bfloat16 if precision == "bf16" else torch.float32)

        @torch.inference_mode()
        def see(chosen: np.ndarray) -> np.ndarray:
            with autocast(device, precision):
                seen = body(batch(chosen)).float()
            return seen.clamp(-65504, 65504).half().cpu().numpy()  # what float16 can hold

        kept, last = 0, -math.inf
        with workers(None if device.type == "cpu" else 1) as pool:
            for step, (chosen, seen) in enumerate(zip(batches, pool.map(see, batches), strict=True), 1):
                values[chosen], done[chosen] = seen, True
                now, stop = time.monotonic(), should_stop()
                late = deadline is not None and now > deadline and bool(done[first[:fewest]].all())
                if now - last >= _KEEP_SECONDS or stop or late or step == len(batches):
                    fresh, kept, last = np.concatenate(batches[kept:step]), step, now
                    store.add([contents[row] for row in rows[fresh]], views[fresh], values[fresh])
                    on_event({"event": "features", "done": int(done.sum()), "total": len(rows)})
                if stop:
                    return None
                if late:
                    break
    return values[first], done[first]


def _body(module: nn.Module, x: torch.Tensor, device: torch.device) -> nn.Module:
    """A copy of the network without its last layer, norms folded where that is exact. `x` is a batch to prove it with."""
    module = module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    name, head = head_of(module)
    for body in (folded(module), copy.deepcopy(module)):
        body.set_submodule(name, nn.Identity())
        with torch.inference_mode():
            logits, plain = module(x), head(body(x))
        if logits.shape == plain.shape and (logits - plain).norm() <= _SAME * logits.norm():
            return body
    raise ShapeError(NO_PLAIN_HEAD)
