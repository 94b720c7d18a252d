"""Words for what results say, and text that is safe to show.

File names are hostile: they may hold markup, formulas, control characters or bytes that are no text. Whatever a person
reads of them goes through `printable` first.
"""

from __future__ import annotations

import os

from grainscan.results import Result
from grainscan.tasks import task_of

_JOINERS = "\u200c\u200d"  # invisible, but they hold emoji and scripts together


def printable(text: str) -> str:
    r"""Text that a terminal, a page or a spreadsheet can show: bytes that are no text become \xff, control characters,
    line breaks and changes of writing direction their escapes. Printable text stays as it is."""
    if text.isprintable():
        return text
    readable = os.fsencode(text).decode("utf-8", "backslashreplace") if _is_name(text) else text
    return "".join(
        char if char.isprintable() or char in _JOINERS else char.encode("unicode_escape").decode("ascii")
        for char in readable
    )


def _is_name(text: str) -> bool:
    """Whether surrogates in `text` stand for bytes of a file name; a lone one may come from a JSON file as well."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def verdict(task: str, label: int) -> str:
    """`grainy` and `clean`; `banding` and `no banding`."""
    return task_of(task).word(label)


def count(number: int, noun: str) -> str:
    """`1 file`, `1,024 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock(seconds: float) -> str:
    """83.25 as 1:23.2, an hour and more as 1:00:00."""
    tenths = round(seconds * 10)
    if tenths >= 36000:
        minutes, rest = divmod(tenths // 10, 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def describe_video(result: Result) -> str:
    """1920×1080 h264 24 fps, as far as it is known."""
    video = result.get("video") or {}
    size = f"{video['width']}×{video['height']}" if video.get("width") else ""
    fps = f"{video['fps']:g} fps" if video.get("fps") else ""
    return " ".join(printable(part) for part in (size, video.get("codec") or "", fps) if part)


def explain(path: str, message: str) -> str:
    """The message of an error, without the path that is shown beside it."""
    return printable(message.removeprefix(f"{path}: "))
