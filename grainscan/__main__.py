"""`python -m grainscan`, and the console script: the command line, framed by what `grainscan.signals` promises."""

from __future__ import annotations

from grainscan import signals


def main() -> None:
    """Run the command line and exit."""
    with signals.guard():
        from grainscan.cli.app import main as run

        run()


if __name__ == "__main__":
    main()
