"""Does a transform change what pictures mean? Measured on the pictures, never guessed from names.

A photograph and its mirror image are equally likely to have been taken; a mirrored 7 is no 7, and a 6 upside down is a 9.
A nearest-neighbor classifier that learned untreated pictures answers untreated and treated ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.augment import Augmentation
from pellucid.data.policy import parse_policy
from pellucid.data.wording import shown

_FEWEST, _MOST = 50, 3000  # pictures
_MOST_VALUES = 2e8  # of pixels and channels: 1,000 photographs of 256x256, which take three seconds
_SIDE = 16  # pixels
_NEIGHBORS = 5
_SLACK = 1  # pixels of 16; neighbors may be off by so much, since a shift by next to nothing changes no meaning


@dataclass(frozen=True)
class MeaningTest:
    """How well the same `n` pictures are recognized untreated and treated, both by their nearest untreated neighbors.

    `baseline` is the share of the most frequent class. `pairs` are classes (a, b) and by how much more the treatment turns a
    into b and b into a, on average a share of their pictures; the largest first.
    """

    transform: str
    accuracy: float
    treated: float
    baseline: float
    n: int
    pairs: tuple[tuple[int, int, float], ...]

    @property
    def error(self) -> float:
        """Standard error of the difference of the two figures."""
        variances = (share * (1 - share) for share in (self.accuracy, self.treated))
        return float((sum(variances) / self.n) ** 0.5)

    @property
    def keeps_meaning(self) -> bool:
        """Treated pictures lose less than a tenth, or less than twice the error."""
        return self.accuracy - self.treated <= max(0.1 * self.accuracy, 2 * self.error)

    def tell(self, classes: Sequence[str]) -> str:
        """One sentence for a person, with the names of the classes."""
        known = self.accuracy - self.baseline > 2 * self.error
        verdict = "keeps the meaning" if self.keeps_meaning else "may change the meaning"
        verdict = verdict if known or not self.keeps_meaning else "may or may not keep the meaning"
        pairs = ", ".join(f"{shown(classes[a])} and {shown(classes[b])} ({share:.0%})" for a, b, share in self.pairs)
        confused = f"; it confuses most: {pairs}" if pairs and not self.keeps_meaning else ""
        doubt = "" if known else f", where always saying the same would be right on {self.baseline:.0%}"
        return (
            f"{self.transform} {verdict}: nearest neighbors are right on {self.accuracy:.0%} of {self.n:,} pictures as they "
            f"are and on {self.treated:.0%} of them treated (+-{2 * self.error:.0%}){doubt}{confused}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "keeps_meaning": self.keeps_meaning}


def meaning_tests(
    pixels: np.ndarray, labels: np.ndarray, indices: np.ndarray, augmentation: Augmentation, *, seed: int
) -> tuple[MeaningTest, ...]:
    """One test for each transform of `augmentation` that treats a picture by itself; none for fewer than 50 pictures.

    uint8 (N, H, W, C), int (N,), and the indices that may be used (the training part); at most 3,000 are, fewer of large ones. Pictures are
    compared at 16x16 pixels, standardized; two thirds of them are known and one third is asked.
    """
    policies = parse_policy(augmentation.policy).alone()
    if len(indices) < _FEWEST or not policies or labels.ndim != 1:
        return ()
    most = min(_MOST, int(_MOST_VALUES / pixels[0].size) + _FEWEST)
    chosen = np.sort(np.random.default_rng(seed).permutation(np.sort(indices))[:most])
    known = np.random.default_rng(seed + 1).random(len(chosen)) < 2 / 3
    neighbors = (
        _small(lambda rows: torch.from_numpy(pixels[rows]), chosen[known]),
        torch.from_numpy(labels[chosen[known]]),
    )
    asked = chosen[~known]
    before = _answers(_small(lambda rows: torch.from_numpy(pixels[rows]), asked), *neighbors)
    tests = []
    for policy in policies:
        alone = Augmentation(str(policy), augmentation.axes, augmentation.whitening)
        changed = np.zeros(len(asked), bool)

        def treated(rows: np.ndarray, alone: Augmentation = alone, changed: np.ndarray = changed) -> torch.Tensor:
            """As in the first of two epochs that changes the picture: in one of two every picture is flipped."""
            batch = torch.from_numpy(pixels[rows])
            first, second = (alone(batch, rows, seed=seed, epoch=epoch) for epoch in (0, 1))
            which, other = ((found != batch).flatten(1).any(1) for found in (first, second))
            changed[np.isin(asked, rows)] = (which | other).numpy()
            return torch.where(which.view(-1, 1, 1, 1), first, second)

        after = _answers(_small(treated, asked), *neighbors)
        if changed.any():
            tests.append(_compared(str(policy), labels[asked][changed], before[changed], after[changed]))
    return tuple(tests)


def _compared(transform: str, truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> MeaningTest:
    count = int(max(truth.max(), before.max(), after.max())) + 1
    classes = np.bincount(truth, minlength=count)
    rise = np.zeros((count, count))
    np.add.at(rise, (truth, after), 1)
    np.add.at(rise, (truth, before), -1)
    rise /= np.maximum(classes, 1)[:, None]
    both = np.triu(rise + rise.T, 1) / 2
    top = np.argsort(-both, axis=None)[:3]
    pairs = tuple((int(k // count), int(k % count), float(both.flat[k])) for k in top if both.flat[k] > 0.01)
    plain, treated = (float((answers == truth).mean()) for answers in (before, after))
    return MeaningTest(transform, plain, treated, float(classes.max() / len(truth)), len(truth), pairs)


def _small(fetch: Callable[[np.ndarray], torch.Tensor], rows: np.ndarray) -> torch.Tensor:
    """float32 (N, C, 16, 16) or smaller: the pictures, each with mean 0 and deviation 1."""
    found = []
    for some in np.array_split(rows, -(-len(rows) // 256)):
        x = fetch(some).permute(0, 3, 1, 2).float()
        x = F.interpolate(x, (min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3])), mode="bilinear", antialias=True)
        found.append((x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1))
    return torch.cat(found)


def _answers(asked: torch.Tensor, known: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """int (N,): the most frequent label of the five nearest, each at its best fit when moved by up to `_SLACK` pixels."""
    _, _, height, width = asked.shape
    padded = F.pad(asked, (_SLACK,) * 4, mode="replicate")
    distance = torch.full((len(asked), len(known)), torch.inf)
    for top, left in itertools.product(range(2 * _SLACK + 1), repeat=2):
        moved = padded[:, :, top : top + height, left : left + width]
        distance = torch.minimum(distance, torch.cdist(moved.flatten(1), known.flatten(1)))
    nearest = distance.topk(min(_NEIGHBORS, len(known)), largest=False).indices
    return F.one_hot(labels[nearest], int(labels.max()) + 1).sum(1).argmax(1).numpy()
