"""Results and figures for a terminal, as Rich renderables. Nothing here prints; Rich is imported on use.

Colours: what was found stands out, what is clean recedes, errors are red. Every name is a `Text`, never markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grainscan.report.words import Result, clock, describe_video, explain, printable, tasks_of, verdict, worst_window

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_FOUND, _CLEAN, _ERROR, _DIM = "bold yellow", "green", "bold red", "dim"
_BAR = 8  # characters of a probability bar
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SHOWN_SOURCES = 5  # the worst ones
_HEADS = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "accuracy": "Accuracy",
    "brier": "Brier",
    "ece": "ECE",
}


# ---------------------------------------------------------------------------------------------------------- predict


def results_table(results: Sequence[Result], tasks: Sequence[str] | None = None) -> Table:
    """One row a file. A model with one task gets columns for it, one with several a list of what was found."""
    tasks = tuple(tasks or tasks_of(results))
    table = _table()
    table.add_column("File", overflow="fold", ratio=3, min_width=16)
    table.add_column("Verdict")
    table.add_column("Probability", no_wrap=True)
    strengths = any("strength" in task for result in results for task in result.get("tasks", {}).values())
    if strengths:
        table.add_column("Strength", justify="right")
    table.add_column("Worst at", justify="right", no_wrap=True)
    table.add_column("Video", overflow="fold", ratio=2, min_width=16)
    for result in results:
        table.add_row(*(_ok_row if result["status"] == "ok" else _error_row)(result, tasks, strengths))
    return table


def _ok_row(result: Result, tasks: Sequence[str], strengths: bool) -> list[RenderableType]:
    from rich.text import Text

    judged = result["tasks"]
    ranked = sorted((task for task in tasks if task in judged), key=lambda task: -judged[task]["probability"])
    found = [task for task in ranked if judged[task]["label"]]
    shown = (found or ranked[:1]) if len(tasks) > 1 else ranked  # of many tasks the found ones, else the likeliest
    words, bars, strong, worst = Text(), Text(), Text(), Text()
    for number, task in enumerate(shown):
        block, end = judged[task], "\n" if number + 1 < len(shown) else ""
        style = _FOUND if block["label"] else _CLEAN
        word = verdict(task, 1) if block["label"] else "clean" if len(tasks) > 1 else verdict(task, 0)
        words.append(word + end, style)
        bars.append(f"{block['probability']:.2f} ", style).append(_bar(block["probability"]) + end, style)
        strong.append((f"{block['strength']:.1f}" if block.get("strength") is not None else "") + end)
        window = worst_window(result, task)
        worst.append((clock(window["start"]) if window else "") + end)
    cells: list[RenderableType] = [Text(printable(result["path"])), words, bars]
    return [*cells, *([strong] if strengths else []), worst, Text(describe_video(result), _DIM)]


def _error_row(result: Result, tasks: Sequence[str], strengths: bool) -> list[RenderableType]:
    from rich.text import Text

    empty: list[RenderableType] = ["", *([""] if strengths else []), ""]
    return [Text(printable(result["path"])), Text("error", _ERROR), *empty, Text(explain(result), "red")]


def _bar(probability: float) -> str:
    eighths = round(8 * _BAR * min(1.0, max(0.0, probability)))
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)


def summary(results: Iterable[Result]) -> Text:
    """`91 files · 6 grainy · 85 clean · 1 error · model grainscan-s`, counted as the results come."""
    from rich.text import Text

    files, errors, clean = 0, 0, 0
    found: dict[str, int] = {}
    models: dict[str, None] = {}
    for result in results:
        files += 1
        if result["status"] != "ok":
            errors += 1
            continue
        models.setdefault(str(result["model"]))
        labels = {task: block["label"] for task, block in result["tasks"].items()}
        clean += not any(labels.values())
        for task, label in labels.items():
            found[task] = found.get(task, 0) + label
    parts = [Text(_count(files, "file"), "bold")]
    parts += [Text(f"{count} {verdict(task, 1)}", _FOUND) for task, count in found.items() if count]
    parts += [Text(f"{clean} clean", _CLEAN)] if files > errors else []
    parts += [Text(_count(errors, "error"), _ERROR)] if errors else []
    parts += [Text(f"model {printable(', '.join(models))}", _DIM)] if models else []
    line = Text()
    for part in parts:
        line.append(" · " if line else "", _DIM).append_text(part)
    return line


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# ------------------------------------------------------------------------------------------------------------- eval


def evaluation(report: Mapping[str, Any]) -> RenderableType:
    """Everything that `eval` measured: figures with intervals and baseline, then what each task has to explain."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble(
        (printable(str(report["model"])), "bold"), (" on ", _DIM), (printable(str(report["split"])), "bold"),
        (f" · {_count(report['clips'], 'clip')}", _DIM),
    )  # fmt: skip
    if report["errors"]:
        head.append(" · ", _DIM).append(_count(len(report["errors"]), "error"), _ERROR)
    parts: list[RenderableType] = [head, _figures(report["tasks"])]
    for task, block in report["tasks"].items():
        parts += [Text(""), *_details(task, block)]
    if "compare" in report:
        parts += [Text(""), _comparison(report)]
    if report["errors"]:
        parts += [Text(""), _failures(report["errors"])]
    parts += [Text(f"picture: {printable(path)}", _DIM) for path in report.get("plots", ())]
    if report.get("not_judged"):
        parts.append(Text(f"labels that this model does not judge: {', '.join(report['not_judged'])}", "yellow"))
    return Group(*parts)


