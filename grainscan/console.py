"""The two consoles (data on stdout, everything else on stderr), progress and verbosity."""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress
    from rich.console import Console

_WIDTH_WHEN_PIPED = 132  # tables in a log file should not be folded to the 80 columns Rich assumes there


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
    """Route the package's log records to stderr: -1 errors only, 0 warnings, 1 information, 2 debugging."""
    from rich.logging import RichHandler

    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    logger = logging.getLogger("grainscan")
    logger.handlers = [
        RichHandler(console=err(), show_path=level > 1, show_time=level > 1, markup=False, rich_tracebacks=True)
    ]
    logger.setLevel(levels.get(level, logging.DEBUG))
    logger.propagate = False


def progress() -> rich.progress.Progress:
    """A progress display on stderr: bar, count, rate, time left. Silent when stderr is not a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err(),
        disable=not err().is_terminal,
        transient=True,
    )


class Progress:
    """How far a command has come, for whoever wants to show it. This one shows nothing; that of `cli.display` does.

    Every long function takes a `Progress` and calls `stage` once for each part of its work, then `advance` as it goes.
    """

    def stage(self, name: str, total: int | None = None) -> None:
        """A new part of the work begins, of `total` steps where that is known."""

    def advance(self, done: int, note: str = "") -> None:
        """`done` steps of the stage are complete. `note` is short and replaces the one before."""

    def say(self, text: str) -> None:
        """Something worth a line of its own."""
