"""The layer table against torch's counter, published figures, and gradients that show what a value sees."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import timm
import torch
import torchinfo
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pellucid.errors import ShapeError
from pellucid.model.layer import Layer
from pellucid.model.residual import Residual
from pellucid.model.spec import Spec, build_spec, parse_spec
from pellucid.model.summary import fields, num_parameters, summarize

TEACHING = "conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu"


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **options).eval()


def row_of(module: nn.Module, name: str, size: int):
    (row,) = [row for row in summarize(module, (3, size, size)).layers if row.name == name]
    return row


# ---------------------------------------------------------------- parameters and multiply-accumulates


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 224),
        ("tf_efficientnet_lite0", 224),  # "same" padding
        ("efficientnet_b0", 224),
        ("convnext_tiny", 224),
        ("densenet121", 224),
        ("vgg11", 224),
        ("inception_v3", 299),
        ("legacy_xception", 299),
        ("vit_tiny_patch16_224", 224),
        ("swin_tiny_patch4_window7_224", 224),
    ],
)
def test_rows_add_up_to_the_parameters_and_to_the_macs_that_torch_counts(name, size):
    network = on_meta(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = network(torch.empty(1, 3, size, size, device="meta"))
    summary = summarize(network, (3, size, size))
    assert 2 * summary.macs == counter.get_total_flops()
    assert sum(row.macs for row in summary.layers) == summary.macs
    assert sum(row.parameters for row in summary.layers) == summary.parameters == num_parameters(network)
    assert summary.layers[-1].output == tuple(logits.shape[1:]) == (1000,)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("AlexNet", 224),
        ("VGG16", 224),
        ("ResNet50", 224),
        ("DenseNet121", 224),
        ("MobileNet_V2", 224),
        ("ConvNeXt_Tiny", 224),
        ("Inception_V3", 299),
        ("ViT_B_16", 224),
    ],
)
def test_torchvision_publishes_the_same_parameters_and_macs(name, size):
    weights = getattr(torchvision.models, f"{name}_Weights").IMAGENET1K_V1
    published = weights.meta
    with torch.device("meta"):
        options = {"init_weights": False} if name == "Inception_V3" else {}
        network = getattr(torchvision.models, name.lower())(**options)
    summary = summarize(network, (3, size, size))
    assert summary.parameters == published["num_params"]
    assert summary.macs / 1e9 == pytest.approx(published["_ops"], abs=5.1e-4)


@pytest.mark.parametrize(
    "text", [TEACHING, "conv4 residual[conv4,psame relu] residual,project[conv8,psame,s2 bn] dense9"]
)
def test_a_written_network_has_the_table_that_its_own_arithmetic_gives(text):
    spec = parse_spec(text)
    rows = spec.shapes((3, 32, 32), num_classes=10)
    summary = summarize(build_spec(spec, input_shape=(3, 32, 32), num_classes=10), (3, 32, 32))
    table = [(row.name, row.output, row.parameters, row.macs) for row in summary.layers]
    assert table == [(row.name, row.output, row.parameters, row.macs) for row in rows]


class Shared(nn.Module):
    """One layer used twice, one that shares its weights, one that is never used, and a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.dense.weight
        self.spare = nn.Linear(4, 7)
        self.offset = nn.Parameter(torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tied(self.dense(self.dense(x.flatten(1))))
        return x @ self.dense.weight + self.offset


def test_shared_layers_and_weights_count_once_and_what_no_layer_owns_is_the_networks():
    summary = summarize(Shared(), (1, 2, 2))
    rows = [(row.name, row.parameters, row.macs, row.output) for row in summary.layers]
    assert rows == [
        ("network", 4, 16, (4,)),  # the offset, and the product with dense.weight
        ("dense", 20, 16, (4,)),
        ("dense", 0, 16, (4,)),
        ("tied", 0, 16, (4,)),
        ("spare", 35, 0, ()),
    ]
    assert (summary.parameters, summary.macs) == (4 + 20 + 35, 64)
    assert num_parameters(Shared()) == 59


# ---------------------------------------------------------------- receptive fields


def seen_by_the_center(module: nn.Module, picture: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the pixels whose gradient at the central output is not zero.

    All weights become positive, so that no two paths cancel; a map must not see over the picture's border.
    """
    module = copy.deepcopy(module).double().eval()
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1 / parameter[0].numel())
    x = torch.ones(1, 1, *picture, dtype=torch.float64, requires_grad=True)
    y = module(x)
    y[(0, 0, *(side // 2 for side in y.shape[2:]))].backward()
    rows, columns = (x.grad[0, 0].sum(axis).nonzero().flatten() for axis in (1, 0))
    if y.dim() == 4:
        assert min(rows[0], columns[0]) > 0
        assert rows[-1] < picture[0] - 1
        assert columns[-1] < picture[1] - 1
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def last_row(module: nn.Module, picture: tuple[int, int]):
    return summarize(module, (1, *picture)).layers[-1]


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
strides = st.tuples(st.integers(1, 2), st.integers(1, 2))
pools = st.builds(Layer, st.just("avgpool"), kernel=pairs, stride=strides)  # the gradient of a maximum has holes
convs = st.builds(Layer, st.just("conv"), outputs=st.just(1), kernel=pairs, stride=strides, dilation=strides)
padded = st.builds(lambda conv, padding: replace(conv, padding=padding), convs, strides)


@given(st.lists(st.one_of(padded, pools), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_written_network_sees_the_window_in_which_its_gradient_is_not_zero(layers):
    network = build_spec(Spec(tuple(layers)), input_shape=(1, 150, 150), num_classes=2)[: len(layers)]
    assert last_row(network, (150, 150)).receptive_field == seen_by_the_center(network, (150, 150))


same = st.builds(
    lambda k, stride, dilation: Layer(
        "conv", outputs=1, kernel=(k, k), stride=stride, dilation=dilation, padding=(k // 2 * dilation[0], k // 2 * dilation[1])
    ),
    st.sampled_from([1, 3, 5]), strides, strides,
)  # fmt: skip
blocks = st.lists(same, min_size=1, max_size=2).map(lambda inside: Residual(tuple(inside), project=True))


@given(st.lists(padded, max_size=1), blocks, st.lists(padded, max_size=1))
@settings(max_examples=40, deadline=None)
def test_a_residual_block_sees_the_window_in_which_its_gradient_is_not_zero(before, block, after):
    layers = (*before, block, *after)
    network = build_spec(Spec(layers), input_shape=(1, 150, 150), num_classes=2)[: len(layers)]
    assert last_row(network, (150, 150)).receptive_field == seen_by_the_center(network, (150, 150))


def test_softmax_over_features_sees_all_and_over_channels_no_more_than_before():
    flat = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Softmax(1))
    assert last_row(flat, (9, 8)).receptive_field == seen_by_the_center(flat, (9, 8)) == (9, 8)
    maps = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softmax(1))
    assert last_row(maps, (9, 8)).receptive_field == (3, 3)


@given(st.lists(st.one_of(convs, pools), min_size=1, max_size=3), pairs)
@settings(max_examples=40, deadline=None)
def test_the_head_sees_what_reaches_the_last_map_without_the_lost_edge(layers, extra):
    picture = (60 + extra[0], 60 + extra[1])
    network = build_spec(Spec(tuple(layers)), input_shape=(1, *picture), num_classes=2)
    assert last_row(network, picture).receptive_field == seen_by_the_center(network, picture)


@given(st.lists(st.one_of(padded, pools), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_each_field_lies_where_the_gradient_is_not_zero(layers):
    network = build_spec(Spec(tuple(layers)), input_shape=(1, 150, 150), num_classes=2)[: len(layers)].double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1 / parameter[0].numel())
    x = torch.ones(1, 1, 150, 150, dtype=torch.float64, requires_grad=True)
    y = network(x)
    at = (0, 0, y.shape[2] // 2, y.shape[3] // 3)
    y[at].backward()
    rows, columns = (x.grad[0, 0].sum(axis).nonzero().flatten().tolist() for axis in (1, 0))
    found = list(fields(network, (1, 150, 150)).values())[-1].box(at)
    clipped = [(max(first, 0), min(last, 149)) for first, last in found]
    assert clipped == [(rows[0], rows[-1]), (columns[0], columns[-1])]
    row = last_row(network, (150, 150))
    middle = [start + i * jump for start, i, jump in zip(row.center, at[2:], row.jump, strict=True)]
    assert middle == [(first + last) / 2 for first, last in found]


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.ZeroPad2d((2, 0, 1, 0)), nn.Conv2d(1, 1, 3, stride=2)),
        nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1, padding_mode="reflect"), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(1, 2, 3, stride=4), nn.Flatten(2), nn.Unflatten(2, (9, 9))),
    ],
)
def test_fields_lie_right_after_pads_and_views(network):
    network = network.double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    x = torch.ones(1, 1, 38, 38, dtype=torch.float64, requires_grad=True)
    y = network(x)
    y[0, 0, 3, 4].backward()
    rows, columns = (x.grad[0, 0].sum(axis).nonzero().flatten().tolist() for axis in (1, 0))
    found = list(fields(network, (1, 38, 38)).values())[-1].box((0, 0, 3, 4))
    assert found == ((rows[0], rows[-1]), (columns[0], columns[-1]))


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "mobilenet_v2"])
def test_memory_is_that_of_torchinfo(name):
    """torchinfo counts the outputs of layers that have parameters, twice: for the values and for their gradients.

    It leaves out parameters of a module with children, like the norms of timm, so these networks are torchvision's.
    """
    network = getattr(torchvision.models, name)(num_classes=10).eval()
    summary = summarize(network, (3, 64, 64))
    peer = torchinfo.summary(network, (1, 3, 64, 64), verbose=0)
    assert 4 * summary.parameters == peer.total_param_bytes
    counted = [row.activation_bytes for row in summary.layers if row.parameters]
    assert 2 * sum(counted) == peer.total_output_bytes
    assert summary.activation_bytes > sum(counted)


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.Conv2d(1, 1, 3, padding=1))
        self.shortcut = nn.Conv2d(1, 1, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Conv2d(1, 2, 3, padding=1)
        self.tall = nn.Conv2d(1, 3, (7, 1), padding=(3, 0))
        self.mix = nn.Conv2d(5, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(torch.cat([self.small(x), self.tall(x)], 1))


class SpaceToDepth(nn.Module):
    """2x2 pixels become 4 channels, on which a convolution works."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        x = x.view(n, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3).reshape(n, 4, h // 2, w // 2)
        return self.conv(x)


class SlicedToDepth(SpaceToDepth):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1))


