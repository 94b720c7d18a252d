"""Clips for the tests, made with the project's own writer. No test needs a network, a GPU or a file from outside."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grainscan.console import Progress
from grainscan.data import cache
from grainscan.video import Block, PixelFormat, write_clip

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that forgets itself fails at once instead of waiting for a network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads, which wait for a busy processor

# Under nohup, or in the background of a script, signals are ignored, and so they would be in every process that a test
# starts. A handler that does nothing is as good for this process, and is not inherited.
for _name in ("SIGINT", "SIGTERM", "SIGHUP"):
    _number = getattr(signal, _name, None)  # Windows has no SIGHUP
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


class Seen(Progress):
    """A progress that remembers what it was told: stages with their totals, and each step as (stage, done, note)."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps: list[tuple[str, int, str]] = []
        self.highlights: list[str] = []
        self.said: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append((name, total))

    def advance(self, done: int, note: str = "") -> None:
        self.steps.append((self.stages[-1][0], done, note))

    def highlight(self, rank: float, text: str) -> None:
        self.highlights.append(text)

    def say(self, text: str) -> None:
        self.said.append(text)


MakeBlock = Callable[..., Block]
MakeClip = Callable[..., Path]


def scene_block(
    frames: int = 8,
    width: int = 128,
    height: int = 96,
    *,
    pix_fmt: str = "yuv420p",
    grain: float = 0.0,
    speed: float = 1.0,
    level: tuple[float, float] = (60.0, 180.0),
    full_range: bool = False,
    seed: int = 0,
) -> Block:
    """A smooth scene that drifts by `speed` pixels a frame, with white luma grain of sd `grain` (8-bit codes)."""
    rng = np.random.default_rng(seed)
    form = PixelFormat.of(pix_fmt, full_range=full_range)
    unit, top = 1 << (form.depth - 8), (1 << form.depth) - 1
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    phase = rng.uniform(0, 6, size=4)
    low, high = level
    planes: list[list[np.ndarray[Any, Any]]] = [[] for _ in range(form.planes)]
    for t in range(frames):
        moved = x + speed * t
        wave = np.sin(moved / 23 + phase[0]) + np.sin(y / 17 + phase[1]) + np.sin((moved + y) / 31 + phase[2])
        luma = low + (high - low) * (wave + 3) / 6
        luma = luma + grain * rng.standard_normal(luma.shape)
        for i in range(form.planes):
            value = luma if i == 0 or form.layout == "rgb" else 128 + 20 * np.sin(moved / 40 + i)
            if i and form.layout == "yuv":
                value = value[:: 1 << form.sub_h, :: 1 << form.sub_w]
            planes[i].append(np.clip(np.rint(value * unit), 0, top).astype(form.dtype))
    return Block(tuple(np.stack(plane) for plane in planes), form)


@pytest.fixture
def make_block() -> MakeBlock:
    return scene_block


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """`make_clip("a.avi", grain=5, codec="h264", quality=20, …)`: a clip in the test's own folder."""

    def make(
        name: str, *, codec: str = "ffv1", quality: int | None = None, gop: int | None = None, **scene: Any
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, scene_block(**scene), codec=codec, quality=quality, gop=gop)
        return path

    return make


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has state, cache and configuration of its own, and no GRAINSCAN_* variable from outside."""
    for name in [name for name in os.environ if name.startswith("GRAINSCAN_")]:
        monkeypatch.delenv(name)
    for variable, folder in (("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(variable, str(tmp_path / ".xdg" / folder))
    monkeypatch.setattr(cache, "RESERVE", 0)  # tests pass on a disk that is nearly full
    logger = logging.getLogger("grainscan")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = before[0], before[2]  # -q and -v change them for the whole process
    logger.setLevel(before[1])
