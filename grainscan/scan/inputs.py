"""What the user named, as a sorted list of files: folders, globs, paths on stdin and URLs, each file once.

Whatever is named is tried; a folder is searched for names that videos carry. Nothing is opened here, so a missing file
is still in the list and becomes an error row like any other file that cannot be judged. URLs (s3://, gs://, …) go
through fsspec where it is installed; such files are copied to a local temporary file while they are judged.
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

# The many os.path calls here take names of any bytes as they are, and are hot over whole libraries.
# ruff: noqa: PTH111, PTH112, PTH116, PTH122, PTH207

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
STDIN = "-"


def collect(inputs: Iterable[str | os.PathLike[str]], *, stdin: BinaryIO | None = None) -> list[str]:
    """Every file that the inputs name, once, sorted. Raises UsageError when there is none.

    A file is named by itself (then it is tried whatever its suffix), by a folder (searched with all its subfolders,
    hidden names left out), by a glob such as `footage/**/*.mov`, by a line (or, when there are NUL bytes, a
    NUL-terminated name) on stdin for `-`, or by a URL of a file, folder or glob.
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
    if not found:
        raise UsageError(
            f"no videos in {', '.join(names) or 'nothing'}",
            hint="Files of other suffixes are tried when named one by one.",
        )
    return sorted(found.values())


def is_url(name: str) -> bool:
    """Whether fsspec has to fetch this file."""
    return _URL.match(name) is not None


def _expand(name: str) -> Iterator[str]:
    name = name.removeprefix("file://")
    if is_url(name):
        yield from _expand_url(name)
    elif glob.has_magic(name) and not os.path.lexists(name):
        matches = glob.glob(os.path.expanduser(name), recursive=True)
        suffix = os.path.splitext(name)[1]
        for match in matches:
            if os.path.isdir(match):
                yield from _walk(match)
            elif is_video_name(match) or (suffix and not glob.has_magic(suffix)):
                yield match  # a glob that spells the suffix names its files, as `*.dat` does
        if not matches:
            yield name  # the error row says that there is no such file
    else:
        yield from _walk(name)


def _walk(name: str) -> Iterator[str]:
    """A file as it is; a folder's videos. Links to folders are followed, but no folder is entered twice."""
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
    """Size and time of change: by these a second scan knows that a file is still the same. None for missing files."""
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
    try:
        if glob.has_magic(path) and not system.exists(path):
            matches = [match for match in system.glob(path) if not system.isdir(match)]
        elif system.isdir(path):
            matches = [match for match in system.find(path) if is_video_name(match)]
        else:
            matches = []
    except Exception:  # of any back end: no network, no rights; fetching will name the fault in an error row
        matches = []
        yield url
        return
    yield from (system.unstrip_protocol(match) for match in matches)
    if not matches and not system.isdir(path):
        yield url


def _identify_url(url: str) -> dict[str, Any] | None:
    try:
        system, path = _open_filesystem(url)
        info = system.info(path)
        stamp = next((info[key] for key in ("mtime", "LastModified", "updated", "created") if info.get(key)), None)
    except Exception:  # of any back end
        return None
    if isinstance(stamp, datetime.datetime):
        stamp = stamp.timestamp()
    return {"size": info.get("size"), "mtime": stamp or info.get("ETag")}


class Supply:
    """The files of a scan as they can be opened: local ones at once, remote ones when a copy has been fetched.

    `ahead` files are fetched in advance, so that decoding need not wait for the network. `ready` is called, from any
    thread, when another copy is there. Use as a context manager; it removes the copies.
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
        """The next file that can be opened: its number and local name, or why there is none. None: nothing yet."""
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
    """A file as it can be opened, for the length of a `with` block."""
    if not is_url(name):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="grainscan-") as folder:
        yield fetch(name, Path(folder), 0)


def fetch(url: str, folder: Path, number: int) -> str:
    """Copy a remote file into a folder; its local name. Raises VideoError, DependencyError."""
    system, path = _open_filesystem(url)
    local = folder / f"{number}{os.path.splitext(path)[1]}"
    try:
        system.get_file(path, str(local))
    except FileNotFoundError:
        raise VideoError(f"{url}: no such file", hint="Check the name.") from None
    except Exception as error:  # of any back end
        raise VideoError(
            f"{url}: cannot be fetched: {error}", hint="Check the network and the access rights."
        ) from None
    return str(local)
