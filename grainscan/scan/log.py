"""The log of a scan: one JSON object a line, appended as files are judged, so that nothing is ever lost.

Each row reaches the file in one write and the disk within half a second. A second scan with the same log skips what it
holds for the same file (size and time of change), model and options, tries again what failed, and finishes the rest. A
line that a power cut tore is cut off. When a scan is complete its log is sorted by path, each file standing in it once:
the same bytes as if it had never been interrupted, but for the `seconds`.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from grainscan.errors import OutputError, UsageError
from grainscan.results import Result
from grainscan.scan.inputs import identify

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None  # type: ignore[assignment]

SYNC_EVERY = 0.5  # seconds
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Entry:
    """Where a row stands in the file, and what it is about."""

    offset: int
    length: int
    done: tuple[Any, ...] | None  # (size, mtime, settings) of a verdict, None of an error
    model: str = ""


def encode(row: Mapping[str, Any]) -> bytes:
    """A row as one line of UTF-8. Names that are not UTF-8 keep their bytes as escaped lone surrogates (PEP 383)."""
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


class ResultLog:
    """A JSONL file that belongs to one scan at a time. Use as a context manager.

        with ResultLog(path, scanner.fingerprint) as log:
            for row in scanner.scan(log.pending(paths)):
                log.append(row)
            log.finish()

    `settings` names the model and the options; rows that were made with others are made again. Raises OutputError when
    the file cannot be written, holds something else, or is in use by another scan.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: str, *, model: str = "", overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        self.repaired = False  # whether a torn last line was cut off
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
        """The paths that have no verdict yet, or whose file has changed since.

        Raises UsageError where a verdict on one of them was made with another model or other options.
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
        """Write a row. It survives the end of this process at once, a power cut after half a second."""
        if row["status"] == "ok":
            row = {**row, "settings": self._settings}
        line = encode(row)
        with self._faults():
            view = memoryview(line)
            while view:
                view = view[os.write(self._handle, view) :]
            self._note(row, self._end, len(line))
            self._end += len(line)
            if time.monotonic() - self._synced > SYNC_EVERY:
                self.sync()

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        with self._faults():
            os.fsync(self._handle)
        self._synced = time.monotonic()

    def rows(self, paths: Iterable[str] | None = None) -> Iterator[Result]:
        """The rows of these files, or all rows; by path."""
        known = self._entries if paths is None else {path for path in paths if path in self._entries}
        for path in sorted(known):
            yield json.loads(self._line(self._entries[path]))

    def finish(self) -> None:
        """The scan is complete: sort the file and drop rows that were superseded. Atomic; nothing to do as a rule."""
        self.sync()
        if self._tidy:
            return
        with self._faults():
            handle, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            try:
                _lock(handle)  # the name is never without a lock
                os.fchmod(handle, stat.S_IMODE(os.fstat(self._handle).st_mode))
                with open(handle, "wb", closefd=False) as file:
                    file.writelines(self._line(self._entries[path]) for path in sorted(self._entries))
                os.fsync(handle)
                os.replace(temporary, self.path)  # noqa: PTH105
            except BaseException:
                os.close(handle)
                Path(temporary).unlink(missing_ok=True)
                raise
        os.close(self._handle)
        self._handle = handle
        self._entries, self._tidy, self._last, self._end = {}, True, "", 0
        self._read()

    def close(self) -> None:
        """Sync and give the file free."""
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
        hint = "Wait until the other scan is done, or choose another file with -o."
        with self._faults():
            while True:
                if self.path.exists() and not self.path.is_file():
                    raise OutputError(f"{self.path}: is not a regular file", hint="Choose a file name with -o.")
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o666)
                if not _lock(handle):
                    os.close(handle)
                    raise OutputError(f"{self.path}: another scan is writing to it", hint=hint)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(handle), self.path.stat()):
                        return handle
                os.close(handle)  # a scan that has just finished has put a sorted file in its place

    def _read(self) -> None:
        """Index the rows and cut off a torn last line."""
        with self._faults(), open(self._handle, "rb", buffering=_CHUNK, closefd=False) as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                row = _parse(line)
                if row is None:
                    if file.read(1) or not (self._entries or _may_be_torn(line)):
                        raise OutputError(
                            f"{self.path}: line {number} is not a result of grainscan",
                            hint="Choose another file with -o; this one holds something else, or is damaged.",
                        )
                    os.ftruncate(self._handle, self._end)
                    self.repaired = True
                    return
                self._note(row, self._end, len(line))
                self._end += len(line)

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
            raise OutputError(
                f"{self.path}: cannot be written: {error.strerror or error}", hint="Choose another place with -o."
            ) from None


def _parse(line: bytes) -> Result | None:
    """A row, or None where the line is not one. Lines end with a line feed, else they were torn."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return cast(Result, row) if isinstance(row, dict) and isinstance(row.get("path"), str) and "status" in row else None


def _may_be_torn(line: bytes) -> bool:
    """Whether the only line of a file is the beginning of a row, or blocks that were never written."""
    start = b'{"schema": '
    return line.startswith(start) or start.startswith(line) or not line.strip(b"\0")


def _lock(handle: int) -> bool:
    """Whether the file is ours alone. The lock goes with the handle, however the process ends."""
    if not hasattr(fcntl, "flock"):
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
