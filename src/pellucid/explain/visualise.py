"""Optimized pictures: what a channel, a unit or a class would like to see most.

A picture is made of waves whose strengths are learned by gradient ascent, so that it does not end as noise; its colors are
mixed as those of photographs are; and at each step the network sees it a little shifted, turned and resized, so that what
it likes must be robust. What the finished picture reaches is measured like any picture's, beside the largest value that the
user's own pictures reach.

Source: Olah, Mordvintsev and Schubert 2017, "Feature Visualization", doi 10.23915/distill.00007; Mordvintsev et al. 2018,
"Differentiable Image Parameterizations", doi 10.23915/distill.00012 (waves and colors, as in Lucid).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.data.scan import Progress
from pellucid.errors import ConfigError, UnknownNameError, nearest
from pellucid.explain.layers import Passed, passes
from pellucid.explain.units import as_units, find_units
from pellucid.model.classifier import Classifier

STEPS = 192
CHANNELS = 6  # of a layer that are drawn unless some are named
_RATE = 0.05
_AT_ONCE = 2**19  # pixels
_FEW_PLACES = 16  # of a map: each sees much of the picture, and what one of them likes leaves no room for the others
_TURN, _RESIZE, _SHIFT = 8.0, 0.1, 1 / 16  # degrees; share of the size; share of the side
# What colors of photographs have in common: square root of their covariance, as in Lucid.
_COLORS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Threshold)


@dataclass(frozen=True, eq=False)
class Optimized:
    """Pictures uint8 (n, H, W, C) that were made for some `units` of a layer, or for some classes where `layer` is "".

    `reached` float32 (n,): the largest value of the unit on its finished picture, at any place; `start` the same of the
    picture that it began with. `ceiling`: the largest value that the layer can give, where it has one.
    """

    layer: str
    kind: str
    units: tuple[int, ...]
    names: tuple[str, ...]
    pictures: np.ndarray
    start: np.ndarray
    reached: np.ndarray
    ceiling: float | None
    steps: int
    seed: int
    seconds: float


def optimize(
    classifier: Classifier,
    *,
    layer: str = "",
    units: Sequence[int] = (),
    count: int = CHANNELS,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Optimized:
    """Pictures that excite the `units` (channels) of `layer` as much as possible, by default `count` of them that are drawn by
    `seed`; without a layer, the classes with these numbers, whose logits are driven up.

    On maps the largest quarter of the places is driven up (all of them together would be nothing for a filter that finds edges, whose
    answers cancel out), on maps of 16 places or fewer the largest. The same seed gives the same picture on one machine, whichever others are
    made with it. Raises UnknownNameError, ShapeError for a layer without channels, ConfigError for a channel that is not there.
    """
    if steps < 1:
        raise ConfigError(f"--steps is {steps}; it must be 1 or more.")
    started = time.monotonic()
    target = _Target(classifier, layer)
    total = target.total
    chosen = tuple(units) or tuple(sorted(np.random.default_rng(seed).permutation(total)[:count].tolist()))
    for unit in chosen:
        if not 0 <= unit < total:
            what = f"'{layer}' has {total:,} channels" if layer else f"there are {total:,} classes"
            raise ConfigError(f"Channel {unit} was asked for, but {what}: 0 to {total - 1}.")
    _, height, width = classifier.input_shape
    size = max(1, min(len(chosen), _AT_ONCE // (height * width)))
    parts = [chosen[i : i + size] for i in range(0, len(chosen), size)]
    made = []
    with classifier.answering(), _frozen(classifier.module):
        for k, part in enumerate(parts):
            tell = None if progress is None else _after(progress, k * steps, len(parts) * steps)
            made.append(_ascend(classifier, target, part, steps=steps, seed=seed, progress=tell))
    pictures, start, reached = (np.concatenate(arrays) for arrays in zip(*made, strict=True))
    names = tuple(f"channel {unit}" if layer else classifier.classes[unit] for unit in chosen)
    return Optimized(
        layer,
        target.kind,
        chosen,
        names,
        pictures,
        start,
        reached,
        target.ceiling,
        steps,
        seed,
        time.monotonic() - started,
    )


def class_number(classifier: Classifier, name: str) -> int:
    """The number of a class. Raises UnknownNameError with the nearest names."""
    if name not in classifier.classes:
        known = ", ".join(classifier.classes[:10]) + (", ..." if len(classifier.classes) > 10 else "")
        hint = nearest(name, classifier.classes)
        raise UnknownNameError(
            f"There is no class '{name}'; expected one of {len(classifier.classes):,}: {known}. {hint}".rstrip()
        )
    return classifier.classes.index(name)


class _Target:
    """What is driven up: the channels of a layer, or the logits of the classes."""

    def __init__(self, classifier: Classifier, layer: str) -> None:
        self.classifier, self.layer = classifier, layer
        self.total, self.kind, self.ceiling = len(classifier.classes), "logits", None
        self._before: str | None = None  # a rectifier, whose input is driven up: below 0 it lets no gradient through
        if layer:
            found = passes(
                classifier, torch.randn(1, *classifier.input_shape, generator=_generator(0)).to(classifier.device)
            )
            self.total = find_units(classifier, found, layer).values.shape[1]
            self.kind = type(found[layer].module).__name__
            rectifier = _rectifier(found, layer)
            if rectifier is not None:
                self._before = rectifier.name
                self.ceiling = getattr(rectifier.module, "max_val", None)

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) of pictures (N, C, H, W), to be driven up; with gradients."""
        if not self.layer:
            return self.classifier.logits(x)
        output, module = _reach(self.classifier, x, self._before or self.layer, before=self._before is not None)
        units = as_units(self.classifier, module, output, len(x))
        assert units is not None
        places = units.values.flatten(2)
        count = places.shape[2] // 4 if places.shape[2] > _FEW_PLACES else 1
        return places.topk(count, 2).values.mean(2)

    @torch.no_grad()
    def largest(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C): the largest value of each channel at any place, as the layer itself gives it."""
        if not self.layer:
            return self.classifier.logits(x)
        output, module = _reach(self.classifier, x, self.layer, before=False)
        units = as_units(self.classifier, module, output, len(x))
        assert units is not None
        return units.values.amax((2, 3))


def _ascend(
    classifier: Classifier, target: _Target, units: Sequence[int], *, steps: int, seed: int, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 (n, H, W, C), the largest values at the start and at the end, float32 (n,) each."""
    contract, device = classifier.contract, classifier.device
    draws = [_generator(seed, unit) for unit in units]  # each its own: it makes no difference which others are made
    waves = _Waves(classifier.input_shape, draws, device)
    optimizer = torch.optim.Adam([waves.strengths], _RATE)
    rows, columns = torch.arange(len(units)), torch.tensor(units)

    def reached() -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            pixels = (waves.levels() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
            values = target.largest(contract.tensor(pixels.contiguous()))[rows, columns]
        return pixels.cpu().numpy(), values.float().cpu().numpy()

    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (contract.mean, contract.std))
    _, start = reached()
    for step in range(steps):
        x = (_moved(waves.levels(), draws) - mean) / std
        loss = -target.values(x)[rows, columns].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress:
            progress(step + 1, steps)
    pictures, end = reached()
    return pictures, start, end


