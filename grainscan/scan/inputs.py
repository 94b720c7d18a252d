"""From what the user named (files, folders, globs, paths on stdin, URLs) to a sorted list of files, each once.

Whatever is named is tried; a folder is searched for the suffixes of videos. Nothing is opened here, so that a missing
file stays in the list and becomes an error row like any other file that cannot be judged. URLs (s3://, gs://, …) need
fsspec; such files, and open ones that Python hands over, are copied to a local temporary file while they are judged.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import io
import itertools
import os
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from grainscan.errors import DependencyError, GrainscanError, UsageError, VideoError
from grainscan.files import walk
from grainscan.video import Pictures, is_video_name

# The many os.path calls here keep names of any bytes as they are, and are hot over whole libraries.
# ruff: noqa: PTH111, PTH112, PTH116, PTH122, PTH207

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
STDIN = "-"
_LONGEST = 1000  # characters of a name between slashes: file systems take up to 255, and a piped video has longer ones


def collect(inputs: Iterable[str | os.PathLike[str]], *, stdin: BinaryIO | None = None) -> list[str]:
    """The files that the inputs name, each once, sorted. Raises UsageError when there are none.

    A file is named by its path (then it is tried whatever its suffix), by a folder (searched with all its subfolders,
    but without hidden names), by a glob such as `footage/**/*.mov`, by a line on stdin for `-` (by NUL-terminated names
    if there are NUL bytes), or by the URL of a file, folder or glob.
    """
    names = [os.fspath(item) for item in inputs]
    found: dict[str, str] = {}
    for name in names:
        paths: Iterable[str]
        if name == STDIN:
            paths = itertools.chain.from_iterable(map(_walk, _read_names(stdin or sys.stdin.buffer)))
        else:
            paths = _expand(name)
        for path in paths:
            found.setdefault(path if is_url(path) else os.path.normpath(path), path)
    if not set(found.values()) - {name for name in names if _is_pattern(name)}:
        raise _nothing(names)
    return sorted(found.values())


def in_order(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Files as they are named, in their order; folders and globs are replaced by their videos, sorted."""
    names: list[str] = []
    for path in [os.fspath(item) for item in paths]:
        folder = not is_url(path) and os.path.isdir(path)
        names += sorted(_expand(path)) if folder or _is_pattern(path) else [path]
    return names


@dataclass(frozen=True, eq=False)
class Stream:
    """An open binary file, read from where it stands; `name` is for the result."""

    name: str
    file: BinaryIO


File = str | Stream  # a name, or an open file
Item = File | Pictures


def items_of(given: Any, fps: float) -> Iterator[Item]:
    """What a scan is given from Python, one by one: a path, array or open file, or several of them.

    A single path means what it means on the command line, see `collect`. Among several, folders and globs are replaced
    by their videos, sorted. Arrays (frames, height, width, 3) are called `array 0`, … and open files without a name
    `file 0`, …, by their place among the inputs. Raises UsageError for anything else.
    """
    if isinstance(given, str | os.PathLike):
        yield from collect([given])
    elif (item := in_memory(given, 0, fps)) is not None:
        yield item
    elif not isinstance(given, Iterable):
        raise _no_input(given, 0)
    else:
        for number, each in enumerate(given):
            if isinstance(each, str | os.PathLike):
                yield from in_order([each])
            elif (item := in_memory(each, number, fps)) is not None:
                yield item
            else:
                raise _no_input(each, number)


def item_of(given: Any, fps: float) -> Item:
    """A single path, array or open file. Raises UsageError for anything else."""
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    item = in_memory(given, 0, fps)
    if item is None:
        raise _no_input(given, 0)
    return item


def in_memory(given: Any, number: int, fps: float) -> Stream | Pictures | None:
    """An open file or an array; None for anything else, also for an array of names. Raises UsageError."""
    if hasattr(given, "read"):
        name = getattr(given, "name", None)
        name = name if isinstance(name, str) else f"file {number}"
        if isinstance(given, io.TextIOBase):
            raise UsageError(f"{name}: was opened as text", hint="Open it as binary: open(name, 'rb').")
        return Stream(name, given)
    if not hasattr(given, "__array__"):
        return None
    array = np.asarray(given)
    return None if array.dtype.kind in "OSTU" else Pictures.of(f"array {number}", array, fps)


