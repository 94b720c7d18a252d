"""Counts and lists of names, as notes and errors write them."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """`1 clip`, `1,204 clips`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first names in order and how many more there are: `a.avi, b.avi, c.avi and 9 more`."""
    ordered = sorted(names)
    more = f" and {len(ordered) - shown:,} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more
