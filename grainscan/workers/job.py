"""What a worker is asked to do with a file, and what it hands back."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.errors import GrainscanError, VideoError
from grainscan.options import ShortPolicy
from grainscan.views.crops import ViewSpec

log = logging.getLogger(__name__)

SLOTS = 3  # windows a worker may have decoded ahead of the model


@dataclass(frozen=True)
class Job:
    """How every file of a scan is read."""

    view: ViewSpec = field(default_factory=ViewSpec)
    short: ShortPolicy = "mirror"
    max_pixels: int | None = None
    threads: int = 1  # of the decoder
    timeout: float = 60.0  # seconds for a file; 0: no limit
    baseline: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "view": self.view.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        return cls(**{**values, "view": ViewSpec.from_dict(values["view"])})


@dataclass(frozen=True, eq=False)
class Piece:
    """The views of one window: float32 (n, frames, 3, size, size) and the corners (x, y) of their crops."""

    views: NDArray[np.float32]
    start: float  # seconds
    end: float
    boxes: list[tuple[int, int]]
    baseline: dict[str, float] = field(default_factory=dict)
    key: int = 0  # the file
    slot: tuple[int, int] | None = None  # worker and slot whose memory `views` is


@dataclass(frozen=True)
class Ended:
    """Nothing more comes from a file. `info` is the `video` object of a result, where the file could be opened."""

    key: int
    info: dict[str, Any] | None = None
    error: GrainscanError | None = None


def read_pieces(path: str, job: Job, *, timeout: float = 0.0) -> Iterator[dict[str, Any] | Piece]:
    """The views of a file window by window, then its `video` object with the reasons for doubt as `unreliable`.

    `timeout` is for callers that cannot be ended from outside. Raises VideoError.
    """
    from grainscan.video import Doubts, Reader, read_windows
    from grainscan.views.crops import views_of

    _refuse_devices(path)
    if job.baseline:
        from grainscan.views.estimators import measure
    with Reader(path, threads=job.threads, max_pixels=job.max_pixels, timeout=timeout) as reader:
        doubts = Doubts(reader.info.codec, reader.info.pix_fmt, size=job.view.size)
        for window in read_windows(reader, windows=job.view.windows, frames=job.view.frames, short=job.short):
            doubts.look(window, interlaced=reader.interlaced)
            views, boxes = views_of(window, job.view)
            corners = [(int(x), int(y)) for x, y in boxes]
            values = measure(window) if job.baseline else {}
            yield Piece(views, window.start, window.end, corners, values)
        yield {**reader.info.as_dict(), "unreliable": doubts.reasons()}


def _refuse_devices(path: str) -> None:
    """Pipes and devices would be waited for without end."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return  # the reader names the fault
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise VideoError(f"{path}: is not a regular file", hint="Write the stream to a file first.")


def describe(error: GrainscanError) -> dict[str, str]:
    """The `error` object of a result."""
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def unexpected(path: str, error: BaseException) -> VideoError:
    """The error row of an exception that nobody foresaw."""
    if isinstance(error, MemoryError):
        return VideoError(
            f"{path}: decoding needs more memory than a worker may use",
            hint="Use fewer --workers, or lower --max-pixels to refuse such files early.",
        )
    log.debug("%s", path, exc_info=error)
    return VideoError(
        f"{path}: cannot be judged: {type(error).__name__}: {error}",
        hint="Please report this file; -vv shows where it happened.",
    )
