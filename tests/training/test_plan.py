"""What is decided where a setting was left open, and that every setting that was given is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pellucid.config import DataConfig, TrainConfig
from pellucid.data.augment import Augmentation
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import from_arrays, open_dataset
from pellucid.data.loader import Pictures
from pellucid.errors import ConfigError, DataError
from pellucid.model.pretrained import Pretrained
from pellucid.model.zoo import Architecture, build
from pellucid.training import plan
from pellucid.training.loop import Recipe
from pellucid.training.plan import (
    are_photographs,
    choose_architecture,
    choose_augmentation,
    choose_contract,
    default_batch,
    plan_recipe,
    require_policy,
    sample_shapes,
    tell_augmentation,
    with_statistics,
)

CPU = torch.device("cpu")
GREY = PixelContract(height=8, width=8, channels=1)
FASTNET = Architecture("fastnet", "fastnet-4")


def pretrained(
    size: tuple[int, int] | None = (160, 160),
    mean: tuple[float, ...] | None = (0.2, 0.4, 0.9),
    std: tuple[float, ...] | None = (0.1, 0.2, 0.3),
) -> Pretrained:
    return Pretrained(Path("weights.safetensors"), Architecture("timm", "resnet18"), size, mean, std, "somewhere")


@pytest.fixture
def pictures(digits: tuple[np.ndarray, np.ndarray]) -> Pictures:
    """The first 500 digits."""
    return Pictures(digits[0][..., None], digits[1], np.arange(500))


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what measuring would find: seconds a step by (precision, channels_last)."""

    def know(**seconds: float) -> None:
        found = {(name, True): value for name, value in seconds.items()}
        monkeypatch.setattr(plan, "measure_speed", lambda *_: found)

    return know


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(8, 8, 1)], (8, 8)),
        ([(50, 40, 3)] * 3, (50, 40)),
        ([(96, 96, 3)], (96, 96)),
        ([(97, 20, 3)], (128, 128)),
        ([(480, 640, 3)] * 9, (128, 128)),
        ([(30, 20, 3), (32, 24, 3), (900, 900, 3)], (32, 24)),  # the median: one large picture decides nothing
    ],
)
def test_small_pictures_keep_their_size_and_photos_get_128(
    shapes: list[tuple[int, int, int]], size: tuple[int, int]
) -> None:
    contract, _ = choose_contract(shapes, DataConfig(), None)
    assert (contract.height, contract.width) == size
    assert contract.fit == "stretch"


@pytest.mark.parametrize(
    ("shapes", "asked", "channels"),
    [
        ([(8, 8, 1)] * 3, None, 1),
        ([(8, 8, 3)] * 3, None, 3),
        ([(8, 8, 1), (8, 8, 3)], None, 3),
        ([(8, 8, 1)], 3, 3),
        ([(8, 8, 3)], 1, 1),
        ([(8, 8, 5)], None, 5),
    ],
)
def test_grey_stays_one_channel(shapes: list[tuple[int, int, int]], asked: int | None, channels: int) -> None:
    contract, _ = choose_contract(shapes, DataConfig(channels=asked), None)
    assert contract.channels == channels


@pytest.mark.parametrize(
    ("channels", "asked", "told"),
    [
        ([3, 5, 5], None, "1 with 3, 2 with 5.*--channels 5"),
        ([1, 2], None, "1 with 1, 1 with 2"),
        ([1, 3, 4], None, "1 with 1, 1 with 3, 1 with 4"),
        ([5, 5], 3, "2 with 5.*--channels is 3"),
    ],
)
def test_channels_that_do_not_fit_together_are_refused(channels: list[int], asked: int | None, told: str) -> None:
    with pytest.raises(DataError, match=told):
        choose_contract([(8, 8, c) for c in channels], DataConfig(channels=asked), None)


def test_channels_that_were_asked_for_need_not_be_those_of_every_picture() -> None:
    """The others are left out, and named, when the pictures are packed."""
    contract, _ = choose_contract([(8, 8, 5), (8, 8, 3)], DataConfig(channels=5), None)
    assert contract.channels == 5


def test_weights_bring_their_size_and_statistics() -> None:
    contract, why = choose_contract([(170, 200, 3)], DataConfig(), pretrained())
    assert (contract.height, contract.width) == (160, 160)
    assert (contract.mean, contract.std) == ((0.2, 0.4, 0.9), (0.1, 0.2, 0.3))
    assert "the size that the weights were trained with" in why
    small, _ = choose_contract([(8, 8, 3)], DataConfig(), pretrained())
    assert (small.height, small.width) == (160, 160)


