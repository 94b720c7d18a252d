"""Everything behind `grainscan predict`: inputs to results, to where they were asked for.

JSONL goes out row by row, and into a file through the log that can be resumed; CSV and JSON are streamed too, but a
file appears under its name only when it is complete. Only a table or a page holds all results in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

from grainscan.errors import UsageError
from grainscan.files import check_output, is_stream
from grainscan.model.last_run import last_run
from grainscan.model.spec import find_model, read_spec
from grainscan.options import PredictConfig
from grainscan.results import Result
from grainscan.scan.inputs import collect
from grainscan.scan.log import ResultLog
from grainscan.scan.pooling import parse_thresholds
from grainscan.scan.scanner import Scanner

Watch = Callable[[int, int, Iterator[Result]], Iterator[Result]]

FAILED, FOUND = 1, 3


@dataclass
class Outcome:
    """What a scan came to. `rows` are all results where a table is wanted, else empty."""

    tasks: tuple[str, ...]
    files: int = 0
    errors: int = 0
    found: dict[str, int] = field(default_factory=dict)  # files with each task
    skipped: int = 0  # files that the log held already
    rows: list[Result] = field(default_factory=list)

    def count(self, result: Mapping[str, Any]) -> None:
        self.files += 1
        if result["status"] != "ok":
            self.errors += 1
            return
        for task, verdict in result["tasks"].items():
            self.found[task] = self.found.get(task, 0) + verdict["label"]

    def exit_code(self, fail_on: str | None) -> int:
        """1 where an input failed, 3 where the task asked for was found, else 0."""
        if self.errors:
            return FAILED
        return FOUND if fail_on and self.found.get(fail_on) else 0


def format_of(config: PredictConfig) -> str:
    """The format asked for, else that of the output's suffix, else table. Raises UsageError."""
    from grainscan.report import FORMATS

    if config.format is not None:
        if config.format == "table" and config.output is not None:
            raise UsageError("a table goes to the terminal, not into a file", hint=f"Use one of: {', '.join(FORMATS)}.")
        return config.format
    if config.output is None:
        return "table"
    suffix = config.output.suffix.lower().lstrip(".")
    if suffix == "htm":
        suffix = "html"
    if suffix not in FORMATS:
        raise UsageError(
            f"{config.output}: the suffix names no format", hint=f"Use one of: {', '.join(FORMATS)}, or --format."
        )
    return suffix


def predict(config: PredictConfig, *, stdout: TextIO, watch: Watch | None = None) -> Outcome:
    """Judge the inputs and write the results, with the model named, else that of the last run here, else `small`.

    `watch(files, skipped, results)` may look at the results as they come.
    Raises UsageError for a wrong request, ModelError, OutputError. Files that cannot be judged are error rows.
    """
    from grainscan.report import write

    form = format_of(config)
    run = last_run() if config.model is None else None
    if run is not None:  # who has trained here wants to see what came of it; every output names the model
        config = replace(config, model=str(run.model))
    spec = read_spec(find_model(config.model))
    thresholds = parse_thresholds(config.threshold, spec.tasks)
    if config.fail_on is not None and config.fail_on not in spec.tasks:
        raise UsageError(
            f"--fail-on {config.fail_on}: the model has no such task", hint=f"Its tasks are: {', '.join(spec.tasks)}."
        )
    if config.output is not None:
        check_output(config.output)
    paths = collect(config.inputs)
    outcome = Outcome(spec.tasks)
    maps = config.maps or form == "html"
    with closing(_Source(config, thresholds, maps)) as source:
        if form == "jsonl" and config.output is not None and not is_stream(config.output):
            with ResultLog(config.output, source.fingerprint, model=spec.name) as log:
                pending = log.pending(paths)
                outcome.skipped = len(paths) - len(pending)
                for row in _watched(source.scan(pending), len(pending), outcome.skipped, watch):
                    log.append(row)
                log.finish()
                for known in log.rows(paths):
                    outcome.count(known)
            return outcome
        results = _counted(_watched(source.scan(paths), len(paths), 0, watch), outcome)
        if form == "table":
            outcome.rows = list(results)
        elif config.output is not None:
            from grainscan.report import save

            save(results, config.output, form, tasks=spec.tasks)
        else:
            write(results, stdout, form, tasks=spec.tasks)
            stdout.flush()
    return outcome


class _Source:
    """Where results come from: the scanner here, or the same scanner on a Ray cluster."""

    def __init__(self, config: PredictConfig, thresholds: dict[str, float], maps: bool) -> None:
        self._scanner = Scanner.from_config(config, thresholds=thresholds, maps=maps)
        self._config = config
        self._options = {"thresholds": thresholds, "maps": maps}

    @property
    def fingerprint(self) -> str:
        return self._scanner.fingerprint

    def scan(self, paths: list[str]) -> Iterator[Result]:
        if self._config.ray is None:
            return self._scanner.scan(paths)
        from grainscan.scan.ray import scan_on_ray

        return scan_on_ray(self._config, paths, **self._options)

    def close(self) -> None:
        self._scanner.close()


def _watched(results: Iterator[Result], files: int, skipped: int, watch: Watch | None) -> Iterator[Result]:
    return results if watch is None else watch(files, skipped, results)


def _counted(results: Iterable[Result], outcome: Outcome) -> Iterator[Result]:
    for result in results:
        outcome.count(result)
        yield result
