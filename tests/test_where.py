"""Where and when: grain in a part of a clip, or of the picture, is found there by the embedded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import scene_block

from grainscan.scan.scanner import Scanner
from grainscan.video import Block, write_clip

TASK = "graininess"


def write(path: Path, frames: int, grainy: tuple[slice, slice, slice]) -> Path:
    """A clean scene with white grain of 6 codes in some frames, rows and columns, lossless."""
    clean = scene_block(frames, 320, 192)
    luma = clean.planes[0].astype(np.float64)
    part = luma[grainy]
    part += 6 * np.random.default_rng(3).standard_normal(part.shape)
    write_clip(path, Block((np.clip(np.rint(luma), 0, 255).astype(np.uint8), *clean.planes[1:]), clean.format))
    return path


@pytest.mark.parametrize("every", [0, 0.5])
def test_grain_in_a_part_of_the_clip_is_an_event_there(tmp_path: Path, every: float) -> None:
    path = write(tmp_path / "a.avi", 125, (slice(50, 100), slice(None), slice(None)))  # 2 s to 4 s of 5
    with Scanner(every=every, workers=0, crops=4, tasks=[TASK]) as scanner:
        (event,) = scanner.predict(path)["events"]
    assert event["task"] == TASK
    assert abs(event["start"] - 2) <= 0.5 and abs(event["end"] - 4) <= 0.5


def test_grain_in_the_left_half_is_on_the_left_of_the_map(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", 32, (slice(None), slice(None), slice(160)))
    with Scanner(workers=0, windows=2, maps=True, tasks=[TASK]) as scanner:
        views = scanner.predict(path)["map"]
    left = [view[TASK] for view in views if view["x"] + view["size"] <= 160]
    right = [view[TASK] for view in views if view["x"] >= 160]
    assert left and right and len(left) + len(right) >= 0.9 * len(views)
    assert min(left) > 0.8 and max(right) < 0.2
