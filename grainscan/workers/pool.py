"""The parent's side of the workers: start, feed, listen, replace."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import selectors
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grainscan.errors import GrainscanError, timed_out
from grainscan.workers.faults import lost, rebuilt, unexpected
from grainscan.workers.limits import MEMORY
from grainscan.workers.server import GRACE, Server

SLOTS = 3  # arrays that a worker may send ahead of the parent
_LONGEST_LINE = 1 << 26  # bytes


@dataclass(frozen=True, eq=False)
class Message:
    """Something that the work on a request has found; `content` as converted by `parse`.

    The worker may send as many arrays ahead as it has slots: `Pool.release` of a message makes room for another.
    """

    key: int
    content: Any
    slot: tuple[int, int] | None = None  # worker and slot


@dataclass(frozen=True)
class Ended:
    """The end of a request: nothing more comes from it."""

    key: int
    error: GrainscanError | None = None


@dataclass(eq=False)
class _Worker:
    """The parent's view of a worker."""

    number: int  # never used twice
    connection: socket.socket
    memory: mmap.mmap
    received: bytes = b""
    key: int | None = None  # of its request
    name: str = ""
    lent: set[int] = field(default_factory=set)  # slots that the parent holds
    since: float = 0.0  # when it was last given something to do, or was alive


