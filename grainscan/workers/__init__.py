"""Decoding processes: files in, views out, and nothing that a file does can hurt the scan.

    parent (pool)  ── one control socket ──>  nursery  ── fork ──>  worker, worker, …
    parent (pool)  <── a socket and a few slots of shared memory each ──>  every worker

The nursery imports the decoder once and forks a worker in a few milliseconds, so a worker that was lost is cheap to
replace. A worker decodes one file at a time, crops it, converts the crops to RGB and puts the views of each window
into a free slot of memory that it shares with the parent; without a free slot it waits. A decoder that crashes, hangs
or eats memory takes its worker with it, and the parent sees the end of a socket. Workers talk in lines of JSON: a
decoder that was taken over by a hostile file cannot make the parent unpickle anything.
"""

from __future__ import annotations

from grainscan.workers.job import Ended, Job, Piece, describe, read_pieces, unexpected
from grainscan.workers.pool import Pool, isolated

__all__ = ["Ended", "Job", "Piece", "Pool", "describe", "isolated", "read_pieces", "unexpected"]
