"""The parent's handle on the process that forks workers."""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import socket
import subprocess
import time
from typing import Any

from grainscan.errors import GrainscanError
from grainscan.workers.launch import GRACE, launch, take_over

log = logging.getLogger(__name__)


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
        if self.process is None:
            return
        if self.control is not None:
            with contextlib.suppress(OSError):
                self.control.shutdown(socket.SHUT_WR)
                # Its last words, and its end, which `Popen.wait` would notice later.
                while self.control.recv(1 << 16):
                    pass
        self._hang_up()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> None:
        self._hang_up()
        modules = tuple(dict.fromkeys((self._settings["function"].partition(":")[0], *self._settings["preload"])))
        quiet = not log.isEnabledFor(logging.DEBUG)
        started = (take_over(modules) if quiet else None) or launch(modules, quiet=quiet)
        self.control, self.process = started.control, started.process
        self._selector.register(self.control, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # it has just died, which will be noticed
            self.control.sendall(json.dumps({"settings": self._settings}).encode() + b"\n")

    def _hang_up(self) -> None:
        if self.control is not None:
            self._selector.unregister(self.control)
            self.control.close()
            self.control, self._received = None, b""
