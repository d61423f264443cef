"""What may happen to pictures after training: noise, blur, weather and digital damage in five severities, turns, sizes, light.

The severities are those of ImageNet-C (pictures of 224x224) and CIFAR-10-C (32x32); for other sizes each number lies on the power
law through both. Every picture is treated by itself, from (seed, change, level, index): the same whatever the batch.
Source: Hendrycks & Dietterich 2019, arXiv 1903.12261. Motion runs along one of seven directions, and frost, which needs
photographs of frost, is left out.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pellucid.data import recolor
from pellucid.data.chunks import as_levels
from pellucid.data.warp import reflected, sample

Random = Callable[[Callable[[np.random.Generator], np.ndarray]], torch.Tensor]  # draws for each picture, stacked
Work = Callable[..., torch.Tensor]  # float32 (N, H, W, C) from 0 to 1, numbers, Random -> the same shape

SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)
_SMALL, _LARGE = 32, 224  # pixels of the sides that the severities are known for
_LUMA = torch.tensor([0.299, 0.587, 0.114])
_DIRECTIONS = 7


@dataclass(frozen=True)
class Change:
    """One thing that may happen. `levels` are severities, or what `unit` counts; of corruptions `small` and `large` hold the
    numbers of each severity for 32 and for 224 pixels."""

    name: str
    family: str
    levels: tuple[float, ...]
    work: Work
    unit: str = "severity"
    small: tuple[tuple[float, ...], ...] = ()
    large: tuple[tuple[float, ...], ...] = ()

    def __call__(self, batch: torch.Tensor, level: float, indices: np.ndarray, *, seed: int) -> torch.Tensor:
        """uint8 (N, H, W, C), with the pictures' indices (N,), -> uint8 of the same shape."""
        numbers: Sequence[float] = (level,)
        if self.small:
            at = self.levels.index(level)
            numbers = _for_side(self.small[at], self.large[at], min(batch.shape[1:3]))
        key = [seed, zlib.crc32(self.name.encode()), round(1000 * level)]
        generators: list[np.random.Generator] = []

        def random(draw: Callable[[np.random.Generator], np.ndarray]) -> torch.Tensor:
            if not generators:  # a second draw goes on with them
                generators.extend(np.random.default_rng([*key, int(i)]) for i in indices)
            return torch.from_numpy(np.stack([draw(generator) for generator in generators])).float()

        x = self.work(batch.float() / 255, *numbers, random)
        return as_levels(x * 255)


def _for_side(small: Sequence[float], large: Sequence[float], side: int) -> list[float]:
    """The numbers for a side, on the power laws through those of 32 and of 224 pixels."""
    along = math.log(side / _SMALL) / math.log(_LARGE / _SMALL)
    return [a * (b / a) ** along for a, b in zip(small, large, strict=True)]


def _gaussian_noise(x: torch.Tensor, deviation: float, random: Random) -> torch.Tensor:
    return x + deviation * random(lambda g: g.standard_normal(x.shape[1:], np.float32))


def _shot_noise(x: torch.Tensor, photons: float, random: Random) -> torch.Tensor:
    rows = iter(x.double().numpy())
    return random(lambda g: g.poisson(next(rows) * photons)) / photons


def _impulse_noise(x: torch.Tensor, share: float, random: Random) -> torch.Tensor:
    drawn = random(lambda g: g.random(x.shape[1:], np.float32))
    share = min(share, 1.0)
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn > 1 - share / 2, 1.0, x))


def _gaussian_blur(x: torch.Tensor, sigma: float, _: Random) -> torch.Tensor:
    return recolor.blur(as_levels(x * 255), np.full(len(x), sigma), reach=math.ceil(4 * sigma)).float() / 255


