"""What the commands print at their end: data on stdout or in the file that was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from grainscan import console
from grainscan.report.formats import replaced
from grainscan.report.tables import evaluation

_FILE_WIDTH = 140  # columns of a table in a file


def write_evaluation(
    report: Mapping[str, Any], *, format: Literal["table", "json"] | None = None, output: Path | None = None
) -> None:
    """The report of `evaluate` as a table or as JSON, by default as the output's suffix says. Raises OutputError."""
    if format is None and output is not None and output.suffix.lower() == ".json":
        format = "json"
    if format == "json":
        text = json.dumps(report, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
        if output is None:
            console.out().file.write(text)
            return
        with replaced(output) as stream:
            stream.write(text)
    elif output is None:
        console.out().print(evaluation(report))
    else:
        from rich.console import Console

        with replaced(output) as stream:
            Console(file=stream, width=_FILE_WIDTH, highlight=False).print(evaluation(report))
