"""Worker processes that survive what footage does to a decoder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Event
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
    dies, the pool is lost with it: the jobs that were under way are then run again, one by one.
    Closing the iterator, or an exception in the caller (Ctrl-C), ends the workers at once.
    """
    waiting = deque(jobs)
    count = min(workers or processors(), len(waiting))
    if workers == 1:
        yield from ((job, work(job)) for job in waiting)
        return
    while waiting:
        running: dict[Future[R], J] = {}
        try:
            with _crew(count) as pool:
                while waiting or running:
                    while waiting and len(running) < _AHEAD * count:
                        job = waiting.popleft()
                        running[pool.submit(work, job)] = job
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        result = future.result()
                        yield running.pop(future), result
        except BrokenProcessPool:
            yield from _one_by_one(work, deque(running.values()))


def _one_by_one(work: Callable[[J], R], suspects: deque[J]) -> Iterator[tuple[J, R | None]]:
    """The same with a single worker and one job at a time, so that a death has a culprit."""
    while suspects:
        try:
            with _crew(1) as pool:
                while suspects:
                    yield suspects[0], pool.submit(work, suspects[0]).result()
                    suspects.popleft()
        except BrokenProcessPool:
            yield suspects.popleft(), None


@contextmanager
def _crew(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare, initargs=(stop,))
    try:
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(stop: Event) -> None:
    """In a new worker: leave Ctrl-C to the parent, and end when it says so or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()


def _watch(stop: Event) -> None:
    parent = multiprocessing.parent_process()
    while not stop.wait(1) and (parent is None or parent.is_alive()):
        pass
    os._exit(1)  # what a worker writes has its name only once it is complete
