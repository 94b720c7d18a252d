"""From files to verdicts: the one path of `predict` and `eval`."""

from __future__ import annotations

DECODER = "grainscan.scan.decode"
DECODING = (  # what decoding processes need: see `workers.prepare`
    DECODER,
    "grainscan.video.doubts",
    "grainscan.video.windows",
    "grainscan.views.statistics:names",  # the tables of the statistics are made with it
    "grainscan.views.estimators",
)
