"""Which windows are looked at closely where every frame is seen, and what holds in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from conftest import MakeBlock, MakeClip, scene_block
from numpy.typing import NDArray

from grainscan.scan.decode import Job, Piece, read_pieces
from grainscan.video import Block, Window
from grainscan.views.crops import ViewSpec
from grainscan.views.measures import window_cells
from grainscan.views.statistics import describe, names
from grainscan.views.watch import Watch

FPS, FRAMES = 25, 8


def windows(block: Block) -> Iterator[Window]:
    for first in range(0, block.frames, FRAMES):
        part = block.crop(0, 0, block.width, block.height, first, FRAMES)
        yield replace(part.window(first / FPS, (first + FRAMES) / FPS), follows=first > 0)


def close_looks(block: Block) -> list[int]:
    watch = Watch()
    return [number for number, each in enumerate(windows(block)) if watch.closely(each, window_cells(each))]


@pytest.fixture(scope="module")
def shot() -> Block:
    return scene_block(frames=80, width=128, height=96, speed=2, grain=2)


def with_luma(block: Block, frames: slice, luma: NDArray[np.uint8]) -> Block:
    planes = [plane.copy() for plane in block.planes]
    planes[0][frames] = luma
    return Block(tuple(planes), block.format)


def test_a_shot_is_looked_at_once_a_second(shot: Block) -> None:
    assert close_looks(shot) == [0, 4, 8]


def test_after_a_cut_all_is_new(shot: Block) -> None:
    other = scene_block(frames=80, width=128, height=96, speed=2, grain=2, seed=9)
    assert close_looks(with_luma(shot, slice(20, None), other.planes[0][20:])) == [0, 3, 7]


def test_damage_is_looked_at_and_is_no_example_for_others(shot: Block) -> None:
    lost = shot.planes[0][18:21].copy()
    lost[:, 48:64] = 20
    assert close_looks(with_luma(shot, slice(18, 21), lost)) == [0, 2, 3, 7]


def test_what_follows_on_nothing_is_looked_at(shot: Block) -> None:
    watch = Watch()
    first, second, third, *_ = windows(shot)
    apart = replace(second, follows=False)
    small = replace(third, pictures=tuple(tuple(plane[:32] for plane in picture) for picture in third.pictures))
    assert [watch.closely(each, window_cells(each)) for each in (first, apart, third, small)] == [
        True,
        True,
        False,
        True,
    ]
    assert not watch.closely(small, window_cells(small))


def test_only_changes_are_new_where_the_rest_holds(shot: Block) -> None:
    first, second, *_ = windows(shot)
    before, after = describe(first), describe(second)
    found = dict(zip(names(), describe(second, held=before), strict=True))
    fresh = {name for name, value in zip(names(), after, strict=True) if found[name] == value}
    assert {"change", "sudden_99%", "odd_frame", "edges_sudden_99%", "edges_of_a_row"} <= fresh
    old = dict(zip(names(), before, strict=True))
    for name in ("steps_x1_mean_mean", "lines_x_even", "level", "light_left", "colour_sudden_99%"):
        assert found[name] == old[name]
    np.testing.assert_array_equal(describe(second, held=after), after)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "gbrp", "gray"])
@pytest.mark.parametrize("width", [40, 130])
def test_known_cells_change_nothing(make_block: MakeBlock, pixels: str, width: int) -> None:
    window = make_block(frames=8, width=width, height=98, pix_fmt=pixels).window()
    cells = window_cells(window)
    np.testing.assert_array_equal(describe(window, cells=cells), describe(window))


def test_statistics_hold_between_close_looks_and_views_do_not(make_clip: MakeClip) -> None:
    path = str(make_clip("a.avi", frames=80, width=192, height=128, grain=2))
    view = ViewSpec(frames=FRAMES, size=32, windows=4, crops=4)

    def pieces(every: float | None) -> list[Piece]:
        job = Job(view, statistics=True, every=every)
        return [item for item in read_pieces(path, job) if isinstance(item, Piece)]

    found = pieces(0)
    assert [len(each.boxes) for each in found] == [4] * 10
    for number, piece in enumerate(found):
        close = found[number // 4 * 4]
        same = piece.statistics == close.statistics
        assert same.all() if piece is close else 0 < (~same).sum() < 100
    assert [len(each.boxes) for each in pieces(None)] == [4] * 4
