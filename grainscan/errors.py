"""The errors that grainscan raises on purpose.

    GrainscanError                 exit 1   a run failed
    ├── VideoError                          a file cannot be read as a video
    ├── ModelError                          a model directory cannot be used
    ├── DataError                           a data set cannot be used or written
    ├── OutputError                         a result cannot be written
    ├── DependencyError                     an optional package is missing
    └── UsageError                 exit 2   the request is wrong
        ├── ConfigError                     an option, a TOML key or an environment variable
        ├── LabelsError                     labels.json, with all its faults
        ├── ModelNotFoundError              there is no such model; also a ModelError
        ├── UnfitDataError                  a data set does not suit the request; also a DataError
        └── UnfitOutputError                the place for a result holds something else; also an OutputError

Each has a `message` (what went wrong, with which file) and a `hint` (what to do next), which the command line prints
as `error:` and `hint:`, with a traceback only for `-vv`. `Interrupted` is a KeyboardInterrupt that says what is kept.
"""

from __future__ import annotations

import difflib
import errno
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

_PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn", "tomli_w": "tomli-w"}  # those not named like their modules


class GrainscanError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class VideoError(GrainscanError):
    """A file cannot be read as a video."""


class ModelError(GrainscanError):
    """A model directory is missing, incomplete or not one of ours."""


class DataError(GrainscanError):
    """A data set cannot be used or written."""


class OutputError(GrainscanError):
    """A result cannot be written to its destination."""


class DependencyError(GrainscanError):
    """An optional package is missing; the hint says how to install it."""


def timed_out(name: str, timeout: float) -> VideoError:
    """The error for a file that was not decoded within `timeout` seconds."""
    return VideoError(
        f"{name}: was not decoded within {timeout:g} seconds",
        hint="Raise --timeout if the disk is slow or the frames are very large.",
    )


def missing_package(error: ModuleNotFoundError) -> DependencyError | None:
    """The error for a missing library, as in an install for predict only; None if a module of ours is missing."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "grainscan"):
        return None
    package = _PACKAGES.get(name, name)
    missing = dict.fromkeys([package, *_uninstalled()])  # or the next command would lack the next one
    return DependencyError(f"this command needs {package}, which is not installed", hint=install(*missing))


def require(what: str, *modules: str) -> None:
    """Raise DependencyError now, not after the work, if `what` lacks a module that it imports late."""
    missing = [_PACKAGES.get(name, name) for name in modules if not _is_installed(name)]
    if missing:
        raise DependencyError(
            f"{what} needs what is not installed: {', '.join(missing)}",
            hint=install(*missing),
        )


def install(*packages: str) -> str:
    """The hint for missing packages. It names them, not grainscan, which may come from a checkout or a wheel."""
    return f"Run `pip install {shlex.join(packages)}`."


def _uninstalled() -> Iterator[str]:
    """The packages that grainscan requires, but for its extras, and that are not installed."""
    from importlib import metadata  # takes long to load

    try:
        required = metadata.requires("grainscan") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return
    for line in required:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            if "extra ==" not in line:
                yield name


def _is_installed(module: str) -> bool:
    try:
        return sys.modules[module] is not None if module in sys.modules else find_spec(module) is not None
    except ModuleNotFoundError:  # from a finder that knows better
        return False


def way_on(error: OSError) -> str:
    """The hint for something that the system refused to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some space, or choose another place."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Get permission to write there, or choose another place."
    return "Choose a place that exists and is writable."


def likely(word: str, words: Iterable[str]) -> str:
    """`Did you mean graininess? `, to begin a hint with, if a known word resembles a wrong one or begins like it."""
    known = tuple(words)
    alike = difflib.get_close_matches(word, known, n=1) or [each for each in known if word and each.startswith(word)]
    return f"Did you mean {alike[0]}? " if alike else ""


class UsageError(GrainscanError):
    """The request is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """An option, TOML key or environment variable has a wrong name or value."""


class ModelNotFoundError(ModelError, UsageError):
    """There is no model at the place named."""


class UnfitDataError(DataError, UsageError):
    """A data set does not suit the request: the wrong labels, too few clips, split already. Nothing was touched."""


class UnfitOutputError(OutputError, UsageError):
    """The place for a result holds something else, which was not touched."""


class LabelsError(UsageError):
    """labels.json breaks its contract. `faults` lists every fault with its JSON path."""

    def __init__(self, message: str, *, faults: Sequence[str] = (), hint: str = "") -> None:
        shown = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(message + shown, hint=hint)
        self.faults = list(faults)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a signal to stop. `message` says what is kept; `report` is the report up to then, if any."""

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.report = report
