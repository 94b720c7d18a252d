"""The output formats of results: a class each, registered in `FORMATS`.

A new format is a subclass of `Format` with an entry in `FORMATS`; nothing else needs to change. The command line reads
the names here, so NumPy, Rich and Jinja are imported on use.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TextIO

from grainscan.errors import UsageError
from grainscan.files import replacing, unwritable
from grainscan.grain import WIDTH
from grainscan.report.findings import tasks_of, worst_part
from grainscan.report.words import printable
from grainscan.results import SCHEMA, Result, timecode

STDOUT = Path("-")
_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # begins a formula in a spreadsheet, also in full width
_VERDICT_KEYS = ("label", "probability", "threshold", "strength")
_VIDEO_KEYS = ("width", "height", "fps", "duration", "codec", "pix_fmt")


@dataclass(frozen=True)
class ModelInfo:
    """The model and the scan behind the results, as far as known."""

    tasks: Sequence[str] = ()  # empty: those of the results
    units: Mapping[str, str] = field(default_factory=dict)  # of strength, by task; default: those of the task records
    settings: Mapping[str, str] = field(default_factory=dict)  # of the scan, for people
    grain: bool = False  # whether the grain of files is described
    order: str = ""  # in which a page shows the results first: one of `selection.ORDERS`, or a task


class Format:
    """A way to write results."""

    suffixes: ClassVar[tuple[str, ...]]  # of files, the usual one first
    maps: ClassVar[bool] = False  # whether it uses the key `map` of the results

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        """Write the results in order."""
        raise NotImplementedError


class Table(Format):
    """For people: a table and a summary line."""

    suffixes = (".txt",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        from grainscan.report.tables import results_table, summary
        from grainscan.report.terminal import print_to

        items = list(results)
        print_to(stream, *([results_table(items, model.tasks, model.units)] if items else []), summary(items))


class Json(Format):
    """{"schema": 1, "results": [...]}, one result per line."""

    suffixes = (".json",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        stream.write(f'{{"schema": {SCHEMA}, "results": [')
        separator = "\n"
        for result in results:
            stream.write(separator + _to_line(result))
            separator = ",\n"
        stream.write("\n]}\n" if separator != "\n" else "]}\n")


class JsonLines(Format):
    """One object per line."""

    suffixes = (".jsonl",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        for result in results:
            stream.write(_to_line(result) + "\n")
            stream.flush()


class Csv(Format):
    """A header and a row per file; unknown values are empty.

    Text that a spreadsheet would read as a formula gets an apostrophe in front: programs that need exact names should
    read JSON.
    """

    suffixes = (".csv",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        tasks, grain = model.tasks, model.grain
        if not tasks:
            results = list(results)
            tasks, grain = tasks_of(results), grain or any("grain" in result for result in results)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(csv_row({}, tasks, grain=grain))
        for result in results:
            writer.writerow(map(_cell, csv_row(result, tasks, grain=grain).values()))


class Html(Format):
    """A self-contained page: see `grainscan.report.page`."""

    suffixes = (".html", ".htm")
    maps = True

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        from grainscan.report.page import render

        items = list(results)
        for part in render(items, model.tasks or tasks_of(items), model.units, model.settings, model.order):
            stream.write(part)


class Edl(Format):
    """An edit decision list (CMX 3600): an event for each stretch of an artifact of the file; see `report.edl`."""

    suffixes = (".edl",)

    def write(self, results: Iterable[Result], stream: TextIO, model: ModelInfo) -> None:
        from grainscan.report.edl import lines

        items = list(results)
        for line in lines(items, model.tasks or tasks_of(items)):
            stream.write(line + "\n")


FORMATS: dict[str, Format] = {
    "table": Table(),
    "json": Json(),
    "jsonl": JsonLines(),
    "csv": Csv(),
    "html": Html(),
    "edl": Edl(),
}


def format_for(format: str | None, output: Path | None, names: Collection[str] | None = None) -> str:
    """The format requested, else that of the output's suffix, else (on stdout) `table`.

    `names` are the formats to choose from, all by default. Raises UsageError for an unknown format or suffix.
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
    settings: Mapping[str, str] | None = None,
    grain: bool = False,
    order: str = "",
) -> None:
    """Write results in one of FORMATS. Raises UsageError for any other.

    `tasks` and `units` (of strength, by task) are those of the model. By default, tasks are collected from the results
    before anything is written, and units come from the task records. `settings` of the scan are shown on the page,
    which begins in `order`; other formats keep the order of the results. With `grain`, CSV has columns for its
    character.
    """
    about = ModelInfo(tasks or (), units or {}, settings or {}, grain, order)
    FORMATS[format_for(format, None)].write(results, stream, about)


