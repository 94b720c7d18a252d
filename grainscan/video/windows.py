"""Windows of consecutive frames, spread over a file and found by seeking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from grainscan.errors import VideoError
from grainscan.options import ShortPolicy
from grainscan.video.frames import picture_of
from grainscan.video.planes import PixelFormat, Window
from grainscan.video.reader import Key, Reader


def read_windows(
    path: str | os.PathLike[str] | Reader,
    *,
    windows: int,
    frames: int,
    short: ShortPolicy = "mirror",
    threads: int = 1,
    max_pixels: int | None = None,
) -> Iterator[Window]:
    """Up to `windows` windows of `frames` consecutive frames, spread over the file.

    Windows start at key frames, which costs no decoding beside the window itself. Where several would start at the same
    key frame (long GOPs, short clips) they follow one another from there, at most one window length apart, so that no
    frame is decoded twice. A stream that cannot seek is read from its start in the same manner. A window never spans a
    change of picture size. A clip with fewer frames than a window is filled by `short`: `mirror` (back and forth),
    `wrap`, `repeat` (the last frame) or `error`. Raises VideoError when no frame can be decoded.
    """
    if not isinstance(path, Reader):
        with Reader(path, threads=threads, max_pixels=max_pixels) as reader:
            yield from read_windows(reader, windows=windows, frames=frames, short=short)
        return
    reader, found = path, 0
    leftover: _Run | None = None
    for plan in (_plan(reader, windows, frames), [_from_start(windows, frames)]):
        for key, count, stride in plan:
            for run in _runs(reader, key, count, frames, stride):
                if len(run.pictures) == frames:
                    found, leftover = found + 1, None
                    window = run.window()
                    del run  # the frames of a window go before others are decoded, unless the caller keeps them
                    yield window
                    del window
                elif not found and (leftover is None or len(run.pictures) > len(leftover.pictures)):
                    leftover = run
        if found:
            return
        # An index may lie, and seeking may miss the only key frame: then the file is read from its start.
    if leftover is None:
        raise reader.explain_nothing()
    if short == "error":
        raise VideoError(
            f"{reader.path}: has {len(leftover.pictures)} frames, a window needs {frames}",
            hint="Choose another policy for short clips: mirror, wrap or repeat.",
        )
    yield leftover.filled(frames, short).window()


@dataclass(frozen=True, eq=False)
class _Run:
    """Consecutive frames on the way to a window."""

    start: float
    end: float
    format: PixelFormat
    pictures: list[tuple[NDArray[Any], ...]]

    def window(self) -> Window:
        return Window(self.start, self.end, self.format, tuple(self.pictures))

    def filled(self, frames: int, policy: ShortPolicy) -> _Run:
        return replace(self, pictures=[self.pictures[i] for i in fill_indices(len(self.pictures), frames, policy)])


def fill_indices(available: int, wanted: int, policy: ShortPolicy) -> list[int]:
    """Frame numbers that fill a window of `wanted` from `available` frames: mirror 0 1 2 1 0 1, wrap 0 1 2 0 1 2,
    repeat 0 1 2 2 2 2. `error` raises ValueError when frames are missing."""
    if available >= wanted:
        return list(range(wanted))
    if policy == "error":
        raise ValueError(f"{available} frames where {wanted} are needed")
    if policy == "repeat":
        return [min(i, available - 1) for i in range(wanted)]
    if policy == "wrap":
        return [i % available for i in range(wanted)]
    period = max(1, 2 * available - 2)
    return [min(i % period, period - i % period) if available > 1 else 0 for i in range(wanted)]


def _plan(reader: Reader, windows: int, frames: int) -> list[tuple[Key | None, int, int]]:
    """(key frame to seek to, windows from there, frames between their starts) in the order of time."""
    info = reader.info
    fps = float(info.fps) if info.fps else 25.0
    if info.duration is None:
        return [_from_start(windows, frames)]
    keys: list[Key] = []
    for i in range(windows):
        key = reader.key_frame_before(info.duration * (i + 0.5) / windows)
        if key is not None:
            keys.append(key)
    if not keys:
        return [_from_start(windows, frames)]
    groups: list[list[Key]] = []
    for key in sorted(keys):  # key frames less than a window apart share a run, else windows would overlap
        if groups and (reader.seconds(key.pts) - reader.seconds(groups[-1][0].pts)) * fps < frames:
            groups[-1].append(key)
        else:
            groups.append([key])
    ends = [reader.seconds(group[0].pts) for group in groups[1:]] + [info.duration]
    plan: list[tuple[Key | None, int, int]] = []
    for group, end in zip(groups, ends, strict=True):
        span = int((end - reader.seconds(group[0].pts)) * fps + 0.5)
        count = max(1, min(len(group), span // frames))
        gap = frames if count == 1 else min(2 * frames, max(frames, (span - frames) // (count - 1)))
        plan.append((group[0], count, gap))
    return plan


def _from_start(windows: int, frames: int) -> tuple[None, int, int]:
    return None, windows, 2 * frames


def _runs(reader: Reader, key: Key | None, count: int, frames: int, stride: int) -> Iterator[_Run]:
    """`count` runs of `frames` frames, `stride` apart; the last may be shorter. A change of size ends a run early."""
    if key is None:
        reader.restart()
    else:
        reader.seek(key.seek)
    run: _Run | None = None
    skip = 0
    length = float(1 / reader.info.fps) if reader.info.fps else 0.04
    first = 0.0 if key is None else reader.seconds(key.pts)
    for number, frame in enumerate(reader.frames()):
        if frame.is_corrupt or (key is not None and frame.pts is not None and frame.pts < key.pts):
            continue  # leading pictures of an open GOP refer to frames before the seek point
        if skip:
            skip -= 1
            continue
        picture, form = picture_of(frame)
        at = first + number * length if frame.pts is None else reader.seconds(frame.pts)
        if run is not None and (run.format != form or run.pictures[0][0].shape != picture[0].shape):
            yield run
            run = None
        if run is None:
            run = _Run(at, at, form, [])
        run.pictures.append(picture)
        run = replace(run, end=at + length)
        if len(run.pictures) == frames:
            yield run
            run, skip, count = None, stride - frames, count - 1
            if not count:
                return
    if run is not None:
        yield run
