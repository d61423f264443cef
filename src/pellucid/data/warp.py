"""Everything that moves pixels, composed into one map from output to input positions, so that a batch is sampled once.

Flips and shifts are whole pixels, and every level stays what it was; a zoom enlarges a box of whole pixels. Pictures that are
also bent (turned, seen from aside, waved) have positions that are fractions, and one bilinear sampling does all, as it does for
the zooms of small pictures. What lies outside is the mirror image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.chunks import as_levels, in_chunks, interleaved, on_device, on_some

Strengths = Mapping[str, np.ndarray]  # of each transform (N,); it does nothing where its neutral value stands
Draw = Callable[..., np.ndarray]  # a name -> float64 (N,) in [0, 1); a name and k -> (N, k)

_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])  # of the unit square, clockwise
_BENDING = ("rotate", "perspective", "elastic")
_MOVING = {"flip", "vflip", "shift", "zoom", *_BENDING}
_SMALL = 2**12  # levels; of 32x32x3, a zoom takes two thirds of the time together, of 224x224x3 seven times as long
_WAVES = 6  # an elastic wave is a sixth of the side wide


def warp(batch: torch.Tensor, strengths: Strengths, draw: Draw, *, flipped: np.ndarray | None) -> torch.Tensor:
    """uint8 (N, H, W, C) -> the same shape, moved by what `strengths` names; `flipped` (N,) says which are mirrored."""
    if _MOVING.isdisjoint(strengths):
        return batch
    n, height, width, _ = batch.shape
    none = np.zeros(n)
    vflipped = draw("vflip") < 0.5 if "vflip" in strengths else None
    move_y, move_x = _shifts(strengths, draw)
    boxes = _boxes(strengths["zoom"], draw("zoom", 4), height, width) if "zoom" in strengths else None
    bent = np.any([strengths.get(name, none) != 0 for name in _BENDING], axis=0)
    if boxes is not None and _together(batch):
        bent |= (boxes[:, 2:] < [height, width]).any(1)

    numbers = (vflipped, flipped, move_y, move_x, boxes)
    batch = on_some(lambda part, which: _straight(part, *(a if a is None else a[which] for a in numbers)), batch, ~bent)
    if not bent.any():
        return batch
    matrix = np.eye(3)[None]
    if move_y is not None and move_x is not None:
        matrix = _affine(offset=(move_x, move_y))
    if "rotate" in strengths:
        angle = np.deg2rad(strengths["rotate"] * (2 * draw("rotate") - 1))
        matrix = matrix @ _affine(np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle))
    if boxes is not None:
        matrix = matrix @ _zoom(boxes, height, width)
    if "perspective" in strengths:
        matrix = matrix @ _perspective(strengths["perspective"], draw("perspective", 8), height, width)
    if flipped is not None:
        matrix = matrix @ _affine(xx=1.0 - 2.0 * flipped)
    if vflipped is not None:
        matrix = matrix @ _affine(yy=1.0 - 2.0 * vflipped)
    maps = [np.broadcast_to(matrix, (n, 3, 3))]
    if "elastic" in strengths:
        maps += _elastic(strengths["elastic"], draw("elastic", 2 * (_WAVES + 3) ** 2))
    return on_some(lambda part, which: in_chunks(sample, part, *(on_device(a[which], part) for a in maps)), batch, bent)


def sample(batch: torch.Tensor, matrix: torch.Tensor, *waves: torch.Tensor) -> torch.Tensor:
    """Bilinear samples of uint8 (N, H, W, C) where float (N, 3, 3) sends each output pixel (x, y, 1), origin in the middle.

    `waves` are two fields of displacements in pixels, along x and y, given on their nodes (N, K, K).
    """
    n, height, width, _ = batch.shape
    x, y = (torch.arange(size, device=batch.device) - (size - 1) / 2 for size in (width, height))
    unit = 2 / torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=batch.device)  # grids go from -1 to 1
    scaled = matrix[:, :2] * unit[:, None]
    across = (scaled[..., 0, None] * x + scaled[..., 2, None]).transpose(1, 2).flatten(1)  # (N, 2W), x and y take turns
    grid = torch.addcmul(across[:, None], y[:, None], scaled[..., 1].repeat(1, width)[:, None])  # (N, H, 2W)
    if (matrix[:, 2, :2] != 0).any():
        depth = (matrix[:, 2, 0, None] * x + matrix[:, 2, 2, None]).repeat_interleave(2, dim=1)
        grid /= torch.addcmul(depth[:, None], y[:, None], matrix[:, 2, 1, None, None])
    if waves:
        nodes = (torch.stack(waves, dim=3) * unit).flatten(2)  # (N, K, 2K)
        grid += _basis(height).to(batch.device) @ nodes @ torch.kron(_basis(width), torch.eye(2)).to(batch.device).T
    planes = batch.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    found = F.grid_sample(planes, grid.view(n, height, width, 2), padding_mode="reflection", align_corners=True)
    return interleaved(as_levels(found).transpose(0, 1))


def _shifts(strengths: Strengths, draw: Draw) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Whole pixels from -shift to shift, (N,) along y and x."""
    if "shift" not in strengths:
        return None, None
    shift = strengths["shift"]
    move_y, move_x = (np.floor(draw(name) * (2 * shift + 1)) - shift for name in ("shift_y", "shift_x"))
    return move_y, move_x


