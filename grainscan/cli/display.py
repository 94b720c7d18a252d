"""What the commands show beside their data: progress, plans and summaries, on stderr unless they are the data."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grainscan import console
from grainscan.console import Progress, count, span
from grainscan.errors import Interrupted
from grainscan.report import printable, summary, write
from grainscan.report.terminal import plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from grainscan.data.prep import PrepReport
    from grainscan.data.split import SplitReport
    from grainscan.options import PrepConfig, SplitConfig, TrainConfig
    from grainscan.predict import PredictReport
    from grainscan.train.plan import Plan
    from grainscan.train.run import Run

_EVERY = 10.0  # seconds between the lines of a progress without a terminal
_HIGHLIGHTS = 5  # shown at a time
_SHOWN = 10  # skipped files listed


# --------------------------------------------------------------------------------------------------------- progress


@contextmanager
def progress(*, bar: bool = True) -> Iterator[Progress]:
    """How far a command has come: a bar where stderr is a terminal, else (or without `bar`) a line now and then.

    With `-q` nothing is shown, nor by any but the first process of a training (torchrun sets RANK).
    """
    if console.verbosity < 0 or os.environ.get("RANK", "0") != "0":
        yield Progress()
    elif not (bar and console.err().is_terminal):
        yield Lines()
    else:
        with _bar() as shown:
            yield shown


class Lines(Progress):
    """A line every ten seconds: for logs, and for terminals that the results are written to."""

    def __init__(self) -> None:
        self.stage("")

    def stage(self, name: str, total: int | None = None) -> None:
        self._name, self._total = name, total
        self._last = time.monotonic()
        self._start: tuple[float, int] | None = None

    def advance(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if self._start is None:  # the rate is measured from here: a training may go on in the middle of its steps
            self._start = (now, done)
        if now - self._last < _EVERY:
            return
        self._last = now
        begun, before = self._start
        rate = (done - before) / (now - begun) if now > begun else 0.0
        parts = [f"{done:,} of {self._total:,}" if self._total else f"{done:,}"]
        if rate:
            parts.append(f"{rate:.1f}/s")
        if self._total and rate:
            parts.append(f"{span((self._total - done) / rate)} left")
        self.say(f"{self._name}: {', '.join([*parts, *([note] if note else [])])}")

    def say(self, text: str) -> None:
        console.err().print(printable(text), markup=False, soft_wrap=True)


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar with count, rate and time left, below the highlights of its stage."""
    from rich import progress as rich
    from rich.table import Table
    from rich.text import Text

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed else "", "dim")

    class Drawn(rich.Progress):
        highlights: list[tuple[float, str]]

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
            self._drawn.highlights = []
            self._task = self._drawn.add_task(printable(name), total=total, note="")

        def advance(self, done: int, note: str = "") -> None:
            if self._task is not None:
                self._drawn.update(self._task, completed=done, note=printable(note))

        def highlight(self, rank: float, text: str) -> None:
            found = [*self._drawn.highlights, (rank, printable(text))]
            self._drawn.highlights = sorted(found, reverse=True)[:_HIGHLIGHTS]

        def say(self, text: str) -> None:
            console.err().print(printable(text), markup=False, soft_wrap=True)

    width = max(8, min(40, console.err().width - 64))
    columns = (
        rich.SpinnerColumn(),
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=width),
        rich.MofNCompleteColumn(),
        Rate(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}", style="yellow", markup=False),
    )
    Drawn.highlights = []
    with Drawn(*columns, console=console.err(), transient=True, redirect_stdout=False) as drawn:
        yield Bar(drawn)


# ------------------------------------------------------------------------------------------------------ interruptions


