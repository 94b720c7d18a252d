"""Raw footage to labelled clips: everything behind `grainscan prep`.

    footage     which files there are, their names, whether they decode
    labelling   their labels: a labels.json, a CSV, or the names of folders
    selection   which clips are wanted (balance and limit), decided before anything is cut
    cutting     one source to its clips and their synthesised twins; runs in worker processes
    run         the whole command: plan, cut, resume, write labels.json and manifest.json

A clip depends only on the seed, the name of its source and its number, so that neither the number of processes nor an
interruption changes the result.
"""

from __future__ import annotations

from grainscan.data.prep.footage import Skipped
from grainscan.data.prep.run import PrepReport, prepare

__all__ = ["PrepReport", "Skipped", "prepare"]