def name_of(item: Item) -> str:
    """What an item is called in its result."""
    return item if isinstance(item, str) else item.name


def _no_input(given: object, number: int) -> UsageError:
    return UsageError(
        f"input {number} is of type {type(given).__name__}",
        hint="Give paths, arrays of shape (frames, height, width, 3), or files that are open as binary.",
    )


def _is_pattern(name: str) -> bool:
    return glob.has_magic(name) and not is_url(name) and not os.path.lexists(name)


def _nothing(names: Sequence[str]) -> UsageError:
    """The error for inputs without a video, with a hint that fits."""
    if list(names) == [STDIN]:
        return UsageError(
            "stdin names no files", hint="Pipe a path per line: find . -name '*.mxf' | grainscan predict -"
        )
    where = ", ".join(names) or "nothing"
    if all(map(_is_pattern, names)):
        return UsageError(f"no file matches {where}", hint="Check the pattern; ** matches any number of folders.")
    return UsageError(f"no videos in {where}", hint="Files with other suffixes are tried when named one by one.")


def is_url(name: str) -> bool:
    """Whether this is a file for fsspec to fetch."""
    return _URL.match(name) is not None


def _expand(name: str) -> Iterator[str]:
    name = name.removeprefix("file://")
    if not _is_pattern(name):
        yield from _walk(name)
        return
    matches = glob.glob(os.path.expanduser(name), recursive=True)
    suffix = os.path.splitext(name)[1]
    for match in matches:
        if os.path.isdir(match):
            yield from _walk(match)
        elif is_video_name(match) or (suffix and not glob.has_magic(suffix)):
            yield match  # a glob that spells out the suffix, such as `*.dat`, names its files
    if not matches:
        yield name  # the error row will say that there is no such file


def _walk(name: str) -> Iterator[str]:
    """The videos of a folder or URL; any other name as it is."""
    name = name.removeprefix("file://")
    if is_url(name):
        yield from _expand_url(name)
        return
    if not os.path.isdir(name):
        yield name
        return
    unreadable: list[str] = []
    files = walk(name, failed=lambda folder, error: unreadable.append(folder))
    yield from (os.path.normpath(file.path) for file in files if is_video_name(file.name))
    yield from unreadable  # error rows too


def _read_names(stream: BinaryIO) -> list[str]:
    data = stream.read()
    separator = b"\0" if b"\0" in data else b"\n"
    names = [os.fsdecode(name) for name in data.split(separator) if name]
    if any(len(part) > _LONGEST for name in names if not is_url(name) for part in name.split("/")):
        raise UsageError(
            "stdin holds no list of paths: some of it is too long for the name of a file",
            hint="Pipe a path per line: find . -name '*.mxf' | grainscan predict -. Write a video to a file first.",
        )
    return names


# ----------------------------------------------------------------------------------------------------------- identity


def identify(name: Item) -> dict[str, Any] | None:
    """Size and time of change, by which a second scan recognises a file; None for a missing one, or one in memory."""
    if not isinstance(name, str):
        return None
    if is_url(name):
        return _identify_url(name)
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return None
    return {"size": status.st_size, "mtime": status.st_mtime}


# --------------------------------------------------------------------------------------------------------------- URLs


def _open_filesystem(url: str) -> tuple[Any, str]:
    """(file system, path in it). Raises DependencyError, UsageError."""
    scheme = url.partition("://")[0]
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise DependencyError(
            f"{url}: URLs need fsspec", hint="Run `pip install fsspec`, with s3fs, gcsfs or the like."
        ) from None
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise DependencyError(f"{url}: {error}", hint=f"Install the fsspec package for {scheme}://.") from None
    except ValueError as error:
        raise UsageError(f"{url}: {error}", hint="Use a scheme that fsspec knows, such as s3:// or gs://.") from None
    return system, path


