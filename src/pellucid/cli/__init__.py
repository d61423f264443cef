"""The command line: parse, call, print. Every command is one function of the package; nothing is decided here."""

# ruff: noqa: I001 - the order of these imports is the order of the commands in the help, and the clock starts in app

from __future__ import annotations

from pellucid.cli.app import app
from pellucid.cli import learn, measure, answer, heat, find, maps, numbers, networks  # noqa: F401

import os
import sys

from pellucid.errors import PellucidError
from pellucid.terminal import say

__all__ = ["app", "command", "main"]


def main() -> None:
    """Runs the command line; exits 0, 1 (an error told in a paragraph), 2 (usage) or 130 (interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names that are no valid text
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        app(args=arguments)
    except PellucidError as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        say(f"{type(error).__name__}: {error}")
        sys.exit(1)


def command() -> None:
    """`main` for the shell. It leaves without taking torch down in order, which takes up to a second."""
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else end.code is not None)
