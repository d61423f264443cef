"""How names and numbers stand in messages."""

from __future__ import annotations

import math
from collections.abc import Collection


def shown(name: str) -> str:
    """`name` with escapes for control characters and for bytes that are no text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def some(names: Collection[str], count: int = 5) -> str:
    """The first of `names`, sorted and quoted: "'a', 'b' and 3 more"."""
    first = ", ".join(f"'{shown(name)}'" for name in sorted(names)[:count])
    return f"{first} and {len(names) - count:,} more" if len(names) > count else first


def counted(number: int, thing: str) -> str:
    """The number with its noun: "1 picture", "1,200 pictures", "2 classes"."""
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else plural}"


def rounded(value: float, step: float) -> str:
    """`value` with as many decimals as differences of `step` need: 12.345 with step 0.1 is "12.3"."""
    decimals = min(9, max(0, math.ceil(-math.log10(step)))) if 0 < step < math.inf else 3
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # never "-0.0"
