"""What simpler things would have scored on the same pictures: always the most frequent class, and the nearest training pictures.

The nearest in plain pixels say how hard the task is without any network; the nearest in what the network sees before its last
layer say whether that layer adds anything.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.errors import ShapeError
from pellucid.evaluation.intervals import Interval, bootstrap, macro_f1_score, macro_trials, percentiles, share
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import head_of

NEIGHBORS = 5
MAJORITY, PIXELS, FEATURES = "majority", "nearest_pixels", "nearest_features"
MOST_TRAINING = 5000
_MOST_LOOKED_AT = 50_000_000  # pixels of the input, for each of the two parts: bounds the time with large pictures
_FEWEST = 200
_SIDE = 32  # pixels; larger pictures are compared shrunk to it


@dataclass(frozen=True)
class Baseline:
    """What a simpler rule scores on `n` of the pictures; `rule` says which one, in words."""

    rule: str
    n: int
    accuracy: Interval
    macro_f1: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "rule": self.rule,
            "n": self.n,
            "accuracy": self.accuracy.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
        }

    def __str__(self) -> str:
        return f"{self.rule}: accuracy {self.accuracy}, macro-F1 {self.macro_f1}, n {self.n:,}"


def scored(
    rule: str, labels: np.ndarray, answers: np.ndarray, num_classes: int, groups: np.ndarray | None = None
) -> Baseline:
    """The baseline that gives `answers` int (N,) to pictures with these labels int (N,), and groups int (N,)."""
    hit = labels == answers
    support = np.bincount(labels, minlength=num_classes)
    value = macro_f1_score(
        np.bincount(labels[hit], minlength=num_classes), support, np.bincount(answers, minlength=num_classes)
    )
    draws = bootstrap(labels, answers, num_classes, groups=groups).macro_f1
    trials = macro_trials(support) if groups is None else len(np.unique(groups))
    return Baseline(rule, len(labels), share(hit, groups), percentiles(float(value), draws, trials=trials))


def some_of(count: int, side_pixels: int, *, most: int | None = None, seed: int = 0) -> np.ndarray:
    """Positions int (M,) of the pictures that the nearest are sought among, or for: all of `count`, or as many as are quick."""
    limit = max(_FEWEST, _MOST_LOOKED_AT // side_pixels)
    limit = limit if most is None else min(limit, most)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def nearest_baselines(
    classifier: Classifier,
    training: tuple[np.ndarray, np.ndarray],
    measured: tuple[np.ndarray, np.ndarray],
    *,
    groups: np.ndarray | None = None,
) -> dict[str, Baseline]:
    """Five nearest neighbors among `training`, by pixels and by the network's features, on the pictures `measured`.

    Both are (uint8 (N, H, W, C), labels int (N,)), `groups` int (N,) of the measured ones. Networks without a fully connected
    last layer have no second one.
    """
    (known, known_labels), (pixels, labels) = training, measured
    if not len(known):
        return {}
    num_classes = len(classifier.classes)
    of = f"the {NEIGHBORS} nearest of {len(known):,} training pictures"
    kinds = {PIXELS: (f"{of} in plain pixels", shrunk(known), shrunk(pixels))}
    with contextlib.suppress(ShapeError):
        kinds[FEATURES] = (f"{of} in what the network sees", features(classifier, known), features(classifier, pixels))
    return {
        name: scored(rule, labels, nearest_labels(near, known_labels, far, num_classes), num_classes, groups)
        for name, (rule, near, far) in kinds.items()
    }


def nearest_labels(known: np.ndarray, labels: np.ndarray, wanted: np.ndarray, num_classes: int) -> np.ndarray:
    """int (N,): the majority among the five rows of `known` float32 (M, K) nearest to each of `wanted` (N, K); of equally
    frequent classes that of the nearest."""
    rows, target = torch.from_numpy(known), torch.from_numpy(labels)
    half_square = (rows**2).sum(1) / 2
    found = []
    for part in torch.from_numpy(wanted).split(1024):
        closeness = part @ rows.T - half_square
        nearest = target[closeness.topk(min(NEIGHBORS, len(rows)), dim=1).indices]  # (n, 5), nearest first
        votes = F.one_hot(nearest, num_classes).float()
        rank = 1e-3 * 0.4 ** torch.arange(votes.shape[1])[:, None]  # each more than all behind it
        found.append((votes * (1 + rank)).sum(1).argmax(1))
    return torch.cat(found).numpy()


@torch.inference_mode()
def features(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    """float32 (N, K): what the last fully connected layer receives, scaled to length 1, for uint8 (N, H, W, C).

    Raises ShapeError when the network does not end in such a layer.
    """
    seen: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(F.normalize(inputs[0].float().flatten(1)).cpu())

    hook = head_of(classifier.module)[1].register_forward_pre_hook(keep)
    try:
        with classifier.answering():
            for part in np.array_split(pixels, -(-len(pixels) // classifier.batch_size)):
                classifier.module(classifier.contract.tensor(torch.from_numpy(part).to(classifier.device)))
    finally:
        hook.remove()
    return torch.cat(seen).numpy()


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """float32 (N, K): pictures as rows of levels from -0.5 to 0.5, none larger than 32x32 pixels."""
    parts = []
    for part in np.array_split(pixels, -(-len(pixels) // 512)):
        x = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255 - 0.5
        size = (min(x.shape[2], _SIDE), min(x.shape[3], _SIDE))
        parts.append((x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)).flatten(1))
    return torch.cat(parts).numpy()
