"""What is drawn, against Pillow's and NumPy's own enlargement and against counted pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pellucid.errors import DataError
from pellucid.evaluation.draw import _BAR, Tile, TileRow, draw_labels, fit, grid_sheet, tile_sheet

BAR = np.array([int(_BAR[i : i + 2], 16) for i in (1, 3, 5)])


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("size", "factor"), [((32, 32), 8), ((8, 8), 32), ((50, 40), 7), ((300, 280), 1), ((10, 300), 6)]
)
def test_the_picture_is_shown_whole_above_the_band(size, factor):
    """Every pixel becomes a square of `factor` pixels: the shorter side gets 256, a strip 2048 at most."""
    picture = noise(*size)
    drawn = draw_labels(picture, [("cat", 0.7), ("dog", 0.3)])
    enlarged = np.asarray(picture).repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = enlarged.shape[:2]
    left = (drawn.width - width) // 2
    assert (np.asarray(drawn)[:height, left : left + width] == enlarged).all()
    assert drawn.height > height
    assert drawn.width == max(width, 256)


def test_the_picture_itself_is_left_alone():
    picture = noise(40, 40)
    before = picture.tobytes()
    draw_labels(picture, [("cat", 0.7)])
    fit(picture, 20)
    assert picture.tobytes() == before


def test_bars_are_as_long_as_the_probabilities():
    shares = (1.0, 0.5, 0.25)
    band = np.asarray(draw_labels(Image.new("RGB", (400, 400)), [("", share) for share in shares]))[400:]
    rows = np.array_split(band, len(shares))
    lengths = [(row == BAR).all(axis=-1).any(axis=0).nonzero()[0].max() for row in rows]
    margin = (band == BAR).all(axis=-1).any(axis=0).nonzero()[0].min()
    spans = np.array(lengths) - margin
    assert spans / spans[0] == pytest.approx(shares, abs=0.01)


def test_a_label_of_zero_has_no_bar_and_no_label_has_no_band():
    assert draw_labels(noise(300, 300), []).size == (300, 300)
    band = np.asarray(draw_labels(Image.new("RGB", (300, 300)), [("cat", 0.0)]))[300:]
    assert (band == BAR).all(axis=-1).any(axis=0).sum() <= 1


def test_a_long_name_is_shortened_before_it_reaches_the_number():
    def ink_columns(name: str) -> np.ndarray:
        band = np.asarray(draw_labels(Image.new("RGB", (400, 400)), [(name, 0.0)]))[400:]
        return (band.max(axis=-1) < 100).any(axis=0)

    short, long = ink_columns("x"), ink_columns("x" * 500)
    number = short.nonzero()[0][short.nonzero()[0] > 200].min()
    assert (long[number:] == short[number:]).all()
    assert not long[number - 6 : number].any()


def test_names_of_any_script_stand_on_one_line():
    heights = {draw_labels(noise(64, 64), [(name, 0.5)]).height for name in ("cat", "chat\nchien", "кошка", "γάτα Ω é")}
    assert len(heights) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_modes_are_drawn_as_rgb(mode):
    picture = Image.new("RGB", (300, 300), "#ff0000").convert(mode)
    drawn = draw_labels(picture, [("cat", 0.5)])
    assert drawn.mode == "RGB"
    assert drawn.getpixel((150, 150)) == picture.convert("RGB").getpixel((150, 150))


def test_fit_enlarges_by_whole_factors_and_shrinks_within_the_square():
    small = noise(32, 20)
    assert (np.asarray(fit(small, 100)) == np.asarray(small).repeat(3, axis=0).repeat(3, axis=1)).all()
    assert fit(noise(400, 200), 100).size == (100, 50)
    assert fit(noise(3, 4000), 100).size == (1, 100)


def test_a_contact_sheet_holds_every_picture_in_its_row():
    cell, gap = 96, 6
    rows = [
        ("cats\n3 pictures", [noise(32, 32, i) for i in range(3)]),
        ("dogs\n1 picture", [noise(96, 96, 9)]),
    ]
    sheet = np.asarray(grid_sheet(rows, cell=cell))
    assert sheet.shape[0] == gap + 2 * (cell + gap)
    left = sheet.shape[1] - 3 * (cell + gap)
    for row, (_, pictures) in enumerate(rows):
        for column, picture in enumerate(pictures):
            top, start = gap + row * (cell + gap), left + column * (cell + gap)
            expected = np.asarray(picture.resize((cell, cell), Image.Resampling.NEAREST))
            assert (sheet[top : top + cell, start : start + cell] == expected).all()
    assert (sheet[cell + 2 * gap :, left + cell + gap :] == 255).all()  # one dog only
    labels = sheet[:, : left - gap]
    assert all((half < 100).any() for half in np.array_split(labels, 2))


@pytest.mark.parametrize(("side", "cell"), [(50, 100), (8, 96), (60, 120), (70, 70), (96, 96), (300, 96)])
def test_small_pictures_fill_their_places(side, cell):
    """The square is the whole multiple of the side nearest to 96; pictures that are larger are shrunk to 96."""
    sheet = np.asarray(grid_sheet([("", [Image.new("RGB", (side, side), "black")] * 3)]))
    gap = 6 if cell == 96 else max(4, cell // 16)
    assert sheet.shape[0] == cell + 2 * gap
    assert (sheet == 0).all(-1).sum() == 3 * cell * cell


def test_a_long_name_does_not_run_into_the_pictures():
    sheet = np.asarray(grid_sheet([("x" * 300, [Image.new("RGB", (96, 96), "white")]), ("", [])]))
    assert sheet.shape[1] < 5 * 96
    assert (sheet[:, -96 - 12 :] == 255).all()
    assert (sheet < 100).any()


def test_no_row_is_refused():
    with pytest.raises(DataError, match="received 0"):
        grid_sheet([])


def test_a_tile_sheet_holds_every_picture_as_it_is_and_breaks_rows():
    tiles = [Tile(noise(30 + 10 * (i % 2), 20, i), f"tile {i}", "0.5", framed=i == 2) for i in range(7)]
    tiles.append(Tile(noise(30, 20, 8), "two", second=noise(30, 20, 9)))
    sheet = np.asarray(
        tile_sheet("A title", ["a line"], [TileRow(tiles[:5], "first", ["more"]), TileRow(tiles[5:])], columns=3)
    )
    found = {}
    for i, picture in enumerate([*(tile.picture for tile in tiles), tiles[-1].second]):
        wanted = np.asarray(picture)
        height, width = wanted.shape[:2]
        found[i] = [
            (int(y), int(x)) for y, x in np.argwhere((sheet == wanted[0, 0]).all(2))
            if np.array_equal(sheet[y : y + height, x : x + width], wanted)
        ]  # fmt: skip
        assert len(found[i]) == 1, f"tile {i}"
    rows = [found[i][0][0] for i in range(8)]
    assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4] < rows[5] == rows[6] == rows[7]
    assert found[3][0][1] == found[0][0][1] == found[5][0][1]
    assert found[8][0] == (rows[7], found[7][0][1] + 34)


def test_a_white_picture_can_be_told_from_the_paper():
    sheet = np.asarray(tile_sheet("", [], [TileRow([Tile(Image.new("RGB", (30, 20), "white"))])], columns=1))
    assert (sheet < 250).any()
