"""What was left open is decided here: the input, the network, the recipe; each choice with a sentence that says why."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from pellucid.config import DataConfig, TrainConfig
from pellucid.data.augment import Augmentation, measured
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.loader import Pictures
from pellucid.data.meaning import MeaningTest, meaning_tests
from pellucid.data.pack import let_go
from pellucid.data.policy import parse_policy
from pellucid.data.task import CLASS, ONE_CLASS, Task
from pellucid.errors import ConfigError, DataError, PictureError
from pellucid.model.fastnet import DEFAULT_WIDTHS
from pellucid.model.pretrained import Pretrained
from pellucid.model.spec import parse_spec, require_gradients
from pellucid.model.summary import summarize
from pellucid.model.zoo import Architecture, build, find_architecture, outline, takes_any_size
from pellucid.training.loop import Recipe
from pellucid.training.objective import balanced_weights
from pellucid.training.speed import fastest, measure_speed

_SMALL = 96  # pictures with sides up to this keep their own size and are learned from scratch by fastnet
_PHOTO_SIDE = 128  # photographs without pretrained weights
_SAMPLE = 200
# The first of these that gets so many steps in the time is taken; measured in docs/decisions/003-fastnet.md.
_FASTNETS = {(64, 256, 256): 1600, (48, 192, 192): 1200, (32, 128, 128): 700, (32, 96, 96): 350, (16, 64, 64): 0}
_COMPILING_PAYS = 300  # seconds of training on a GPU, of which compiling takes half a minute and spares a seventh
# With more, the maps of a batch take a gigabyte: cifar10-jpeg at 64x64 in two minutes reaches 0.740 with 256 pictures a step
# and 0.753 with 128 (n 10,000, one seed).
_BATCH_PIXELS = 700_000
_VALIDATE_EVERY = 4  # epochs under a time limit: validating a tenth of the pictures then takes a hundredth of the time


def sample_shapes(dataset: Dataset) -> list[tuple[int, int, int]]:
    """(height, width, channels) of up to 200 readable pictures, evenly spaced over the data set."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, _SAMPLE).astype(int))
    shapes, reasons = [], Counter[str]()
    for i in chosen:
        try:
            height, width, channels = dataset.picture(int(i)).pixels.shape
        except PictureError as error:
            reasons[error.reason] += 1
            continue
        shapes.append((height, width, channels))
    if not shapes:
        raise DataError(
            f"None of {len(chosen)} pictures of '{dataset.source}' that were tried can be read, mostly because: "
            f"{reasons.most_common(1)[0][0]}. Look at all reasons with: pellucid check {dataset.source}"
        )
    return shapes


def are_photographs(shapes: Sequence[tuple[int, int, int]]) -> bool:
    """Whether most are too large to be learned from scratch as they are, and gray or in color, as published weights want."""
    height, width = statistics.median(h for h, _, _ in shapes), statistics.median(w for _, w, _ in shapes)
    return max(height, width) > _SMALL and all(channels in (1, 3) for _, _, channels in shapes)


def choose_contract(
    shapes: Sequence[tuple[int, int, int]], config: DataConfig, pretrained: Pretrained | None
) -> tuple[PixelContract, str]:
    """The pixel contract (its mean and std are set once the pixels are there) and why it is so."""
    height = int(statistics.median(h for h, _, _ in shapes))
    width = int(statistics.median(w for _, w, _ in shapes))
    all_grey = all(c == 1 for _, _, c in shapes)
    why = []
    if size := config.input_size():
        why.append("size as asked")
    elif pretrained and pretrained.size:
        size, larger = pretrained.size, _larger(pretrained.size)
        why.append("the size that the weights were trained with")
        if takes_any_size(pretrained.architecture) and height >= larger[0] and width >= larger[1]:
            size, why[-1] = larger, f"a seventh more than the {size[0]}x{size[1]} of the weights, which then know more"
    elif max(height, width) <= _SMALL:
        size = (height, width)
        why.append("the pictures' own size")
    else:
        size = (_PHOTO_SIDE, _PHOTO_SIDE)
        why.append(f"pictures of about {height}x{width}, reduced")
    channels = config.channels or max(c for _, _, c in shapes)
    _require_channels(shapes, channels, asked=config.channels is not None)
    if config.channels is None:
        why.append("grey pictures" if all_grey else f"{channels} channels")
    contract = PixelContract(height=size[0], width=size[1], channels=channels, fit=config.fit or ("crop" if pretrained else "stretch"),
                             mean=(0.5,) * channels, std=(0.25,) * channels)  # fmt: skip
    if pretrained and pretrained.mean and pretrained.std:
        contract = replace(
            contract,
            mean=_for_channels(pretrained.mean, channels),
            std=_for_channels(pretrained.std, channels),
        )
    if contract.fit == "crop" and config.fit is None:
        hidden = statistics.fmean(contract.hidden(h, w) for h, w, _ in shapes)
        if hidden > 0.005:
            why.append(f"the middle of each, {1 - hidden:.0%} of its area (--fit pad or --fit stretch show all)")
    return contract, ", ".join(why)


