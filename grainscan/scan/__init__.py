"""From files to verdicts: the one path of `predict` and `eval`."""

from __future__ import annotations

DECODER = "grainscan.scan.decode"
DECODING = (  # the modules that decoding processes need
    DECODER,
    "grainscan.video.doubts",
    "grainscan.video.windows",
    "grainscan.views.statistics",
    "grainscan.views.estimators",
)
