"""Progress, plans and summaries: on stderr, or on stdout where they are what the command is for."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from grainscan import console
from grainscan.console import Progress, count, span
from grainscan.errors import Interrupted
from grainscan.report import printable, summary, write
from grainscan.report.terminal import plain_table
from grainscan.tasks import task_of

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from grainscan.data.labels import Prevalence
    from grainscan.data.prep import PrepReport
    from grainscan.data.split import SplitPart, SplitReport
    from grainscan.options import PrepConfig, SplitConfig, TrainConfig
    from grainscan.predict import PredictReport
    from grainscan.train.plan import Plan, SplitSummary
    from grainscan.train.run import Run

_EVERY = 10.0  # seconds between the lines of a progress without a terminal
_REMEMBERED = 600.0  # seconds of which the time left is estimated: a step may take a minute
_HIGHLIGHTS = 5  # shown at a time
_SHOWN = 10  # skipped files listed


@contextmanager
def progress(*, bar: bool = True) -> Iterator[Progress]:
    """A bar if stderr is a terminal and `bar` is true, else a line every ten seconds; nothing with `-q`.

    Of the processes of a distributed training, only the first shows progress (torchrun sets RANK).
    """
    if console.verbosity < 0 or os.environ.get("RANK", "0") != "0":
        yield Progress()
    elif not (bar and console.err().is_terminal):
        yield Lines()
    else:
        with _bar() as shown:
            yield shown


class Lines(Progress):
    """A line every ten seconds: for logs, and for terminals that show the results."""

    def __init__(self) -> None:
        self.stage("")

    def stage(self, name: str, total: int | None = None) -> None:
        self._name, self._total = name, total
        self._last = time.monotonic()
        self._start: tuple[float, int] | None = None

    def advance(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if self._start is None:  # a resumed training does not begin at 0
            self._start = (now, done)
        if now - self._last < _EVERY:
            return
        self._last = now
        begun, before = self._start
        rate = (done - before) / (now - begun) if now > begun else 0.0
        parts = [
            f"{done:,} of {self._total:,}" if self._total else f"{done:,}",
            _pace(rate) if rate else "",
            f"{span((self._total - done) / rate)} left" if self._total and rate else "",
            note,
        ]
        self.say(f"{self._name}: {', '.join(filter(None, parts))}")

    def say(self, text: str) -> None:
        _tell(text)


def _pace(rate: float) -> str:
    """`4.2/s`, or of what is slow `1 min 20 s each`."""
    return f"{rate:,.1f}/s" if rate >= 0.1 or not rate else f"{span(1 / rate)} each"


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar with count, rate and time left, below the highlights of its stage."""
    from rich import progress as rich
    from rich.table import Column, Table
    from rich.text import Text

    class Rate(rich.ProgressColumn):
        """Since the first step that was seen: Rich's own rate takes two steps in a row for thousands per second."""

        def render(self, task: rich.Task) -> Text:
            begun, before = task.fields["first"] or (task.get_time(), task.completed)
            seconds = task.get_time() - begun
            return Text(_pace((task.completed - before) / seconds) if seconds > 1 else "", "dim")

    class Note(rich.ProgressColumn):
        """Gives way where the line is too long, as the bar does."""

        def render(self, task: rich.Task) -> Text:
            return Text(task.fields["note"], "yellow", overflow="ellipsis", no_wrap=True)

    class Drawn(rich.Progress):
        highlights: Sequence[tuple[float, str]] = ()

        def get_renderables(self) -> Iterable[Any]:
            table = Table.grid()
            for _, text in self.highlights:
                table.add_row(Text(text, overflow="ellipsis", no_wrap=True))
            yield table
            yield self.make_tasks_table(self.tasks)

    class Bar(Progress):
        def __init__(self, drawn: Drawn) -> None:
            self._drawn = drawn
            self._task: rich.TaskID | None = None

        def stage(self, name: str, total: int | None = None) -> None:
            if self._task is not None:
                self._drawn.remove_task(self._task)
            self._drawn.highlights = ()
            self._task = self._drawn.add_task(printable(name), total=total, note="", first=None)

        def advance(self, done: int, note: str = "") -> None:
            if self._task is not None:
                first = self._drawn.tasks[-1].fields["first"] or (self._drawn.get_time(), done)
                self._drawn.update(self._task, completed=done, note=printable(note), first=first)

        def highlight(self, rank: float, text: str) -> None:
            found = [*self._drawn.highlights, (rank, printable(text))]
            self._drawn.highlights = sorted(found, reverse=True)[:_HIGHLIGHTS]

        def say(self, text: str) -> None:
            _tell(text)

    width, whole = max(8, min(40, console.err().width - 72)), Column(no_wrap=True)
    columns = (
        rich.SpinnerColumn(table_column=whole),
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=width),
        rich.MofNCompleteColumn(table_column=whole),
        Rate(table_column=whole),
        rich.TimeRemainingColumn(table_column=whole),
        Note(),
    )
    settings: dict[str, Any] = {"transient": True, "redirect_stdout": False, "speed_estimate_period": _REMEMBERED}
    with Drawn(*columns, console=console.err(), **settings) as drawn:
        yield Bar(drawn)


