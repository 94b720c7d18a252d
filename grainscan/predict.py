"""`grainscan predict`: from inputs to results, written to a file or a stream.

Results for a file are kept in a log while they are computed, so that an interruption loses none. A JSONL file is its
own log; other files are written from a log beside them, such as `report.html.partial.jsonl`, which the same command
continues and which is removed once the file is complete. JSONL, JSON and CSV are streamed to stdout; only tables, pages
and results in another order than that of the paths hold all results in memory.

A log of an earlier scan among the inputs gives its rows as they are: nothing is decoded for them.

The exit code is 1 if an input could not be judged, whatever else was found, since the answer is then incomplete; else
3 if `--fail-on` found its task; else 0.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from grainscan.console import Progress, count
from grainscan.errors import DataError, Interrupted, OutputError, UsageError
from grainscan.files import check_output, is_stream
from grainscan.grain.describe import segments_of
from grainscan.grain.table import write_table
from grainscan.model.spec import ModelSpec, find_model, read_spec
from grainscan.options import PredictConfig, names_in
from grainscan.report import FORMATS, STDOUT, Tally, format_for, save, verdict, write
from grainscan.report.selection import ANY, ORDERS, check_tasks, found, in_order
from grainscan.results import Report, Result
from grainscan.scan.finished import FinishedScans, divided
from grainscan.scan.inputs import collect
from grainscan.scan.log import ResultLog
from grainscan.scan.pictures import add_pictures
from grainscan.scan.pooling import check_strengths, parse_strengths, parse_thresholds, relabel
from grainscan.scan.prevalence import move, parse_prevalence, unreached
from grainscan.scan.scanner import Scanner
from grainscan.tasks import task_of
from grainscan.video.names import is_video_name

FAILED, FOUND = 1, 3
_PICTURES = 200  # files that a page shows pictures of


@dataclass(frozen=True)
class PredictReport(Report):
    """The outcome of a scan. `rows` are the results if a table is wanted on stdout, else empty."""

    model: str
    tasks: tuple[str, ...]
    format: str
    output: Path | None  # None: stdout
    tally: Tally = field(default_factory=Tally)
    skipped: int = 0  # files already in the log
    left_out: int = 0  # files without the artifact of --only
    replaced: bool = False  # whether an existing output that is not the log was replaced
    rows: tuple[Result, ...] = ()

    def exit_code(self, fail_on: str | None) -> int:
        """1 if an input failed, else 3 if one of the tasks in `fail_on` (`any`: any task) was found, else 0."""
        if self.tally.errors:
            return FAILED
        wanted = names_in(fail_on)
        hits = (files for task, files in self.tally.tasks.items() if task in wanted or ANY in wanted)
        return FOUND if any(hits) else 0


def predict(config: PredictConfig, *, stdout: TextIO, progress: Progress | None = None) -> PredictReport:
    """Judge the inputs and write the results.

    A table for stdout is not written: its rows are in the report. Files that cannot be judged become error rows.
    Raises UsageError for a wrong request, ModelError, OutputError, and Interrupted, which says what is kept.
    """
    output = None if config.output == STDOUT else config.output
    form = format_for(config.format, output)
    names, logs = divided(config.inputs)
    finished = FinishedScans(logs)
    spec = read_spec(find_model(config.model)) if names or not logs else None
    known = tuple(dict.fromkeys((*(spec.judged if spec else ()), *finished.tasks)))
    wanted = known if config.tasks is None else names_in(config.tasks)
    if config.tasks is not None:
        check_tasks(f"--tasks {config.tasks}", wanted, known)
    tasks = tuple(task for task in known if task in wanted)
    thresholds, strengths = parse_thresholds(config.threshold, tasks), parse_strengths(config.min_strength)
    unknown = set(finished.tasks).difference(finished.calibrated)
    unknown |= set(spec.judged).difference(spec.prevalence) if spec else set()
    shares = parse_prevalence(config.prevalence, tasks, [task for task in tasks if task not in unknown])
    measured = {*(spec.strength if spec else ()), *finished.measured}
    check_strengths(strengths, [task for task in tasks if task in measured])
    for flag, given, others in (
        ("--fail-on", config.fail_on, (ANY,)), ("--only", config.only, (ANY,)), ("--sort", config.sort, ORDERS)
    ):  # fmt: skip
        if given is not None:
            check_tasks(f"{flag} {given}", [given] if flag == "--sort" else names_in(given), tasks, others)
    if config.pictures and form != "html":
        raise UsageError(f"--pictures {config.pictures}: {form} has no pictures", hint="Write a page: -o report.html.")
    if output is not None:
        check_output(output)
    paths = [path for path in collect(names) if path not in finished] if names or not logs else []
    if config.grain_table is not None:
        check_output(config.grain_table)
        if len(paths) != 1 or logs:
            counted = count(len(paths), "file") + (" and finished scans" if logs else "")
            raise UsageError(
                f"--grain-table describes one file, and there are {counted}",
                hint="Name one file, once for each table.",
            )
    for flag, file in (("-o", output), ("--grain-table", config.grain_table)):
        if file is not None:
            _check_inputs(flag, file, [*logs, *paths])
    if output is not None:
        _check_log(config, form, output, names, logs)
    if logs and not names:
        _check_recalled(config)
    model = spec.name if spec else ", ".join(finished.models)
    report = PredictReport(model, tasks, form, output)
    progress = progress or Progress()
    if note := unreached(config.prevalence, tasks, shares):
        progress.say(note)
    with closing(_Scan(config, spec, finished, thresholds, shares, strengths, report, progress)) as scan:
        if output is None or is_stream(output):
            report = scan.to_stream(paths, output or stdout)
        else:
            report = scan.to_file(paths, output)
        if config.grain_table is not None:
            scan.to_table(config.grain_table)
        return report


def _check_inputs(flag: str, output: Path, inputs: list[str]) -> None:
    """Refuse to write over an input, and over any other video."""
    if not output.exists() or is_stream(output):
        return
    alike = (name for name in inputs if name.endswith(output.suffix))  # a library is large, and links are rare
    if any(Path(name).exists() and output.samefile(name) for name in alike):
        raise UsageError(f"{output} is an input, too", hint=f"Choose another file with {flag}.")
    if is_video_name(output):
        raise UsageError(f"{output} is a video, which would be lost", hint=f"Choose another file with {flag}.")


def _check_log(config: PredictConfig, form: str, output: Path, names: list[str], logs: list[str]) -> None:
    """Refuse what a JSONL file, which is the log of its scan, cannot be."""
    if form != "jsonl" or not names or is_stream(output):
        return
    odd = "--sort" if config.sort else "--only" if config.only else "rows of another scan" if logs else ""
    if odd:
        raise UsageError(
            f"{output}: the log of a scan holds every file, in the order of the paths: it takes no {odd}",
            hint=f"Scan first, then write what you want of it: grainscan predict {output} -o selected.csv",
        )


def _check_recalled(config: PredictConfig) -> None:
    """Refuse options that only matter when files are judged, where there are finished scans alone."""
    given = {"--every": config.every is not None, "--maps": config.maps, "--character": config.character}
    for flag in (flag for flag, asked in given.items() if asked):
        raise UsageError(f"{flag}: the files of a finished scan are not judged again", hint="Name the videos instead.")


class _Scan:
    """One call of `predict`."""

    def __init__(
        self,
        config: PredictConfig,
        spec: ModelSpec | None,
        finished: FinishedScans,
        thresholds: dict[str, float],
        shares: dict[str, float],
        strengths: dict[str, float],
        report: PredictReport,
        progress: Progress,
    ) -> None:
        self._config, self._report, self._progress = config, report, progress
        self._finished, self._thresholds, self._shares, self._strengths = finished, thresholds, shares, strengths
        self._tally, self._left_out = Tally(), 0
        self._last: Any = None  # the latest row
        character = config.character or config.grain_table is not None
        described = finished.grain or (spec is not None and character)
        self._known: dict[str, Any] = {"tasks": report.tasks, "grain": described, "order": config.sort or ""}
        self._pictures = config.pictures if config.pictures is not None else _PICTURES if spec is not None else 0
        self._pictures *= report.format == "html"
        self._scanner: Scanner | None = None
        settings: dict[str, str] = {}
        if spec is not None:
            own = {task: value for task, value in thresholds.items() if task in spec.judged}
            maps = config.maps or FORMATS[report.format].maps
            self._options: dict[str, Any] = {"thresholds": own, "maps": maps, "character": character}
            self._options["prevalence"] = {task: value for task, value in shares.items() if task in spec.judged}
            self._options["min_strength"] = {task: value for task, value in strengths.items() if task in spec.strength}
            ours = None if config.tasks is None else ",".join(task for task in report.tasks if task in spec.judged)
            self._config = config = replace(config, tasks=ours, prevalence=None)
            self._scanner = Scanner.from_config(config, **self._options)
            self._known["units"] = spec.strength
            settings = _settings(self._scanner)
        self._known["settings"] = settings | _by_hand(thresholds, shares, strengths)

    def close(self) -> None:
        if self._scanner is not None:
            self._scanner.close()

    def to_stream(self, paths: list[str], stream: TextIO | Path) -> PredictReport:
        """Write results as they come, to stdout or to a pipe or device; collect those of a table for stdout."""
        form, rows = self._report.format, list[Result]()
        results = self._selected(self._watched(paths))
        try:
            if isinstance(stream, Path):
                save(results, stream, form, **self._known)
            elif form == "table":
                rows.extend(results)
            else:
                write(results, stream, form, **self._known)
                stream.flush()
        except KeyboardInterrupt:
            judged = f"{self._tally.files:,} of {count(len(paths) + len(self._finished), 'file')} judged"
            lost = "" if form in ("table", "jsonl", "csv") else ", and the output is incomplete"
            lost += "; with -o scan.jsonl, the same command would continue from there"
            raise Interrupted(judged + lost, self._done(rows=tuple(rows))) from None
        return self._done(rows=tuple(rows))

    def to_file(self, paths: list[str], output: Path) -> PredictReport:
        """Write results to a log, which is the output itself or from which the output is written in the end."""
        replaced = output.exists()
        if self._scanner is None:
            save(self._selected(iter(())), output, self._report.format, **self._known)
            return self._done(replaced=replaced)
        path = output if self._report.format == "jsonl" else _partial(output)
        skipped, overwrite = 0, self._config.overwrite
        with ResultLog(path, self._scanner.fingerprint, model=self._report.model, overwrite=overwrite) as log:
            try:
                pending = log.pending(paths)
                skipped = len(paths) - len(pending)
                if skipped:
                    self._progress.say(f"{count(skipped, 'file')} already judged, {len(pending):,} to go: {path}")
                for row in self._watched(pending):
                    log.append(row)
                log.finish()
                if self._config.grain_table is not None:
                    self._last = next(iter(log.rows(paths)))
                if path == output:
                    self._tally = Tally.of(log.rows(paths))
                else:
                    self._save(self._selected(map(_unlogged, log.rows(paths))), output, log)
            except KeyboardInterrupt:
                raise Interrupted(_kept(log)) from None
            if path != output:
                path.unlink(missing_ok=True)
        return self._done(skipped=skipped, replaced=path != output and replaced)

    def _done(self, **more: Any) -> PredictReport:
        return replace(self._report, tally=self._tally, left_out=self._left_out, **more)

    def to_table(self, path: Path) -> None:
        """Write the film-grain table of the one file. None for a file that could not be judged.

        Raises DataError for a file without grain.
        """
        row = self._last
        if row["status"] != "ok":
            return
        if not row.get("grain", {}).get("segments"):
            if row["tasks"].get("graininess", {}).get("label") == 0:
                reason, hint = "the file is not grainy", "Lower --threshold to describe what noise there is."
            else:
                reason = "nothing in its luma changes from frame to frame but the picture"
                hint = "Is it the colour alone that is noisy? Such grain is not described."
            raise DataError(f"{row['path']}: there is no grain to write to {path}: {reason}", hint=hint)
        write_table(path, segments_of(row["grain"]))
        self._progress.say(f"film-grain table written to {path}")

    def _save(self, results: Iterable[Result], output: Path, log: ResultLog) -> None:
        try:
            save(results, output, self._report.format, **self._known)
        except OutputError as error:
            error.hint = f"{error.hint} Meanwhile, {_kept(log)}."
            raise

    def _selected(self, scanned: Iterator[Result]) -> Iterator[Result]:
        """The results of this scan and of finished ones, in the wanted order, without those to leave out."""
        every = heapq.merge(scanned, map(self._recalled, self._finished.rows()), key=lambda row: row["path"])
        shown: Iterable[Result] = self._counted(every)
        if self._config.sort:
            shown = in_order(list(shown), self._config.sort)
        if self._pictures:
            shown = list(shown)
            add_pictures(in_order(shown, "worst")[: self._pictures], self._config, self._progress)
        yield from shown

    def _counted(self, results: Iterable[Result]) -> Iterator[Result]:
        for row in results:
            self._tally.add(row)
            if self._config.only is None or found(row, names_in(self._config.only)):
                yield row
            else:
                self._left_out += 1

    def _recalled(self, row: Result) -> Result:
        """A row of a finished scan, with the tasks, prevalences, thresholds and least strengths that are asked for."""
        if self._report.format != "jsonl" or self._thresholds or self._shares or self._strengths:
            row = _unlogged(row)  # of other options: a scan must not take it for its own
        if self._config.tasks is not None and "tasks" in row:
            row["tasks"] = {task: block for task, block in row["tasks"].items() if task in self._report.tasks}
        move(row, self._shares)
        for task, block in row.get("tasks", {}).items():
            block["threshold"] = self._thresholds.get(task, block["threshold"])
            if task in self._strengths and "strength" in block:
                block["min_strength"] = self._strengths[task]
            if task in self._thresholds or task in self._strengths:
                relabel(block)
        return row

    def _watched(self, paths: list[str]) -> Iterator[Result]:
        """Judge files, and show the progress and the likeliest finds."""
        if not paths:
            return
        self._progress.stage("scanning", len(paths))
        errors = 0
        for done, row in enumerate(self._judged(paths), 1):
            errors += row["status"] != "ok"
            for task, block in row.get("tasks", {}).items():
                if block["label"]:
                    value, mark = block["probability"], "*" * ("experimental" in block)
                    self._progress.highlight(value, f"{value:.2f}  {verdict(task, 1)}{mark}  {row['path']}")
            self._last = row
            self._progress.advance(done, count(errors, "error") if errors else "")
            yield row

    def _judged(self, paths: list[str]) -> Iterator[Any]:
        if self._config.ray is not None:
            from grainscan.scan.ray import scan_on_ray

            return scan_on_ray(self._config, paths, **self._options)
        assert self._scanner is not None  # paths to judge need a model
        return self._scanner.scan(paths)


def _settings(scanner: Scanner) -> dict[str, str]:
    """How files are looked at, for people."""
    view, job = scanner.job.view, scanner.job
    views = f"up to {view.crops:,}, of {view.size} × {view.size} pixels"
    often = f"up to {view.windows:,} per file" if job.every is None else f"one every {job.every:g} seconds"
    if job.every == 0:
        often = "every frame"
    return {
        "artifacts": ", ".join(task_of(task).title for task in scanner.tasks),
        "windows": f"{often}, of {count(view.frames, 'frame')} each",
        "views of a window": f"{views}, and statistics of the picture" if job.statistics else views,
        "files shorter than a window": "refused" if job.short == "error" else f"extended ({job.short})",
        "time limit": f"{job.timeout:g} seconds per file" if job.timeout else "none",
    }


def _by_hand(thresholds: dict[str, float], shares: dict[str, float], strengths: dict[str, float]) -> dict[str, str]:
    """What was asked for by task, for people."""
    given = {
        "thresholds set by hand": thresholds,
        "share of files with an artifact, set by hand": shares,
        "strength from which an artifact counts": strengths,
    }
    return {
        name: ", ".join(f"{task_of(task).title} {value:g}" for task, value in values.items())
        for name, values in given.items()
        if values
    }


def _partial(output: Path) -> Path:
    """The log of an output that is not one itself: beside it, or beside the file behind a link."""
    target = output.resolve() if output.is_symlink() else output
    return target.with_name(f"{target.name}.partial.jsonl")


def _kept(log: ResultLog) -> str:
    """What an unfinished scan keeps, for the user. An empty log is removed."""
    if len(log):
        return f"{count(len(log), 'result')} kept in {log.path}; the same command continues from there"
    with contextlib.suppress(OSError):
        log.path.unlink()
    return "nothing was judged yet"


def _unlogged(row: Result) -> Result:
    """A row without the key that only a log needs."""
    row.pop("settings", None)
    return row
