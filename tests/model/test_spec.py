"""Networks as text: what they mean, what torch makes of them, and what is said when they are wrong."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock

from pellucid.errors import ShapeError, SpecError
from pellucid.model.initialization import INITS
from pellucid.model.layer import Layer
from pellucid.model.residual import Residual
from pellucid.model.spec import Spec, build_spec, parse_spec, require_gradients

TEACHING = "conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu"
ACTIVATIONS = ("relu", "leakyrelu", "gelu", "silu", "tanh", "sigmoid", "softplus", "elu", "softmax", "step")


@st.composite
def sliding(draw):
    kind = draw(st.sampled_from(["conv", "pool", "avgpool"]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    if kind != "conv":
        padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
        return Layer(kind, kernel=kernel, stride=stride, padding=padding)
    groups = draw(st.sampled_from([1, 2]))
    return Layer(
        kind,
        outputs=groups * draw(st.integers(1, 4)),
        kernel=kernel,
        stride=stride,
        padding=draw(st.tuples(st.integers(0, 3), st.integers(0, 3))),
        dilation=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        groups=groups,
    )


anywhere = st.one_of(
    st.sampled_from(["bn", *ACTIVATIONS]).map(Layer),
    st.floats(1e-9, 0.999).map(lambda rate: Layer("dropout", rate=rate)),
)
odd = st.sampled_from([1, 3, 5])
# layers that give ceil(side / stride), so that a projection around any number of them fits
same_size = st.one_of(
    anywhere,
    st.just(Layer("pool", kernel=(3, 3), padding=(1, 1))),
    st.builds(
        lambda k, n, stride: Layer("conv", outputs=n, kernel=(k, k), stride=stride, padding=(k // 2, k // 2)),
        odd, st.integers(1, 4), st.tuples(st.integers(1, 2), st.integers(1, 2)),
    ),
)  # fmt: skip


def around(layers, *, project):
    return st.lists(layers, min_size=1, max_size=3).map(lambda inside: Residual(tuple(inside), project=project))


dense = st.integers(1, 9).map(lambda n: Layer("dense", outputs=n))
blocks_of_maps = st.recursive(same_size, lambda inner: around(inner, project=True), max_leaves=4)
on_maps = st.one_of(
    sliding(),
    anywhere,
    st.sampled_from(["globalpool", "globalmaxpool"]).map(Layer),
    blocks_of_maps,
    around(anywhere, project=False),
)
on_features = st.one_of(anywhere, dense, around(st.one_of(anywhere, dense), project=True))
flatten = st.sampled_from([(), (Layer("flatten"),)])
networks = st.builds(
    lambda maps, flat, features, init: Spec((*maps, *flat, *features), init),
    st.lists(on_maps, min_size=1, max_size=5),
    flatten,
    st.just([]) | st.builds(lambda first, more: [first, *more], dense, st.lists(on_features, max_size=3)),
    st.sampled_from(list(INITS)),
)


@given(networks)
def test_a_spec_survives_its_text_and_its_json(spec):
    assert parse_spec(str(spec)) == spec
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@given(networks, st.tuples(st.integers(10, 30), st.integers(10, 30)))
@settings(max_examples=60, deadline=None)
def test_shapes_parameters_and_macs_are_those_of_the_built_module(spec, picture):
    try:
        rows = spec.shapes((2, *picture), num_classes=3)
    except ShapeError:
        assume(False)
    network = build_spec(spec, input_shape=(2, *picture), num_classes=3).eval()
    outputs = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: tuple(output.shape[1:])}))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert network(torch.zeros(1, 2, *picture)).shape == (1, 3)
    leaves = {name: module for name, module in network.named_modules() if not list(module.children())}
    assert {name for name, module in leaves.items() if not isinstance(module, nn.Identity)} == {
        row.name for row in rows
    }
    for row in rows:
        assert outputs[row.name] == row.output
        assert sum(p.numel() for p in leaves[row.name].parameters()) == row.parameters
        assert sum(counter.get_flop_counts().get(f"Sequential.{row.name}", {}).values()) == 2 * row.macs


@given(st.lists(on_maps, min_size=2, max_size=5), st.tuples(st.integers(1, 5), st.integers(1, 5)))
@settings(max_examples=150, deadline=None)
def test_a_refused_picture_is_one_that_torch_refuses_and_the_suggested_size_is_the_smallest(layers, picture):
    spec = Spec(tuple(replace(layer, groups=1) if isinstance(layer, Layer) else layer for layer in layers))
    try:
        spec.shapes((2, *picture), num_classes=3)
        return  # a picture that fits is the test above
    except ShapeError as error:
        message = str(error)
    number = int(re.match(r"layer (\d+) ", message)[1])
    received = (2, *picture)
    for layer in spec.layers[: number - 1]:
        received = layer.output(received)
    with pytest.raises(RuntimeError):
        spec.layers[number - 1].module(received)(torch.zeros(1, *received))

    suggestion = re.search(r"--size (\d+)", message)
    if suggestion:
        size = int(suggestion[1])
        spec.shapes((2, size, size), num_classes=3)
        with pytest.raises(ShapeError):
            spec.shapes((2, size - 1, size - 1), num_classes=3)
    else:  # a kernel after a global pooling
        with pytest.raises(ShapeError):
            spec.shapes((2, 1000, 1000), num_classes=3)


def test_the_teaching_network_has_40682_parameters_and_readable_names():
    network = build_spec(parse_spec(TEACHING), input_shape=(3, 32, 32), num_classes=10)
    assert sum(p.numel() for p in network.parameters()) == 40_682
    names = "conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 pool3 flatten1 dense1 relu4 head"
    assert [name for name, _ in network.named_children()] == names.split()
    assert network.conv2.weight.shape == (32, 16, 3, 3)
    assert network(torch.zeros(5, 3, 32, 32)).shape == (5, 10)


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("conv6", nn.Conv2d(3, 6, 3)),
        ("conv6,k3x5,s2,p1,d2,g3", nn.Conv2d(3, 6, (3, 5), stride=2, padding=1, dilation=2, groups=3)),
        ("conv6,k5,psame", nn.Conv2d(3, 6, 5, padding="same")),
        ("conv6,k3,d2,psame", nn.Conv2d(3, 6, 3, padding="same", dilation=2)),
        ("conv6,k4,pwide", nn.Conv2d(3, 6, 4, padding=3)),
        ("conv6,pnone", nn.Conv2d(3, 6, 3, padding="valid")),
        ("pool", nn.MaxPool2d(2)),
        ("maxpool,k3", nn.MaxPool2d(3)),
        ("pool,k3,s2,p1", nn.MaxPool2d(3, 2, 1)),
        ("avgpool,k3x2,s1", nn.AvgPool2d((3, 2), 1)),
        ("globalpool", nn.AdaptiveAvgPool2d(1)),
        ("globalmaxpool", nn.AdaptiveMaxPool2d(1)),
        ("bn", nn.BatchNorm2d(3).eval()),
        ("RELU", nn.ReLU()),
        ("leakyrelu", nn.LeakyReLU()),
        ("gelu", nn.GELU()),
        ("silu", nn.SiLU()),
        ("tanh", nn.Tanh()),
        ("sigmoid", nn.Sigmoid()),
        ("softplus", nn.Softplus()),
        ("elu", nn.ELU()),
        ("softmax", nn.Softmax(1)),
    ],
)
def test_each_text_computes_what_the_torch_layer_computes(text, module):
    network = build_spec(parse_spec(text), input_shape=(3, 12, 10), num_classes=2).eval()
    if list(module.parameters()):
        network[0].load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 12, 10)
    torch.testing.assert_close(network[0](x), module(x))


def test_dropout_and_normalization_follow_what_they_receive():
    network = build_spec(parse_spec("bn dropout0.25 dense4 bn"), input_shape=(3, 8, 8), num_classes=2)
    assert isinstance(network.bn1, nn.BatchNorm2d)
    assert isinstance(network.bn2, nn.BatchNorm1d)
    assert network.dropout1.p == 0.25


def test_the_canonical_text_writes_only_what_is_unusual():
    spec = parse_spec("  Conv8,k3,s1,p0,d1,g1 \n maxpool,k2,s2  conv8,K5,psame avgpool,k3,s3 dropout0.50 ")
    assert str(spec) == "conv8 pool conv8,k5,p2 avgpool,k3 dropout0.5"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["1 to 1000 layers", "got 0", "conv16"]),
        ("conv16 rleu", ["layer 2 (rleu)", "Did you mean relu", "softplus"]),
        ("cnov16", ["'cnov' is not a layer", "Did you mean conv?"]),
        ("42", ["layer 1 (42)", "not a layer"]),
        ("conv", ["conv needs a number, such as conv64"]),
        ("conv-3", ["layer 1 (conv-3)", "got '-3'"]),
        ("conv0", ["outputs must lie between 1 and 1,000,000", "is 0"]),
        ("dense99999999", ["between 1 and 1,000,000", "is 99999999"]),
        ("conv" + "9" * 5000, ["conv needs a number"]),
        ("relu6", ["relu takes no number", "'6'"]),
        ("relu conv8,q3", ["layer 2", "'q3' is not an option of conv", "k (kernel)", "g (groups)"]),
        ("pool,d2", ["'d2' is not an option of pool", "k (kernel), s (stride), p (padding)."]),
        ("relu,k3", ["relu, which takes no options"]),
        ("conv8,", ["'' is not an option of conv"]),
        ("conv8,k3,k5", ["kernel is given twice"]),
        ("conv8,k3x", ["kernel needs one number or two", "3x5"]),
        ("conv8,k0", ["kernel must lie between 1"]),
        ("conv8,s0", ["stride must lie between 1"]),
        ("conv8,ptiny", ["pnone, psame or pwide", "'tiny'"]),
        ("conv8,k4,psame", ["a 4 pixel window cannot keep the size", "such as 5"]),
        ("conv8,g3", ["3 groups cannot share 8 filters evenly"]),
        ("pool,k3,p2", ["padding 2 is more than half of the 3x3 window"]),
        ("dropout", ["dropout needs a fraction"]),
        ("dropout1.5", ["between 0 and 1", "1.5"]),
        (
            "dense8 relu conv8",
            ["layer 3 (conv8) needs feature maps, but dense8", "Write conv8 before dense8"],
        ),
        ("flatten globalpool", ["layer 2 (globalpool)", "flatten before it"]),
        ("relu " * 1001, ["1 to 1000 layers", "got 1001"]),
        ("conv８", ["layer 1"]),  # a full-width digit is no number here
        ("residul[conv8]", ["layer 1 (residul)", "'residul' cannot stand before brackets"]),
        ("conv8 residual", ["layer 2 (residual)", "residual[conv32,psame relu conv32,psame]"]),
        ("conv8 residual[]", ["layer 2 (residual)", "goes around nothing"]),
        ("conv8 residual[conv8,psame", ["layer 2 (residual)", "opened, but not closed"]),
        ("conv8]", ["layer 2 (])", "brackets go around layers"]),
        ("[conv8]", ["layer 1 ([)", "with a word in front"]),
        ("conv8[relu]", ["'conv8' cannot stand before brackets"]),
        ("residual,projct[conv8]", ["'residual,projct' cannot stand", "residual,project"]),
        ("conv8 2x[relu conv16 rleu]", ["layer 2 (2x)", "layer 3 (rleu)", "Did you mean relu"]),
        ("0x[relu]", ["0 times 1 layers are not 1 to 1000"]),
        ("999x[999x[relu]]", ["999 times 999 layers"]),
        ("residual[" * 2000 + "relu", ["at most 8 brackets"]),
        ("conv8 residual[dense8]", ["layer 2 (residual) flattens the maps (dense8)", "Write dense8 behind"]),
        ("dense8 residual[pool]", ["layer 1 (pool) needs feature maps, but dense8"]),
        ("residual[relu dense8 conv8]", ["layer 3 (conv8) needs feature maps"]),
        ("init:hee conv8", ["init:hee", "default, he, xavier, identity, zeros", "Did you mean he?"]),
        ("conv8 init:he", ["layer 2", "in front of all layers"]),
        ("init:he", ["1 to 1000 layers", "got 0"]),
    ],
)
def test_a_text_that_means_nothing_is_told_what_was_expected(text, parts):
    with pytest.raises(SpecError) as error:
        parse_spec(text)
    assert [part for part in parts if part not in str(error.value)] == []


@pytest.mark.parametrize("data", [None, [], {}, {"layers": "relu"}, {"layers": [1]}, {"layers": [["relu"]]}])
def test_json_that_is_no_network_is_an_error(data):
    with pytest.raises(SpecError, match="to_dict"):
        Spec.from_dict(data)


def test_a_layer_made_by_hand_is_checked_like_one_that_was_read():
    with pytest.raises(SpecError, match="relu takes no outputs"):
        Layer("relu", outputs=3)
    with pytest.raises(SpecError, match="not a layer"):
        Layer("transformer")


def test_a_picture_that_is_too_small_is_told_the_whole_story():
    with pytest.raises(ShapeError) as error:
        parse_spec("conv16 pool conv32 pool conv64,k6 conv64").shapes((3, 32, 32), num_classes=10)
    # worked by hand: 1 <- conv 3 <- conv k6 8 <- pool 16 <- conv 18 <- pool 36 <- conv 38
    assert str(error.value) == (
        "layer 6 (conv64, 3x3) received 1x1 feature maps, "
        "but a 3x3 kernel without padding needs at least 3x3.\n"
        "The picture shrinks 32 -> 30 -> 15 -> 13 -> 6 -> 1. "
        "Use a larger input (--size 38), padding, or one pooling layer less."
    )


def test_only_remedies_that_help_are_named():
    with pytest.raises(ShapeError, match=r"Use padding\.$"):
        parse_spec("globalpool conv8").shapes((3, 32, 32), num_classes=10)
    with pytest.raises(ShapeError, match=r"Use a larger input \(--size 9\), or padding\.$"):
        parse_spec("conv8,k9").shapes((3, 8, 20), num_classes=10)


def test_groups_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(ShapeError, match=r"layer 1 .* received 3 channels, which 2 groups"):
        parse_spec("conv8,g2").shapes((3, 8, 8), num_classes=10)


@pytest.mark.parametrize("input_shape", [(3, 0, 8), (3, 8), (-1, 8, 8)])
def test_a_picture_shape_that_means_nothing_is_an_error(input_shape):
    with pytest.raises(ShapeError, match="channels, height and width"):
        parse_spec("relu").shapes(input_shape, num_classes=10)


def test_a_network_that_no_memory_would_hold_is_refused_before_it_is_built():
    spec = parse_spec("dense5000")
    assert spec.shapes((1, 1000, 1000), num_classes=10)[1].parameters == 5_000_005_000
    with pytest.raises(ShapeError, match=r"5,000,005,000 of them in dense1 .* globalpool"):
        build_spec(spec, input_shape=(1, 1000, 1000), num_classes=10)


# ---------------------------------------------------------------- residual blocks


def test_a_residual_block_adds_what_came_in():
    """Against torchvision's block of two convolutions, with the same weights."""
    network = build_spec(
        parse_spec("residual[conv16,psame bn relu conv16,psame bn] relu"), input_shape=(16, 8, 6), num_classes=2
    )
    peer = BasicBlock(16, 16)
    body = network.residual1.body
    for name in ("conv1", "bn1", "conv2", "bn2"):
        body.get_submodule(name).load_state_dict(peer.get_submodule(name).state_dict(), strict=False)
        if name.startswith("conv"):
            nn.init.zeros_(body.get_submodule(name).bias)  # torchvision's have none
    x = torch.randn(4, 16, 8, 6)
    torch.testing.assert_close(network[:2](x), peer(x))


