"""Which files are footage, their names, and whether they decode."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grainscan.errors import DataError, UnfitDataError, UsageError, VideoError
from grainscan.files import identity, walk
from grainscan.options import ScanConfig
from grainscan.video import Reader, is_video_name
from grainscan.workers import alive

_STEM_LENGTH = 80  # characters of a clip's name that come from its source


@dataclass(frozen=True)
class Source:
    """A file of footage.

    `name` is unique and the same on every machine: the path relative to the folder that the user named or, if several,
    to the one that holds them all. `stem` begins the names of its clips. `root` is the folder that the user named.
    """

    path: Path
    name: str
    stem: str
    root: Path
    size: int  # bytes
    changed: int  # nanoseconds since the epoch


@dataclass(frozen=True)
class Skipped:
    """A file that cannot be read, or a clip that could not be made."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclass(frozen=True)
class Examined:
    """What a whole file decodes to: frames, their size and rate ("25/1", "" if unknown); or why it cannot be used."""

    frames: int = 0
    width: int = 0
    height: int = 0
    fps: str = ""
    reason: str = ""


def find_footage(paths: Iterable[Path], *, apart_from: Path) -> tuple[list[Source], list[Skipped]]:
    """Every video below `paths`, sorted by name, and what cannot be read. A file among `paths` may have any suffix.

    Links are followed, but no folder and no file is used twice, however many links lead to it. `apart_from` (the folder
    for the clips) is left out. Raises UsageError for a path that does not exist, UnfitDataError if there
    is no video, DataError if none can be opened.
    """
    found: list[tuple[Path, Path, os.stat_result]] = []
    skipped: list[Skipped] = []
    seen: set[tuple[int, int]] = set()
    with contextlib.suppress(OSError):  # the folder does not exist yet
        seen.add(identity(apart_from.stat()))

    def unreadable(folder: str, error: OSError) -> None:
        skipped.append(Skipped(folder, f"the folder cannot be listed: {error.strerror or error}"))

    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or folder", hint="Name videos, or folders of videos.")
        folder = path.is_dir()
        root = path if folder else path.parent
        inside = (Path(item.path) for item in walk(path, seen=seen, failed=unreadable) if is_video_name(item.name))
        for file in inside if folder else (path,):
            try:
                status = file.stat()
            except OSError as error:
                skipped.append(Skipped(str(file), error.strerror or str(error)))
                continue
            if identity(status) not in seen:
                seen.add(identity(status))
                found.append((file, root, status))
    if not found:
        kind = DataError if skipped else UnfitDataError
        raise kind("no video found", hint="Folders are searched for files with a video suffix.")
    names = _names([(file, root) for file, root, _ in found])
    stems = _stems(names)
    sources = [
        Source(file, name, stems[name], root, status.st_size, status.st_mtime_ns)
        for (file, root, status), name in zip(found, names, strict=True)
    ]
    return sorted(sources, key=lambda source: source.name), skipped


def examine_request(path: str) -> dict[str, Any]:
    """Decode a file from its first frame to its last, in a worker process. Returns an `Examined` as JSON."""
    return asdict(_examine(path))


def reason_of(path: str, error: VideoError) -> str:
    """The message without the path, which depends on the machine."""
    return error.message.removeprefix(f"{path}: ")


def _examine(path: str) -> Examined:
    frames = width = height = 0
    try:
        with Reader(path, max_pixels=ScanConfig.max_pixels) as reader:
            for frame in reader.frames():
                if not frames:
                    width, height = frame.width, frame.height
                frames += 1
                alive()
            if not frames:
                return Examined(reason="no frame could be decoded")
            return Examined(frames, width, height, str(reader.info.fps or ""))
    except VideoError as error:
        return Examined(reason=reason_of(path, error))


def _names(files: list[tuple[Path, Path]]) -> list[str]:
    """Paths relative to the folder that holds them all. Never resolved: a link keeps its name."""
    roots = {os.path.abspath(root) for _, root in files}  # noqa: PTH100
    try:
        top = os.path.commonpath(roots)
    except ValueError:  # two drives of Windows
        top = ""
    names = (os.path.abspath(file) for file, _ in files)  # noqa: PTH100
    return [Path(os.path.relpath(name, top) if top else name.replace(":", "")).as_posix() for name in names]


def _stems(names: list[str]) -> dict[str, str]:
    """Safe and unique beginnings of clip names. Those that collide on some system get a digest of the name."""
    plain = {name: _safe(name) for name in names}
    alike = Counter(stem.casefold() for stem in plain.values())
    stems = {}
    for name, stem in plain.items():
        if not stem or len(stem) > _STEM_LENGTH or alike[stem.casefold()] > 1:
            digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
            stem = f"{stem[:_STEM_LENGTH] or 'clip'}-{digest}"
        stems[name] = stem
    return stems


def _safe(name: str) -> str:
    """The name without its suffix, in letters, digits and ._- alone."""
    text = unicodedata.normalize("NFKD", os.path.splitext(name)[0])  # noqa: PTH122
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "".join(c for c in text if not unicodedata.combining(c))).strip("._-")
