"""Settings, one frozen dataclass a stage.

The command line's flags are generated from these fields, and the run folder stores them; functions inside the package
take plain arguments. None means "derived": what was chosen in its place is printed and stored in the run as `plan`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pellucid.errors import ConfigError, UnknownNameError, nearest


def _option(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:  # noqa: A002
    return field(default=default, metadata={"help": help, "choices": choices})


def _check_choices(config: Any) -> None:
    for entry in fields(config):
        choices, value = entry.metadata["choices"], getattr(config, entry.name)
        if choices and value is not None and value not in choices:
            flag = "--" + entry.name.replace("_", "-")
            raise UnknownNameError(
                f"{flag} is '{value}'; it must be one of {', '.join(choices)}. {nearest(str(value), choices)}".rstrip()
            )


METRICS = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "average_precision": "mean average precision",
    "mae": "mean absolute error",
}  # in words


LABEL_SETS = ("lac", "aps")


@dataclass(frozen=True)
class CautionConfig:
    """When to keep silent, and what else to say than one answer."""

    abstain: float | None = _option(
        None, "Be wrong in at most this share of the answers, like 0.05: say 'not sure' where that cannot be promised."
    )
    sets: float | None = _option(
        None, "Name the classes that may be the true one: sets that hold it for this share of the pictures, like 0.9."
    )
    set_method: str = _option(
        "lac", "How sets are made: lac, the smallest ones; aps, larger ones for hard pictures.", LABEL_SETS
    )

    def __post_init__(self) -> None:
        _check_choices(self)
        for flag, value, example in (("--abstain", self.abstain, "0.05"), ("--sets", self.sets, "0.9")):
            if value is not None and not 0 < value < 1:
                raise ConfigError(f"{flag} is {value:g}; expected a share between 0 and 1, like {example}.")


@dataclass(frozen=True)
class DataConfig:
    """How to read the data set, split it and turn it into pixels."""

    path_column: str | None = _option(None, "Column of a table that holds the paths.")
    label_column: str | None = _option(None, "Column of a table that holds the labels.")
    task: str | None = _option(
        None,
        "What to learn: one class a picture, several labels at once, or a number.  [default: class, or labels when they "
        "have a separator]",
        ("class", "labels", "number"),
    )
    label_separator: str | None = _option(
        None, "What stands between several labels of one picture, like ';'; the word none is a picture without any."
    )
    split_column: str | None = _option(None, "Column of a table that holds train/validation/test.")
    group: str | None = _option(
        None,
        "What must stay on one side of a split: a column, or a regular expression on the path, like '(C[0-9]+)'; '' for nothing.",
    )
    root: str | None = _option(None, "Folder that the paths of a table start from.  [default: the table's own]")
    split: str | None = _option(
        None,
        "Make new splits with these shares, ignoring given ones.  [default: given splits, else 80/10/10]",
    )
    near: bool = _option(True, "Look for near duplicates, and keep them together in new splits.")
    size: str | None = _option(None, "Side of the network's input in pixels, like 64 or 48x64 (height x width).")
    channels: int | None = _option(
        None, "Channels of the network's input: 1 grey, 3 color, or as many as the pictures have."
    )
    fit: str | None = _option(
        None, "How a picture gets to that size; only crop hides anything.", ("stretch", "crop", "pad")
    )

    def __post_init__(self) -> None:
        _check_choices(self)
        self.fractions()
        self.input_size()
        if self.label_separator == "" or (self.label_separator and self.task in ("class", "number")):
            raise ConfigError(
                f"--label-separator is '{self.label_separator}' and --task {self.task or 'is not given'}; a separator is one or "
                "more characters and goes with --task labels. Leave one of them out."
            )
        if self.channels is not None and self.channels < 1:
            raise ConfigError(f"--channels is {self.channels}; it must be 1 (grey), 3 (color) or more.")

    def fractions(self) -> dict[str, float] | None:
        """The shares of `split` as fractions that sum to 1, or None when not asked for."""
        if self.split is None:
            return None
        found = re.fullmatch(r"[/,:]".join([r"\s*(\d*\.?\d+)\s*"] * 3), self.split)
        parts = [float(part) for part in found.groups()] if found else [0.0]
        if min(parts) <= 0:
            raise ConfigError(
                f"--split is '{self.split}'; expected three shares for train/validation/test that are all above zero, "
                "like 80/10/10."
            )
        return dict(zip(("train", "validation", "test"), (p / sum(parts) for p in parts), strict=True))

    def input_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels, or None when not asked for."""
        if self.size is None:
            return None
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", self.size.strip())
        if not found or not 1 <= int(found[1]) <= 4096 or not 1 <= int(found[2] or found[1]) <= 4096:
            raise ConfigError(
                f"--size is '{self.size}'; expected a side from 1 to 4096 pixels like 64, or height x width like 48x64."
            )
        return int(found[1]), int(found[2] or found[1])


@dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    model: str = _option(
        "auto",
        "A timm or torchvision name (resnet18), fastnet, or a network as text ('conv16 relu pool dense64 relu').",
    )
    weights: str | None = _option(
        None,
        "Pretrained weights: a .safetensors file, imagenet, or none.  [default: for photographs those in the weights folder]",
    )
    freeze: bool | None = _option(
        None,
        "Fit the last layer of pretrained weights and no other, or train all from the start.  [default: fit the last layer, "
        "then train the last third on if there is time]",
    )


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    epochs: float | None = _option(None, "Passes over the training pictures; 2.5 is two and a half.")
    time_limit: str | None = _option(None, "The whole command ends within this time: 90s, 10m, 1h.")
    batch_size: int | None = _option(None, "Pictures a step.")
    optimizer: str | None = _option(None, "Optimizer; muon is for fastnet.", ("sgd", "adamw", "muon"))
    learning_rate: float | None = _option(None, "Peak learning rate.")
    find_learning_rate: bool = _option(
        False, "Measure the peak learning rate on a short trial first, and draw the curve into the run."
    )
    weight_decay: float | None = _option(None, "Weight decay.")
    momentum: float = _option(0.85, "Nesterov momentum of sgd and muon.")
    warmup: float = _option(0.2, "Share of the steps in which the learning rate rises.")
    label_smoothing: float | None = _option(None, "Share of the target spread over all classes.")
    ema: bool = _option(True, "Average the weights over the last steps and keep the average.")
    clip: float | None = _option(None, "Limit of the gradient norm.")
    balance: str = _option(
        "none",
        "What is done for rare classes: weights in the loss, more draws (sampler), or the focal loss, which minds what is hard; the "
        "best weights are then those of the best macro-F1.",
        ("none", "weights", "sampler", "focal"),
    )
    prior: str = _option(
        "auto",
        "After --balance weights or sampler: answer as if classes were as frequent as in the data, or equally frequent; auto takes "
        "what has the better macro-F1 in validation.",
        ("auto", "data", "equal"),
    )
    patience: int | None = _option(None, "Stop after so many epochs without a better validation score.")
    augment: str = _option(
        "auto",
        "How training pictures are varied: none, or words like 'flip crop4 rotate15 color0.2 cutout8 mixup0.2'; auto shifts "
        "them a little, and flips them if that keeps their meaning, which it measures.",
    )
    precision: str = _option("auto", "auto measures which is faster here.", ("auto", "fp32", "bf16"))
    folds: int | None = _option(
        None, "Cross-validation: train so many times, and test each picture once, by a training that did not see it."
    )
    learning_curve: bool = _option(
        False, "Train on an eighth, a quarter, half and all of the training part: what more pictures would bring."
    )
    verdicts: str | None = _option(
        None, "The table that suspects wrote, with your verdicts about the labels filled in."
    )
    device: str = _option("auto", "Where to train.", ("auto", "cpu", "cuda", "mps"))
    seed: int = _option(0, "Seed of the splits, the first weights, the order and the augmentation.")
    deterministic: bool = _option(
        False, "The same bits each time on this kind of processor, however many cores it has; slower."
    )

    def __post_init__(self) -> None:
        _check_choices(self)
        self.seconds()
        for name, low, high in (
            ("epochs", 0, 1e6), ("batch_size", 1, 65536), ("learning_rate", 0, 1e3), ("weight_decay", 0, 1e3),
            ("momentum", 0, 1), ("warmup", 0, 1), ("label_smoothing", 0, 1), ("clip", 0, 1e9), ("patience", 1, 1e6),
            ("folds", 2, 100),
            ("seed", 0, 2**63 - 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag} is {value}; it must lie between {low:g} and {high:g}.")
        if self.epochs == 0:
            raise ConfigError("--epochs is 0; it must be above zero.")
        if self.folds and self.learning_curve:
            raise ConfigError(
                f"--folds is {self.folds} and --learning-curve is given; each is a series of trainings. Give one of the two."
            )
        if self.find_learning_rate and self.learning_rate is not None:
            raise ConfigError(
                f"--learning-rate is {self.learning_rate:g} and --find-learning-rate would measure it. Give one of the two."
            )
        if self.deterministic and self.time_limit is not None:
            raise ConfigError(
                f"--time-limit {self.time_limit} lets the clock decide how many steps there are, so the training cannot be "
                "--deterministic. Give --epochs instead of the limit."
            )

    def seconds(self) -> float | None:
        """The time limit in seconds, or None when there is none."""
        return None if self.time_limit is None else parse_duration(self.time_limit)


def parse_duration(text: str) -> float:
    """Seconds of '90', '90s', '1.5m', '10m', '1h' or '1h30m'."""
    number = r"(\d+(?:\.\d+)?)"
    plain = re.fullmatch(number, text.strip())
    parts = re.fullmatch(rf"(?:{number}\s*h)?\s*(?:{number}\s*m)?\s*(?:{number}\s*s)?", text.strip().lower())
    if plain:
        seconds = float(plain[1])
    else:
        seconds = (
            sum(float(p or 0) * unit for p, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0.0
        )
    if seconds <= 0:
        raise ConfigError(f"'{text}' is no time; write it like 90s, 10m or 1h30m.")
    return seconds


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON data of any of the dataclasses above."""
    return asdict(config)
