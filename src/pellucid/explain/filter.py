"""Hand-made kernels on a photograph of any size: each channel by itself, with stride, padding and pooling.

The picture goes through in strips of rows in 32-bit numbers, one strip on each core, so that twenty million pixels take
little more memory than their bytes. What a kernel gives is then made visible, and it is said how.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.decode import decode
from pellucid.device import workers
from pellucid.errors import ConfigError, PictureError, SpecError
from pellucid.explain.kernels import KERNELS, find_kernel
from pellucid.model.layer import Layer, parse_layer
from pellucid.model.size import Size, size_of

_T = TypeVar("_T")
_ROWS = 16  # of the output, a strip: half of the time of 64, whose memory the system has to clear each time
_LARGEST_RANDOM = 31


@dataclass(frozen=True, eq=False)
class Filtered:
    """What one kernel makes of a photograph: `pixels` uint8 (H', W', C), and how values became levels.

    `pooled` is uint8 (H'', W'', C) after pooling, None without. `low` and `high` are the values shown black and white.
    """

    name: str
    kernel: np.ndarray
    size: Size
    pixels: np.ndarray
    pooled: np.ndarray | None
    pooling: Layer | None
    low: float
    high: float
    shown: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the pixels."""
        return {
            "name": self.name,
            "kernel": self.kernel.tolist(),
            "size": list(self.pixels.shape[:2]),
            "pooled": None if self.pooled is None else list(self.pooled.shape[:2]),
            "black": self.low,
            "white": self.high,
            "shown": self.shown,
        }

    def __str__(self) -> str:
        height, width = self.pixels.shape[:2]
        rows = "; ".join(" ".join(f"{number:g}" for number in row) for row in self.kernel.tolist())
        pooled = "" if self.pooled is None else f", pooled to {self.pooled.shape[1]} x {self.pooled.shape[0]}"
        return f"{self.name}: {width} x {height} pixels{pooled}; {self.shown}\n  {rows}"


def read_photo(path: str | Path) -> np.ndarray:
    """uint8 (H, W, C) of a picture file. Raises PictureError, naming the file."""
    try:
        return decode(Path(path).read_bytes()).pixels
    except OSError as error:
        raise PictureError(f"'{path}' cannot be read: {error.strerror}.") from error
    except PictureError as error:
        raise PictureError(f"'{path}' cannot be read: {error.reason}.") from error


def named_kernels(names: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """The kernels of names, of texts with numbers, of random5 (5x5, drawn from the normal distribution), or of `all` names.

    Raises UnknownNameError, ConfigError.
    """
    found: dict[str, np.ndarray] = {}
    for name in chain.from_iterable(KERNELS if name == "all" else [name] for name in names):
        if drawn := re.fullmatch(r"random(\d+)", name):
            side = int(drawn[1])
            if not 1 <= side <= _LARGEST_RANDOM:
                raise ConfigError(f"'{name}' is no kernel; expected random1 to random{_LARGEST_RANDOM}.")
            found[name] = np.random.default_rng(seed).standard_normal((side, side)).round(2)
        else:
            found[name] = find_kernel(name)
    return found


def pooling_of(text: str) -> Layer:
    """The pooling of a text as in networks, `pool,k3,s2` or `avgpool,k2`, or of a window alone: 3. Raises SpecError."""
    layer = parse_layer(f"pool,k{text}" if text[:1].isdigit() else text.strip().lower())
    if layer.kind not in ("pool", "avgpool") or any(layer.padding):
        raise SpecError(
            f"'{text}' is no pooling of a photograph; expected 3, pool,k3,s2 or avgpool,k2, without padding."
        )
    return layer


def filter_photo(
    photo: np.ndarray,
    name: str,
    kernel: np.ndarray,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] | str = (0, 0),
    pooling: Layer | None = None,
) -> Filtered:
    """Slides `kernel` (K_h, K_w) over each channel of `photo`, uint8 (H, W, C), and pools what it gives without ragged edges.

    A kernel that adds up to more than 1 would only whiten, so its values are divided by the sum; below 0 is black and
    above 255 white. Values of a kernel with a sum below zero, and of a random one, are spread from the lowest, black,
    to the highest, white. Raises ShapeError when kernel or pooling do not fit.
    """
    size = size_of(photo.shape[:2], kernel.shape, stride=stride, padding=padding)
    pooled = size_of(size.output, pooling.kernel, stride=pooling.stride) if pooling else None
    slide = _Slide(photo, kernel, size, None, None)
    low, high, shown = _levels(kernel, slide, spread=name.startswith("random"))
    after = None if pooled is None else _Slide(photo, kernel, size, pooling, pooled).levels(low, high)
    return Filtered(name, kernel, size, slide.levels(low, high), after, pooling, low, high, shown)


