"""`grainscan predict`: from inputs to results, written to a file or a stream.

Results for a file are kept in a log while they are computed, so that an interruption loses none. A JSONL file is its
own log; other files are written from a log beside them, such as `report.html.partial.jsonl`, which the same command
continues and which is removed once the file is complete. JSONL, JSON and CSV are streamed to stdout; only tables and
pages hold all results in memory.

The exit code is 1 if an input could not be judged, whatever else was found, since the answer is then incomplete; else
3 if `--fail-on` found its task; else 0.
"""

from __future__ import annotations

import contextlib
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
from grainscan.options import PredictConfig
from grainscan.report import FORMATS, STDOUT, Tally, format_for, save, verdict, write
from grainscan.results import Report, Result
from grainscan.scan.inputs import collect
from grainscan.scan.log import ResultLog
from grainscan.scan.pooling import parse_thresholds
from grainscan.scan.scanner import Scanner

FAILED, FOUND = 1, 3


@dataclass(frozen=True)
class PredictReport(Report):
    """The outcome of a scan. `rows` are the results if a table is wanted on stdout, else empty."""

    model: str
    tasks: tuple[str, ...]
    format: str
    output: Path | None  # None: stdout
    tally: Tally = field(default_factory=Tally)
    skipped: int = 0  # files already in the log
    replaced: bool = False  # whether an existing output that is not the log was replaced
    rows: tuple[Result, ...] = ()

    def exit_code(self, fail_on: str | None) -> int:
        """1 if an input failed, else 3 if the task `fail_on` was found, else 0."""
        if self.tally.errors:
            return FAILED
        return FOUND if fail_on and self.tally.tasks.get(fail_on) else 0


def predict(config: PredictConfig, *, stdout: TextIO, progress: Progress | None = None) -> PredictReport:
    """Judge the inputs and write the results.

    A table for stdout is not written: its rows are in the report. Files that cannot be judged become error rows.
    Raises UsageError for a wrong request, ModelError, OutputError, and Interrupted, which says what is kept.
    """
    output = None if config.output == STDOUT else config.output
    form = format_for(config.format, output)
    spec = read_spec(find_model(config.model))
    thresholds = parse_thresholds(config.threshold, spec.tasks)
    if config.fail_on is not None and config.fail_on not in spec.tasks:
        raise UsageError(
            f"--fail-on {config.fail_on}: the model has no such task", hint=f"Its tasks are: {', '.join(spec.tasks)}."
        )
    if output is not None:
        check_output(output)
    if config.grain_table is not None:
        check_output(config.grain_table)
    paths = collect(config.inputs)
    if config.grain_table is not None and len(paths) != 1:
        raise UsageError(
            f"--grain-table describes one file, and there are {len(paths):,}",
            hint="Name one file, once for each table.",
        )
    report = PredictReport(spec.name, spec.tasks, form, output)
    with closing(_Scan(config, spec, thresholds, report, progress or Progress())) as scan:
        to_stream = output is None or is_stream(output)
        report = scan.to_stream(paths, output or stdout) if to_stream else scan.to_file(paths, output)
        if config.grain_table is not None:
            scan.to_table(config.grain_table)
        return report


