"""A look at a data set before training: what cannot be read, what is there twice, what contradicts, what would leak."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from pellucid.data.contract import PixelContract
from pellucid.data.dataset import Dataset
from pellucid.data.scan import Progress, Record, remarks, scan
from pellucid.data.task import CLASS, LABELS, NUMBER
from pellucid.data.wording import counted, shown
from pellucid.errors import PictureError

_TINY = 20  # a class with fewer pictures cannot be measured to better than about +-20 points
_SHOWN = 10
_MUCH_HIDDEN = 0.2


@dataclass(frozen=True, eq=False)
class Check:
    """What was found. Paths are relative to the data set; `pictures` counts the readable ones."""

    source: str
    pictures: int
    classes: dict[str, int]
    splits: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    duplicates: tuple[tuple[str, ...], ...]  # clusters of the same pixels
    conflicts: tuple[tuple[tuple[str, str], ...], ...]  # clusters of (path, class) with more than one class
    leaks: tuple[tuple[tuple[str, str], ...], ...]  # clusters of (path, split) with more than one given split
    leaking_groups: tuple[str, ...]
    tiny: tuple[str, ...]
    sizes: dict[str, Any]
    crop: dict[str, Any]
    remarks: dict[str, int]  # what decoding noted, by how many pictures
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    task: str = CLASS
    number: dict[str, Any] = field(default_factory=dict)  # the distribution, where the answers are numbers

    @property
    def problems(self) -> int:
        """How many things a user should look at."""
        found = (self.unreadable, self.duplicates, self.conflicts, self.leaks, self.leaking_groups, self.tiny)
        return sum(map(len, found)) + self.mixed_channels

    @property
    def mixed_channels(self) -> bool:
        """Whether no network takes in all pictures: of different channels only 1 (grey) and 3 (RGB) become each other."""
        kinds = set(self.sizes.get("channels", ()))
        return len(kinds) > 1 and kinds != {"1", "3"}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "source": self.source,
            "images": self.pictures,
            "classes": self.classes,
            "splits": self.splits,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "duplicates": {"exact": [list(cluster) for cluster in self.duplicates]},
            "conflicts": [[{"path": p, "label": c} for p, c in cluster] for cluster in self.conflicts],
            "leaks": [[{"path": p, "split": s} for p, s in cluster] for cluster in self.leaks],
            "leaking_groups": list(self.leaking_groups),
            "tiny_classes": list(self.tiny),
            "sizes": self.sizes,
            "crop": self.crop,
            "remarks": self.remarks,
            "ignored": list(self.ignored),
            "notes": list(self.notes),
            "task": self.task,
            "number": self.number,
        }

    def __str__(self) -> str:
        return "\n".join(_tell(self))


def check(dataset: Dataset, *, size: tuple[int, int] | None = None, progress: Progress | None = None) -> Check:
    """Looks at every picture of `dataset`, in threads; `size` (height, width) is what a crop is judged by (square)."""
    records = scan(dataset, progress=progress)
    items = dataset.items
    good = [i for i, record in enumerate(records) if record.reason is None]
    label = [dataset.label(i) for i in range(len(items))]

    same: dict[str, list[int]] = defaultdict(list)
    for i in good:
        same[records[i].pixels].append(i)
    clusters = [cluster for cluster in same.values() if len(cluster) > 1]
    splits_of_group: dict[str, set[str]] = defaultdict(set)
    for i in good:
        if items[i].group and items[i].split:
            splits_of_group[str(items[i].group)].add(str(items[i].split))

    readable = np.array([record.reason is None for record in records], bool)
    classes = {name: int(readable[rows].sum()) for name, rows in dataset.heaps()}
    number: dict[str, Any] = {}
    if dataset.task.kind == NUMBER:
        number, classes = _distribution(dataset.classes[0], dataset.targets()[readable, 0]), {}
    return Check(
        source=dataset.source,
        pictures=len(good),
        classes=classes,
        splits=dict(Counter(str(items[i].split) for i in good if items[i].split)),
        unreadable=tuple((items[i].path, str(r.reason)) for i, r in enumerate(records) if r.reason is not None),
        duplicates=tuple(tuple(items[i].path for i in cluster) for cluster in clusters),
        conflicts=tuple(
            tuple((items[i].path, label[i]) for i in cluster)
            for cluster in clusters
            if len({label[i] for i in cluster}) > 1
        ),
        leaks=tuple(
            tuple((items[i].path, str(items[i].split)) for i in cluster if items[i].split)
            for cluster in clusters
            if len({items[i].split for i in cluster if items[i].split}) > 1
        ),
        leaking_groups=tuple(sorted(name for name, found in splits_of_group.items() if len(found) > 1)),
        tiny=tuple(name for name, n in classes.items() if n < _TINY),
        sizes=_sizes([records[i] for i in good]),
        crop=_crop([(items[i].path, records[i]) for i in good], size or (224, 224)),
        remarks=remarks(records),
        ignored=dataset.ignored,
        notes=dataset.notes,
        task=dataset.task.kind,
        number=number,
    )


def sample_pictures(
    dataset: Dataset, *, per_class: int, seed: int = 0, picture: Callable[[np.ndarray], Image.Image]
) -> list[tuple[str, list[Image.Image]]]:
    """For a sheet: each class's name with its count, and some of its readable pictures, drawn with a seed."""
    rows = []
    for k, (name, of_class) in enumerate(dataset.heaps()):
        shown: list[Image.Image] = []
        for i in np.random.default_rng([seed, k]).permutation(of_class):
            if len(shown) == per_class:
                break
            try:
                shown.append(picture(dataset.picture(int(i)).pixels))
            except PictureError:
                continue
        rows.append((f"{name} ({len(of_class):,})", shown))
    return rows


