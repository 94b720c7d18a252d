"""Help in sections, as plain text with a little colour.

Typer's own help is drawn by Rich, which takes longer to import than everything else that `--help` needs. The sections
are those that the options name as their `rich_help_panel`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from grainscan.options import expand

_WIDEST = 26  # columns for names; longer names get a line of their own
_DEFAULT, _JOINED = "[default: ", "\xa0"  # no line break between a default and its word

Row = tuple[str, str]

_ANYWHERE = frozenset(["-q", "--quiet", "-v", "-vv", "--verbose"])  # options of the group that may follow the command


class Command(TyperCommand):
    """A command whose options are listed in their sections."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = (str(param.metavar) for param in self.get_params(ctx) if param.param_type_name == "argument")
        return ["[OPTIONS]", *arguments]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """A group that lists its commands with a sentence each, and accepts `-q` and `-v` after the command, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ahead = [arg for arg in args[:end] if arg in _ANYWHERE]
        return super().parse_args(ctx, ahead + [arg for arg in args[:end] if arg not in _ANYWHERE] + args[end:])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, (command.help or "").partition("\n\n")[0]) for name, command in self.commands.items()]
        _write(formatter, "Commands", commands, max(len(name) for name, _ in commands))
        _write_options(self.get_params(ctx), ctx, formatter)


def _write_options(params: Iterable[Any], ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[Row]] = {}
    for param in params:
        is_argument = param.param_type_name == "argument"
        if param.metavar and ":" in param.metavar:  # a table of choices, imported for this help alone
            param.metavar = "|".join(expand(tuple(param.metavar.split("|"))))
        row = (str(param.metavar), param.help or "") if is_argument else param.get_help_record(ctx)
        if row is not None:
            title = getattr(param, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
            sections.setdefault(title, []).append(row)
    width = max(len(name) for rows in sections.values() for name, _ in rows if len(name) <= _WIDEST)
    for title, rows in sections.items():
        _write(formatter, title, rows, width)


def _write(formatter: Any, title: str, rows: list[Row], width: int) -> None:
    """A section with names of this width, so that the texts of all sections start at the same column."""
    shown = [
        (_styled(name.ljust(width), fg="cyan"), text.replace(_DEFAULT, _DEFAULT[:-1] + _JOINED)) for name, text in rows
    ]
    with formatter.section(_styled(title, bold=True)):
        formatter.write_dl(shown, col_max=width)
    formatter.buffer[:] = [text.replace(_JOINED, " ") for text in formatter.buffer]


def _styled(text: str, **style: Any) -> str:
    """Coloured text; Typer strips the codes if the output is not a terminal."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, **style)
