"""The HTML page of a scan: a single file that needs neither network nor server.

Its data are JSON inside the page, one object a file; `report.js` draws the table, histograms, timelines and maps from
them, so that thresholds can be moved and tens of thousands of files be shown. The page's content security policy
forbids all scripts but its own, and names become text, never markup, so that markup in a file name is harmless.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from grainscan.console import count, span
from grainscan.report.findings import Tally, experimental_of, findings, overall_words, verdicts_of, worst_part
from grainscan.report.selection import in_order
from grainscan.report.words import describe_grain, explain, printable, unit_of
from grainscan.results import Result, too_weak
from grainscan.tasks import task_of

_TEMPLATES = Path(__file__).parent / "templates"
_WINDOW_VALUES = 3_000_000  # probabilities of windows on a page, about three bytes each
_BARS = 240  # of a timeline: more cannot be told apart
_FEWEST_BARS = 8
_MAP_VALUES = 2_000_000  # probabilities of views on a page
_PICTURES = 12_000_000  # bytes of pictures on a page
_EVENTS = 200_000  # on a page
_MOST_EVENTS = 1000  # of a file


def render(
    results: Sequence[Result],
    tasks: Sequence[str],
    units: Mapping[str, str],
    settings: Mapping[str, str],
    order: str = "",
) -> Iterator[str]:
    """The parts of the page in order.

    `units` are those of strength by task; the default is that of the task's record. `settings` are those of the scan,
    as far as known, as texts for people. `order` is one of `selection.ORDERS` or a task; worst first by default.
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
    tally = Tally.of(results)
    measured = [task for task in tasks if any("strength" in block for block in verdicts_of(results, task))]
    known = {task: unit_of(task, units) for task in measured}
    found_word, clean_word = overall_words(tasks)
    data = _Data(results, tasks, known)
    yield from environment.get_template("report.html.j2").generate(
        title=task_of(tasks[0]).report_title if len(tasks) == 1 else "Artifact report",
        version=__version__,
        date=datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        models=[printable(name) for name in tally.models],
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=_embedded(data.to_dict() | _begin(order, tasks)),
        tally=tally,
        files=count(tally.files, "file"),
        length=span(data.length),
        looked=span(data.looked),
        looked_share=f", {_in_percent(data.looked / data.length)}" if data.length else "",
        settings=[(key, printable(text)) for key, text in (*settings.items(), *data.sampling())],
        strength_unit=_short(known[measured[0]]) if len(measured) == 1 else "",
        several=len(tasks) > 1,
        has_strength=bool(measured),
        units=_units(known),
        experimental=set(experimental_of(results)) & set(tasks),
        found_word=found_word,
        clean_word=clean_word,
        maps_kept=data.maps,
        maps_left_out=data.maps_left_out,
    )


def _begin(order: str, tasks: Sequence[str]) -> dict[str, Any]:
    """The order and the artifact that the page begins with."""
    if order in tasks:
        return {"order": "worst", "artifact": tasks.index(order)}
    return {"order": "name" if order == "path" else order or "worst"}


