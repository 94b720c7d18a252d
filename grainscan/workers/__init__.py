"""Isolated processes: work on files that no file can hurt.

    parent (pool)  ── one control socket ──>  server  ── fork ──>  worker, worker, …
    parent (pool)  <── a socket and a few slots of shared memory each ──>  every worker

The server imports the function once and forks a worker in a few milliseconds, so a worker that was lost is cheap to
replace. A worker does one request at a time. What it finds travels as lines of JSON, arrays through memory that it
shares with the parent; without a free slot of that it waits. Code that crashes, hangs or takes too much memory takes
its worker with it, and the parent sees the end of a socket. Nothing that a worker sends is ever unpickled: a decoder
that was taken over by a hostile file cannot make the parent run anything.

`Pool` is for messages and arrays as they come, `spread` for one result per request.
"""

from __future__ import annotations

from grainscan.workers.faults import describe, unexpected
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
    "processors",
    "spread",
    "unexpected",
    "worker_count",
]
