"""What excites a channel most, against one pass over all pictures at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.errors import DataError
from pellucid.explain.excite import LOGITS, layers_to_watch, most_exciting
from pellucid.explain.own import own_pictures
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture


@pytest.fixture
def folder(tmp_path, digits) -> Path:
    """45 digits in folders of their class, and a file that is no picture."""
    images, labels = digits
    for i in range(45):
        place = tmp_path / "photos" / str(labels[i])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(place / f"{i:02d}.png")
    (tmp_path / "photos" / "0" / "torn.png").write_bytes(b"\x89PNG but not really")
    return tmp_path / "photos"


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    with torch.no_grad():
        module[0].weight[1].zero_()
        module[0].bias[1] = -1.0  # dead behind the rectifier
        module[0].weight[2].fill_(-1.0)
        module[0].bias[2] = -30.0  # never above 0, not constant before it
    classes = tuple("0123456789")
    return Classifier(module.eval(), classes, PixelContract(8, 8, channels=1), Architecture("spec", "conv4"))


def all_at_once(classifier: Classifier, folder: Path) -> tuple[list[str], torch.Tensor]:
    files = sorted(f for f in folder.rglob("*.png") if f.name != "torn.png")
    x = classifier.contract.tensor(np.stack([np.asarray(Image.open(f))[..., None] for f in files]))
    with torch.no_grad():
        return [str(f.relative_to(folder)) for f in files], classifier.module[0](x)


def test_the_best_pictures_of_each_channel_are_those_of_one_pass_over_all(classifier, folder):
    paths, maps = all_at_once(classifier, folder)
    own = own_pictures(folder)
    top = most_exciting(classifier, own, ["0"], best=3).layers["0"]
    assert top.n == 45
    for c in (0, 3):
        largest, at = maps[:, c].flatten(1).numpy().max(1), maps[:, c].flatten(1).numpy().argmax(1)
        best = np.argsort(-largest, kind="stable")[:3]  # among equal ones the first
        assert [own.names[i] for i in top.pictures[c]] == [paths[i] for i in best]
        assert top.values[c] == pytest.approx(largest[best])
        assert (top.places[c] @ [6, 1]).tolist() == at[best].tolist()
        assert [own.labels[i] for i in top.pictures[c]] == [paths[i][0] for i in best]
    assert top.low == pytest.approx(maps.amin((0, 2, 3)).numpy())
    assert top.high == pytest.approx(maps.amax((0, 2, 3)).numpy())


def test_dead_channels_are_counted_with_n(classifier, folder):
    tops = most_exciting(classifier, own_pictures(folder), ["0", "1"])
    before, after = tops.layers["0"], tops.layers["1"]
    assert (before.constant.tolist(), before.never_positive.tolist()) == ([1], [1, 2])
    assert (after.constant.tolist(), after.never_positive.tolist()) == ([1, 2], [1, 2])
    assert "4 channels, 2 never above 0 and 1 constant over 45 pictures" in str(tops)
    content = tops.to_dict()["layers"][1]
    assert (content["name"], content["n"], content["constant"]) == ("1", 45, [1, 2])
    assert content["top"][0][0]["path"].endswith(".png")


def test_the_sheet_has_a_row_for_each_channel_that_is_not_constant(classifier, folder):
    tops = most_exciting(classifier, own_pictures(folder), ["0", "1"])
    tall, short = (tops.sheet(name).height for name in ("0", "1"))
    assert tall - short == pytest.approx(112 + 18 + 8, abs=20)  # channel 2, which is constant behind the rectifier
    with torch.no_grad():
        classifier.module[0].weight.zero_()
    with pytest.raises(DataError, match="All 4 channels of '0' are constant over 45 pictures"):
        most_exciting(classifier, own_pictures(folder), ["0"]).sheet("0")


def test_classes_have_the_logits_that_the_classifier_gives(classifier, folder):
    own = own_pictures(folder)
    top = most_exciting(classifier, own, [LOGITS]).layers[LOGITS]
    logits = classifier.predict_logits(np.stack([own.pixels(i, classifier.contract) for i in top.pictures[7]]))
    assert top.values[7] == pytest.approx(logits[:, 7].numpy(), rel=1e-5)


def test_pictures_are_drawn_at_random_and_that_is_told(folder):
    some, again, other = (own_pictures(folder, most=10, seed=seed) for seed in (0, 0, 1))
    assert len(some) == 10
    assert some.names == again.names != other.names
    assert "10 of 46 pictures" in str(some)


def test_what_is_no_picture_of_the_network_is_refused(classifier, tmp_path):
    np.save(tmp_path / "five.npy", np.zeros((8, 8, 5), np.uint8))
    with pytest.raises(DataError, match="can be shown to this network"):
        most_exciting(classifier, own_pictures(tmp_path), ["0"])
    with pytest.raises(DataError, match="there is no run here"):
        own_pictures("own")


def test_for_all_layers_the_last_one_with_a_map_is_shown(classifier):
    assert layers_to_watch(classifier, "all") == ("1", ["1"])
    assert layers_to_watch(classifier, "3") == ("3", ["3"])
    dense = Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10)), classifier.classes, classifier.contract,
        classifier.architecture,
    )  # fmt: skip
    assert layers_to_watch(dense, "all") == ("3", ["0", "1", "2", "3"])