def _larger(size: tuple[int, int]) -> tuple[int, int]:
    """A seventh more: weights learned from enlarged parts of pictures, so things were larger than in whole ones.

    Source: Touvron et al. 2019, arXiv 1906.06423; measured in docs/decisions/014-transfer.md.
    """
    return round(size[0] * 8 / 7), round(size[1] * 8 / 7)


def _require_channels(shapes: Sequence[tuple[int, int, int]], channels: int, *, asked: bool) -> None:
    """Refuses pictures whose channels cannot become `channels`: all of them, or when these were not asked for, any."""
    counts = Counter(c for _, _, c in shapes)
    fitting = sum(n for c, n in counts.items() if not PixelContract(height=1, width=1, channels=channels).misfit(c))
    if fitting == len(shapes) or (asked and fitting):
        return
    found = ", ".join(f"{n} with {c}" for c, n in sorted(counts.items()))
    asking = f"--channels is {channels}" if asked else "a network takes in one number of them"
    raise DataError(
        f"The channels of the pictures do not fit together (of {len(shapes)} that were tried: {found}), and {asking}; only 1 "
        "(grey) and 3 (RGB) become each other. Bring all pictures to the same channels, or say which to use with "
        f"--channels {max(counts, key=lambda c: counts[c])}: the others are then left out, and named."
    )


def require_model(model: str, contract: PixelContract, num_classes: int) -> None:
    """Raises UnknownNameError, SpecError or ShapeError when the asked network cannot be: before any picture is read.

    A network as text must also be one whose layers can all learn.
    """
    if model != "auto":
        architecture, shape = find_architecture(model), (contract.channels, contract.height, contract.width)
        outline(architecture, input_shape=shape, num_classes=max(num_classes, 2))
        if architecture.family == "spec":
            require_gradients(parse_spec(architecture.name), input_shape=shape)


def require_policy(policy: str, contract: PixelContract) -> None:
    """Raises UnknownNameError or ConfigError when the asked augmentation cannot be: before any picture is read."""
    if policy != "auto":
        parse_policy(policy).require(contract.height, contract.width, contract.channels)


def with_statistics(contract: PixelContract, pictures: Pictures) -> PixelContract:
    """The contract with mean and standard deviation of (at most 5,000) training pictures, per channel."""
    some = pictures.subset(5000, seed=0)
    pixels = some.pixels[some.indices].reshape(-1, contract.channels)
    let_go(pictures.pixels)
    levels = np.arange(256) / 255
    shares = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T]) / len(pixels)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    return replace(contract, mean=tuple(round(float(m), 4) for m in mean),
                   std=tuple(round(max(float(s), 0.01), 4) for s in std))  # fmt: skip


