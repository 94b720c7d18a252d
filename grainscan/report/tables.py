"""The results of `predict` for a terminal: a table and a summary line, as Rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

from grainscan.report.findings import Tally, findings, overall_words, tasks_of, worth_showing
from grainscan.report.terminal import CAUTION, CLEAN, DIM, ERROR, FOUND, bar, plain_table
from grainscan.report.words import clock, count, describe_video, explain, printable, verdict
from grainscan.results import Result

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

_ROOMY = 100  # columns from which there is room to describe the videos
_WORD = 20  # characters of a verdict in a line


def results_table(results: Sequence[Result], tasks: Sequence[str] | None = None) -> RenderableType:
    """A row for each file: of a model with several tasks, with those that were found in it, else the likeliest.

    What has to be said about a file, its error or why its verdict is unreliable, is below its name.
    """
    return _Results(results, tuple(tasks or tasks_of(results)))


class _Results:
    def __init__(self, results: Sequence[Result], tasks: Sequence[str]) -> None:
        self._results, self._tasks = results, tasks
        self._strengths = any("strength" in block for result in results for block in result.get("tasks", {}).values())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        videos = options.max_width >= _ROOMY
        table = plain_table(names=["File"])
        for head in ("Verdict", "Probability"):
            table.add_column(head, no_wrap=True)
        for head in (*(["Strength"] if self._strengths else []), "Worst at"):
            table.add_column(head, justify="right", no_wrap=True)
        if videos:
            table.add_column("Video", overflow="fold", style=DIM)
        for result in self._results:
            verdicts = (
                self._verdicts(result) if result["status"] == "ok" else self._columns([[_styled("error", ERROR)]])
            )
            table.add_row(_name(result), *verdicts, *([describe_video(result)] if videos else []))
        yield table

    def _verdicts(self, result: Result) -> list[Text]:
        """Verdict, probability, strength and time: cells with a line for each task to show, more for a long word."""
        if result["status"] != "ok":
            return self._columns([[_styled("error", ERROR)]])
        lines = []
        for finding in worth_showing(findings(result, self._tasks)):
            style = FOUND if finding.label else CLEAN
            word, *rest = wrap(finding.word, _WORD)
            strength = "" if finding.strength is None else f"{finding.strength:.1f}"
            worst = "" if finding.worst is None else clock(finding.worst)
            lines.append([_styled(word, style), bar(finding.probability, style), _styled(strength), _styled(worst)])
            lines += [[_styled(more, style)] for more in rest]
        return self._columns(lines)

    def _columns(self, lines: list[list[Text]]) -> list[Text]:
        columns = [_styled("\n").join(column) for column in zip_longest(*lines, fillvalue=_styled())]
        columns += [_styled()] * (4 - len(columns))
        return columns if self._strengths else [*columns[:2], columns[3]]


def _styled(text: str = "", style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style)


def _name(result: Result) -> Text:
    from rich.text import Text

    name = Text(printable(result["path"]))
    if "error" in result:
        name.append(f"\n{explain(result['path'], result['error']['message'])}", "red")
    if result.get("unreliable"):
        name.append(f"\nunreliable: {printable(', '.join(result['unreliable']))}", CAUTION)
    return name


def summary(results: Iterable[Result]) -> Text:
    """`91 files · 6 grainy · 85 clean · 1 error · model grainscan-s`, counted as the results come."""
    from rich.text import Text

    tally = Tally.of(results)
    _, clean = overall_words(tuple(tally.tasks))
    parts = [Text(count(tally.files, "file"), "bold")]
    parts += [Text(f"{files:,} {verdict(task, 1)}", FOUND) for task, files in tally.tasks.items() if files]
    parts += [Text(f"{tally.clean:,} {clean}", CLEAN)] if tally.files > tally.errors else []
    parts += [Text(f"{tally.unreliable:,} unreliable", CAUTION)] if tally.unreliable else []
    parts += [Text(count(tally.errors, "error"), ERROR)] if tally.errors else []
    parts += [Text(f"model {printable(', '.join(tally.models))}", DIM)] if tally.models else []
    return Text(" · ", DIM).join(parts)
