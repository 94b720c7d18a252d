"""Measures of frames: black and dark pictures, missing frames, and what is no fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import scene_block

from grainscan.tasks import MEASURED
from grainscan.video import Block, PixelFormat, Stamp, Window
from grainscan.views.measures import Frames, Meter, damage, score, track

FPS = 25


def measured(block: Block, *, size: int = 8, times: list[float] | None = None, damaged: tuple[int, ...] = ()) -> Frames:
    """The measures of a block that is read in windows of `size` frames."""
    times = times or [number / FPS for number in range(block.frames)]
    meter, parts = Meter(), []
    for first in range(0, block.frames, size):
        numbers = range(first, min(block.frames, first + size))
        stamps = tuple(Stamp(times[i], times[i] + 1 / FPS, i in damaged, i % 30 == 0) for i in numbers)
        pictures = tuple(tuple(plane[i] for plane in block.planes) for i in numbers)
        parts.append(meter.measure(Window(stamps[0].start, stamps[-1].end, block.format, pictures, stamps, first > 0)))
    return Frames.join(parts)


def scored(task: str, frames: Frames) -> float:
    return score(task, frames, track(task, frames, whole=True))


def moving(frames: int = 60, *, speed: float = 2.0, **scene: Any) -> Block:
    return scene_block(frames, 192, 128, speed=speed, **scene)


def edited(block: Block, order: list[int]) -> Block:
    return Block(tuple(plane[order] for plane in block.planes), block.format)


def found(frames: Frames, task: str = "frame_drop") -> list[int]:
    return np.flatnonzero(track(task, frames, whole=True).score > 0).tolist()


# -------------------------------------------------------------------------------------------------- black and dark


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gbrp", "gray"])
@pytest.mark.parametrize("full_range", [False, True])
def test_black_frames_are_found_whatever_the_format(pix_fmt: str, full_range: bool) -> None:
    block = moving(40, pix_fmt=pix_fmt, full_range=full_range)
    black = 0 if block.format.full_range else 16 * block.format.unit
    for plane in block.planes[: 3 if block.format.layout == "rgb" else 1]:
        plane[20:23] = black
    frames = measured(block)
    assert found(frames, "black_screen") == [20, 21, 22]
    assert not found(frames)


def test_a_raised_black_is_black_if_it_is_flat() -> None:
    block = moving(40)
    block.planes[0][20:23] = 16 + 14
    assert found(measured(block), "black_screen") == [20, 21, 22]
    block.planes[0][20:23, :, ::2] = 16 + 2
    block.planes[0][20:23, 40:80, 40:80] = 16 + 30
    assert not found(measured(block), "black_screen")


def test_a_fade_to_black_and_back_is_editing_and_a_cut_to_black_is_not() -> None:
    block = moving(80)
    for i in range(80):
        gain = min(1.0, abs(i - 40) / 20)
        block.planes[0][i] = 16 + (block.planes[0][i].astype(float) - 16) * gain
    assert not found(measured(block), "black_screen")
    block.planes[0][41:] = moving(80).planes[0][41:]
    assert 40 in found(measured(block), "black_screen")


def test_a_clip_of_black_alone_is_black_and_not_dark() -> None:
    frames = measured(scene_block(8, 96, 64, level=(16, 16)))
    assert scored("black_screen", frames) > 3
    assert scored("dark_scenes", frames) < -3


def test_darkness_knows_bars_lights_and_range() -> None:
    day, night = moving(16), moving(16, level=(18, 50))
    assert scored("dark_scenes", measured(day)) < -3
    assert scored("dark_scenes", measured(night)) > 3
    night.planes[0][:, 10:40, 10:60] = 220  # lamps
    assert scored("dark_scenes", measured(night)) > 3
    barred = moving(16, level=(60, 120))
    barred.planes[0][:, :40] = barred.planes[0][:, -40:] = 16
    assert scored("dark_scenes", measured(barred)) < -1


def test_a_dark_scene_is_found_and_a_dark_moment_is_not() -> None:
    block = moving(200)
    block.planes[0][90:100] = moving(10, level=(18, 50)).planes[0]
    assert not found(measured(block), "dark_scenes")
    block.planes[0][60:140] = moving(80, level=(18, 50)).planes[0]
    dark = found(measured(block), "dark_scenes")
    assert abs(dark[0] - 60) <= 2 and abs(dark[-1] - 139) <= 2


# ------------------------------------------------------------------------------------------------------ missing frames


def test_a_steady_motion_misses_nothing() -> None:
    assert not found(measured(moving(100)))


@pytest.mark.parametrize("grain", [0.0, 3.0])
def test_frames_left_out_repeated_and_frozen_are_found(grain: float) -> None:
    block = moving(120, grain=grain)
    assert found(measured(edited(block, [*range(50), *range(51, 120)]))) == [50]
    assert found(measured(edited(block, [*range(50), 49, *range(51, 120)]))) == [50]
    assert found(measured(edited(block, [*range(50), *[49] * 12, *range(62, 120)]))) == [*range(50, 62)]
    assert found(measured(edited(block, [*range(50), *[49] * 12, *range(50, 108)]))) == [*range(50, 62)]  # goes on


@pytest.mark.parametrize("count", [2, 4])
def test_several_frames_left_out_are_a_jump_and_no_cut(count: int) -> None:
    assert found(measured(edited(moving(120), [*range(50), *range(50 + count, 120)]))) == [50]


def test_a_repetition_that_coding_has_changed_is_told_by_the_jump_after_it() -> None:
    block = moving(120)
    step = measured(block).step
    noise = np.kron(np.random.default_rng(0).normal(0, 0.42 * step[50], (16, 24)), np.ones((8, 8)))
    block.planes[0][50] = np.rint(block.planes[0][49] + noise)
    frames = measured(block)
    assert frames.step[50] > 0.35 * step[50]
    assert found(frames) == [50]
    waiting = edited(moving(120), [*range(50), 49, *range(50, 119)])  # and goes on where it stopped
    waiting.planes[0][50] = np.rint(waiting.planes[0][49] + noise)
    assert not found(measured(waiting))


def test_regular_repetitions_with_jumps_are_missing_frames() -> None:
    order = [i - 1 if i % 6 == 5 else i for i in range(150)]
    assert len(found(measured(edited(moving(150), order)))) >= 20


def test_what_changes_in_a_part_of_the_picture_or_is_black_is_no_drop() -> None:
    block = moving(120)
    block.planes[0][50:, 16:32] = np.roll(block.planes[0][50:, 16:32], 96, axis=2)
    frames = measured(block)
    assert frames.breadth[50] < 0.85 * frames.breadth[49]
    assert not found(frames)
    for number in (60, 61, 64, 70, 71, 72):
        block.planes[0][number] = 16
    assert not found(measured(block))


def test_motion_that_changes_its_pace_misses_nothing() -> None:
    slow, fast = moving(120), moving(120, speed=5.0)
    assert not found(measured(edited(slow, [*range(0, 60), *range(60, 120, 3)])))
    both = Block((np.concatenate([slow.planes[0][:60], fast.planes[0][60:]]), *slow.planes[1:]), slow.format)
    assert not found(measured(both))


def test_a_gap_between_timestamps_is_a_drop_at_a_constant_rate_only() -> None:
    block = moving(100)
    order = [*range(50), *range(51, 100)]
    late = [i / FPS for i in order]
    frames = measured(edited(block, order), times=late)
    drops = track("frame_drop", frames, whole=True)
    (at,) = np.flatnonzero(drops.score > 0)
    assert (drops.start[at], drops.end[at]) == (pytest.approx(50 / FPS), pytest.approx(51 / FPS))
    assert not found(measured(edited(block, order[:50]), times=[*late[:49], late[49] + 2 / FPS]))  # the last one
    swapped = [i / FPS for i in range(100)]
    swapped[50], swapped[51] = swapped[51], swapped[50]
    assert not found(measured(block, times=swapped))
    rng = np.random.default_rng(0)
    variable = np.cumsum(rng.choice([1, 2, 3], size=99) / FPS).tolist()
    assert not found(measured(edited(moving(99), [*range(99)]), times=variable))


def test_nothing_is_missed_in_a_static_shot() -> None:
    still = moving(60, speed=0.0, grain=2)
    times = [(i + (i > 30)) / FPS for i in range(60)]
    assert not found(measured(still, times=times))


def test_cuts_titles_and_flashes_are_no_drops() -> None:
    block = moving(120)
    other = moving(120, seed=5)
    cut = Block((np.concatenate([block.planes[0][:60], other.planes[0][:60]]), *block.planes[1:]), block.format)
    assert not found(measured(cut))
    cut.planes[0][60:90] = other.planes[0][0]  # a title between two scenes
    assert not found(measured(cut))
    flash = moving(120)
    flash.planes[0][60] = np.minimum(flash.planes[0][60] + 30, 235)
    assert not found(measured(flash))


@pytest.mark.parametrize("pattern", [[0, 0], [0, 0, 0], [0, 1, 2, 3, 3], [0, 1, 2, 3, 4, 4]])
def test_a_cadence_is_no_fault(pattern: list[int]) -> None:
    """Animation on twos and on threes, 24 frames a second as 30, and 25 as 30."""
    step = pattern[-1] + 1
    order = [base + i for base in range(0, 120, step) for i in pattern][:150]
    assert not found(measured(edited(moving(120, speed=1.5), order)))


def test_frames_left_out_at_a_regular_distance_are_a_conversion() -> None:
    assert not found(measured(edited(moving(150), [i for i in range(150) if i % 6])))


def test_damage_lasts_until_a_frame_that_is_predicted_from_no_other() -> None:
    block = moving(90)
    frames = measured(edited(block, [*range(40), *[39] * 5, *range(45, 90)]), damaged=(40, 42))
    assert np.flatnonzero(damage(frames)).tolist() == [*range(40, 60)]
    assert not found(frames)  # what the decoder reports is no drop as well


def test_measures_do_not_depend_on_the_windows_and_travel_as_json() -> None:
    block = moving(48, grain=2)
    whole, parts = measured(block, size=48), measured(block, size=8)
    again = Frames.of(parts.rows())
    for name in ("level", "peak", "spread", "step", "leap", "breadth"):
        np.testing.assert_allclose(getattr(whole, name)[2:], getattr(parts, name)[2:], rtol=1e-5)
        np.testing.assert_allclose(getattr(again, name), getattr(parts, name), atol=1e-4)
    for wrong in ([[1.0]], [["a"] * 10], [[None] * 10], [[float("inf")] * 10]):
        with pytest.raises((ValueError, TypeError)):
            Frames.of(wrong)  # type: ignore[arg-type]


def test_windows_apart_are_not_compared() -> None:
    meter = Meter()
    block = moving(16)
    pictures = tuple(tuple(plane[i] for plane in block.planes) for i in range(16))
    stamps = tuple(Stamp(i / FPS, (i + 1) / FPS) for i in range(16))
    meter.measure(Window(0, 1, block.format, pictures[:8], stamps[:8]))
    assert np.isnan(meter.measure(Window(0, 1, block.format, pictures[8:], stamps[8:])).step[0])


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (17, 33), (300, 8)])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_any_size_and_any_number_of_frames_has_scores(shape: tuple[int, int], frames: int) -> None:
    planes = (np.random.default_rng(0).integers(0, 255, (frames, *shape), dtype=np.uint8),)
    values = measured(Block(planes, PixelFormat.of("gray")))
    assert all(np.isfinite(scored(task, values)) for task in MEASURED)


def test_a_static_shot_nearby_makes_no_cadence_of_a_freeze() -> None:
    rng = np.random.default_rng(0)
    block = moving(160)
    block.planes[0][100:] = moving(1, seed=3).planes[0] + rng.integers(0, 2, (60, 128, 192), dtype=np.uint8)
    assert found(measured(edited(block, [*range(50), *[49] * 12, *range(62, 160)]))) == [*range(50, 62)]
