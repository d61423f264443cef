"""What a person sees while something runs: progress bars on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pellucid.config import METRICS

_PLAIN_SECONDS = 10.0  # between two plain lines of one progress


def say(text: str) -> None:
    """One line to stderr."""
    print(harmless(text), file=sys.stderr, flush=True)  # noqa: T201


def harmless(text: str) -> str:
    """`text` with escapes in place of control characters, which a file name may hold and a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that shows how far `what` is."""
    with _Bar() as bar:
        yield lambda done, total: bar.show(what, done, total)


class TrainingScreen:
    """The observer of a training that tells a person what happens. To be used as a context manager."""

    def __init__(self) -> None:
        self._bar = _Bar()

    def __enter__(self) -> TrainingScreen:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def __call__(self, event: dict[str, Any]) -> None:
        """Shows one event."""
        show = getattr(self, "_on_" + event["event"], None)
        if show:
            show(event)

    def _on_progress(self, event: dict[str, Any]) -> None:
        self._bar.show(event["what"], event["done"], event["total"])

    def _on_data(self, event: dict[str, Any]) -> None:
        counts = ", ".join(f"{part} {n:,}" for part, n in event["pictures"].items())
        what = {"labels": f"{event['classes']} labels", "number": "a number each"}
        kinds = what.get(event.get("task", ""), f"{event['classes']} classes")
        self._bar.say(f"{event['source']}: {kinds}; {counts}")
        for row in event["unreadable"][:5]:
            self._bar.say(f"  unreadable, left out: {row['path']!r}: {row['reason']}")
        if len(event["unreadable"]) > 5:
            self._bar.say(f"  ... and {len(event['unreadable']) - 5:,} more unreadable files (all in data.csv)")
        for note in event["notes"]:
            self._bar.say(f"  {note}")
        if event["input"]:
            self._bar.say(f"  input {event['input']}")

    def _on_member(self, event: dict[str, Any]) -> None:
        self._bar.say(f"{event['name']}: training {event['number']} of {event['of']}")

    def _on_tested(self, event: dict[str, Any]) -> None:
        name = next(name for name in METRICS if name in event)
        score = event[name]
        self._bar.say(
            f"{event['name']}: test {METRICS[name]} {score['value']:.4f} ({score['low']:.4f} to {score['high']:.4f}, "
            f"n {event['n']:,})"
        )

    def _on_plan(self, event: dict[str, Any]) -> None:
        for reason in event["reasons"]:
            self._bar.say(f"  {reason}")

    def _on_features(self, event: dict[str, Any]) -> None:
        self._bar.show("looking at the pictures", event["done"], event["total"])

    def _on_time_is_up(self, event: dict[str, Any]) -> None:
        self._bar.say(
            f"the time allows a look at {event['done']:,} of {event['total']:,} pictures; not all are learned from"
        )

    def _on_head(self, event: dict[str, Any]) -> None:
        self._bar.say(
            f"last layer, C {event['strength']:g}: validation {_metric(event)}, loss {event['valid_loss']:.4f}"
        )

    def _on_kept(self, event: dict[str, Any]) -> None:
        scores = ", ".join(f"{name} {_metric(scores)}" for name, scores in event["scores"].items())
        self._bar.say(f"fine-tuning, in validation: {scores}")
        self._bar.say(f"kept: {event['what']}; chosen on the validation pictures, so their figure flatters it a little")

    def _on_calibration(self, event: dict[str, Any]) -> None:
        self._bar.say(event["text"])

    def _on_resumed(self, event: dict[str, Any]) -> None:
        self._bar.say(f"going on from step {event['step']:,}")

    def _on_step(self, event: dict[str, Any]) -> None:
        speed = f"loss {event['loss']:.3f}, {event['pictures_per_second']:,.0f} pictures/s"
        self._bar.show("training", event["step"], event["total"], speed)

    def _on_epoch(self, event: dict[str, Any]) -> None:
        self._bar.say(
            f"epoch {event['epoch']:5.4g}  loss {event['train_loss']:.4f}  "
            f"validation loss {event['valid_loss']:.4f}  {_metric(event)}"
        )

    def _on_early_stop(self, event: dict[str, Any]) -> None:
        best = event["best"]
        self._bar.say(
            f"stopped early: in {event['waited']} epochs the validation {_metric(best, ' did not get better than ')} of epoch "
            f"{event['best_epoch']:.4g} (any gain counts, or the same with a lower loss than {best['loss']:.4f}); the weights "
            "of that epoch are kept"
        )

    def _on_warning(self, event: dict[str, Any]) -> None:
        self._bar.say(f"warning: {event['text']}")


def _metric(scores: Mapping[str, Any], between: str = " ") -> str:
    """Name and value of the score that chooses the best weights: "accuracy 0.9812"."""
    keys = ((name, key) for name in METRICS for key in (name, f"valid_{name}"))
    return next(f"{METRICS[name]}{between}{scores[key]:.4f}" for name, key in keys if key in scores)


class _Bar:
    """Rich's progress display on a terminal; elsewhere a line at most every ten seconds."""

    def __init__(self) -> None:
        self._rich: Any = None
        self._tasks: dict[str, Any] = {}
        self._last = time.monotonic()

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._rich = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[more]}", markup=False), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._rich.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._rich:
            self._rich.stop()

    def show(self, what: str, done: int, total: int, more: str = "") -> None:
        if self._rich:
            if what not in self._tasks:
                for task in self._tasks.values():
                    self._rich.update(task, visible=False)
                self._tasks = {what: self._rich.add_task(what, total=total, more=more)}
            self._rich.update(self._tasks[what], completed=done, total=total, more=more)
        elif time.monotonic() - self._last >= _PLAIN_SECONDS:
            self._last = time.monotonic()
            say(f"{what}: {done:,} of {total:,}" + (f", {more}" if more else ""))

    def say(self, text: str) -> None:
        if self._rich:
            self._rich.console.print(harmless(text), markup=False, highlight=False)
        else:
            say(text)
