"""The parent's side of the workers: hire, feed, listen, bury, replace."""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from grainscan import errors
from grainscan.errors import GrainscanError, VideoError
from grainscan.workers.job import SLOTS, Ended, Job, Piece, unexpected

log = logging.getLogger(__name__)

READER = "grainscan.workers.job:read_pieces"
_GRACE = 5.0  # seconds beyond the timeout after which the parent gives up a worker that did not end by itself
_MEMORY = (2 << 30, 4 << 30)  # bytes of address space for a worker: at least, at most

isolated = hasattr(os, "fork") and hasattr(socket, "send_fds")  # else decoding stays in the calling process


class _Worker:
    """What the parent knows of a worker. `number` is never used twice."""

    def __init__(self, number: int, connection: socket.socket, memory: mmap.mmap) -> None:
        self.number = number
        self.connection = connection
        self.memory = memory
        self.received = b""
        self.key: int | None = None
        self.path = ""
        self.info: dict[str, Any] | None = None
        self.lent = 0  # slots that the parent holds
        self.since = 0.0  # when it last got something to do


class Pool:
    """A set of decoding processes. Use as a context manager, from one thread (`wake` from any).

    `submit` hands a file to an idle worker, `wait` returns what has arrived, `release` gives the memory of a piece
    back. `reader` names the function that runs in the workers, "module:function", with the signature of `read_pieces`.
    """

    def __init__(self, size: int, job: Job, *, reader: str = READER) -> None:
        self.size = size
        self._job = job
        self._reader = reader
        self._shape = (job.view.crops, job.view.frames, 3, job.view.size, job.view.size)
        bytes_needed = 4 * int(np.prod(self._shape))
        self._stride = -(-bytes_needed // mmap.PAGESIZE) * mmap.PAGESIZE
        self._selector = selectors.DefaultSelector()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._workers: dict[int, _Worker] = {}
        self._count = 0
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._exits: dict[int, int] = {}
        self._control_received = b""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def busy(self) -> int:
        return sum(worker.key is not None for worker in self._workers.values())

    @property
    def idle(self) -> int:
        """How many files can be submitted now."""
        return self.size - self.busy

    def submit(self, key: int, path: str) -> None:
        """Hand a file to an idle worker; `key` names it in what `wait` returns."""
        worker = next((w for w in self._workers.values() if w.key is None), None) or self._hire()
        worker.key, worker.path, worker.info, worker.since = key, path, None, time.monotonic()
        self._tell(worker, {"path": path, "cwd": _cwd()})

    def wait(self) -> list[Piece | Ended]:
        """Block until something arrives or `wake` is called; what came, in order. May be empty."""
        arrived: list[Piece | Ended] = []
        for selected, _ in self._selector.select(self._patience()):
            if selected.fileobj is self._bell:
                _drain(self._bell)
            elif selected.data is not None:
                arrived.extend(self._hear(self._workers[selected.data]))
        arrived.extend(self._overdue())
        return arrived

    def wake(self) -> None:
        """Make `wait` return. Safe from any thread."""
        with contextlib.suppress(OSError):  # full, so it will wake anyway; or closed, so nobody waits
            self._button.send(b"!")

    def release(self, piece: Piece) -> None:
        """The worker may write over the views of this piece."""
        worker = self._workers.get(piece.slot[0]) if piece.slot else None
        if worker is not None and piece.slot:
            worker.lent -= 1
            worker.since = time.monotonic()
            self._tell(worker, {"free": piece.slot[1]})

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in list(self._workers.values()):
            self._forget(worker)
        if self._control is not None:
            self._control.close()  # the nursery ends its workers and itself
            self._control = None
        if self._nursery is not None:
            try:
                self._nursery.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
            self._nursery = None
        self._selector.close()
        self._bell.close()
        self._button.close()

    # -- workers

    def _hire(self) -> _Worker:
        if self._nursery is None or self._nursery.poll() is not None:
            self._start_nursery()
        self._count += 1
        ours, theirs = socket.socketpair()
        handle = _anonymous_file(SLOTS * self._stride)
        try:
            worker = _Worker(self._count, ours, mmap.mmap(handle, SLOTS * self._stride))
            assert self._control is not None
            message = json.dumps({"hire": worker.number}).encode() + b"\n"
            socket.send_fds(self._control, [message], [theirs.fileno(), handle])
        finally:
            theirs.close()
            os.close(handle)
        self._workers[worker.number] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker.number)
        return worker

    def _start_nursery(self) -> None:
        if self._control is not None:
            self._control.close()
        self._control, theirs = socket.socketpair()
        settings = {
            "job": self._job.to_dict(),
            "reader": self._reader,
            "stride": self._stride,
            "memory": worker_memory(self.size),
        }
        program = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
            "from grainscan.workers.nursery import nursery; nursery(int(sys.argv[1]), json.loads(sys.argv[3]))"
        )
        with theirs:
            self._nursery = subprocess.Popen(
                [sys.executable, "-c", program, str(theirs.fileno()), json.dumps(sys.path), json.dumps(settings)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                # A library that starts threads at import would make forking unsafe.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )
        self._control_received = b""

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(OSError):
            assert self._control is not None
            self._control.sendall(json.dumps({"kill": worker.number}).encode() + b"\n")

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.connection)
        worker.connection.close()
        del self._workers[worker.number]  # its memory goes with the last piece that refers to it

    def _tell(self, worker: _Worker, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it may just have died; `wait` will see the end of its socket
            worker.connection.sendall(json.dumps(message).encode() + b"\n")

    def _hear(self, worker: _Worker) -> Iterator[Piece | Ended]:
        try:
            data = worker.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            yield from self._bury(worker)
            return
        *lines, worker.received = (worker.received + data).split(b"\n")
        for line in lines:
            try:
                event = self._understand(worker, json.loads(line))
            except (ValueError, LookupError, TypeError) as error:  # a decoder that was taken over may say anything
                self._kill(worker)
                yield from self._bury(worker, unexpected(worker.path, error))
                return
            if event is not None:
                yield event

    def _understand(self, worker: _Worker, message: dict[str, Any]) -> Piece | Ended | None:
        if worker.key is None:
            raise ValueError("it speaks without being asked")
        if "info" in message:
            worker.info = message["info"]
            return None
        if "slot" in message:
            slot, count = int(message["slot"]), int(message["n"])
            worker.lent += 1
            size = count * int(np.prod(self._shape[1:]))
            views = np.frombuffer(worker.memory, np.float32, size, slot * self._stride)
            return Piece(
                views.reshape(count, *self._shape[1:]),
                message["start"],
                message["end"],
                [(x, y) for x, y in message["boxes"]],
                message["baseline"],
                worker.key,
                (worker.number, slot),
            )
        key, worker.key = worker.key, None
        return Ended(key, worker.info, _error_from(message["error"]) if message["error"] else None)

    def _bury(self, worker: _Worker, error: GrainscanError | None = None) -> Iterator[Ended]:
        """A worker has ended without being told to. Its file pays, nothing else does."""
        self._forget(worker)
        if worker.key is not None:
            yield Ended(worker.key, worker.info, error or self._post_mortem(worker))

    def _post_mortem(self, worker: _Worker) -> VideoError:
        code = self._exit_code(worker.number)
        if code is None:
            self._check_nursery()
        if code == -signal.SIGALRM:
            return _timed_out(worker.path, self._job.timeout)
        if code == -signal.SIGKILL:
            return VideoError(
                f"{worker.path}: its decoder was killed, probably for want of memory",
                hint="Use fewer --workers, or leave the file out.",
            )
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return VideoError(
            f"{worker.path}: its decoder crashed ({name})",
            hint="The file is damaged in a way that FFmpeg does not survive. Other files are not affected.",
        )

    def _check_nursery(self) -> None:
        """The nursery has gone too. If it was killed, another takes its place; if it failed, so will the next."""
        assert self._nursery is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._nursery.wait(_GRACE) > 0:
                raise GrainscanError(
                    "decoding processes cannot start", hint="-vv shows why; --workers 0 decodes in the main process."
                )

    def _exit_code(self, number: int) -> int | None:
        """How a worker ended, as the nursery reports it shortly after its socket closed."""
        deadline = time.monotonic() + _GRACE
        while number not in self._exits and self._control is not None and time.monotonic() < deadline:
            self._control.settimeout(_GRACE)
            try:
                data = self._control.recv(1 << 16)
            except OSError:
                break
            if not data:
                break
            *lines, self._control_received = (self._control_received + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self._exits[message["ended"]] = message["code"]
        return self._exits.pop(number, None)

    # -- time

    def _patience(self) -> float | None:
        """Seconds until the first worker would be overdue."""
        if not self._job.timeout or not self.busy:
            return None
        first = min(worker.since for worker in self._workers.values() if worker.key is not None)
        return max(0.0, first + self._job.timeout + _GRACE - time.monotonic())

    def _overdue(self) -> Iterator[Ended]:
        """Workers that the alarm clock of their own did not end: the disk hangs, or a decoder blocks signals."""
        if not self._job.timeout:
            return
        now = time.monotonic()
        for worker in list(self._workers.values()):
            late = now - worker.since > self._job.timeout + _GRACE
            if late and worker.key is not None and not worker.lent:
                self._kill(worker)
                yield from self._bury(worker, _timed_out(worker.path, self._job.timeout))


def worker_memory(workers: int) -> int:
    """Bytes of address space that a worker may use: its share of the machine, within limits."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return _MEMORY[1]
    return max(_MEMORY[0], min(_MEMORY[1], total // max(1, workers)))


def _timed_out(path: str, timeout: float) -> VideoError:
    return VideoError(
        f"{path}: was not decoded within {timeout:g} seconds",
        hint="Raise --timeout if the disk is slow or the frames are very large.",
    )


def _error_from(record: dict[str, str]) -> GrainscanError:
    kind = getattr(errors, str(record["type"]), VideoError)
    if not (isinstance(kind, type) and issubclass(kind, GrainscanError)):
        kind = VideoError
    return kind(str(record["message"]), hint=str(record["hint"]))


def _anonymous_file(size: int) -> int:
    """A handle on memory without a name, so that nothing is left behind however the processes end."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
        os.ftruncate(handle, size)
        return handle
    import fcntl

    handle = os.memfd_create("grainscan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, size)
    # A decoder that was taken over could otherwise shrink it under the parent, which dies of reading past its end.
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return handle


def _cwd() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:
        return None  # it was removed; absolute names still work


def _drain(bell: socket.socket) -> None:
    try:
        while bell.recv(4096):
            pass
    except BlockingIOError:
        pass
