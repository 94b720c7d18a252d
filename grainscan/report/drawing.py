"""The drawings of the page as numbers, colours and pictures, which the template places."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.console import count
from grainscan.report.findings import verdicts_of
from grainscan.report.words import clock, verdict
from grainscan.results import Result
from grainscan.tasks import task_of

BINS = 20  # of the histogram
_CLEAN, _DOUBT, _FOUND = (0x5B, 0x93, 0x8F), (0xE3, 0xB3, 0x41), (0xCF, 0x44, 0x1F)  # colours of probabilities
_TIMELINE = (240, 30)  # width and height in units of the drawing
_NARROWEST = 5.0  # units: keeps a third of a second visible in two hours
_MAP_COLUMNS = 32  # width of a heat map in pixels
_MAP_ROWS = 96  # maximum height, for pictures much taller than wide
_REACH = 0.09  # distance at which the influence of a crop has faded, as a fraction of the picture's width

Place = tuple[float, float, float]  # x, y and size of a view in the picture, in pixels


def colour(probability: float, threshold: float) -> str:
    """#rrggbb on a scale from clean (0) through doubtful (the threshold) to found (1)."""
    return "#" + bytes(_rgb(probability, threshold)).hex()


def _rgb(probability: float, threshold: float) -> tuple[int, ...]:
    if probability < threshold:
        low, high, part = _CLEAN, _DOUBT, (probability / threshold) ** 2
    else:
        low, high, part = _DOUBT, _FOUND, ((probability - threshold) / (1 - threshold)) ** 0.5 if threshold < 1 else 1
    return tuple(round(a + (b - a) * part) for a, b in zip(low, high, strict=True))


def timeline(result: Result, task: str) -> dict[str, Any] | None:
    """A bar per window: its place is the time, its height and colour the probability. None without windows."""
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
    """The probabilities of the views, interpolated over the picture, and the views themselves. None without a map."""
    views = [view for view in result.get("map", ()) if task in view]
    video = result.get("video") or {}
    if not views or not video.get("width") or not video.get("height"):
        return None
    width, height = int(video["width"]), int(video["height"])
    threshold = result["tasks"][task]["threshold"]
    places: dict[Place, list[float]] = {}
    for view in views:
        places.setdefault((view["x"], view["y"], view["size"]), []).append(view[task])
    means = {place: float(np.mean(values)) for place, values in places.items()}
    boxes = [
        {"x": x, "y": y, "size": size, "colour": colour(mean, threshold), "title": f"{mean:.2f}"}
        for (x, y, size), mean in means.items()
    ]
    rows = min(max(1, round(_MAP_COLUMNS * height / width)), _MAP_ROWS)
    spread = _spread(means, width, height, rows=rows)
    pixels = np.array([[_rgb(float(p), threshold) for p in line] for line in spread], np.uint8)
    return {"width": width, "height": height, "picture": _png(pixels), "boxes": boxes}


def _png(pixels: NDArray[np.uint8]) -> str:
    """A tiny picture (rows, columns, RGB) as a data URI; the browser enlarges and smooths it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _spread(means: Mapping[Place, float], width: int, height: int, *, rows: int) -> NDArray[np.float64]:
    """The probability of each cell, (rows, columns): the mean of the views, weighted by inverse distance."""
    centres = np.array([[x + size / 2, y + size / 2] for x, y, size in means], dtype=np.float64)
    values = np.array(list(means.values()))
    x = (np.arange(_MAP_COLUMNS) + 0.5) * width / _MAP_COLUMNS
    y = (np.arange(rows) + 0.5) * height / rows
    distance = (x[None, :, None] - centres[:, 0]) ** 2 + (y[:, None, None] - centres[:, 1]) ** 2
    weight = 1 / (distance + (_REACH * width / 3) ** 2) ** 2
    return np.asarray((weight * values).sum(axis=2) / weight.sum(axis=2))


def histogram(results: Sequence[Result], task: str) -> dict[str, Any]:
    """Files by probability. Heights are roots of counts, so that one file among thousands is visible."""
    blocks = verdicts_of(results, task)
    threshold = blocks[0]["threshold"] if blocks else 0.5
    bins = [min(int(block["probability"] * BINS), BINS - 1) for block in blocks]
    counts = np.bincount(bins, minlength=BINS) if bins else np.zeros(BINS, np.int64)
    tallest = max(1.0, float(np.sqrt(counts.max())))
    bars = [
        {
            "x": index,
            "height": round(float(np.sqrt(files)) / tallest, 4),
            "colour": colour((index + 0.5) / BINS, threshold),
            "title": f"{count(int(files), 'file')} at {index / BINS:.2f}–{(index + 1) / BINS:.2f}",
        }
        for index, files in enumerate(counts)
        if files
    ]
    return {
        "task": task_of(task).title,
        "bars": bars,
        "bins": BINS,
        "threshold": threshold,
        "found": sum(block["label"] for block in blocks),
        "word": verdict(task, 1),
    }
