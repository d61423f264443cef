"""fastnet: a small convolutional family for small pictures, built to learn fast.

After airbench94 (Keller Jordan 2024, arXiv 2404.00498), generalised to any size and channel count: a frozen first layer
that whitens 2x2 patches, convolutions that start as the identity, batch norm without scales, max pooling before the
norm, and a small factor before the softmax. Pictures from 4x4 pixels up; each block halves the map while it is large
enough, so the depth follows from the size.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from pellucid.errors import ShapeError, SpecError

DEFAULT_WIDTHS = (16, 64, 64)
_WHITENING_EPS = 5e-4
_LOGIT_SCALE = 1 / 9


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor:.4g}"


class Block(nn.Module):
    """conv, pool, norm, gelu, conv, norm, gelu: (N, C, H, W) -> (N, width, H // pool, W // pool)."""

    def __init__(self, channels: int, width: int, *, pool: int) -> None:
        super().__init__()
        self.conv1 = _identity_conv(channels, width)
        self.pool = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
        self.norm1 = _norm(width)
        self.conv2 = _identity_conv(width, width)
        self.norm2 = _norm(width)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm1(self.pool(self.conv1(x))))
        return self.act(self.norm2(self.conv2(x)))


class FastNet(nn.Module):
    """(N, channels, H, W) -> (N, num_classes) logits."""

    def __init__(
        self, *, input_shape: tuple[int, int, int], num_classes: int, widths: tuple[int, ...] = DEFAULT_WIDTHS
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        side = min(height, width) - 1
        if side < 3:
            raise ShapeError(
                f"fastnet needs pictures of at least 4x4 pixels and received {height}x{width}. Use a larger --size."
            )
        whitened = 2 * channels * 4
        self.whiten = nn.Conv2d(channels, whitened, kernel_size=2)
        self.whiten.requires_grad_(False)  # nothing flows back into the largest maps: a third of the time
        self.act = nn.GELU()
        blocks: list[nn.Module] = []
        before = whitened
        for block_width in widths:
            pool = 2 if side >= (6 if blocks else 12) else 1  # pooling 8x8 pictures first would lose their strokes
            blocks.append(Block(before, block_width, pool=pool))
            before, side = block_width, side // pool
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(before, num_classes, bias=False)
        self.scale = Scale(_LOGIT_SCALE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.act(self.whiten(x)))
        return self.scale(self.head(self.pool(x).flatten(1)))  # (N, C, H, W) -> (N, C) -> (N, num_classes)

    @torch.no_grad()
    def start_from(self, pictures: torch.Tensor) -> None:
        """Sets the first layer to the whitening of 2x2 patches of `pictures`, float (N, C, H, W), normalised.

        Source: Page 2019, "How to train your ResNet 8"; the rows are the covariance's eigenvectors over the root of
        their eigenvalues, and their negatives.
        """
        kernel = self.whiten.kernel_size
        squares, count = torch.zeros(1), 0
        for some in pictures.float().split(100):  # copies every pixel four times
            patches = some.unfold(2, kernel[0], 1).unfold(3, kernel[1], 1)  # (N, C, H', W', 2, 2)
            patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1).double()  # (N * H' * W', C * 4)
            squares, count = squares + patches.T @ patches, count + len(patches)
        values, vectors = torch.linalg.eigh(squares / count)
        filters = (vectors / (values + _WHITENING_EPS).sqrt()).T.flip(0)  # rows, largest eigenvalue first
        filters = filters.float().reshape(-1, *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]


def parse_widths(name: str) -> tuple[int, ...]:
    """Widths in a name like 'fastnet-16-64-64'; 'fastnet' alone gives the default. Raises SpecError."""
    if name == "fastnet":
        return DEFAULT_WIDTHS
    if not re.fullmatch(r"fastnet(-[1-9]\d{0,3}){1,6}", name):
        raise SpecError(f"'{name}' names no fastnet. Write fastnet, or one to six block widths like fastnet-16-64-64.")
    return tuple(int(part) for part in name.split("-")[1:])


def _identity_conv(channels: int, width: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[: min(channels, width)])
    return conv


def _norm(width: int) -> nn.BatchNorm2d:
    # airbench's "momentum 0.6" is 0.4 in torch's convention; its eps of 1e-12 fails on constant maps in low precision
    norm = nn.BatchNorm2d(width, momentum=0.4, eps=1e-5)
    norm.weight.requires_grad = False
    return norm
