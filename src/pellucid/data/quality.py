"""Poor pictures: blurry, dark, blank, of odd size, or with an ending that is not that of their content.

These are suggestions. A picture is called blurry or dark only when it stands out from its own set, since some sets are
blurry or dark as a whole, and nothing is left out because of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import splitext

import numpy as np

from pellucid.data.scan import Record

BLANK = 0.01  # contrast: 2.5 of 255 levels
DARK = 0.1  # brightness
STANDS_OUT = 3.5  # robust deviations from the median; Iglewicz and Hoaglin 1993
ODD = 3.0  # times larger or smaller than the median side
_ENOUGH = 20  # pictures, for a median that means something
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe"), "PNG": (".png",), "WebP": (".webp",), "BMP": (".bmp",), "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}  # fmt: skip
_KNOWN = {ending for endings in _ENDINGS.values() for ending in endings}


@dataclass(frozen=True)
class Quality:
    """(path, figure) of the pictures that stand out, the worst first; for figures see `Looks`. Of odd sizes the figure is
    (height, width) in pixels, of wrong endings the format of the content."""

    blurry: tuple[tuple[str, float], ...] = ()
    dark: tuple[tuple[str, float], ...] = ()
    blank: tuple[tuple[str, float], ...] = ()
    odd_sized: tuple[tuple[str, tuple[int, int]], ...] = ()
    wrong_ending: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, list[dict[str, object]]]:
        """Plain JSON data."""
        return {
            "blurry": [{"path": path, "sharpness": value} for path, value in self.blurry],
            "dark": [{"path": path, "brightness": value} for path, value in self.dark],
            "blank": [{"path": path, "contrast": value} for path, value in self.blank],
            "odd_sized": [{"path": path, "height": size[0], "width": size[1]} for path, size in self.odd_sized],
            "wrong_ending": [{"path": path, "format": name} for path, name in self.wrong_ending],
        }


def judge(pictures: Sequence[tuple[str, Record]]) -> Quality:
    """What stands out among readable pictures, given as (path, record).

    Blank: a contrast below 0.01. Dark: a brightness below 0.1 and 3.5 robust deviations below the median of the set. Blurry:
    a sharpness whose logarithm lies 3.5 robust deviations below the median; not for blank pictures. Odd-sized: a side three
    times longer or shorter than the median one, and 3.5 robust deviations away. In sets of fewer than 20 pictures only
    blank ones and wrong endings are told.
    """
    looks = [record.looks for _, record in pictures]
    brightness = np.array([look.brightness for look in looks])
    contrast = np.array([look.contrast for look in looks])
    sharpness = np.array([look.sharpness for look in looks])
    sides = np.array([(record.height, record.width) for _, record in pictures]).reshape(-1, 2)
    blank = contrast < BLANK
    blurry = dark = odd = np.zeros(len(pictures), bool)
    if len(pictures) >= _ENOUGH:
        dark = ~blank & (brightness < DARK) & (_deviations(brightness) < -STANDS_OUT)
        seen = np.flatnonzero(~blank & (sharpness > 0))
        blurry = np.zeros(len(pictures), bool)
        blurry[seen] = _deviations(np.log(sharpness[seen])) < -STANDS_OUT
        log_sides = np.log(sides)
        far = np.abs(log_sides - np.median(log_sides, axis=0)) > np.log(ODD)
        odd = (far & (np.abs(np.stack([_deviations(side) for side in log_sides.T], 1)) > STANDS_OUT)).any(1)
    return Quality(
        blurry=_worst(pictures, blurry, sharpness),
        dark=_worst(pictures, dark, brightness),
        blank=_worst(pictures, blank, contrast),
        odd_sized=tuple(
            (pictures[i][0], (pictures[i][1].height, pictures[i][1].width)) for i in np.flatnonzero(odd).tolist()
        ),
        wrong_ending=tuple((path, record.format) for path, record in pictures if _contradicts(path, record.format)),
    )


def _deviations(values: np.ndarray) -> np.ndarray:
    """Distances from the median in units of the scaled median absolute deviation, which is the standard deviation of normal
    values; where most values are equal, in units of a thousandth."""
    if not len(values):
        return values
    distances = values - np.median(values)
    return distances / max(1.4826 * float(np.median(np.abs(distances))), 1e-3)


def _worst(
    pictures: Sequence[tuple[str, Record]], chosen: np.ndarray, values: np.ndarray
) -> tuple[tuple[str, float], ...]:
    found = sorted(np.flatnonzero(chosen).tolist(), key=lambda i: values[i])
    return tuple((pictures[i][0], float(values[i])) for i in found)


def _contradicts(path: str, content: str) -> bool:
    """Whether a name ends like another format than that of the content. No ending, or one of no picture, says nothing."""
    ending = splitext(path)[1].lower()
    return content in _ENDINGS and ending in _KNOWN and ending not in _ENDINGS[content]