def _line(size: int, move: np.ndarray | None, flipped: np.ndarray | None) -> torch.Tensor | None:
    """int64 (N, size): where the pixels of a row (or column) come from; None when they stay."""
    if move is None and flipped is None:
        return None
    along = torch.arange(size)[None] + (0 if move is None else torch.from_numpy(move).long()[:, None])
    along = reflected(along, size)
    if flipped is None:
        return along
    return torch.where(torch.from_numpy(flipped)[:, None], along.flip(1), along.expand(len(flipped), size))


def _together(batch: torch.Tensor) -> bool:
    """Whether whole batches are faster than picture by picture: where calls take longer than the work itself."""
    return batch.device.type != "cpu" or batch.shape[1:].numel() <= _SMALL


def _straight(
    batch: torch.Tensor, vflipped: np.ndarray | None, flipped: np.ndarray | None, move_y: np.ndarray | None,
    move_x: np.ndarray | None, boxes: np.ndarray | None,
) -> torch.Tensor:  # fmt: skip
    """Shifts, then the boxes of a zoom, then flips; what is None does not take part. May be in place."""
    _, height, width, _ = batch.shape
    if boxes is None and (move_y is not None or _together(batch)):
        return _gathered(batch, _line(height, move_y, vflipped), _line(width, move_x, flipped))
    if move_y is not None and move_x is not None:
        y, x = move_y, move_x
        batch = on_some(
            lambda part, which: _gathered(part, _line(height, y[which], None), _line(width, x[which], None)),
            batch,
            (y != 0) | (x != 0),
        )
    return _by_picture(batch, boxes, vflipped, flipped)


def _by_picture(
    batch: torch.Tensor, boxes: np.ndarray | None, vflipped: np.ndarray | None, flipped: np.ndarray | None
) -> torch.Tensor:
    """The box of each picture enlarged to the whole, then flips; in place."""
    n, height, width, _ = batch.shape
    turns = np.stack([np.zeros(n, bool) if f is None else f for f in (vflipped, flipped)], axis=1).tolist()
    for k, picture in enumerate(batch.unbind()):
        found = picture
        if boxes is not None and (boxes[k, 2:] < [height, width]).any():
            top, left, rows, columns = boxes[k].tolist()
            box = picture[None, top : top + rows, left : left + columns].permute(0, 3, 1, 2)
            found = F.interpolate(box, (height, width), mode="bilinear", align_corners=True)[0].permute(1, 2, 0)
        if any(turns[k]):
            found = found.flip([axis for axis, turned in enumerate(turns[k]) if turned])
        if found is not picture:
            picture.copy_(found)
    return batch


def _gathered(batch: torch.Tensor, rows: torch.Tensor | None, columns: torch.Tensor | None) -> torch.Tensor:
    """Rows are copied whole; columns are gathered as bytes, which is ten times faster than pixel by pixel."""
    n, height, width, channels = batch.shape
    lines = batch.view(n * height, width * channels)
    if rows is not None:
        first = torch.arange(n)[:, None] * height
        lines = lines.index_select(0, (first + rows).flatten().to(batch.device))
    if columns is None:
        return lines.view(batch.shape)
    places = (columns[..., None] * channels + torch.arange(channels)).view(n, 1, width * channels).to(batch.device)
    lines = lines.view(n, height, width * channels)
    return lines.gather(2, places.expand(lines.shape)).view(batch.shape)


