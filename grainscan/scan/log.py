"""The log of a scan: one JSON object per line, appended as files are judged, so that nothing is ever lost.

Each row reaches the file in one write and the disk within half a second. A second scan with the same log skips files
with a verdict (if their size and time of change are the same), retries those that failed, and judges the rest. Rows of
other files are left alone and do not count. The log of a complete scan is sorted by path and has each file once: the
same bytes, but for the `seconds`, as if it had never been interrupted.

A log is input, too. A last row that a crash cut off is repaired; anything else that is not a result is refused with its
line number, and so are results of another model or other options, unless they are to be overwritten.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grainscan.console import count
from grainscan.errors import OutputError, UnfitOutputError, UsageError
from grainscan.files import TEMPORARY, is_stream, take_over, unwritable
from grainscan.results import Result, fault_of
from grainscan.scan.inputs import identify

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

SYNC_EVERY = 0.5  # seconds
_CHUNK = 1 << 20
LONGEST_LINE = 1 << 28  # bytes; a row with maps of thousands of views takes a few million
_OTHER_PLACE = "Choose another file with -o."


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a row is in the log, and what it holds."""

    offset: int
    length: int
    done: tuple[Any, ...] | None  # (size, mtime, settings) of a verdict; None for an error
    model: str = ""


def encode(row: Mapping[str, Any]) -> bytes:
    """A row as one line of UTF-8. Names that are not UTF-8 are kept as escaped lone surrogates (PEP 383)."""
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


