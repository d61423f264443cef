"""Poor pictures: what is planted stands out, what only looks odd by itself does not."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from pellucid.data.looks import look_at
from pellucid.data.quality import Quality, judge
from pellucid.data.scan import Record


def record(pixels: np.ndarray, content: str = "JPEG") -> Record:
    height, width = pixels.shape
    return Record(pixels="x", height=height, width=width, channels=1, format=content, looks=look_at(pixels[..., None]))


def texture(seed: int, height: int = 60, width: int = 60) -> np.ndarray:
    """Sharp edges: random tiles of 4 pixels, more or less contrast from picture to picture."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (-(-height // 4), -(-width // 4))).repeat(4, 0).repeat(4, 1)[:height, :width]
    return (128 + (tiles - 128) * rng.uniform(0.3, 1)).astype(np.uint8)


def blurred(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(4)))


def named(*pictures: np.ndarray) -> list[tuple[str, Record]]:
    return [(f"{i}.jpg", record(pixels)) for i, pixels in enumerate(pictures)]


def test_what_is_planted_stands_out() -> None:
    plain = [texture(i) for i in range(40)]
    plain[3] = blurred(plain[3])
    plain[7] = plain[7] // 12
    plain[11] = np.full((60, 60), 90, np.uint8)
    plain[13] = texture(13, height=20, width=60)
    plain[17] = texture(17, height=60, width=181)
    found = judge(named(*plain))
    assert [path for path, _ in found.blurry] == ["3.jpg"]
    assert [path for path, _ in found.dark] == ["7.jpg"]
    assert found.blank == (("11.jpg", 0.0),)
    assert found.odd_sized == (
        ("17.jpg", (60, 181)),
    )  # three times as wide and more; 13.jpg is exactly a third as high
    assert found.wrong_ending == ()


def test_a_set_that_is_blurry_or_dark_as_a_whole_has_no_poor_pictures() -> None:
    assert judge(named(*(blurred(texture(i)) for i in range(40)))) == Quality()
    assert judge(named(*(texture(i) // 8 for i in range(40)))) == Quality()


def test_sizes_that_vary_make_none_odd() -> None:
    sides = np.geomspace(20, 400, 60).astype(int)
    assert judge(named(*(texture(i, side, side) for i, side in enumerate(sides)))).odd_sized == ()


def test_few_pictures_are_not_compared() -> None:
    few = [texture(i) for i in range(19)]
    few[0], few[1] = blurred(few[0]), np.zeros((600, 600), np.uint8)
    assert judge(named(*few)) == Quality(blank=(("1.jpg", 0.0),))
    assert judge([]) == Quality()


def test_endings_are_compared_with_the_content() -> None:
    names = {
        "a.jpg": "PNG", "b.JPEG": "JPEG", "c.png": "PNG", "d.tif": "TIFF", "e.gif": "WebP", "f": "PNG", "g.dat": "JPEG",
        "h.png/i.jpg": "JPEG", "00042": "array",
    }  # fmt: skip
    found = judge([(name, record(texture(0), content)) for name, content in names.items()])
    assert found.wrong_ending == (("a.jpg", "PNG"), ("e.gif", "WebP"))


def test_the_worst_come_first_and_everything_is_plain_data() -> None:
    pictures = [texture(i) for i in range(40)]
    pictures[5], pictures[9] = pictures[5] // 8, pictures[9] // 9
    content = judge(named(*pictures)).to_dict()
    assert [row["path"] for row in content["dark"]] == ["9.jpg", "5.jpg"]
    assert content["dark"][0]["brightness"] == look_at(pictures[9][..., None]).brightness
