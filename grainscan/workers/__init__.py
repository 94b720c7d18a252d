"""Isolated processes: work on files, safe from what is in them.

    parent (pool)  ── one control socket ──>  server  ── fork ──>  worker, worker, …
    parent (pool)  <── a socket and a few slots of shared memory each ──>  every worker

The server imports the function once and forks a worker in a few milliseconds, so that a lost worker is cheap to
replace. A worker handles one request at a time. Its results travel as lines of JSON, arrays through slots of memory
shared with the parent; it waits for a free slot. Code that crashes, hangs or uses too much memory costs its worker, and
the parent sees the end of a socket. Nothing that a worker sends is ever unpickled: a decoder that was taken over by a
hostile file cannot make the parent run anything.

`Pool` is for messages and arrays as they come, `spread` for one result per request. `prepare` starts the server ahead
of both, and is why the rest is imported only when it is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grainscan.lazy import imported

if TYPE_CHECKING:
    from grainscan.workers.faults import describe, unexpected
    from grainscan.workers.launch import prepare
    from grainscan.workers.limits import MEMORY, limited, processors, worker_count
    from grainscan.workers.parallel import spread
    from grainscan.workers.pool import Ended, Message, Pool
    from grainscan.workers.process import alive

__all__ = [
    "MEMORY",
    "Ended",
    "Message",
    "Pool",
    "alive",
    "describe",
    "limited",
    "prepare",
    "processors",
    "spread",
    "unexpected",
    "worker_count",
]

_HOMES = {
    **dict.fromkeys(("describe", "unexpected"), "faults"),
    **dict.fromkeys(("MEMORY", "limited", "processors", "worker_count"), "limits"),
    **dict.fromkeys(("Ended", "Message", "Pool"), "pool"),
    "alive": "process",
    "prepare": "launch",
    "spread": "parallel",
}


def __getattr__(name: str) -> Any:
    return imported(__name__, __all__, name, _HOMES.get(name, "faults"))
