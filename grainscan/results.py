"""What commands return: a row per file, and a report.

A row is a dictionary with the keys of `Result`, ready for JSON. A `Report` is a frozen dataclass; `to_dict` returns it
as plain JSON values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

SCHEMA = 1  # of results and reports
TIMECODE = "timecode"  # key of windows and events


class Verdict(TypedDict, total=False):
    """The verdict of a model for one task. `strength` is absent for tasks without one."""

    label: Literal[0, 1]
    probability: float
    threshold: float
    strength: float
    min_strength: float  # from which on the artifact counts as found, if that was asked for; absent otherwise
    prevalence: float  # the share of files with the artifact that the probability assumes; absent if unknown
    experimental: bool  # the model is not yet good at this task; absent otherwise


class Event(TypedDict, total=False):
    """A stretch of a file in which an artifact lasts: seconds of presentation time, and the
    highest probability in it."""

    task: str
    start: float
    end: float
    probability: float
    timecode: str  # of the start; absent if the frame rate is unknown or no usual one


class Failure(TypedDict):
    """Why a file could not be judged, and what to do next."""

    type: str
    message: str
    hint: str


class Result(TypedDict, total=False):
    """The row of one file. Rows with the status `error` have only `schema`, `path`, `status` and `error`.

    `unreliable` lists short reasons not to trust a verdict ("too small", "interlaced"); it is absent otherwise. Label
    and probability are still the model's own.
    """

    schema: int
    path: str
    status: Literal["ok", "error"]
    error: Failure
    tasks: dict[str, Verdict]
    unreliable: list[str]
    windows: list[dict[str, Any]]  # start and end in seconds, timecode of the start, and a probability per task
    events: list[Event]  # with `every` only, in order of start: where an artifact lasts
    map: list[dict[str, float]]  # per view: window, x, y and size in pixels, and a probability per task
    grain: dict[str, Any]  # its character, see `grainscan.grain.describe`
    baseline: dict[str, float]  # classical noise estimators, 8-bit luma codes
    video: dict[str, Any]
    model: str
    views: int
    seconds: float
    file: dict[str, Any]  # size in bytes and modification time when judged
    pictures: dict[str, Any]  # for a page only: see `grainscan.scan.pictures`
    settings: str  # in a log only: identifies the model and the options


def too_weak(verdict: Verdict) -> bool:
    """Whether the strength is below the least that counts. The label is then 0, whatever the probability."""
    return "min_strength" in verdict and verdict["strength"] < verdict["min_strength"]


def is_usual(fps: float) -> bool:
    """Whether a frame rate is within 0.1 % of a whole number up to 120, such as 24, or of one divided by 1.001."""
    whole = round(fps) if 0 < fps < 121 else 0
    return 1 <= whole <= 120 and any(abs(fps - rate) <= 1e-3 * rate for rate in (whole, whole / 1.001))


def timecode(seconds: float, fps: float | None) -> str:
    """`00:01:23:06` for 83.25 seconds at 24 fps: hours, minutes, seconds and frames from the first frame of the file.

    Frames are counted without drops, as SMPTE ST 12-1 calls it: at 29.97 fps, frame 30 is `00:00:01:00`. Empty if the
    frame rate is unknown or no usual one: an average, such as 6.509 fps, says neither when a frame is shown nor how
    many make a second.
    """
    if not fps or not is_usual(fps):
        return ""
    rate = round(fps)
    whole, frames = divmod(round(seconds * fps), rate)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frames:02d}"


def fault_of(row: Any) -> str:
    """Why a value is not a row that readers can rely on; empty if it is."""
    if not isinstance(row, dict):
        return "it is not an object"
    if not isinstance(row.get("path"), str):
        return "it has no path"
    if row.get("status") == "error":
        error = row.get("error")
        keys = ("type", "message", "hint")
        whole = isinstance(error, dict) and all(isinstance(error.get(key), str) for key in keys)
        return "" if whole else "its error is incomplete"
    if row.get("status") != "ok":
        return "its status is neither ok nor error"
    tasks, words = row.get("tasks"), row.get("unreliable", [])
    if not isinstance(tasks, dict) or not all(map(_is_verdict, tasks.values())):
        return "its verdicts cannot be read"
    for key, needed in (("windows", {"start", "end"}), ("map", {"window", "x", "y", "size"})):
        parts = row.get(key, [])
        if not isinstance(parts, list) or not all(_has_numbers(part, needed) for part in parts):
            return f"its {key} cannot be read"
    events = row.get("events", [])
    if not isinstance(events, list) or not all(map(_is_event, events)):
        return "its events cannot be read"
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return "its key unreliable is not a list of texts"
    if not all(isinstance(row.get(key, {}), dict | None) for key in ("file", "video", "grain")):
        return "its file, video or grain is not an object"
    if not all(_is_number(row.get(key, 0)) for key in ("views", "seconds")):
        return "its views or seconds are not numbers"
    return "" if isinstance(row.get("model"), str) else "it names no model"


def _is_verdict(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("label") not in (0, 1) or not _is_number(value.get("probability")):
        return False
    if "min_strength" in value and "strength" not in value:
        return False
    if not (_is_number(share := value.get("prevalence", 0.5)) and 0 < share < 1):
        return False
    return all(_is_number(value.get(key, 0)) for key in ("threshold", "strength", "min_strength"))


def _has_numbers(value: Any, needed: Set[str]) -> bool:
    if not isinstance(value, dict) or not needed <= value.keys() or not isinstance(value.get(TIMECODE, ""), str):
        return False
    return all(_is_number(item) for key, item in value.items() if key != TIMECODE)


def _is_event(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("task"), str):
        return False
    return _has_numbers({key: item for key, item in value.items() if key != "task"}, {"start", "end", "probability"})


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))  # a bool is no number


@dataclass(frozen=True)
class Report:
    """Base of what the commands return. `to_dict` leaves out fields that are None by default and in fact."""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            each.name: _plain(value)
            for each in fields(self)
            if (value := getattr(self, each.name)) is not None or each.default is not None
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Report):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
