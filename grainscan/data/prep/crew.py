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
from multiprocessing.connection import Connection
from typing import TypeVar

J = TypeVar("J")
R = TypeVar("R")

PATIENCE = 300.0  # seconds without a sign of life after which a worker is ended; encoding a large twin takes a minute
_AHEAD = 2  # jobs submitted for each worker; also bounds the suspects when a worker dies

_patience = 0.0  # of this process, if it is a worker


def processors() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def alive() -> None:
    """To be called by work as it gets on, so that a decoder that hangs can be told from a long file."""
    if _patience:
        # The default action of SIGALRM ends the process even inside a decoder that never returns to Python.
        signal.setitimer(signal.ITIMER_REAL, _patience)


def spread(
    work: Callable[[J], R], jobs: Iterable[J], *, workers: int, patience: float = PATIENCE
) -> Iterator[tuple[J, R | None]]:
    """(job, result) of each job as it is done; None for a job whose worker died: a decoder crashed, or hung.

    workers: 0 for one a processor; with 1 the work is done in this process, without that protection. A worker dies,
    too, when its work has not called `alive` for `patience` seconds. With it the pool is lost: the jobs that were under
    way are then run again, one by one. Closing the iterator, or an exception in the caller (Ctrl-C), ends the workers
    at once.
    """
    waiting = deque(jobs)
    count = min(workers or processors(), len(waiting))
    if workers == 1:
        yield from ((job, work(job)) for job in waiting)
        return
    while waiting:
        running: dict[Future[R], J] = {}
        try:
            with _crew(count, patience) as pool:
                while waiting or running:
                    while waiting and len(running) < _AHEAD * count:
                        job = waiting.popleft()
                        running[pool.submit(_watched, work, job)] = job
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        result = future.result()
                        yield running.pop(future), result
        except BrokenProcessPool:
            yield from _one_by_one(work, deque(running.values()), patience)


def _one_by_one(work: Callable[[J], R], suspects: deque[J], patience: float) -> Iterator[tuple[J, R | None]]:
    """The same with a single worker and one job at a time, so that a death has a culprit."""
    while suspects:
        try:
            with _crew(1, patience) as pool:
                while suspects:
                    yield suspects[0], pool.submit(_watched, work, suspects[0]).result()
                    suspects.popleft()
        except BrokenProcessPool:
            yield suspects.popleft(), None


@contextmanager
def _crew(workers: int, patience: float) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end at once when the block is left by an exception, or the parent is gone."""
    context = multiprocessing.get_context("spawn")
    leash, hand = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare, initargs=(leash, patience))
    try:
        yield pool
    except BaseException:
        hand.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        hand.close()
        leash.close()


def _prepare(leash: Connection, patience: float) -> None:
    """In a new worker: leave Ctrl-C to the parent, and watch for its letting go."""
    global _patience
    _patience = patience
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(leash,), daemon=True).start()


def _watched(work: Callable[[J], R], job: J) -> R:
    """In a worker: the work, with the alarm set for as long as it lasts."""
    alive()
    try:
        return work(job)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _watch(leash: Connection) -> None:
    leash.poll(None)  # nothing is ever sent: this returns when the parent closes its end, or is gone
    os._exit(1)  # what a worker writes has its name only once it is complete
