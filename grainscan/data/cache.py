"""Decoded clips on disk, from which training cuts its views, so that only the first epoch decodes.

A clip becomes an *excerpt*: one or a few blocks of native planes. A short clip is kept whole; of a longer one, a few
windows and crops are kept, sampled as in `predict` but larger than a view by a margin within which training varies the
position. If a model reads them, the statistics of the picture are part of it: those of the windows that `predict` would
look at. Each excerpt is a file, named after everything it depends on, written under a temporary name and renamed: any
number of processes can fill the cache at once, and an interruption loses one clip.

Memory use does not depend on the number of clips: no file stays open, and a view reads only its own frames.

The cache keeps to its limit, leaves a reserve of the disk to others and drops what no training has used for a month.
Clips that find no room are decoded each time, which is slower but otherwise the same.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grainscan.errors import DataError, VideoError
from grainscan.files import replacing
from grainscan.video import Block, PixelFormat, Window, fill_indices, probe, read_clip, read_windows
from grainscan.views.crops import ViewSpec, active_area, view_boxes
from grainscan.views.statistics import COUNT, describe
from grainscan.workers import spread

CACHE_VARIABLE = "GRAINSCAN_CACHE_DIR"
EXCERPT_BYTES = 12_000_000  # larger clips are sampled
_FRAME_MARGIN = 8  # additional frames of an excerpt, compared with a view
_PIXEL_MARGIN = 64  # additional pixels of width and height, at most the size of the view
RESERVE = 10_000_000_000  # bytes of the disk left to others
_LONGEST_UNUSED = 30 * 86_400  # seconds for which an unused excerpt is kept
_VERSION = 3  # of the file format; part of the names
_LONGEST_HEADER = 1 << 20
_HEADERS_KEPT = 4096  # in memory
_STORE = "grainscan.data.cache:store_request"


class DecodedExcerpt:
    """Blocks of one clip in memory, all of one pixel format. `shapes`: (frames, height, width) of each.

    `statistics` are those of the clip's windows, float32 (windows, count), without rows if they are not wanted.
    """

    def __init__(self, blocks: Sequence[Block], statistics: Sequence[NDArray[np.float32]] = ()) -> None:
        self.blocks = tuple(blocks)
        self.statistics = np.array(statistics, np.float32).reshape(-1, COUNT)
        self.format = blocks[0].format if blocks else PixelFormat.of("gray")
        self.shapes = tuple((block.frames, block.height, block.width) for block in blocks)

    def block(self, index: int, start: int, frames: int) -> Block:
        """Up to `frames` frames of a block from `start`."""
        block = self.blocks[index]
        return block.crop(0, 0, block.width, block.height, start, frames)


class StoredExcerpt:
    """The same on disk: one line of JSON (format, shapes, windows with statistics), the statistics, then the planes of
    each block one after another."""

    def __init__(self, path: str) -> None:
        """Reads the first line. Raises OSError, ValueError, KeyError or TypeError if it is not an excerpt."""
        with open(path, "rb") as file:  # noqa: PTH123 (once per view: Path.open takes longer than reading)
            line = file.readline(_LONGEST_HEADER)
            size = os.fstat(file.fileno()).st_size
        header = json.loads(line)
        self.path = path
        self.format = PixelFormat(**header["format"])
        self.shapes = tuple((int(t), int(h), int(w)) for t, h, w in header["shapes"])
        self._windows, self._described = int(header["windows"]), len(line)
        self._offset = len(line) + 4 * COUNT * self._windows
        if not (self.shapes or self._windows) or self._offset + sum(map(self._bytes, self.shapes)) != size:
            raise ValueError(f"{path}: its length does not match its header")

    @classmethod
    def write(cls, path: Path, excerpt: DecodedExcerpt) -> None:
        header = {"format": asdict(excerpt.format), "shapes": excerpt.shapes, "windows": len(excerpt.statistics)}
        with path.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(excerpt.statistics.tobytes())
            for block in excerpt.blocks:
                for plane in block.planes:
                    file.write(np.ascontiguousarray(plane).data)

    @property
    def statistics(self) -> NDArray[np.float32]:
        if not self._windows:  # read for each view: a file need not be opened for nothing
            return np.empty((0, COUNT), np.float32)
        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123
            file.seek(self._described)
            return np.fromfile(file, np.float32, COUNT * self._windows).reshape(-1, COUNT)

    def block(self, index: int, start: int, frames: int) -> Block:
        """Reads only the frames asked for."""
        length, height, width = self.shapes[index]
        frames = min(frames, length - start)
        offset = self._offset + sum(map(self._bytes, self.shapes[:index]))
        planes = []
        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123
            for rows, columns in plane_shapes(self.format, height, width):
                plane = np.empty((frames, rows, columns), dtype=self.format.dtype)
                picture = rows * columns * plane.itemsize
                file.seek(offset + start * picture)
                file.readinto(plane.data)
                planes.append(plane)
                offset += length * picture
        return Block(tuple(planes), self.format)

    def _bytes(self, shape: tuple[int, int, int]) -> int:
        return shape[0] * frame_bytes(self.format, shape[1], shape[2])


Excerpt = DecodedExcerpt | StoredExcerpt


def plane_shapes(form: PixelFormat, height: int, width: int) -> list[tuple[int, int]]:
    """(rows, columns) of each plane of a picture."""
    chroma = (-(-height >> form.sub_h), -(-width >> form.sub_w))
    return [(height, width)] + [chroma] * (form.planes - 1)


def frame_bytes(form: PixelFormat, height: int, width: int) -> int:
    samples = sum(rows * columns for rows, columns in plane_shapes(form, height, width))
    return samples * np.dtype(form.dtype).itemsize


class ClipCache:
    """Excerpts of clips for views of one specification, kept below `directory` (None: decoded anew each time).

    `views`: whether they have blocks, of which views are cut. `statistics`: whether they have those of the picture.
    `limit` is in bytes, for all data sets together. If it or the reserve of the disk is reached, the excerpts unused
    for longest are removed, once; what does not fit even then is decoded each time.
    """

    def __init__(
        self,
        directory: Path | None,
        view: ViewSpec,
        *,
        views: bool = True,
        statistics: bool = False,
        limit: float = float("inf"),
    ) -> None:
        self.directory = None if directory is None else os.fspath(directory)
        self.view = view
        self.wanted = {"views": views, "statistics": statistics}
        self.limit = limit
        self._room: float | None = None  # bytes that may still be added; counted before the first excerpt
        self._known: dict[Path, StoredExcerpt] = {}  # headers of recently read excerpts

    @property
    def full(self) -> bool:
        """Whether there is no more room."""
        return self._room is not None and self._room <= 0

    def read(self, path: Path) -> Excerpt:
        """The excerpt of a clip, decoded if it is not there yet. Raises VideoError, DataError."""
        if self.directory is None:
            return decode(path, self.view, **self.wanted)
        if path in self._known:
            return self._known[path]
        file = self._file(path)
        try:
            stored = StoredExcerpt(file)
        except (OSError, ValueError, KeyError, TypeError):  # not there yet, or damaged
            excerpt = decode(path, self.view, **self.wanted)
            room = self._remaining()
            if room > 0:
                self._room = room - _write(Path(file), excerpt)
            return excerpt
        if len(self._known) >= _HEADERS_KEPT:
            self._known.clear()
        self._known[path] = stored
        return stored

    def holds(self, path: Path) -> bool:
        """Whether there is an excerpt of a clip, intact or not."""
        return self.directory is not None and os.path.exists(self._file(path))  # noqa: PTH110 (as in `_file`)

    def forget(self, path: Path) -> None:
        """Forget the header of a clip's excerpt: another training may have removed the file to make room."""
        self._known.pop(path, None)

    def fill(self, paths: Iterable[Path], *, workers: int = -1) -> Iterator[tuple[Path, VideoError | None]]:
        """Make sure that clips can be decoded, and keep them; yields each path when done, with its error if any.

        Missing clips are decoded in isolated processes (0: in this one), even if there is no room to keep them: a clip
        that crashes its decoder is found here, and not hours into the training. Raises DataError.
        """
        known: list[Path] = []

        def requests() -> Iterator[tuple[str, Any]]:
            for path in paths:
                file = None
                with suppress(OSError):  # the clip has gone: decoding reports it
                    file = None if self.directory is None else self._file(path)
                if file is not None and _touched(file):
                    known.append(path)
                    continue
                keep = file is not None and self._remaining() > 0  # each worker may exceed it by one excerpt
                yield (
                    str(path),
                    {"path": str(path), "view": self.view.to_dict(), **self.wanted, "file": file if keep else None},
                )

        for name, written in spread(_STORE, requests(), workers=workers, parse=float):
            if isinstance(written, VideoError):
                yield Path(name), written
                continue
            if self._room is not None:
                self._room -= written
            yield Path(name), None
            while known:
                yield known.pop(), None
        yield from ((path, None) for path in known)

    def _remaining(self) -> float:
        """Bytes that may still be added."""
        if self._room is None:
            self._room = self._make_room()
        return self._room

    def _make_room(self) -> float:
        """Remove excerpts, those unused for longest first, until limit and reserve are kept. Returns the bytes left.

        Those unused for longer than `_LONGEST_UNUSED` are always removed. Raises DataError.
        """
        directory = Path(self.directory or "")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(directory).free
        except OSError as error:
            raise _unwritable(directory, error) from None
        entries = []
        for file in directory.glob("*/*.planes"):  # and temporary files of killed processes, of the same suffix
            with suppress(OSError):  # another training has removed it
                status = file.stat()
                entries.append((status.st_mtime, status.st_size, file))
        room = min(self.limit - sum(size for _, size, _ in entries), free - RESERVE)
        stale = time.time() - _LONGEST_UNUSED
        for used, size, file in sorted(entries):
            if room > 0 and used > stale:
                break
            with suppress(OSError):
                file.unlink(missing_ok=True)
                room += size
        return room

    def _file(self, path: Path) -> str:
        """The name depends on everything that the excerpt depends on, such as the clip's time of change."""
        status = path.stat()
        place = os.path.abspath(path)  # noqa: PTH100 (does not resolve links: once per view)
        parts = (self.wanted["views"], self.wanted["statistics"] and (COUNT, self.view.windows))
        identity = (_VERSION, place, status.st_size, status.st_mtime_ns, self.view.frames, self.view.size, *parts)
        digest = hashlib.blake2b(repr(identity).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return f"{self.directory}/{digest[:2]}/{digest[2:]}.planes"


def store_request(request: dict[str, Any]) -> float:
    """Decode a clip in a worker process and write its excerpt to `file`, if that is not None.

    Returns the bytes written, or infinity if the disk is full. Raises VideoError, DataError.
    """
    wanted = {key: request[key] for key in ("views", "statistics")}
    excerpt = decode(Path(request["path"]), ViewSpec.from_dict(request["view"]), **wanted)
    return _write(Path(request["file"]), excerpt) if request["file"] else 0.0


def _touched(file: str) -> bool:
    """Mark an excerpt as used; False if it is missing or damaged."""
    try:
        StoredExcerpt(file)
        os.utime(file)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _write(file: Path, excerpt: DecodedExcerpt) -> float:
    """Write an excerpt. Returns the bytes written, or infinity if the disk is full. Raises DataError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, durable=False) as temporary:
            StoredExcerpt.write(temporary, excerpt)
            return temporary.stat().st_size
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # others have used up the reserve
            return math.inf
        raise _unwritable(file.parent, error) from None


def _unwritable(directory: Path, error: OSError) -> DataError:
    return DataError(
        f"{directory}: the cache of decoded clips cannot be written: {error.strerror or error}",
        hint=f"Set {CACHE_VARIABLE} to a writable folder, or train with --no-cache.",
    )


def default_directory() -> Path:
    """Where decoded clips are kept: `GRAINSCAN_CACHE_DIR`, or the user's cache folder."""
    import platformdirs

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("grainscan", appauthor=False)) / "clips"


