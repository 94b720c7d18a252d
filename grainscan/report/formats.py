"""Results for programs: JSON, JSONL, CSV and the HTML page, to a stream or to a file that appears when complete."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from grainscan.files import replacing, unwritable
from grainscan.report.words import Result, printable, tasks_of, worst_window

SCHEMA = 1
FORMATS = ("json", "jsonl", "csv", "html")
_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # what makes a spreadsheet compute a cell, also in full width
_VIDEO_KEYS = ("width", "height", "fps", "duration", "codec", "pix_fmt")


def to_line(result: Result) -> str:
    """A result as one line of JSON, pure ASCII: any name survives, bytes that are no text as lone surrogates."""
    return json.dumps(result, ensure_ascii=True, separators=(", ", ": "), allow_nan=False)


def write_jsonl(results: Iterable[Result], stream: TextIO) -> None:
    """One object a line, as they come."""
    for result in results:
        stream.write(to_line(result) + "\n")
        stream.flush()


def write_json(results: Iterable[Result], stream: TextIO) -> None:
    """{"schema": 1, "results": [...]}, one result a line, as they come."""
    stream.write(f'{{"schema": {SCHEMA}, "results": [')
    separator = "\n"
    for result in results:
        stream.write(separator + to_line(result))
        separator = ",\n"
    stream.write("\n]}\n" if separator != "\n" else "]}\n")


def write_csv(results: Iterable[Result], stream: TextIO, tasks: Sequence[str]) -> None:
    """One plain header, one row a file, unknown values empty.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, so a program that needs the very
    names should read JSON.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(csv_header(tasks))
    for result in results:
        writer.writerow([_cell(value) for value in _csv_row(result, tasks)])


def csv_header(tasks: Sequence[str]) -> list[str]:
    columns = [f"{task}_{key}" for task in tasks for key in ("label", "probability", "threshold", "strength")]
    worst = [f"{task}_worst_{key}" for task in tasks for key in ("start", "end")]
    errors = ["error_type", "error_message", "error_hint"]
    return ["path", "status", *columns, *worst, *_VIDEO_KEYS, "model", "views", "seconds", *errors]


def _csv_row(result: Result, tasks: Sequence[str]) -> Iterator[Any]:
    yield result["path"]
    yield result["status"]
    judged = result.get("tasks", {})
    for task in tasks:
        for key in ("label", "probability", "threshold", "strength"):
            yield judged.get(task, {}).get(key)
    for task in tasks:
        window = worst_window(result, task) or {}
        yield window.get("start")
        yield window.get("end")
    video, error = result.get("video") or {}, result.get("error") or {}
    yield from (video.get(key) for key in _VIDEO_KEYS)
    yield from (result.get(key) for key in ("model", "views", "seconds"))
    yield from (error.get(key) for key in ("type", "message", "hint"))


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return "'" + text if value.lstrip(" ")[:1] in _FORMULA and value.strip(" ") else text


def write_html(results: Iterable[Result], stream: TextIO, tasks: Sequence[str] | None = None) -> None:
    """One page that needs nothing else: see `grainscan.report.page`."""
    from grainscan.report.page import render

    items = list(results)
    for part in render(items, tasks or tasks_of(items)):
        stream.write(part)


def write(results: Iterable[Result], stream: TextIO, format: str, *, tasks: Sequence[str] | None = None) -> None:
    """Write results as json, jsonl, csv or html. `tasks` (of the model) spares CSV and HTML from looking for them."""
    if format == "csv":
        items = results if tasks else list(results)
        write_csv(items, stream, tasks or tasks_of(items))
    elif format == "html":
        write_html(results, stream, tasks)
    elif format in ("json", "jsonl"):
        (write_json if format == "json" else write_jsonl)(results, stream)
    else:
        raise ValueError(f"{format} is not json, jsonl, csv or html")


def save(results: Iterable[Result], path: Path, format: str, *, tasks: Sequence[str] | None = None) -> None:
    """Write a file that appears when it is complete. Raises OutputError."""
    with replaced(path) as stream:
        write(results, stream, format, tasks=tasks)


@contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` when the block ends well; see `replacing`. Raises OutputError."""
    ours: set[str | bytes | int | None] = {None, str(path)}
    try:
        with replacing(path) as temporary:
            ours.add(str(temporary))
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                yield stream
    except OSError as error:
        if error.filename not in ours:
            raise  # not ours: the results are computed while they are written
        raise unwritable(Path(printable(str(path))), error) from None
