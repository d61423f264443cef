"""Work on some pictures, piece by piece, and floats as levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.data.chunks import as_levels, in_chunks, interleaved, on_some


def test_levels_are_numpys_rounded_and_clipped() -> None:
    numbers = np.concatenate([np.linspace(-40, 300, 5000), [0.5, 1.5, 254.5, -1e6, 1e6]]).astype(np.float32)
    expected = numbers.round().clip(0, 255).astype(np.uint8)
    assert np.array_equal(as_levels(torch.from_numpy(numbers.copy())).numpy(), expected)


@pytest.mark.parametrize("which", [[], [3], [0, 2, 4], range(5)])
def test_only_those_that_are_meant_change(which: list[int]) -> None:
    batch, chosen = torch.arange(5, dtype=torch.uint8)[:, None].repeat(1, 7), np.isin(np.arange(5), which)
    expected = [10 * k if k in which else k for k in range(5)]
    assert on_some(lambda part, told: part * 10, batch, chosen)[:, 6].tolist() == expected


def test_pieces_are_the_whole() -> None:
    """150,528 levels a picture: each is a piece."""
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), np.uint8))
    sums = in_chunks(lambda part, factor: part.flatten(1).sum(1) * factor, batch, torch.arange(5))
    assert torch.equal(sums, batch.flatten(1).sum(1) * torch.arange(5))


def test_planes_become_pixels() -> None:
    planes = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    assert torch.equal(interleaved(planes), planes.permute(1, 2, 3, 0))
