"""The two consoles (data on stdout, everything else on stderr), verbosity, progress, and words for counts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_WHEN_PIPED = 132  # tables in a log file should not be folded to the 80 columns Rich assumes there

verbosity = 0  # -1: results and errors alone, 0: progress and warnings, 1: information, 2: debugging and tracebacks


@cache
def out() -> Console:
    """Console for data: stdout."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH_WHEN_PIPED, highlight=False)


@cache
def err() -> Console:
    """Console for messages: stderr."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH_WHEN_PIPED, highlight=False)


def set_verbosity(level: int) -> None:
    """Set `verbosity`; other levels than 0 route the package's log records to stderr with Rich."""
    global verbosity
    verbosity = level
    if not level:
        return
    from rich.logging import RichHandler

    logger = logging.getLogger("grainscan")
    logger.handlers = [
        RichHandler(console=err(), show_path=level > 1, show_time=level > 1, markup=False, rich_tracebacks=True)
    ]
    logger.setLevel({-1: logging.ERROR, 1: logging.INFO}.get(level, logging.DEBUG))
    logger.propagate = False


class Progress:
    """How far a command has come, for anyone who wants to show it. This one shows nothing; `cli.display` has others.

    Every long function takes a `Progress`, calls `stage` for each part of its work, and `advance` as it goes.
    """

    def stage(self, name: str, total: int | None = None) -> None:
        """A new part of the work begins, of `total` steps where that is known."""

    def advance(self, done: int, note: str = "") -> None:
        """`done` steps of the stage are complete. `note` is short and replaces the one before."""

    def highlight(self, rank: float, text: str) -> None:
        """Something worth seeing while the stage lasts; those of the highest rank are shown."""

    def say(self, text: str) -> None:
        """Something worth a line of its own."""


def count(number: int, noun: str) -> str:
    """`1 file`, `2,400 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first names in order and how many more there are: `a.avi, b.avi, c.avi and 9 more`."""
    ordered = sorted(names)
    more = f" and {len(ordered) - shown:,} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more


def span(seconds: float) -> str:
    """A length of time in words: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
