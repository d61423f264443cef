"""Pictures explained: a network that is known to look at one place, and verdicts that must follow from it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.contract import PixelContract
from pellucid.data.task import LABELS, NUMBER, Task
from pellucid.errors import ConfigError, DataError, PictureError, UnknownNameError
from pellucid.explain.heat import explain, prepare, worded
from pellucid.explain.heat_set import explain_many, mean_interval
from pellucid.model.classifier import Classifier
from pellucid.model.zoo import Architecture


class Window(nn.Module):
    """It says a when there is light in one window of the picture, and looks nowhere else."""

    def __init__(self, top: int, left: int) -> None:
        super().__init__()
        self.act, self.mask = nn.ReLU(inplace=True), nn.Parameter(torch.zeros(16, 16))
        self.mask.data[top : top + 5, left : left + 5] = 0.3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        light = (self.act(x[:, 0] + 0) * self.mask).sum((1, 2)) - 3
        return torch.stack([light, -light], 1)


def classifier_of(module: nn.Module, task: Task | None = None, classes: tuple[str, ...] = ("a", "b")) -> Classifier:
    classifier = Classifier(module.eval(), classes, PixelContract(16, 16, channels=1), Architecture("spec", "dense2"))
    return replace(classifier, task=task) if task else classifier


def pictures(count: int, top: int, left: int) -> list[np.ndarray]:
    """Noisy pictures with a bright window; edges all over."""
    rng = np.random.default_rng(0)
    found = rng.integers(90, 166, (count, 16, 16, 1), np.uint8)
    found[:, top : top + 5, left : left + 5] += 80
    return list(found)


def test_a_map_of_where_the_network_looks_is_believed() -> None:
    classifier = classifier_of(Window(6, 6))
    picture = pictures(1, 6, 6)[0]
    found = explain(prepare(classifier, picture[None], methods=["occlusion"]), "x.png", picture)
    heat = found.maps[0]
    assert (found.label, found.refused) == ("a", ())
    assert found.share == pytest.approx(float(classifier.predict_proba(picture[None])[0, 0]))
    assert heat.believed
    assert heat.beats("deletion") == heat.beats("road") == (True, True)
    assert heat.values[6:11, 6:11].sum() > 0.6 * np.maximum(heat.values, 0).sum()
    assert heat.verdict.startswith("beats both floors")
    content = found.to_dict()
    assert content["maps"][0].keys() >= {"method", "deletion", "insertion", "road", "floor", "verdict"}
    assert content["maps"][0]["floor"]["edges"]["deletion"] == heat.edges.deletion
    assert "beats both floors" in str(found)


def test_a_map_that_survives_random_weights_is_not_believed() -> None:
    """All weights are equal, so that shuffling them changes nothing: a map that cannot depend on what was learned."""
    module = Window(0, 0)
    module.mask.data[:] = 0.03
    picture = pictures(1, 6, 6)[0]
    explainer = prepare(classifier_of(module), picture[None], methods=["occlusion"])
    heat = explain(explainer, "x.png", picture, "a").maps[0]
    assert heat.similarity == pytest.approx(1)
    assert heat.unchanged
    assert not heat.believed
    assert "do not believe it" in heat.verdict


def test_verdicts_in_words() -> None:
    both, none = (True, True), (False, False)
    assert worded({"deletion": both, "road": both}, 0.1) == worded({"deletion": both, "road": both}, math.nan)
    assert "shows the picture, not the network" in worded({"deletion": both, "road": both}, -0.8)
    assert "no better than an edge detector" in worded({"deletion": (True, False), "road": (True, False)}, 0)
    assert "no better than a random map" in worded({"deletion": (False, True), "road": (False, True)}, 0)
    mixed = worded({"deletion": (True, False), "road": both}, 0)
    assert "beats both floors on ROAD" in mixed
    assert "deletion (edges): believe it with care" in mixed
    assert "do not believe it" in worded({"deletion": none, "road": none}, 0)


def test_the_class_that_is_asked_for_is_explained() -> None:
    classifier, picture = classifier_of(Window(6, 6)), pictures(1, 6, 6)[0]
    explainer = prepare(classifier, picture[None], methods=["occlusion"])
    found = explain(explainer, "x.png", picture, "b")
    assert (found.label, found.maps) == ("b", ())
    assert "speaks against it; explain another class" in found.refused[0][1]
    with pytest.raises(UnknownNameError, match="There is no class 'c'; the classifier knows a, b"):
        explain(explainer, "x.png", picture, "c")


def test_labels_and_numbers_are_explained_too() -> None:
    picture = pictures(1, 6, 6)[0]
    labels = classifier_of(Window(6, 6), Task(LABELS))
    found = explain(prepare(labels, picture[None], methods=["occlusion"]), "x.png", picture, "a")
    assert found.maps[0].believed

    class Number(Window):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -super().forward(x)[:, :1]

    number = classifier_of(Number(6, 6), Task(NUMBER, mean=20.0, std=4.0), ("length",))
    explainer = prepare(number, picture[None], methods=["occlusion"])
    found = explain(explainer, "x.png", picture)
    assert found.label == "length"
    assert found.maps[0].believed, "light makes the number smaller, and the map shows where"
    assert found.maps[0].scores.deletion_curve[[0, -1]] == pytest.approx([1, 0], abs=1e-3)
    with pytest.raises(UnknownNameError, match="answers with a number, length"):
        explain(explainer, "x.png", picture, "a")
    with pytest.raises(PictureError, match="that for an empty picture"):
        explain(explainer, "x.png", np.full((16, 16, 1), 128, np.uint8))


def test_where_no_layer_has_maps_other_methods_work_and_grad_cam_says_why() -> None:
    torch.manual_seed(0)
    dense = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)))
    picture = pictures(1, 6, 6)[0]
    explainer = prepare(dense, picture[None])
    assert explainer.methods == ("grad-cam", "occlusion")
    found = explain(explainer, "x.png", picture)
    assert [heat.method for heat in found.maps] == ["occlusion"]
    assert "No layer of this network gives maps" in dict(found.refused)["grad-cam"]
    with pytest.raises(ConfigError, match="No layer"):
        prepare(dense, picture[None], methods=["grad-cam"])


def test_over_many_pictures_with_intervals_and_averages() -> None:
    classifier, some = classifier_of(Window(6, 6)), pictures(12, 6, 6)
    explainer = prepare(classifier, np.stack(some), methods=["occlusion"], draws=1)
    named = [(f"{i}.png", picture) for i, picture in enumerate(some)]
    found = explain_many(explainer, [*named, ("bad.png", "file is empty (0 bytes)")], source="here")
    each = found.methods[0]
    assert each.n == len(found.explanations) == 12
    assert found.skipped == (("bad.png", "file is empty (0 bytes)"),)
    own = [e.maps[0].scores.deletion for e in found.explanations]
    edges = [e.maps[0].edges.deletion for e in found.explanations]
    assert each.scores["deletion"].value == pytest.approx(np.mean(own))
    assert each.gains["deletion"][1].value == pytest.approx(np.mean(np.subtract(edges, own)))
    assert each.beats("deletion") == each.beats("road") == (True, True)
    count, average = each.averages["a"]
    assert count == 12
    assert average.sum() == pytest.approx(1)
    assert average[6:11, 6:11].sum() > 0.6
    assert each.warning is None
    assert found.warnings == []
    assert found.by_margin.value == 0
    assert "left out: bad.png" in str(found)


def test_a_network_that_looks_at_the_border_is_told() -> None:
    classifier, some = classifier_of(Window(0, 0)), pictures(12, 0, 0)
    classifier.module.mask.data[:] = 0
    classifier.module.mask.data[:2] = 0.25
    explainer = prepare(classifier, np.stack(some), methods=["occlusion"], draws=1)
    found = explain_many(explainer, [(f"{i}", p) for i, p in enumerate(some)], source="here", label="a")
    assert "looks at the border" in str(found.methods[0].warning)
    assert any("The middle is not needed" in warning for warning in found.warnings)


def test_nothing_to_explain_is_an_error() -> None:
    explainer = prepare(classifier_of(Window(6, 6)), np.stack(pictures(1, 6, 6)), methods=["occlusion"])
    with pytest.raises(DataError, match=r"None of 1 picture could be explained.*is empty"):
        explain_many(explainer, [("bad.png", "file is empty")], source="here")


def test_pictures_of_a_group_are_not_counted_as_independent() -> None:
    values = np.repeat([0.0, 1.0, 0.2, 0.9, 0.4, 0.6], 20)
    alone, grouped = mean_interval(values), mean_interval(values, np.repeat(np.arange(6), 20))
    assert alone.value == grouped.value == pytest.approx(values.mean())
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
