"""Results in a notebook: a list that shows itself as a table, and becomes a pandas DataFrame.

from grainscan import Results, Scanner

with Scanner() as scanner:
    results = Results(scanner.scan("library"))
results  # the last line of a cell: a table
results.to_frame().sort_values("graininess_strength")
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from grainscan.errors import require
from grainscan.report.findings import findings, tasks_of, worth_showing
from grainscan.report.formats import csv_row
from grainscan.report.words import describe_video, explain, moment, printable
from grainscan.results import Result

_MOST = 60  # rows that are shown, as by pandas
_HEADS = ("File", "Found", "Probability", "Strength", "Worst at", "Video")


class Results(list[Result]):
    """The results of a scan, in order: `Results(scanner.scan(...))`, or `Results([scanner.predict(...)])`."""

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row per result, and the columns of `--format csv`; texts are as they are.

        If the grain of any file is described (`Scanner(character=True)`), the columns of grain are among them.

        Raises DependencyError without pandas.
        """
        require("to_frame", "pandas")
        import pandas

        tasks, grain = tasks_of(self), any("grain" in row for row in self)
        rows = [csv_row(row, tasks, grain=grain) for row in self]
        return pandas.DataFrame(rows, columns=list(csv_row({}, tasks, grain=grain)))

    def _repr_html_(self) -> str:
        """The results as a table, as `predict` shows them: what was found in each file, else the likeliest artifact."""
        tasks = tasks_of(self)
        rows = "".join(_row(result, tasks) for result in self[:_MOST])
        more = f"<p>… and {len(self) - _MOST:,} more</p>" if len(self) > _MOST else ""
        heads = "".join(f"<th>{head}</th>" for head in _HEADS)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _row(result: Result, tasks: Iterable[str]) -> str:
    path = printable(result["path"])
    if result["status"] != "ok":
        said = f"error: {explain(result['path'], result['error']['message'])} {printable(result['error']['hint'])}"
        return f'<tr><td>{escape(path)}</td><td colspan="{len(_HEADS) - 1}">{escape(said)}</td></tr>'
    shown = worth_showing(findings(result, tuple(tasks)))
    notes = [f"unreliable: {printable(', '.join(result['unreliable']))}"] if result.get("unreliable") else []
    columns = (
        [path, *notes],
        [each.marked for each in shown],
        [f"{each.probability:.2f}" for each in shown],
        ["" if each.strength is None else f"{each.strength:.1f}" for each in shown],
        ["" if each.worst is None else moment(each.worst, result) for each in shown],
        [describe_video(result)],
    )
    return "<tr>" + "".join(f"<td>{'<br>'.join(map(escape, lines))}</td>" for lines in columns) + "</tr>"
