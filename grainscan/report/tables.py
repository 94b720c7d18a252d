"""The results of `predict` for a terminal: a table and a summary line, both Rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

from grainscan.console import count
from grainscan.report.findings import Tally, findings, overall_words, tasks_of, worth_showing
from grainscan.report.terminal import CAUTION, CLEAN, DIM, ERROR, FOUND, bar, plain_table, styled
from grainscan.report.words import clock, describe_grain, describe_video, explain, printable, verdict
from grainscan.results import Result

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

_ROOMY = 100  # columns from which there is room to describe the videos
_WORD = 20  # characters of a verdict in a line


def results_table(results: Sequence[Result], tasks: Sequence[str] | None = None) -> RenderableType:
    """A row per file with the artifacts found in it, else the likeliest one.

    An error, or the reasons why a verdict is unreliable, is below the name of the file.
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
            table.add_row(_name(result), *self._verdicts(result), *([describe_video(result)] if videos else []))
        yield table

    def _verdicts(self, result: Result) -> list[Text]:
        """Verdict, probability, strength and time: a line per task to show, more where a word is long."""
        lines = [] if result["status"] == "ok" else [[styled("error", ERROR)]]
        for finding in worth_showing(findings(result, self._tasks)):
            style = FOUND if finding.label else CLEAN
            word, *rest = wrap(finding.word, _WORD)
            strength = "" if finding.strength is None else f"{finding.strength:.1f}"
            worst = "" if finding.worst is None else clock(finding.worst)
            lines.append([styled(word, style), bar(finding.probability, style), styled(strength), styled(worst)])
            lines += [[styled(more, style)] for more in rest]
        columns = [styled("\n").join(column) for column in zip_longest(*lines, fillvalue=styled())]
        columns += [styled()] * (4 - len(columns))
        return columns if self._strengths else [*columns[:2], columns[3]]


def _name(result: Result) -> Text:
    name = styled(printable(result["path"]))
    if "error" in result:
        name.append(f"\n{explain(result['path'], result['error']['message'])}", "red")
    if result.get("grain"):
        name.append(f"\n{describe_grain(result)}", DIM)
    if result.get("unreliable"):
        name.append(f"\nunreliable: {printable(', '.join(result['unreliable']))}", CAUTION)
    return name


def summary(results: Iterable[Result] | Tally) -> Text:
    """`91 files · 6 grainy · 85 clean · 1 error · model grainscan-s`"""
    tally = results if isinstance(results, Tally) else Tally.of(results)
    _, clean = overall_words(tuple(tally.tasks))
    parts = [styled(count(tally.files, "file"), "bold")]
    parts += [styled(f"{files:,} {verdict(task, 1)}", FOUND) for task, files in tally.tasks.items() if files]
    parts += [styled(f"{tally.clean:,} {clean}", CLEAN)] if tally.files > tally.errors else []
    parts += [styled(f"{tally.unreliable:,} unreliable", CAUTION)] if tally.unreliable else []
    parts += [styled(count(tally.errors, "error"), ERROR)] if tally.errors else []
    parts += [styled(f"model {printable(', '.join(tally.models))}", DIM)] if tally.models else []
    return styled(" · ", DIM).join(parts)