class ResultLog:
    """A JSONL file that belongs to one scan at a time. Use as a context manager.

        with ResultLog(path, scanner.fingerprint, model=scanner.spec.name) as log:
            for row in scanner.scan(log.pending(paths)):
                log.append(row)
            log.finish()

    `settings` identifies the model and the options, `model` is its name for people. `overwrite` replaces results that
    were made with others. Raises OutputError when the file cannot be written, holds something else, is in use by
    another scan, or is changed by another program while it is open.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: str, *, model: str = "", overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        self.repaired = False  # whether the last line was cut off
        self._target = Path(os.path.realpath(path))
        self._settings = settings
        self._model = model
        self._overwrite = overwrite
        self._entries: dict[str, _Entry] = {}
        self._tidy = True  # sorted, and each path once
        self._last = ""
        self._end = 0
        self._synced = 0.0
        self._handle = self._open()
        try:
            self._read()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> ResultLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._entries)

    def pending(self, paths: Iterable[str]) -> list[str]:
        """The paths without a verdict, or whose file has changed since.

        Raises UsageError if a verdict on one of them was made with another model or other options.
        """
        paths = list(paths)
        entries = [entry for path in paths if (entry := self._entries.get(path)) and entry.done]
        others = [entry for entry in entries if entry.done and entry.done[2] != self._settings]
        if others and not self._overwrite:
            models = ", ".join(sorted({entry.model for entry in others} - {self._model}))
            made = f"model {models}, this scan uses {self._model}" if models else "other options or weights"
            raise UsageError(
                f"{self.path}: {len(others):,} of its results were made with {made}",
                hint="Add --overwrite to judge these files again, or name another file with -o.",
            )
        return [path for path in paths if not self._is_done(path)]

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row. It survives the death of this process at once, a power cut after half a second."""
        if row["status"] == "ok":
            row = {**row, "settings": self._settings}
        line = encode(row)
        self._check()
        with self._faults():
            view = memoryview(line)
            while view:
                view = view[os.write(self._handle, view) :]
            self._note(row, self._end, len(line))
            self._end += len(line)
            if time.monotonic() - self._synced > SYNC_EVERY:
                self.sync()

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        with self._faults():
            os.fsync(self._handle)
        self._synced = time.monotonic()

    def rows(self, paths: Iterable[str] | None = None) -> Iterator[Result]:
        """The rows of these files, by default all rows, sorted by path."""
        self._check()
        known = self._entries if paths is None else {path for path in paths if path in self._entries}
        for path in sorted(known):
            yield json.loads(self._line(self._entries[path]))

    def finish(self) -> None:
        """Sort the rows of a complete scan and drop superseded ones, atomically, if there is anything to do."""
        self.sync()
        self._check()
        if self._tidy:
            return
        with self._faults():
            temporary = self._temporary()
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | _CLOEXEC, 0o600)
            try:
                _lock(handle)  # before it gets the name, which is never without a lock
                take_over(handle, self._target)
                with open(handle, "wb", closefd=False) as file:
                    file.writelines(self._line(self._entries[path]) for path in sorted(self._entries))
                os.fsync(handle)
                temporary.replace(self._target)
            except BaseException:
                os.close(handle)
                temporary.unlink(missing_ok=True)
                raise
        os.close(self._handle)
        self._handle = handle
        self._entries, self._tidy, self._last, self._end = {}, True, "", 0
        self._read()

    def close(self) -> None:
        """Sync and close the file."""
        if self._handle < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._handle)
            self._handle = -1

    # -- inside

    def _is_done(self, path: str) -> bool:
        entry = self._entries.get(path)
        if entry is None or entry.done is None or entry.done[2] != self._settings:
            return False
        now = identify(path)
        return now is not None and (now["size"], now["mtime"]) == entry.done[:2]

    def _open(self) -> int:
        if is_stream(self.path):
            raise UnfitOutputError(f"{self.path}: is not a regular file, so it cannot be a log", hint=_OTHER_PLACE)
        with self._faults():
            while True:
                handle = os.open(self._target, os.O_RDWR | os.O_CREAT | os.O_APPEND | _CLOEXEC, 0o666)
                if not _lock(handle):
                    os.close(handle)
                    raise OutputError(
                        f"{self.path}: another scan is writing to it",
                        hint="Wait until the other scan is done, or choose another file with -o.",
                    )
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(handle), self._target.stat()):
                        return handle
                os.close(handle)  # a scan that has just finished has replaced it by a sorted file

    def _temporary(self) -> Path:
        """The name of the sorted copy, which depends on the log alone: it is ours as long as we hold the lock."""
        return self._target.with_name(f"{TEMPORARY}{os.fstat(self._handle).st_ino:x}")

    def _check(self) -> None:
        """Raise OutputError if another program has touched the file: results would be lost unnoticed."""
        with self._faults():
            status = os.fstat(self._handle)
            try:
                there = os.path.samestat(status, self._target.stat())
            except FileNotFoundError:
                there = False
        if there and status.st_size == self._end:
            return
        results = count(len(self), "result")
        if there:
            what = f"was changed by another program: {status.st_size:,} bytes instead of {self._end:,} ({results})"
        elif status.st_nlink:
            what = f"was moved to another place, with {results}"
        else:
            what = f"was deleted or replaced, and {results} with it"
        raise OutputError(f"{self.path}: {what}", hint="Leave the log alone until the scan is done; run it again.")

    def _read(self) -> None:
        """Index the rows; repair a last line that was cut off. Raises OutputError for anything else that is no row."""
        self._temporary().unlink(missing_ok=True)  # left by a scan that was killed
        with self._faults(), open(self._handle, "rb", buffering=_CHUNK, closefd=False) as file:
            file.seek(0)
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                row, fault = parse_row(line)
                torn = not line.endswith(b"\n") and len(line) < LONGEST_LINE
                if fault and not (torn and may_be_torn(line)):
                    raise UnfitOutputError(
                        f"{self.path}: line {number} is not a result of grainscan: {fault}",
                        hint="Choose another file with -o; this one holds something else, or is damaged.",
                    )
                if fault:
                    os.ftruncate(self._handle, self._end)
                else:
                    self._note(row, self._end, len(line) + torn)
                    self._end += len(line) + torn
                if torn:
                    self.repaired = True
                    if not fault:
                        os.write(self._handle, b"\n")
                    log.warning("%s: line %d was torn by a crash and has been repaired", self.path, number)

    def _note(self, row: Mapping[str, Any], offset: int, length: int) -> None:
        path = row["path"]
        about = row.get("file") or {}
        done = (about.get("size"), about.get("mtime"), row.get("settings")) if row["status"] == "ok" else None
        self._tidy = self._tidy and path > self._last if self._entries else True
        self._last = path
        self._entries[path] = _Entry(offset, length, done, row.get("model", ""))

    def _line(self, entry: _Entry) -> bytes:
        return os.pread(self._handle, entry.length, entry.offset)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.path, error) from None


def parse_row(line: bytes) -> tuple[Result, str]:
    """A row, and what is wrong with it, if anything."""
    try:
        row = json.loads(line, parse_constant=_no_number)
    except RecursionError:
        return {}, "it is nested too deeply"
    except ValueError as error:
        return {}, getattr(error, "msg", None) or str(error)
    return row, fault_of(row)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number in JSON")


def may_be_torn(line: bytes) -> bool:
    """Whether the last line of a log may be the start of a row, or blocks that were never written."""
    start = b'{"schema": '
    return line.startswith(start) or start.startswith(line) or not line.strip(b"\0")


def _lock(handle: int) -> bool:
    """Lock a file unless another process has; whether it is ours. The lock ends with the handle, however that ends."""
    if not hasattr(fcntl, "flock"):
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
