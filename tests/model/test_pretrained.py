"""Pretrained networks by name: timm's own answers from the same file, what is missing is named, real pictures make sense."""

from __future__ import annotations

import socket
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image
from torchvision import models

import pellucid
from pellucid.errors import ConfigError, RunError, WeightsError
from pellucid.model import pretrained
from pellucid.model.pretrained import find_pretrained, load_pretrained, open_classifier, weights_at_hand
from pellucid.model.zoo import build

NETWORK = "test_resnet"  # timm's smallest; 1,000 classes, 3x160x160


@pytest.fixture
def placed(own_cache: Path) -> Path:
    """Random weights of a small timm network, where those of ImageNet are looked for; its logits are far apart."""
    torch.manual_seed(0)
    state = timm.create_model(NETWORK).state_dict()
    state["fc.weight"] *= 100
    return save(own_cache / "weights" / f"{NETWORK}.safetensors", state)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(pretrained, "getproxies", dict)
    monkeypatch.setattr(urllib.request, "getproxies", dict)


def save(file: Path, state: dict[str, torch.Tensor]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


def picture(seed: int, height: int = 200, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_weights_that_were_put_in_place_answer_as_timm_does(placed: Path, offline: None) -> None:
    classifier = load_pretrained(NETWORK, "imagenet")
    peer = timm.create_model(NETWORK)
    peer.load_state_dict(load_file(placed))
    pixels = picture(0)
    config = timm.get_pretrained_cfg(NETWORK)
    x = torch.from_numpy(pixels[20:180]).permute(2, 0, 1)[None] / 255  # the centered square has the size already
    x = (x - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(3, 1, 1)
    with torch.inference_mode():
        expected = peer.eval()(x).softmax(1)[0]
    found = dict(classifier.predict(pixels).top(1000))
    names = models.ResNet18_Weights.DEFAULT.meta["categories"]
    assert [found[name] for name in names] == pytest.approx(expected.tolist(), abs=1e-5)
    assert expected.max() > 0.1, "the answers would not differ"
    assert "timm test_resnet.r160_in1k, licence apache-2.0" in classifier.weights["origin"]


def test_it_is_saved_and_loaded_as_any_classifier(placed: Path, tmp_path: Path) -> None:
    classifier = load_pretrained(NETWORK, "imagenet")
    classifier.save(tmp_path / "kept")
    again = open_classifier(tmp_path / "kept")
    assert again.predict(picture(1)).top(1000) == classifier.predict(picture(1)).top(1000)


def test_a_training_starts_from_them(placed: Path, offline: None, tmp_path: Path) -> None:
    pixels = np.stack([picture(i, 32, 32) // (1 + i % 2) for i in range(40)])
    data = pellucid.open_dataset((pixels, np.arange(40) % 2))
    run = pellucid.train(data, model=NETWORK, weights="imagenet", size="32", out=tmp_path / "run")
    state, given = pellucid.load(run.path).module.state_dict(), load_file(placed)
    kept = [name for name in given if not name.startswith("fc.")]
    assert len(kept) == len(state) - 2
    assert all(torch.equal(state[name], given[name]) for name in kept)
    assert state["fc.weight"].shape[0] == 2
    assert "test_resnet.r160_in1k" in pellucid.load(run.path).weights["origin"]


def photographs(folder: Path) -> Path:
    """Two classes of 12 noisy pictures of 120x110, one bright and one dark."""
    rng = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(low, low + 128, (120, 110, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_weights_that_lie_at_hand_are_used_for_photographs_and_that_is_told(
    placed: Path, offline: None, tmp_path: Path
) -> None:
    run = pellucid.train(
        str(photographs(tmp_path / "photos")), out=tmp_path / "run", size="64", near=False, freeze=True
    )
    content = run.read()
    assert content["architecture"]["name"] == NETWORK
    assert content["config"]["model"] == {"model": NETWORK, "weights": str(placed), "freeze": True}  # for --resume
    assert any(f"--weights none learns from scratch): '{placed}'" in line for line in content["plan"])
    own, fitted = find_pretrained(str(placed), NETWORK), pellucid.load(run.path)
    before, after = load_file(own.file), fitted.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("fc."))


@pytest.mark.slow
def test_weights_none_learns_from_scratch(placed: Path, tmp_path: Path) -> None:
    refused = {"weights": "none", "size": "16", "model": "auto"}
    content = pellucid.train(
        str(photographs(tmp_path / "photos")), out=tmp_path / "run", near=False, epochs=1, **refused
    ).read()
    assert content["architecture"]["family"] == "fastnet"
    assert not any("at hand" in line for line in content["plan"])


def test_at_hand_is_the_smallest_file_that_fits_a_network(placed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = placed.parent
    (folder / "broken.safetensors").write_bytes(b"no numbers")
    save(folder / "resnet18.safetensors", {"conv1.weight": torch.zeros(1)})  # a tensor is not a network
    larger = {**load_file(placed), "more": torch.zeros(1)}
    save(folder / "test_resnet.larger.safetensors", larger)
    found, notes = weights_at_hand()
    assert found is not None and found.file == placed
    assert [note.split("'")[1].rpartition("/")[2] for note in notes] == [
        "broken.safetensors", "resnet18.safetensors", "test_resnet.larger.safetensors",
    ]  # fmt: skip
    monkeypatch.setenv("PELLUCID_WEIGHTS", str(folder / "elsewhere"))
    assert weights_at_hand() == (None, [])


def test_without_network_the_file_and_its_place_are_named(offline: None, own_cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"'model.safetensors' of timm/resnet50\.a1_in1k") as caught:
        load_pretrained("resnet50", "imagenet")
    assert f"put it at '{own_cache / 'weights' / 'resnet50.safetensors'}'" in str(caught.value)
    with pytest.raises(WeightsError, match=r"fetches https://.*xception.*take 'legacy_xception\.safetensors'"):
        load_pretrained("xception", "imagenet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnetv2_s", r"no weights for efficientnetv2_s.*Did you mean tf_efficientnetv2_s"),
        ("alexnet", r"networks of timm; 'alexnet' is none"),
        ("torchvision/vgg16", "networks of timm; 'torchvision/vgg16' is none"),
    ],
)
def test_networks_that_have_no_such_weights(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_pretrained(name, "imagenet")


def test_names_that_are_not_as_many_as_the_outputs(placed: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog")
    with pytest.raises(WeightsError, match=r"tell 1,000 classes apart, but there are names for 2\.") as caught:
        load_pretrained(NETWORK, "imagenet", labels=labels)
    assert "background" not in str(caught.value)
    labels.write_text("\n".join(["background", *map(str, range(1000))]))
    with pytest.raises(WeightsError, match=r"1,000 classes .* names for 1,001\. .*background"):
        load_pretrained(NETWORK, "imagenet", labels=labels)
    labels.write_text("\n".join(map(str, range(1000))))
    assert load_pretrained(NETWORK, "imagenet", labels=labels).classes[999] == "999"


def test_weights_without_a_last_layer_give_no_answers(tmp_path: Path) -> None:
    state = {k: v for k, v in timm.create_model(NETWORK).state_dict().items() if not k.startswith("fc.")}
    with pytest.raises(WeightsError, match=r"no last layer .* train DATA"):
        load_pretrained(NETWORK, str(save(tmp_path / "w.safetensors", state)))


@pytest.mark.parametrize("name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)])
def test_second_heads_of_the_published_files_are_left_out(name: str, tmp_path: Path) -> None:
    peer = models.get_model(name, weights=None, init_weights=True, aux_logits=True).eval()
    found = find_pretrained(str(save(tmp_path / "w.safetensors", peer.state_dict())), name)
    module = build(found.architecture, input_shape=(3, 96, 96), num_classes=1000)
    found.load_into(module, with_head=True)
    x = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(module.eval()(x), peer(x), atol=1e-4)


def test_a_file_that_does_not_say_how_it_was_normalized(tmp_path: Path) -> None:
    """It gets the numbers of its library: 0.5 for this network of timm, torchvision's for the others."""
    file = save(tmp_path / "w.safetensors", {"x": torch.zeros(1)})
    found = find_pretrained(str(file), "xception")
    assert (found.size, found.mean, found.std) == ((299, 299), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    found = find_pretrained(str(file), "torchvision/alexnet")
    assert (found.size, found.mean) == ((224, 224), (0.485, 0.456, 0.406))
    assert find_pretrained(str(file), "conv8 relu").mean is None


def test_a_name_without_weights_is_never_answered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'resnet50' .*--weights imagenet .*pellucid train DATA --model 'resnet50'"):
        open_classifier("resnet50")
    with pytest.raises(ConfigError, match=r"'alexnet' .*Add --weights FILE"):
        open_classifier("alexnet")
    with pytest.raises(RunError, match=r"no run folder 'resnet_50'.*Did you mean resnet50"):
        open_classifier("resnet_50", weights="imagenet")
    with pytest.raises(ConfigError, match="a run has its own weights"):
        open_classifier(tmp_path, weights="imagenet")


@pytest.mark.shared
def test_photographs_get_the_labels_that_they_get_from_timm(shared: Path) -> None:
    """timm's own transform at a crop of 1.0 sees the same square."""
    classifier = load_pretrained("mobilenetv2_100", str(shared / "weights" / "mobilenetv2_100.safetensors"))
    peer = timm.data.create_transform(
        (3, 224, 224), interpolation="bilinear", crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    for name, label in (("china.jpg", "palace"), ("flower.jpg", "honeycomb")):  # a dahlia, which ImageNet does not know
        pixels = load_sample_image(name)
        with torch.inference_mode():
            expected = classifier.module(peer(Image.fromarray(pixels))[None])[0]
        assert classifier.predict(pixels).label == classifier.classes[int(expected.argmax())] == label


@pytest.mark.shared
@pytest.mark.slow
def test_photographs_of_shoes_are_footwear(shared: Path) -> None:
    classifier = load_pretrained("mobilenetv2_100", str(shared / "weights" / "mobilenetv2_100.safetensors"))
    footwear = {"running shoe", "Loafer", "clog", "sandal", "cowboy boot", "shoe shop"}
    with zipfile.ZipFile(shared / "data" / "clothing.zip") as archive:
        files = [name for name in archive.namelist() if "/test/shoes/" in name and name.endswith(".jpg")]
        labels = [classifier.predict(archive.read(name)).label for name in files]
    right = sum(label in footwear for label in labels)
    assert len(labels) >= 30
    assert right >= 0.75 * len(labels), sorted(set(labels) - footwear)
