"""Augmentation of uint8 batches on the device, by a policy that is written as text.

The random numbers of a picture are a hash of (seed, epoch, picture), not the state of a generator: the same picture gets
the same treatment in the same epoch whatever the batch size, the number of threads, or the point of a resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pellucid.data import recolor
from pellucid.data.chunks import on_some
from pellucid.data.mix import mix
from pellucid.data.policy import Policy, parse_policy
from pellucid.data.warp import Draw, warp

Rows = tuple[tuple[float, ...], ...]

_STREAMS = (  # of random numbers; a name keeps its place, or the treatment of every picture changes
    "flip", "vflip", "shift_y", "shift_x", "brightness", "contrast", "saturation", "hue", "color_brightness",
    "color_contrast", "color_saturation", "lighting", "zoom", "rotate", "perspective", "elastic", "blur", "whiten",
    "cutout", "rand", "partner", "mix_kind", "mix_share", "mix_y", "mix_x",
)  # fmt: skip
_MEASURED = 1000  # pictures that color axes and the whitening filter are worked out from


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training picture: a policy as text, and what its transforms must know of the data set.

    `axes` (C, C) belong to lighting, `whitening` (C, C * 25) to whiten; `measured` works them out.
    """

    policy: str = "none"
    axes: Rows | None = None
    whitening: Rows | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", str(parse_policy(self.policy)))

    def __call__(self, batch: torch.Tensor, indices: np.ndarray, *, seed: int, epoch: int) -> torch.Tensor:
        """uint8 (N, H, W, C), with the pictures' indices (N,), -> uint8 of the same shape, each treated by itself."""
        return self._in_place(batch.clone(), indices, seed=seed, epoch=epoch)

    def _in_place(self, batch: torch.Tensor, indices: np.ndarray, *, seed: int, epoch: int) -> torch.Tensor:
        """The same where the batch may be changed."""
        if not len(batch):
            return batch
        draw = _draws(indices, seed, epoch)
        strengths = _strengths(self._policy, batch.shape, draw)
        flipped = None
        if "flip" in strengths:
            # alternating (Jordan 2024): a coin a picture, turned over every epoch, so both sides are seen equally often
            flipped = (_draws(indices, seed, 0)("flip") < 0.5) ^ bool(epoch % 2)
        batch = warp(batch, strengths, draw, flipped=flipped)
        if not _COLORING.isdisjoint(strengths):
            colors = {name: strength for name, strength in strengths.items() if name in _COLORING}
            axes = None if self.axes is None else np.array(self.axes)
            batch = on_some(
                lambda part, which: recolor.recolor(
                    part, {k: s[which] for k, s in colors.items()}, _draws(indices[which], seed, epoch), axes
                ),
                batch,
                np.any([strength != 0 for strength in colors.values()], axis=0),
            )
        if "whiten" in strengths and self.whitening is not None:
            channels = batch.shape[3]
            kernel = np.array(self.whitening).reshape(channels, channels, recolor.PATCH, recolor.PATCH)
            batch = recolor.whiten(batch, strengths["whiten"] * draw("whiten"), kernel)
        if "blur" in strengths:
            sigma, reach = strengths["blur"] * draw("blur"), math.ceil(3 * strengths["blur"].max())
            batch = on_some(
                lambda part, which: recolor.blur(part, sigma[which], reach=reach), batch, strengths["blur"] > 0
            )
        if "cutout" in strengths:
            side, place = int(strengths["cutout"].max()), draw("cutout", 2)
            batch = on_some(
                lambda part, which: recolor.cut_out(part, side, place[which]), batch, strengths["cutout"] > 0
            )
        return batch

    def treated(
        self,
        fetch: Callable[[np.ndarray], torch.Tensor],
        indices: np.ndarray,
        *,
        among: np.ndarray,
        seed: int,
        epoch: int,
    ) -> tuple[torch.Tensor, np.ndarray | None, torch.Tensor | None]:
        """The whole treatment, mixing included, of the pictures that `fetch` gives for their indices (N,), as a batch that may be
        changed.

        Returns uint8 (N, H, W, C); of mixtures also the partners' indices (N,), drawn from `among` (M,) and treated as in this
        epoch everywhere, and the share (N,) of itself that each picture kept.
        """
        batch, alphas = self._in_place(fetch(indices), indices, seed=seed, epoch=epoch), dict(self._policy)
        if not alphas.keys() & {"mixup", "cutmix"}:
            return batch, None, None
        draw = _draws(indices, seed, epoch)
        partners = among[(draw("partner") * len(among)).astype(np.int64)]
        others = self._in_place(fetch(partners), partners, seed=seed, epoch=epoch)
        batch, share = mix(batch, others, draw, mixup=alphas.get("mixup", 0.0), cutmix=alphas.get("cutmix", 0.0))
        return batch, partners, share

    @property
    def _policy(self) -> Policy:
        return _parsed(self.policy)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` gives it back."""
        return {"policy": self.policy, "axes": self.axes, "whitening": self.whitening}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Augmentation:
        """The augmentation that `to_dict` wrote; also {"flip", "shift", "color"}, which runs held before there were policies."""
        if "policy" in data:
            axes, whitening = (data[k] and tuple(map(tuple, data[k])) for k in ("axes", "whitening"))
            return cls(data["policy"], axes, whitening)
        words = {"none": [], "horizontal": ["flip"], "both": ["flip", "vflip"]}[data["flip"]]
        words += [f"shift{data['shift']}"] if data["shift"] else []
        words += [f"brightness{data['color']} contrast{data['color']}"] if data["color"] else []
        return cls(" ".join(words) or "none")


def measured(policy: Policy, pixels: np.ndarray) -> Augmentation:
    """The augmentation of a policy for pictures like uint8 (N, H, W, C), of which it looks at a thousand.

    Raises ConfigError when the policy leaves nothing of pictures of this size.
    """
    policy.require(*pixels.shape[1:])
    some = pixels[np.linspace(0, len(pixels) - 1, min(len(pixels), _MEASURED)).astype(int)]
    axes = _rows(recolor.color_axes(some)) if "lighting" in policy else None
    whitening = _rows(recolor.zca_kernel(some)) if "whiten" in policy else None
    return Augmentation(str(policy), axes, whitening)


def hashed_uniform(seed: int, epoch: int, indices: np.ndarray, stream: int | np.ndarray) -> np.ndarray:
    """float64 (N,), or (N, K) for K streams, in [0, 1), a pure function of its arguments.

    Source: SplitMix64, Steele et al. 2014.
    """
    parts = (np.uint64(epoch), np.asarray(stream, np.uint64), indices.astype(np.uint64))
    with np.errstate(over="ignore"):
        x = np.full(1, seed, np.uint64)
        for part in parts[:2]:
            x = _splitmix(x ^ part)
        x = _splitmix(x ^ (parts[2][:, None] if np.ndim(stream) else parts[2]))
    return (x >> np.uint64(11)) * 2.0**-53


def _splitmix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_COLORING = {"brightness", "contrast", "saturation", "hue", "color", "lighting"}
_parsed = lru_cache(parse_policy)


def _draws(indices: np.ndarray, seed: int, epoch: int) -> Draw:
    def draw(name: str, count: int | None = None) -> np.ndarray:
        stream = _STREAMS.index(name)
        return hashed_uniform(seed, epoch, indices, stream if count is None else stream + 256 * np.arange(1, count + 1))

    return draw


def _strengths(policy: Policy, shape: torch.Size, draw: Draw) -> dict[str, np.ndarray]:
    """The number of every transform for each picture (N,). What `rand` draws is added, at strengths of its own and from
    what the policy does not name already; pictures that did not draw it get the number that does nothing."""
    count, height, width, channels = shape
    found = {name: np.full(count, number) for name, number in policy if name not in ("rand", "mixup", "cutmix")}
    if "rand" in policy:
        open_ones = [entry for entry in _random_strengths(height, width, channels).items() if entry[0] not in found]
        ranks = draw("rand", len(open_ones)).argsort(1).argsort(1)
        for k, (name, strength) in enumerate(open_ones):
            found[name] = np.where(ranks[:, k] < dict(policy)["rand"], strength, 1.0 if name == "zoom" else 0.0)
    return found


def _random_strengths(height: int, width: int, channels: int) -> dict[str, float]:
    """What `rand` draws from, after RandAugment (Cubuk et al. 2019, arXiv 1909.13719): moderate, lengths by the shorter side."""
    side = min(height, width)
    colored = {"saturation": 0.5, "hue": 0.1} if channels == 3 else {}
    return {
        "shift": max(1, round(side / 8)), "zoom": 0.5, "rotate": 20, "perspective": 0.5, "elastic": side / 32,
        "brightness": 0.4, "contrast": 0.4, "blur": side / 32, "cutout": max(1, round(side / 4)), **colored,
    }  # fmt: skip


def _rows(numbers: np.ndarray) -> Rows:
    return tuple(tuple(round(float(x), 6) for x in row) for row in numbers.reshape(len(numbers), -1))
