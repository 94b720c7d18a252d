"""`python -m grainscan`."""

from __future__ import annotations

from grainscan.cli.app import main

if __name__ == "__main__":
    main()