def choose_architecture(
    model: str, *, pretrained: Pretrained | None, contract: PixelContract, num_classes: int, num_pictures: int,
    config: TrainConfig, seconds_left: float | None, device: torch.device,
) -> tuple[Architecture, str]:  # fmt: skip
    """The network, and why."""
    if pretrained:
        return pretrained.architecture, f"the network of the weights {pretrained.file.name}"
    if model != "auto":
        return find_architecture(model), "as asked"
    if max(contract.height, contract.width) > 2 * _SMALL:
        return find_architecture("resnet18"), "large pictures without pretrained weights (--weights would help most)"
    if seconds_left is None:
        return Architecture("fastnet", _fastnet_name(DEFAULT_WIDTHS)), "small pictures and no time limit"
    input_shape = (contract.channels, contract.height, contract.width)
    base = Architecture("fastnet", _fastnet_name(DEFAULT_WIDTHS))
    module = build(base, input_shape=input_shape, num_classes=num_classes)
    batch = min(config.batch_size or default_batch(num_pictures, contract, device), num_pictures)
    speed = measure_speed(base, module, contract, batch, device, config)
    seconds = speed[fastest(speed)] / summarize(module, input_shape).macs  # a step's time by multiply-adds a picture
    for widths, fewest in _FASTNETS.items():
        architecture = Architecture("fastnet", _fastnet_name(widths))
        wider = outline(architecture, input_shape=input_shape, num_classes=num_classes)
        steps = seconds_left / (seconds * summarize(wider, input_shape).macs)
        if steps >= fewest:
            break
    return architecture, (
        f"small pictures; the widest fastnet for which there is time: about {steps:,.0f} steps of {batch} pictures"
        + f", and it needs {fewest:,}" * (fewest > 0)
    )


def default_batch(num_pictures: int, contract: PixelContract, device: torch.device) -> int:
    """Pictures a step: about thirty steps an epoch, between 32 and 256, a power of two; on a processor no more than
    _BATCH_PIXELS allow."""
    batch = int(2 ** np.clip(np.round(np.log2(max(num_pictures, 1) / 30)), 5, 8))
    while device.type == "cpu" and batch > 32 and batch * contract.height * contract.width > _BATCH_PIXELS:
        batch //= 2
    return batch


