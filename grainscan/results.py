"""What comes out of a command: the row of a file, and the report of a whole command.

A row is a plain dictionary, ready for JSON, with the keys of `Result`. Every command returns a `Report`: a frozen
dataclass for Python whose `to_dict` gives the same as plain JSON values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

SCHEMA = 1  # of results and reports


class Verdict(TypedDict, total=False):
    """What a model says of one task. `strength` is absent for tasks without one."""

    label: Literal[0, 1]
    probability: float
    threshold: float
    strength: float


class Failure(TypedDict):
    """Why a file could not be judged, and what to do next."""

    type: str
    message: str
    hint: str


class Result(TypedDict, total=False):
    """The row of one file. Rows with the status `error` have `schema`, `path`, `status` and `error` alone."""

    schema: int
    path: str
    status: Literal["ok", "error"]
    error: Failure
    tasks: dict[str, Verdict]
    windows: list[dict[str, float]]  # start and end in seconds, and a probability for each task
    map: list[dict[str, float]]  # of each view: window, x, y, size in pixels, and a probability for each task
    baseline: dict[str, float]  # classical noise estimators, 8-bit luma codes
    video: dict[str, Any]
    model: str
    views: int
    seconds: float
    file: dict[str, Any]  # size in bytes and time of change of what was judged
    settings: str  # in a log: names the model and the options


@dataclass(frozen=True)
class Report:
    """Base of what the commands return."""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Report):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
