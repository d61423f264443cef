"""What a person sees: names that a terminal would obey are made harmless, and plain lines come seldom."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import terminal
from pellucid.terminal import TrainingScreen, harmless, progress

EPOCH = {"event": "epoch", "epoch": 3.0, "train_loss": 0.5, "valid_loss": 0.25, "valid_accuracy": 0.875}


class Clock:
    """Stands for the module `time` and moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï 猫.png", "plain ünï 猫.png"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("a\rb\tc\x07", r"a\rb\tc\x07"),
        ("two\nlines", "two\nlines"),
        ("right\u202eto left", r"right\u202eto left"),
        ("\udcff.png", r"\udcff.png"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_control_characters_become_escapes(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text(alphabet=st.characters()))
@settings(max_examples=100)
def test_nothing_unprintable_is_left_and_nothing_printable_changes(text: str) -> None:
    result = harmless(text)
    assert all(c.isprintable() for c in result.replace("\n", ""))
    result.encode()  # lone surrogates, which would stop a print, are gone
    if text.isprintable():
        assert result == text


def test_elsewhere_a_progress_shows_at_most_a_line_each_ten_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("reading pictures") as tell:
        for second in range(1, 36):
            clock.now += 1
            tell(second * 100, 3500)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"reading pictures: {n} of 3,500" for n in ("1,000", "2,000", "3,000")]


def test_a_quick_job_shows_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading pictures") as tell:
        clock.now += 9.9
        tell(10, 10)
    assert capsys.readouterr().err == ""


def test_steps_are_held_back_but_every_epoch_is_told(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"event": "step", "step": 1500, "total": 3000, "loss": 0.4567, "pictures_per_second": 12345.6}
    with TrainingScreen() as screen:
        screen(step)
        screen(EPOCH)
        screen(EPOCH | {"epoch": 4.0, "valid_accuracy": 0.9})
        clock.now += 10
        screen(step)
        screen(step)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert [line.split() for line in lines[:2]] == [
        ["epoch", epoch, "loss", "0.5000", "validation", "loss", "0.2500", "accuracy", accuracy]
        for epoch, accuracy in (("3", "0.8750"), ("4", "0.9000"))
    ]
    assert lines[2] == "training: 1,500 of 3,000, loss 0.457, 12,346 pictures/s"


def test_unreadable_files_are_named_five_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [{"path": f"cat/{i}\x1b.jpg", "reason": "file is empty (0 bytes)"} for i in range(7)]
    with TrainingScreen() as screen:
        screen({
            "event": "data", "source": "photos", "classes": 2, "pictures": {"train": 1200, "test": 30},
            "unreadable": bad, "notes": ["a note"], "input": "3x32x32: the pictures' own size",
        })  # fmt: skip
    err = capsys.readouterr().err
    assert "photos: 2 classes; train 1,200, test 30" in err
    assert err.count("file is empty") == 5
    assert r"cat/0\x1b.jpg" in err
    assert "\x1b" not in err
    assert "2 more unreadable files" in err
    assert "  a note\n" in err
    assert "input 3x32x32: the pictures' own size" in err


def test_early_stopping_says_what_it_waited_for_and_warnings_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingScreen() as screen:
        screen(
            {"event": "warning", "kind": "dead", "layers": ["relu2"], "text": "ReLU relu2 is dead in 94% of its units"}
        )
        screen({
            "event": "early_stop", "step": 90, "waited": 3, "best_epoch": 6.0,
            "best": {"accuracy": 0.9312, "loss": 0.25, "step": 60},
        })  # fmt: skip
    told = capsys.readouterr().err
    assert "warning: ReLU relu2 is dead in 94% of its units\n" in told
    assert "in 3 epochs the validation accuracy did not get better than 0.9312 of epoch 6" in told
    assert "lower loss than 0.2500" in told


def test_an_event_that_has_no_line_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingScreen() as screen:
        screen({"event": "checkpoint", "step": 3})
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_name_is_no_markup_and_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stderr = Tty()
    monkeypatch.setattr(sys, "stderr", stderr)
    with TrainingScreen() as screen:
        screen({"event": "plan", "reasons": ["[bold]not bold[/bold] \x1b]0;title\x07"]})
        screen({"event": "progress", "what": "reading pictures", "done": 3, "total": 4})
        screen(EPOCH)
    shown = stderr.getvalue()
    assert r"[bold]not bold[/bold] \x1b]0;title\x07" in shown
    assert "\x1b]0;" not in shown
    assert "reading pictures" in shown
    assert "accuracy 0.8750" in shown
