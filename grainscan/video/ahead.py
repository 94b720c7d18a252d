"""Work done ahead in a thread, so that frames are decoded while those before them are looked at."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

_END = object()


def ahead(items: Generator[T], most: int) -> Generator[T]:
    """The same items, of which a thread makes up to `most` beforehand. An error comes where the item would have come.

    The thread ends with this generator, at the latest when it has made the item that it is making.
    """
    ready: queue.SimpleQueue[object] = queue.SimpleQueue()
    room = threading.Semaphore(most)
    stopped = False
    failure: BaseException | None = None

    def make() -> None:
        nonlocal failure
        try:
            while room.acquire() and not stopped:
                ready.put(next(items, _END))
        except BaseException as error:
            failure = error
            ready.put(_END)
        finally:
            items.close()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            room.release()
            yield item  # type: ignore[misc]
            del item  # not kept while the next one is waited for
        if failure is not None:
            raise failure
    finally:
        stopped = True
        room.release()
        thread.join()
