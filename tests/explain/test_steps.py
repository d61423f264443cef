"""One number of a layer worked out: against torch in double precision, against worked examples, and what cannot be told."""

from __future__ import annotations

import copy
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.task import LABELS, NUMBER, Task
from pellucid.errors import ConfigError, PictureError, UnknownNameError
from pellucid.explain.layers import passes
from pellucid.explain.steps import Step, position_of, work_out
from pellucid.explain.steps_figure import draw_step
from pellucid.model.calibration import Calibration
from pellucid.model.classifier import Classifier
from pellucid.model.modules import ResidualBlock
from pellucid.model.modules import Step as Threshold
from pellucid.model.zoo import Architecture, build, find_architecture


def classifier_of(module: nn.Module, height: int = 11, width: int = 9, channels: int = 4, **more: object) -> Classifier:
    contract = PixelContract(height, width, channels=channels)
    return Classifier(module.eval(), ("a", "b", "c"), contract, Architecture("spec", "dense3"), **more)


def network(text: str, side: int, channels: int = 3) -> Classifier:
    torch.manual_seed(0)
    architecture = find_architecture(text)
    module = build(architecture, input_shape=(channels, side, side), num_classes=3)
    return Classifier(module.eval(), ("a", "b", "c"), PixelContract(side, side, channels=channels), architecture)


def photo(height: int = 11, width: int = 9, channels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def norm(kind: type[nn.Module], *arguments: object) -> nn.Module:
    """A norm with numbers of its own, and statistics where it keeps them."""
    module = kind(*arguments)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2.0) if "var" in name else nn.init.normal_(tensor)
    return module


class Same(nn.Conv2d):
    """Pads by hand before it convolves, as timm's networks from TensorFlow do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(nn.functional.pad(x, (1, 2, 0, 1)), self.weight, self.bias, 2)


class Shuffled(nn.Module):
    """A convolution whose output goes through moves and an activation that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x.flip(3))
        y = y.view(len(y), 2, 4, *y.shape[2:]).transpose(1, 2).flatten(1, 2)
        return torch.cat([y, -y[:, :2]], 1)[:, 1:9].relu_()


