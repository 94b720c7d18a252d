"""The report of `eval`: tables for a terminal, or JSON, on stdout or in a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from grainscan.console import count
from grainscan.report.formats import STDOUT, format_for, replaced
from grainscan.report.terminal import (
    CAUTION,
    DIM,
    ERROR,
    EXPERIMENTAL,
    FirstThatFits,
    bar,
    number,
    plain_table,
    print_to,
    span,
    styled,
)
from grainscan.report.words import explain, printable, verdict
from grainscan.tasks import task_of

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from grainscan.evaluate.comparison import Comparison
    from grainscan.evaluate.evaluation import EvalReport
    from grainscan.evaluate.figures import Source, TaskReport
    from grainscan.evaluate.judging import ClipError

EVALUATION_FORMATS = ("table", "json")
_SHOWN_SOURCES = 5  # the worst ones
_FEW = 20  # clips of a class, or sources: from fewer, percentile intervals are usually too narrow
_RANKING = {"auroc": "AUROC", "average_precision": "AP", "brier": "Brier", "ece": "ECE"}  # of the probabilities
_VERDICTS = {"f1": "F1", "precision": "Precision", "recall": "Recall", "accuracy": "Accuracy"}  # at the threshold
_LEGEND = (
    "AUROC: chance that a clip with the artifact gets a higher probability than one without. AP: average precision. "
    "Brier: mean squared error of the probabilities; ECE, expected calibration error: mean distance between "
    "probability and observed frequency; 0 is best for both."
)


def write_evaluation(report: EvalReport, *, format: str | None = None, output: Path | None = None) -> None:
    """Write the report to stdout (no output, or `-`) or to a file, as `table` or `json`, chosen as in `format_for`.

    Raises OutputError, UsageError.
    """
    form = format_for(format, output, EVALUATION_FORMATS)
    with nullcontext(sys.stdout) if output is None or output == STDOUT else replaced(output) as stream:
        if form == "json":
            stream.write(json.dumps(report.to_dict(), indent=2, ensure_ascii=True, allow_nan=False) + "\n")
        else:
            print_to(stream, evaluation(report))


def evaluation(report: EvalReport) -> Group:
    """Figures with intervals and baselines, then details per task."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble(
        (printable(report.model), "bold"), (" on ", DIM), (printable(report.split), "bold"),
        (f" · {count(report.clips, 'clip')}", DIM),
    )  # fmt: skip
    if report.errors:
        head.append(" · ", DIM).append(count(len(report.errors), "error"), ERROR)
    parts: list[RenderableType] = [head, *_figures(report.tasks)]
    parts += [styled(note, CAUTION) for note in _on_intervals(report.tasks)]
    parts.append(styled(_LEGEND, DIM))
    if any(block.experimental for block in report.tasks.values()):
        parts.append(styled(EXPERIMENTAL, DIM))
    alone = len(report.tasks) == 1
    if not alone and any(block.mistakes for block in report.tasks.values()):
        parts += [styled(), styled("Worst mistakes", "bold"), _mistakes(report.tasks)]
    for task, block in report.tasks.items():
        if alone or block.operating_point or block.strength or block.calibration or block.sources:
            parts += [styled(), *_details(task, block, mistakes=alone)]
    if report.compare:
        parts += [styled(), *_comparison(report.model, report.compare)]
    if report.errors:
        parts += [styled(), styled("Not judged, and not counted in any figure", "bold"), _failures(report.errors)]
    parts += [styled(f"picture: {printable(str(path))}", DIM) for path in report.plots or ()]
    if report.not_judged:
        parts.append(styled(f"labelled, but not among the model's tasks: {', '.join(report.not_judged)}", CAUTION))
    return Group(*parts)


def _figures(tasks: Mapping[str, TaskReport]) -> Iterator[RenderableType]:
    """One task: a row per figure. Several tasks: tables with a row per task, each divided if it is too wide."""
    if len(tasks) == 1:
        yield _tall(*tasks.values())
        return
    yield _counts(tasks)
    yield _fitting(tasks, _figure)
    if any(any(block.ci95.values()) for block in tasks.values()):
        yield styled("95 % intervals", "bold")
        yield _fitting(tasks, _interval)
    if any(block.baseline for block in tasks.values()):
        yield styled("Classical estimators", "bold")
        yield _baseline_table(tasks)