def reflected(position: torch.Tensor, size: int) -> torch.Tensor:
    """Positions on an endless line of pixels as positions in 0..size-1, mirrored about the first and the last one."""
    period = max(2 * size - 2, 1)
    position = position.abs() % period
    return torch.where(position < size, position, period - position)


def _affine(
    xx: np.ndarray | float = 1.0, yy: np.ndarray | float = 1.0, xy: np.ndarray | float = 0.0,
    yx: np.ndarray | float = 0.0, offset: tuple[np.ndarray | float, np.ndarray | float] = (0.0, 0.0),
) -> np.ndarray:  # fmt: skip
    """(N, 3, 3) with the rows (xx, xy, offset_x), (yx, yy, offset_y), (0, 0, 1)."""
    entries = np.broadcast_arrays(xx, xy, offset[0], yx, yy, offset[1], 0.0, 0.0, 1.0)
    return np.stack(entries, axis=-1).reshape(-1, 3, 3)


def _boxes(smallest: np.ndarray, draws: np.ndarray, height: int, width: int) -> np.ndarray:
    """int (N, 4): top, left, height and width of a part with `smallest` to 1 of the area and proportions of 3/4 to 4/3 of the
    picture's, anywhere inside, in whole pixels.

    Source: Szegedy et al. 2014, arXiv 1409.4842, section 6.
    """
    area, aspect, x, y = draws.T
    area = smallest + (1 - smallest) * area
    aspect = np.where(smallest < 1, np.exp(math.log(4 / 3) * (2 * aspect - 1)), 1.0)
    across, down = (np.minimum(np.sqrt(share), 1.0) for share in (area * aspect, area / aspect))
    rows, columns = np.rint(1 + down * (height - 1)), np.rint(1 + across * (width - 1))
    corner = np.floor(y * (height - rows + 1)), np.floor(x * (width - columns + 1))
    return np.stack([*corner, rows, columns], axis=1).astype(np.int64)


def _zoom(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, 3, 3): the outermost pixels of the picture show the outermost ones of the box."""
    top, left, rows, columns = boxes.T
    offset = (left + (columns - width) / 2, top + (rows - height) / 2)
    return _affine((columns - 1) / max(width - 1, 1), (rows - 1) / max(height - 1, 1), offset=offset)


def _perspective(strength: np.ndarray, draws: np.ndarray, height: int, width: int) -> np.ndarray:
    """The map of the picture's rectangle to four corners, each moved by up to a quarter of the sides times `strength`.

    Source: Heckbert 1989, Fundamentals of Texture Mapping and Image Warping, section 2.2.3.
    """
    size = np.array([max(width - 1, 1), max(height - 1, 1)])
    moved = strength[:, None, None] / 4 * (2 * draws.reshape(-1, 4, 2) - 1)
    p0, p1, p2, p3 = np.moveaxis(moved + _CORNERS, 1, 0)
    a, b, s = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    area = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    g = (s[:, 0] * b[:, 1] - b[:, 0] * s[:, 1]) / area
    h = (a[:, 0] * s[:, 1] - s[:, 0] * a[:, 1]) / area
    top = np.stack([p1 - p0 + g[:, None] * p1, p3 - p0 + h[:, None] * p3, p0], axis=2)  # (N, 2, 3)
    square = np.concatenate([top, np.stack([g, h, np.ones_like(g)], axis=1)[:, None]], axis=1)
    outer = _affine(size[0], size[1], offset=(-size[0] / 2, -size[1] / 2))  # unit square -> pixels about the middle
    return outer @ square @ np.linalg.inv(outer)


def _elastic(strength: np.ndarray, draws: np.ndarray) -> list[np.ndarray]:
    """Random displacements, (N, K, K) along x and y, on the nodes of `_basis`.

    Source: Simard et al. 2003, Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis.
    """
    nodes = strength[:, None, None, None] * math.sqrt(3) * (2 * draws.reshape(-1, 2, _WAVES + 3, _WAVES + 3) - 1)
    return [nodes[:, 0], nodes[:, 1]]


@lru_cache
def _basis(size: int) -> torch.Tensor:
    """float32 (size, K): Gaussians about K nodes; a sum of them with random weights of variance 1 has variance 1."""
    nodes = torch.arange(-1, _WAVES + 2, dtype=torch.float64)
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * _WAVES / size
    basis = torch.exp(-0.5 * (place[:, None] - nodes) ** 2)
    return (basis / basis.norm(dim=1, keepdim=True)).float()
