"""Pictures and labels from arrays: NumPy's, PyTorch's, or lists of either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pellucid.data.decode import Picture, from_array
from pellucid.data.layout import SPLIT_NAMES, Entries
from pellucid.data.levels import channels_seem_first
from pellucid.data.task import CLASS, LABELS, NONE, NUMBER, Task
from pellucid.data.wording import counted, some
from pellucid.errors import DataError, PictureError


class Arrays:
    """Pictures in memory, each (H, W) or (H, W, C); the path of a picture is its number."""

    def __init__(self, images: Sequence[np.ndarray] | np.ndarray) -> None:
        self._images = images

    def read(self, path: str) -> None:
        """None: there is no file."""

    def picture(self, path: str) -> Picture:
        """The picture. Raises PictureError."""
        return from_array(self._images[int(path)])

    def stat(self, path: str) -> None:
        """None: there is no file."""


def read_arrays(
    images: Any,
    labels: Any,
    *,
    classes: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    splits: Sequence[str | None] | None = None,
    task: str = CLASS,
) -> tuple[Entries, Arrays]:
    """Entries with the paths "00000", "00001", ..., and the pictures; see `dataset.from_arrays`."""
    is_list = isinstance(images, list | tuple)
    groups = None if groups is None else list(groups)
    splits = None if splits is None else list(splits)
    pictures = [_channels_last(image, 3) for image in images] if is_list else _channels_last(images, 4)
    names = (_numbers if task == NUMBER else _label_sets if task == LABELS else _class_names)(labels, classes)
    for what, values in (("picture", pictures), ("group", groups), ("split", splits)):
        if values is not None and len(values) != len(names):
            found = f"{counted(len(values), what)} for {counted(len(names), 'label')}"
            raise DataError(f"There are {found}; expected as many.")
    if not names:
        raise DataError("There are no pictures in the arrays; expected at least one.")
    given = [str(split or "").lower() for split in splits or [None] * len(names)]
    if unknown := set(given) - {*SPLIT_NAMES, ""}:
        raise DataError(f"The splits hold {some(unknown)}; expected train, validation, test or None.")
    arrays = Arrays(pictures)
    try:
        arrays.picture("0")
    except PictureError as error:  # type and range of levels, which all pictures share
        raise DataError(f"The first picture cannot be used: {error.reason}.") from error
    digits = max(5, len(str(len(names) - 1)))  # the order by path is that of the numbers
    entries = Entries(
        paths=[f"{i:0{digits}}" for i in range(len(names))],
        labels=names,
        splits=[SPLIT_NAMES.get(split) for split in given],
        groups=[None if g is None or g == "" else str(g) for g in groups or [None] * len(names)],
    )
    return entries, arrays


def are_label_sets(labels: Any) -> bool:
    """Whether `labels` gives several a picture: lists of names, or an array (N, L) with two columns or more."""
    if isinstance(labels, list | tuple) and any(isinstance(label, list | tuple | set | frozenset) for label in labels):
        return any(isinstance(name, str) for label in labels for name in label) or not any(map(len, labels))
    shape: Any = getattr(labels, "shape", ())
    return len(shape) == 2 and shape[1] > 1


def _to_numpy(values: Any) -> np.ndarray:
    """A torch tensor is what has detach(): torch need not be imported."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _channels_last(images: Any, dimensions: int) -> np.ndarray:
    """The array with its channels last. It has them when it has so many dimensions, and one fewer without."""
    array = _to_numpy(images)
    expected = "(number, " * (dimensions == 4) + "(" * (dimensions == 3) + "height, width[, channels])"
    if array.ndim not in (dimensions - 1, dimensions):
        raise DataError(f"Pictures of shape {array.shape} cannot be used; expected {expected}.")
    if array.ndim == dimensions:
        if hasattr(images, "detach"):
            array = np.moveaxis(array, -3, -1)  # (..., C, H, W) -> (..., H, W, C)
        if channels_seem_first(array.shape):
            raise DataError(
                f"Pictures of shape {tuple(images.shape)} seem to have their channels in the wrong place. "
                f"Expected {expected} in a NumPy array; in a torch tensor channels come before the height."
            )
    return array


def _class_names(labels: Any, classes: Sequence[str] | None) -> list[str]:
    """The class of every picture, by name; an int is an index into `classes`, or the name itself."""
    array = _to_numpy(labels)
    values = array.tolist() if array.ndim == 1 else []
    are_ints = array.dtype.kind in "iu"
    if array.ndim != 1 or not (are_ints or all(isinstance(value, str) for value in values)):
        raise DataError(
            f"Labels of shape {array.shape} and type {array.dtype} cannot be used; expected one int or one "
            "string for each picture; for several labels a list of names each or 0 and 1 (N, L); for numbers to learn "
            'task="number".'
        )
    if are_ints and classes is not None:
        if outside := sorted({value for value in values if not 0 <= value < len(classes)}):
            raise DataError(f"The labels hold {outside[:5]}; expected indices from 0 to {len(classes) - 1}.")
        return [str(classes[value]) for value in values]
    names = [str(value) for value in values]
    if "" in names:
        raise DataError(f"{counted(names.count(''), 'label')} of {len(names):,} are empty; expected class names.")
    if classes is not None and (unknown := set(names) - set(classes)):
        raise DataError(f"The labels hold {some(unknown)}; expected names out of {some(classes)}.")
    return names


def _numbers(labels: Any, classes: Sequence[str] | None) -> list[str]:
    """The number of every picture as text; (N, 1) counts as (N,)."""
    array = _to_numpy(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or classes is not None:
        raise DataError(
            f"Numbers of shape {array.shape}{'' if classes is None else ' with classes'} cannot be used; expected one number "
            "for each picture, and no classes."
        )
    return [str(value) for value in array.tolist()]


def _label_sets(labels: Any, classes: Sequence[str] | None) -> list[str]:
    """The labels of every picture as text, from names or from 0 and 1 (N, L)."""
    if isinstance(labels, list | tuple) and any(isinstance(label, list | tuple | set | frozenset) for label in labels):
        sets = [[labels] if isinstance(labels, str) else list(labels) for labels in labels]
        if all(isinstance(name, str) for names in sets for name in names):
            return _joined(sets, classes)
    table = _to_numpy(labels)
    if table.ndim == 1 and table.dtype.kind in "US":
        return _joined([[str(name)] for name in table], classes)
    if table.ndim != 2 or not np.isin(table, (0, 1)).all() or (classes is not None and len(classes) != table.shape[1]):
        raise DataError(
            f"Labels of shape {table.shape} and type {table.dtype} cannot be used; expected a list of names for each picture, "
            "or an array of 0 and 1 (pictures, labels) with the names of its columns in classes."
        )
    names = [str(k) for k in range(table.shape[1])] if classes is None else [str(name) for name in classes]
    return _joined([[names[k] for k in np.flatnonzero(row)] for row in table], classes)


def _joined(sets: Sequence[Sequence[str]], classes: Sequence[str] | None) -> list[str]:
    """Each set of names as text. Raises DataError for a name that text cannot hold or that is not in `classes`."""
    names = {name for names in sets for name in names} | set(classes or ())
    if bad := [name for name in names if Task.separator in name or name.strip() != name or not name or name == NONE]:
        raise DataError(
            f"The labels {some(bad)} cannot be used; expected names that are not empty, not '{NONE}', and without "
            f"'{Task.separator}' or blanks around them."
        )
    if classes is not None and (unknown := names - set(classes)):
        raise DataError(f"The labels hold {some(unknown)}; expected names out of {some(classes)}.")
    return [Task.separator.join(names) or NONE for names in sets]
