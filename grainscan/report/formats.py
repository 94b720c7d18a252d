"""The formats of results: one class each, one table of them, and writing to a stream or into a file.

A new format is a subclass of `Format` with an entry in `FORMATS`; nothing else has to know of it. The command line
asks this module for names, so NumPy, Rich and Jinja are imported on use.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TextIO

from grainscan.errors import OutputError, UsageError
from grainscan.files import replacing
from grainscan.report.findings import tasks_of, worst_window
from grainscan.report.words import printable
from grainscan.results import SCHEMA, Result

STDOUT = Path("-")
_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # what makes a spreadsheet compute a cell, also in full width
_VERDICT_KEYS = ("label", "probability", "threshold", "strength")
_VIDEO_KEYS = ("width", "height", "fps", "duration", "codec", "pix_fmt")


@dataclass(frozen=True)
class ModelInfo:
    """What is known about the model behind the results: its tasks, and the units of their strengths."""

    tasks: Sequence[str] = ()  # empty: not known before the results are seen
    units: Mapping[str, str] = field(default_factory=dict)  # default: those of the tasks' records


class Format:
    """A way to write results."""

    suffixes: ClassVar[tuple[str, ...]]  # of files, the usual one first
    streams: ClassVar[bool] = True  # whether results are passed on as they come; else all are held in memory
    maps: ClassVar[bool] = False  # whether it shows where in the picture an artifact is, from the key `map`

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        """Write all results in their order."""
        raise NotImplementedError


class Table(Format):
    """For people: a table and a summary line."""

    suffixes = (".txt",)
    streams = False

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        from grainscan.report.tables import results_table, summary
        from grainscan.report.terminal import print_to

        items = list(results)
        print_to(stream, *([results_table(items, model.tasks)] if items else []), summary(items))


class Json(Format):
    """{"schema": 1, "results": [...]}, one result per line."""

    suffixes = (".json",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        stream.write(f'{{"schema": {SCHEMA}, "results": [')
        separator = "\n"
        for result in results:
            stream.write(separator + to_line(result))
            separator = ",\n"
        stream.write("\n]}\n" if separator != "\n" else "]}\n")


class JsonLines(Format):
    """One object per line."""

    suffixes = (".jsonl",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        for result in results:
            stream.write(to_line(result) + "\n")
            stream.flush()


class Csv(Format):
    """One plain header, one row per file, unknown values empty.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, so a program that needs the very
    names should read JSON.
    """

    suffixes = (".csv",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        tasks = model.tasks
        if not tasks:
            results = list(results)
            tasks = tasks_of(results)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(csv_header(tasks))
        for result in results:
            writer.writerow([_cell(value) for value in _csv_row(result, tasks)])


class Html(Format):
    """One page that needs nothing else: see `grainscan.report.page`."""

    suffixes = (".html", ".htm")
    streams = False
    maps = True

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        from grainscan.report.page import render

        items = list(results)
        for part in render(items, model.tasks or tasks_of(items), model.units):
            stream.write(part)


FORMATS: dict[str, Format] = {
    "table": Table(),
    "json": Json(),
    "jsonl": JsonLines(),
    "csv": Csv(),
    "html": Html(),
}


def format_for(format: str | None, output: Path | None, names: Collection[str] | None = None) -> str:
    """The format that was asked for, else that of the output's suffix, else `table`.

    `names` are the formats to choose from, all by default. Without an output, or with `-`, results go to stdout.
    Raises UsageError for a format that does not exist and for a suffix that names none.
    """
    known = {name: FORMATS[name] for name in names or FORMATS}
    if format is not None:
        if format not in known:
            raise UsageError(f"format is {format!r}", hint=f"Use one of: {', '.join(known)}.")
        return format
    if output is None or output == STDOUT:
        return "table"
    by_suffix = {suffix: name for name, each in known.items() for suffix in each.suffixes}
    if output.suffix.lower() not in by_suffix:
        raise UsageError(
            f"{printable(str(output))}: the suffix does not say which format to write",
            hint=f"Use one of {', '.join(by_suffix)}, or add --format {'|'.join(known)}.",
        )
    return by_suffix[output.suffix.lower()]


def write(
    results: Iterable[Result],
    stream: TextIO,
    format: str,
    *,
    tasks: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Write results in one of FORMATS. Raises UsageError for another one.

    `tasks` and `units` (of strength, by task) are those of the model. Without them the results are searched for tasks
    before anything is written, and units are those of the tasks' records.
    """
    FORMATS[format_for(format, None)].write(results, stream, ModelInfo(tasks or (), units or {}))


def save(results: Iterable[Result], path: Path, format: str, **known: Any) -> None:
    """`write` into a file that appears when it is complete. Raises OutputError, UsageError."""
    with replaced(path) as stream:
        write(results, stream, format, **known)


def to_line(result: Result) -> str:
    """A result as one line of JSON, pure ASCII: any name survives, bytes that are no text as lone surrogates."""
    return json.dumps(result, ensure_ascii=True, separators=(", ", ": "), allow_nan=False)


def csv_header(tasks: Sequence[str]) -> list[str]:
    columns = [f"{task}_{key}" for task in tasks for key in _VERDICT_KEYS]
    worst = [f"{task}_worst_{key}" for task in tasks for key in ("start", "end")]
    errors = ["error_type", "error_message", "error_hint"]
    return ["path", "status", "unreliable", *columns, *worst, *_VIDEO_KEYS, "model", "views", "seconds", *errors]


def _csv_row(result: Result, tasks: Sequence[str]) -> Iterator[Any]:
    yield result["path"]
    yield result["status"]
    yield "; ".join(result.get("unreliable", ()))
    judged: Mapping[str, Mapping[str, Any]] = result.get("tasks", {})
    for task in tasks:
        yield from (judged.get(task, {}).get(key) for key in _VERDICT_KEYS)
    for task in tasks:
        window = worst_window(result, task) or {}
        yield from (window.get(key) for key in ("start", "end"))
    video: Mapping[str, Any] = result.get("video") or {}
    error: Mapping[str, Any] = result.get("error") or {}
    yield from (video.get(key) for key in _VIDEO_KEYS)
    yield from (result.get(key) for key in ("model", "views", "seconds"))
    yield from (error.get(key) for key in ("type", "message", "hint"))


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return "'" + text if value.lstrip(" ")[:1] in _FORMULA and value.strip(" ") else text


@contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` when the block ends well. Raises OutputError."""
    hint = "Name a file in a folder that exists and can be written."
    if path.is_dir():
        raise OutputError(f"{printable(str(path))}: is a folder", hint=hint)
    ours: set[str | bytes | int | None] = {None, str(path)}
    try:
        with replacing(path) as temporary:
            ours.add(str(temporary))
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                yield stream
    except OSError as error:
        if error.filename not in ours:
            raise  # not ours: the results are computed while they are written
        raise OutputError(f"{printable(str(path))}: {error.strerror or error}", hint=hint) from None
