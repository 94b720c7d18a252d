"""Worker processes that survive what footage does to a decoder."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")

_AHEAD = 2  # jobs submitted for each worker; also bounds the suspects when a worker dies


def processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def spread(work: Callable[[J], R], jobs: Iterable[J], *, workers: int) -> Iterator[tuple[J, R | None]]:
    """(job, result) of each job as it is done; None for a job whose worker died (a decoder that crashed).

    workers: 0 for one a processor; with 1 the work is done in this process, without that protection. When a worker
    dies, the pool is lost with it: the jobs that were under way are then run again, each in a process of its own.
    """
    waiting = deque(jobs)
    count = min(workers or processors(), len(waiting))
    if workers == 1:
        yield from ((job, work(job)) for job in waiting)
        return
    while waiting:
        suspects: list[J] = []
        pool = _pool(count)
        running: dict[Future[R], J] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _AHEAD * count:
                    job = waiting.popleft()
                    running[pool.submit(work, job)] = job
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool:
            suspects = [*running.values()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        for job in suspects:
            yield job, _alone(work, job)


def _alone(work: Callable[[J], R], job: J) -> R | None:
    with _pool(1) as pool:
        try:
            return pool.submit(work, job).result()
        except BrokenProcessPool:
            return None


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends
