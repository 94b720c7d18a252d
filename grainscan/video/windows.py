"""Windows of consecutive frames, spread over a file and found by seeking."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from av.video.frame import PictureType
from numpy.typing import NDArray

from grainscan.errors import VideoError
from grainscan.options import ShortPolicy
from grainscan.video.ahead import ahead
from grainscan.video.frames import picture_of
from grainscan.video.planes import PixelFormat, Stamp, Window
from grainscan.video.reader import Key, Reader

_INTRA = int(PictureType.I)
_ROUNDING = 1e-6  # seconds
_AHEAD, _AHEAD_PIXELS = 16, 48 << 20  # frames that are decoded ahead at most, and pixels of all of them
Share = tuple[int, int]  # number, of how many
WHOLE: Share = (0, 1)


class _Run(NamedTuple):
    """Windows to be read from a key frame on, or from the start of the file."""

    key: Key | None = None
    windows: float = math.inf
    gap: int = 0  # frames between two windows
    every: float = 0.0  # seconds: one window begins in each stretch
    since: float = 0.0  # the first window begins no earlier, seconds
    until: float = math.inf  # no window begins then or later


class _Frame(NamedTuple):
    stamp: Stamp
    format: PixelFormat
    picture: tuple[NDArray[Any], ...]
    interlaced: bool


def read_windows(
    path: str | os.PathLike[str] | Reader,
    *,
    windows: int,
    frames: int,
    short: ShortPolicy = "mirror",
    every: float | None = None,
    share: Share = WHOLE,
    passed: bool = False,
) -> Iterator[Window]:
    """Windows of `frames` consecutive frames: up to `windows`, spread over the file, or one `every` so many seconds.

    Windows start at key frames, so that only their own frames are decoded. Where several would start at the same key
    frame (long GOPs, short clips) they follow one another from there, at most one window length apart, and no frame is
    decoded twice. A stream that cannot seek is read from its start in the same manner. A window never spans a change of
    picture size. A clip with fewer frames than a window is filled by `short`: `mirror` (back and forth), `wrap`,
    `repeat` (the last frame) or `error`. Raises VideoError when no frame can be decoded.

    With `every`, one window begins in each stretch of that length: at a key frame in it, else at its start, up to which
    the file is then read on. With 0, or less than the length of a window, every frame is decoded once: windows follow
    one another without a gap, and the last one, or one before a change of size, is filled (by `mirror` for `error`).
    Damaged pictures, which are left out otherwise, are then part of the windows.

    With `share`, (number, of how many), several readers divide a file without `every`: each has a part of the places
    that are sought, and together they find the windows that one would. Where that is none, the file has to be read
    without a share: it cannot be sought, is shorter than a window, or nothing in it can be decoded.

    With `passed`, frames that are decoded after one window and on the way to another, or to the end of the file, come
    as well, in windows of up to `frames` that are marked so.
    """
    if not isinstance(path, Reader):
        with Reader(path, ahead=every == 0) as reader:
            yield from read_windows(
                reader, windows=windows, frames=frames, short=short, every=every, share=share, passed=passed
            )
        return
    reader, found, gap = path, 0, False
    leftover: Window | None = None
    if every is not None and every <= frames * _length(reader):
        every = 0.0
    if share != WHOLE:
        plan = _plan(reader, windows, frames)
        first, end = (len(plan) * number // share[1] for number in (share[0], share[0] + 1))
        plans: tuple[Iterable[_Run], ...] = (plan[first:end],)
    elif every is None:
        plans = (_plan(reader, windows, frames), [_Run(windows=windows, gap=frames)])
    else:
        plans = (_stretches(reader, every) if every else [], [_Run(every=every)])
    # An index may lie, and seeking may miss the only key frame: then the file is read from its start.
    for runs in plans:
        for run in runs:
            for window in _windows(reader, run, frames, whole=every is not None):
                if window.passed:
                    gap = not (passed and found)  # before the first window: the file may have to be read again
                    if not gap:
                        yield window
                    continue
                if gap:
                    window, gap = replace(window, follows=False), False
                if window.frames == frames:
                    found, leftover = found + 1, None
                    yield window
                elif every == 0 and found:
                    yield _filled(window, frames, "mirror" if short == "error" else short)
                elif not found and (leftover is None or window.frames > leftover.frames):
                    leftover = window
                elif passed and found:  # too few for a window
                    yield replace(window, passed=True)
                del window  # its frames are freed before others are decoded, unless the caller keeps them
        if found or share != WHOLE:
            return
    if leftover is None:
        raise reader.explain_nothing()
    if short == "error":
        raise VideoError(
            f"{reader.path}: has {leftover.frames} frames, a window needs {frames}",
            hint="Choose another policy for short clips: mirror, wrap or repeat.",
        )
    yield _filled(leftover, frames, short)


def _filled(window: Window, frames: int, short: ShortPolicy) -> Window:
    indices = fill_indices(window.frames, frames, short)
    return replace(window, pictures=tuple(window.pictures[i] for i in indices))


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


def _plan(reader: Reader, windows: int, frames: int) -> list[_Run]:
    """Up to `windows` windows, spread over the file, in order of time; empty if it cannot be sought."""
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
    plan: list[_Run] = []
    for group, end in zip(groups, ends, strict=False):
        span = int((end - reader.seconds(group[0].pts)) * fps + 0.5)
        count = max(1, min(len(group), span // frames))
        stride = frames if count == 1 else min(2 * frames, max(frames, (span - frames) // (count - 1)))
        plan.append(_Run(group[0], count, stride - frames))
    return plan


def _stretches(reader: Reader, every: float) -> Iterator[_Run]:
    """One window in each stretch, in order of time; nothing if the file cannot be sought.

    A stretch with a key frame starts a run there; one without is part of the run before it. Key frames are looked for
    no further ahead than a run needs, since a long film has many.
    """
    run: _Run | None = None
    for number in range(math.ceil((reader.info.duration or 0.0) / every)):
        start, end = number * every - _ROUNDING, (number + 1) * every
        key = reader.key_frame_before((start + end) / 2)
        if key is not None and reader.seconds(key.pts) < start:
            key = reader.key_frame_before(end - _length(reader))
        if key is None:
            break
        if run is None or reader.seconds(key.pts) >= start:
            if run is not None:
                yield run._replace(until=start)
            run = _Run(key, every=every, since=start)
    if run is not None:
        yield run


def _windows(reader: Reader, run: _Run, frames: int, *, whole: bool) -> Iterator[Window]:
    """The windows of a run, and of frames passed on the way. The last, or one before a change, may be shorter."""
    taken: list[_Frame] = []
    length = _length(reader)
    most = min(_AHEAD, _AHEAD_PIXELS // max(1, reader.info.width * reader.info.height)) if reader.ahead else 0
    left, skip, since, follows, passing = run.windows, 0, run.since, False, False
    decoded = _frames(reader, run.key, whole=whole)
    for frame in decoded if most < 2 else ahead(decoded, most):
        begun = bool(taken) and not passing
        passes = not begun and (skip > 0 or frame.stamp.start < since)
        if taken and (passes != passing or _differ(taken[0], frame)):
            yield _window(taken, length, follows, passed=passing)
            taken, follows = [], True
        passing = passes
        if passing:
            skip = max(0, skip - 1)
        elif not taken and frame.stamp.start >= run.until:
            return
        taken.append(frame)
        if len(taken) < frames:
            continue
        if not passing:
            skip, left = run.gap, left - 1
            if run.every:
                since = run.every * (math.floor(taken[0].stamp.start / run.every + _ROUNDING) + 1) - _ROUNDING
        yield _window(taken, length, follows, passed=passing)
        taken, follows = [], True
        if not left:
            return
    if taken:
        yield _window(taken, length, follows, passed=passing)


def _differ(frame: _Frame, other: _Frame) -> bool:
    """In size or format."""
    return frame.format != other.format or frame.picture[0].shape != other.picture[0].shape


def _frames(reader: Reader, key: Key | None, *, whole: bool) -> Generator[_Frame]:
    """Frames from a key frame, or from the start of the file on. Damaged ones are left out, unless `whole`."""
    if key is None:
        reader.restart()
    else:
        reader.seek(key.seek)
    length = _length(reader)
    first = 0.0 if key is None else reader.seconds(key.pts)
    damaged, intact, undecodable = False, False, reader.undecodable
    for number, frame in enumerate(reader.frames()):
        if key is not None and frame.pts is not None and frame.pts < key.pts:
            continue  # leading pictures of an open GOP refer to frames before the seek point
        damaged |= frame.is_corrupt or reader.undecodable > undecodable
        undecodable = reader.undecodable
        if frame.is_corrupt and not (whole and intact):
            continue  # before the first intact one, they are no fault of the file, but of where it was cut
        intact = True
        picture, form = picture_of(frame)
        at = first + number * length if frame.pts is None else reader.seconds(frame.pts)
        shown = reader.span(frame.duration) or length
        fresh = frame.key_frame or frame.pict_type == _INTRA
        yield _Frame(Stamp(at, at + shown, damaged, fresh), form, picture, reader.interlaced)
        damaged = False


def _window(taken: list[_Frame], length: float, follows: bool, *, passed: bool) -> Window:
    stamps, forms, pictures, interlaced = zip(*taken, strict=True)
    end = stamps[-1].start + length
    return Window(stamps[0].start, end, forms[0], pictures, stamps, follows, passed, interlaced[-1])


def _length(reader: Reader) -> float:
    """Of a frame by the container, seconds."""
    return float(1 / reader.info.fps) if reader.info.fps else 0.04