def _expand_url(url: str) -> Iterator[str]:
    system, path = _open_filesystem(url)
    folder, matches = False, []
    try:
        folder = system.isdir(path)
        if folder:
            matches = [match for match in system.find(path) if is_video_name(match)]
        elif glob.has_magic(path) and not system.exists(path):
            matches = [match for match in system.glob(path) if not system.isdir(match)]
    except Exception:  # of any backend: no network, no rights; fetching will name the fault in an error row
        folder = False
    yield from map(system.unstrip_protocol, matches)
    if not matches and not folder:
        yield url


def _identify_url(url: str) -> dict[str, Any] | None:
    try:
        system, path = _open_filesystem(url)
        info = system.info(path)
        stamp = next((info[key] for key in ("mtime", "LastModified", "updated", "created") if info.get(key)), None)
    except Exception:  # of any backend
        return None
    if isinstance(stamp, datetime.datetime):
        stamp = stamp.timestamp()
    return {"size": info.get("size"), "mtime": stamp or info.get("ETag")}


class Supply:
    """The files of a scan as they become available: local ones at once, others when a copy has been fetched.

    `ahead` files are fetched in advance, so that decoding need not wait for the network. `ready` is called, from any
    thread, when another copy has arrived. Use as a context manager; it removes the copies.
    """

    def __init__(self, names: Sequence[File], *, ahead: int, ready: Callable[[], None]) -> None:
        self._names = names
        self._ahead = ahead
        self._ready = ready
        self._next = 0
        self._queue: deque[tuple[int, Future[str] | None]] = deque()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._fetchers: ThreadPoolExecutor | None = None

    def __enter__(self) -> Supply:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._fetchers is not None:
            self._fetchers.shutdown(cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()

    def take(self) -> tuple[int, str | GrainscanError] | None:
        """The number of the next file and its local name, or why it cannot be fetched; None if there is none yet."""
        while len(self._queue) < self._ahead and self._next < len(self._names):
            name = self._names[self._next]
            self._queue.append((self._next, None if _is_local(name) else self._fetch(name)))
            self._next += 1
        for item in self._queue:
            number, copy = item
            if copy is None or copy.done():
                self._queue.remove(item)
                name = name_of(self._names[number])
                return number, name if copy is None else _outcome(copy, name)
        return None

    def _fetch(self, file: File) -> Future[str]:
        if self._fetchers is None or self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="grainscan-")
            self._fetchers = ThreadPoolExecutor(self._ahead, thread_name_prefix="grainscan-fetch")
        future = self._fetchers.submit(fetch, file, Path(self._folder.name), self._next)
        future.add_done_callback(lambda _: self._ready())
        return future


def _outcome(copy: Future[str], url: str) -> str | GrainscanError:
    error = copy.exception()
    if error is None:
        return copy.result()
    return error if isinstance(error, GrainscanError) else VideoError(f"{url}: cannot be fetched: {error}")


@contextlib.contextmanager
def local_copy(file: File) -> Iterator[str]:
    """The local name of a file; a remote or an open one is copied for the length of the `with` block."""
    if _is_local(file):
        yield name_of(file)
        return
    with tempfile.TemporaryDirectory(prefix="grainscan-") as folder:
        yield fetch(file, Path(folder), 0)


def _is_local(file: File) -> bool:
    return isinstance(file, str) and not is_url(file)


def fetch(file: File, folder: Path, number: int) -> str:
    """Copy a remote or an open file into a folder and return its local name.

    Raises VideoError, DependencyError, UsageError.
    """
    return _fetch_url(file, folder, number) if isinstance(file, str) else _spool(file, folder / str(number))


def _spool(stream: Stream, local: Path) -> str:
    try:
        with local.open("wb") as copy:
            shutil.copyfileobj(stream.file, copy)
    except Exception as error:  # of any object that can be read
        raise VideoError(f"{stream.name}: cannot be read: {error}", hint="It must be open, and hold bytes.") from None
    return str(local)


def _fetch_url(url: str, folder: Path, number: int) -> str:
    system, path = _open_filesystem(url)
    local = folder / f"{number}{os.path.splitext(path)[1]}"
    try:
        system.get_file(path, str(local))
    except FileNotFoundError:
        raise VideoError(f"{url}: no such file", hint="Check the name.") from None
    except Exception as error:  # of any backend
        raise VideoError(
            f"{url}: cannot be fetched: {error}", hint="Check the network and the access rights."
        ) from None
    return str(local)
