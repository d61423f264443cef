"""Labels from folders: one folder a class, with or without folders for the splits above them.

photos/cat/1.jpg               class cat
photos/cat/garden/2.jpg        class cat, too
photos/train/cat/1.jpg         class cat, split train
download/photos/cat/1.jpg      class cat: a folder that stands alone is entered
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pellucid.data.decode import looks_like_picture
from pellucid.data.sources import Tree, below
from pellucid.data.wording import counted, shown, some

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_PICTURE_ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".heic", ".heif",
    ".dcm", ".npy",
)  # fmt: skip


@dataclass(slots=True)
class Entries:
    """Labelled pictures, in columns of equal length, with what was left out and what to tell."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    column: str = "number"  # what the labels are called, where they are numbers
    ignored: list[str] = field(default_factory=list)  # files that are no pictures
    notes: list[str] = field(default_factory=list)


def read_layout(tree: Tree, head: Callable[[str], bytes]) -> Entries:
    """The pictures in class folders; none when there are no class folders.

    A file is a picture when its name says so, or its first bytes, which `head` gives. The layout has splits
    when a folder is named train, holds folders with pictures, and no picture itself: a class may have that
    name, too.
    """
    entries = Entries()
    pictures = only_pictures(tree, head, entries.ignored)
    base = _base(pictures)
    split_of = _split_folders(pictures, base)
    loose: list[str] = []
    beside: Counter[str] = Counter()
    in_class: Counter[str] = Counter()
    for folder, names in pictures.items():
        paths = [below(folder, name) for name in names]
        top, second = (*_parts(folder, base), "", "")[:2]
        label = second if split_of else top
        if split_of and top and top not in split_of:
            beside[top] += len(names)
        elif not label:
            loose += paths
        else:
            in_class[label] += len(names)
            entries.paths += paths
            entries.labels += [label] * len(names)
            entries.splits += [split_of.get(top)] * len(names)
    entries.groups = [None] * len(entries.paths)

    if base:
        entries.notes.append(f"the class folders are those in '{shown(base)}'")
    if loose:
        entries.notes.append(f"{counted(len(loose), 'picture')} in no class folder, left out: {some(loose)}")
    for name, count in sorted(beside.items()):
        entries.notes.append(f"'{shown(name)}' beside the splits is left out, {counted(count, 'picture')}")
    if empty := [label for label, count in in_class.items() if not count]:
        entries.notes.append(f"{counted(len(empty), 'folder')} without pictures, no class: {some(empty)}")
    return entries


def only_pictures(tree: Tree, head: Callable[[str], bytes], ignored: list[str]) -> Tree:
    """The pictures of `tree`; the paths of other files are added to `ignored`."""
    pictures: Tree = {}
    for folder in sorted(tree):
        pictures[folder] = []
        for name in tree[folder]:
            if name.lower().endswith(_PICTURE_ENDINGS) or looks_like_picture(head(below(folder, name))):
                pictures[folder].append(name)
            else:
                ignored.append(below(folder, name))
    return pictures


def _base(pictures: Tree) -> str:
    """The folder that holds the class folders or the splits, reached through folders that stand alone."""
    base = ""
    while len(tops := _tops(pictures, base)) == 1 and not _split_folders(pictures, base):
        ((top, (direct, deeper)),) = tops.items()
        if direct or not deeper:
            break
        base = below(base, top)
    return base


def _split_folders(pictures: Tree, base: str) -> dict[str, str]:
    """The split of each folder in `base` that is named like one; none when the layout has no splits."""
    tops = _tops(pictures, base)
    split_of = {top: SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
    for top, (direct, deeper) in tops.items():
        if split_of.get(top) == "train" and deeper and not direct:
            return split_of
    return {}


def _tops(pictures: Tree, base: str) -> dict[str, tuple[int, int]]:
    """For every folder in `base`: the number of pictures in it, and of those deeper inside."""
    tops: dict[str, tuple[int, int]] = {}
    for folder, names in pictures.items():
        if parts := _parts(folder, base):
            direct, deeper = tops.get(parts[0], (0, 0))
            inside = len(parts) > 1
            tops[parts[0]] = (direct + len(names) * (not inside), deeper + len(names) * inside)
    return tops


def _parts(folder: str, base: str) -> list[str]:
    """The first two names on the way from `base` to `folder` and the rest; [] when that is not inside."""
    start = f"{base}/" if base else ""
    return folder[len(start) :].split("/", 2) if folder and folder.startswith(start) else []
