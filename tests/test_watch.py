"""Which windows are looked at where every frame is seen, and what holds in between."""

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
from grainscan.views.watch import Look, Watch

FPS, FRAMES = 25, 8
SIZE, PLACES = 32, ((0, 0), (96, 0), (32, 64))


def windows(block: Block) -> Iterator[Window]:
    for first in range(0, block.frames, FRAMES):
        part = block.crop(0, 0, block.width, block.height, first, FRAMES)
        yield replace(part.window(first / FPS, (first + FRAMES) / FPS), follows=first > 0)


def looks(block: Block) -> list[Look]:
    watch, found = Watch(SIZE), list[Look]()
    for each in windows(block):
        found.append(watch.look(each, window_cells(each)))
        if found[-1] != "nothing":
            watch.seen(each, PLACES)
    return found


def numbers(found: list[Look], which: Look) -> list[int]:
    return [number for number, each in enumerate(found) if each == which]


@pytest.fixture(scope="module")
def shot() -> Block:
    return scene_block(frames=80, width=128, height=96, speed=2, grain=2)


def with_luma(block: Block, frames: slice, luma: NDArray[np.uint8]) -> Block:
    planes = [plane.copy() for plane in block.planes]
    planes[0][frames] = luma
    return Block(tuple(planes), block.format)


def test_a_calm_shot_is_looked_at_once_a_second(shot: Block) -> None:
    assert looks(shot) == [*["all", *["nothing"] * 3] * 2, "all", "nothing"]


def test_changes_of_a_restless_one_are_looked_at_in_between(shot: Block) -> None:
    restless = shot.planes[0].copy()
    for first in range(FRAMES, 80, 2 * FRAMES):  # every second window
        grain = 5 * np.random.default_rng(0).standard_normal((FRAMES, 96, 128))
        restless[first : first + FRAMES] = np.clip(np.rint(restless[first : first + FRAMES] + grain), 0, 255)
    found = looks(with_luma(shot, slice(None), restless))
    assert numbers(found, "all") == [0, 4, 8] and "nothing" not in found


def test_where_timestamps_stand_still_a_hold_ends(shot: Block) -> None:
    watch = Watch(SIZE)
    first = next(windows(shot))
    still = replace(first, pictures=first.pictures[:1] * FRAMES, follows=True)
    found = []
    for _ in range(205):
        found.append(watch.look(still, window_cells(still)))
        if found[-1] != "nothing":
            watch.seen(still, PLACES)
    assert [number for number, each in enumerate(found) if each != "nothing"] == [0, 101, 202]


def test_after_a_cut_all_is_new(shot: Block) -> None:
    other = scene_block(frames=80, width=128, height=96, speed=2, grain=2, seed=9)
    found = looks(with_luma(shot, slice(20, None), other.planes[0][20:]))
    assert numbers(found, "all") == [0, 3, 7]
    assert numbers(found, "changes") == [2]


def test_damage_is_looked_at_and_is_no_example_for_others(shot: Block) -> None:
    lost = shot.planes[0][18:21].copy()
    lost[:, 48:64] = 20
    assert numbers(looks(with_luma(shot, slice(18, 21), lost)), "all") == [0, 2, 3, 7]


def test_one_lost_block_is_looked_at(shot: Block) -> None:
    lost = shot.planes[0][11:12].copy()
    lost[:, 48:52, 32:36] -= 40
    found = looks(with_luma(shot, slice(11, 12), lost))
    assert found[:3] == ["all", "changes", "nothing"]


@pytest.mark.parametrize("sigma", [2, 6])
def test_where_grain_comes_and_goes_is_looked_at(sigma: float) -> None:
    clean = scene_block(frames=80, width=128, height=96, speed=2)
    grain = sigma * np.random.default_rng(0).standard_normal((20, 96, 128))
    grainy = np.clip(np.rint(clean.planes[0][12:32] + grain), 0, 255).astype(np.uint8)
    assert looks(with_luma(clean, slice(12, 32), grainy))[:5] == ["all", "changes", "changes", "nothing", "all"]


def test_what_follows_on_nothing_is_looked_at(shot: Block) -> None:
    watch = Watch(SIZE)
    first, second, third, *others = windows(shot)
    apart = replace(second, follows=False)
    small = [replace(w, pictures=tuple(tuple(plane[:32] for plane in each) for each in w.pictures)) for w in others]
    found = []
    for each in (first, apart, third, *small[:2]):
        found.append(watch.look(each, window_cells(each)))
        watch.seen(each, PLACES[:2])
    assert found == ["all", "all", "nothing", "all", "nothing"]


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


def test_what_was_found_holds_between_looks(make_clip: MakeClip) -> None:
    path = str(make_clip("a.avi", frames=80, width=192, height=128, grain=2))
    view = ViewSpec(frames=FRAMES, size=32, windows=4, crops=4)

    def pieces(every: float | None) -> list[Piece]:
        job = Job(view, statistics=True, every=every, measured=True)
        return [item for item in read_pieces(path, job) if isinstance(item, Piece)]

    found = pieces(0)
    assert [len(each.then) for each in found] == [3, 3, 1]
    assert all(each.views.shape == (4, FRAMES, 3, 32, 32) and len(each.statistics) for each in found)
    every_window = [window for each in found for window in (each, *each.then)]
    assert [window.start for window in every_window] == pytest.approx(np.arange(10) * FRAMES / FPS)
    assert all(window.frames is not None and len(window.frames) == FRAMES for window in every_window)
    assert [(len(each.boxes), each.then) for each in pieces(None)] == [(4, ())] * 4
