"""The HTML page of a scan: one file that needs nothing else, neither network nor server.

Everything that is drawn (histogram, timelines, heat maps) is computed here and handed to the template as numbers and
colours; the template only places it. Jinja escapes every value, and the page's own content policy forbids all scripts
but the one that it ships, so markup in a file name can do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.report.words import Result, clock, describe_video, explain, printable, verdict, worst_window

ROWS = 2000  # files on a page; a browser takes no more in good spirits
BINS = 20  # of the histogram
_TEMPLATES = Path(__file__).parent / "templates"
_CLEAN, _DOUBT, _FOUND = (0x5B, 0x93, 0x8F), (0xE3, 0xB3, 0x41), (0xCF, 0x44, 0x1F)  # the colours of probability
_TIMELINE = (240, 30)  # units of its drawing: width, height
_NARROWEST = 5.0  # units: a window of a third of a second in a film of two hours can still be seen
_MAP_COLUMNS = 32  # pixels of a heat map across the picture
_REACH = 0.09  # of the picture's width: distance at which a crop's say has faded


@dataclass(frozen=True)
class Row:
    """A file as the template wants it."""

    folder: str
    name: str
    state: str  # found, clean or error
    shown: list[dict[str, Any]]  # tasks in the row: those found, else the likeliest
    tasks: list[dict[str, Any]]  # all of them, likeliest first
    probability: float  # the highest, -1 for errors: what the row is sorted by
    strength: float
    worst: float
    video: str
    facts: list[tuple[str, str]]
    error: str
    hint: str


def render(results: Sequence[Result], tasks: Sequence[str], *, title: str = "Grain report") -> Iterator[str]:
    """The parts of the page, in order. With more than ROWS files, errors and the likeliest finds are kept."""
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
    kept = _most_telling(results)
    yield from environment.get_template("report.html.j2").generate(
        title=title,
        version=__version__,
        date=datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        models=[printable(str(name)) for name in dict.fromkeys(r["model"] for r in results if r["status"] == "ok")],
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        totals=_totals(results, tasks),
        histograms=[_histogram(results, task) for task in tasks],
        rows=(_row(result, tasks) for result in kept),
        several=len(tasks) > 1,
        has_strength=any(_strength(r, task) is not None for r in kept for task in tasks),
        shown=len(kept),
        legend=[colour(p / 20, 0.5) for p in range(21)],
        found_word="found" if len(tasks) > 1 else verdict(tasks[0], 1) if tasks else "found",
        clean_word="clean",
    )


def colour(probability: float, threshold: float) -> str:
    """From calm over doubtful at the threshold to found, as #rrggbb."""
    if probability < threshold:
        low, high, part = _CLEAN, _DOUBT, (probability / threshold) ** 2
    else:
        low, high, part = _DOUBT, _FOUND, ((probability - threshold) / (1 - threshold)) ** 0.5 if threshold < 1 else 1
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))


def timeline(result: Result, task: str) -> dict[str, Any] | None:
    """Bars of the windows along the file: place by time, height and colour by probability."""
    windows = [window for window in result.get("windows", ()) if task in window]
    if not windows:
        return None
    width, height = _TIMELINE
    threshold = result["tasks"][task]["threshold"]
    length = max((result.get("video") or {}).get("duration") or 0.0, max(w["end"] for w in windows), 1e-3)
    bars = []
    for window in windows:
        span = max(_NARROWEST, (window["end"] - window["start"]) / length * width)
        tall = max(1.5, window[task] * height)
        bars.append(
            {
                "x": round(min(window["start"] / length * width, width - span), 2),
                "y": round(height - tall, 2),
                "width": round(span, 2),
                "height": round(tall, 2),
                "colour": colour(window[task], threshold),
                "title": f"{clock(window['start'])}–{clock(window['end'])}: {window[task]:.2f}",
            }
        )
    return {
        "width": width,
        "height": height,
        "bars": bars,
        "threshold": round(height * (1 - threshold), 2),
        "length": clock(length),
    }


