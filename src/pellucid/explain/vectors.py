"""A picture as one vector a layer: what the layer gives, averaged over the positions of its map.

Maps (C, H, W) become C numbers, tokens (T, K) of a transformer K; what is flat already stays as it is. An average forgets where
in the picture something is, so that layers of any size can be compared, and pictures are alike that show the same things.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from pellucid.device import workers
from pellucid.errors import ShapeError
from pellucid.evaluation.baseline import shrunk
from pellucid.explain.layers import Passed, find_layer, passes
from pellucid.model.classifier import Classifier

PIXELS = "pixels"  # no layer: the levels of the picture, shrunk to at most 32x32, which a network should beat
ANSWERS = "answers"  # no layer: what the classifier says of the picture, probabilities as `predict` gives them
_BLANK = 2  # pictures without anything on them that show the shapes
_LEARNS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FEWEST, _MOST = 5, 12  # stages

Vectors = dict[str, np.ndarray]


def stages(classifier: Classifier) -> tuple[str, ...]:
    """Five to twelve layers that stand for the whole network, first to last; the last one gives the logits.

    Each is the last that works before the next convolution, fully connected layer or block of them begins.
    """
    found = _pass_blank(classifier)
    # what is merely flattened would keep positions apart
    mapped = {name: passed for name, passed in found.items() if not isinstance(passed.module, nn.Flatten)}
    able = [name for name, passed in mapped.items() if _vector(passed.output, classifier, _BLANK) is not None]
    called = {name.partition("#")[0] for name in found}
    modules = dict(classifier.module.named_modules())
    units = [name for name, _ in classifier.module.named_children()]
    while True:
        ends = _ends([(name, modules[base]) for name in able if (base := name.partition("#")[0]) in units])
        opened = [name for name in units if name not in called and len(list(modules[name].children()))]  # mere lists
        if not opened and len(ends) < _FEWEST:
            opened = [name for name in units if _learning(modules[name]) > 1]
            opened = sorted(opened, key=lambda name: -_learning(modules[name]))[:1]
        if not opened:
            break
        units = [part for name in units for part in (_parts(modules, name) if name in opened else [name])]
    if len(ends) > _MOST:
        ends = [*(ends[round(i)] for i in np.linspace(0, len(ends) - 3, _MOST - 2)), *ends[-2:]]
    return tuple(ends)


def layer_width(classifier: Classifier, layer: str) -> int:
    """The length of a layer's vectors. Raises UnknownNameError, or ShapeError for a layer that gives none."""
    if layer in (PIXELS, ANSWERS):
        return see(classifier, _blank(classifier), [layer])[layer].shape[1]
    found = _pass_blank(classifier)
    passed = found[find_layer([*found, PIXELS], layer)]
    vector = _vector(passed.output, classifier, _BLANK)
    if vector is None:
        raise ShapeError(
            f"Layer '{layer}' gives {tuple(passed.output.shape)} for {_BLANK} pictures: that is not one map, list of tokens or "
            "list of numbers for each (windows of a picture, or a table of weights, say), so it has no vector a picture. Choose "
            f"the block around it, or one of {', '.join(stages(classifier))}."
        )
    return vector.shape[1]


def see(classifier: Classifier, pixels: np.ndarray, layers: Sequence[str]) -> Vectors:
    """The vectors float32 (N, K) of uint8 (N, H, W, C), as `contract.pixels` gives them, at `layers`; not from several threads."""
    seen: Vectors = {}
    if PIXELS in layers:
        seen[PIXELS] = shrunk(pixels)
    if not set(layers) - {PIXELS}:
        return seen
    x = classifier.contract.tensor(torch.from_numpy(np.ascontiguousarray(pixels)).to(classifier.device))
    logits: list[torch.Tensor] = []
    hook = classifier.module.register_forward_hook(lambda _, __, output: logits.append(output))
    try:
        kept = passes(
            classifier,
            x,
            keep=lambda name: name in layers,
            reduce=lambda _, output: _vector(output, classifier, len(x)),
        )
    finally:
        hook.remove()
    seen |= {name: passed.output.cpu().numpy() for name, passed in kept.items()}
    if ANSWERS in layers:  # of a mirrored picture the network must be asked once more
        known = replace(classifier, forward=lambda y: logits[0] if y is x else classifier.module(y))
        with classifier.answering(), torch.inference_mode():
            seen[ANSWERS] = classifier.answers(known.logits(x))
    return seen


def look(
    classifier: Classifier, layers: Sequence[str], pixels: Callable[[np.ndarray], np.ndarray], rows: np.ndarray
) -> Iterator[tuple[np.ndarray, Vectors]]:
    """The vectors float32 (n, K) of some rows at a time, in order, at all `layers` by one pass of each picture.

    `pixels` gives uint8 (n, H, W, C) as the contract makes them, for rows int (n,). Every core works on a batch of its own.
    """
    own = threading.local()  # hooks listen to all that a module does, so each thread has one of its own

    def work(some: np.ndarray) -> tuple[np.ndarray, Vectors]:
        if not hasattr(own, "classifier"):
            own.classifier = replace(classifier, module=copy.deepcopy(classifier.module), forward=None)
        return some, see(own.classifier, pixels(some), layers)

    parts = np.array_split(rows, -(-len(rows) // classifier.batch_size)) if len(rows) else []
    with workers(None if classifier.device.type == "cpu" else 1) as pool:
        yield from pool.map(work, parts)


def fingerprint(classifier: Classifier) -> str:
    """A name for the network by its weights: equal for equal ones, wherever they lie."""
    digest = hashlib.sha256(str(classifier.architecture).encode())
    for name, tensor in classifier.module.state_dict().items():
        digest.update(f"|{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _blank(classifier: Classifier) -> np.ndarray:
    contract = classifier.contract
    return np.zeros((_BLANK, contract.height, contract.width, contract.channels), np.uint8)


def _pass_blank(classifier: Classifier) -> dict[str, Passed]:
    return passes(classifier, classifier.contract.tensor(torch.from_numpy(_blank(classifier)).to(classifier.device)))


def _ends(units: Sequence[tuple[str, nn.Module]]) -> list[str]:
    """Of units in the order in which they work, the last of each that learns and what only reshapes behind it."""
    ends: list[str] = []
    for name, module in units:
        if _learning(module):
            ends.append(name)
        elif ends:
            ends[-1] = name
    return ends


def _learning(module: nn.Module) -> int:
    return sum(isinstance(inner, _LEARNS) for inner in module.modules())


def _parts(modules: dict[str, nn.Module], name: str) -> list[str]:
    return [f"{name}.{part}" for part, _ in modules[name].named_children()]


def _vector(x: torch.Tensor, classifier: Classifier, count: int) -> torch.Tensor | None:
    """float32 (N, K) of a layer's output, which is left as it is; None where it is not one map, list of tokens or list of numbers
    for each of `count` pictures."""
    if not x.is_floating_point() or not 2 <= x.ndim <= 4 or len(x) != count:
        return None
    if x.ndim == 4:  # (N, C, H, W); Swin and its kin have (N, H, W, C)
        square = classifier.contract.height == classifier.contract.width
        last = square and x.shape[1] == x.shape[2] != x.shape[3]
        return x.float().mean((1, 2) if last else (2, 3))
    return x.float().mean(1) if x.ndim == 3 else x.float().clone()  # what comes next may work in place