@contextmanager
def keeping(what: Callable[[], str]) -> Iterator[None]:
    """An interruption of the block says what is kept of its work, unless it says so already."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted(what()) from None


def kept_by_prep(options: PrepConfig) -> str:
    """What is true of an interrupted prep."""
    from grainscan.data.prep.run import PLAN_FILE, WORK_FOLDER

    if not (options.destination / WORK_FOLDER / PLAN_FILE).is_file():
        return "nothing was written"
    return f"the clips cut so far are kept in {options.destination}; the same command continues from there"


def kept_by_split(options: SplitConfig) -> str:
    """What is true of an interrupted split."""
    from grainscan.data.labels import SPLIT_RECORD
    from grainscan.data.split import JOURNAL

    if options.dry_run or not (options.data / SPLIT_RECORD / JOURNAL).is_file():
        return "nothing was moved"
    return "the same command completes the split, --undo takes it back"


def kept_by_train(options: TrainConfig, begun: float) -> str:
    """What is true of a training that began at this time and was interrupted."""
    states = [
        path
        for path in options.runs.glob("*/checkpoints/checkpoint-*/trainer_state.json")
        if path.stat().st_mtime >= begun
    ]
    if not states:
        return "no checkpoint was written yet"
    newest = max(states, key=lambda path: path.stat().st_mtime).parent
    return f"to continue, add --resume {shlex.quote(str(newest))} to the same command"


# ---------------------------------------------------------------------------------------------------------- predict


def print_predict(report: PredictReport) -> None:
    """The table, where one was asked for, and what the scan came to."""
    if report.format == "table" and report.output is None:
        write(report.rows, sys.stdout, "table", tasks=report.tasks)
        for row in report.rows:
            if row["status"] != "ok" and row["error"].get("hint"):
                _tell(f"hint: {row['path']}: {row['error']['hint']}")
        return
    if console.verbosity >= 0:
        console.err().print(summary(report.tally))
    if report.output is not None:
        _tell(f"results: {report.output}" + (" (replaced)" if report.replaced else ""))


def _tell(text: str, *, data: bool = False) -> None:
    """A line on stderr (nothing with -q), or on stdout where it is what was asked for. Commands in it can be copied."""
    if data or console.verbosity >= 0:
        where = console.out() if data else console.err()
        where.print(printable(text), markup=False, soft_wrap=True)


def _command(*words: str | Path) -> str:
    return shlex.join(map(str, words))


# ------------------------------------------------------------------------------------------------------ prep, split


def _data_table(splits: Mapping[str, tuple[int, int, Mapping[str, tuple[int, ...]]]]) -> Table:
    """A row per split and task: {split: (clips, sources, {task: (with, without, unknown, with a strength)})}."""
    counted = max((len(counts) for *_, tasks in splits.values() for counts in tasks.values()), default=0)
    heads = ("With", "Without", "Unknown", "Strengths")[:counted]
    table = plain_table("Clips", "Sources", *heads, names=("Split", "Task"))
    table.pad_edge = table.show_edge = False  # a name as long as transmission_error fits into 80 columns
    for name, (clips, sources, tasks) in splits.items():
        first = (name, f"{clips:,}", f"{sources:,}")
        for task, counts in tasks.items():
            split, *sizes = first
            table.add_row(split, task, *sizes, *(f"{value:,}" for value in counts))
            first = ("", "", "")
    return table


def print_prep(report: PrepReport) -> None:
    """What prep made, or would make, of which footage; what it left out and why."""
    verb = {"planned": "would be written to", "written": "written to", "unchanged": "are in"}[report.state]
    clips, videos = count(len(report.clips), "clip"), count(report.videos, "video")
    _tell(f"{clips} of {videos} {verb} {report.destination}", data=True)
    table = plain_table("With", "Without", "Unknown", names=("Task",))
    for task, share in report.prevalence.items():
        table.add_row(task, *(f"{number:,}" for number in (share.positive, share.negative, share.unknown)))
    if report.prevalence:
        console.out().print(table)
    for note in report.notes:
        _tell(f"- {note}", data=True)
    for skipped in report.skipped[:_SHOWN]:
        _tell(f"skipped: {skipped}")
    if len(report.skipped) > _SHOWN:
        _tell(f"and {len(report.skipped) - _SHOWN:,} more, see manifest.json")
    for number, step in enumerate(report.next_steps):
        _tell(f"{'or' if number else 'next'}: {step}", data=True)


def print_split(report: SplitReport) -> None:
    """The parts of a split with the prevalence of each task."""
    if report.state == "undone":
        _tell(f"{count(len(report.assignment), 'clip')} moved back to {report.data}", data=True)
        return
    parts = {}
    for part in report.parts:
        shares = {task: part.prevalence[task] for task in report.tasks}
        counts = {task: (share.positive, share.negative, share.unknown) for task, share in shares.items()}
        parts[part.name] = (part.clips, part.sources, counts)
    console.out().print(_data_table(parts))
    for note in report.notes:
        _tell(f"- {note}", data=True)
    if report.state == "planned":
        _tell("nothing was moved (dry run)", data=True)
    else:
        _tell(f"next: {_command('grainscan', 'train', report.data)}", data=True)
        _tell(f"undo: {_command('grainscan', 'split', report.data, '--undo')}", data=True)


# ------------------------------------------------------------------------------------------------------------ train


def print_plan(plan: Plan) -> None:
    """What `train --dry-run` found out: the resolved options, the data, leaks, and the estimate."""
    for line in plan.config.strip().splitlines():
        _tell(line, data=True)
    strengths = any(known for split in plan.splits.values() for known in split.strengths.values())
    splits = {}
    for name, split in plan.splits.items():
        counts = {
            task: (share.positive, share.negative, share.unknown, *([split.strengths[task]] if strengths else []))
            for task, share in split.prevalence.items()
        }
        splits[name] = (split.clips, split.sources, counts)
    console.out().print(_data_table(splits))
    for line in plan.lines():
        _tell(line, data=True)
    if plan.seconds is not None:
        stages = ", ".join(f"{name} {span(value)}" for name, value in vars(plan.seconds).items() if value >= 0.5)
        cost = f"about {span(plan.seconds.total)} ({stages}) and {plan.memory / 1e9:.1f} GB"
        _tell(f"{cost}; {plan.flops_per_view / 1e9:.2g} GFLOPs per view", data=True)


def print_run(run: Run) -> None:
    """Where a finished run is, its validation figures, and whether it gained anything."""
    before, after = run.metrics.get("before") or {}, run.metrics.get("after") or {}
    if after:
        table = plain_table("Before", "After", names=("Validation",))
        for name, value in after.items():
            if name != "score":
                table.add_row(name.replace("_", " "), f"{before[name]:.4g}" if name in before else "", f"{value:.4g}")
        console.out().print(table)
    if run.verdict:
        _tell(run.verdict, data=True)
    _tell(f"run {run.name}: {span(run.seconds)}, in {run.directory}", data=True)
    _tell(f"model: {run.model}", data=True)
    _tell("next: grainscan eval --split test", data=True)
