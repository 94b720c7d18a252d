"""Every error that grainscan raises on purpose.

    GrainscanError                 exit 1   something failed while running
    ├── VideoError                          a file cannot be read as a video
    ├── ModelError                          a model directory cannot be used
    ├── DataError                           a data set cannot be used or written
    ├── OutputError                         a result cannot be written where it was asked for
    ├── DependencyError                     an optional package is missing
    └── UsageError                 exit 2   the request itself is wrong
        ├── ConfigError                     an option, a TOML key or an environment variable
        ├── LabelsError                     labels.json, all its faults at once
        └── ModelNotFoundError              there is no such model; a ModelError, too

Each carries a `message` (what went wrong, with which file) and a `hint` (what to do next). The command line prints
them as `error:` and `hint:`; a traceback shows only with `-vv`. `Interrupted` is a KeyboardInterrupt that says what is
kept of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class GrainscanError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders in the scanner; keyword-only arguments defeat the default pickling.
        return _rebuild, (type(self), self.message, self.__dict__.copy())


def _rebuild(cls: type[GrainscanError], message: str, state: dict[str, object]) -> GrainscanError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class VideoError(GrainscanError):
    """A file cannot be read as a video."""


class ModelError(GrainscanError):
    """A model directory is missing, incomplete or not one of ours."""


class DataError(GrainscanError):
    """A data set cannot be used or written."""


class OutputError(GrainscanError):
    """A result cannot be written where it was asked for."""


class DependencyError(GrainscanError):
    """An optional package is missing; the hint names the extra that brings it."""


def missing_package(error: ModuleNotFoundError) -> DependencyError | None:
    """What to do about a library that is not there, as in an install for judging only; None if it is not a library."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "grainscan"):
        return None
    return DependencyError(
        f"this command needs {name}, which is not installed", hint="`pip install grainscan` brings all that is missing."
    )


class UsageError(GrainscanError):
    """The request itself is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """An option, a key of a TOML file or an environment variable has a wrong name or value."""


class ModelNotFoundError(ModelError, UsageError):
    """There is no model where one was named."""


class LabelsError(UsageError):
    """labels.json breaks its contract. `faults` lists every fault with its JSON path."""

    def __init__(self, message: str, *, faults: Sequence[str] = (), hint: str = "") -> None:
        shown = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(message + shown, hint=hint)
        self.faults = list(faults)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal to stop. `message` says what is kept; `report` is what was done until then, if anything."""

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.report = report
