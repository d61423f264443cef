"""Filters made by hand: a kernel that slides over a picture, and the pooling of what it finds.

The arithmetic of a convolution layer on plain NumPy arrays, done by torch in double precision. Like the layer, the kernel
is not mirrored first (mathematicians call that cross-correlation).
"""

from __future__ import annotations

import re

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from pellucid.errors import ConfigError, ShapeError, UnknownNameError, nearest
from pellucid.model.arithmetic import output_size
from pellucid.model.size import border_of

KERNELS: dict[str, tuple[tuple[float, ...], ...]] = {
    "smooth": ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "gaussian-blur": ((0, 1, 0), (1, 4, 1), (0, 1, 0)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "sharpen-strong": ((-1, -1, -1), (-1, 9, -1), (-1, -1, -1)),
    "blur": ((0, 0.2, 0), (0.2, 0.2, 0.2), (0, 0.2, 0)),
    "motion-blur-horizontal": ((0, 0, 0), (0.2, 0.2, 0.2), (0, 0, 0)),
    "edges": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    "vertical-lines": ((0, 1, 0), (0, 1, 0), (0, 1, 0)),
    "horizontal-lines": ((0, 0, 0), (1, 1, 1), (0, 0, 0)),
}


_WRITTEN = re.compile(r"[\s;,]*|[\s;,]*[-+.\d][-+.\deE\s;,]*")


def find_kernel(kernel: str | ArrayLike) -> np.ndarray:
    """The kernel of a name, or of a matrix (K_h, K_w), as float64. `smooth` and `gaussian-blur` add up to 9 and 8.

    A text with numbers is a matrix, too: "0 -1 0; -1 5 -1; 0 -1 0". Raises UnknownNameError with the nearest names, ConfigError for a matrix that is none.
    """
    if isinstance(kernel, str) and _WRITTEN.fullmatch(kernel):
        kernel = _rows(kernel)
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise UnknownNameError(
                f"Unknown kernel '{kernel}'; expected one of {', '.join(KERNELS)}, or a matrix of numbers like "
                f"'0 -1 0; -1 5 -1; 0 -1 0'. "
                f"{nearest(kernel, KERNELS)}".rstrip()
            )
        kernel = KERNELS[kernel]
    matrix = _numbers(kernel, "kernel")
    if matrix.ndim != 2:
        raise ConfigError(
            f"The kernel has the shape {matrix.shape}; expected rows and columns, like [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]."
        )
    return matrix


def convolve(
    image: ArrayLike, kernel: str | ArrayLike, *, stride: int = 1, padding: int | str = 0, reduce: str = "sum"
) -> np.ndarray:
    """Slides `kernel` over `image`, (H, W) or (H, W, C), every channel by itself -> float64 (H', W') or (H', W', C).

    `reduce` makes the products of a window one number: their sum, as a layer does, or their mean. `padding` is a border
    of zeros in pixels, or none, same (keeps the size at stride 1) or wide (every window that touches the image). Values
    are neither clipped nor rounded.
    Raises ShapeError when the kernel does not fit, UnknownNameError, ConfigError.
    """
    matrix = find_kernel(kernel)
    _check_word(reduce, "reduce", ("sum", "mean"))
    border = tuple(border_of(padding, side) if isinstance(padding, str) else padding for side in matrix.shape)
    planes = _planes(image)
    for side, window, edge in zip(planes.shape[2:], matrix.shape, border, strict=True):
        output_size(side, window, padding=edge, stride=stride)  # says what does not fit, in our words
    found = F.conv2d(planes, torch.from_numpy(matrix)[None, None], stride=stride, padding=border)
    return _as_image(found / matrix.size if reduce == "mean" else found, image)


def pool(
    image: ArrayLike, window: int = 2, *, stride: int | None = None, kind: str = "max", ragged: bool = False
) -> np.ndarray:
    """The largest value or the average of each window of (H, W) or (H, W, C) -> float64 (H', W') or (H', W', C).

    The windows lie side by side unless `stride` says otherwise. A ragged edge, where no whole window fits, is left
    out, or with `ragged` pooled as far as it goes (ceil_mode in torch).
    Raises ShapeError when the window does not fit, UnknownNameError, ConfigError.
    """
    _check_word(kind, "kind", ("max", "average"))
    stride = window if stride is None else stride
    planes = _planes(image)
    for side in planes.shape[2:]:
        output_size(side, window, stride=stride, ceil_mode=ragged)
    operation = F.max_pool2d if kind == "max" else F.avg_pool2d
    return _as_image(operation(planes, window, stride, ceil_mode=ragged), image)


def _rows(text: str) -> list[list[float]]:
    try:
        rows = [[float(number) for number in re.split(r"[\s,]+", row) if number] for row in text.split(";")]
    except ValueError as error:
        raise ConfigError(f"The kernel '{text}' holds what is no number: {error}.") from error
    rows = rows[:-1] if rows and not rows[-1] else rows  # a semicolon after the last row
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ConfigError(
            f"The kernel '{text}' has rows of {', '.join(str(len(row)) for row in rows) or 'no'} numbers; expected rows of one "
            "length between semicolons, like '0 -1 0; -1 5 -1; 0 -1 0'."
        )
    return rows


def _planes(image: ArrayLike) -> torch.Tensor:
    pixels = _numbers(image, "image")
    if pixels.ndim not in (2, 3):
        raise ShapeError(
            f"The image has the shape {pixels.shape}; expected (height, width) or (height, width, channels)."
        )
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[:, None]  # (H, W, C) -> (C, 1, H, W)


def _as_image(planes: torch.Tensor, like: ArrayLike) -> np.ndarray:
    pixels = planes[:, 0].numpy()  # (C, 1, H', W') -> (C, H', W')
    return pixels[0] if np.ndim(like) == 2 else pixels.transpose(1, 2, 0)


def _numbers(values: ArrayLike, what: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The {what} is no array of numbers: {error}.") from error
    if array.size == 0 or not np.isfinite(array).all():
        raise ConfigError(f"The {what} of shape {array.shape} is empty or holds values that are no finite numbers.")
    return array


def _check_word(word: str, name: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise UnknownNameError(f"{name} is '{word}'; it must be one of {', '.join(known)}.")