torch.manual_seed(2)  # else the weights depend on which test files were read before
LAYERS = {
    "plain": nn.Conv2d(4, 5, 3),
    "strided": nn.Conv2d(4, 5, (5, 2), stride=(2, 3), padding=(2, 1)),
    "dilated": nn.Conv2d(4, 5, (2, 3), dilation=(3, 2), padding=1, bias=False),
    "grouped": nn.Conv2d(4, 6, 3, groups=2, padding="same"),
    "depthwise": nn.Conv2d(4, 8, 3, groups=4),
    "reflecting": nn.Conv2d(4, 5, 3, padding=2, padding_mode="reflect"),
    "replicating": nn.Conv2d(4, 5, 3, padding=1, padding_mode="replicate"),
    "circular": nn.Conv2d(4, 5, 3, padding=1, padding_mode="circular"),
    "same": Same(4, 5, 4),
    "shuffled": Shuffled(),
    "max": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max-dilated": nn.MaxPool2d((2, 3), 1, dilation=2),
    "average": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average-inside": nn.AvgPool2d((3, 2), 2, 1, count_include_pad=False, ceil_mode=True),
    "average-divisor": nn.AvgPool2d(2, divisor_override=7),
    "adaptive": nn.AdaptiveAvgPool2d((4, 2)),
    "adaptive-max": nn.AdaptiveMaxPool2d((4, 2)),
    "global": nn.AdaptiveAvgPool2d(1),
    "batch-norm": norm(nn.BatchNorm2d, 4),
    "batch-norm-plain": nn.BatchNorm2d(4, affine=False, track_running_stats=False),
    "instance-norm": norm(nn.InstanceNorm2d, 4),
    "group-norm": norm(nn.GroupNorm, 2, 4),
    "layer-norm": norm(nn.LayerNorm, (4, 11, 9)),
    "relu": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "leaky": nn.LeakyReLU(0.2),
    "elu": nn.ELU(1.5),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "gelu-tanh": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(inplace=True),
    "mish": nn.Mish(),
    "sigmoid": nn.Sigmoid(),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(2, 3),
    "step": Threshold(),
    "softmax": nn.Softmax(1),
    "flatten": nn.Flatten(),
    "dropout": nn.Dropout(),
    "zeros": nn.ZeroPad2d(2),
    "shuffle": nn.PixelShuffle(2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_is_worked_out_as_torch_does_in_double_precision(name: str) -> None:
    torch.manual_seed(1)
    layer = LAYERS[name]
    classifier = classifier_of(nn.Sequential(nn.Identity(), layer))
    x = classifier.contract.tensor(photo()[None])
    expected = copy.deepcopy(layer).double()(x.double())[0].detach()
    rng = np.random.default_rng(0)
    for _ in range(6):
        at = tuple(int(rng.integers(side)) for side in expected.shape)
        step = work_out(classifier, photo(), "1", channel=at[0], at=at[1:] or None)
        assert step.position == at
        before = max((work.scale for work in step.works[:-1]), default=0.0)  # what torch rounds to 32 bits on the way
        assert step.value == pytest.approx(float(expected[at]), rel=1e-6, abs=max(1e-9, before * 2**-22))
        assert step.difference < 1e-5


def test_the_terms_of_a_convolution_add_up_and_say_where_they_stood() -> None:
    conv = nn.Conv2d(4, 5, (3, 2), stride=2, padding=1)
    classifier = classifier_of(nn.Sequential(conv))
    step = work_out(classifier, photo(), "0", channel=3, at=(0, 2))
    found = step.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert len(found["terms"]) == 4 * 3 * 2
    x = classifier.contract.tensor(photo()[None])[0].double()
    for i, term in enumerate(found["terms"]):
        channel, row, column = np.unravel_index(i, (4, 3, 2))
        assert term["weight"] == pytest.approx(float(conv.weight.detach()[3, channel, row, column]))
        place = [int(channel), int(row) - 1, 4 + int(column) - 1]
        assert term["at"] == (None if row == 0 else place), "the first row is padding"
        assert term["input"] == (0 if row == 0 else float(x[tuple(place)]))
        assert term["product"] == pytest.approx(term["weight"] * term["input"])
    assert found["sum"] == pytest.approx(sum(term["product"] for term in found["terms"]))
    assert found["value"] == pytest.approx(found["sum"] + found["bias"])
    assert found["torch"] == pytest.approx(found["value"], rel=1e-5)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_terms_of_a_padded_map_stand_where_their_numbers_come_from(mode: str) -> None:
    classifier = classifier_of(nn.Sequential(nn.Conv2d(4, 2, 3, padding=1, padding_mode=mode)))
    x = classifier.contract.tensor(photo()[None])[0].double()
    step = work_out(classifier, photo(), "0", channel=0, at=(0, 8))
    assert step.main.sources == ("input",)
    assert all(term["input"] == float(x[tuple(term["at"])]) for term in step.main.terms())


def test_the_worked_examples_of_teaching_come_out() -> None:
    smooth, edge = nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 3, bias=False)
    nn.init.ones_(smooth.weight)
    with torch.no_grad():
        edge.weight.copy_(torch.tensor([[[[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]]]))
    patch = np.array([[134, 134, 117], [153, 144, 141], [152, 154, 150]], np.uint8)
    levels = PixelContract(3, 3, channels=1, mean=(0.0,), std=(1 / 255,))  # the network is given the levels themselves
    step = work_out(Classifier(nn.Sequential(edge), ("a", "b"), levels, Architecture("spec", "dense2")), patch, "0")
    assert step.value == pytest.approx(138, abs=1e-3)
    image = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]], np.uint8)
    five = PixelContract(5, 5, channels=1, mean=(0.0,), std=(1 / 255,))
    with torch.no_grad():
        smooth.weight.copy_(torch.tensor([[[[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]]]))
    classifier = Classifier(nn.Sequential(smooth), ("a", "b"), five, Architecture("spec", "dense2"))
    found = [[work_out(classifier, image, "0", channel=0, at=(y, x)).value for x in range(3)] for y in range(3)]
    assert np.allclose(found, [[4, 3, 4], [2, 4, 3], [2, 3, 4]], atol=1e-4)


def test_max_pooling_says_which_one_won() -> None:
    image = np.array([[1, 0, 2, 3], [4, 6, 6, 8], [3, 1, 1, 0], [1, 2, 2, 4]], np.uint8)
    levels = PixelContract(4, 4, channels=1, mean=(0.0,), std=(1 / 255,))
    classifier = Classifier(
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 1)), ("a", "b"), levels, Architecture("spec", "dense2")
    )
    values = [[work_out(classifier, image, "0", channel=0, at=(y, x)).value for x in (0, 1)] for y in (0, 1)]
    assert np.allclose(values, [[6, 8], [3, 4]], atol=1e-5)
    work = work_out(classifier, image, "0", channel=0, at=(0, 1)).main
    assert work.places[work.winner].tolist() == [0, 1, 3]
    assert "row 1, column 3" in work.formula


def test_batch_norm_shows_the_running_statistics() -> None:
    layer = norm(nn.BatchNorm2d, 4)
    step = work_out(classifier_of(nn.Sequential(layer)), photo(), "0", channel=2, at=(1, 1))
    for number in (layer.running_mean[2], layer.running_var[2], layer.weight[2], layer.bias[2]):
        assert f"{abs(float(number.detach())):.6g}" in step.main.formula
    assert step.main.terms()[0]["weight"] == pytest.approx(
        float(layer.weight.detach()[2] / (layer.running_var[2] + layer.eps) ** 0.5)
    )


