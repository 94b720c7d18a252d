"""From what the user named (files, folders, globs, paths on stdin, URLs) to a sorted list of files, each once.

Whatever is named is tried; a folder is searched for the suffixes of videos. Nothing is opened here, so that a missing
file stays in the list and becomes an error row like any other file that cannot be judged. URLs (s3://, gs://, …) need
fsspec; such files are copied to a local temporary file while they are judged.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import itertools
import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from grainscan.errors import DependencyError, GrainscanError, UsageError, VideoError
from grainscan.files import walk
from grainscan.video import is_video_name

# The many os.path calls here keep names of any bytes as they are, and are hot over whole libraries.
# ruff: noqa: PTH111, PTH112, PTH116, PTH122, PTH207

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
STDIN = "-"


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
    return [os.fsdecode(name) for name in data.split(separator) if name]


# ----------------------------------------------------------------------------------------------------------- identity


def identify(name: str) -> dict[str, Any] | None:
    """Size and time of change, by which a second scan recognises a file; None for a missing one."""
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
            f"{url}: URLs need fsspec", hint="pip install fsspec, and s3fs, gcsfs or the like."
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
    """The files of a scan as they become available: local ones at once, remote ones when a copy has been fetched.

    `ahead` files are fetched in advance, so that decoding need not wait for the network. `ready` is called, from any
    thread, when another copy has arrived. Use as a context manager; it removes the copies.
    """

    def __init__(self, names: Sequence[str], *, ahead: int, ready: Callable[[], None]) -> None:
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
            self._queue.append((self._next, self._fetch(name) if is_url(name) else None))
            self._next += 1
        for item in self._queue:
            number, copy = item
            if copy is None or copy.done():
                self._queue.remove(item)
                return number, self._names[number] if copy is None else _outcome(copy, self._names[number])
        return None

    def _fetch(self, url: str) -> Future[str]:
        if self._fetchers is None or self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="grainscan-")
            self._fetchers = ThreadPoolExecutor(self._ahead, thread_name_prefix="grainscan-fetch")
        future = self._fetchers.submit(fetch, url, Path(self._folder.name), self._next)
        future.add_done_callback(lambda _: self._ready())
        return future


def _outcome(copy: Future[str], url: str) -> str | GrainscanError:
    error = copy.exception()
    if error is None:
        return copy.result()
    return error if isinstance(error, GrainscanError) else VideoError(f"{url}: cannot be fetched: {error}")


@contextlib.contextmanager
def local_copy(name: str) -> Iterator[str]:
    """The local name of a file; a remote one is copied for the length of the `with` block."""
    if not is_url(name):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="grainscan-") as folder:
        yield fetch(name, Path(folder), 0)


def fetch(url: str, folder: Path, number: int) -> str:
    """Copy a remote file into a folder and return its local name. Raises VideoError, DependencyError, UsageError."""
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
