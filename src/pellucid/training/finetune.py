"""Fine-tuning: once its last layer is fitted, the last third of a pretrained network is trained on, by the same `fit`.

What the first layers know serves any photograph, and they stay; the layers behind them move the less the deeper they lie.
Kept is what does best on the validation pictures: the network before, after, or a mean of both, which often beats the two.
Source of the mean: Wortsman et al. 2022, arXiv 2109.01903 (WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from pellucid.config import TrainConfig
from pellucid.model.summary import summarize
from pellucid.training.loop import OnEvent

EPOCHS = 4  # without other wishes
BATCH = 32
FEWEST_SECONDS = 8.0  # below, not even the speed is measured
_RATE = 5e-4  # AdamW, a step of 32 pictures
_STAY, _SLOW, _SLOW_RATE = 2 / 3, 5 / 6, 0.4  # shares of the multiply-adds; the last layers learn at the full rate
_SHARES = (0.5, 0.75)  # of the weights after fine-tuning, in a mean with those before
MEANS = len(_SHARES)


def layer_rates(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[tuple[str, float], ...]:
    """Shares of the learning rate by layer: 0 up to two thirds of the work of a picture (channels, height, width), then 0.4.
    Layers that are not named learn at the full rate."""
    summary, known = summarize(module, input_shape), dict(module.named_modules())
    done, rates = 0, {"": 0.0}  # what belongs to no layer stays, or gradients would have to go back all the way
    for row in summary.layers:
        done += row.macs
        if done <= _SLOW * summary.macs and row.name in known:
            rates.setdefault(row.name, 0.0 if done <= _STAY * summary.macs else _SLOW_RATE)
    return tuple(rates.items())


def settings(config: TrainConfig) -> TrainConfig:
    """The configuration with what fine-tuning chooses otherwise than a training from the start, where it was left open."""
    batch = config.batch_size or BATCH
    rate = config.learning_rate if config.learning_rate is not None else _RATE * (batch / BATCH) ** 0.5
    optimizer = config.optimizer or "adamw"
    return replace(
        config, epochs=config.epochs or EPOCHS, batch_size=batch, optimizer=optimizer,
        learning_rate=rate if optimizer == "adamw" else config.learning_rate,
    )  # fmt: skip


def looks_of_validation(num_train: int, num_valid: int) -> float:
    """How much longer fine-tuning takes for validating the means and what is kept, as a share: a look is a third of a step."""
    return (MEANS + 1) * num_valid / (3 * num_train)


def mean_of(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Weights between two of one network, with so large a share of those `after`."""
    return {
        name: torch.lerp(before[name].to(tensor), tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }


def keep_best(
    module: nn.Module,
    before: Mapping[str, torch.Tensor],
    scores: Mapping[str, Mapping[str, float]],
    *,
    score: Callable[[nn.Module], Mapping[str, float]],
    rank: Callable[[Mapping[str, float]], tuple[float, float]],
    on_event: OnEvent,
) -> str:
    """Leaves in `module`, which is fine-tuned, what does best on the validation pictures, and says what that is.

    `before` are its weights without fine-tuning; `scores` are known of 'before' and 'after', `score` measures means of both.
    """
    after = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    states: dict[str, Mapping[str, torch.Tensor]] = {"before": before, "after": after}
    found = dict(scores)
    for share in _SHARES:
        name = f"mean with {share:.0%} of after"
        states[name] = mean_of(before, after, share)
        module.load_state_dict(states[name])
        found[name] = score(module)
    best = max(found, key=lambda name: rank(found[name]))
    module.load_state_dict(states[best])
    on_event({"event": "kept", "what": best, "scores": {name: dict(numbers) for name, numbers in found.items()}})
    return best