class Pool:
    """A set of isolated processes that run one function. Use as a context manager, from one thread (`wake` from any).

    `submit` hands a request to an idle worker, `wait` returns what has arrived, `release` frees the memory of an array.

    function: "module:function", called with a request (JSON). Each item of a generator is a message, any other result
        is one. A message is JSON, or a tuple of JSON and an array, which travels through shared memory.
    timeout: seconds per request, or since its last call of `alive`, less the time spent waiting for the parent; 0: no
        limit.
    memory: bytes that a worker may use.
    array_bytes: size of the largest array.
    preload: modules to import, and functions ("module:function") to call, before any work.
    parse: converts the content and the array of a message for `wait`. If it raises anything, the worker is ended: it
        may have been taken over.
    """

    def __init__(
        self,
        size: int,
        function: str,
        *,
        timeout: float = 0.0,
        memory: float = MEMORY,
        array_bytes: int = 0,
        preload: Sequence[str] = (),
        parse: Callable[[Any, Any], Any] = lambda content, array: content,
    ) -> None:
        self.size = size
        self._timeout = timeout
        self._memory = memory
        self._stride = max(1, -(-array_bytes // mmap.PAGESIZE)) * mmap.PAGESIZE
        settings = {
            "function": function,
            "preload": list(preload),
            "timeout": timeout,
            "memory": memory,
            "stride": self._stride,
            "slots": SLOTS,
        }
        self._parse = parse
        self._selector = selectors.DefaultSelector()
        self._bell, self._button = socket.socketpair()
        for end in (self._bell, self._button):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._workers: dict[int, _Worker] = {}
        self._count = 0
        self._server = Server(settings, self._selector)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def busy(self) -> int:
        return sum(worker.key is not None for worker in self._workers.values())

    @property
    def idle(self) -> int:
        """How many requests can be submitted now."""
        return self.size - self.busy

    def submit(self, key: int, request: Any, *, name: str) -> None:
        """Hand a request to an idle worker. `wait` returns its `key`; its `name` is for people."""
        worker = next((w for w in self._workers.values() if w.key is None), None) or self._start_worker()
        worker.key, worker.name, worker.since = key, name, time.monotonic()
        self._send(worker, {"request": request, "name": name, "cwd": _cwd()})

    def wait(self) -> list[Message | Ended]:
        """Block until something arrives or `wake` is called. Returns what arrived, in order; it may be empty.

        Raises GrainscanError when workers cannot start at all.
        """
        arrived: list[Message | Ended] = []
        for selected, _ in self._selector.select(self._patience()):
            if selected.fileobj is self._bell:
                _drain(self._bell)
            elif selected.fileobj is self._server.control:
                self._server.hear()
            elif selected.data in self._workers:
                arrived.extend(self._hear(self._workers[selected.data]))
        arrived.extend(self._overdue())
        return arrived

    def wake(self) -> None:
        """Make `wait` return. Safe from any thread."""
        with contextlib.suppress(OSError):  # full, so it will wake anyway; or closed, so nobody waits
            self._button.send(b"!")

    def release(self, message: Message) -> None:
        """Let the worker send another array in place of this message's."""
        number, slot = message.slot or (0, 0)
        worker = self._workers.get(number)
        if worker is not None:
            worker.lent.remove(slot)
            worker.since = time.monotonic()
            self._send(worker, {"free": slot})

    def close(self) -> None:
        """End all workers, whatever they are doing, with a moment to remove temporary files."""
        for worker in list(self._workers.values()):
            self._forget(worker)
        self._server.close()
        self._selector.close()
        self._bell.close()
        self._button.close()

    # -- workers

    def _start_worker(self) -> _Worker:
        self._count += 1
        ours, theirs = socket.socketpair()
        ours.settimeout(GRACE)  # a worker that does not listen must not hold the parent up
        handle = _anonymous_file(SLOTS * self._stride)
        try:
            worker = _Worker(self._count, ours, mmap.mmap(handle, SLOTS * self._stride))
            self._server.fork(worker.number, theirs.fileno(), handle)
        finally:
            theirs.close()
            os.close(handle)
        self._workers[worker.number] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker.number)
        return worker

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.connection)
        worker.connection.close()
        self._server.forget(worker.number)
        worker.memory.close()
        del self._workers[worker.number]

    def _send(self, worker: _Worker, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it may just have died; `wait` will see the end of its socket
            worker.connection.sendall(json.dumps(message).encode() + b"\n")

    def _hear(self, worker: _Worker) -> Iterator[Message | Ended]:
        try:
            data = worker.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            yield from self._end(worker)
            return
        *lines, worker.received = (worker.received + data).split(b"\n")
        try:
            if len(worker.received) > _LONGEST_LINE:
                raise ValueError("its message has no end")
            for line in lines:
                event = self._understand(worker, json.loads(line))
                if event is not None:
                    yield event
                if worker.number not in self._workers:  # it leaves
                    return
        except Exception as error:  # a decoder that was taken over may send anything
            self._server.kill(worker.number)
            yield from self._end(worker, unexpected(worker.name, error, self._memory))

    def _understand(self, worker: _Worker, message: dict[str, Any]) -> Message | Ended | None:
        if worker.key is None:
            raise ValueError("it sends a message without a request")
        if "alive" in message:
            worker.since = time.monotonic()
            return None
        if "content" in message:
            if "slot" not in message:
                return Message(worker.key, self._parse(message["content"], None))
            slot, array = self._array(worker, message)
            return Message(worker.key, self._parse(message["content"], array), (worker.number, slot))
        key, error = worker.key, message["error"] and rebuilt(message["error"])
        worker.key = None
        if message["leaving"]:
            self._forget(worker)
        return Ended(key, error)

    def _array(self, worker: _Worker, message: dict[str, Any]) -> tuple[int, Any]:
        import numpy as np

        slot, shape, dtype = int(message["slot"]), tuple(map(int, message["shape"])), np.dtype(str(message["dtype"]))
        size = math.prod(shape)
        if slot not in range(SLOTS) or slot in worker.lent or min(shape) < 0 or dtype.kind not in "biuf":
            raise ValueError("it names memory that it does not have")
        if size * dtype.itemsize > self._stride:
            raise ValueError("it names more memory than it has")
        worker.lent.add(slot)
        # A copy: the worker goes on to the next file, which may take it over and write into all of its memory.
        return slot, np.frombuffer(worker.memory, dtype, size, slot * self._stride).reshape(shape).copy()

    def _end(self, worker: _Worker, error: GrainscanError | None = None) -> Iterator[Ended]:
        """A worker has ended unasked. That costs its request, and nothing else."""
        if worker.key is not None:
            code = None if error else self._server.exit_code(worker.number)
            if code == -signal.SIGALRM:
                error = timed_out(worker.name, self._timeout)
            yield Ended(worker.key, error or lost(worker.name, code))
        self._forget(worker)

    # -- time

    def _patience(self) -> float | None:
        """Seconds until the first worker would be overdue."""
        if not self._timeout or not self.busy:
            return None
        first = min(worker.since for worker in self._workers.values() if worker.key is not None)
        return max(0.0, first + self._timeout + GRACE - time.monotonic())

    def _overdue(self) -> Iterator[Ended]:
        """End workers that their own alarm clock did not end: the disk hangs, or a decoder blocks signals."""
        if not self._timeout:
            return
        now = time.monotonic()
        for worker in list(self._workers.values()):
            late = now - worker.since > self._timeout + GRACE
            if late and worker.key is not None and not worker.lent:
                self._server.kill(worker.number)
                yield from self._end(worker, timed_out(worker.name, self._timeout))


def _anonymous_file(size: int) -> int:
    """A handle on memory without a name: nothing is left behind, however the processes end."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
        os.ftruncate(handle, size)
        return handle
    import fcntl

    handle = os.memfd_create("grainscan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, size)
    # Otherwise a decoder that was taken over could shrink it, and reading past its end kills the parent.
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return handle


def _cwd() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        return None  # it was removed; absolute names still work


def _drain(bell: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while bell.recv(4096):
            pass
