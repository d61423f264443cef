"""The report as a browser reads it: parsed, its pictures decoded, its numbers compared with the scores."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from PIL import Image

from pellucid.errors import PictureError
from pellucid.evaluation.metrics import evaluate_predictions
from pellucid.evaluation.report import render_report

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = (
    '<script>alert("x")</script>',
    "\" onload='alert(1)' x=\"",
    "new\nline & <b>",
    "类别 ünïcode $x_1$ #010203",
    "</style></svg><img src=http://evil.example/x>",
)


class Page(HTMLParser):
    """Tags with attributes, the text, and whether every element that was opened was closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def images(self) -> list[Image.Image]:
        return [Image.open(BytesIO(base64.b64decode(a["src"].partition(",")[2]))) for a in self.all("img")]


def evaluation(classes=("cat", "dog"), n=60, seed=0, **options):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(classes)
    logits = rng.normal(size=(n, len(classes))) + 1.5 * np.eye(len(classes))[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    paths = options.pop("paths", [f"test/{i}.jpg" for i in range(n)])
    return evaluate_predictions(labels, probabilities, classes, paths=paths, **options)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


HISTORY = [
    {"epoch": 1, "train_loss": 1.0, "valid_loss": 1.1, "valid_accuracy": 0.5, "lr": 0.1},
    {"epoch": 2, "train_loss": 0.5, "valid_loss": float("nan"), "valid_accuracy": None, "lr": 0.1},
]


def rendered(e=None, **changes) -> str:
    given = {
        "title": "photos: test",
        "evaluation": e or evaluation(),
        "history": HISTORY,
        "picture": lambda index: noise(32, 32),
        "samples": [(0, "cat", "cat", 0.9), (1, "dog", "cat", 0.6)],
        "made": {"Data fingerprint": "3f78", "Seed": "7"},
    }
    return render_report(**(given | changes))


def test_the_page_needs_nothing_from_outside_and_runs_nothing():
    html = rendered()
    page = Page(html)
    used = {tag for tag, _ in page.tags}
    assert not used & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#"))
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    policy = page.all("meta")[1]["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_hostile_names_stay_text():
    n = 50
    e = evaluation(HOSTILE, n=n, paths=[f"{HOSTILE[i % 5]}/{i}\udcff.jpg" for i in range(n)])
    samples = [(i, HOSTILE[i], HOSTILE[0], 0.5) for i in range(5)]
    page = Page(rendered(e, title=HOSTILE[0], samples=samples, made={HOSTILE[1]: HOSTILE[4]}))
    harmless = Page(rendered(evaluation(("a", "b", "c", "d", "e"), n=n), samples=samples))
    assert len(page.all("img")) == len(harmless.all("img"))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in harmless.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for name in HOSTILE:
        assert name.replace("\n", "\\n") in page.text
    assert r"\udcff.jpg" in page.text


def test_a_report_can_always_be_written_as_utf8():
    e = evaluation(("\udcff", "dog"))
    rendered(e, samples=[], made={"Pictures": "\udcff"}, title="\udcff").encode("utf-8")


def test_the_sections_come_from_the_verdict_to_the_details():
    e = evaluation()
    page = Page(rendered(e))
    places = [page.text.index(sentence.replace(" %", "\N{NO-BREAK SPACE}%")) for sentence in e.verdict()]
    headings = ("How the training went", "Confusion matrix", "Recall of each class", "Calibration")
    headings += ("Most confident mistakes", "Sample pictures", "Scores of every class", "How it was made")
    places += [page.text.index(heading) for heading in headings[:3]]
    places += [page.text.rindex(heading) for heading in headings[3:]]
    assert places == sorted(places)


def test_what_is_empty_is_left_out():
    text = Page(rendered(history=[], samples=[])).text
    assert "How the training went" not in text
    assert "Sample pictures" not in text
    labels = np.arange(40) % 2
    perfect = evaluate_predictions(labels, np.eye(2)[labels], ["cat", "dog"], paths=[""] * 40)
    assert "No picture was labeled wrongly." in Page(rendered(perfect)).text


def test_curves_without_any_number_are_drawn_empty():
    blank = [{"epoch": 1, "train_loss": None, "valid_loss": float("inf")}]
    assert "training" not in svgs(rendered(history=blank))["loss"]
    assert "training" in svgs(rendered())["loss"]


def test_mistakes_are_shown_with_picture_names_and_confidence():
    e = evaluation(n=300)
    asked = []
    page = Page(rendered(e, samples=[], picture=lambda index: asked.append(index) or noise(16, 16)))
    assert asked == [mistake.index for mistake in e.worst]
    assert len(page.images()) == len(e.worst) == 24
    first = e.worst[0]
    start = page.text.index("✗")
    card = page.text[start : page.text.index("✗", start + 1)]
    assert f"says {first.predicted}, {100 * first.probability:.1f}\N{NO-BREAK SPACE}%" in card
    assert f"is {first.label}" in card
    assert first.path in card


def test_right_and_wrong_samples_are_told_apart_without_color():
    samples = [(0, "cat", "cat", 0.9), (1, "dog", "cat", 0.6)]
    text = Page(rendered(samples=samples)).text
    after = text[text.index("Sample pictures") :]
    assert after.index("✓ says cat") < after.index("✗ says cat")


def test_a_picture_that_cannot_be_read_says_why_and_stops_nothing():
    def picture(index: int) -> Image.Image:
        if index == 0:
            raise PictureError("file is <empty> (0 bytes)")
        if index == 1:
            raise FileNotFoundError("gone")
        return noise(32, 32)

    e = evaluation()
    samples = [(i, "cat", "cat", 0.9) for i in range(4)]
    page = Page(rendered(e, samples=samples, picture=picture))
    assert "file is <empty> (0 bytes)" in page.text
    assert "gone" in page.text
    asked = [i for i, *_ in samples] + [mistake.index for mistake in e.worst]
    assert len(page.images()) == sum(i > 1 for i in asked)


def test_a_defect_in_the_code_is_not_taken_for_a_bad_picture():
    with pytest.raises(ZeroDivisionError):
        rendered(picture=lambda index: 1 / 0)


@pytest.mark.parametrize("side", [8, 32, 50])
def test_small_pictures_are_enlarged_into_visible_squares(side):
    picture = noise(side, side)
    shown = Page(rendered(samples=[(0, "cat", "cat", 0.9)], picture=lambda i: picture)).images()[-1]
    factor = 240 // side
    assert shown.format == "PNG"
    assert (np.asarray(shown) == np.asarray(picture).repeat(factor, axis=0).repeat(factor, axis=1)).all()


def test_photographs_become_small_thumbnails():
    photo = noise(80, 60).resize((4000, 3000), Image.Resampling.BICUBIC)
    html = rendered(evaluation(n=400), picture=lambda index: photo)
    shown = Page(html).images()
    assert len(shown) == 26
    assert {image.format for image in shown} == {"JPEG"}
    assert {image.size for image in shown} == {(240, 180)}
    assert len(html) < 1_000_000


def test_the_table_holds_every_score():
    e = evaluation(("cat", "dog", "owl"), n=2)  # no owl among the pictures
    text = Page(rendered(e)).text
    rows = text[text.index("Scores of every class") :]
    for score in e.per_class[:2]:
        assert str(score.recall) in rows
    assert re.search(r"owl0(not measured){4}", rows)


def svgs(html: str) -> dict[str, str]:
    found = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    return {re.search(r'id="([a-z]+(?:-recall)?)-', svg)[1]: svg for svg in found}


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_figures_are_searchable_text_with_the_counts_of_the_matrix():
    e = evaluation(("cat", "dog", "owl"), n=90)
    drawn = svgs(rendered(e))
    assert list(drawn) == ["loss", "accuracy", "confusion", "recall", "calibration", "roc", "precision-recall"]
    numbers = [int(text) for text in texts(drawn["confusion"]) if text.isdigit()]
    assert numbers == [count for count in e.confusion.ravel() if count]
    recalls = [text for text in texts(drawn["recall"]) if "(" in text]
    assert recalls == [f"{score.label} ({score.n})" for score in e.weakest(3)]
    opacity = [float(value) for value in re.findall(r"var\(--cell\); opacity: ([\d.]+)", drawn["confusion"])]
    share = (e.confusion / e.confusion.sum(axis=1, keepdims=True)).ravel()
    assert opacity == pytest.approx(list(0.06 + 0.94 * share[share > 0]), abs=1e-4)


def test_figures_show_names_as_they_are():
    """No formula between dollar signs; what looks like a color or a reference of the drawing stays a name."""
    names = ("$x_1$ and $y_2$", "#010203", "url(#a)", 'a" id="b')
    drawn = svgs(rendered(evaluation(names)))
    for figure in ("confusion", "recall"):
        shown = {text.removesuffix(" (15)") for text in texts(drawn[figure])}
        assert set(names) <= shown


@pytest.mark.parametrize(("num_classes", "shown"), [(2, 2), (50, 50), (51, 50)])
def test_the_matrix_stays_readable_from_two_classes_to_many(num_classes, shown):
    names = [f"species {i:03}" for i in range(num_classes)]
    e = evaluation(names, n=8 * num_classes)
    html = rendered(e, history=[])
    drawn = texts(svgs(html)["confusion"])
    assert [text for text in drawn if text.startswith("species")][:shown] == [
        name for name in names if name in {score.label for score in e.weakest(50)}
    ]
    width = float(re.search(r'width="([\d.]+)pt"', svgs(html)["confusion"])[1])
    assert width / shown > 72 * 0.24  # points a class: room for a number
    assert ("50 weakest of 51 classes" in html) == (num_classes == 51)


def test_every_id_is_unique_and_every_color_is_defined_for_light_and_dark():
    html = rendered()
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 100
    for reference in re.findall(r'(?:url\(|href=")#([\w.-]+)', html):
        assert reference in ids
    used = set(re.findall(r"var\((--\w+)\)", html))
    for scheme in re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL):
        assert used == set(re.findall(r"(--\w+):", scheme))
    colors = set(re.findall(r"#[0-9a-f]{6}\b", "".join(svgs(html).values())))
    assert colors <= {"#ffffff"}  # numbers on strong cells


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    first = rendered()
    assert dict(matplotlib.rcParams) == before
    assert rendered() == first
    code = "import sys, pellucid.evaluation.report; print({'matplotlib.pyplot'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def health_events(num_layers: int) -> list[dict]:
    names = [HOSTILE[i] if i < len(HOSTILE) else f"layer {i}" for i in range(num_layers)]
    return [
        {"step": step, "epoch": step / 10, "layers": [
            {"name": name, "kind": "Conv2d", "gradient": None if (i, step) == (0, 2) else 10.0 ** -(i + step / 50)}
            for i, name in enumerate(names)] + [{"name": "relu", "kind": "ReLU", "zeros": 0.5}]}
        for step in (1, 2, 50)
    ]  # fmt: skip


def test_training_health_draws_layers_and_lists_each_warning_once():
    def warning(step, kind, layer):
        return {"step": step, "kind": kind, "layers": [layer], "text": f"{layer} is {kind} & {HOSTILE[0]}"}

    told = [warning(3, "dead", "b"), warning(9, "dead", "b"), warning(4, "vanishing", "a")]
    html = rendered(health=health_events(3), warnings=told)
    page = Page(html)
    assert "b is dead & <script>" in page.text
    assert page.text.count("b is dead") == 1
    assert page.text.index("Step 3: b is dead") < page.text.index("Step 4: a is vanishing")
    assert not page.all("script")
    assert set(HOSTILE[:2]) <= {text.replace("…", "") for text in texts(svgs(html)["gradients"])} | set(HOSTILE[:2])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "Training health" not in rendered()
    assert "No layer gave cause for a warning" in rendered(health=health_events(3))


def test_many_layers_are_thinned_and_that_is_said():
    few, many = rendered(health=health_events(8)), rendered(health=health_events(9))
    assert "evenly spaced" not in few
    assert "Shown are 8 of 9 layers" in many
    shown = texts(svgs(many)["gradients"])
    assert sum(text.startswith("layer ") for text in shown) + 5 >= 8
    assert "layer 8" in shown
