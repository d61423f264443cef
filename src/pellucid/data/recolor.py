"""Everything that changes levels: color shifts composed into one map a picture, blur, whitening, and what is cut out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.chunks import as_levels, in_chunks, on_device
from pellucid.data.warp import Draw, Strengths, reflected

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as everywhere where color becomes grey
_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])  # lightness and two axes of color
_GREY = 128.0  # what whitening calls zero
_CONTRAST = 50.0  # levels for a standard deviation of a whitened picture
PATCH = 5  # side of the whitening filter in pixels


def recolor(batch: torch.Tensor, strengths: Strengths, draw: Draw, axes: np.ndarray | None) -> torch.Tensor:
    """uint8 (N, H, W, C) -> the same shape: contrast about the picture's own mean, saturation, hue, brightness, lighting.

    Each is a matrix and an offset on the channels, so all of them together are one, and levels are rounded once.
    `axes` (C, C) are the principal axes of the data set's colors, each as long as its standard deviation in levels.
    """
    channels = batch.shape[3]

    def factor(name: str) -> np.ndarray | None:
        streams = {name: name, "color": f"color_{name}"}
        given = [1 + strengths[k] * (2 * draw(stream) - 1) for k, stream in streams.items() if k in strengths]
        return np.prod(given, axis=0) if given else None

    scale, offset = np.ones(len(batch)), np.zeros((len(batch), channels))
    if (contrast := factor("contrast")) is not None:
        scale, offset = contrast, offset + ((1 - contrast) * _mean_level(batch))[:, None]
    if (brightness := factor("brightness")) is not None:
        scale, offset = scale * brightness, offset * brightness[:, None]
    if "lighting" in strengths and axes is not None:
        from scipy.special import ndtri

        offset = offset + (strengths["lighting"][:, None] * ndtri(draw("lighting", channels).clip(1e-9))) @ axes.T
    matrix = scale[:, None, None]
    if channels == 3 and (saturation := factor("saturation")) is not None:  # grey stays grey, so the offset does too
        matrix = matrix * (saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * _LUMA)
    if "hue" in strengths:
        matrix = hue_matrix(strengths["hue"] * (2 * draw("hue") - 1)) @ (
            matrix * np.eye(3) if matrix.shape[1] == 1 else matrix
        )
    width = batch.shape[2]
    bands, offset = _bands(matrix, width * channels), np.tile(offset, width)
    return in_chunks(_multiplied, batch, on_device(bands, batch), on_device(offset, batch))


def hue_matrix(turn: np.ndarray) -> np.ndarray:
    """(N,) shares of the color circle -> (N, 3, 3) on RGB: a rotation in YIQ, which keeps the lightness.

    Source: Haeberli 1993, Matrix Operations for Image Processing.
    """
    angle = 2 * np.pi * turn
    rotation = np.zeros((len(turn), 3, 3))
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = np.cos(angle)
    rotation[:, 2, 1] = np.sin(angle)
    rotation[:, 1, 2] = -rotation[:, 2, 1]
    return np.linalg.inv(_YIQ) @ rotation @ _YIQ


def _mean_level(batch: torch.Tensor) -> np.ndarray:
    """float64 (N,): mean of all levels of each picture. Sums of rows are whole numbers that float32 holds exactly, so
    the figure does not depend on the company of the picture."""
    rows = in_chunks(lambda part: part.flatten(2).float().sum(2), batch)
    return rows.cpu().double().mean(1).numpy() / batch.shape[2:].numel()


def _bands(matrix: np.ndarray, length: int) -> np.ndarray:
    """The diagonals of (N, K, K), -K < k < K from the lowest, each repeated along rows of levels: (N, 2K - 1, length).

    The channels of a pixel are neighbors in memory, so what channel c takes from c + k is the row, shifted by k, times one.
    """
    size = matrix.shape[1]
    found = np.zeros((len(matrix), 2 * size - 1, size))
    for row in range(size):
        for column in range(size):
            found[:, column - row + size - 1, row] = matrix[:, row, column]
    return np.tile(found, length // size)


def _multiplied(batch: torch.Tensor, bands: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """`bands` (N, 2K - 1, W*C), `offset` (N, W*C). Without taking channels apart: that took longer than the rest together."""
    rows = batch.flatten(2).float()  # (N, H, W*C)
    middle = bands.shape[1] // 2
    out = torch.addcmul(offset[:, None], rows, bands[:, middle, None])
    for k in range(1, middle + 1):
        out[..., :-k].addcmul_(rows[..., k:], bands[:, middle + k, None, :-k])
        out[..., k:].addcmul_(rows[..., :-k], bands[:, middle - k, None, k:])
    return as_levels(out).view(batch.shape)


def blur(batch: torch.Tensor, sigma: np.ndarray, *, reach: int) -> torch.Tensor:
    """Gaussian blur of uint8 (N, H, W, C) with a standard deviation in pixels for each picture (N,), cut off beyond `reach`
    pixels; the border is mirrored."""
    distance = np.arange(reach + 1)
    weights = np.exp(-0.5 * (distance / sigma.clip(1e-3)[:, None]) ** 2)
    weights[distance > 4 * sigma[:, None]] = 0  # as in SciPy; where no picture of a piece needs them, they are left out
    weights = weights / (2 * weights.sum(1, keepdims=True) - weights[:, :1])
    return in_chunks(_blurred, batch, on_device(weights, batch))


def _blurred(batch: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`weights` (N, 1 + reach): of the pixel itself, and of those at each distance on both sides."""
    n, height, width, channels = batch.shape
    reach = int((weights > 0).any(0).nonzero().max())
    weights = weights[..., None, None]
    x = batch.flatten(2).float()  # (N, H, W*C)
    for size, pixel in ((height, width * channels), (width, channels)):  # the second time each row by itself
        x = x.view(-1, size, pixel)
        borders = reflected(torch.arange(-reach, 0), size), reflected(torch.arange(size, size + reach), size)
        top, bottom = (x.index_select(1, line.to(batch.device)) for line in borders)
        padded = torch.cat([top, x, bottom], dim=1).view(n, -1, (size + 2 * reach) * pixel)
        length = size * pixel
        x = padded[..., reach * pixel : reach * pixel + length] * weights[:, 0]
        for k in range(1, reach + 1):
            before, after = (reach - k) * pixel, (reach + k) * pixel
            x.addcmul_(padded[..., before : before + length] + padded[..., after : after + length], weights[:, k])
    return as_levels(x).view(batch.shape)


