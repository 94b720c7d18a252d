"""`python -m grainscan` and the console script: the command line, guarded by `grainscan.signals`."""

from __future__ import annotations

from grainscan import signals


def main() -> None:
    """Run the command line and exit."""
    with signals.guard():
        from grainscan.cli.app import app

        app()


if __name__ == "__main__":
    main()
