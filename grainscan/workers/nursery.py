"""The processes of the workers: a nursery that forks them, and the life of one."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from grainscan.errors import GrainscanError
from grainscan.workers.job import SLOTS, Job, Piece, describe, unexpected


def nursery(control: int, settings: dict[str, Any]) -> None:
    """Fork workers on demand and report how they end, until the parent closes the control socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    module, _, function = settings["reader"].partition(":")
    reader = getattr(importlib.import_module(module), function)
    for needed in ("grainscan.video", "grainscan.views.crops"):
        importlib.import_module(needed)
    ended, child_ended = socket.socketpair()
    ended.setblocking(False)
    child_ended.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(child_ended.fileno(), warn_on_full_buffer=False)
    connection = socket.socket(fileno=control)
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
                if "hire" in message:
                    pair = handles.popleft(), handles.popleft()
                    pid = os.fork()
                    if not pid:
                        connection.close()
                        _work(socket.socket(fileno=pair[0]), pair[1], reader, settings)
                    children[pid] = message["hire"]
                    for handle in pair:
                        os.close(handle)
                else:
                    for pid, number in children.items():
                        if number == message["kill"]:
                            os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _reap(children: dict[int, int], connection: socket.socket) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        message = {"ended": children.pop(pid), "code": os.waitstatus_to_exitcode(status)}
        try:
            connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return


def _work(connection: socket.socket, memory: int, reader: Callable[..., Any], settings: dict[str, Any]) -> None:
    """The life of a worker: one file after the other, until the parent closes the socket. Never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _limit(settings["memory"])
        job = Job.from_dict(settings["job"])
        shared = mmap.mmap(memory, 0)
        _Decoder(connection, shared, settings["stride"], job, reader).run()
        code = 0
    except (BrokenPipeError, ConnectionResetError):
        code = 0  # the parent has gone
    finally:
        os._exit(code)


class _Decoder:
    """The worker's side of a socket."""

    def __init__(
        self, connection: socket.socket, memory: mmap.mmap, stride: int, job: Job, reader: Callable[..., Any]
    ) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._memory = memory
        self._stride = stride
        self._job = job
        self._reader = reader
        self._free = list(range(SLOTS))

    def run(self) -> None:
        for line in self._lines:
            message = json.loads(line)
            if "free" in message:
                self._free.append(message["free"])
                continue
            if message["cwd"] is not None:
                os.chdir(message["cwd"])
            # The default action of SIGALRM ends the process even inside a decoder that never returns to Python.
            signal.setitimer(signal.ITIMER_REAL, self._job.timeout)
            error = self._decode(message["path"])
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._say({"error": error})

    def _decode(self, path: str) -> dict[str, str] | None:
        try:
            for piece in self._reader(path, self._job):
                if isinstance(piece, Piece):
                    self._hand_over(piece)
                else:
                    self._say({"info": piece})
        except (BrokenPipeError, ConnectionResetError):
            raise
        except GrainscanError as error:
            return describe(error)
        except Exception as error:
            return describe(unexpected(path, error))
        return None

    def _hand_over(self, piece: Piece) -> None:
        slot = self._wait_for_slot()
        target = np.frombuffer(self._memory, np.float32, piece.views.size, slot * self._stride)
        target.reshape(piece.views.shape)[...] = piece.views
        self._say(
            {
                "slot": slot,
                "n": len(piece.views),
                "start": piece.start,
                "end": piece.end,
                "boxes": piece.boxes,
                "baseline": piece.baseline,
            }
        )

    def _wait_for_slot(self) -> int:
        """A free slot; the time spent waiting for the model is not the file's."""
        if not self._free:
            remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
            while not self._free:
                line = self._lines.readline()
                if not line:
                    raise BrokenPipeError
                self._free.append(json.loads(line)["free"])
            signal.setitimer(signal.ITIMER_REAL, remaining)
        return self._free.pop(0)

    def _say(self, message: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")


def _limit(memory: int) -> None:
    """Bound what a worker can take from the machine, and offer it first when memory runs out."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError):
        pass  # macOS has no such limits
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
    except OSError:
        pass
