"""Makes a command of a class of options: every field becomes an argument or an option."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from grainscan.cli.help import Command
from grainscan.options import PANELS, Config, Option, command_of, flag_of, option_of, required, resolve

_CONFIG = typer.Option(
    "--config", metavar="FILE", help="TOML file with options. Default: grainscan.toml, if it exists."
)


def command(app: typer.Typer, cls: type[Config]) -> Callable[[Callable[[Config], None]], Callable[[Config], None]]:
    """Register a function as the command of its class of options. Its docstring is the command's help."""

    def register(function: Callable[[Config], None]) -> Callable[[Config], None]:
        def run(config: Path | None = None, **flags: Any) -> None:
            function(resolve(cls, flags, file=config))

        parameters = _parameters(cls)
        run.__doc__ = function.__doc__
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(command_of(cls), cls=Command)(run)
        return function

    return register


_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def _parameters(cls: type[Config]) -> list[Parameter]:
    """The fields in the order of the help: arguments, common options and --config, then the other sections."""
    hints = typing.get_type_hints(cls)
    shown: list[tuple[tuple[bool, int], str, Any]] = []
    for field in dataclasses.fields(cls):
        about = option_of(field)
        place = (not about.argument, PANELS.index(about.panel))
        kind, metavar = _read_as(hints[field.name])
        metavar = about.metavar or "|".join(about.choices) or metavar
        shown.append((place, field.name, Annotated[kind, _info(field, about, metavar)]))
    shown.append(((True, 0), "config", Annotated[Path | None, _CONFIG]))
    shown.sort(key=lambda item: item[0])
    return [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for _, name, kind in shown]


def _read_as(hint: Any) -> tuple[Any, str | None]:
    """The type that Typer parses, and the metavar. `resolve` checks choices and numbers."""
    hint = required(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return list[inner[0]] | None, None  # type: ignore[valid-type]
    if origin is typing.Literal:
        return str | None, "|".join(inner)
    return (str if hint in (int, float) else hint) | None, _METAVARS.get(hint)


def _info(field: dataclasses.Field[Any], about: Option, metavar: str | None) -> Any:
    if about.argument:
        return typer.Argument(metavar=metavar, help=about.help)
    flag, default, text = flag_of(field.name), field.default, about.help
    if isinstance(default, bool):
        flag += f"/--no-{flag[2:]}" if default else ""
    elif default is not None:
        text += f" [default: {f'{default:g}' if isinstance(default, float) else default}]"
    return typer.Option(flag, *about.flags, help=text, rich_help_panel=about.panel, show_default=False, metavar=metavar)
