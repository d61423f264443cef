"""The arithmetic of layers against torch, against itself turned around, and against published networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pellucid.errors import ShapeError
from pellucid.model.arithmetic import (
    ReceptiveField,
    conv_macs,
    conv_parameters,
    dense_macs,
    dense_parameters,
    output_size,
    same_padding,
    smallest_input,
)

sides = st.integers(1, 40)
small = st.integers(1, 7)


def size_or_none(**numbers: int) -> int | None:
    try:
        return output_size(**numbers)
    except ShapeError:
        return None


@given(size=sides, kernel=small, padding=st.integers(0, 5), stride=small, dilation=st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_output_size_is_the_side_that_torch_convolves_to(size, kernel, padding, stride, dilation):
    try:
        line = torch.zeros(1, 1, size)
        convolved = F.conv1d(line, torch.zeros(1, 1, kernel), None, stride, padding, dilation)
        expected = convolved.shape[-1]
    except RuntimeError:
        expected = None
    numbers = {"padding": padding, "stride": stride, "dilation": dilation}
    assert size_or_none(size=size, kernel=kernel, **numbers) == expected


@given(data=st.data(), size=sides, kernel=small, stride=small, ceil_mode=st.booleans())
@settings(max_examples=150, deadline=None)
def test_output_size_is_the_side_that_torch_pools_to(data, size, kernel, stride, ceil_mode):
    padding = data.draw(st.integers(0, kernel // 2))
    try:
        pooled = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, ceil_mode=ceil_mode)
        expected = pooled.shape[-1]
    except RuntimeError:
        expected = None
    numbers = {"padding": padding, "stride": stride, "ceil_mode": ceil_mode}
    assert size_or_none(size=size, kernel=kernel, **numbers) == expected


def test_a_kernel_that_does_not_fit_is_an_error_with_the_four_numbers_and_the_size_that_would_do():
    with pytest.raises(ShapeError) as error:
        output_size(4, 7, padding=1, stride=2)
    assert all(part in str(error.value) for part in ("W = 4", "K = 7", "P = 1", "S = 2", "at least W = 5"))
    assert output_size(5, 7, padding=1, stride=2) == 1


@pytest.mark.parametrize("numbers", [{"stride": 0}, {"dilation": 0}, {"padding": -1}])
def test_numbers_that_mean_nothing_are_errors(numbers):
    with pytest.raises(ShapeError, match="at least"):
        output_size(8, 3, **numbers)


@given(output=small, kernel=small, padding=st.integers(0, 3), stride=small, dilation=st.integers(1, 3))
def test_smallest_input_gives_the_output_and_one_pixel_less_does_not(output, kernel, padding, stride, dilation):
    numbers = {"kernel": kernel, "padding": padding, "stride": stride, "dilation": dilation}
    smallest = smallest_input(output, **numbers)
    assert output_size(smallest, **numbers) >= output
    assert smallest == 1 or (size_or_none(size=smallest - 1, **numbers) or 0) < output


@given(size=sides, kernel=small, dilation=st.integers(1, 4))
def test_same_padding_keeps_the_size_of_every_input_or_says_that_it_cannot(size, kernel, dilation):
    if dilation * (kernel - 1) % 2:
        with pytest.raises(ShapeError, match="odd kernel"):
            same_padding(kernel, dilation)
    else:
        assert output_size(size, kernel, padding=same_padding(kernel, dilation), dilation=dilation) == size


@given(
    groups=st.integers(1, 3),
    channels=st.tuples(small, small),
    kernel=st.tuples(small, small),
    output=st.tuples(small, small),
    bias=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_convolution_has_the_parameters_and_macs_that_torch_counts(groups, channels, kernel, output, bias):
    in_channels, out_channels = channels[0] * groups, channels[1] * groups
    conv = nn.Conv2d(in_channels, out_channels, kernel, groups=groups, bias=bias, device="meta")
    picture = [out + k - 1 for out, k in zip(output, kernel, strict=True)]
    with FlopCounterMode(display=False) as counter:
        assert conv(torch.empty(1, in_channels, *picture, device="meta")).shape[2:] == output
    parameters = conv_parameters(in_channels, out_channels, kernel, groups=groups, bias=bias)
    assert parameters == sum(p.numel() for p in conv.parameters())
    macs = conv_macs(in_channels, out_channels, kernel, output, groups=groups)
    assert 2 * macs == counter.get_total_flops()


@given(inputs=sides, outputs=sides, bias=st.booleans())
@settings(deadline=None)
def test_a_dense_layer_has_the_parameters_and_macs_that_torch_counts(inputs, outputs, bias):
    dense = nn.Linear(inputs, outputs, bias=bias, device="meta")
    with FlopCounterMode(display=False) as counter:
        dense(torch.empty(1, inputs, device="meta"))
    assert dense_parameters(inputs, outputs, bias=bias) == sum(p.numel() for p in dense.parameters())
    assert 2 * dense_macs(inputs, outputs) == counter.get_total_flops()


CONV, POOL = (3, 1), (2, 2)


@pytest.mark.parametrize(
    ("network", "layers", "size", "jump"),
    [
        ("AlexNet to pool5", [(11, 4), (3, 2), (5, 1), (3, 2), CONV, CONV, CONV, (3, 2)], 195, 32),
        ("VGG16 to pool5", ([CONV] * 2 + [POOL]) * 2 + ([CONV] * 3 + [POOL]) * 3, 212, 32),
    ],
)
def test_receptive_fields_published_by_araujo_et_al(network, layers, size, jump):
    field = ReceptiveField()
    for kernel, stride in layers:
        field = field.through(kernel, stride=stride)
    assert (field.size, field.jump) == (size, jump)


def test_doubling_dilations_see_exponentially_far():
    # Yu & Koltun 2016: 3x3 kernels with dilations 1, 2, 4 see 3, 7, 15 pixels
    field, seen = ReceptiveField(), []
    for dilation in (1, 2, 4):
        field = field.through(3, dilation=dilation)
        seen.append(field.size)
    assert seen == [3, 7, 15]
