"""The pixel contract: the one function that brings a picture of any size to what a classifier takes in.

It is a part of the classifier, and training, validation, prediction and every view go through it, so that the
same picture gives the same numbers everywhere. `pixels` settles size and channels and stays in uint8, which
is cheap to keep and to augment; `tensor` normalizes a batch on the device where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pellucid.errors import ConfigError, DataError, PictureError, nearest

if TYPE_CHECKING:  # two seconds to import: only where pictures are resized or normalized
    import torch

VERSION = 1  # goes up when the same geometry begins to give other pixels
FITS = ("stretch", "crop", "pad")


@dataclass(frozen=True)
class PixelContract:
    """Size, channels and normalization of the pictures that a classifier takes in.

    height, width: in pixels.
    channels: 1 (grey), 3 (RGB), or the number that pictures of another kind have.
    fit: what happens to pictures of other proportions. "stretch" resizes both sides on their own; "crop"
        resizes the largest centered part that has the right proportions; "pad" resizes the whole and centers
        it on black, so that pixels that were kept stay right for another mean.
    mean, std: one number per channel, for levels 0..1; empty stands for 0.5 and 0.25 in every channel.

    Raises ConfigError for values that cannot be used.
    """

    height: int
    width: int
    channels: int = 3
    fit: str = "stretch"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} is {value!r}; expected a whole number, 1 or more.")
        if self.fit not in FITS:
            hint = nearest(str(self.fit), FITS)
            raise ConfigError(f"fit is {self.fit!r}; expected one of {', '.join(FITS)}. {hint}".rstrip())
        object.__setattr__(self, "mean", self._per_channel("mean", default=0.5))
        object.__setattr__(self, "std", self._per_channel("std", default=0.25))
        if min(self.std) <= 0:
            raise ConfigError(f"std is {self.std}; expected numbers above 0.")

    def __str__(self) -> str:
        kind = {1: "grey", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
        return f"{self.width} x {self.height} pixels, {kind}, {self.fit}; mean {self.mean}, std {self.std}"

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """A picture, uint8 (H, W, C) of any size, as uint8 (height, width, channels).

        Color becomes grey by ITU-R 601-2, grey becomes color by repetition. The size changes by torch's
        bilinear interpolation with antialias, in integers; a picture that has the size already keeps its
        pixels. The memory layout of the picture and the number of threads make no difference.

        Raises DataError for other arrays, PictureError for channels that do not fit.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.size == 0:
            found = f"{picture.dtype} {picture.shape}"
            raise DataError(f"The picture is {found}; expected uint8 (height, width, channels), not empty.")
        given = picture.shape[2]
        if reason := self.misfit(given):
            raise PictureError(reason)
        height, width = picture.shape[:2]
        if self.fit == "crop":
            picture = _centered(picture, *self._window(height, width))
        if given > self.channels:
            picture = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).convert("L"))[..., None]
        if self.fit == "pad":
            canvas = np.zeros((self.height, self.width, picture.shape[2]), np.uint8)
            inner = _largest(self.height, self.width, height, width)
            _centered(canvas, *inner)[:] = _resize(picture, *inner)
            picture = canvas
        else:
            picture = _resize(picture, self.height, self.width)
        if given < self.channels:
            picture = np.repeat(picture, self.channels, axis=2)
        return np.ascontiguousarray(picture)

    def tensor(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """A batch, uint8 (N, H, W, C), as (levels / 255 - mean) / std, float32 (N, C, H, W).

        The memory is laid out channels last, and the batch stays on its device. Raises DataError for another
        type or number of channels.
        """
        import torch

        batch = _as_tensor(pixels) if isinstance(pixels, np.ndarray) else pixels
        if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[3] != self.channels:
            found = f"{batch.dtype} {tuple(batch.shape)}".removeprefix("torch.")
            raise DataError(f"The batch is {found}; expected uint8 (N, height, width, {self.channels}).")
        scale, shift = _scale_and_shift(self.mean, self.std, batch.shape[2], batch.device)
        # Rows of W*C numbers, because vector units stand idle along an axis of 3.
        rows = batch.flatten(2).to(torch.float32, memory_format=torch.contiguous_format)  # (N, H, W*C)
        torch.addcmul(shift, rows, scale, out=rows)
        return rows.view(batch.shape).permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)

    def misfit(self, channels: int) -> str | None:
        """Why a picture of so many channels cannot be shown, None when it can: only grey and RGB become each other."""
        if channels == self.channels or {channels, self.channels} == {1, 3}:
            return None
        return f"channels: {channels}, but expected {self.channels}; only 1 (grey) and 3 (RGB) become each other"

    def hidden(self, height: int, width: int) -> float:
        """Share, 0 to 1, of a picture's area that `pixels` never looks at; height and width in pixels."""
        if self.fit != "crop":
            return 0.0
        window_height, window_width = self._window(height, width)
        return 1 - window_height * window_width / (height * width)

    def geometry(self) -> dict[str, Any]:
        """All that decides what `pixels` returns: the key for pixels kept on disk."""
        return {
            "version": VERSION,
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "fit": self.fit,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return self.geometry() | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PixelContract:
        """The contract that `to_dict` wrote; ConfigError for unknown or missing keys and bad values."""
        settings = dict(values)
        version = settings.pop("version", VERSION)
        if version != VERSION:
            raise ConfigError(
                f"The pixel contract has version {version!r}, but this Pellucid knows version {VERSION}. "
                "Use the Pellucid that wrote it, or train again."
            )
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                hint = nearest(str(name), known)
                raise ConfigError(f"Unknown key {name!r}; expected {', '.join(known)}. {hint}".rstrip())
        for name in ("height", "width"):
            if name not in settings:
                raise ConfigError(f"The pixel contract has no {name!r}; expected at least height and width.")
        return cls(**settings)

    def _per_channel(self, name: str, *, default: float) -> tuple[float, ...]:
        given = getattr(self, name)
        values = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        values = values or (default,) * self.channels
        finite = all(isinstance(value, Real) and math.isfinite(value) for value in values)
        if len(values) != self.channels or not finite:
            raise ConfigError(f"{name} is {given!r}; expected a number for each channel ({self.channels}).")
        return tuple(float(value) for value in values)

    def _window(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the part of a picture that "crop" shows."""
        return _largest(height, width, self.height, self.width)


def _largest(height: int, width: int, tall: int, wide: int) -> tuple[int, int]:
    """The largest size within (height, width) with the proportions of (tall, wide), to the nearest pixel."""
    if height * wide <= width * tall:
        return height, max(1, (2 * height * wide + tall) // (2 * tall))
    return max(1, (2 * width * tall + wide) // (2 * wide)), width


def _centered(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The view (height, width, C) on the middle of a picture (H, W, C)."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def _resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H, W, C) as uint8 (height, width, C), on the calling thread alone."""
    if picture.shape[:2] == (height, width):
        return picture
    import torch.nn.functional as F

    # One memory layout for every caller, since torch chooses its kernel by the strides.
    # With strides that a new axis has, torch does not see that channels come last, and takes three times as long.
    batch = _as_tensor(np.ascontiguousarray(picture).reshape(1, *picture.shape)).permute(0, 3, 1, 2)  # (1, C, H, W)
    resized = F.interpolate(batch, size=(height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()  # (1, C, height, width) -> (height, width, C)


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """An array as a tensor: the same memory, or a copy of a read-only array, which torch would warn of."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else array.copy())


@lru_cache(maxsize=16)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (W*C,) each, with level * scale + shift = (level / 255 - mean) / std."""
    import torch

    scale = [1 / (255 * s) for s in std] * width
    shift = [-m / s for m, s in zip(mean, std, strict=True)] * width
    return torch.tensor(scale, device=device), torch.tensor(shift, device=device)
