"""Windows of consecutive frames, spread over a file and found by seeking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from grainscan.errors import VideoError
from grainscan.options import ShortPolicy
from grainscan.video.frames import picture_of
from grainscan.video.planes import PixelFormat, Window
from grainscan.video.reader import Key, Reader


def read_windows(
    path: str | os.PathLike[str] | Reader, *, windows: int, frames: int, short: ShortPolicy = "mirror"
) -> Iterator[Window]:
    """Up to `windows` windows of `frames` consecutive frames, spread over the file.

    Windows start at key frames, so that only their own frames are decoded. Where several would start at the same key
    frame (long GOPs, short clips) they follow one another from there, at most one window length apart, and no frame is
    decoded twice. A stream that cannot seek is read from its start in the same manner. A window never spans a change of
    picture size. A clip with fewer frames than a window is filled by `short`: `mirror` (back and forth), `wrap`,
    `repeat` (the last frame) or `error`. Raises VideoError when no frame can be decoded.
    """
    if not isinstance(path, Reader):
        with Reader(path) as reader:
            yield from read_windows(reader, windows=windows, frames=frames, short=short)
        return
    reader, found = path, 0
    leftover: Window | None = None
    # An index may lie, and seeking may miss the only key frame: then the file is read from its start.
    for plan in (_plan(reader, windows, frames), [(None, windows, 2 * frames)]):
        for key, count, stride in plan:
            for window in _runs(reader, key, count, frames, stride):
                if window.frames == frames:
                    found, leftover = found + 1, None
                    yield window
                    del window  # its frames are freed before others are decoded, unless the caller keeps them
                elif not found and (leftover is None or window.frames > leftover.frames):
                    leftover = window
        if found:
            return
    if leftover is None:
        raise reader.explain_nothing()
    if short == "error":
        raise VideoError(
            f"{reader.path}: has {leftover.frames} frames, a window needs {frames}",
            hint="Choose another policy for short clips: mirror, wrap or repeat.",
        )
    indices = fill_indices(leftover.frames, frames, short)
    yield replace(leftover, pictures=tuple(leftover.pictures[i] for i in indices))


def fill_indices(available: int, wanted: int, policy: ShortPolicy) -> list[int]:
    """Frame numbers that fill a window of `wanted` frames from `available` ones.

    mirror: 0 1 2 1 0 1, wrap: 0 1 2 0 1 2, repeat: 0 1 2 2 2 2, error: ValueError when frames are missing.
    """
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
    """(key frame, windows from there, frames between their starts), in order of time; empty if it cannot be sought."""
    info = reader.info
    if info.duration is None:
        return []
    fps = float(info.fps) if info.fps else 25.0
    found = (reader.key_frame_before(info.duration * (i + 0.5) / windows) for i in range(windows))
    groups: list[list[Key]] = []
    for key in sorted(key for key in found if key is not None):
        # Key frames less than a window apart share a run, else windows would overlap.
        if groups and (reader.seconds(key.pts) - reader.seconds(groups[-1][0].pts)) * fps < frames:
            groups[-1].append(key)
        else:
            groups.append([key])
    ends = [reader.seconds(group[0].pts) for group in groups[1:]] + [info.duration]
    plan: list[tuple[Key | None, int, int]] = []
    for group, end in zip(groups, ends, strict=False):
        span = int((end - reader.seconds(group[0].pts)) * fps + 0.5)
        count = max(1, min(len(group), span // frames))
        gap = frames if count == 1 else min(2 * frames, max(frames, (span - frames) // (count - 1)))
        plan.append((group[0], count, gap))
    return plan


def _runs(reader: Reader, key: Key | None, count: int, frames: int, stride: int) -> Iterator[Window]:
    """`count` windows of `frames` frames, `stride` apart. The last, or one before a change of size, may be shorter."""
    if key is None:
        reader.restart()
    else:
        reader.seek(key.seek)
    run: list[tuple[float, PixelFormat, tuple[NDArray[Any], ...]]] = []
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
        if run and (run[0][1] != form or run[0][2][0].shape != picture[0].shape):
            yield _window(run, length)
            run = []
        run.append((at, form, picture))
        if len(run) == frames:
            yield _window(run, length)
            run, skip, count = [], stride - frames, count - 1
            if not count:
                return
    if run:
        yield _window(run, length)


def _window(run: list[tuple[float, PixelFormat, tuple[NDArray[Any], ...]]], length: float) -> Window:
    starts, forms, pictures = zip(*run, strict=True)
    return Window(starts[0], starts[-1] + length, forms[0], pictures)