def whiten(batch: torch.Tensor, share: np.ndarray, kernel: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, C) mixed with its whitened version by a share (N,); `kernel` (C, C, PATCH, PATCH) as `zca_kernel` gives.

    Zero of the whitened picture is middle grey, and a standard deviation is 50 levels.
    """
    weights = torch.from_numpy(kernel * _CONTRAST).float().to(batch.device)

    def work(part: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        rows, columns = (
            reflected(torch.arange(-(PATCH // 2), size + PATCH // 2, device=part.device), size)
            for size in part.shape[1:3]
        )
        planes = part[:, rows][:, :, columns].permute(0, 3, 1, 2).float()
        white = F.conv2d(planes - _GREY, weights).permute(0, 2, 3, 1)
        white = white - white.mean((1, 2), keepdim=True) + _GREY
        return as_levels(part.float().lerp(white, share[:, None, None, None]))

    return in_chunks(work, batch, on_device(share, batch))


def color_axes(pixels: np.ndarray) -> np.ndarray:
    """The principal axes of the colors of uint8 (N, H, W, C): float (C, C), columns as long as the standard deviation.

    Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, section 4.1.
    """
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(pixels.reshape(-1, pixels.shape[3]).T.astype(np.float64))))
    return np.asarray(vectors * np.sqrt(values.clip(0)))


def zca_kernel(pixels: np.ndarray) -> np.ndarray:
    """The filter (C, C, PATCH, PATCH) that whitens pictures like uint8 (N, H, W, C), by ZCA of their patches.

    ZCA turns patches into uncorrelated numbers of variance 1 that stay as near to them as can be; the rows of its matrix that
    belong to the middle pixel are a filter. Source: Bell & Sejnowski 1997; Krizhevsky 2009, appendix A.
    """
    channels, half = pixels.shape[3], PATCH // 2
    padded = np.pad(pixels, ((0, 0), (half, half), (half, half), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))  # (N, H, W, C, 5, 5)
    count = int(np.prod(windows.shape[:3]))
    chosen = np.unravel_index(
        np.random.default_rng(0).choice(count, min(count, 50_000), replace=False), windows.shape[:3]
    )
    patches = windows[chosen].reshape(-1, channels * PATCH**2).astype(np.float64)  # channel by channel
    values, vectors = np.linalg.eigh(np.cov(patches.T))
    small = 0.001 * values.mean() + 1e-9  # directions with next to no variance are noise and not blown up
    matrix = (vectors / np.sqrt(values + small)) @ vectors.T
    middle = np.arange(channels) * PATCH**2 + PATCH**2 // 2
    return np.asarray(matrix[middle].reshape(channels, channels, PATCH, PATCH))


def cut_out(batch: torch.Tensor, side: int, draws: np.ndarray) -> torch.Tensor:
    """A square with `side` pixels inside each picture of uint8 (N, H, W, C) becomes its mean color, in
    place; `draws` (N, 2) say where.

    Source: DeVries & Taylor 2017, arXiv 1708.04552; here the square never sticks out of the picture.
    """
    n, height, width, channels = batch.shape
    columns = in_chunks(lambda part: part.flatten(2).float().sum(1), batch).cpu()  # (N, W*C), exact as in _mean_level
    color = (columns.double().view(n, width, channels).mean(1) / height).round().to(torch.uint8).to(batch.device)
    top, left = (np.floor(draws * [height - side + 1, width - side + 1])).astype(np.int64).T
    along = np.arange(side)
    rows = (np.arange(n) * height + top)[:, None] + along
    pixels = torch.from_numpy(rows[:, :, None] * width + (left[:, None] + along)[:, None]).to(batch.device)
    batch.view(-1, channels)[pixels.view(n, -1)] = color[:, None]
    return batch