def test_weights_see_the_middle_of_large_photographs_a_seventh_larger_and_how_much_of_it_is_told() -> None:
    contract, why = choose_contract([(480, 640, 3)], DataConfig(), pretrained())
    assert (contract.height, contract.width, contract.fit) == (183, 183, "crop")
    assert "75% of its area" in why  # 480 of 640 columns
    for asked in ("stretch", "pad"):
        other, why = choose_contract([(480, 640, 3)], DataConfig(fit=asked), pretrained())
        assert other.fit == asked
        assert "area" not in why
    _, why = choose_contract([(480, 480, 3)], DataConfig(), pretrained())
    assert "area" not in why  # nothing is hidden


@pytest.mark.parametrize(
    ("shapes", "photographs"),
    [([(480, 640, 3)], True), ([(480, 640, 1)], True), ([(96, 96, 3)], False), ([(480, 640, 5)], False),
     ([(8, 8, 3), (8, 8, 3), (480, 640, 3)], False)],
)  # fmt: skip
def test_what_photographs_are(shapes: list[tuple[int, int, int]], photographs: bool) -> None:
    assert are_photographs(shapes) == photographs


def test_three_statistics_become_their_mean_for_grey() -> None:
    contract, _ = choose_contract([(8, 8, 1)], DataConfig(), pretrained())
    assert contract.mean == pytest.approx((0.5,))
    assert contract.std == pytest.approx((0.2,))


def test_what_is_asked_wins_over_weights_and_pictures() -> None:
    contract, why = choose_contract([(480, 640, 3)], DataConfig(size="48x64", fit="pad"), pretrained())
    assert (contract.height, contract.width, contract.fit) == (48, 64, "pad")
    assert "size as asked" in why


def test_shapes_are_those_of_readable_pictures() -> None:
    images = [np.zeros((8, 9), np.uint8), np.zeros((4, 5, 3), np.uint8)]
    assert sample_shapes(open_dataset((images, ["a", "b"]))) == [(8, 9, 1), (4, 5, 3)]


def test_unreadable_pictures_are_passed_over_unless_all_are(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "empty.png").touch()
    with pytest.raises(DataError, match="None of 2 pictures"):
        sample_shapes(open_dataset(tmp_path))


def test_statistics_are_those_of_numpy_over_the_training_pictures() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers((0, 50, 200), (100, 250, 256), (60, 7, 9, 3)).astype(np.uint8)
    rows = np.arange(0, 40)
    pixels[40:] = 255  # other parts, which must not count
    contract = with_statistics(
        PixelContract(height=7, width=9, channels=3), Pictures(pixels, np.zeros(60, np.int64), rows)
    )
    levels = pixels[:40].astype(np.float64) / 255
    assert contract.mean == pytest.approx(levels.mean((0, 1, 2)), abs=1e-4)
    assert contract.std == pytest.approx(levels.std((0, 1, 2)), abs=1e-4)


def test_pictures_of_one_level_get_no_deviation_of_zero() -> None:
    pixels = np.full((3, 8, 8, 1), 51, np.uint8)
    contract = with_statistics(GREY, Pictures(pixels, np.zeros(3, np.int64), np.arange(3)))
    assert contract.mean == (0.2,)
    assert contract.std == (0.01,)


def test_the_batch_is_a_power_of_two_near_a_thirtieth() -> None:
    for num_pictures in (1, 50, 1437, 10_000, 10_000_000):
        batch = default_batch(num_pictures, GREY, CPU)
        assert batch in (32, 64, 128, 256)
        if 32 < batch < 256:
            assert 30 / 2**0.5 <= num_pictures / batch <= 30 * 2**0.5


def test_a_batch_of_large_pictures_is_smaller_on_a_processor() -> None:
    sides = [default_batch(50_000, PixelContract(height=side, width=side), CPU) for side in (32, 50, 64, 128, 224)]
    assert sides == [256, 256, 128, 32, 32]
    assert default_batch(50_000, PixelContract(height=224, width=224), torch.device("cuda")) == 256


def architecture_for(
    model: str = "auto", *, contract: PixelContract = GREY, seconds_left: float | None = None,
    weights: Pretrained | None = None, num_pictures: int = 600, config: TrainConfig | None = None,
) -> str:  # fmt: skip
    architecture, _ = choose_architecture(
        model, pretrained=weights, contract=contract, num_classes=3, num_pictures=num_pictures,
        config=config or TrainConfig(batch_size=30), seconds_left=seconds_left, device=CPU,
    )  # fmt: skip
    return architecture.name


