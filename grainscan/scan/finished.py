"""The rows of finished scans: logs and other JSONL output of `predict` that are input again. Nothing is decoded.

Only where each row is in its file is kept in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from grainscan.errors import UsageError
from grainscan.results import Result
from grainscan.scan.log import LONGEST_LINE, may_be_torn, parse_row

SUFFIX = ".jsonl"


class FinishedScans:
    """The rows of JSONL files, each path once: the row that comes last.

    tasks: those of the rows, in order of first appearance. measured: those with a strength. models: names, likewise.
    calibrated: those whose verdicts all say which prevalence they assume.
    grain: whether a row describes the grain of its file.
    Raises UsageError for a file that cannot be read or holds anything but results; a last row that was cut off is left
    out.
    """

    def __init__(self, files: Iterable[str | os.PathLike[str]]) -> None:
        self.files = [Path(file) for file in files]
        self._places: dict[str, tuple[Path, int]] = {}
        self.grain = False
        tasks, measured, models = dict[str, None](), dict[str, None](), dict[str, None]()
        unknown = set[str]()
        for file in self.files:
            for offset, row in _rows(file):
                self._places[row["path"]] = (file, offset)
                self.grain |= "grain" in row
                tasks |= dict.fromkeys(row.get("tasks", ()))
                measured |= dict.fromkeys(task for task, block in row.get("tasks", {}).items() if "strength" in block)
                unknown |= {task for task, block in row.get("tasks", {}).items() if "prevalence" not in block}
                models |= dict.fromkeys([row["model"]] if "model" in row else [])
        self.tasks, self.measured, self.models = tuple(tasks), tuple(measured), tuple(models)
        self.calibrated = tuple(task for task in tasks if task not in unknown)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def rows(self) -> Iterator[Result]:
        """The rows as they are, sorted by path."""
        handles = {file: file.open("rb") for file in self.files}
        try:
            for path in sorted(self._places):
                file, offset = self._places[path]
                handles[file].seek(offset)
                yield parse_row(handles[file].readline(LONGEST_LINE))[0]
        finally:
            for handle in handles.values():
                handle.close()


def divided(inputs: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the inputs to scan, those that are finished scans). A finished scan is named by its path, with its suffix."""
    finished = [name for name in inputs if name.lower().endswith(SUFFIX) and Path(name).is_file()]
    return [name for name in inputs if name not in finished], finished


def _rows(file: Path) -> Iterator[tuple[int, Result]]:
    """Each row with its offset in the file."""
    try:
        with file.open("rb") as stream:
            offset = 0
            for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b""), 1):
                row, fault = parse_row(line)
                if fault and not line.endswith(b"\n") and may_be_torn(line):
                    return
                if fault:
                    raise UsageError(
                        f"{file}: line {number} is not a result of grainscan: {fault}",
                        hint="Name a file that `grainscan predict -o scan.jsonl` wrote.",
                    )
                yield offset, row
                offset += len(line)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}", hint="Check the name and the rights.") from None
