"""Writing files that are either whole or not there: a temporary name beside them, then renamed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grainscan.errors import OutputError, UsageError

TEMPORARY = ".tmp-"  # how names of unfinished files begin


def is_stream(path: Path) -> bool:
    """Whether a path is that of a pipe or a device: something to write to that cannot be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_output(path: Path) -> None:
    """Refuse a file that could not be written in the end. To be called before the work. Raises UsageError."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: no such folder: {path.parent}", hint="Create the folder first.")


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name to write to, which takes the place of `path` when the block ends well. Raises OSError.

    A `durable` file outlives a power failure whole; many large ones that can be made again need not wait for the disk.
    """
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}{path.suffix}")  # the suffix may name the format
    try:
        yield temporary
        if durable:
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole. Raises OutputError."""
    try:
        with replacing(path) as temporary:
            # A file name that is not valid UTF-8 holds surrogates: as \\udcXX they are escapes that JSON reads back.
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path}: cannot be written: {reason}", hint="Check space and permissions.") from None


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file as a whole. Raises OutputError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