class ChannelsLast(nn.Module):
    """A convolution, then dense layers over the channels of every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 7, padding=3)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.Softplus(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Windows(nn.Module):
    """A convolution, then a dense layer over the 5x5 pixels of each window."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.dense = nn.Linear(25, 25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        x = self.conv(x).view(n, h // 5, 5, w // 5, 5).permute(0, 1, 3, 2, 4).reshape(-1, 25)
        x = self.dense(x).view(n, h // 5, w // 5, 5, 5).permute(0, 1, 3, 2, 4)
        return x.reshape(n, 1, h, w)


@pytest.mark.parametrize(
    ("module", "seen"),
    [
        (Shortcut(), (7, 7)),
        (Branches(), (7, 3)),
        (SpaceToDepth(), (6, 6)),
        (SlicedToDepth(), (6, 6)),
        (ChannelsLast(), (7, 7)),
        (Windows(), (7, 7)),
    ],
)
def test_what_happens_between_the_layers_counts(module, seen):
    network = nn.Sequential(module, nn.ReLU())
    assert seen_by_the_center(network, (40, 40)) == seen
    assert last_row(network, (40, 40)).receptive_field == seen


class Gate(nn.Module):
    """Squeeze and excitation: every pixel is multiplied by a number that the whole map decides."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(1, 1)
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.dense(x.mean((2, 3))).sigmoid()
        return self.conv(x * gate[:, :, None, None])


def test_after_a_global_operation_everything_is_seen_and_no_more():
    *_, dense, conv = summarize(nn.Sequential(nn.Conv2d(1, 1, 3), Gate()), (1, 20, 24)).layers
    assert (dense.name, dense.receptive_field) == ("1.dense", (20, 24))
    assert (conv.name, conv.receptive_field) == ("1.conv", (20, 24))


@pytest.mark.slow
def test_the_gradient_of_resnet18_reaches_over_the_435_pixels_of_its_last_block():
    resnet = timm.create_model("resnet18", in_chans=1)
    resnet.maxpool = nn.AvgPool2d(3, 2, 1)  # the gradient of a maximum has holes
    resnet.global_pool, resnet.fc = nn.Identity(), nn.Identity()
    assert seen_by_the_center(resnet, (480, 448)) == (435, 435)
    assert last_row(resnet, (480, 448)).receptive_field == (435, 435)


@pytest.mark.parametrize(
    ("network", "layer", "size", "window"),
    [
        ("vgg16", "features.30", 224, 212),  # pool5; Araujo, Norris & Sim 2019
        ("resnet50", "layer4.2.act3", 224, 427),  # stride in the 3x3 convolutions, as in torch
        ("convnext_tiny", "stages.0.blocks.2.conv_dw", 224, 4 + 3 * 6 * 4),
        ("tf_efficientnet_lite0", "conv_stem", 224, 3),  # "same" padding
        ("vit_tiny_patch16_224", "patch_embed.proj", 224, 16),
        ("vit_tiny_patch16_224", "blocks.0.attn.proj", 224, 224),
        ("swin_tiny_patch4_window7_224", "layers.0.blocks.0.attn.proj", 224, 7 * 4),
        ("vgg16", "head.fc", 224, 224),
        ("efficientnet_b0", "blocks.0.0.se.conv_reduce", 224, 224),
    ],
)
def test_receptive_fields_of_published_networks(network, layer, size, window):
    assert row_of(on_meta(network), layer, size).receptive_field == (window, window)


@pytest.mark.parametrize(
    ("network", "layer", "window"),
    [
        ("alexnet", "features.12", 195),  # pool5; Araujo, Norris & Sim 2019
        ("swin_t", "features.1.1.attn", 4 + 2 * 6 * 4),  # patches of 4 pixels, two windows of 7 patches
    ],
)
def test_receptive_fields_of_published_networks_of_torchvision(network, layer, window):
    with torch.device("meta"):
        module = getattr(torchvision.models, network)()
    assert row_of(module, layer, 224).receptive_field == (window, window)


class Position(nn.Module):
    """A table of positions goes through a layer of its own before it joins the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 2, 8, 8))
        self.own = nn.Conv2d(2, 2, 3, padding=1)
        self.joint = nn.Conv2d(2, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.joint(x + self.own(self.table))


def test_what_does_not_depend_on_the_picture_sees_nothing():
    _, own, joint = summarize(Position(), (2, 8, 8)).layers
    assert own.receptive_field is None
    assert joint.receptive_field == (3, 3)


# ---------------------------------------------------------------- manners


def test_the_module_is_neither_run_nor_changed():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2))
    network[3].eval()
    before = copy.deepcopy(network)
    summarize(network, (3, 8, 8))
    for module, same in zip(network.modules(), before.modules(), strict=True):
        assert module.training == same.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for number, same in zip(network.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(number, same)  # also the statistics and the counter of the batch norm
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_modules_and_those_without_memory_are_summarized_too():
    spec = parse_spec(TEACHING)
    whole = build_spec(spec, input_shape=(3, 32, 32), num_classes=10)
    expected = summarize(whole, (3, 32, 32))
    assert summarize(whole.half(), (3, 32, 32)) == expected
    assert summarize(whole.to("meta"), (3, 32, 32)) == expected


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((3, 16, 16), ["Sequential cannot work on a 3x16x16 picture", "Conv2d 'conv3' says", "--size"]),
        ((1, 32, 32), ["1x32x32 picture", "Conv2d 'conv1' says"]),
        ((3, 64, 64), ["3x64x64", "Linear 'dense1' says"]),
    ],
)
def test_a_picture_that_does_not_fit_is_an_error_that_names_the_layer(shape, parts):
    network = build_spec(parse_spec(TEACHING), input_shape=(3, 32, 32), num_classes=10)
    with pytest.raises(ShapeError) as error:
        summarize(network, shape)
    assert [part for part in parts if part not in str(error.value)] == []


