"""How many processes a machine can run, and how much memory each may use."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from grainscan.errors import ConfigError
from grainscan.workers.launch import isolated

T = TypeVar("T")

MEMORY = 1.5e9  # bytes that a worker may use, by default
_IDLE = 100e6  # bytes of that which Python, NumPy and FFmpeg have mapped before any work

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def processors() -> int:
    """Processors that this process may use, by its affinity and its control group's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        count = os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or no quota ("max")
        return count


def worker_count(wanted: int, jobs: int | None = None) -> int:
    """The number of processes for a value of `--workers`: -1 depends on the machine, 0 does all work in this process.

    At most `jobs`, and none where the system cannot isolate processes. Raises ConfigError.
    """
    if wanted < -1:
        raise ConfigError(f"workers is {wanted}", hint="Use -1 (automatic), 0 (none) or a number of processes.")
    count = (processors() if wanted < 0 else wanted) if isolated else 0
    return count if jobs is None else min(count, jobs)


def used_memory() -> int | None:
    """Bytes of private writable memory that this process has mapped; None where that is unknown."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 (once per request)
            return int(file.read().split()[5]) * mmap.PAGESIZE
    except (OSError, LookupError, ValueError):
        return None


@functools.cache
def return_memory() -> None:
    """Have glibc map large blocks one by one, so that freed pictures do not linger in a fragmented heap."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 8 << 20)


@contextlib.contextmanager
def limited_memory(memory: float, *, taken: int = 0) -> Iterator[None]:
    """Inside, this process may map as much memory as a worker with `memory` bytes, less `taken`.

    Earlier mappings do not count, so that a file has the same room whatever was done before it. The limit is on private
    memory (RLIMIT_DATA, Linux), not on code, libraries, shared memory or address space that is only reserved. Systems
    without such a limit are left alone.
    """
    used = used_memory()
    if used is None:
        yield
        return
    import resource

    return_memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    limit = used + max(0, int(memory - _IDLE) - taken)
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def limited(steps: Iterator[T], memory: float) -> Iterator[T]:
    """The same items; the iterator may map as much memory for them as a worker with `memory` bytes."""
    taken = 0
    while True:
        before = used_memory() or 0
        with limited_memory(memory, taken=taken):
            try:
                item = next(steps)
            except StopIteration:
                return
        taken += (used_memory() or 0) - before
        yield item


def limit_for_good(memory: float) -> None:
    """Limit this process for the rest of its life, and make it the first to be killed when memory runs out."""
    import resource

    used = used_memory()
    if used is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = used + int(memory)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("1000")