@pytest.mark.parametrize("side", [8, 9])
def test_a_projection_brings_what_came_in_to_the_new_shape(side):
    text = "residual,project[conv16,psame,s2 bn relu conv32,psame bn] relu"
    network = build_spec(parse_spec(text), input_shape=(16, side, side), num_classes=2)
    block = network.residual1
    assert (block.shortcut.kernel_size, block.shortcut.stride) == ((1, 1), (2, 2))
    x = torch.randn(4, 16, side, side)
    inside = block.body.bn2(block.body.conv2(block.body.bn1(block.body.conv1(x)).relu()))
    around_it = F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2)
    torch.testing.assert_close(network[:2](x), (inside + around_it).relu())


def test_a_residual_block_of_dense_layers():
    network = build_spec(parse_spec("dense8 residual,project[dense6 relu]"), input_shape=(1, 4, 4), num_classes=2)
    x = torch.randn(3, 8)
    block = network.residual1
    expected = block.body.dense1(x).relu() + F.linear(x, block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(x), expected)


def test_repeated_layers_are_those_written_out():
    repeated = parse_spec("2x[conv8,psame 3X [relu]] pool")
    assert repeated == parse_spec("conv8,psame relu relu relu conv8,psame relu relu relu pool")
    assert str(parse_spec(" residual [ conv8,k3  relu ]")) == "residual[conv8 relu]"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "conv8 residual[conv16,psame]",
            ["layer 2 (residual[conv16,p1]) makes 16x6x6 inside, to which what came in, 8x6x6, cannot be added",
             "have 8 filters", "residual,project"],
        ),
        ("residual[conv3]", ["makes 3x6x6 inside", "3x8x8", "psame and stride 1", "residual,project"]),
        ("dense8 residual[dense9]", ["makes 9 inside", "8 neurons"]),
        ("residual,project[conv4,s2]", ["makes 4x3x3 inside, to which the projected 4x4x4", "psame"]),
        (
            "pool residual[conv3,k5]",
            ["layer 2 (residual[conv3,k5]) holds a layer that does not fit: layer 1 (conv3,k5, 5x5) received 4x4",
             "The picture shrinks 8 -> 4. Use padding, or one pooling layer less."],
        ),
        ("residual[relu conv4,g2]", ["layer 2 (conv4,g2, 3x3) received 3 channels, which 2 groups"]),
    ],
)  # fmt: skip
def test_a_block_whose_parts_cannot_be_added_is_told_what_helps(text, parts):
    with pytest.raises(ShapeError) as error:
        parse_spec(text).shapes((3, 8, 8), num_classes=2)
    assert type(error.value) is ShapeError
    assert [part for part in parts if part not in str(error.value)] == []


