"""The log of a scan, whatever happens in whatever order: it holds exactly the rows that were completed.

A model of the log (a dictionary) goes through the same random history of appends, changed files, ends, kills and torn
lines; after each step both must say the same.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import property_kit  # noqa: F401 (loads the profile)
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grainscan.errors import OutputError
from grainscan.scan.inputs import identify
from grainscan.scan.log import ResultLog, encode

NAMES = ("a.avi", "b.avi", "ö 🎬.avi", os.fsdecode(b"\xff.avi"), "sub/c.avi")
files = st.sampled_from(NAMES)


class LogHistory(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(mkdtemp())
        for number, name in enumerate(NAMES):
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bytes(number))
        self.output = self.folder / "scan.jsonl"
        self.expected: dict[str, dict[str, Any]] = {}  # path -> its last row
        self.clock = 1_000_000
        self.log = self.open_log()

    def open_log(self) -> ResultLog:
        return ResultLog(self.output, "settings")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @rule(name=files, number=st.integers(0, 99))
    def judge(self, name: str, number: int) -> None:
        path = self.path(name)
        verdict = {"label": number % 2, "probability": number / 100, "threshold": 0.5, "strength": number / 7}
        row = {
            "schema": 1,
            "path": path,
            "status": "ok",
            "tasks": {"graininess": verdict},
            "windows": [{"start": 0.0, "end": 0.5, "graininess": number / 100}],
            "video": {"width": 64, "height": 64},
            "model": "toy",
            "views": number,
            "seconds": 0.1,
            "file": identify(path),
        }
        self.log.append(row)
        self.expected[path] = {**row, "settings": "settings"}

    @rule(name=files, message=st.text(max_size=20))
    def fail(self, name: str, message: str) -> None:
        error = {"type": "VideoError", "message": message, "hint": ""}
        row = {"schema": 1, "path": self.path(name), "status": "error", "error": error}
        self.log.append(row)
        self.expected[self.path(name)] = row

    @rule(name=files)
    def change_the_file(self, name: str) -> None:
        self.clock += 1
        os.utime(self.path(name), (self.clock, self.clock))

    @rule()
    def end_the_scan(self) -> None:
        self.log.finish()
        content = self.output.read_bytes()
        assert [json.loads(line)["path"] for line in content.splitlines()] == sorted(self.expected)
        self.log.finish()
        assert self.output.read_bytes() == content

    @rule()
    def run_again(self) -> None:
        self.log.close()
        self.log = self.open_log()
        assert not self.log.repaired

    @rule(name=files, missing=st.integers(2, 500))
    def die_in_the_middle_of_a_row(self, name: str, missing: int) -> None:
        self.log.close()
        row = {**next(iter(self.expected.values()), {"schema": 1, "path": self.path(name), "status": "error"})}
        line = encode(row)
        with self.output.open("ab") as file:
            torn = file.write(line[: max(1, len(line) - missing)])
        whole = self.output.stat().st_size - torn
        self.log = self.open_log()
        assert self.log.repaired
        assert self.output.stat().st_size == whole

    @rule()
    def another_scan_is_refused(self) -> None:
        with pytest.raises(OutputError, match="another scan"):
            self.open_log()

    @rule(line=st.sampled_from((b"garbage\n", b"[]\n", b'{"path": 1}\n')))
    @precondition(lambda self: self.expected)
    def foreign_lines_are_refused_and_kept(self, line: bytes) -> None:
        self.log.close()
        before = self.output.read_bytes()
        self.output.write_bytes(line + before)
        with pytest.raises(OutputError, match="line 1"):
            self.open_log()
        assert self.output.read_bytes() == line + before
        self.output.write_bytes(before)
        self.log = self.open_log()

    @invariant()
    def the_log_holds_the_completed_rows(self) -> None:
        if not hasattr(self, "log"):
            return
        assert list(self.log.rows()) == [self.expected[path] for path in sorted(self.expected)]
        assert len(self.log) == len(self.expected)
        left = {path for path, row in self.expected.items() if row["status"] == "ok" and row["file"] == identify(path)}
        paths = [self.path(name) for name in NAMES]
        assert self.log.pending(paths) == [path for path in paths if path not in left]
        assert not [path for path in self.folder.iterdir() if path.name.startswith((".scan", ".tmp-"))]

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            shutil.rmtree(self.folder)


TestLogHistory = LogHistory.TestCase
