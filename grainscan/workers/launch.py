"""Starting the process that forks workers. Imports little, so that it can be the first thing that a command does."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

GRACE = 5.0  # seconds that the parent waits for what should be immediate
isolated = hasattr(os, "fork") and hasattr(socket, "send_fds")  # else all work is done in the calling process

# What is imported stays for good: searching it for garbage would only take time, then and in every worker.
_PROGRAM = (
    "import gc, json, sys; gc.disable(); sys.path[:] = json.loads(sys.argv[2]); "
    "from grainscan.workers.process import serve; serve(int(sys.argv[1]), json.loads(sys.argv[3]))"
)
# A library that starts threads at import would make forking unsafe.
_ENVIRONMENT = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Launched(NamedTuple):
    """A process that imports `modules`, then waits for its settings; `control` is the parent's end of its socket."""

    modules: tuple[str, ...]
    control: socket.socket
    process: subprocess.Popen[bytes]


_prepared: list[Launched] = []  # until a pool takes it over


def launch(modules: Sequence[str], *, quiet: bool = True) -> Launched:
    """Start a process; a `quiet` one says nothing on stderr. Raises OSError."""
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
                stderr=subprocess.DEVNULL if quiet else None,
                env={**os.environ, **_ENVIRONMENT},
            )
    except BaseException:
        control.close()
        raise
    return Launched(tuple(modules), control, process)


def prepare(modules: Sequence[str]) -> None:
    """Start a process before it is needed: it imports its modules while this one is still busy with its own.

    A function, as in "module:function", is called, too. The first pool that needs the same modules takes the process
    over; if there is none, it is ended with this one. Nothing happens where processes cannot be isolated, or where none
    can be started: whoever needs it will say so.
    """
    if isolated:
        with contextlib.suppress(OSError):
            _prepared.append(launch(modules))
            atexit.register(_discard)


def take_over(modules: Sequence[str]) -> Launched | None:
    """The process that was prepared for these modules, if there is one that is still running."""
    for number, launched in enumerate(_prepared):
        if launched.modules == tuple(modules) and launched.process.poll() is None:
            return _prepared.pop(number)
    return None


def _discard() -> None:
    while _prepared:
        _, control, process = _prepared.pop()
        control.close()
        process.kill()
        process.wait()
