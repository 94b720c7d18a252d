"""One result per request, in whatever order they are done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from grainscan.errors import GrainscanError, VideoError
from grainscan.workers.faults import lost, unexpected
from grainscan.workers.limits import MEMORY, limited_memory, worker_count
from grainscan.workers.pool import Ended, Pool
from grainscan.workers.process import load

PATIENCE = 300.0  # seconds without a sign of life after which a worker is ended; encoding a large twin takes a minute


def spread(
    function: str,
    requests: Iterable[tuple[str, Any]],
    *,
    workers: int = -1,
    timeout: float = PATIENCE,
    memory: float = MEMORY,
    preload: Sequence[str] = (),
    parse: Callable[[Any], Any] = lambda result: result,
) -> Generator[tuple[str, Any], None, None]:
    """(name, result) of each request as it is done; a VideoError in place of a result is the fault of that request.

    `function` ("module:function") gets a request and returns a result, both JSON; `parse` makes of that what is handed
    out. A worker that crashes, needs more than `memory` bytes, or has not called `alive` for `timeout` seconds costs
    its request. Any other error of ours that the function raises ends it all and is raised here. `requests` are taken
    one by one, when a worker is free. With `workers` 0, the work is done in this process: a crash ends it, too, and
    nothing is timed. Closing the iterator, or an exception in the caller (Ctrl-C), ends the workers at once.
    """
    count = worker_count(workers)
    if not count:
        for name, request in requests:
            yield name, _here(function, name, request, memory, parse)
        return
    names: dict[int, str] = {}
    results: dict[int, Any] = {}
    waiting = enumerate(requests)
    options: dict[str, Any] = {"timeout": timeout, "memory": memory, "preload": preload}
    with Pool(count, function, parse=lambda content, _: parse(content), **options) as pool:
        while True:
            while pool.idle and (item := next(waiting, None)) is not None:
                key, (name, request) = item
                names[key] = name
                pool.submit(key, request, name=name)
            if not names:
                return
            for event in pool.wait():
                if not isinstance(event, Ended):
                    results[event.key] = event.content
                    continue
                name = names.pop(event.key)
                result = results.pop(event.key, lost(name, None))
                if event.error is not None and not isinstance(event.error, VideoError):
                    raise event.error
                yield name, event.error or result


def _here(function: str, name: str, request: Any, memory: float, parse: Callable[[Any], Any]) -> Any:
    try:
        with limited_memory(memory):
            return parse(load(function)(request))
    except VideoError as error:
        return error
    except GrainscanError:
        raise
    except Exception as error:
        return unexpected(name, error, memory)
