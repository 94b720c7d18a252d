"""Frames that a thread decodes ahead: the same ones, the same errors, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeClip

from grainscan.errors import VideoError
from grainscan.video import Reader, Window, read_windows
from grainscan.video import windows as reading
from grainscan.video.ahead import ahead


def counted(upto: int, made: list[int]) -> Generator[int]:
    for number in range(upto):
        made.append(number)
        yield number


def test_the_same_items_come_in_their_order() -> None:
    assert list(ahead(counted(100, []), 3)) == list(range(100))
    assert list(ahead(counted(0, []), 3)) == []


def test_no_more_is_made_than_asked_for_and_nothing_runs_on() -> None:
    made: list[int] = []
    before = threading.active_count()
    items = ahead(counted(100, made), 4)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert len(made) <= 2 + 4 and threading.active_count() == before


def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Generator[int]:
        yield 1
        yield 2
        raise VideoError("torn", hint="")

    seen = []
    with pytest.raises(VideoError, match="torn"):
        for each in ahead(failing(), 5):
            seen.append(each)
    assert seen == [1, 2]


def test_what_makes_the_items_is_closed() -> None:
    closed = threading.Event()

    def open_ended() -> Generator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    items = ahead(open_ended(), 2)
    next(items)
    items.close()
    assert closed.is_set()


def test_every_frame_is_the_same_whether_decoded_ahead_or_not(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip: Path = make_clip("clip.mp4", codec="h264", quality=20, frames=70, width=96, height=64)

    def read() -> list[Window]:
        with Reader(clip, threads=3, ahead=True) as reader:
            return list(read_windows(reader, windows=4, frames=8, every=0))

    threaded = read()
    monkeypatch.setattr(reading, "_AHEAD", 0)
    for one, other in zip(threaded, read(), strict=True):
        assert one.stamps == other.stamps and one.follows == other.follows and one.interlaced == other.interlaced
        assert all(
            np.array_equal(a, b)
            for planes in zip(one.pictures, other.pictures, strict=True)
            for a, b in zip(*planes, strict=True)
        )
