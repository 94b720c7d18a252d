"""How every command ends: on signals, on errors of the system, and with closed standard streams.

Ctrl-C, SIGTERM and SIGHUP all raise KeyboardInterrupt, so that temporary files and child processes are removed, and
exit with code 130. The handlers are installed before anything heavy is imported. Errors of the system (a full disk, a
closed standard output, a limit on file sizes) become error messages instead of tracebacks.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn

INTERRUPTED = 130
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_PATIENCE = 3.0  # seconds for which further signals are ignored, so that cleaning up is not interrupted
_AGAIN = 0.05  # seconds

said = False  # whether the command line has reported the interruption, in more detail than is known here
_first: float | None = None  # when the first signal came


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Run the command line in the block, and always leave by SystemExit with the right exit code."""
    try:
        try:
            _repair_streams()
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    signal.signal(number, _stop)
            sys.unraisablehook, sys.excepthook = _come_again, _report
            _check_folder()
            yield
        except SystemExit as end:
            if _first is not None and end.code:
                raise KeyboardInterrupt from None  # something on the way turned it into another error
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


def _come_again(lost: sys.UnraisableHookArgs) -> None:
    """Send a signal again, a moment later, that came where Python can raise nothing, as beside a fork."""
    global _first
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    import _thread
    import threading

    _first = None
    again: Callable[[], Any]
    if hasattr(signal, "pthread_kill"):  # which also ends what the main thread waits for
        number = next(each for each in _SIGNALS if signal.getsignal(each) is _stop)
        again = functools.partial(signal.pthread_kill, threading.main_thread().ident or 0, number)
    else:
        again = _thread.interrupt_main
    threading.Timer(_AGAIN, again).start()


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nobody caught, but not those of threads whose processes a signal has ended."""
    if _first is None or "-vv" in sys.argv:
        sys.__excepthook__(kind, error, trace)


def _end(code: Any) -> NoReturn:
    """Exit; signals no longer change the outcome."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            if not code and isinstance(error, OSError):
                _explain(error)
            code = code or 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # or the interpreter complains on exit
    gc.freeze()  # it would search everything for garbage before it ends, which takes a twentieth of a second
    sys.exit(code)


def _check_folder() -> None:
    """Refuse to run in a deleted folder, where libraries fail in strange ways."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        _say("error: the current folder no longer exists\nhint: Change to another folder.")
        sys.exit(1)


def _explain(error: OSError) -> None:
    if error.errno == errno.EPIPE:
        return  # the reader of our output is gone
    denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    cause = "Check permissions" if denied else "Check disk space, limits and permissions"
    place = f"{error.filename}: " if isinstance(error.filename, str) else ""
    _say(f"error: {place}{error.strerror or error}")
    _say(f"hint: {cause}. -vv shows where it happened.")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "replace") + b"\n")  # works even if sys.stderr is closed


def _repair_streams() -> None:
    """Occupy the numbers of closed standard streams, so that no file opened later becomes standard output.

    Writing to a closed standard output remains an error: the results cannot be delivered.
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