def _distribution(name: str, values: np.ndarray) -> dict[str, Any]:
    """What the numbers are like, with a histogram of at most ten bars."""
    if not len(values):
        return {}
    counts, edges = np.histogram(values, bins=min(10, len(np.unique(values))))
    return {
        "name": name, "n": len(values), "different": len(np.unique(values)), "lowest": float(values.min()),
        "median": float(np.median(values)), "highest": float(values.max()), "mean": float(values.mean()),
        "std": float(values.std()), "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }  # fmt: skip


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


def _tell(found: Check) -> list[str]:
    kinds = f"{len(found.classes)} classes"
    if found.task == LABELS:
        kinds = f"{counted(len(found.classes), 'label')}, any number of them on a picture"
    if found.number:
        kinds = f"a number each: {shown(found.number['name'])}"
    lines = [f"{shown(found.source)}: {found.pictures:,} readable pictures, {kinds}"]
    if found.splits:
        lines.append("given splits: " + ", ".join(f"{name} {n:,}" for name, n in found.splits.items()))
    if found.sizes:
        smallest, median, largest = ("x".join(map(str, found.sizes[k])) for k in ("smallest", "median", "largest"))
        lines.append(f"height x width: {smallest} to {largest}, median {median}")
        channels = found.sizes["channels"]
        if set(channels) not in ({"1"}, {"3"}):
            told = ", ".join(f"{k} ({counted(n, 'picture')})" for k, n in channels.items())
            advice = "; only 1 and 3 become each other: train with --channels N leaves out the rest"
            lines.append(f"channels: {told}" + advice * found.mixed_channels)
    largest_first = sorted(found.classes.items(), key=lambda entry: -entry[1])
    if found.number:
        number = found.number
        lines.append(
            f"{shown(number['name'])} from {number['lowest']:g} to {number['highest']:g}, median {number['median']:g}, "
            f"mean {number['mean']:.4g}, standard deviation {number['std']:.4g}; {number['different']:,} different numbers"
        )
        edges = number["histogram"]["edges"]
        ranges = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
        largest_first = list(zip(ranges, number["histogram"]["counts"], strict=True))
    width = max((len(shown(name)) for name, _ in largest_first[:30]), default=0)
    most = max((n for _, n in largest_first), default=0)
    for name, n in largest_first[:30]:
        lines.append(f"  {shown(name):<{width}}  {n:>8,}  " + "█" * max(round(30 * n / max(most, 1)), n > 0))
    if len(largest_first) > 30:
        lines.append(f"  ... and {len(largest_first) - 30:,} more classes")

    lines += _list("unreadable, left out everywhere", [f"{shown(path)}: {reason}" for path, reason in found.unreadable])
    lines += _list(
        "sets of pictures with the same pixels", [" = ".join(map(shown, cluster)) for cluster in found.duplicates]
    )
    lines += _list(
        f"of these under more than one {'class' if found.task == CLASS else 'answer'}",
        [" = ".join(f"{shown(path)} ({shown(label)})" for path, label in cluster) for cluster in found.conflicts],
    )
    lines += _list(
        "of these in more than one split (leaks)",
        [" = ".join(f"{shown(path)} ({split})" for path, split in cluster) for cluster in found.leaks],
    )
    lines += _list("groups in more than one split (leaks)", [shown(name) for name in found.leaking_groups])
    lines += _list(
        f"{'labels' if found.task == LABELS else 'classes'} with fewer than {_TINY} pictures",
        [f"{shown(name)}: {found.classes[name]}" for name in found.tiny],
    )
    if found.crop and found.crop["mean"] > 0:
        crop = found.crop
        lines.append(
            f"A square crop (--fit crop) would hide {crop['mean']:.1%} of the pictures' area on average, more than a fifth "
            f"of {counted(crop['pictures_over_20_percent'], 'picture')}, {crop['worst']['hidden']:.0%} of "
            f"'{shown(crop['worst']['path'])}'. "
            "The default (--fit stretch) hides nothing."
        )
    lines += [f"{counted(n, 'picture')}: {note}" for note, n in found.remarks.items()]
    lines += _list("files that are no pictures, ignored", [shown(path) for path in found.ignored])
    lines += [f"Note: {note}" for note in found.notes]
    if not found.problems:
        lines.append("Nothing to mend was found.")
    return lines


def _list(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  ... and {len(entries) - _SHOWN:,} more (--json lists all)"] if len(entries) > _SHOWN else []
    return [f"{title}: {len(entries):,}", *(f"  {entry}" for entry in entries[:_SHOWN]), *more]