# ------------------------------------------------------------------------------------------------------ decoding


def decode(
    path: Path, view: ViewSpec, *, views: bool = True, statistics: bool = False, budget: int = EXCERPT_BYTES
) -> DecodedExcerpt:
    """The excerpt of a clip: all of it if that fits the budget (bytes), else crops of windows. Raises VideoError.

    Without `views` it has no blocks, only statistics.
    """
    info = probe(path)
    form = _nominal_format(info.pix_fmt)
    frames = info.frames or (round(info.duration * info.fps) if info.duration and info.fps else 0)
    affordable = budget // max(1, frame_bytes(form, info.height, info.width))
    if frames <= affordable and affordable >= view.frames:
        block = read_clip(path, frames=affordable + 1)
        if block.frames <= affordable:
            rows = [describe(window) for window in _moments(block, view)] if statistics else []
            return DecodedExcerpt([_without_bars(block)] if views else [], rows)
    return _sampled(path, view, form, budget, views=views, statistics=statistics)


def _moments(block: Block, view: ViewSpec) -> Iterator[Window]:
    """Evenly spread windows of a clip, as many as `predict` looks at or as differ. Short clips play back and forth."""
    latest = max(0, block.frames - view.frames)
    for start in sorted({round(place) for place in np.linspace(0, latest, view.windows)}):
        order = np.array(fill_indices(min(block.frames, view.frames), view.frames, "mirror")) + start
        yield Block(tuple(plane[order] for plane in block.planes), block.format).window()