def _embedded(values: Any) -> str:
    """JSON for a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _units(known: Mapping[str, str]) -> str:
    """`8-bit luma codes` for a single task, else `8-bit luma codes for graininess, …`."""
    if len(known) == 1:
        return next(iter(known.values()))
    return ", ".join(f"{text} for {task_of(task).title}" for task, text in known.items())


def _short(unit: str) -> str:
    """A unit without what explains it: `8-bit luma codes`."""
    return unit.partition(" (")[0]


class _Data:
    """What the script draws: `tasks`, `files` in the order of their names, and tables of folders and videos.

    Keys of a file, absent where unknown: d and v (positions in the tables of folders and videos), n (name), e (message
    and hint of an error), p (probability by task), l (positions of the tasks found), h (thresholds other than those of
    most files), s (strength by task), x (positions of the tasks too weak to count), t (duration), b (bytes), k (views),
    c (seconds the scan took), g (number of windows and their seconds), u (why it is unreliable), r (its grain in
    words), w (start and end of each window), q (percent by task and window), o (seconds at which each task is worst), a
    (events: task, start, end, probability), m (map: b is x, y and size of each view, q percent by task and view), y
    (pictures, JPEG as base64: t is the thumbnail, c are crops: task, percent, the crop, and the same crop stretched in
    contrast).
    """

    def __init__(self, results: Sequence[Result], tasks: Sequence[str], units: Mapping[str, str]) -> None:
        self._tasks, self._units = tasks, units
        self._folders: dict[str, int] = {}
        self._videos: dict[tuple[Any, ...], int] = {}
        self._experimental = experimental_of(results)
        self._thresholds = {
            task: _usual([block["threshold"] for block in verdicts_of(results, task)]) for task in tasks
        }
        self.length = self.looked = 0.0
        self._windows: list[int] = []
        self._views: list[int] = []
        judged = sum("tasks" in result for result in results) or 1
        self._bars = min(_BARS, max(_FEWEST_BARS, _WINDOW_VALUES // (judged * max(1, len(tasks)))))
        self._events = min(_MOST_EVENTS, max(10, _EVENTS // judged))
        mapped = self._worth_mapping(results)
        self.maps = len(mapped)
        self.maps_left_out = any(result.get("map") for k, result in enumerate(results) if k not in mapped)
        self._illustrated = _worth_showing(results)
        order = sorted(range(len(results)), key=lambda k: _natural(results[k]["path"]))
        self._files = [self._file(results[k], mapped=k in mapped) for k in order]

    def to_dict(self) -> dict[str, Any]:
        tasks = []
        for name in self._tasks:
            record, unit = task_of(name), self._units.get(name)
            task: dict[str, Any] = {"name": name, "title": record.title, "found": record.found, "absent": record.absent}
            task |= {"threshold": self._thresholds[name], "experimental": name in self._experimental}
            tasks.append(task | ({"unit": unit, "short": _short(unit)} if unit else {}))
        tables = {"folders": [*self._folders], "videos": [list(video) for video in self._videos]}
        return {"tasks": tasks, **tables, "files": self._files}

    def sampling(self) -> Iterator[tuple[str, str]]:
        """What the results say of the sampling."""
        for key, values in (("windows in a file", self._windows), ("views of a file", self._views)):
            if values:
                low, high = min(values), max(values)
                yield key, f"{low:,}" if low == high else f"{low:,} to {high:,}"

    def _worth_mapping(self, results: Sequence[Result]) -> set[int]:
        """The worst files whose maps fit into the page."""
        candidates = [k for k, result in enumerate(results) if result.get("map")]
        candidates.sort(key=lambda k: -max((each.probability for each in findings(results[k], self._tasks)), default=0))
        kept, values = set[int](), 0
        for k in candidates:
            values += len(results[k]["map"]) * (len(self._tasks) + 3)
            if values > _MAP_VALUES and kept:
                break
            kept.add(k)
        return kept

    def _file(self, result: Result, *, mapped: bool) -> dict[str, Any]:
        path, video = result["path"], result.get("video") or {}
        place, slash, name = path.rpartition("/")
        folder = printable(place + slash)
        file: dict[str, Any] = {"n": printable(name) or printable(path)}
        if folder and name:
            file["d"] = self._folders.setdefault(folder, len(self._folders))
        if result["status"] != "ok":
            error = result["error"]
            return file | {"e": [explain(path, error["message"]), printable(error["hint"])]}
        if video:
            keys = ("width", "height", "fps", "codec", "pix_fmt")
            known = tuple(printable(value) if isinstance(value := video.get(key), str) else value for key in keys)
            file["v"] = self._videos.setdefault(known, len(self._videos))
        length = video.get("duration") or 0.0
        windows = sorted(result.get("windows", ()), key=lambda window: (window["start"], window["end"]))
        looked = _union(windows)
        self.length += length
        self.looked += looked
        self._windows.append(len(windows))
        self._views.append(result.get("views", 0))
        blocks = [result["tasks"].get(task) for task in self._tasks]
        file["p"] = [block and round(block["probability"], 4) for block in blocks]
        found = [t for t, block in enumerate(blocks) if block and block["label"]]
        own = {
            t: block["threshold"]
            for t, (task, block) in enumerate(zip(self._tasks, blocks, strict=True))
            if block and block["threshold"] != self._thresholds[task]
        }
        known_values: dict[str, Any] = {
            "l": found,
            "h": own,
            "x": [t for t, block in enumerate(blocks) if block and too_weak(block)],
            "s": {t: round(block["strength"], 2) for t, block in enumerate(blocks) if block and "strength" in block},
            "t": round(length, 3),
            "b": (result.get("file") or {}).get("size"),
            "k": result.get("views"),
            "g": [len(windows), round(looked, 2)] if windows else None,
            "u": printable(", ".join(result.get("unreliable", ()))),
            "r": describe_grain(result).removeprefix("grain "),
            **self._timeline(windows),
            "o": [round(part["start"], 3) if (part := worst_part(result, task)) else None for task in self._tasks],
            "a": self._stretches(result),
            "m": self._map(result) if mapped else None,
            "y": self._pictures(result) if id(result) in self._illustrated else None,
        }
        file |= {key: value for key, value in known_values.items() if value}
        return file | ({"c": result["seconds"]} if "seconds" in result else {})

    def _timeline(self, windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The windows, and if there are too many, runs of them with their highest probabilities."""
        at_once = -(-len(windows) // self._bars) or 1
        runs = [windows[k : k + at_once] for k in range(0, len(windows), at_once)]
        values = [[_percent([each[task] for each in run if task in each]) for run in runs] for task in self._tasks]
        spans = [(run[0]["start"], max(each["end"] for each in run)) for run in runs]
        return {"w": [round(moment, 2) for span in spans for moment in span], "q": values if runs else None}

    def _stretches(self, result: Result) -> list[Any]:
        events = [event for event in result.get("events", ()) if event["task"] in self._tasks]
        kept = sorted(events, key=lambda event: -event["probability"])[: self._events]
        kept.sort(key=lambda event: event["start"])
        position = {task: t for t, task in enumerate(self._tasks)}
        return [
            [position[event["task"]], round(event["start"], 3), round(event["end"], 3), round(event["probability"], 2)]
            for event in kept
        ]

    def _pictures(self, result: Result) -> dict[str, Any]:
        position = {task: t for t, task in enumerate(self._tasks)}
        crops = [crop for crop in result["pictures"]["crops"] if crop["task"] in position]
        shown = [[position[crop["task"]], crop["percent"], *crop["pictures"]] for crop in crops]
        return {"t": result["pictures"]["thumbnail"], "c": shown}

    def _map(self, result: Result) -> dict[str, Any]:
        views = result["map"]
        return {
            "b": [view[key] for view in views for key in ("x", "y", "size")],
            "q": [[_percent([view[task]] if task in view else []) for view in views] for task in self._tasks],
        }


def _worth_showing(results: Sequence[Result]) -> set[int]:
    """Identities of the results whose pictures fit into the page, the worst first."""
    kept, size = set[int](), 0
    for result in in_order([result for result in results if "pictures" in result], "worst"):
        crops = (picture for crop in result["pictures"]["crops"] for picture in crop["pictures"])
        size += len(result["pictures"]["thumbnail"]) + sum(map(len, crops))
        if size > _PICTURES and kept:
            break
        kept.add(id(result))
    return kept


def _percent(values: Sequence[float]) -> int | None:
    return round(100 * max(values)) if values else None


def _usual(values: Sequence[float]) -> float:
    """The most frequent value."""
    return Counter(values).most_common(1)[0][0] if values else 0.5


def _union(windows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that windows in order of their starts cover."""
    total, until = 0.0, 0.0
    for window in windows:
        total += max(0.0, window["end"] - max(until, window["start"]))
        until = max(until, window["end"])
    return total


def _natural(path: str) -> list[tuple[int, str]]:
    """A key that sorts `reel 9` before `reel 10`."""
    return [(len(part.lstrip("0")), part) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.lower())]


def _in_percent(share: float) -> str:
    """`100 %`, `42 %` or `0.31 %`: two digits, and all of a whole number."""
    value = 100 * min(1.0, share)
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
