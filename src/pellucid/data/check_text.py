"""What a check found, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pellucid.data.wording import counted, shown

if TYPE_CHECKING:
    from pellucid.data.check import Check

TINY = 20  # a class with fewer pictures cannot be measured to better than about +-20 points
_SHOWN = 10
_IN_SET = 5


def tell(found: Check) -> list[str]:
    """The lines."""
    lines = [f"{shown(found.source)}: {found.pictures:,} readable pictures, {len(found.classes)} classes"]
    if found.splits:
        lines.append("given splits: " + ", ".join(f"{name} {n:,}" for name, n in found.splits.items()))
    if found.sizes:
        smallest, median, largest = ("x".join(map(str, found.sizes[k])) for k in ("smallest", "median", "largest"))
        lines.append(f"height x width: {smallest} to {largest}, median {median}")
    width = max((len(shown(name)) for name in found.classes), default=0)
    most = max(found.classes.values(), default=0)
    largest_first = sorted(found.classes.items(), key=lambda entry: -entry[1])
    for name, n in largest_first[:30]:
        lines.append(f"  {shown(name):<{width}}  {n:>8,}  " + "█" * max(round(30 * n / max(most, 1)), n > 0))
    if len(largest_first) > 30:
        lines.append(f"  ... and {len(largest_first) - 30:,} more classes")

    lines += _list("unreadable, left out everywhere", [f"{shown(path)}: {reason}" for path, reason in found.unreadable])
    lines += _list("sets of pictures with the same pixels", _joined(found.duplicates, " = "))
    lines += _list("of these under more than one class", _named(found.conflicts, " = "))
    lines += _list("of these in more than one split (leaks)", _named(found.leaks, " = "))
    lines += _list(
        "sets of nearly the same picture (resized, saved again, cropped, brighter), which new splits keep together",
        _joined(found.near, " ~ "),
    )
    lines += _list("of these under more than one class", _named(found.near_conflicts, " ~ "))
    lines += _list("of these in more than one split (leaks)", _named(found.near_leaks, " ~ "))
    lines += _list("groups in more than one split (leaks)", [shown(name) for name in found.leaking_groups])
    lines += _list(
        f"classes with fewer than {TINY} pictures", [f"{shown(name)}: {found.classes[name]}" for name in found.tiny]
    )
    quality = found.quality
    lines += _list("blurry next to the others (sharpness)", [f"{shown(p)} ({v:.2f})" for p, v in quality.blurry])
    lines += _list("dark next to the others (brightness)", [f"{shown(p)} ({v:.2f})" for p, v in quality.dark])
    lines += _list("blank (contrast)", [f"{shown(p)} ({v:.3f})" for p, v in quality.blank])
    lines += _list("of odd size (height x width)", [f"{shown(p)} ({h}x{w})" for p, (h, w) in quality.odd_sized])
    lines += _list("ending unlike the content", [f"{shown(p)} is {name}" for p, name in quality.wrong_ending])
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
    if found.mendable:
        lines.append(
            "For training without what is unreadable, repeated, contradicting or leaking: --fix FILE.csv. To see it: --html FILE.html."
        )
    elif not found.problems:
        lines.append("Nothing to mend was found.")
    return lines


def _named(clusters: Sequence[Sequence[tuple[str, str]]], sign: str) -> list[str]:
    return _joined([[f"{path} ({name})" for path, name in cluster] for cluster in clusters], sign)


def _joined(clusters: Sequence[Sequence[str]], sign: str) -> list[str]:
    return [
        sign.join(map(shown, cluster[:_IN_SET])) + f" and {len(cluster) - _IN_SET:,} more" * (len(cluster) > _IN_SET)
        for cluster in clusters
    ]


def _list(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  ... and {len(entries) - _SHOWN:,} more (--json lists all)"] if len(entries) > _SHOWN else []
    return [f"{title}: {len(entries):,}", *(f"  {entry}" for entry in entries[:_SHOWN]), *more]
