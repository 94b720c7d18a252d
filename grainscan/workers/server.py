"""The parent's handle on the process that forks workers."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grainscan.errors import GrainscanError
from grainscan.workers.limits import isolated

log = logging.getLogger(__name__)

GRACE = 5.0  # seconds that the parent waits for what should be immediate
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from grainscan.workers.process import serve; serve(int(sys.argv[1]), json.loads(sys.argv[3]))"
)
# A library that starts threads at import would make forking unsafe.
_ENVIRONMENT = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, eq=False)
class _Started:
    """A process that imports `modules`, and then waits for its settings."""

    modules: tuple[str, ...]
    control: socket.socket
    process: subprocess.Popen[bytes]


_prepared: list[_Started] = []  # until a server takes it over


def prepare(modules: Sequence[str]) -> None:
    """Start a server before it is needed: it imports its modules while this process is still occupied with its own.

    The first pool of the same modules takes it over. If there is none, it is ended with this process. Nothing happens
    where processes cannot be isolated or started, or where the messages of the server are wanted.
    """
    if not isolated or _prepared or log.isEnabledFor(logging.DEBUG):
        return
    with contextlib.suppress(OSError):  # whoever needs it will try again, and say what is wrong
        _prepared.append(_launch(tuple(modules)))
        atexit.register(_discard)


def _discard() -> None:
    for started in _prepared:
        started.control.close()
        started.process.kill()
        started.process.wait()
    _prepared.clear()


def _launch(modules: tuple[str, ...]) -> _Started:
    control, theirs = socket.socketpair()
    control.settimeout(GRACE)
    words = [str(theirs.fileno()), json.dumps(sys.path), json.dumps(modules)]
    try:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *words],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
            )
    except BaseException:
        control.close()
        raise
    return _Started(modules, control, process)


class Server:
    """Started with the first worker, and again if it is lost. Its socket is registered with `selector`."""

    def __init__(self, settings: dict[str, Any], selector: selectors.BaseSelector) -> None:
        self.control: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = settings
        self._selector = selector
        self._received = b""
        self._exits: dict[int, int | None] = {}  # by worker; None: still running

    def fork(self, number: int, *handles: int) -> None:
        """Start a worker, which inherits the handles."""
        if self.control is None or self.process is None or self.process.poll() is not None:
            self._start()
        self._exits[number] = None
        assert self.control is not None
        with contextlib.suppress(OSError):  # the server has just died: the worker's own socket ends with it
            socket.send_fds(self.control, [json.dumps({"start": number}).encode() + b"\n"], handles)

    def kill(self, number: int) -> None:
        if self.control is not None:
            with contextlib.suppress(OSError):
                self.control.sendall(json.dumps({"kill": number}).encode() + b"\n")

    def forget(self, number: int) -> None:
        """Drop what is known of a worker."""
        self._exits.pop(number, None)

    def hear(self, patience: float = 0.0) -> None:
        """Note which workers have ended; wait up to `patience` seconds. Raises GrainscanError if the server failed."""
        assert self.control is not None and self.process is not None
        self.control.settimeout(patience)
        try:
            data = self.control.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            return
        except OSError:
            data = b""
        finally:
            self.control.settimeout(GRACE)
        if data:
            *lines, self._received = (self._received + data).split(b"\n")
            for message in map(json.loads, lines):
                if message["ended"] in self._exits:
                    self._exits[message["ended"]] = message["code"]
            return
        # The server has died. If it was killed, another takes its place; if it failed, so will the next.
        self._hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.wait(GRACE) > 0:
                raise GrainscanError(
                    "worker processes cannot start", hint="-vv shows why; --workers 0 works in the main process."
                )

    def exit_code(self, number: int) -> int | None:
        """How a worker ended, reported shortly after its socket closed; None if the server has died."""
        deadline = time.monotonic() + GRACE
        while self._exits[number] is None and self.control is not None and time.monotonic() < deadline:
            self.hear(GRACE)
        return self._exits[number]

    def close(self) -> None:
        """End the server and all workers."""
        self._hang_up()
        if self.process is not None:
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _start(self) -> None:
        self._hang_up()
        modules = tuple(dict.fromkeys((self._settings["function"].partition(":")[0], *self._settings["preload"])))
        fit = next((each for each in _prepared if each.modules == modules and each.process.poll() is None), None)
        if fit is not None and not log.isEnabledFor(logging.DEBUG):
            _prepared.remove(fit)
        else:
            fit = _launch(modules)
        self.control, self.process = fit.control, fit.process
        self._selector.register(self.control, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # it has just died, which will be noticed
            self.control.sendall(json.dumps({"settings": self._settings}).encode() + b"\n")

    def _hang_up(self) -> None:
        if self.control is not None:
            self._selector.unregister(self.control)
            self.control.close()
            self.control, self._received = None, b""
