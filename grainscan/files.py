"""Writing files that are either whole or not there (a temporary name beside them, then renamed); one folder walk."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grainscan.errors import OutputError

TEMPORARY = ".tmp-"  # how names of unfinished files begin


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


def walk(
    folder: str | os.PathLike[str],
    *,
    links: bool = True,
    hidden: bool = False,
    seen: set[tuple[int, int]] | None = None,
    failed: Callable[[str, OSError], object] = lambda folder, error: None,
) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder that is not a folder itself, in sorted order: first its files, then each subfolder.

    links: enter folders behind symbolic links, though no folder twice; otherwise such links are given as they are.
    hidden: include names that begin with a dot. seen: identities of folders to leave out; those visited are added.
    failed: called with the path of each folder that cannot be listed.
    """
    seen = set() if seen is None else seen
    pending = [os.fspath(folder)]
    while pending:
        path = pending.pop()
        try:
            if links:
                place = identity(os.stat(path))  # noqa: PTH116 (names of any bytes)
                if place in seen:
                    continue
                seen.add(place)
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            failed(path, error)
            continue
        folders = []
        for entry in entries:
            if not hidden and entry.name.startswith("."):
                continue
            if (links or not entry.is_symlink()) and _is_folder(entry):
                folders.append(entry.path)
            else:
                yield entry
        pending += reversed(folders)


def identity(status: os.stat_result) -> tuple[int, int]:
    """A file or folder has one identity, whatever links lead to it."""
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
