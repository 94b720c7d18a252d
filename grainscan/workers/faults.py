"""Errors for files that could not be processed, and how errors travel between processes."""

from __future__ import annotations

import logging
import signal
from typing import Any

from grainscan import errors
from grainscan.errors import GrainscanError, VideoError
from grainscan.results import Failure

log = logging.getLogger(__name__)


def describe(error: GrainscanError) -> Failure:
    """An error as JSON: the `error` object of a result."""
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def rebuilt(record: Any) -> GrainscanError:
    """The error that `describe` turned into JSON. Raises LookupError or TypeError for anything else."""
    kind = getattr(errors, str(record["type"]), VideoError)
    if not (isinstance(kind, type) and issubclass(kind, GrainscanError)):
        kind = VideoError
    return kind(str(record["message"]), hint=str(record["hint"]))


def unexpected(name: str, error: BaseException, memory: float) -> VideoError:
    """The error for an unforeseen exception; `memory` is the limit in bytes."""
    if isinstance(error, MemoryError):
        return VideoError(
            f"{name}: needs more memory than a worker may use ({memory / 1e9:g} GB)",
            hint="Raise --memory if you trust the file and the machine has that much for each worker.",
        )
    log.debug("%s", name, exc_info=error)
    return VideoError(
        f"{name}: cannot be judged: {type(error).__name__}: {error}",
        hint="Please report this file; -vv shows where it happened.",
    )


def lost(name: str, code: int | None) -> VideoError:
    """The error for a worker that died; `code` is its exit code, minus the number of a signal, or None if unknown."""
    if code == -signal.SIGKILL:
        return VideoError(
            f"{name}: its decoder was killed, probably because memory ran out",
            hint="Use fewer --workers, or leave the file out.",
        )
    if code is None:
        return VideoError(f"{name}: its decoder was lost", hint="Try it again; other files are not affected.")
    reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return VideoError(
        f"{name}: its decoder crashed ({reason})",
        hint="The file is damaged in a way that FFmpeg does not survive. Other files are not affected.",
    )
