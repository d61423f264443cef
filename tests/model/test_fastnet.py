"""fastnet: the whitening, the identity at the start, the depth at every size, and names that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.errors import ShapeError, SpecError
from pellucid.model.fastnet import Block, FastNet, parse_widths


def pictures(channels: int) -> torch.Tensor:
    """Smooth random fields, float (64, channels, 12, 12), whose neighbors are alike as in photographs."""
    noise = torch.randn(64, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool2d(noise, 5, stride=1)
    return smooth / smooth.std()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_whitens_patches(channels: int) -> None:
    x = pictures(channels)
    module = FastNet(input_shape=(channels, 12, 12), num_classes=2)
    module.start_from(x)
    out = module.whiten(x)  # (64, 8 * channels, 11, 11)
    rows = out.detach().double().permute(1, 0, 2, 3).flatten(1).numpy()
    half = 4 * channels
    assert len(rows) == 2 * half
    second_moments = rows[:half] @ rows[:half].T / rows.shape[1]

    patches = F.unfold(x, 2).permute(1, 0, 2).flatten(1).double().numpy()  # (4 * channels, N)
    values = np.linalg.eigvalsh(patches @ patches.T / patches.shape[1])[::-1]
    assert values[0] > 20 * values[-1]  # negative control: the patches themselves are far from white
    np.testing.assert_allclose(second_moments, np.diag(values / (values + 5e-4)), atol=1e-4)
    np.testing.assert_allclose(second_moments, np.eye(half), atol=0.03)
    np.testing.assert_allclose(rows[half:], -rows[:half], atol=1e-4)
    assert not module.whiten.bias.any()


def test_the_frozen_layer_gets_no_gradient() -> None:
    module = FastNet(input_shape=(1, 8, 8), num_classes=3, widths=(4, 8))
    module.start_from(pictures(1))
    F.cross_entropy(module(torch.randn(6, 1, 8, 8)), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    without = {name for name, parameter in module.named_parameters() if parameter.grad is None}
    scales = {f"blocks.{b}.norm{n}.weight" for b in (0, 1) for n in (1, 2)}
    assert without == {"whiten.weight", "whiten.bias", *scales}


@pytest.mark.parametrize(("channels", "width"), [(8, 16), (8, 8), (16, 6)])
def test_convolutions_start_as_the_identity(channels: int, width: int) -> None:
    block = Block(channels, width, pool=1)
    x = torch.randn(2, channels, 7, 9)
    same = min(channels, width)
    assert torch.allclose(block.conv1(x)[:, :same], x[:, :same], atol=1e-6)
    if width > channels:  # what has no channel to repeat starts at random
        assert block.conv1(x)[:, same:].abs().mean() > 0.01
    y = torch.randn(2, width, 7, 9)
    assert torch.allclose(block.conv2(y), y, atol=1e-6)


@pytest.mark.parametrize("size", [*range(4, 28), 47, 48, 63, 64, 95, 96])
def test_every_size_from_4_to_96_keeps_at_least_a_pixel(size: int) -> None:
    for height, width in ((size, size), (96, size)):
        with torch.device("meta"):
            module = FastNet(input_shape=(3, height, width), num_classes=5, widths=(2, 2, 2, 2, 2, 2))
            x = module.whiten(torch.empty(2, 3, height, width))
            for block in module.blocks:
                x = block(x)
                assert min(x.shape[2:]) >= 1


@pytest.mark.parametrize(("size", "sides"), [(4, (3, 3, 3)), (8, (7, 3, 3)), (13, (6, 3, 3)), (32, (15, 7, 3))])
def test_a_block_halves_the_map_while_it_is_large(size: int, sides: tuple[int, ...]) -> None:
    module = FastNet(input_shape=(1, size, size), num_classes=2, widths=(4, 4, 4))
    x = module.whiten(torch.zeros(1, 1, size, size))
    found = []
    for block in module.blocks:
        x = block(x)
        found.append(x.shape[-1])
    assert tuple(found) == sides


@pytest.mark.parametrize("size", [(3, 3), (3, 32), (32, 1)])
def test_smaller_pictures_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match=f"at least 4x4 pixels and received {size[0]}x{size[1]}"):
        FastNet(input_shape=(1, *size), num_classes=2)


def test_logits_are_a_ninth_of_the_heads() -> None:
    module = FastNet(input_shape=(1, 8, 8), num_classes=3, widths=(4,)).eval()
    seen: list[torch.Tensor] = []
    module.head.register_forward_hook(lambda _, inputs, output: seen.append(output))
    logits = module(torch.randn(2, 1, 8, 8))
    assert torch.allclose(logits * 9, seen[0])
    assert isinstance(module.head, nn.Linear)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("fastnet", (16, 64, 64)),
        ("fastnet-8", (8,)),
        ("fastnet-1-22-333", (1, 22, 333)),
        ("fastnet" + "-9" * 6, (9,) * 6),
    ],
)
def test_widths_in_a_name(name: str, widths: tuple[int, ...]) -> None:
    assert parse_widths(name) == widths


@pytest.mark.parametrize(
    "name",
    [
        "fastnet-", "fastnet-0", "fastnet-08", "fastnet-8-", "fastnet--8", "fastnet-8-x", "fastnet8", "fastnets",
        "fastnet-12345", "fastnet" + "-9" * 7, "fastnet-8 ", "fastnet-8\n", "FASTNET", "",
    ],
)  # fmt: skip
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(SpecError, match="names no fastnet"):
        parse_widths(name)
