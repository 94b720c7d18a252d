"""One result per request, in the order of completion."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from grainscan.errors import GrainscanError, VideoError
from grainscan.workers.faults import lost, unexpected
from grainscan.workers.limits import MEMORY, limited_memory, worker_count
from grainscan.workers.pool import Ended, Pool
from grainscan.workers.process import load

PATIENCE = 300.0  # seconds without a sign of life before a worker is ended; encoding a large twin takes a minute


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
    """(name, result) of each request as it is completed; a request that failed has a VideoError as its result.

    `function` ("module:function") maps a request to a result, both JSON, which `parse` converts. A worker that crashes,
    needs more than `memory` bytes, or does not call `alive` for `timeout` seconds costs its request. Any other
    GrainscanError of the function ends all work and is raised here. `requests` are drawn one by one, as workers become
    free. With `workers` 0, all work is done in this process: a crash ends it, too, and nothing is timed. Closing the
    iterator, or an exception in the caller (Ctrl-C), ends the workers at once.
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