@contextmanager
def keeping(what: Callable[[], str]) -> Iterator[None]:
    """Adds to an interruption of the block what is kept of its work, unless it says so already."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted(what()) from None


def kept_by_prep(options: PrepConfig) -> str:
    """What an interrupted prep keeps, for the user."""
    from grainscan.data.prep.run import PLAN_FILE, WORK_FOLDER

    if not (options.destination / WORK_FOLDER / PLAN_FILE).is_file():
        return "nothing was written"
    return f"the clips cut so far are kept in {options.destination}; the same command continues from there"


def kept_by_split(options: SplitConfig) -> str:
    """What an interrupted split leaves, for the user."""
    from grainscan.data.labels import SPLIT_RECORD
    from grainscan.data.split import JOURNAL

    if options.dry_run or not (options.data / SPLIT_RECORD / JOURNAL).is_file():
        return "nothing was moved"
    return "the same command completes the split; --undo reverts it"


def kept_by_train(options: TrainConfig, begun: float) -> str:
    """How to continue an interrupted training that started at `begun` (seconds since the epoch), for the user."""
    states = options.runs.glob("*/checkpoints/checkpoint-*/trainer_state.json")
    changed, newest = max(((path.stat().st_mtime, path.parent) for path in states), default=(-1.0, None))
    if changed < begun:
        return "no checkpoint was written yet"
    return f"to continue, add --resume {shlex.quote(str(newest))} to the same command"


def print_predict(report: PredictReport) -> None:
    """Print the table if it is wanted on stdout, and the summary of the scan."""
    if report.format == "table" and report.output is None:
        write(report.rows, sys.stdout, "table", tasks=report.tasks)
        _tell_left_out(report)
        for row in report.rows:
            if row["status"] != "ok" and row["error"].get("hint"):
                _tell(f"hint: {row['path']}: {row['error']['hint']}")
        return
    if console.verbosity >= 0:
        console.err().print(summary(report.tally))
    _tell_left_out(report)
    if report.output is not None:
        print_written(report.output, replaced=report.replaced)


def print_written(file: Path, *, replaced: bool) -> None:
    """Say where the results of a command are, and whether something else was there."""
    _tell(f"results: {file}" + (" (replaced)" if replaced else ""))


def _tell_left_out(report: PredictReport) -> None:
    if report.left_out:
        errors = f", of which {count(report.tally.errors, 'error')}" if report.tally.errors else ""
        _tell(f"not shown, as --only asks: {count(report.left_out, 'file')}{errors}")


def _tell(text: str) -> None:
    """A line on stderr. Not wrapped, so that commands in it can be copied."""
    if console.verbosity >= 0:
        console.err().print(printable(text), markup=False, soft_wrap=True)


def _print(text: str) -> None:
    """A line on stdout. Not wrapped."""
    console.out().print(printable(text), markup=False, soft_wrap=True)


def _counts(share: Prevalence) -> list[str]:
    return [f"{number:,}" for number in (share.positive, share.negative, share.unknown)]


def _data_table(
    splits: Mapping[str, SplitPart | SplitSummary], strengths: Mapping[str, Mapping[str, int]] | None = None
) -> Table:
    """A row per split and task. `strengths` are the numbers of clips whose strength is known."""
    heads = ("With", "Without", "Unknown", *(["Strengths"] if strengths else []))
    table = plain_table("Clips", "Sources", *heads, names=("Split", "Task"))
    table.pad_edge = table.show_edge = False  # a name as long as transmission_error fits into 80 columns
    for name, split in splits.items():
        first = (name, f"{split.clips:,}", f"{split.sources:,}")
        for task, share in split.prevalence.items():
            known = [f"{strengths[name][task]:,}"] if strengths else []
            table.add_row(first[0], task, *first[1:], *_counts(share), *known)
            first = ("", "", "")
    return table


def print_prep(report: PrepReport) -> None:
    """Print the clips cut, or planned, and the videos skipped, with reasons."""
    verb = {"planned": "would be written to", "written": "written to", "unchanged": "are in"}[report.state]
    clips, videos = count(len(report.clips), "clip"), count(report.videos, "video")
    _print(f"{clips} of {videos} {verb} {report.destination}")
    table = plain_table("With", "Without", "Unknown", names=("Task",))
    for task, share in report.prevalence.items():
        table.add_row(task, *_counts(share))
    if report.prevalence:
        console.out().print(table)
    for note in report.notes:
        _print(f"- {note}")
    for skipped in report.skipped[:_SHOWN]:
        _tell(f"skipped: {skipped}")
    if len(report.skipped) > _SHOWN:
        _tell(f"and {len(report.skipped) - _SHOWN:,} more, see manifest.json")
    for number, step in enumerate(report.next_steps):
        _print(f"{'or' if number else 'next'}: {step}")


def print_split(report: SplitReport) -> None:
    """Print the parts of a split with the prevalence of each task."""
    if report.state == "undone":
        _print(f"{count(len(report.assignment), 'clip')} moved back to {report.data}")
        return
    console.out().print(_data_table({part.name: part for part in report.parts}))
    for note in report.notes:
        _print(f"- {note}")
    if report.state == "planned":
        _print("nothing was moved (dry run)")
    else:
        folder = shlex.quote(str(report.data))
        _print(f"next: grainscan train {folder}")
        _print(f"undo: grainscan split {folder} --undo")


def print_plan(plan: Plan) -> None:
    """Print the result of `train --dry-run`: the resolved options, the data, leaks, and the estimate."""
    for line in plan.config.strip().splitlines():
        _print(line)
    strengths = {name: split.strengths for name, split in plan.splits.items()}
    any_known = any(known for split in strengths.values() for known in split.values())
    console.out().print(_data_table(plan.splits, strengths if any_known else None))
    for line in plan.lines():
        _print(line)
    if plan.seconds is not None:
        stages = ", ".join(f"{name} {span(value)}" for name, value in vars(plan.seconds).items() if value >= 0.5)
        cost = f"about {span(plan.seconds.total)} at the present speed of this machine; {plan.memory / 1e9:.1f} GB"
        _print(f"{cost} of memory; {plan.flops_per_view / 1e9:.2g} GFLOPs per view")
        console.out().print(f"of which {stages}")


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def print_run(run: Run) -> None:
    """Print the validation figures of a run, whether it improved the model, and where it is."""
    from grainscan.train.run import FIGURES, STRENGTH_ERROR, task_figures

    rows = task_figures(run.metrics)
    shown = [name for name in FIGURES if any(name in row for row in rows.values())]
    if shown:
        heads = (f"{name[0].upper()}{name[1:]}".replace(" ", "\n", 1) for name in shown)  # narrow ones, in two lines
        table = plain_table(*heads, names=("Validation",))
        table.pad_edge = table.show_edge = False  # all titles fit into 80 columns
        for task, row in rows.items():
            table.add_row(task_of(task).title, *(_figure(row.get(name)) for name in shown))
        console.out().print(table)
    if STRENGTH_ERROR in shown:
        _print(f"{STRENGTH_ERROR}: mean error of log2(1 + strength); 1 is about a factor of 2")
    if run.verdict:
        _print(run.verdict)
    _print(f"run {run.name}: {span(run.seconds)}, in {run.directory}")
    _print(f"model: {run.model}")
    _print("next: grainscan eval --split test")