def _on_intervals(tasks: Mapping[str, TaskReport]) -> Iterator[str]:
    """Which intervals are rough or missing because there is little to draw from: sources if known, else clips."""
    few, none = [], []
    for task, block in tasks.items():
        having, lacking = _drawn_from(block)
        if not any(block.ci95.values()):
            none += [task] if max(having, lacking) < 2 else []  # else none were wanted
        elif min(having, lacking) < _FEW:
            few.append(f"{task} ({having:,} with it, {lacking:,} without)")
    if few:
        what = "sources" if any(block.sources for block in tasks.values()) else "clips"
        yield f"rough intervals, probably too narrow, from fewer than {_FEW} {what} of a class: {', '.join(few)}"
    if none:
        yield f"no intervals, which take two sources at least: {', '.join(none)}"


def _drawn_from(block: TaskReport) -> tuple[int, int]:
    """How many sources, or clips if none are known, have the artifact and how many lack it."""
    if block.sources:
        each = block.sources.values()
        return sum(one.positives > 0 for one in each), sum(one.positives < one.clips for one in each)
    (tn, fp), (fn, tp) = block.confusion
    return tp + fn, tn + fp


def _fitting(tasks: Mapping[str, TaskReport], cell: Callable[[TaskReport, str], Text]) -> RenderableType:
    """A table with a row per task and a column per figure, in two halves if it is too wide."""
    from rich.console import Group

    def table(heads: Mapping[str, str]) -> Table:
        made = plain_table(*heads.values(), names=["Task"])
        for task, block in tasks.items():
            made.add_row(_task(task, block), *(cell(block, key) for key in heads))
        return made

    return FirstThatFits(table({**_RANKING, **_VERDICTS}), Group(table(_RANKING), table(_VERDICTS)))


def _figure(block: TaskReport, key: str) -> Text:
    return styled(number(getattr(block, key)), "bold" if key == "auroc" else "")


def _interval(block: TaskReport, key: str) -> Text:
    return styled(span(block.ci95.get(key)), DIM)


def _task(task: str, block: TaskReport) -> Text:
    return styled(task + "*" * bool(block.experimental), "bold")


def _counts(tasks: Mapping[str, TaskReport]) -> Table:
    """What became of the clips at each threshold."""
    table = plain_table("Clips", "With it", "Found", "Missed", "False alarms", "Threshold", names=["Task"])
    for task, block in tasks.items():
        (tn, fp), (fn, tp) = block.confusion
        figures = (f"{figure:,}" for figure in (tn + fp + fn + tp, tp + fn, tp, fn, fp))
        table.add_row(_task(task, block), *figures, f"{block.threshold:.3g}")
    return table


def _baseline_table(tasks: Mapping[str, TaskReport]) -> Table:
    table = plain_table("AUROC", "95 % interval", names=["Task", "Estimator"])
    for task, block in tasks.items():
        name = _task(task, block)
        for title, value, interval in _baselines(block):
            table.add_row(name, styled(title, "cyan"), styled(number(value), "cyan"), styled(interval, DIM))
            name = styled()
    return table


def _tall(block: TaskReport) -> Table:
    table = plain_table("Value", "95 % interval", names=["Figure"])
    for key, head in {**_RANKING, **_VERDICTS}.items():
        style = "bold" if key == "auroc" else ""
        figure, interval = number(getattr(block, key)), span(block.ci95.get(key))
        table.add_row(styled(head, style), styled(figure, style), styled(interval, DIM))
        for title, value, interval in _baselines(block) if key == "auroc" else ():
            table.add_row(styled(f"  {title}", "cyan"), styled(number(value), "cyan"), styled(interval, DIM))
    return table


def _baselines(block: TaskReport) -> Iterator[tuple[str, float | None, str]]:
    """(title, AUROC, interval) of the classical estimator, and of the one that is best on these clips."""
    baseline = block.baseline
    if baseline:
        yield f"baseline: {baseline.name}", baseline.auroc, span(baseline.ci95["auroc"])
        if baseline.strongest.auroc != baseline.auroc:
            yield f"best here: {baseline.strongest.name}", baseline.strongest.auroc, ""


