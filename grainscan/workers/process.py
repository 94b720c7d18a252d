"""The child's side: the server that forks workers, and the workers."""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import json
import mmap
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from grainscan.errors import GrainscanError
from grainscan.workers.faults import describe, unexpected
from grainscan.workers.limits import limit_for_good, limited_memory, used_memory

_GROWN = 32 << 20  # bytes that a worker may keep after a request; beyond that it is replaced
_FAREWELL = 0.5  # seconds for a worker that is asked to end to remove what it has half written
_ALIVE_EVERY = 1.0  # seconds between signs of life


def load(name: str) -> Callable[..., Any]:
    """The function named "module:function"."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


# ------------------------------------------------------------------------------------------------------- the server


def serve(control: int, modules: Sequence[str]) -> None:
    """Import the modules, then fork workers on demand and report how they end, until the parent closes the socket.

    "module:function" among the modules is called, too: what it remembers, every worker knows. The first message on the
    socket holds the settings of the workers.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group; the parent decides
    for module in modules:
        if ":" in module:
            load(module)()
        else:
            importlib.import_module(module)
    gc.freeze()
    gc.enable()
    ended, child_ended = socket.socketpair()
    ended.setblocking(False)
    child_ended.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(child_ended.fileno(), warn_on_full_buffer=False)
    connection = socket.socket(fileno=control)
    settings: dict[str, Any] = {}
    children: dict[int, int] = {}  # process id -> number
    received, handles = b"", deque[int]()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if ended in ready:
                ended.recv(4096)
                _reap(children, connection)
            if connection not in ready:
                continue
            data, passed, _, _ = socket.recv_fds(connection, 1 << 16, 2)
            if not data:
                break
            handles.extend(passed)
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "settings" in message:
                    settings = message["settings"]
                    function = load(settings["function"])
                elif "start" in message:
                    pair = handles.popleft(), handles.popleft()
                    pid = os.fork()
                    if not pid:
                        connection.close()
                        _work(socket.socket(fileno=pair[0]), pair[1], function, settings)
                    children[pid] = message["start"]
                    for handle in pair:
                        os.close(handle)
                else:
                    _signal_all([pid for pid, number in children.items() if number == message["kill"]], signal.SIGKILL)
    _signal_all(children, signal.SIGTERM)
    deadline = time.monotonic() + _FAREWELL
    while children and time.monotonic() < deadline:
        _reap(children, connection)
        time.sleep(0.001)
    _signal_all(children, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)
    os._exit(0)


def _signal_all(pids: Any, number: int) -> None:
    for pid in pids:  # children that were not waited for: their numbers have not been reused
        os.kill(pid, number)


def _reap(children: dict[int, int], connection: socket.socket) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        message = {"ended": children.pop(pid), "code": os.waitstatus_to_exitcode(status)}
        with contextlib.suppress(OSError):  # the parent has died
            connection.sendall(json.dumps(message).encode() + b"\n")


# -------------------------------------------------------------------------------------------------------- a worker


def _work(connection: socket.socket, memory: int, function: Callable[[Any], Any], settings: dict[str, Any]) -> None:
    """Handle one request after another until the parent closes the socket. Never returns."""
    global _this
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _leave)
        limit_for_good(settings["memory"])
        _this = _Worker(connection, mmap.mmap(memory, 0), function, settings)
        _this.run()
        code = 0
    except (BrokenPipeError, ConnectionResetError):
        code = 0  # the parent has died
    finally:
        os._exit(code)


def _leave(*_: Any) -> None:
    raise SystemExit  # so that temporary files are removed on the way


class _Worker:
    """The worker's side of a socket."""

    def __init__(
        self, connection: socket.socket, memory: mmap.mmap, function: Callable[[Any], Any], settings: dict[str, Any]
    ) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._memory = memory
        self._function = function
        self._stride: int = settings["stride"]
        self._timeout: float = settings["timeout"]
        self._limit: float = settings["memory"]
        self._free = list(range(settings["slots"]))
        self._alive_at = 0.0  # when a sign of life was last sent

    def run(self) -> None:
        """Work until the parent closes the socket or this process has grown."""
        fresh = used_memory() or 0
        for line in self._lines:
            message = json.loads(line)
            if "free" in message:
                self._free.append(message["free"])
                continue
            self._set_alarm(self._timeout)
            error = self._do(message)
            self._set_alarm(0)
            # Memory that the allocator keeps would be missing for the next file, or give it more room than others.
            grown = (used_memory() or 0) - fresh > _GROWN
            self._say({"error": error, "leaving": grown})
            if grown:
                return

    def alive(self) -> None:
        self._set_alarm(self._timeout)
        if time.monotonic() - self._alive_at > _ALIVE_EVERY:
            self._alive_at = time.monotonic()
            self._say({"alive": True})

    def _set_alarm(self, seconds: float) -> float:
        """Set when SIGALRM ends the process, even inside a decoder that never returns; the seconds that were left."""
        return signal.setitimer(signal.ITIMER_REAL, seconds)[0]

    def _do(self, message: dict[str, Any]) -> Any:
        """Handle a request; returns the error that ended it, if any, as JSON."""
        try:
            if message["cwd"] is not None:
                os.chdir(message["cwd"])
            with limited_memory(self._limit):
                result = self._function(message["request"])
                for item in result if inspect.isgenerator(result) else (result,):
                    self._hand_over(item)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except GrainscanError as error:
            return describe(error)
        except Exception as error:
            return describe(unexpected(message["name"], error, self._limit))
        return None

    def _hand_over(self, item: Any) -> None:
        if not isinstance(item, tuple):
            self._say({"content": item})
            return
        import numpy as np

        content, array = item
        slot = self._wait_for_slot()
        target = np.frombuffer(self._memory, array.dtype, array.size, slot * self._stride)
        target.reshape(array.shape)[...] = array
        self._say({"content": content, "slot": slot, "shape": array.shape, "dtype": array.dtype.name})

    def _wait_for_slot(self) -> int:
        """A free slot; waiting for the parent does not count as the file's time."""
        if not self._free:
            remaining = self._set_alarm(0)
            while not self._free:
                line = self._lines.readline()
                if not line:
                    raise BrokenPipeError
                self._free.append(json.loads(line)["free"])
            self._set_alarm(remaining)
        return self._free.pop(0)

    def _say(self, message: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")


_this: _Worker | None = None


def alive() -> None:
    """Restart the clock of this request; for long work to call as it proceeds. Does nothing outside a worker."""
    if _this is not None:
        _this.alive()
