"""The frame around the command line: how it ends when it is told to, and what holds whatever it was doing.

Ctrl-C, SIGTERM and SIGHUP end a command in the same way: as KeyboardInterrupt, so that temporary files and child
processes go, with exit code 130. The handlers are in place before anything heavy is imported. What the system refuses
(a full disk, a closed standard output, a limit on file sizes) is an error message, not a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

INTERRUPTED = 130
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_PATIENCE = 3.0  # seconds in which further signals are taken for the same wish: cleaning up must not be interrupted

said = False  # whether the user has been told of the interruption; the command line knows better words than we do
_first: float | None = None  # when the first signal came


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Run the command line. Nothing but SystemExit comes out, and the exit code is true."""
    try:
        try:
            _repair_streams()
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    signal.signal(number, _stop)
            _check_folder()
            yield
        except SystemExit as end:
            if _first is not None and end.code:
                raise KeyboardInterrupt from None  # whatever it was taken for on its way
            _end(end.code)
        except OSError as error:
            if "-vv" in sys.argv:
                raise
            _explain(error)
            _end(1)
        _end(0)
    except BaseException as error:
        # Native code turns a KeyboardInterrupt into errors of its own, such as ImportError.
        if isinstance(error, SystemExit) or (_first is None and not isinstance(error, KeyboardInterrupt)):
            raise
        if not said:
            _say("interrupted")
        _end(INTERRUPTED)


def _stop(number: int, frame: Any) -> None:
    global _first
    now = time.monotonic()
    if _first is None or now - _first > _PATIENCE:
        _first = now
        raise KeyboardInterrupt


def _end(code: Any) -> NoReturn:
    """Leave. The outcome is decided: signals that still come change nothing."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            if not code and isinstance(error, OSError):
                _explain(error)
            code = code or 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # else the interpreter complains at its end
    sys.exit(code)


def _check_folder() -> None:
    """Libraries fail in strange ways in a folder that is gone."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        _say("error: the current folder no longer exists\nhint: Change to another folder.")
        sys.exit(1)


def _explain(error: OSError) -> None:
    if error.errno == errno.EPIPE:
        return  # the reader of our output has gone: nothing is left to say
    place = f"{error.filename}: " if isinstance(error.filename, str) else ""
    _say(f"error: {place}{error.strerror or error}")
    _say("hint: The system refuses it: check space, limits and permissions. -vv shows where it happened.")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "replace") + b"\n")  # whatever has become of sys.stderr


def _repair_streams() -> None:
    """Give closed standard streams a place, so that no file of ours becomes standard output by accident.

    Writing to a standard output that was closed is still an error: what was asked for cannot be delivered.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        if getattr(sys, name) is None:
            stream = io.FileIO(number, mode, closefd=False)
            buffer = io.BufferedReader(stream) if mode == "r" else io.BufferedWriter(stream)
            setattr(sys, name, io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace"))