@dataclass(frozen=True, eq=False)
class _Slide:
    """A kernel, and perhaps a pooling, on a photograph, strip by strip."""

    photo: np.ndarray
    kernel: np.ndarray
    size: Size
    pooling: Layer | None
    pooled: Size | None

    @property
    def output(self) -> tuple[int, int]:
        return self.pooled.output if self.pooled else self.size.output

    def levels(self, low: float, high: float) -> np.ndarray:
        """uint8 (H', W', C) with `low` as 0 and `high` as 255."""
        pixels = np.empty((*self.output, self.photo.shape[2]), np.uint8)

        def fill(rows: range) -> None:
            values = self.values(rows).sub_(low).mul_(255 / (high - low)).round_().clamp_(0, 255)
            pixels[rows.start : rows.stop] = (
                values[:, 0].permute(1, 2, 0).to(torch.uint8).numpy()
            )  # (C, 1, h, W') -> (h, W', C)

        self._each(fill)
        return pixels

    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        ends = list(self._each(lambda rows: self.values(rows).aminmax()))
        return min(float(end.min) for end in ends), max(float(end.max) for end in ends)

    def values(self, rows: range) -> torch.Tensor:
        """float32 (C, 1, h, W'): some rows of the output."""
        if self.pooling is None:
            return self._convolved(rows.start, rows.stop)
        step, window = self.pooling.stride[0], self.pooling.kernel
        maps = self._convolved(rows.start * step, (rows.stop - 1) * step + window[0])
        operation = F.max_pool2d if self.pooling.kind == "pool" else F.avg_pool2d
        return operation(maps, window, self.pooling.stride)

    def _convolved(self, start: int, stop: int) -> torch.Tensor:
        height, step, border = len(self.kernel), self.size.height.stride, self.size.height.padding
        first, last = start * step - border, (stop - 1) * step - border + height
        above, below = (min(max(missing, 0), last - first) for missing in (-first, last - self.photo.shape[0]))
        side = self.size.width.padding
        strip = np.pad(self.photo[max(first, 0) : max(last, 0)], ((above, below), (side, side), (0, 0)))
        planes = torch.from_numpy(strip).permute(2, 0, 1)[:, None].float()  # (h, W, C) -> (C, 1, h, W)
        weights = torch.from_numpy(self.kernel).float()[None, None]
        return F.conv2d(planes, weights, stride=(step, self.size.width.stride))

    def _each(self, work: Callable[[range], _T]) -> list[_T]:
        height = self.output[0]
        strips = [range(start, min(start + _ROWS, height)) for start in range(0, height, _ROWS)]
        with torch.inference_mode(), workers() as pool:
            return list(pool.map(work, strips))


def _levels(kernel: np.ndarray, slide: _Slide, *, spread: bool) -> tuple[float, float, str]:
    """The values that are shown black and white, and a phrase that says so."""
    total = float(kernel.sum())
    if spread or total < -1e-9:
        low, high = slide.extremes()
        high = high if high > low else low + 1
        return low, high, f"values from {low:,.0f} (black) to {high:,.0f} (white)"
    if total > 1 + 1e-9:
        return 0.0, 255 * total, f"values divided by {total:g}, the sum of the kernel"
    return 0.0, 255.0, "values below 0 are black, above 255 white"