def plan_recipe(
    architecture: Architecture, module: nn.Module, train: Pictures, *, contract: PixelContract, classes: Sequence[str],
    config: TrainConfig, pretrained: bool, seconds_left: float | None, device: torch.device, task: Task = ONE_CLASS,
) -> tuple[Recipe, list[str]]:  # fmt: skip
    """The recipe, and sentences that say what was measured or derived."""
    why = []
    batch = min(config.batch_size or default_batch(len(train), contract, device), len(train))
    speed = measure_speed(architecture, module, contract, batch, device, config)
    precision, channels_last = fastest(speed)
    seconds_a_step = speed[precision, channels_last]
    why.append("precision: " + ", ".join(
        f"{p}{' channels-last' if c else ''} {batch / s:,.0f} pictures/s" for (p, c), s in speed.items()))  # fmt: skip

    steps_per_epoch = -(-len(train) // batch)
    epochs = config.epochs or (60 if len(train) < 5000 else 20)
    steps = max(1, round(epochs * steps_per_epoch))
    max_steps, validate_every = steps, 1
    if seconds_left is not None:
        validate_every = 1 if config.patience else _VALIDATE_EVERY
        max_steps = steps if config.epochs else 5 * steps
        steps = max(1, min(max_steps, int(seconds_left / (seconds_a_step * 1.08))))  # validation and data take the rest
    why.append(f"{steps / steps_per_epoch:.3g} epochs of {steps_per_epoch} steps with {batch} pictures")

    optimizer = config.optimizer or ("muon" if architecture.family == "fastnet" else "adamw")
    if optimizer == "muon" and architecture.family != "fastnet":
        raise ConfigError(
            f"--optimizer muon is for fastnet, whose filters all stand before batch norms, and the network is {architecture}. "
            "Use sgd or adamw."
        )
    rate, decay = _rate_and_decay(optimizer, batch, architecture, module, pretrained)
    rate = rate if config.learning_rate is None else config.learning_rate
    decay = decay if config.weight_decay is None else config.weight_decay
    augmentation, tests = choose_augmentation(config.augment, train, seed=config.seed, task=task)
    why.extend(tell_augmentation(augmentation, tests, task.strata_names(task.unscaled(train.labels), classes)))
    smoothing = config.label_smoothing
    if smoothing is None:
        smoothing = 0.2 if architecture.family == "fastnet" and len(train) >= 5000 else 0.1
        smoothing = smoothing if task.kind == CLASS else 0.0  # a label's probability is to be believed as it is
    weights = None
    if config.balance == "weights":
        weights = balanced_weights(train.labels[train.indices], len(classes))
        why.append(f"a picture of the rarest class weighs {max(weights):.3g} in the loss, of the most frequent "
                   f"{min(w for w in weights if w):.3g}")  # fmt: skip
    if config.balance == "sampler":
        why.append(
            "pictures are drawn so that every class is seen equally often; those of rare classes return within an epoch"
        )
    if config.balance == "focal":
        why.append("focal loss: a picture counts by how far its answer is from right, squared")
    recipe = Recipe(
        steps=steps, max_steps=max_steps, batch_size=batch, optimizer=optimizer, learning_rate=rate,
        weight_decay=decay, momentum=config.momentum, warmup=config.warmup, label_smoothing=smoothing,
        average_steps=steps if config.ema else 0, clip=config.clip,
        class_weights=weights,
        patience=config.patience, augmentation=augmentation,
        precision=precision, channels_last=channels_last, seed=config.seed, validate_every=validate_every,
        compiled=device.type == "cuda" and steps * seconds_a_step > _COMPILING_PAYS,
        balance=config.balance,
    )  # fmt: skip
    return recipe, why


def _rate_and_decay(
    optimizer: str, batch: int, architecture: Architecture, module: nn.Module, pretrained: bool
) -> tuple[float, float]:
    """Peak learning rate and weight decay.

    For sgd and muon: of fastnet those of airbench94 (11.5 and 0.0153 per 1,024 pictures, decoupled), written for the mean loss of a
    batch: rate 1.5 at batch 1,024 and momentum 0.85; of other networks with batch norm those of He et al. 2016, of those
    without it those of Krizhevsky et al. 2012, a tenth of both for pretrained weights.
    """
    if optimizer == "adamw":
        return (2e-4 if pretrained else 3e-3) * (batch / 512) ** 0.5, 0.02
    if architecture.family == "fastnet":
        return 1.5 * batch / 1024, 0.0153 / 11.5
    has_norms = any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
    rate, decay = (0.1 * batch / 256, 1e-4) if has_norms else (0.01 * batch / 128, 5e-4)
    return rate / 10 if pretrained else rate, decay


def choose_augmentation(
    policy: str, train: Pictures, *, seed: int, task: Task = ONE_CLASS
) -> tuple[Augmentation, tuple[MeaningTest, ...]]:
    """The augmentation of a policy's text for these pictures, and what was measured about its transforms.

    'auto' is a shift by up to a sixteenth of the side, and flips where mirrored pictures keep their meaning.
    Raises as `parse_policy` and `Policy.require` do.
    """
    some = train.subset(1000, seed=seed)
    pixels = some.pixels[some.indices]
    augmentation = Augmentation("flip") if policy == "auto" else measured(parse_policy(policy), pixels)
    tests = meaning_tests(train.pixels, task.strata(train.labels), train.indices, augmentation, seed=seed)
    if policy == "auto":
        side = min(pixels.shape[1:3])
        words = ["flip"] * any(test.keeps_meaning for test in tests) + [f"shift{max(1, round(side / 16))}"] * (side > 1)
        augmentation = Augmentation(" ".join(words) or "none")
    return augmentation, tests


def tell_augmentation(augmentation: Augmentation, tests: Sequence[MeaningTest], classes: Sequence[str]) -> list[str]:
    """The policy, and a sentence for each test; a transform that is in use and may change the meaning is warned of."""
    used = parse_policy(augmentation.policy)
    lines = [
        f"augmentation: {augmentation.policy}"
        + ("" if tests else "; too few pictures to measure what it does to their meaning")
    ]
    for test in tests:
        warning = not test.keeps_meaning and test.transform.rstrip(".0123456789") in used
        lines.append(f"{'warning: ' if warning else ''}{test.tell(classes)}")
    return lines


def _fastnet_name(widths: tuple[int, ...]) -> str:
    return "fastnet-" + "-".join(map(str, widths))


def _for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Per-channel numbers for another channel count: the same where it fits, else their mean."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
