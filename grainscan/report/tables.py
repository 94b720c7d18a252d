"""The results of `predict` for a terminal: a table and a summary line, both Rich renderables."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from os.path import commonprefix
from textwrap import wrap
from typing import TYPE_CHECKING

from grainscan.console import count
from grainscan.report.findings import CLEAN as CLEAN_WORD
from grainscan.report.findings import Finding, Tally, findings, is_found, overall_words, tasks_of, worth_showing
from grainscan.report.terminal import CAUTION, CLEAN, DIM, ERROR, EXPERIMENTAL, FOUND, bar, plain_table, styled
from grainscan.report.words import describe_grain, describe_video, explain, moment, printable, times, unit_of, verdict
from grainscan.results import Result
from grainscan.tasks import task_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

_FILE = "File"  # the head of the names
_ROOMY = 100  # columns from which there is room to describe the videos
_WORD = 20  # characters of a verdict in a line
_FOUND = 30  # characters of a line that names what was found; more where there is room
_MOST_FOUND = 48
_APART = "in brackets: times of what is not found in the file; events go by the moment, verdicts by the whole file"


def results_table(
    results: Sequence[Result], tasks: Sequence[str] | None = None, units: Mapping[str, str] | None = None
) -> RenderableType:
    """A row per file. `units` are those of strength, by task; the default is that of the task's record.

    For a single task, its verdict; for several, the artifacts found with their probabilities, else the likeliest one.
    An error, or the reasons why a verdict is unreliable, is below the name of the file.
    """
    return _Results(results, tuple(tasks or tasks_of(results)), units or {})


class _Results:
    def __init__(self, results: Sequence[Result], tasks: Sequence[str], units: Mapping[str, str]) -> None:
        self._results, self._tasks, self._units = results, tasks, units
        self._strengths = any("strength" in block for result in results for block in result.get("tasks", {}).values())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = min(_MOST_FOUND, max(_FOUND, options.max_width // 3))
        rows = [self._found(each, room) if len(self._tasks) > 1 else self._verdicts(each) for each in self._results]
        folder, videos = self._layout(rows, console, options)
        table = self._table(folder, videos)
        for result, cells in zip(self._results, rows, strict=True):
            table.add_row(_name(result, folder), *cells, *([describe_video(result)] if videos else []))
        yield table
        shown = [each for result in self._results for each in worth_showing(findings(result, self._tasks))]
        if any(self._apart(result) for result in self._results):
            yield styled(_APART, DIM)
        if note := self._units_of(shown):
            yield styled(note, DIM)
        if any(finding.marked.endswith("*") for finding in shown):
            yield styled(EXPERIMENTAL, DIM)
        if note := _thresholds(shown, self._tasks):
            yield styled(note, DIM)

    def _units_of(self, shown: Sequence[Finding]) -> str:
        """`strength in 8-bit luma codes`, of the strengths in the table; empty if there is none."""
        single = len(self._tasks) == 1
        strong = [
            each for each in shown if each.strength is not None and (single or each.label or each.least is not None)
        ]
        known = {each.task: unit_of(each.task, self._units) for each in strong}
        if len(known) == 1:
            return f"strength in {printable(*known.values())}"
        each = [f"of {task_of(task).title} in {printable(known[task])}" for task in self._tasks if task in known]
        return f"strength {', '.join(each)}" if each else ""

    def _apart(self, result: Result) -> bool:
        """Whether an event is of an artifact that the verdict on the file does not find."""
        lasting = {event["task"] for event in result.get("events", ())}.intersection(self._tasks)
        return any(not is_found(result, task) for task in lasting)

    def _layout(self, rows: list[list[Text]], console: Console, options: ConsoleOptions) -> tuple[str, bool]:
        """The folder to leave out of the names, and whether to describe the videos, so that no name is broken.

        Names give way first: they lose the folder that they share. Then the videos go, if that is of use.
        """
        from rich.cells import cell_len
        from rich.measure import Measurement

        shared = _folder_of(result["path"] for result in self._results)
        longest = max((cell_len(printable(result["path"])) for result in self._results), default=0)
        roomy = options.max_width >= _ROOMY
        for videos in (True, False) if roomy else (False,):
            others = self._table("", videos)
            for result, cells in zip(self._results, rows, strict=True):
                others.add_row("", *cells, *([describe_video(result)] if videos else []))
            width = Measurement.get(console, options.update(width=10_000), others).maximum - len(_FILE)
            for folder in ("", shared):
                if width + max(len(_FILE), longest - cell_len(printable(folder))) <= options.max_width:
                    return folder, videos
        return shared, roomy

    def _table(self, folder: str, videos: bool) -> Table:
        """An empty table of files whose names are shown without `folder`, which its head names."""
        table = plain_table(names=[f"{_FILE} in {printable(folder)}" if folder else _FILE])
        if len(self._tasks) > 1:
            table.add_column("Found, probability" + " (strength)" * self._strengths, no_wrap=True)
        else:
            table.add_column("Verdict", no_wrap=True)
            table.add_column("Probability", no_wrap=True)
            if self._strengths:
                table.add_column("Strength", justify="right", no_wrap=True)
        table.add_column("Worst at", justify="right", no_wrap=True)
        if videos:
            table.add_column("Video", overflow="fold", style=DIM)
        return table

    def _found(self, result: Result, room: int) -> list[Text]:
        """`grainy 0.97 (4.1) · banding 0.81` in lines of at most `room` characters, then events, in brackets
        those of what is not found in the file; and the worst time."""
        ranked = findings(result, self._tasks)
        shown = worth_showing(ranked)
        worst = next((moment(each.worst, result) for each in shown if each.label and each.worst is not None), "")
        lines = [styled("error", ERROR)] if result["status"] != "ok" else []
        for finding in shown:
            if finding.label:
                strength = f" ({_strength(finding)})" if finding.strength is not None else ""
                *rest, word = wrap(finding.marked, room - len(" 0.00") - len(strength))
                lines += [styled(line, FOUND) for line in rest]
                item = styled(f"{word} {finding.probability:.2f}{strength}", FOUND)
                if lines and not rest and lines[-1].cell_len + 3 + item.cell_len <= room:
                    lines[-1] = styled(" · ", DIM).join([lines[-1], item])
                else:
                    lines.append(item)
            else:
                strength = f" ({_strength(finding)})" if finding.least is not None else ""
                likeliest = f"{task_of(finding.task).title} {finding.probability:.2f}{strength}"
                lines.append(styled(CLEAN_WORD, CLEAN))
                if len(CLEAN_WORD) + 3 + len(likeliest) <= room:
                    lines[-1].append(f" · {likeliest}", DIM)
                else:
                    lines += [styled(line, DIM) for line in wrap(likeliest, room)]
        lines += [styled(line, DIM) for text in self._lasting(result) for line in wrap(text, room)]
        return [styled("\n").join(lines), styled(worst)]

    def _lasting(self, result: Result) -> Iterator[str]:
        """`black screen: 0:12.4–0:12.9`, the events of each artifact, in brackets if it is not found in the file."""
        for task in dict.fromkeys(event["task"] for event in result.get("events", ()) if event["task"] in self._tasks):
            text = f"{task_of(task).found}: {times([event for event in result['events'] if event['task'] == task])}"
            yield text if is_found(result, task) else f"({text})"

    def _verdicts(self, result: Result) -> list[Text]:
        """Verdict, probability, strength and time: a line per task to show, more where a word is long; then events, as
        in `_found`."""
        lines = [] if result["status"] == "ok" else [[styled("error", ERROR)]]
        for finding in worth_showing(findings(result, self._tasks)):
            style = FOUND if finding.label else CLEAN
            word, *rest = wrap(finding.marked, _WORD)
            strength = _strength(finding)
            worst = "" if finding.worst is None else moment(finding.worst, result)
            lines.append([styled(word, style), bar(finding.probability, style), styled(strength), styled(worst)])
            lines += [[styled(more, style)] for more in rest]
        lines += [[styled(line, DIM)] for text in self._lasting(result) for line in wrap(text, _FOUND)]
        columns = [styled("\n").join(column) for column in zip_longest(*lines, fillvalue=styled())]
        columns += [styled()] * (4 - len(columns))
        return columns if self._strengths else [*columns[:2], columns[3]]


def _folder_of(paths: Iterable[str]) -> str:
    """The folder that all names begin with, with its separator; empty if there is none."""
    shared = commonprefix(list(paths))  # noqa: RUF071 (of URLs, too)
    return shared[: max(shared.rfind("/"), shared.rfind(os.sep)) + 1]


def _thresholds(shown: Sequence[Finding], tasks: Sequence[str]) -> str:
    """The thresholds of artifacts that were found below 0.5, or not found above it, which makes people wonder, and the
    least strength that counts of those that are too weak."""
    odd = {each.task for each in shown if each.least is None and bool(each.label) != (each.probability >= 0.5)}
    each = []
    for task in (task for task in tasks if task in odd):
        known = {finding.threshold for finding in shown if finding.task == task}
        each.append(f"{task_of(task).title} {_range(known, '.2f')}")
    notes = [f"thresholds: {', '.join(each)}; --threshold sets others"] if each else []
    least = {task: {each.least for each in shown if each.task == task and each.least is not None} for task in tasks}
    strengths = [f"{task_of(task).title} {_range(known, 'g')}" for task, known in least.items() if known]
    notes += [f"minimum strength: {', '.join(strengths)}; --min-strength sets others"] if strengths else []
    return "\n".join(notes)


def _range(values: Collection[float], form: str) -> str:
    """`0.60`, or `0.50–0.60` for several values."""
    return "–".join(f"{value:{form}}" for value in sorted({min(values), max(values)}))


def _strength(finding: Finding) -> str:
    """`4.1`, rounded down where that is less than the least that counts; empty for a task without a strength."""
    if finding.strength is None:
        return ""
    return f"{finding.strength if finding.least is None else math.floor(10 * finding.strength) / 10:.1f}"


def _name(result: Result, folder: str) -> Text:
    name = styled(printable(result["path"].removeprefix(folder)))
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