def _figures(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    """One task: a row a figure, which any terminal has room for. Several: a row a task, to be compared."""
    return _tall(next(iter(tasks.values()))) if len(tasks) == 1 else _wide(tasks)


def _tall(block: Mapping[str, Any]) -> Table:
    """A row a figure: its value, its 95 % interval, and those of the baselines."""
    from rich.text import Text

    table = _table()
    table.add_column("Figure")
    table.add_column("Value", justify="right")
    intervals = any(block["ci95"].values())
    if intervals:
        table.add_column("95 %", justify="right", style=_DIM)
    baselines = _baselines(block)
    for title, _, _ in baselines:
        table.add_column(title, justify="right")
    for key, head in _HEADS.items():
        cells = [Text(_number(block[key]), "bold" if key == "auroc" else "")]
        if intervals:
            cells.append(Text(_span(block["ci95"].get(key))))
        if key == "auroc":
            cells += [
                Text(f"{_number(value)}  {_span(span)}" if span else _number(value)) for _, value, span in baselines
            ]
        table.add_row(head, *cells)
    return table


def _baselines(block: Mapping[str, Any]) -> list[tuple[str, float | None, Sequence[float] | None]]:
    """(title, AUROC, interval) of the classical detector chosen beforehand, and of a stronger one on these clips."""
    baseline = block.get("baseline")
    if not baseline:
        return []
    found = [(f"baseline: {baseline['name']}", baseline["auroc"], baseline["ci95"]["auroc"])]
    strongest = baseline["strongest"]
    if strongest["auroc"] != baseline["auroc"]:
        found.append((f"best here: {strongest['name']}", strongest["auroc"], None))
    return found


def _wide(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a task, its 95 % intervals and its baselines below."""
    from rich.text import Text

    table = _table()
    table.add_column("Task")
    for head in _HEADS.values():
        table.add_column(head, justify="right")
    for task, block in tasks.items():
        figures = [Text(_number(block[key]), "bold" if key == "auroc" else "") for key in _HEADS]
        table.add_row(Text(task, "bold"), *figures)
        if any(block["ci95"].values()):
            spans = [Text(_span(block["ci95"].get(key)), _DIM) for key in _HEADS]
            table.add_row(Text("  95 % interval", _DIM), *spans)
        for title, value, span in _baselines(block):
            table.add_row(Text(f"  {title}", "cyan"), Text(_number(value), "cyan"))
            if span:
                table.add_row("", Text(_span(span), _DIM))
    return table


def _details(task: str, block: Mapping[str, Any]) -> list[RenderableType]:
    from rich.text import Text

    (tn, fp), (fn, tp) = block["confusion"]
    lines = [
        Text.assemble(
            (task, "bold"),
            f"  {_count(tn + fp + fn + tp, 'clip')}, {tp + fn} {verdict(task, 1)}: {tp} found, {fn} missed, ",
            f"{fp} false alarm{'' if fp == 1 else 's'}; threshold {block['threshold']:.3g}",
            (_origin(block), _DIM),
        )
    ]
    if "strength" in block:
        strength = block["strength"]
        lines.append(
            Text(
                f"  strength: Spearman {_number(strength['spearman'])} against the true one, "
                f"median error {strength['median_error']:.2f} ({_count(strength['clips'], 'clip')})"
            )
        )
    if "calibration" in block:
        fit = block["calibration"]
        lines.append(
            Text(
                f"  calibration on {fit['split']}: ECE {_number(fit['ece'])}, "
                f"with temperature {fit['temperature']:.2f} {_number(fit['ece_scaled'])}"
            )
        )
    parts: list[RenderableType] = [*lines]
    if block["mistakes"]:
        parts.append(_mistakes(task, block["mistakes"]))
    if block.get("sources"):
        parts.append(_sources(block["sources"]))
    return parts


def _origin(block: Mapping[str, Any]) -> str:
    point = block.get("operating_point")
    return f" ({point['name']} on {point['split']})" if point else " (the model's)"


def _mistakes(task: str, mistakes: Sequence[Mapping[str, Any]]) -> Table:
    from rich.text import Text

    table = _table(title="Worst mistakes")
    table.add_column("Clip", overflow="fold", min_width=24)
    table.add_column("Is")
    table.add_column("Probability", no_wrap=True)
    for mistake in mistakes:
        bar = Text(f"{mistake['probability']:.2f} {_bar(mistake['probability'])}", "red")
        table.add_row(Text(printable(mistake["name"])), verdict(task, mistake["label"]), bar)
    return table


def _sources(sources: Mapping[str, Mapping[str, Any]]) -> Table:
    from rich.text import Text

    shown = list(sources.items())[:_SHOWN_SOURCES]
    more = len(sources) - len(shown)
    table = _table(title=f"Worst sources of {len(sources)}" if more > 0 else "Sources, the worst first")
    table.add_column("Source", overflow="fold", min_width=24)
    for head in ("Clips", "Positive", "Accuracy", "AUROC", "Brier"):
        table.add_column(head, justify="right")
    for name, row in shown:
        figures = (_number(row[key]) for key in ("accuracy", "auroc", "brier"))
        table.add_row(Text(printable(name)), str(row["clips"]), str(row["positives"]), *figures)
    return table


def _comparison(report: Mapping[str, Any]) -> Table:
    from rich.text import Text

    other = report["compare"]
    first, second = (Text(printable(str(name))) for name in (report["model"], other["model"]))
    table = _table(title="Comparison: AUROC on the same clips, paired bootstrap")
    table.add_column("Task")
    table.add_column("Clips", justify="right")
    for head in (first, second, "Difference", "95 % interval", "p"):
        table.add_column(head, justify="right")
    for task, block in other["tasks"].items():
        low_high = block["ci95"]
        decided = low_high is not None and (low_high[0] > 0 or low_high[1] < 0)
        style = ("green" if low_high[0] > 0 else "red") if decided else ""
        difference = "–" if block["difference"] is None else f"{block['difference']:+.3f}"
        table.add_row(
            task, str(block["clips"]), *(_number(area) for area in block["auroc"]), Text(difference, style),
            _span(low_high, signed=True), "–" if block["p_value"] is None else f"{block['p_value']:.3f}",
        )  # fmt: skip
    return table


def _failures(errors: Sequence[Mapping[str, Any]]) -> Table:
    from rich.text import Text

    table = _table(title="Not judged, and so in no figure")
    table.add_column("Clip", overflow="fold", min_width=24)
    table.add_column("Error", overflow="fold", style="red")
    for error in errors:
        table.add_row(Text(printable(error["name"])), Text(explain({"path": error["path"], "error": error})))
    return table


def _table(title: str | None = None) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", header_style="bold", pad_edge=False
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _span(interval: Sequence[float] | None, *, signed: bool = False) -> str:
    if interval is None:
        return "–"
    low, high = interval
    return f"{low:+.3f} to {high:+.3f}" if signed else f"{low:.2f}–{high:.2f}"
