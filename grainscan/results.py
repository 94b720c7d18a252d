"""What comes out of a command: the row of one file, and the report of a whole command.

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
    """What a model says about one task. `strength` is absent for tasks without one."""

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
    """The row of one file. Rows with the status `error` have `schema`, `path`, `status` and `error` alone.

    `unreliable` lists short reasons why a verdict deserves little trust ("too small", "interlaced"); it is absent from
    every other row. The label and the probability of such a row are the model's own.
    """

    schema: int
    path: str
    status: Literal["ok", "error"]
    error: Failure
    tasks: dict[str, Verdict]
    unreliable: list[str]
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
    """Base of what the commands return. A field whose default is None is left out of `to_dict` while it is None."""

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
