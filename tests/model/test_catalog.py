"""The list of networks: the courses' first, patterns over both libraries, parameters that were published."""

from __future__ import annotations

import json

import pytest
import timm

from pellucid.errors import UnknownNameError
from pellucid.model.catalog import list_networks
from pellucid.model.courses import COURSE
from pellucid.model.describe import summary_of
from pellucid.model.zoo import find_architecture


def test_without_a_pattern_the_networks_of_the_courses_come_first():
    catalog = list_networks()
    names = [network.name for network in catalog.networks]
    assert names == [*COURSE, "fastnet"]
    assert all(network.about for network in catalog.networks)
    assert catalog.more["timm"] == len(timm.list_models())
    assert f"{catalog.more['timm']:,} of timm" in str(catalog)


def test_a_pattern_finds_the_names_of_both_libraries_once():
    catalog = list_networks("resnet1*8")
    assert [(network.name, network.family) for network in catalog.networks] == [
        ("resnet18", "timm")
    ]  # also torchvision's
    squeezed = list_networks("SqueezeNet").networks  # a plain word may be anywhere, in any case
    assert {(network.name, network.family) for network in squeezed} >= {("squeezenet1_1", "torchvision")}
    assert [network.name for network in list_networks("tutorial").networks] == ["tutorial-6-16", "tutorial-16-32-64"]


def test_every_listed_name_is_one_that_model_takes_with_its_input():
    for network in (*list_networks().networks, *list_networks("efficientnet_b?").networks):
        assert find_architecture(network.name).family == network.family
    (b3,) = list_networks("efficientnet_b3").networks[:1]
    assert b3.input_shape == (3, 288, 288)


def test_parameters_with_1000_classes():
    counted = {n.name: n.parameters for n in list_networks("re[sg]net*50", parameters=True).networks}
    assert counted["resnet50"] == 25_557_032
    told = []
    list_networks("vgg1?", parameters=True, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(told), len(told))


def test_nothing_fits():
    with pytest.raises(UnknownNameError, match=r"No network fits 'rensnet50'.*Did you mean resnet50"):
        list_networks("rensnet50")
    with pytest.raises(UnknownNameError, match=r"'resnet\*'\.$"):
        list_networks("#")


def test_as_json_and_as_text():
    catalog = list_networks("tutorial", parameters=True)
    data = catalog.to_dict()
    assert json.loads(json.dumps(data))["networks"][1]["parameters"] == 40_682 + 990 * 65
    first, _, third = str(catalog).splitlines()
    assert first.split() == ["name", "family", "about", "input", "parameters"]
    assert third.startswith("tutorial-16-32-64")
    assert "about" not in str(list_networks("resnet18"))


@pytest.mark.parametrize(
    ("name", "parameters"), [("lenet", 61_706), ("tutorial-6-16", 62_006), ("tutorial-16-32-64", 40_682)]
)
def test_networks_of_courses_have_the_parameters_that_courses_give(name, parameters):
    summary = summary_of(name)
    assert summary.parameters == parameters
    assert summary.input_shape == COURSE[name].input_shape
