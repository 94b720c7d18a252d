"""`python -m grainscan` and the console script: the command line, guarded by `grainscan.signals`."""

from __future__ import annotations

import os
import sys

from grainscan import signals

_HELP = {"-h", "--help"}


def main() -> None:
    """Run the command line and exit."""
    with signals.guard():
        _prepare(sys.argv[1:])
        from grainscan.cli.app import app

        app()


def _prepare(words: list[str]) -> None:
    """For `predict`, let another process load what decoding needs while this one loads the rest."""
    command = next((word for word in words if not word.startswith("-")), "")
    if command != "predict" or _HELP & set(words) or "-vv" in words:
        return
    from grainscan.scan import DECODING
    from grainscan.workers import prepare

    # NumPy would start threads for matrices, of which there are none here; that takes as long as the rest of it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    prepare(DECODING)


if __name__ == "__main__":
    main()
