"""The command line: `grainscan prep | split | train | eval | predict`."""

from __future__ import annotations

from grainscan.cli.app import app

__all__ = ["app"]