def test_a_block_that_adds_names_both_terms_and_what_comes_after() -> None:
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), norm(nn.BatchNorm2d, 4))
    block = nn.Sequential(ResidualBlock(body, nn.Identity()), nn.ReLU())
    classifier = classifier_of(nn.Sequential(block))
    found = passes(classifier, classifier.contract.tensor(photo()[None]))
    step = work_out(classifier, photo(), "0", channel=1, at=(4, 5))
    total, relu = step.works
    assert total.sources == ("0.0.body.1", "input")
    assert total.inputs.tolist() == [
        float(found["0.0.body"].output[0, 1, 4, 5]),
        float(found["0"].inputs[0][0, 1, 4, 5]),
    ]
    assert relu.operation == "ReLU"
    assert step.value == max(0.0, float(np.float32(total.value)))
    assert step.looked.size == (3, 3)


def test_a_library_block_is_followed_to_its_sum() -> None:
    step = work_out(network("resnet18", 32), photo(32, 32, 3), "layer1.0")
    assert [work.operation for work in step.works] == ["sum of two", "ReLU"]
    assert step.main.sources == ("layer1.0.bn2", "input")


# ---------------------------------------------------------------- the answer


def test_the_answer_is_that_of_the_classifier_with_all_that_is_done_to_the_logits() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4 * 11 * 9, 3))
    classifier = classifier_of(
        module, mirror=True, offsets=(0.5, -0.2, 0.1), calibration=Calibration((0.7, 1.1, 0.9), (0.1, 0.0, -0.3), 99)
    )
    expected = classifier.predict_proba(photo()[None])[0]
    for k in range(3):
        step = work_out(classifier, photo(), "answer", channel=k)
        assert [work.operation.split()[0] for work in step.works] == ["mean", "calibration,", "softmax"]
        assert step.value == pytest.approx(float(expected[k]), rel=1e-5)
        assert step.difference < 1e-5
        assert step.main.sum == pytest.approx(step.main.products.sum())
    assert work_out(classifier, photo(), "answer").position == (int(expected.argmax()),)


def test_the_answers_of_labels_and_numbers() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4 * 11 * 9, 3))
    several = classifier_of(module, task=Task(LABELS))
    expected = several.predict_proba(photo()[None])[0]
    assert work_out(several, photo(), "answer", channel=1).value == pytest.approx(float(expected[1]), rel=1e-5)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4 * 11 * 9, 1))
    number = classifier_of(module, task=Task(NUMBER, mean=20.0, std=3.0))
    expected = number.predict_proba(photo()[None])[0]
    assert work_out(number, photo(), "answer").value == pytest.approx(float(expected[0]), rel=1e-5)


# ---------------------------------------------------------------- positions, text, picture


def test_what_is_left_open_is_where_the_output_is_largest() -> None:
    classifier = network("conv6 relu pool dense5", 12)
    output = passes(classifier, classifier.contract.tensor(photo(12, 12, 3)[None]))["conv1"].output[0]
    assert work_out(classifier, photo(12, 12, 3)).torch == float(output.max())
    step = work_out(classifier, photo(12, 12, 3), "conv1", channel=2)
    assert (step.position[0], step.torch) == (2, float(output[2].max()))
    assert work_out(classifier, photo(12, 12, 3), "conv1", at=(1, 2)).torch == float(output[:, 1, 2].max())


def test_where_it_looked_is_clipped_at_the_border() -> None:
    classifier = network("conv4,psame conv4,psame,s2", 12)
    corner = work_out(classifier, photo(12, 12, 3), "conv2", channel=0, at=(0, 0)).looked
    assert (corner.rows, corner.columns, corner.field, corner.clipped) == ((0, 2), (0, 2), (5, 5), True)
    inside = work_out(classifier, photo(12, 12, 3), "conv2", channel=0, at=(3, 2)).looked
    assert (inside.rows, inside.columns, inside.jump, inside.clipped) == ((4, 8), (2, 6), (2, 2), False)


def test_what_lies_outside_of_where_it_looked_changes_nothing() -> None:
    classifier = network("resnet18", 64)
    picture = photo(64, 64, 3)
    step = work_out(classifier, picture, "layer1.1", channel=7, at=(3, 12))
    (top, bottom), (left, right) = step.looked.rows, step.looked.columns
    around = photo(64, 64, 3, seed=1)
    around[top : bottom + 1, left : right + 1] = picture[top : bottom + 1, left : right + 1]
    assert work_out(classifier, around, "layer1.1", channel=7, at=(3, 12)).torch == pytest.approx(step.torch, rel=1e-5)


