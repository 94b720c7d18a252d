"""`python -m grainscan`."""

from __future__ import annotations

from grainscan.cli import main

if __name__ == "__main__":
    main()
