"""Every kind of network trains a step, is saved, loaded, and answers the same to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pellucid.data.contract import PixelContract
from pellucid.errors import RunError, ShapeError, UnknownNameError, WeightsError
from pellucid.files import write_json
from pellucid.model.classifier import Classifier, load
from pellucid.model.pretrained import find_pretrained
from pellucid.model.zoo import Architecture, build, find_architecture, outline

SLOW = pytest.mark.slow
NETWORKS = [
    ("fastnet", 8, 1),
    ("fastnet-8-32-32", 32, 3),
    ("fastnet-4", 13, 5),
    ("conv16 relu pool conv32 relu pool conv64 relu pool dense64 relu", 32, 3),
    ("conv8,k5,s2,psame bn gelu avgpool conv16,p1 silu globalpool dropout0.2", 20, 2),
    ("dense32 tanh dense16 sigmoid", 8, 1),
    (
        "init:he conv8 bn relu 2x[residual[conv8,psame bn relu conv8,psame bn] relu] residual,project[conv16,s2,p1]",
        12,
        2,
    ),
    ("lenet", 32, 1),
    ("tutorial-6-16", 32, 3),
    ("alexnet", 64, 1),
    ("resnet18", 64, 3),
    ("mobilenetv2_100", 64, 1),
    ("efficientnet_b0", 64, 4),
    ("tf_efficientnetv2_b0", 64, 3),
    ("convnext_atto", 64, 3),
    ("mobilenetv4_conv_small", 64, 3),
    ("vit_tiny_patch16_224", 64, 3),
    ("torchvision/squeezenet1_1", 64, 3),
    ("xception", 64, 3),
    ("resnet50", 64, 1),
    ("inception_v3", 96, 3),
    pytest.param("torchvision/alexnet", 64, 1, marks=SLOW),
    pytest.param("torchvision/inception_v3", 96, 3, marks=SLOW),
    pytest.param("efficientnetv2_s", 64, 3, marks=SLOW),
    pytest.param("convnext_tiny", 64, 3, marks=SLOW),
    pytest.param("vgg16", 32, 3, marks=SLOW),
    pytest.param("vgg19", 32, 3, marks=SLOW),
]


@pytest.mark.parametrize(("name", "side", "channels"), NETWORKS)
def test_trains_saves_loads_and_answers_the_same(name: str, side: int, channels: int, tmp_path: Path) -> None:
    architecture = find_architecture(name)
    torch.manual_seed(0)
    module = build(architecture, input_shape=(channels, side, side), num_classes=3)
    contract = PixelContract(height=side, width=side, channels=channels)
    pixels = np.random.default_rng(0).integers(0, 256, (6, side, side, channels), np.uint8)
    before = {k: v.clone() for k, v in module.state_dict().items()}

    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    loss = F.cross_entropy(module(contract.tensor(pixels)), torch.tensor([0, 1, 2, 0, 1, 2]))
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    changed = [k for k, v in module.state_dict().items() if not torch.equal(v, before[k])]
    assert len(changed) >= 0.5 * sum(p.requires_grad for p in module.parameters())

    classifier = Classifier(module, ("x", "y", "z"), contract, architecture)
    answers = classifier.predict_proba(pixels)
    classifier.save(tmp_path)
    again = load(tmp_path)
    assert np.array_equal(again.predict_proba(pixels), answers)
    assert answers.sum(1) == pytest.approx(np.ones(6), abs=1e-5)
    assert (again.classes, again.contract, again.architecture) == (classifier.classes, contract, architecture)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    module = build(Architecture("fastnet", "fastnet-4"), input_shape=(1, 8, 8), num_classes=2)
    contract = PixelContract(height=8, width=8, channels=1)
    Classifier(module, ("a", "b"), contract, Architecture("fastnet", "fastnet-4")).save(tmp_path)
    return tmp_path


def test_one_flipped_bit_is_seen(saved: Path) -> None:
    file = saved / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 16
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="SHA-256"):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a"]},
        {"classes": ["a", "a"]},
        {"classes": [1, 2]},
        {"architecture": {"family": "os", "name": "system"}},
        {"architecture": {"family": "timm", "name": "resnet18", "options": {"checkpoint_path": "/etc/passwd"}}},
        {"contract": {"height": 0}},
        {"contract": None},
    ],
)
def test_a_card_that_was_changed_is_refused(saved: Path, change: dict[str, object]) -> None:
    import json

    card = json.loads((saved / "card.json").read_text())
    write_json(saved / "card.json", card | change)
    with pytest.raises((WeightsError, UnknownNameError)):
        load(saved)


def test_a_newer_card_is_told(saved: Path) -> None:
    write_json(saved / "card.json", {"format": 99})
    with pytest.raises(RunError, match=r"newer Pellucid.*Upgrade"):
        load(saved)


def test_weights_that_are_no_numbers_are_not_saved(saved: Path) -> None:
    good = (saved / "model.safetensors").read_bytes()
    classifier = load(saved)
    with torch.no_grad():
        classifier.module.head.weight[0, 0] = float("nan")
    with pytest.raises(WeightsError, match="not finite"):
        classifier.save(saved)
    assert (saved / "model.safetensors").read_bytes() == good


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="resnet18"):
        find_architecture("resnet_18")


@pytest.mark.parametrize(
    ("name", "family", "found"),
    [
        ("xception", "timm", "legacy_xception"),
        ("vgg16", "timm", "vgg16"),
        ("torchvision/vgg16", "torchvision", "vgg16"),
        ("squeezenet1_1", "torchvision", "squeezenet1_1"),
    ],
)
def test_a_library_is_found_or_asked_for(name: str, family: str, found: str) -> None:
    architecture = find_architecture(name)
    assert (architecture.family, architecture.name) == (family, found)


def test_a_library_is_asked_alone() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet18d'.*Did you mean resnet18"):
        find_architecture("torchvision/resnet18d")  # a network of timm


@pytest.mark.parametrize("name", ["resnet18", "regnet_x_400mf", "fastnet"])  # regnets work out their widths in tensors
def test_an_outline_is_the_network_without_its_numbers(name: str) -> None:
    architecture = find_architecture(name)
    found = outline(architecture, input_shape=(3, 64, 64), num_classes=7)
    assert {p.device.type for p in found.parameters()} == {"meta"}
    whole = build(architecture, input_shape=(3, 64, 64), num_classes=7)
    assert {n: p.shape for n, p in found.state_dict().items()} == {n: p.shape for n, p in whole.state_dict().items()}


def test_too_small_a_picture_is_told() -> None:
    with pytest.raises(ShapeError, match=r"alexnet.*8x8.*--size"):
        build(find_architecture("torchvision/alexnet"), input_shape=(3, 8, 8), num_classes=2)
    with pytest.raises(ShapeError, match="4x4"):
        build(find_architecture("fastnet"), input_shape=(3, 3, 3), num_classes=2)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_real_pretrained_weights_with_other_channels_and_classes(shared: Path, channels: int) -> None:
    """Against timm's own loading of the same file, with the head left out."""
    import timm
    from safetensors.torch import load_file

    found = find_pretrained(str(shared / "weights" / "mobilenetv2_100.safetensors"), "auto")
    assert (found.size, found.mean) == ((224, 224), (0.5, 0.5, 0.5))
    module = build(found.architecture, input_shape=(channels, 224, 224), num_classes=7)
    found.load_into(module)
    state = {k: v.float() for k, v in load_file(found.file).items() if not k.startswith("classifier")}
    peer = timm.create_model("mobilenetv2_100", pad_type="same", in_chans=channels, num_classes=7)
    state["conv_stem.weight"] = timm.models.adapt_input_conv(channels, state["conv_stem.weight"])
    peer.load_state_dict(state, strict=False)
    x = torch.rand(1, channels, 224, 224)
    assert torch.equal(module.eval().forward_features(x), peer.eval().forward_features(x))


def test_weights_of_another_architecture(shared: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds the weights of mobilenetv2_100.*--model mobilenetv2_100"):
        find_pretrained(str(shared / "weights" / "mobilenetv2_100.safetensors"), "resnet18")


def test_weights_that_do_not_say_what_they_are(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "w.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, file)
    with pytest.raises(WeightsError, match="--model"):
        find_pretrained(str(file), "auto")
    found = find_pretrained(str(file), "resnet18")
    module = build(found.architecture, input_shape=(3, 64, 64), num_classes=2)
    with pytest.raises(WeightsError, match="tensors are missing"):
        found.load_into(module)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04pickle", b"\x80\x02}q\x00.", b"not weights at all"])
def test_files_that_are_no_safetensors_are_never_opened_otherwise(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="no readable safetensors"):
        find_pretrained(str(file), "resnet18")
