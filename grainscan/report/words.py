"""Results in words, and text that is safe to show.

File names are hostile: they may contain markup, formulas, control characters or bytes that are not text. They pass
through `printable` before a person reads them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from grainscan.grain.levels import falls_short
from grainscan.results import Event, Result, timecode
from grainscan.tasks import task_of

_JOINERS = "\u200c\u200d"  # invisible, but they hold emoji and scripts together


def printable(text: str) -> str:
    r"""Escape what a terminal, a page or a spreadsheet cannot show: bytes that are not text (as \xff), control
    characters, line breaks and changes of writing direction."""
    if text.isprintable():
        return text
    with suppress(UnicodeEncodeError):  # a lone surrogate may also come from a JSON file
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() or char in _JOINERS else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def verdict(task: str, label: int) -> str:
    """`grainy` or `clean`, `banding` or `no banding`."""
    return task_of(task).word(label)


def unit_of(task: str, units: Mapping[str, str]) -> str:
    """The unit of a task's strength: that of the model, if known, else that of the task's record."""
    return units.get(task) or task_of(task).unit or "the units of the training data"


def clock(seconds: float) -> str:
    """`1:23.2` for 83.25 seconds, `1:00:00` for an hour."""
    tenths = round(seconds * 10)
    if tenths >= 36000:
        minutes, rest = divmod(tenths // 10, 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def moment(seconds: float, result: Result) -> str:
    """`00:01:23:06`, a timecode, or `1:23.2` for a file without a usual frame rate."""
    return timecode(seconds, (result.get("video") or {}).get("fps")) or clock(seconds)


def times(events: Sequence[Event], shown: int = 3) -> str:
    """`0:12.4–0:12.9, 1:40.0 and 9 more`: when events are."""
    spans = []
    for event in events[:shown]:
        start, end = clock(event["start"]), clock(event["end"])
        spans.append(start if start == end else f"{start}–{end}")
    return ", ".join(spans) + (f" and {len(events) - shown:,} more" if len(events) > shown else "")


def describe_video(result: Result) -> str:
    """`1920×1080 h264 24 fps`, as far as known."""
    video = result.get("video") or {}
    size = f"{video['width']}×{video['height']}" if video.get("width") else ""
    fps = f"{video['fps']:g} fps" if video.get("fps") else ""
    return " ".join(printable(part) for part in (size, video.get("codec") or "", fps) if part)


def describe_grain(result: Result) -> str:
    """`grain 4.1 codes (3.8–4.5), 1.6×1.5 px, Cb 1.2, Cr 1.3, SVT-AV1 --film-grain 41`;
    empty where it was not measured.

    Where the interval spans more than a factor of two, `uncertain` stands in place of a level for encoders: moving
    texture was probably measured, too. Where no level adds as much grain as there is, that is said.
    """
    grain = result.get("grain") or {}
    parts = []
    if "strength" in grain:
        low, high = grain["interval"]
        parts.append(f"grain {grain['strength']:.1f} codes ({low:.1f}–{high:.1f})")
        parts.append(f"{grain['size']['horizontal']:.1f}×{grain['size']['vertical']:.1f} px")
        parts += [f"{name.capitalize()} {value:.1f}" for name, value in grain.get("chroma", {}).items()]
        parts += ["static pattern"] if grain["pattern"] == "static" else []
        level = f"SVT-AV1 --film-grain {grain['film_grain_level']}"
        if falls_short(grain["strength"], grain["size"]["horizontal"], grain["size"]["vertical"]):
            level += " (too little; a --grain-table keeps it)"
        parts.append("uncertain" if high > 2 * low else level)
    if "metadata" in grain:
        strength = grain["metadata"]["strength"]
        parts.append(f"the stream adds grain: {strength['with']:.1f} codes with it, {strength['without']:.1f} without")
    return ", ".join(parts)


def explain(path: str, message: str) -> str:
    """The message of an error without the path, which is shown beside it."""
    return printable(message.removeprefix(f"{path}: "))
