"""Plain text tables for results that a terminal shows."""

from __future__ import annotations

from collections.abc import Sequence


def ruled(table: Sequence[Sequence[str]], *, left: int = 2) -> str:
    """Rows of texts in columns, a line below the first and above the last row; all but the first `left` are flush right."""
    lines = aligned(table, left=left)
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def aligned(table: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Rows of texts in columns two blanks apart, one line each."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(texts, widths, strict=True))
        ).rstrip()
        for texts in table
    ]
