"""Names of classes: those of ImageNet against two other lists of them, and files of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from pellucid.errors import ConfigError
from pellucid.model.labels import imagenet_classes, read_labels


def test_the_classes_of_imagenet_are_wordnets_first_words_and_all_different() -> None:
    """Against timm's copy of WordNet, where two kinds of crane and of maillot begin with the same word."""
    info = ImageNetInfo()
    first_words = [info.index_to_description(i).split(", ")[0] for i in range(1000)]
    names = imagenet_classes()
    assert len(set(names)) == len(names) == 1000
    different = {i: name for i, name in enumerate(names) if name != first_words[i]}
    assert different == {134: "crane bird", 639: "maillot tank suit"}


@pytest.mark.shared
def test_the_order_is_that_of_a_list_beside_other_weights(shared: Path) -> None:
    lines = (shared / "weights" / "imagenet_labels.txt").read_text().splitlines()
    assert lines[0] == "background"
    info = ImageNetInfo()
    assert lines[1:] == [info.index_to_description(i) for i in range(1000)]


@pytest.mark.parametrize(
    "content",
    ["cat\n dog \ncrane, bird\n", '["cat", "dog", "crane, bird"]', '{"1": "dog", "0": "cat", "2": "crane, bird"}'],
)
def test_a_line_a_class_or_json(content: str, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("\ufeff" + content, encoding="utf-8")
    assert read_labels(file) == ("cat", "dog", "crane, bird")


def test_names_that_come_twice_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("crane\ncat\ncrane\n")
    assert read_labels(file) == ("crane (class 0)", "cat", "crane (class 2)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n\ndog", "Class 1 .* has no name"),
        (b'["cat", 3]', "Class 1 .* has no name"),
        (b'{"0": "cat", "2": "dog"}', "no class '1'"),
        (b'["cat", ', "damaged JSON"),
        (b"\xff\xd8\xff\xe0", "no UTF-8 text"),
    ],
)
def test_labels_that_cannot_be_read(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"(?s){message}.*Expected a line of text for each class"):
        read_labels(file)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file"):
        read_labels(tmp_path / "labels.txt")
