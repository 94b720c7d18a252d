"""The two consoles (data on stdout, everything else on stderr), verbosity, progress, and numbers in words."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_FILES = 132  # columns where there is no terminal to measure; Rich would assume 80

verbosity = 0  # -1: results and errors only, 0: progress and warnings, 1: information, 2: debugging and tracebacks


@cache
def out() -> Console:
    """The console for data: stdout."""
    from rich.console import Console

    return Console(width=width_of(sys.stdout), highlight=False)


@cache
def err() -> Console:
    """The console for messages: stderr."""
    from rich.console import Console

    return Console(stderr=True, width=width_of(sys.stderr), highlight=False)


def width_of(stream: TextIO) -> int | None:
    """Columns of what is written to a stream; None: Rich takes those of COLUMNS, else of the terminal."""
    return None if stream.isatty() or os.environ.get("COLUMNS", "").isdigit() else WIDTH_OF_FILES


def set_verbosity(level: int) -> None:
    """Set `verbosity`; any level other than 0 sends the package's log records to stderr through Rich."""
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
    """The progress of a command. This class shows nothing; see `cli.display` for those that do.

    Long functions accept a `Progress`, call `stage` for each part of their work, and `advance` as they go.
    """

    def stage(self, name: str, total: int | None = None) -> None:
        """Start a new part of the work, of `total` steps if known."""

    def advance(self, done: int, note: str = "") -> None:
        """Report that `done` steps of the stage are complete. The short `note` replaces the previous one."""

    def highlight(self, rank: float, text: str) -> None:
        """Show a text for the rest of the stage, if it is among those of the highest rank."""

    def say(self, text: str) -> None:
        """Print a line."""


def count(number: int, noun: str) -> str:
    """`1 file`, `2,400 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first names in sorted order: `a.avi, b.avi, c.avi and 9 more`."""
    ordered = sorted(names)
    more = f" and {len(ordered) - shown:,} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more


def span(seconds: float) -> str:
    """A duration in words: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
