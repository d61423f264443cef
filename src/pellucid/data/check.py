"""A look at a data set before training: what cannot be read, what is there twice, what contradicts, what would leak."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pellucid.data.check_text import TINY, tell
from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.duplicates import find_duplicates
from pellucid.data.quality import Quality, judge
from pellucid.data.scan import Progress, Record, remarks, scan
from pellucid.errors import PictureError

_MUCH_HIDDEN = 0.2

Paths = tuple[str, ...]
Named = tuple[tuple[str, str], ...]  # (path, class or split)


@dataclass(frozen=True, eq=False)
class Check:
    """What was found. Paths are relative to the data set; `pictures` counts the readable ones.

    duplicates: clusters of the same pixels. near: clusters of nearly the same picture. Of either kind: conflicts, clusters of
    (path, class) with more than one class, and leaks, of (path, split) with more than one given split.
    """

    source: str
    pictures: int
    classes: dict[str, int]
    splits: dict[str, int]
    unreadable: Named  # (path, reason)
    duplicates: tuple[Paths, ...]
    conflicts: tuple[Named, ...]
    leaks: tuple[Named, ...]
    leaking_groups: tuple[str, ...]
    tiny: tuple[str, ...]
    sizes: dict[str, Any]
    crop: dict[str, Any]
    remarks: dict[str, int]  # what decoding noted, by how many pictures
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    near: tuple[Paths, ...] = ()
    near_conflicts: tuple[Named, ...] = ()
    near_leaks: tuple[Named, ...] = ()
    quality: Quality = field(default_factory=Quality)

    @property
    def mendable(self) -> int:
        """How many things `mend` leaves out of its table."""
        found = (self.unreadable, self.duplicates, self.conflicts, self.near_conflicts)
        return sum(map(len, (*found, self.leaks, self.near_leaks, self.leaking_groups)))

    @property
    def problems(self) -> int:
        """How many things a user should mend. Near duplicates of one class in one split, and poor pictures, are none."""
        return self.mendable + len(self.tiny)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `conflicts` and `leaks` hold those of exact and of near duplicates."""
        return {
            "source": self.source,
            "images": self.pictures,
            "classes": self.classes,
            "splits": self.splits,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "duplicates": {"exact": [list(c) for c in self.duplicates], "near": [list(c) for c in self.near]},
            "conflicts": [
                [{"path": p, "label": c} for p, c in cluster] for cluster in (*self.conflicts, *self.near_conflicts)
            ],
            "leaks": [[{"path": p, "split": s} for p, s in cluster] for cluster in (*self.leaks, *self.near_leaks)],
            "leaking_groups": list(self.leaking_groups),
            "tiny_classes": list(self.tiny),
            "quality": self.quality.to_dict(),
            "sizes": self.sizes,
            "crop": self.crop,
            "remarks": self.remarks,
            "ignored": list(self.ignored),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return "\n".join(tell(self))


def check(
    dataset: Dataset,
    *,
    size: tuple[int, int] | None = None,
    near: bool = True,
    progress: Progress | None = None,
) -> Check:
    """Looks at every picture of `dataset`, in threads; `size` (height, width) is what a crop is judged by (square).

    `near` False leaves out the search for near duplicates.
    """
    records = scan(dataset, progress=progress)
    items = dataset.items
    good = [i for i, record in enumerate(records) if record.reason is None]
    label = [dataset.classes[item.label] if item.label >= 0 else "" for item in items]
    splits_of_group: dict[str, set[str]] = defaultdict(set)
    for i in good:
        if items[i].group and items[i].split:
            splits_of_group[str(items[i].group)].add(str(items[i].split))
    found = find_duplicates(records, near=near)

    def paths(clusters: Sequence[Sequence[int]]) -> tuple[Paths, ...]:
        return tuple(tuple(items[i].path for i in cluster) for cluster in clusters)

    def torn(clusters: Sequence[Sequence[int]], names: Sequence[str | None]) -> tuple[Named, ...]:
        """Of the clusters with more than one name: (path, name) of what has one."""
        named = [[(items[i].path, str(names[i])) for i in cluster if names[i]] for cluster in clusters]
        return tuple(tuple(cluster) for cluster in named if len({name for _, name in cluster}) > 1)

    split = [item.split for item in items]
    counts = Counter(label[i] for i in good)
    classes = {name: counts.get(name, 0) for name in dataset.classes}
    return Check(
        source=dataset.source,
        pictures=len(good),
        classes=classes,
        splits=dict(Counter(str(items[i].split) for i in good if items[i].split)),
        unreadable=tuple((items[i].path, str(r.reason)) for i, r in enumerate(records) if r.reason is not None),
        duplicates=paths(found.exact),
        conflicts=torn(found.exact, label),
        leaks=torn(found.exact, split),
        near=paths(found.near),
        near_conflicts=torn(found.near, label),
        near_leaks=torn(found.near, split),
        leaking_groups=tuple(sorted(name for name, in_splits in splits_of_group.items() if len(in_splits) > 1)),
        tiny=tuple(name for name, n in classes.items() if n < TINY),
        quality=judge([(items[i].path, records[i]) for i in good]),
        sizes=_sizes([records[i] for i in good]),
        crop=_crop([(items[i].path, records[i]) for i in good], size or (224, 224)),
        remarks=remarks(records),
        ignored=dataset.ignored,
        notes=(*dataset.notes, *found.notes),
    )


def sample_pictures(
    dataset: Dataset, *, per_class: int, seed: int = 0, picture: Callable[[np.ndarray], Image.Image]
) -> list[tuple[str, list[Image.Image]]]:
    """For a sheet: each class's name with its count, and some of its readable pictures, drawn with a seed."""
    of_class: dict[int, list[int]] = defaultdict(list)
    for i, item in enumerate(dataset.items):
        of_class[item.label].append(i)
    rows = []
    for k, name in enumerate(dataset.classes):
        shown: list[Image.Image] = []
        for i in np.random.default_rng([seed, k]).permutation(of_class[k]):
            if len(shown) == per_class:
                break
            try:
                shown.append(picture(dataset.picture(int(i)).pixels))
            except PictureError:
                continue
        rows.append((f"{name} ({len(of_class[k]):,})", shown))
    return rows


def _sizes(records: Sequence[Record]) -> dict[str, Any]:
    if not records:
        return {}
    heights, widths = (np.array([getattr(r, side) for r in records]) for side in ("height", "width"))
    common, count = Counter(zip(heights.tolist(), widths.tolist(), strict=True)).most_common(1)[0]
    return {
        "smallest": [int(heights.min()), int(widths.min())],
        "median": [int(np.median(heights)), int(np.median(widths))],
        "largest": [int(heights.max()), int(widths.max())],
        "most_frequent": {"size": list(common), "n": count},
        "channels": {str(k): n for k, n in sorted(Counter(r.channels for r in records).items())},
    }


def _crop(records: Sequence[tuple[str, Record]], size: tuple[int, int]) -> dict[str, Any]:
    """What fit='crop' would hide; the default, stretch, hides nothing."""
    if not records:
        return {}
    contract = PixelContract(height=size[0], width=size[1], fit="crop")
    hidden = np.array([contract.hidden(r.height, r.width) for _, r in records])
    worst = int(hidden.argmax())
    return {
        "mean": float(hidden.mean()),
        "pictures_over_20_percent": int((hidden > _MUCH_HIDDEN).sum()),
        "worst": {"path": records[worst][0], "hidden": float(hidden[worst])},
    }