def heat_map(result: Result, task: str) -> dict[str, Any] | None:
    """Where in the picture the task was seen: the views' probabilities spread over cells, and the views themselves."""
    views = [view for view in result.get("map", ()) if task in view]
    video = result.get("video") or {}
    if not views or not video.get("width") or not video.get("height"):
        return None
    width, height = int(video["width"]), int(video["height"])
    threshold = result["tasks"][task]["threshold"]
    places: dict[tuple[int, int, int], list[float]] = {}
    for view in views:
        places.setdefault((view["x"], view["y"], view["size"]), []).append(view[task])
    means = {place: float(np.mean(said)) for place, said in places.items()}
    boxes = [
        {"x": x, "y": y, "size": size, "colour": colour(mean, threshold), "title": f"{mean:.2f}"}
        for (x, y, size), mean in means.items()
    ]
    spread = _spread(means, width, height, rows=max(1, round(_MAP_COLUMNS * height / width)))
    pixels = [[bytes.fromhex(colour(float(p), threshold)[1:]) for p in line] for line in spread]
    return {"width": width, "height": height, "picture": _png(pixels), "boxes": boxes}


def _png(pixels: Sequence[Sequence[bytes]]) -> str:
    """A tiny RGB picture as a data URI (PNG, ISO/IEC 15948): the browser smooths it when it enlarges it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 2, 0, 0, 0)
    lines = b"".join(b"\0" + b"".join(line) for line in pixels)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _spread(means: Mapping[tuple[int, int, int], float], width: int, height: int, *, rows: int) -> NDArray[np.float64]:
    """Probability (rows, columns) of each cell: the mean of the views, weighted by nearness (inverse distance)."""
    centres = np.array([[x + size / 2, y + size / 2] for x, y, size in means], dtype=np.float64)
    said = np.array(list(means.values()))
    x = (np.arange(_MAP_COLUMNS) + 0.5) * width / _MAP_COLUMNS
    y = (np.arange(rows) + 0.5) * height / rows
    distance = (x[None, :, None] - centres[:, 0]) ** 2 + (y[:, None, None] - centres[:, 1]) ** 2
    weight = 1 / (distance + (_REACH * width / 3) ** 2) ** 2
    return np.asarray((weight * said).sum(axis=2) / weight.sum(axis=2))


def _histogram(results: Sequence[Result], task: str) -> dict[str, Any]:
    """Files by probability. Heights are roots of counts, so that a single find beside thousands shows."""
    blocks = [r["tasks"][task] for r in results if r["status"] == "ok" and task in r["tasks"]]
    values = [block["probability"] for block in blocks]
    threshold = blocks[0]["threshold"] if blocks else 0.5
    counts = np.bincount([min(int(value * BINS), BINS - 1) for value in values], minlength=BINS)
    tallest = max(1.0, float(np.sqrt(counts.max()))) if values else 1.0
    bars = [
        {
            "x": index,
            "height": round(float(np.sqrt(count)) / tallest, 4),
            "colour": colour((index + 0.5) / BINS, threshold),
            "title": f"{count} with {index / BINS:.2f}–{(index + 1) / BINS:.2f}",
        }
        for index, count in enumerate(counts)
        if count
    ]
    found = sum(block["label"] for block in blocks)
    return {
        "task": task.replace("_", " "),
        "bars": bars,
        "bins": BINS,
        "threshold": threshold,
        "found": found,
        "word": verdict(task, 1),
        "part": found / len(blocks) if blocks else 0.0,
    }


def _totals(results: Sequence[Result], tasks: Sequence[str]) -> dict[str, Any]:
    states = [_state(result) for result in results]
    strengths = [s for r in results for task in tasks if _found(r, task) and (s := _strength(r, task)) is not None]
    return {
        "files": len(results),
        "found": states.count("found"),
        "clean": states.count("clean"),
        "errors": states.count("error"),
        "length": clock(sum((r.get("video") or {}).get("duration") or 0.0 for r in results)),
        "strength": float(np.median(strengths)) if strengths else None,
    }


def _state(result: Result) -> str:
    if result["status"] != "ok":
        return "error"
    return "found" if any(block["label"] for block in result["tasks"].values()) else "clean"


def _found(result: Result, task: str) -> bool:
    return bool(result.get("tasks", {}).get(task, {}).get("label"))


def _strength(result: Result, task: str) -> float | None:
    value: float | None = result.get("tasks", {}).get(task, {}).get("strength")
    return value


def _likeliest(result: Result) -> float:
    return max((block["probability"] for block in result.get("tasks", {}).values()), default=-1.0)


def _most_telling(results: Sequence[Result]) -> list[Result]:
    """At most ROWS results in their order: errors first to stay, then by probability."""
    if len(results) <= ROWS:
        return list(results)
    ranked = sorted(range(len(results)), key=lambda k: (results[k]["status"] == "ok", -_likeliest(results[k])))
    return [results[k] for k in sorted(ranked[:ROWS])]


def _row(result: Result, tasks: Sequence[str]) -> Row:
    path = result["path"]
    error = result.get("error") or {}
    judged = result.get("tasks", {})
    ranked = sorted((task for task in tasks if task in judged), key=lambda task: -judged[task]["probability"])
    blocks = [_task(result, task) for task in ranked]
    if len(tasks) > 1 and blocks and not any(block["label"] for block in blocks):
        blocks[0]["verdict"] = "clean"
    shown = [block for block in blocks if block["label"]] or blocks[:1]
    for block in shown:
        block["map"] = heat_map(result, block["task"])
    worst = worst_window(result, ranked[0]) if ranked else None
    place, _, name = path.rpartition("/")
    return Row(
        folder=printable(place + "/") if place else "",
        name=printable(name) or printable(str(PurePosixPath(path))),
        state=_state(result),
        shown=shown,
        tasks=blocks,
        probability=_likeliest(result),
        strength=max((block["strength"] or 0.0 for block in shown), default=-1.0),
        worst=worst["start"] if worst else -1.0,
        video=describe_video(result),
        facts=_facts(result),
        error=explain(result) if error else "",
        hint=printable(str(error.get("hint") or "")),
    )


def _task(result: Result, task: str) -> dict[str, Any]:
    block = result["tasks"][task]
    window = worst_window(result, task)
    return {
        "task": task,
        "name": task.replace("_", " "),
        "label": block["label"],
        "verdict": verdict(task, block["label"]),
        "probability": block["probability"],
        "threshold": block["threshold"],
        "strength": block.get("strength"),
        "colour": colour(block["probability"], block["threshold"]),
        "worst": clock(window["start"]) if window else "",
        "timeline": timeline(result, task),
    }


def _facts(result: Result) -> list[tuple[str, str]]:
    """What the details of a file list, as far as it is known."""
    video = result.get("video") or {}
    size = (result.get("file") or {}).get("size")
    facts = [
        ("path", result["path"]),
        ("picture", f"{video['width']} × {video['height']}" if video.get("width") else ""),
        ("codec", " ".join(str(part) for part in (video.get("codec"), video.get("pix_fmt")) if part)),
        ("frame rate", f"{video['fps']:g} fps" if video.get("fps") else ""),
        ("length", clock(video["duration"]) if video.get("duration") else ""),
        ("size", f"{size / 1e6:,.1f} MB" if size else ""),
        ("views", f"{result['views']} in {len(result.get('windows', ()))} windows" if "views" in result else ""),
        ("took", f"{result['seconds']:.2f} s" if "seconds" in result else ""),
    ]
    return [(key, printable(text)) for key, text in facts if text]