def _defocus_blur(x: torch.Tensor, radius: float, _: Random) -> torch.Tensor:
    """A disk whose border pixels count by how much of them it covers; half a pixel larger, as one of whole pixels is."""
    reach, fine = math.ceil(radius), 9
    along = (torch.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = (along[:, None] ** 2 + along**2 <= (radius + 0.5) ** 2).float()
    kernel = F.avg_pool2d(inside[None, None], fine)
    rows, columns = (reflected(torch.arange(-reach, size + reach), size) for size in x.shape[1:3])
    planes = x[:, rows][:, :, columns].permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    blurred = F.conv2d(planes, kernel / kernel.sum())
    return blurred.view(len(x), x.shape[3], *x.shape[1:3]).permute(0, 2, 3, 1)


def _motion_blur(x: torch.Tensor, radius: float, sigma: float, random: Random) -> torch.Tensor:
    return _moved(x, radius, sigma, random, start=-45.0)


def _moved(x: torch.Tensor, radius: float, sigma: float, random: Random, *, start: float) -> torch.Tensor:
    """A trail in one of seven directions from `start` on, 15 degrees apart, which fades as half a Gaussian."""
    chosen = random(lambda g: g.integers(_DIRECTIONS, size=())).long()
    steps = np.arange(min(math.ceil(2 * radius), math.ceil(3 * sigma)) + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    out = torch.empty_like(x)
    for direction in chosen.unique().tolist():
        which = (chosen == direction).nonzero()[:, 0]
        part, angle = x[which], math.radians(start + 90 / (_DIRECTIONS - 1) * direction)
        trail = torch.zeros_like(part)
        for step, weight in zip(steps.tolist(), (weights / weights.sum()).tolist(), strict=True):
            rows, columns = (
                reflected(torch.arange(size) - round(step * move), size)
                for size, move in zip(x.shape[1:3], (math.sin(angle), math.cos(angle)), strict=True)
            )
            trail += weight * part[:, rows][:, :, columns]
        out[which] = trail
    return out


def _fog(x: torch.Tensor, thickness: float, decay: float, random: Random) -> torch.Tensor:
    """Clouds whose waves are the stronger, the longer: each octave is weaker by `decay`, as in the plasma fractals of the source."""
    height, width = x.shape[1:3]
    size = 2 ** math.ceil(math.log2(max(height, width, 2)))
    frequency = (torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size) ** 2).sqrt()
    frequency[0, 0] = 1.0
    strength = frequency ** -(1 + math.log2(decay))
    strength[0, 0] = 0.0
    waves = torch.fft.rfft2(random(lambda g: g.standard_normal((size, size), np.float32))) * strength
    clouds = torch.fft.irfft2(waves, s=(size, size))
    low, high = clouds.amin((1, 2), keepdim=True), clouds.amax((1, 2), keepdim=True)
    clouds = ((clouds - low) / (high - low))[:, :height, :width, None]
    brightest = x.amax((1, 2, 3), keepdim=True).clamp(min=1 / 255)
    return (x + thickness * clouds) * brightest / (brightest + thickness)


def _snow(
    x: torch.Tensor, mean: float, deviation: float, zoom: float, threshold: float, radius: float, sigma: float,
    kept: float, random: Random,
) -> torch.Tensor:  # fmt: skip
    height, width = x.shape[1:3]
    box = [max(1, math.ceil(size / max(zoom, 1.0))) for size in (height, width)]
    flakes = mean + deviation * random(lambda g: g.standard_normal(box, np.float32))
    flakes = F.interpolate(flakes[:, None], (height, width), mode="bilinear", align_corners=True)[:, 0]
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    flakes = _moved(flakes[..., None], radius, sigma, random, start=45.0)  # falling
    grey = (x @ _LUMA)[..., None] if x.shape[3] == 3 else x
    kept = min(kept, 1.0)
    whitened = kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey + 0.5)
    return whitened + flakes + flakes.flip(1, 2)


def _brightness(x: torch.Tensor, more: float, _: Random) -> torch.Tensor:
    """Adds to the value of hue, saturation and value, which leaves the two others."""
    value = x.amax(3, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.clamp(min=1e-6), brighter)


def _contrast(x: torch.Tensor, kept: float, _: Random) -> torch.Tensor:
    mean = x.mean((1, 2), keepdim=True)
    return (x - mean) * min(kept, 1.0) + mean


def _jpeg(x: torch.Tensor, quality: float, _: Random) -> torch.Tensor:
    out = np.empty(x.shape, np.uint8)
    for source, target in zip(as_levels(x * 255).numpy(), out, strict=True):
        colors = [slice(0, 3)] if source.shape[2] == 3 else [slice(c, c + 1) for c in range(source.shape[2])]
        for part in colors:
            file = io.BytesIO()
            pixels = source[..., part]
            image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
            image.save(file, "JPEG", quality=round(min(max(quality, 1), 95)))
            target[..., part] = np.asarray(Image.open(file)).reshape(pixels.shape)
    return torch.from_numpy(out).float() / 255


def _pixelate(x: torch.Tensor, share: float, _: Random) -> torch.Tensor:
    height, width = x.shape[1:3]
    planes = x.permute(0, 3, 1, 2)
    small = F.adaptive_avg_pool2d(planes, (max(1, int(height * min(share, 1))), max(1, int(width * min(share, 1)))))
    return F.interpolate(small, (height, width), mode="nearest").permute(0, 2, 3, 1)


