"""What the commands show beside their data: progress, plans and summaries, on stderr unless they are the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from grainscan import console
from grainscan.report import printable, results_table, summary, verdict

if TYPE_CHECKING:
    from rich.table import Table

    from grainscan.data.labels import Prevalence
    from grainscan.data.prep import PrepReport
    from grainscan.data.split import SplitReport
    from grainscan.options import PredictConfig
    from grainscan.predict import Outcome
    from grainscan.train.fit import Progress, Run

Result = dict[str, Any]

_EVERY = 10.0  # seconds between the lines of a scan without a terminal
_WORST = 5  # finds shown while scanning
_SHOWN = 10  # skipped files listed


@contextmanager
def bar(what: str) -> Iterator[Callable[..., None]]:
    """A progress bar, moved by calling (done, total, note)."""
    with console.progress() as progress:
        task = progress.add_task(what, total=None, note="")

        def advance(done: int, total: int | None, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=printable(note))

        yield advance


# ---------------------------------------------------------------------------------------------------------- predict


def watch(files: int, skipped: int, results: Iterator[Result]) -> Iterator[Result]:
    """Pass results on, showing how the scan stands: a live display on a terminal, else a line now and then."""
    if skipped:
        console.err().print(f"{skipped:,} files are in the log already, {files:,} to go", highlight=False)
    show = _watch_live if console.err().is_terminal else _watch_lines
    return show(files, results)


def _watch_lines(files: int, results: Iterator[Result]) -> Iterator[Result]:
    begun = last = time.monotonic()
    errors = 0
    for done, result in enumerate(results, 1):
        errors += result["status"] != "ok"
        now = time.monotonic()
        if now - last >= _EVERY:
            last = now
            rate = done / (now - begun)
            left = _span((files - done) / rate)
            console.err().print(f"{done:,} of {files:,} files, {rate:.1f}/s, {left} left, {errors:,} errors")
        yield result


def _watch_live(files: int, results: Iterator[Result]) -> Iterator[Result]:
    from rich.console import Group
    from rich.live import Live

    progress = console.progress()
    task = progress.add_task("scanning", total=files, note="")
    worst: list[tuple[float, str, str]] = []
    errors = done = 0
    with Live(progress, console=console.err(), transient=True, refresh_per_second=5) as live:
        for result in results:
            done += 1
            if result["status"] == "ok":
                for name, block in result["tasks"].items():
                    worst.append((block["probability"], name, result["path"]))
                worst = sorted(worst, reverse=True)[:_WORST]
            else:
                errors += 1
            note = f"[red]{errors:,} errors[/]" if errors else ""
            progress.update(task, completed=done, note=note)
            live.update(Group(_finds(worst), progress))
            yield result


def _finds(worst: list[tuple[float, str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for probability, task, path in worst:
        table.add_row(f"{probability:.2f}", verdict(task, 1), Text(printable(path), overflow="ellipsis", no_wrap=True))
    return table


def print_outcome(outcome: Outcome, config: PredictConfig, *, quiet: bool = False) -> None:
    """The table, where one was asked for, and what the scan came to."""
    if config.output is None and (config.format or "table") == "table":
        if outcome.rows:
            console.out().print(results_table(outcome.rows, outcome.tasks))
        console.out().print(summary(outcome.rows))
        for row in outcome.rows:
            if row["status"] != "ok" and row["error"].get("hint"):
                console.err().print(f"hint: {printable(row['path'])}: {printable(row['error']['hint'])}", markup=False)
        return
    if quiet:
        return
    found = "".join(f", {count:,} {verdict(task, 1)}" for task, count in outcome.found.items())
    failed = f", {outcome.errors:,} errors" if outcome.errors else ""
    where = f" in {printable(str(config.output))}" if config.output else ""
    console.err().print(f"{outcome.files:,} files{found}{failed}{where}", markup=False)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


# ------------------------------------------------------------------------------------------------------ prep, split


def _table(*headers: str, title: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left")
    return table


def print_prep(report: PrepReport) -> None:
    """What prep made, or would make, of which footage; what it left out and why."""
    out, err = console.out(), console.err()
    verb = {"planned": "would be written to", "written": "written to", "unchanged": "are in"}[report.state]
    out.print(f"{len(report.clips):,} clips of {report.videos:,} videos {verb} {printable(str(report.destination))}")
    table = _table("Task", "With", "Without", "Unknown")
    for task, share in report.prevalence.items():
        table.add_row(task, *_counts(share))
    if report.prevalence:
        out.print(table)
    for note in report.notes:
        out.print(f"- {printable(note)}", markup=False)
    for skipped in report.skipped[:_SHOWN]:
        err.print(f"skipped: {printable(str(skipped))}", markup=False, soft_wrap=True)
    if len(report.skipped) > _SHOWN:
        err.print(f"and {len(report.skipped) - _SHOWN:,} more, see manifest.json")
    for number, step in enumerate(report.next_steps):
        out.print(f"{'or' if number else 'next'}: {printable(step)}", markup=False)


def print_split(report: SplitReport) -> None:
    """The parts of a split with the prevalence of each task."""
    out = console.out()
    where = printable(str(report.data))
    if report.state == "undone":
        out.print(f"{len(report.assignment):,} clips are back in {where}", markup=False)
        return
    table = _table("Split", "Clips", "Sources", *(f"{task} with/without" for task in report.tasks))
    for part in report.parts:
        shares = (f"{part.prevalence[task].positive:,} / {part.prevalence[task].negative:,}" for task in report.tasks)
        table.add_row(part.name, f"{part.clips:,}", f"{part.sources:,}", *shares)
    out.print(table)
    for note in report.notes:
        out.print(f"- {printable(note)}", markup=False)
    if report.state == "planned":
        out.print("nothing was moved (dry run)")
    else:
        out.print(f"next: grainscan train {where}   (take back: grainscan split {where} --undo)", markup=False)


def _counts(share: Prevalence) -> tuple[str, str, str]:
    return f"{share.positive:,}", f"{share.negative:,}", f"{share.unknown:,}"


# ------------------------------------------------------------------------------------------------------------ train


def print_plan(plan: Mapping[str, Any]) -> None:
    """What `train --dry-run` found out: the resolved options, the data, leaks, and the estimate."""
    out = console.out()
    out.print(plan["config"].strip(), markup=False)
    table = _table("Split", "Clips", "Sources", "Task", "With", "Without", "Unknown", "Strengths")
    for name, split in plan["data"]["splits"].items():
        for task, share in split["tasks"].items():
            counts = (f"{share[key]:,}" for key in ("positive", "negative", "unknown", "strengths"))
            table.add_row(name, f"{split['clips']:,}", f"{split['sources']:,}", task, *counts)
    out.print(table)
    for name in plan["data"]["leaks"]:
        out.print(f"leak: {printable(str(name))} stands in more than one split", style="bold red", markup=False)
    estimate = plan["estimate"]
    for line in introduction(plan):
        out.print(line, markup=False)
    out.print(
        f"about {_span(estimate['seconds'])} and {estimate['memory_gb']:.1f} GB on {plan['device']} "
        f"({estimate['gflops_per_view']:g} GFLOP a view)",
        markup=False,
    )


def print_run(run: Run) -> None:
    """Where a finished run lies, and its best validation figures."""
    out = console.out()
    table = _table("Validation", "")
    for name, value in run.metrics.items():
        if isinstance(value, int | float):
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
    out.print(table)
    out.print(f"run {run.name}: {_span(run.seconds)}, in {run.directory}", markup=False)
    out.print(f"model: {run.model}", markup=False)
    out.print("next: grainscan eval --split test", markup=False)


@contextmanager
def training() -> Iterator[Progress]:
    """Show a training: a bar with the last losses on a terminal, lines at each validation everywhere."""
    from grainscan.train.fit import Progress

    class Shown(Progress):
        def __init__(self, progress: Any) -> None:
            self._bar = progress
            self._task = progress.add_task("decoding", total=None, note="")

        def decoding(self, done: int, total: int) -> None:
            self._bar.update(self._task, description="decoding", completed=done, total=total)

        def begin(self, summary: Mapping[str, Any]) -> None:
            self._bar.update(self._task, description="training", completed=0, total=summary["steps"])
            for line in introduction(summary):
                console.err().print(line, markup=False)

        def step(self, step: int, total: int) -> None:
            self._bar.update(self._task, completed=step, total=total)

        def row(self, row: Mapping[str, float]) -> None:
            figures = "  ".join(
                f"{name.removeprefix('val_')} {value:.4g}"
                for name, value in row.items()
                if name not in ("step", "epoch")
            )
            if any(name.startswith("val_") for name in row):
                console.err().print(f"step {row['step']:,.0f}  validation  {figures}", markup=False)
            else:
                self._bar.update(self._task, note=figures)

        def note(self, text: str) -> None:
            console.err().print(printable(text), markup=False)

    with console.progress() as progress:
        yield Shown(progress)


def introduction(summary: Mapping[str, Any]) -> Iterator[str]:
    """What is about to be trained, on what, how: the lines before the bar."""
    model = summary["model"]
    yield f"run {summary['name']}: {', '.join(model['tasks'])} on views of {model['views']}, {summary['precision']}"
    yield f"{model['trainable']:,} of {model['parameters']:,} parameters are trained"
    for name, split in summary["data"]["splits"].items():
        yield f"{name}: {split['clips']:,} clips of {split['sources']:,} sources"
    steps, per_epoch = summary["steps"], summary["steps_per_epoch"]
    yield f"{steps:,} steps of {summary['views_per_step']} views, {steps / per_epoch:.1f} epochs"
