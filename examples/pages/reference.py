"""Renew the tables of the reference: `python examples/pages/reference.py` rewrites examples/reference.md.

The text of that page is written by hand. What stands between `<!-- generated: NAME -->` and `<!-- end -->` comes from
the package: the options of each command, the columns of CSV, the artifacts and the public names.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import grainscan
from grainscan.options import (
    PREFIX,
    EvalConfig,
    Option,
    Options,
    PredictConfig,
    PrepConfig,
    SplitConfig,
    TrainConfig,
    command_of,
    expand,
    flag_of,
    option_of,
    required,
)
from grainscan.report.formats import csv_row
from grainscan.tasks import DEFAULT_TASK, STANDARD

PAGE = Path(__file__).parents[1] / "reference.md"
COMMANDS: dict[str, type[Options]] = {
    command_of(cls): cls for cls in (PredictConfig, PrepConfig, SplitConfig, TrainConfig, EvalConfig)
}
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}

Rows = list[tuple[str, ...]]


def table(heads: tuple[str, ...], rows: Rows) -> str:
    cells = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in cells)


def options(command: str) -> str:
    """The arguments and options of a command, in the sections of its help."""
    cls = COMMANDS[command]
    hints = typing.get_type_hints(cls)
    sections: dict[str, Rows] = {}
    for field in dataclasses.fields(cls):
        about = option_of(field)
        title = about.panel or ("Arguments" if about.argument else "Options")
        sections.setdefault(title, []).append(row(command, field, about, required(hints[field.name])))
    titles = sorted(sections, key=lambda title: {"Arguments": 0, "Options": 1}.get(title, 2))
    heads = ("Option", "Value", "Default", "Meaning", "Variable")
    return "\n\n".join(f"**{title}**\n\n{table(heads, sections[title])}" for title in titles)


def row(command: str, field: dataclasses.Field[object], about: Option, kind: object) -> tuple[str, ...]:
    names = [about.metavar] if about.argument else [*about.flags, flag_of(field.name)]
    if field.default is True:
        names.append("--no-" + flag_of(field.name)[2:])
    meaning, _, default = about.help.rstrip(".").partition(" Default: ")
    if about.argument and field.default is not None:
        default = "required"
    elif field.default is not None and field.default is not False:
        default = code(f"{field.default:g}" if isinstance(field.default, float) else str(field.default).lower())
    variable = f"{PREFIX}_{command}_{field.name}".upper()
    return (", ".join(map(code, names)), value(about, kind), default, meaning.rstrip(".") + ".", code(variable))


def value(about: Option, kind: object) -> str:
    """What an option takes: its choices, else the word for it and its limits."""
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else expand(about.choices)
    if choices:
        return ", ".join(map(code, choices))
    if about.argument or kind is bool:
        return ""
    limits = about.range().removeprefix("a number that is ")
    word = code(about.metavar or METAVARS[kind])  # type: ignore[index]
    return f"{word}, {limits}" if limits != about.range() else word


def code(text: object) -> str:
    return f"`{text}`"


def columns() -> str:
    return ", ".join(map(code, csv_row({}, (DEFAULT_TASK,))))


def grain_columns() -> str:
    usual = csv_row({}, ())
    return ", ".join(code(name) for name in csv_row({}, (), grain=True) if name not in usual)


def artifacts() -> str:
    rows = [
        (
            code(task.name),
            f"{task.found} / {task.absent}",
            task.unit or "",
            "yes" if task.synthesiser else "",
            code(task.estimator) if task.estimator else "",
        )
        for task in STANDARD
    ]
    return table(("Name", "Words", "Unit of strength", "Synthesised by `prep`", "Classical baseline"), rows)


def public() -> str:
    def summary(name: str) -> str:
        text = inspect.getdoc(getattr(grainscan, name)) or ""
        return " ".join(text.partition("\n\n")[0].split())

    names = [name for name in grainscan.__all__ if not name.startswith("__")]
    return table(("Name", "What it is"), [(code(name), summary(name)) for name in names])


def renewed(page: str) -> str:
    """The page with its generated parts made again. Raises KeyError for a part of an unknown name."""
    parts = {f"options of {command}": options(command) for command in COMMANDS}
    parts |= {
        "columns": columns(),
        "grain columns": grain_columns(),
        "artifacts": artifacts(),
        "public names": public(),
    }
    pattern = r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda part: f"{part[1]}\n{parts[part[2]]}\n\n{part[3]}", page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
