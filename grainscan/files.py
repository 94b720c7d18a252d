"""Atomic writing (to a temporary name in the same folder, then renamed), and the walk of folders.

Links are followed: the file they point to is replaced and the link stays. Permissions and, where allowed, the owner are
kept. Pipes and devices cannot be replaced and are written to directly.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from grainscan.errors import GrainscanError, OutputError, UsageError, way_on

E = TypeVar("E", bound=GrainscanError)

TEMPORARY = ".tmp-"  # prefix of unfinished files


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe or a device, which can be written to but not replaced."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def check_output(path: Path) -> None:
    """Check before the work that a file can be written. Raises UsageError."""
    try:
        _target(path)
    except (OSError, ValueError) as error:
        raise _refused(UsageError, path, error) from None


def check_folder(path: Path) -> None:
    """Check before the work that a folder can be created and written to. Raises UsageError."""
    try:
        place = next(place for place in (path, *path.absolute().parents) if place.exists() or place.is_symlink())
        if not place.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
        _require(place, os.W_OK | os.X_OK, path)
    except (OSError, ValueError) as error:
        raise _refused(UsageError, path, error) from None


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file that the system refused to write."""
    return _refused(OutputError, path, error)


def _refused(kind: type[E], path: Path, error: OSError | ValueError) -> E:
    hint = way_on(error) if isinstance(error, OSError) else "Choose another name."
    reason = getattr(error, "strerror", None) or str(error)
    return kind(f"{path}: cannot be written: {reason}", hint=hint)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` if the block succeeds. Raises OSError.

    `durable` waits for the disk, so that the file survives a power failure; not worth it for many large files that can
    be made again.
    """
    target = _target(path)
    if is_stream(target):
        yield target
        return
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}{path.suffix}")  # the suffix may name the format
    try:
        yield temporary
        with temporary.open("r+b") as file:
            take_over(file.fileno(), target)
            if durable:
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(paths: Iterable[Path]) -> None:
    """Remove those of the paths that are unfinished files: of a process that was killed while it wrote them."""
    for path in list(paths):
        if path.name.startswith(TEMPORARY):
            path.unlink(missing_ok=True)


def take_over(handle: int, path: Path) -> None:
    """Give an open file the permissions of the file it is to replace and, where allowed, its owner."""
    with contextlib.suppress(FileNotFoundError):
        before, now = path.stat(), os.fstat(handle)
        if hasattr(os, "fchown") and (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            with contextlib.suppress(PermissionError):
                os.fchown(handle, before.st_uid, before.st_gid)
        if hasattr(os, "fchmod"):
            os.fchmod(handle, stat.S_IMODE(before.st_mode))


def _target(path: Path) -> Path:
    """The file behind a path, which can be written. Raises OSError, ValueError."""
    if is_stream(path):  # not resolved: /dev/stdout leads to a name such as pipe:[123]
        _require(path, os.W_OK, path)
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not target.parent.is_dir():
        raise OSError(errno.ENOENT, f"no such folder: {target.parent}", str(path))
    if target.exists():
        _require(target, os.W_OK, path)
    _require(target.parent, os.W_OK | os.X_OK, path)
    return target


def _require(place: Path, access: int, path: Path) -> None:
    if not os.access(place, access):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole. Raises OutputError."""
    try:
        with replacing(path) as temporary:
            # File names that are not valid UTF-8 contain surrogates; JSON reads them back from \\udcXX.
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise unwritable(path, error) from None


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
    """Everything below a folder except folders, in sorted order: first its files, then each subfolder.

    links: enter folders behind symbolic links, no folder twice; otherwise such links are yielded themselves.
    hidden: include names that begin with a dot. seen: identities of folders to skip; those visited are added.
    failed: called for each folder that cannot be listed.
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
    """The identity of a file or folder, the same for all links to it."""
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