def save(results: Iterable[Result], path: Path, format: str, **known: Any) -> None:
    """`write` to a file that appears once it is complete. Raises OutputError, UsageError."""
    with replaced(path) as stream:
        write(results, stream, format, **known)


def _to_line(result: Result) -> str:
    """A result as one line of ASCII JSON; bytes of a name that are not text become lone surrogates."""
    return json.dumps(result, ensure_ascii=True, separators=(", ", ": "), allow_nan=False)


def csv_row(result: Mapping[str, Any], tasks: Sequence[str], *, grain: bool = False) -> dict[str, Any]:
    """The values of a result by column, with `grain` those of its character, too; unknown ones are None."""
    judged, video, error = (result.get(key) or {} for key in ("tasks", "video", "error"))
    worst = {task: worst_part(result, task) or {} for task in tasks}
    return {
        "path": result.get("path"),
        "status": result.get("status"),
        "unreliable": "; ".join(result.get("unreliable", ())),
        **{f"{task}_{key}": judged.get(task, {}).get(key) for task in tasks for key in _VERDICT_KEYS},
        **{f"{task}_worst_{key}": worst[task].get(key) for task in tasks for key in ("start", "end")},
        **{f"{task}_worst_timecode": timecode_of(worst[task], video) for task in tasks},
        **(_grain_cells(result.get("grain") or {}) if grain else {}),
        "events": "; ".join(_compact(event, video) for event in result.get("events", ()) if event["task"] in tasks),
        **{key: video.get(key) for key in _VIDEO_KEYS},
        **{key: result.get(key) for key in ("model", "views", "seconds")},
        **{f"error_{key}": error.get(key) for key in ("type", "message", "hint")},
    }


def _grain_cells(grain: Mapping[str, Any]) -> dict[str, Any]:
    """The `grain` object of a result by column. Bands of luma are named by their first code."""
    interval, size, chroma = grain.get("interval") or (None, None), grain.get("size") or {}, grain.get("chroma") or {}
    bands = {band["from"]: band["strength"] for band in grain.get("bands", ())}
    return {
        "grain_strength": grain.get("strength"),
        "grain_strength_low": interval[0],
        "grain_strength_high": interval[1],
        **{f"grain_strength_luma_{first}": bands.get(first) for first in range(0, 256, WIDTH)},
        **{f"grain_strength_{plane}": chroma.get(plane) for plane in ("cb", "cr")},
        **{f"grain_size_{way}": size.get(way) for way in ("horizontal", "vertical")},
        **{f"grain_{key}": grain.get(key) for key in ("temporal", "pattern", "film_grain_level")},
    }


def timecode_of(part: Mapping[str, Any], video: Mapping[str, Any], key: str = "start") -> str | None:
    """The timecode of a window or an event; None for none, or without a usual frame rate."""
    return timecode(part[key], video.get("fps")) or None if part else None


def _compact(event: Mapping[str, Any], video: Mapping[str, Any]) -> str:
    """`black_screen 12.4-12.9 0.99 00:00:12:10-00:00:12:22`"""
    span = f"{event['start']:g}-{event['end']:g}"
    start, end = (timecode_of(event, video, key) for key in ("start", "end"))
    return " ".join([event["task"], span, f"{event['probability']:.2f}", *([f"{start}-{end}"] if start else [])])


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return "'" + text if value.lstrip(" ")[:1] in _FORMULA and value.strip(" ") else text


@contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """A text file that replaces `path` if the block succeeds; see `replacing`. Raises OutputError."""
    ours: set[str | bytes | int | None] = {None, str(path)}
    try:
        with replacing(path) as temporary:
            ours.add(str(temporary))
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                yield stream
    except OSError as error:
        if error.filename not in ours:
            raise  # from computing the results, which happens while they are written
        raise unwritable(Path(printable(str(path))), error) from None