def test_the_text_shows_windows_for_maps_and_terms_for_vectors() -> None:
    classifier = network("conv6,psame relu pool dense5", 12)
    text = str(work_out(classifier, photo(12, 12, 3), "conv1", channel=4, at=(0, 3)))
    assert "conv1 (Conv2d): channel 4, row 0, column 3 of 6x12x12" in text
    assert "looks at rows 0 to 1 and columns 2 to 4 of the picture" in text
    assert text.count("input, channel") == 3
    assert "pad" in text
    assert "bias" in text
    text = str(work_out(classifier, photo(12, 12, 3), "dense1"))
    assert "dense, 216 inputs" in text
    assert "206 others" in text
    assert "looks at the whole picture" in text


@pytest.mark.parametrize("layer", ["conv1", "relu1", "pool1", "flatten1", "dense1", "answer", "conv2"])
def test_the_picture_shows_pixels_enlarged_by_whole_numbers(layer: str) -> None:
    classifier = network("conv6,k9,psame relu pool conv8,k1 dense5", 12)
    step = work_out(classifier, photo(12, 12, 3), layer)
    drawn = np.asarray(Image.open(io.BytesIO(draw_step(step))).convert("RGB"))
    factor = next(f for f in range(60, 0, -1) if _stands_in(np.repeat(np.repeat(step.picture, f, 0), f, 1), drawn))
    assert factor >= 20


def _stands_in(picture: np.ndarray, drawn: np.ndarray) -> bool:
    """Whether most of `picture` stands somewhere in `drawn`; a frame may cover some of it."""
    height, width = picture.shape[:2]
    if height > drawn.shape[0] or width > drawn.shape[1]:
        return False
    return any(
        (drawn[y : y + height, x : x + width] == picture).all(2).mean() > 0.8
        for y, x in zip(
            *np.nonzero((drawn[: 1 - height or None, : 1 - width or None] == picture[0, 0]).all(2)), strict=True
        )
        if (drawn[y : y + height : height - 1, x : x + width : width - 1] == picture[:: height - 1, :: width - 1]).all()
    )


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "conv9"}, UnknownNameError, r"no layer 'conv9'.*conv1"),
        (
            {"layer": "conv1", "channel": 6},
            ConfigError,
            r"channel 6 of 'conv1' is out of range.*6x10x10.*channel 0 to 5",
        ),
        ({"layer": "conv1", "channel": -1}, ConfigError, "out of range"),
        ({"layer": "conv1", "at": (3, 10)}, ConfigError, r"column 10.*column 0 to 9"),
        ({"layer": "conv1", "at": (3,)}, ConfigError, r"--at has 1 numbers.*channel, row, column.*2 numbers or all 3"),
        ({"layer": "dense1", "at": (3, 4)}, ConfigError, r"output of 'dense1' is 5"),
        ({"layer": "answer", "channel": 3}, ConfigError, r"class 3 is out of range.*0 to 2"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        work_out(network("conv6 relu pool dense5", 12), photo(12, 12, 3), **arguments)


def test_a_picture_of_other_channels_is_told() -> None:
    with pytest.raises(PictureError, match="channels: 2, but expected 3"):
        work_out(network("conv6 relu", 12), photo(12, 12, 2))


@pytest.mark.parametrize("text", ["5", "-1,2", "1,2,3"])
def test_a_position_is_read(text: str) -> None:
    assert position_of(text) == tuple(map(int, text.split(",")))
    with pytest.raises(ConfigError, match="a row and a column"):
        position_of(text + "x")


def test_a_network_without_convolution_shows_its_first_layer() -> None:
    step = work_out(network("dense8 relu", 8, channels=1), photo(8, 8, 1))
    assert (step.layer, step.looked.size) == ("flatten1", (8, 8)) or step.layer == "flatten1"
    assert work_out(network("dense8 relu", 8, channels=1), photo(8, 8, 1), "dense1").looked.size == (8, 8)


class Attends(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_cannot_be_told_as_one_sum_and_its_neighbors_can() -> None:
    with pytest.raises(
        ConfigError, match=r"'0' ends in torch's operation .*attention.*weighs all positions.*dense layers"
    ):
        work_out(classifier_of(nn.Sequential(Attends(), nn.ReLU())), photo(), "0")


@pytest.mark.slow
def test_what_works_in_a_transformer() -> None:
    vit = network("vit_tiny_patch16_224", 32)
    for layer in ("patch_embed.proj", "blocks.0.norm1", "blocks.0.attn.qkv", "blocks.0.attn", "blocks.0", "answer"):
        step: Step = work_out(vit, photo(32, 32, 3), layer)
        assert step.difference < 1e-5