def test_the_network_without_a_time_limit() -> None:
    assert architecture_for() == "fastnet-16-64-64"
    assert architecture_for(contract=PixelContract(height=128, width=128)) == "fastnet-16-64-64"
    assert architecture_for(contract=PixelContract(height=224, width=224)) == "resnet18"
    assert architecture_for("mobilenetv2_100") == "mobilenetv2_100"
    assert architecture_for("auto", weights=pretrained(), seconds_left=1.0) == "resnet18"


def multiply_adds(name: str) -> int:
    """Of one picture, counted by torch."""
    module = build(Architecture("fastnet", name), input_shape=(1, 8, 8), num_classes=3).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 1, 8, 8))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("rank", range(5))
def test_the_widest_fastnet_that_gets_the_steps_it_needs(known_speed: Callable[..., None], rank: int) -> None:
    widths = ["64-256-256", "48-192-192", "32-128-128", "32-96-96", "16-64-64"]
    names = [f"fastnet-{each}" for each in widths]
    known_speed(fp32=0.004)  # of fastnet-16-64-64, by a batch of 30 pictures
    steps = [1600, 1200, 700, 350, 1][rank]
    enough = steps * 0.004 * multiply_adds(names[rank]) / multiply_adds("fastnet-16-64-64")
    assert architecture_for(seconds_left=1.02 * enough) == names[rank]
    assert architecture_for(seconds_left=0.98 * enough) == names[min(rank + 1, 4)]


def test_the_fastest_precision_sets_the_pace(known_speed: Callable[..., None]) -> None:
    known_speed(fp32=0.004, bf16=0.001)
    needed = 1600 * 0.001 * multiply_adds("fastnet-64-256-256") / multiply_adds("fastnet-16-64-64")
    assert architecture_for(seconds_left=1.02 * needed) == "fastnet-64-256-256"


def recipe_for(
    pictures: Pictures, *, seconds_left: float | None = None, network: str = "fastnet-4",
    module: nn.Module | None = None, **settings: Any
) -> Recipe:  # fmt: skip
    config = TrainConfig(**settings)
    family = "fastnet" if network.startswith("fastnet") else "timm"
    recipe, why = plan_recipe(
        Architecture(family, network), module or nn.Identity(), pictures, contract=GREY, classes="0123456789", config=config,
        pretrained=False, seconds_left=seconds_left, device=CPU,
    )  # fmt: skip
    assert why
    return recipe


def test_every_setting_that_was_given_is_kept(pictures: Pictures, known_speed: Callable[..., None]) -> None:
    known_speed(bf16=0.01)
    recipe = recipe_for(
        pictures, epochs=2.5, batch_size=50, optimizer="adamw", learning_rate=0.0, weight_decay=0.0, momentum=0.0,
        warmup=0.0, label_smoothing=0.0, ema=False, clip=0.5, patience=7, augment="vflip flip color0.3", seed=42,
    )  # fmt: skip
    assert recipe == Recipe(
        steps=25, max_steps=25, batch_size=50, optimizer="adamw", learning_rate=0.0, weight_decay=0.0, momentum=0.0,
        warmup=0.0, label_smoothing=0.0, average_steps=0, clip=0.5, class_weights=None, patience=7,
        augmentation=Augmentation("flip vflip color0.3"), precision="bf16", channels_last=True, seed=42,
    )  # fmt: skip


def test_what_was_left_open(pictures: Pictures, known_speed: Callable[..., None]) -> None:
    known_speed(fp32=0.01)
    recipe = recipe_for(pictures)
    assert recipe.batch_size == 32
    assert recipe.steps == recipe.max_steps == recipe.average_steps == 60 * 16  # 500 pictures are 16 steps of 32
    assert (recipe.optimizer, recipe.label_smoothing) == ("muon", 0.1)
    assert recipe.augmentation == Augmentation("shift1")  # a mirrored 7 is no 7
    assert recipe_for(pictures, network="resnet18").optimizer == "adamw"


def test_sgd_takes_the_rate_of_the_network_it_trains(pictures: Pictures, known_speed: Callable[..., None]) -> None:
    known_speed(fp32=0.01)

    def rate(network: str, module: nn.Module) -> float:
        return recipe_for(pictures, network=network, module=module, optimizer="sgd", batch_size=256).learning_rate

    assert rate("fastnet-4", nn.Identity()) == pytest.approx(0.375)
    assert rate("resnet18", nn.BatchNorm2d(1)) == pytest.approx(0.1)  # He et al. 2016
    assert rate("vgg11", nn.Conv2d(1, 1, 1)) == pytest.approx(0.02)  # Krizhevsky et al. 2012


