"""Building blocks of the tables for a terminal. Rich is imported on use.

Findings stand out in colour, clean files recede, errors are red. Names are always a `Text`, never markup.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from grainscan.console import width_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

FOUND, CLEAN, CAUTION, ERROR, DIM = "bold yellow", "green", "yellow", "bold red", "dim"
EXPERIMENTAL = "* experimental: the model is not yet good at this artifact"
_BAR = 8  # characters of a probability bar
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_to(stream: TextIO, *renderables: RenderableType) -> None:
    """Print in colour and as wide as the terminal; elsewhere plain text as wide as COLUMNS, else of a fixed width."""
    from rich.console import Console

    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # an encoding without block characters shows ? instead
    console = Console(file=stream, width=width_of(stream), highlight=False)
    for renderable in renderables:
        console.print(renderable)


class FirstThatFits:
    """The first of several layouts that fits the width of the terminal, else the last."""

    def __init__(self, *layouts: RenderableType) -> None:
        self._layouts = layouts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement

        anything = options.update(width=10_000)
        for layout in self._layouts[:-1]:
            if Measurement.get(console, anything, layout).maximum <= options.max_width:
                yield layout
                return
        yield self._layouts[-1]


def plain_table(*figures: str, names: Sequence[str] = ()) -> Table:
    """A table with a column per name, folded where too long, and a column per figure, never cut off."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in names:
        table.add_column(head, overflow="fold")
    for head in figures:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def styled(text: str = "", style: str = "") -> Text:
    """A `Text`."""
    from rich.text import Text

    return Text(text, style)


def bar(probability: float, style: str) -> Text:
    """`0.97 ███████▊`"""
    eighths = round(8 * _BAR * min(1.0, max(0.0, probability)))
    whole, rest = divmod(eighths, 8)
    return styled(f"{probability:.2f} " + ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(_BAR), style)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def span(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}"