class _Waves:
    """Pictures as the strengths of their waves, (N, C, H, W // 2 + 1, 2); long waves count more, as in photographs."""

    def __init__(self, shape: tuple[int, int, int], draws: Sequence[torch.Generator], device: torch.device) -> None:
        channels, height, width = shape
        self._size = height, width
        frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
        weight = math.sqrt(height * width) / frequency.clamp(min=1 / max(height, width))
        self._weight = weight[..., None].to(device)
        first = [0.01 * torch.randn(channels, *weight.shape, 2, generator=draw) for draw in draws]
        self.strengths = nn.Parameter(torch.stack(first).to(device))
        colors = torch.tensor(_COLORS) if channels == 3 else torch.eye(channels)
        self._colors = (colors / colors.norm(dim=0).max()).to(device)

    def levels(self) -> torch.Tensor:
        """float32 (N, C, H, W), 0 to 1."""
        spectrum = torch.view_as_complex(self.strengths * self._weight)
        waves = torch.fft.irfft2(spectrum, s=self._size) / 4
        return torch.einsum("kc,nchw->nkhw", self._colors, waves).sigmoid()


def _moved(levels: torch.Tensor, draws: Sequence[torch.Generator]) -> torch.Tensor:
    """Each picture shifted, turned and resized a little around its middle; what comes in at the border is its mirror image."""
    drawn = torch.stack([torch.rand(4, generator=draw) for draw in draws]) * 2 - 1
    angle, size = drawn[:, 0] * math.radians(_TURN), 1 + drawn[:, 1] * _RESIZE
    height, width = levels.shape[2:]
    cos, sin, shift = angle.cos() * size, angle.sin() * size, drawn[:, 2:] * 2 * _SHIFT
    rows = [
        torch.stack([cos, -sin * height / width, shift[:, 0]], 1),
        torch.stack([sin * width / height, cos, shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1).to(levels.device), list(levels.shape), align_corners=False)
    return F.grid_sample(levels, grid, padding_mode="reflection", align_corners=False)


class _Reached(Exception):  # noqa: N818  it is none
    """The layer that was asked for has answered; the rest of the network need not run."""


def _reach(classifier: Classifier, x: torch.Tensor, name: str, *, before: bool) -> tuple[torch.Tensor, nn.Module]:
    """What the layer `name` puts out, or with `before` what it is given, with gradients; and the layer itself."""
    base, _, call = name.partition("#")
    module, left = classifier.module.get_submodule(base), int(call or 1)
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        nonlocal left
        left -= 1
        if not left:
            kept.append(value[0] if isinstance(value, (tuple, list)) else value)
            raise _Reached

    if before:
        hook = module.register_forward_pre_hook(lambda _, given: keep(given))
    else:
        hook = module.register_forward_hook(lambda _, __, output: keep(output))
    try:
        classifier.module(x)
    except _Reached:
        pass
    finally:
        hook.remove()
    return kept[0], module


def _rectifier(found: dict[str, Passed], layer: str) -> Passed | None:
    """The rectifier that gives the output of `layer`: itself, or the last one inside a block."""
    wanted = found[layer].output
    for passed in found.values():
        inside = passed.name == layer or passed.name.startswith(f"{layer.partition('#')[0]}.")
        if inside and isinstance(passed.module, _RECTIFIERS) and torch.equal(passed.output, wanted):
            return passed
    return None


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """The weights need no gradients meanwhile."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def _generator(seed: int, unit: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, unit]).generate_state(1)[0]))


def _after(progress: Progress, before: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)