def _details(task: str, block: TaskReport, *, mistakes: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    (tn, fp), (fn, tp) = block.confusion
    point = block.operating_point
    yield Text.assemble(
        (f"{task}{'*' * bool(block.experimental)}", "bold"),
        f"  {count(tn + fp + fn + tp, 'clip')}, {tp + fn} {verdict(task, 1)}: {tp} found, {fn} missed, ",
        f"{count(fp, 'false alarm')}; threshold {block.threshold:.3g}",
        (f" ({point.name} on {point.split})" if point else " (the model's)", DIM),
        "" if block.min_strength is None else f"; strength at least {block.min_strength:g}",
    )
    if block.strength:
        unit = " codes" if "codes" in (task_of(task).unit or "") else ""
        yield styled(
            f"  strength: Spearman's rank correlation with the true one {number(block.strength.spearman)}, "
            f"median error {block.strength.median_error:.2f}{unit} ({count(block.strength.clips, 'clip')})"
        )
    if block.assumed_prevalence is not None and block.prevalence is not None:
        yield styled(
            f"  prevalence {block.prevalence:.3g}; "
            f"the probabilities assume {block.assumed_prevalence:.3g} (--prevalence)"
        )
    if block.calibration:
        fit = block.calibration
        yield styled(
            f"  calibration on {fit.split}: ECE is {number(fit.ece)}; it would be {number(fit.ece_scaled)} "
            f"with logits divided by {fit.temperature:.2f} (temperature fitted there)"
        )
    if mistakes and block.mistakes:
        yield styled("Worst mistakes", "bold")
        yield _mistakes({task: block})
    if block.sources:
        more = len(block.sources) > _SHOWN_SOURCES
        yield styled(f"Worst of {len(block.sources):,} sources" if more else "Sources, worst first", "bold")
        yield _sources(block.sources)


def _mistakes(tasks: Mapping[str, TaskReport]) -> Table:
    table = plain_table(names=["Clip", "Label"])
    table.add_column("Probability", no_wrap=True)
    for task, block in tasks.items():
        for mistake in block.mistakes:
            label, probability = verdict(task, mistake.label), bar(mistake.probability, "red")
            table.add_row(styled(printable(mistake.name)), label, probability)
    return table


def _sources(sources: Mapping[str, Source]) -> Table:
    table = plain_table("Clips", "Positive", "Accuracy", "AUROC", "Brier", names=["Source"])
    for name, row in list(sources.items())[:_SHOWN_SOURCES]:
        figures = (number(figure) for figure in (row.accuracy, row.auroc, row.brier))
        table.add_row(styled(printable(name)), f"{row.clips:,}", f"{row.positives:,}", *figures)
    return table


def _comparison(model: str, other: Comparison) -> Iterator[RenderableType]:
    from rich.text import Text

    yield styled("Comparison: AUROC on the same clips, paired bootstrap", "bold")
    yield from (
        Text.assemble((f"{side}: ", "bold"), printable(name)) for side, name in (("A", model), ("B", other.model))
    )
    table = plain_table("Clips", "A", "B", "A − B", "95 % interval", "p", names=["Task"])
    for task, pair in other.tasks.items():
        interval, style = "–", ""
        if pair.ci95 is not None:
            low, high = pair.ci95
            interval, style = f"{low:+.3f} to {high:+.3f}", "green" if low > 0 else "red" if high < 0 else ""
        difference = "–" if pair.difference is None else f"{pair.difference:+.3f}"
        areas = (number(area) for area in pair.auroc)
        table.add_row(task, f"{pair.clips:,}", *areas, styled(difference, style), interval, number(pair.p_value))
    yield table


def _failures(errors: Sequence[ClipError]) -> Table:
    table = plain_table(names=["Clip", "Error"])
    for error in errors:
        message = explain(error["path"], error["message"])
        table.add_row(styled(printable(error["name"])), styled(message or error["type"], "red"))
    return table
