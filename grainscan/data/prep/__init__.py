"""Raw footage to labelled clips: everything behind `grainscan prep`.

    footage     which files, what they are called, which of them decode
    labelling   their labels: a labels.json, a CSV, or the names of folders
    selection   which clips are wanted: balance and limit, before anything is cut
    cutting     one source to its clips and their synthesised twins; runs in worker processes
    run         the whole: plan, cut, resume, write labels.json and manifest.json

A clip depends on the seed, its source's name and its number alone, so that neither the number of processes nor an
interruption changes the result.
"""

from __future__ import annotations

from grainscan.data.prep.footage import Skipped
from grainscan.data.prep.run import PrepReport, prepare

__all__ = ["PrepReport", "Skipped", "prepare"]
