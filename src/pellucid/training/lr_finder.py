"""The learning-rate finder: a short trial on a copy of the network whose rate grows until the loss explodes.

Where the loss falls steepest against the logarithm of the rate, a step does most. Not every curve has such a place, and then
the answer is None with the reason, and no rate.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.loader import Loader, Pictures
from pellucid.data.task import ONE_CLASS, Task
from pellucid.device import autocast
from pellucid.training.loop import Recipe, make_objective, strata_of
from pellucid.training.optimizer import make_optimizer, set_learning_rate

LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 100
_SMOOTHING = 3.0  # steps, standard deviation of the Gaussian
_EXPLODED = 4.0  # times the lowest smoothed loss, as in fastai
_FEWEST = 20  # steps from which something can be concluded
_CLEAR = 0.01, 6.0  # the smoothed loss must lose this share, and so many standard deviations of the single losses


@dataclass(frozen=True)
class LearningRateCurve:
    """What the trial saw: `rates` and the raw and `smoothed` `losses`, one a step; `rate` is the suggestion or None,
    `exploded` the rate at which the trial ended because the loss had exploded, or None."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    rate: float | None
    exploded: float | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def __str__(self) -> str:
        return self.why

    def png(self) -> bytes:
        """The curve as a PNG picture: loss against rate, the suggestion marked."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.semilogx(self.rates, self.losses, ".", color="#9ba7b4", markersize=4, label="loss of a step")
        axes.semilogx(self.rates, self.smoothed, color="#0072b2", label="smoothed")
        if self.rate is not None:
            axes.axvline(self.rate, color="#b84d00", linestyle="--", label=f"suggested: {self.rate:.2g}")
        axes.set(xlabel="learning rate", ylabel="training loss")
        if self.losses:
            low, high = min(self.smoothed), max(self.smoothed[0], *self.losses[:_FEWEST])
            axes.set_ylim(low - 0.1 * (high - low) - 1e-6, high + 0.6 * (high - low))
        axes.set_title(self.why, fontsize=9, wrap=True)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file)
        return file.getvalue()


def find_learning_rate(
    module: nn.Module,
    train: Pictures,
    *,
    contract: PixelContract,
    recipe: Recipe,
    device: torch.device,
    task: Task = ONE_CLASS,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> LearningRateCurve:
    """Trains a copy of `module` with the recipe's optimizer, batches and loss for up to 100 steps while the rate grows from
    1e-5 to 10, and suggests a peak learning rate. The module, its gradients and torch's generator stay as they are.

    The same seed gives the same curve. `on_step` is told (done, total).
    Source: Smith 2017, arXiv 1506.01186 (range test); Gugger 2018 (exponential growth, stop when it explodes).
    """
    memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
    trial = copy.deepcopy(module).to(device=device, memory_format=memory_format).train()  # type: ignore[call-overload]
    optimizer = make_optimizer(
        trial, recipe.optimizer, learning_rate=1.0, weight_decay=recipe.weight_decay, momentum=recipe.momentum
    )
    loader = Loader(train, contract, device, batch_size=recipe.batch_size, strata=strata_of(train, task, recipe))
    objective = make_objective(task, recipe, device)
    rates, losses = [], []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        for step, rate in enumerate(np.geomspace(LOWEST, HIGHEST, STEPS).tolist()):
            epoch, batch = divmod(step, len(loader))
            if batch == 0:
                batches = loader.shuffled(recipe.augmentation, seed=recipe.seed, epoch=epoch)
            x, y, mixed = next(batches)
            set_learning_rate(optimizer, rate)
            with autocast(device, recipe.precision):
                logits = trial(x if recipe.channels_last else x.contiguous())
            target = y if mixed is None else mixed.targets(y, logits.shape[1])
            loss = objective.loss(logits.float(), target)
            rates.append(rate)
            losses.append(loss.item())
            on_step(step + 1, STEPS)
            if has_exploded(losses):
                break
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(trial.parameters(), recipe.clip)
            optimizer.step()
    return suggest(rates, losses)


def suggest(rates: Sequence[float], losses: Sequence[float]) -> LearningRateCurve:
    """The curve of these losses with the rate at which the smoothed loss falls steepest, or with why there is none."""
    exploded = rates[-1] if has_exploded(losses) else None
    if not math.isfinite(losses[-1]):
        rates, losses = rates[:-1], losses[:-1]
    smoothed = _smoothed(losses)

    def curve(rate: float | None, why: str) -> LearningRateCurve:
        return LearningRateCurve(tuple(rates), tuple(losses), tuple(smoothed), rate, exploded, why)

    if len(losses) < _FEWEST:
        return curve(None, f"no clear answer: the loss exploded after {len(losses)} steps")
    lowest = int(np.argmin(smoothed))
    fall = smoothed[0] - smoothed[lowest]
    noise = float(np.std(np.subtract(losses, smoothed)[: lowest + 1]))
    if fall < max(_CLEAR[0] * smoothed[0], _CLEAR[1] * noise):
        return curve(None, f"no clear answer: at no rate did the loss fall clearly ({smoothed[0]:.3g} to "
                           f"{smoothed[lowest]:.3g}, from step to step it moves by {noise:.2g})")  # fmt: skip
    if exploded is None and lowest >= len(losses) - 2:
        return curve(
            None, f"no clear answer: the loss still falls at the highest rate that was tried ({rates[-1]:.2g})"
        )
    slope = np.gradient(smoothed[: lowest + 1], np.log10(rates[: lowest + 1]))
    rate = float(f"{rates[int(np.argmin(slope))]:.2g}")
    return curve(rate, f"the loss falls steepest at {rate:g}, is lowest at {rates[lowest]:.2g} and then grows")


def has_exploded(losses: Sequence[float]) -> bool:
    """Whether the last loss is no number, or the smoothed one four times its lowest and above where it began."""
    if not math.isfinite(losses[-1]):
        return True
    smoothed = _smoothed(losses)
    return smoothed[-1] > max(_EXPLODED * min(smoothed), smoothed[0])


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Losses averaged with their neighbors on both sides, so that nothing moves towards higher rates."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.asarray(losses, np.float64), _SMOOTHING, mode="nearest").tolist() if losses else []