def _sampled(
    path: Path, view: ViewSpec, form: PixelFormat, budget: int, *, views: bool, statistics: bool
) -> DecodedExcerpt:
    side = view.size + min(view.size, _PIXEL_MARGIN)
    frames = view.frames + _FRAME_MARGIN
    crops = max(1, min(view.crops, budget // (view.windows * frames * frame_bytes(form, side, side))))
    larger = replace(view, frames=frames, size=side, crops=crops)
    blocks: list[Block] = []
    rows: list[NDArray[np.float32]] = []
    for window in read_windows(path, windows=view.windows, frames=frames):
        if blocks and window.format != blocks[0].format:
            continue
        if views:
            width, height = min(side, window.width), min(side, window.height)
            blocks += [window.block(x, y, width, height) for x, y in view_boxes(window, larger)]
        if statistics:
            rows.append(describe(replace(window, pictures=window.pictures[: view.frames])))
    return DecodedExcerpt(blocks, rows)


def _without_bars(block: Block) -> Block:
    """The picture between black bars, on the chroma grid."""
    x, y, width, height = active_area(block.window())
    left, top = -(-x // 4) * 4, -(-y // 4) * 4  # 4 pixels: the coarsest chroma grid
    right, bottom = (x + width) // 2 * 2, (y + height) // 2 * 2
    if (x, y, width, height) == (0, 0, block.width, block.height) or right <= left or bottom <= top:
        return block
    return block.crop(left, top, right - left, bottom - top)


def _nominal_format(name: str) -> PixelFormat:
    """The planar format from which the size of an excerpt is estimated; packed formats are converted when read."""
    try:
        return PixelFormat.of(name.replace("yuvj", "yuv"))
    except ValueError:
        return PixelFormat.of("yuv444p")