# ---------------------------------------------------------------- order, and what can learn


def test_batch_norm_works_where_it_is_written_before_or_after_the_activation():
    x = torch.randn(6, 3, 9, 9)
    for text in ("conv4 bn relu", "conv4 relu bn"):
        network = build_spec(parse_spec(text), input_shape=(3, 9, 9), num_classes=2)
        maps = network.conv1(x)
        if text.endswith("relu"):
            expected = F.batch_norm(maps, None, None, training=True).relu()
        else:
            expected = F.batch_norm(maps.relu(), None, None, training=True)
        torch.testing.assert_close(network[:3](x), expected)


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("conv4 step dense8 relu", ["conv1"]),
        ("conv4 bn relu dense8 step dense9", ["conv1, bn1, dense1"]),
        ("conv4 residual[conv4,psame step]", ["residual1.body.conv1"]),  # conv1 learns through the way around
    ],
)
def test_layers_that_a_step_keeps_from_learning_are_named(text, idle):
    network = build_spec(parse_spec(text), input_shape=(3, 9, 9), num_classes=2)
    assert network(torch.zeros(1, 3, 9, 9)).shape == (1, 2)  # forward it works
    with pytest.raises(SpecError, match=rf"^{', '.join(idle)} could never learn: step has no slope"):
        require_gradients(parse_spec(text), input_shape=(3, 9, 9))


@pytest.mark.parametrize("text", ["step conv4 relu", "conv4 bn sigmoid dense8", "residual[conv3,psame relu] pool"])
def test_where_every_layer_can_learn_nothing_is_said(text):
    require_gradients(parse_spec(text), input_shape=(3, 9, 9))