def test_a_batch_is_never_larger_than_the_training_part(pictures: Pictures, known_speed: Callable[..., None]) -> None:
    known_speed(fp32=0.01)
    few = Pictures(pictures.pixels, pictures.labels, np.arange(20))
    assert recipe_for(few, batch_size=512, epochs=3).batch_size == 20
    assert recipe_for(few, batch_size=512, epochs=3).steps == 3


def test_steps_fit_into_the_time(pictures: Pictures, known_speed: Callable[..., None]) -> None:
    known_speed(fp32=0.01)
    short = recipe_for(pictures, batch_size=50, seconds_left=1.0)
    assert 85 <= short.steps <= 100  # a hundred would leave nothing for validation
    assert short.max_steps == 5 * 60 * 10
    assert recipe_for(pictures, batch_size=50, seconds_left=1e-6).steps == 1
    asked = recipe_for(pictures, batch_size=50, epochs=3, seconds_left=1e6)
    assert asked.steps == asked.max_steps == 30


def test_balanced_weights_are_those_of_scikit_learn(pictures: Pictures, known_speed: Callable[..., None]) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    known_speed(fp32=0.01)
    some = Pictures(
        pictures.pixels,
        pictures.labels,
        np.flatnonzero((pictures.labels > 4) | (np.arange(len(pictures.labels)) < 300)),
    )
    labels = some.labels[some.indices]
    weights = recipe_for(some, balance="weights").class_weights
    assert weights is not None
    expected = compute_class_weight("balanced", classes=np.arange(10), y=labels)
    assert np.array(weights) / weights[0] == pytest.approx(expected / expected[0], rel=1e-4)


def test_pictures_that_mirroring_does_not_change_are_flipped(known_speed: Callable[..., None]) -> None:
    known_speed(fp32=0.01)
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    pixels = rng.integers(0, 60, (200, 8, 8, 1)).astype(np.uint8)
    pixels[labels == 1, :4] += 150  # bright above or not: left and right mean nothing
    assert recipe_for(Pictures(pixels, labels, np.arange(200))).augmentation.policy == "flip shift1"
    few = Pictures(pixels, labels, np.arange(40))  # too few to know
    assert recipe_for(few).augmentation.policy == "shift1"
    assert recipe_for(few, augment="flip").augmentation.policy == "flip"


def test_splits_decide_what_the_statistics_see(tmp_path: Path) -> None:
    import pellucid

    images = np.zeros((60, 8, 8), np.uint8)
    images[:] = np.random.default_rng(0).integers(0, 128, images.shape)
    images[40:] = np.random.default_rng(1).integers(128, 256, (20, 8, 8))
    splits = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    data = from_arrays(images, ["ab"[i % 2] for i in range(60)], splits=splits)
    run = pellucid.train(data, model="conv4 relu pool", epochs=1, precision="fp32", out=tmp_path / "run")
    contract = run.read()["contract"]
    assert contract["mean"] == pytest.approx([(images[:40] / 255).mean()], abs=1e-4)
    assert contract["std"] == pytest.approx([(images[:40] / 255).std()], abs=1e-4)


def test_an_asked_policy_is_measured_and_warned_of(pictures: Pictures) -> None:
    augmentation, tests = choose_augmentation("rotate180 brightness0.2 mixup0.2", pictures, seed=0)
    assert augmentation.policy == "rotate180 brightness0.2 mixup0.2"
    lines = tell_augmentation(augmentation, tests, "0123456789")
    assert lines[0] == "augmentation: rotate180 brightness0.2 mixup0.2"
    assert lines[1].startswith("warning: rotate180 may change the meaning: nearest neighbors are right on")
    assert lines[2].startswith("brightness0.2 keeps the meaning")
    auto, tests = choose_augmentation("auto", pictures, seed=0)
    assert not any("warning" in line for line in tell_augmentation(auto, tests, "0123456789"))  # it does not flip


@pytest.mark.parametrize(
    ("policy", "message"), [("cutout8", "leaves no picture"), ("hue0.1", "needs pictures in color")]
)
def test_an_impossible_policy_is_refused_before_pictures_are_read(policy: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_policy(policy, GREY)
    require_policy("auto", GREY)