def test_a_transformer_for_another_size_is_an_error_too():
    with pytest.raises(ShapeError, match=r"PatchEmbed 'patch_embed' says: Input height \(32\)"):
        summarize(on_meta("vit_tiny_patch16_224"), (3, 32, 32))


def test_the_table_as_json_and_as_text():
    network = build_spec(parse_spec(TEACHING), input_shape=(3, 32, 32), num_classes=10)
    summary = summarize(network, (3, 32, 32))
    data = summary.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert (data["input"], data["parameters"], data["macs"]) == ([3, 32, 32], 40_682, 1_479_488)
    assert data["layers"][3] == {
        "name": "conv2",
        "kind": "Conv2d",
        "input": [16, 15, 15],
        "output": [32, 13, 13],
        "parameters": 4_640,
        "macs": 778_752,  # 32 x 16 x 9 weights at 13 x 13 positions
        "receptive_field": [8, 8],  # conv 3, pool 2 and conv 3 over pooled pixels: 3 + 1 + 2·2
        "jump": [2, 2],
        "center": [3.5, 3.5],
        "parameter_bytes": 4 * 4_640,
        "activation_bytes": 4 * 32 * 13 * 13,
    }
    assert data["parameter_bytes"] == 4 * 40_682
    assert data["activation_bytes"] == sum(row["activation_bytes"] for row in data["layers"])
    lines = str(summary).splitlines()
    assert lines[0] == "input 3x32x32"
    assert lines[2].split() == ["layer", "kind", "output", "parameters", "MACs", "memory", "sees", "jump", "center"]
    row = ["conv2", "Conv2d", "32x13x13", "4,640", "778,752", "21.6", "kB", "8x8", "2x2", "3.5,", "3.5"]
    assert lines[7].split() == row
    assert lines[-3].split()[:3] == ["total", "40,682", "1,479,488"]
    assert {line.index(",") for line in lines if "," in line} >= {lines[-3].index(",")}
