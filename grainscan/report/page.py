"""The HTML page of a scan: a single file that needs neither network nor server.

Histograms, timelines and heat maps are computed in `drawing` and passed to the template as numbers and colours. Jinja
escapes every value, and the page's content security policy forbids all scripts but its own, so markup in a file name
is harmless.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

from grainscan.console import count
from grainscan.report.drawing import colour, heat_map, histogram, timeline
from grainscan.report.findings import Finding, Tally, findings, overall_words, state, verdicts_of, worth_showing
from grainscan.report.words import clock, describe_video, explain, printable
from grainscan.results import Result
from grainscan.tasks import task_of

ROWS = 2000  # files on a page; a browser gets slow with more
_TEMPLATES = Path(__file__).parent / "templates"


def render(results: Sequence[Result], tasks: Sequence[str], units: Mapping[str, str]) -> Iterator[str]:
    """The parts of the page in order. Of more than ROWS files, errors and the highest probabilities are kept.

    `units` are those of strength by task; the default is that of the task's record.
    """
    import jinja2

    from grainscan import __version__

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    kept = _most_important(results)
    tally = Tally.of(results)
    measured = [task for task in tasks if any("strength" in block for block in verdicts_of(results, task))]
    found_word, clean_word = overall_words(tasks)
    yield from environment.get_template("report.html.j2").generate(
        title=task_of(tasks[0]).report_title if len(tasks) == 1 else "Artifact report",
        version=__version__,
        date=datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        models=[printable(name) for name in tally.models],
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        tally=tally,
        files=count(tally.files, "file"),
        length=clock(sum((result.get("video") or {}).get("duration") or 0.0 for result in results)),
        strength=_median_strength(results, measured),
        histograms=[histogram(results, task) for task in tasks],
        rows=(_row(result, tasks) for result in kept),
        several=len(tasks) > 1,
        has_strength=bool(measured),
        units=_units(measured, units),
        shown=len(kept),
        legend=[colour(p / 20, 0.5) for p in range(21)],
        found_word=found_word,
        clean_word=clean_word,
    )


def _median_strength(results: Sequence[Result], measured: Sequence[str]) -> float | None:
    """The median over files with the artifact; None for several tasks, whose units differ."""
    if len(measured) != 1:
        return None
    blocks = verdicts_of(results, measured[0])
    values = [block["strength"] for block in blocks if block["label"] and "strength" in block]
    return median(values) if values else None


def _units(measured: Sequence[str], units: Mapping[str, str]) -> str:
    """`8-bit luma codes` for a single task, else `8-bit luma codes for graininess, …`."""
    texts = {task: units.get(task) or task_of(task).unit or "the units of the training data" for task in measured}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} for {task_of(task).title}" for task, text in texts.items())


def _most_important(results: Sequence[Result]) -> list[Result]:
    """At most ROWS results in order: errors, then the highest probabilities."""
    if len(results) <= ROWS:
        return list(results)
    ranked = sorted(range(len(results)), key=lambda k: (results[k]["status"] == "ok", -_likeliest(results[k])))
    return [results[k] for k in sorted(ranked[:ROWS])]


def _likeliest(result: Result) -> float:
    return max((block["probability"] for block in result.get("tasks", {}).values()), default=-1.0)


def _row(result: Result, tasks: Sequence[str]) -> dict[str, Any]:
    """A file for the template. `shown` are the tasks of its row, `tasks` all of them, likeliest first."""
    path = result["path"]
    ranked = findings(result, tasks)
    worthy = worth_showing(ranked)
    blocks = [_block(result, finding, mapped=finding in worthy) for finding in ranked]
    shown = [block for block in blocks if block["finding"] in worthy]
    place, _, name = path.rpartition("/")
    error = result.get("error")
    worst = worthy[0].worst if worthy else None
    return {
        "folder": printable(place + "/") if place else "",
        "name": printable(name) or printable(str(PurePosixPath(path))),
        "state": state(result),
        "shown": shown,
        "tasks": blocks,
        "probability": _likeliest(result),  # the columns to sort by: -1 if unknown
        "strength": max((finding.strength or 0.0 for finding in worthy), default=-1.0),
        "worst": -1.0 if worst is None else worst,
        "video": describe_video(result),
        "unreliable": printable(", ".join(result.get("unreliable", ()))),
        "facts": _facts(result),
        "error": explain(path, error["message"]) if error else "",
        "hint": printable(error["hint"]) if error else "",
    }


def _block(result: Result, finding: Finding, *, mapped: bool) -> dict[str, Any]:
    """A task of a file for the template."""
    return {
        "finding": finding,
        "title": task_of(finding.task).title,
        "colour": colour(finding.probability, finding.threshold),
        "worst": "" if finding.worst is None else clock(finding.worst),
        "timeline": timeline(result, finding.task),
        "map": heat_map(result, finding.task) if mapped else None,
    }


def _facts(result: Result) -> list[tuple[str, str]]:
    """The details of a file, as far as known."""
    video = result.get("video") or {}
    size = (result.get("file") or {}).get("size")
    windows = count(len(result.get("windows", ())), "window")
    facts = [
        ("path", result["path"]),
        ("picture", f"{video['width']} × {video['height']}" if video.get("width") else ""),
        ("codec", " ".join(str(part) for part in (video.get("codec"), video.get("pix_fmt")) if part)),
        ("frame rate", f"{video['fps']:g} fps" if video.get("fps") else ""),
        ("length", clock(video["duration"]) if video.get("duration") else ""),
        ("size", f"{size / 1e6:,.1f} MB" if size else ""),
        ("views", f"{result['views']:,} in {windows}" if "views" in result else ""),
        ("time taken", f"{result['seconds']:.2f} s" if "seconds" in result else ""),
    ]
    return [(key, printable(text)) for key, text in facts if text]
