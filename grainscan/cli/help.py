"""How the command line explains itself: help in sections, as plain text.

Typer's own help, drawn by Rich, takes longer to import than everything else that `--help` needs. Options keep the
sections that their `rich_help_panel` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

Row = tuple[str, str]

_ANYWHERE = frozenset(["-q", "--quiet", "-v", "-vv", "--verbose"])  # options of the group that may follow the command


class Command(TyperCommand):
    """A command whose options are listed in their sections."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = (_argument(param) for param in self.get_params(ctx) if param.param_type_name == "argument")
        return ["[OPTIONS]", *arguments]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_options(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """A group whose commands are listed with a whole sentence each; `-q` and `-v` may stand behind the command too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ahead = [arg for arg in args[:end] if arg in _ANYWHERE]
        return super().parse_args(ctx, ahead + [arg for arg in args[:end] if arg not in _ANYWHERE] + args[end:])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, (command.help or "").partition("\n\n")[0]) for name, command in self.commands.items()]
        _write(formatter, "Commands", commands)
        _write_options(self.get_params(ctx), ctx, formatter)


def _write_options(params: Iterable[Any], ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[Row]] = {}
    for param in params:
        is_argument = param.param_type_name == "argument"
        row = (_argument(param), param.help or "") if is_argument else param.get_help_record(ctx)
        if row is not None:
            title = getattr(param, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
            sections.setdefault(title, []).append(row)
    for title, rows in sections.items():
        _write(formatter, title, rows)


def _write(formatter: Any, title: str, rows: list[Row]) -> None:
    with formatter.section(title if os.environ.get("NO_COLOR") else typer.style(title, bold=True)):
        formatter.write_dl(rows)


def _argument(param: Any) -> str:
    name = param.metavar or str(param.name).upper()
    return name if param.required else f"[{name}]"