def _rotated(x: torch.Tensor, degrees: float, random: Random) -> torch.Tensor:
    """To either side; what lies outside is the mirror image."""
    side = random(lambda g: g.integers(2, size=()) * 2 - 1)
    angle = side * math.radians(degrees)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero, zero, zero, one]
    return sample(as_levels(x * 255), torch.stack(rows, dim=1).view(-1, 3, 3)).float() / 255


def _scaled(x: torch.Tensor, factor: float, _: Random) -> torch.Tensor:
    """The middle larger by `factor`, or all of it smaller, with its border drawn out to the sides."""
    if factor < 1:
        height, width = x.shape[1:3]
        small = [max(1, round(size * factor)) for size in (height, width)]
        top, left = (height - small[0]) // 2, (width - small[1]) // 2
        planes = F.interpolate(x.permute(0, 3, 1, 2), small, mode="bilinear", antialias=True)
        sides = (left, width - small[1] - left, top, height - small[0] - top)
        return F.pad(planes, sides, mode="replicate").permute(0, 2, 3, 1)
    matrix = torch.diag(torch.tensor([1 / factor, 1 / factor, 1.0])).expand(len(x), 3, 3)
    return sample(as_levels(x * 255), matrix).float() / 255


def _lit(x: torch.Tensor, factor: float, _: Random) -> torch.Tensor:
    return x * factor


def _one(*numbers: float) -> tuple[tuple[float, ...], ...]:
    return tuple((number,) for number in numbers)


CHANGES = (
    Change("gaussian noise", "noise", SEVERITIES, _gaussian_noise,
           small=_one(0.04, 0.06, 0.08, 0.09, 0.10), large=_one(0.08, 0.12, 0.18, 0.26, 0.38)),
    Change("shot noise", "noise", SEVERITIES, _shot_noise,
           small=_one(500, 250, 100, 75, 50), large=_one(60, 25, 12, 5, 3)),
    Change("impulse noise", "noise", SEVERITIES, _impulse_noise,
           small=_one(0.01, 0.02, 0.03, 0.05, 0.07), large=_one(0.03, 0.06, 0.09, 0.17, 0.27)),
    Change("defocus blur", "blur", SEVERITIES, _defocus_blur,
           small=_one(0.3, 0.4, 0.5, 1, 1.5), large=_one(3, 4, 6, 8, 10)),
    Change("motion blur", "blur", SEVERITIES, _motion_blur,
           small=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), large=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    Change("gaussian blur", "blur", SEVERITIES, _gaussian_blur,
           small=_one(0.4, 0.6, 0.7, 0.8, 1), large=_one(1, 2, 3, 4, 6)),
    Change("fog", "weather", SEVERITIES, _fog,
           small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
           large=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    Change("snow", "weather", SEVERITIES, _snow,
           small=((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                  (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
           large=((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                  (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55))),
    Change("brightness", "weather", SEVERITIES, _brightness,
           small=_one(0.05, 0.1, 0.15, 0.2, 0.3), large=_one(0.1, 0.2, 0.3, 0.4, 0.5)),
    Change("contrast", "weather", SEVERITIES, _contrast,
           small=_one(0.75, 0.5, 0.4, 0.3, 0.15), large=_one(0.4, 0.3, 0.2, 0.1, 0.05)),
    Change("jpeg", "digital", SEVERITIES, _jpeg, small=_one(80, 65, 58, 50, 40), large=_one(25, 18, 15, 10, 7)),
    Change("pixelate", "digital", SEVERITIES, _pixelate,
           small=_one(0.95, 0.9, 0.85, 0.75, 0.65), large=_one(0.6, 0.5, 0.4, 0.3, 0.25)),
    Change("turned", "sweep", (5, 10, 15, 20, 30, 45, 60, 90, 180), _rotated, unit="degrees"),
    Change("enlarged", "sweep", (1.1, 1.25, 1.5, 2, 3), _scaled, unit="times the size"),
    Change("shrunk", "sweep", (0.9, 0.8, 0.65, 0.5, 0.33), _scaled, unit="times the size"),
    Change("darker", "sweep", (0.8, 0.6, 0.4, 0.2, 0.1), _lit, unit="times the light"),
    Change("lighter", "sweep", (1.25, 1.5, 2, 3, 4), _lit, unit="times the light"),
)  # fmt: skip
