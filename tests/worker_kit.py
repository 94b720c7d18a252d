"""Functions that the tests run in worker processes; the names of files say what they do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from grainscan.data.cache import store_request
from grainscan.data.prep.cutting import cut_request
from grainscan.data.prep.footage import examine_request
from grainscan.errors import OutputError, VideoError
from grainscan.files import replacing
from grainscan.workers import alive


def square(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)  # as a decoder might
    if number == 5:
        raise VideoError("5: odd", hint="Use another.")
    if number == 6:
        raise ZeroDivisionError("six")
    return number * number


def rest(seconds: list[float]) -> float:
    for second in seconds:
        alive()
        time.sleep(second)
    return sum(seconds)


def take(megabytes: int) -> int:
    return len(np.ones(megabytes * 1_000_000, np.uint8))


_kept: list[Any] = []


def keep(megabytes: int) -> int:
    """Take memory for good, as a library that leaks does; says which process it was."""
    _kept.append(np.ones(megabytes * 1_000_000, np.uint8))
    return os.getpid()


def who(_: Any) -> int:
    return os.getpid()


def lend(content: str) -> Iterator[Any]:
    """An array; "spoil" writes over all that the parent may see, as a file that takes over its decoder can."""
    if content == "spoil":
        for handle in range(3, 64):
            with contextlib.suppress(OSError):
                os.pwrite(handle, bytes(1 << 16), 0)
    yield content, np.full(1000, len(content), np.float32)


def refuse(_: Any) -> None:
    raise OutputError("the disk is full", hint="Make room.")


def write_forever(path: str) -> None:
    with replacing(Path(path)) as temporary:
        temporary.write_text("half")
        while True:
            time.sleep(0.01)


def _crash(path: str) -> None:
    if "crash" in Path(path).name:
        ctypes.string_at(0)  # SIGSEGV


def crashing_examine(path: str) -> Any:
    _crash(path)
    return examine_request(path)


def crashing_cut(job: dict[str, Any]) -> Any:
    made = cut_request(job)
    _crash(job["path"])
    return made


def crashing_store(request: dict[str, Any]) -> float:
    _crash(request["path"])
    if "hungry" in Path(request["path"]).name:
        take(4000)
    return store_request(request)


def server(_: Any) -> int:
    return os.getppid()


_learnt: list[int] = []


def learn() -> None:
    _learnt.append(os.getpid())


def teacher(_: Any) -> list[int]:
    """The processes that called `learn`, as far as this one knows."""
    return _learnt