class _Scan:
    """One call of `predict`."""

    def __init__(
        self,
        config: PredictConfig,
        spec: ModelSpec,
        thresholds: dict[str, float],
        report: PredictReport,
        progress: Progress,
    ) -> None:
        self._config, self._report, self._progress = config, report, progress
        maps = config.maps or FORMATS[report.format].maps
        character = config.character or config.grain_table is not None
        self._options: dict[str, Any] = {"thresholds": thresholds, "maps": maps, "character": character}
        self._known: dict[str, Any] = {"tasks": spec.tasks, "units": spec.strength}
        self._scanner = Scanner.from_config(config, **self._options)
        self._last: Any = None  # the latest row

    def close(self) -> None:
        self._scanner.close()

    def to_stream(self, paths: list[str], stream: TextIO | Path) -> PredictReport:
        """Write results as they come, to stdout or to a pipe or device; collect those of a table for stdout."""
        report, rows, tally = self._report, list[Result](), Tally()
        results = _counted(self._watched(paths), tally)
        try:
            if isinstance(stream, Path):
                save(results, stream, report.format, **self._known)
            elif report.format == "table":
                rows.extend(results)
            else:
                write(results, stream, report.format, **self._known)
                stream.flush()
        except KeyboardInterrupt:
            judged = f"{tally.files:,} of {count(len(paths), 'file')} judged"
            lost = "" if report.format in ("table", "jsonl", "csv") else ", and the output is incomplete"
            raise Interrupted(judged + lost, replace(report, tally=tally, rows=tuple(rows))) from None
        return replace(report, tally=tally, rows=tuple(rows))

    def to_file(self, paths: list[str], output: Path) -> PredictReport:
        """Write results to a log, which is the output itself or from which the output is written in the end."""
        report, tally = self._report, Tally()
        path = output if report.format == "jsonl" else _partial(output)
        overwrite = self._config.overwrite
        with ResultLog(path, self._scanner.fingerprint, model=report.model, overwrite=overwrite) as log:
            try:
                pending = log.pending(paths)
                replaced = path != output and output.exists()
                report = replace(report, skipped=len(paths) - len(pending), replaced=replaced)
                if report.skipped:
                    self._progress.say(
                        f"{count(report.skipped, 'file')} already judged, {len(pending):,} to go: {path}"
                    )
                for row in self._watched(pending):
                    log.append(row)
                log.finish()
                if self._config.grain_table is not None:
                    self._last = next(iter(log.rows(paths)))
                if path == output:
                    tally = Tally.of(log.rows(paths))
                else:
                    self._save(map(_unlogged, _counted(log.rows(paths), tally)), output, log)
            except KeyboardInterrupt:
                raise Interrupted(_kept(log)) from None
            if path != output:
                path.unlink(missing_ok=True)
        return replace(report, tally=tally)

    def to_table(self, path: Path) -> None:
        """Write the film-grain table of the one file. None for a file that could not be judged.

        Raises DataError for a file without grain.
        """
        row = self._last
        if row["status"] != "ok":
            return
        if not row.get("grain", {}).get("segments"):
            raise DataError(
                f"{row['path']}: there is no grain to write to {path}: the file is not grainy",
                hint="Lower --threshold to describe what noise there is.",
            )
        write_table(path, segments_of(row["grain"]))
        self._progress.say(f"film-grain table written to {path}")

    def _save(self, results: Iterable[Result], output: Path, log: ResultLog) -> None:
        try:
            save(results, output, self._report.format, **self._known)
        except OutputError as error:
            error.hint = f"{error.hint} Meanwhile, {_kept(log)}."
            raise

    def _watched(self, paths: list[str]) -> Iterator[Result]:
        """Judge files, and show the progress and the likeliest finds."""
        self._progress.stage("scanning", len(paths))
        errors = 0
        for done, row in enumerate(self._judged(paths), 1):
            errors += row["status"] != "ok"
            for task, block in row.get("tasks", {}).items():
                if block["label"]:
                    value = block["probability"]
                    self._progress.highlight(value, f"{value:.2f}  {verdict(task, 1)}  {row['path']}")
            self._last = row
            self._progress.advance(done, count(errors, "error") if errors else "")
            yield row

    def _judged(self, paths: list[str]) -> Iterator[Any]:
        if self._config.ray is None:
            return self._scanner.scan(paths)
        from grainscan.scan.ray import scan_on_ray

        return scan_on_ray(self._config, paths, **self._options)


def _counted(results: Iterable[Result], tally: Tally) -> Iterator[Result]:
    for row in results:
        tally.add(row)
        yield row


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
