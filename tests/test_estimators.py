"""The classical noise estimators against noise of a known strength."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import scene_block

from grainscan.tasks import STANDARD, Task
from grainscan.video import Block, PixelFormat, Window
from grainscan.views import estimators
from grainscan.views.estimators import ESTIMATORS, Picture, measure


def window_of(block: Block) -> Window:
    pictures = tuple(tuple(plane[t] for plane in block.planes) for t in range(block.frames))
    return Window(0.0, 1.0, block.format, pictures)


def noise(sigma: float, *, frames: int = 3, size: int = 256, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (128 + sigma * rng.standard_normal((frames, size, size))).astype(np.float32)


@pytest.mark.parametrize("task", [task for task in STANDARD if task.estimator], ids=lambda task: task.name)
def test_records_name_estimators_that_exist(task: Task) -> None:
    assert task.estimator in ESTIMATORS


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_white_noise_on_a_flat_picture_is_measured(name: str, sigma: float) -> None:
    # Those that look at the flattest tenth lie below the mean, by as much as a block or a patch scatters.
    expected = 0.78 * sigma if name == "pca" else sigma
    assert ESTIMATORS[name](Picture(noise(sigma))) == pytest.approx(expected, rel=0.15)


def test_more_grain_gives_more() -> None:
    measured = [measure(window_of(scene_block(3, 192, 128, grain=grain))) for grain in (0.0, 2.0, 5.0, 10.0)]
    for name in ESTIMATORS:
        values = [each[name] for each in measured]
        assert values == sorted(values) and values[-1] > 2 * values[0], name


def test_each_is_blind_to_what_it_should_be_blind_to() -> None:
    x, y = np.meshgrid(np.arange(256), np.arange(256))
    ramp = np.repeat((40 + 0.6 * x + 0.1 * y)[None], 3, axis=0).astype(np.float32)
    assert estimators.laplacian(Picture(ramp)) < 1e-3 < estimators.flat(Picture(ramp))
    texture = np.repeat(noise(10, frames=1), 3, axis=0)  # at rest
    assert estimators.temporal(Picture(texture)) == 0 < estimators.flat(Picture(texture))
    assert estimators.temporal_laplacian(Picture(texture)) == 0
    busy = noise(1.0)
    checks = (x // 2 + y // 2) % 2
    busy[:, :, 128:] += 60 * checks[:, 128:]  # half of the picture textured
    for name in ("flat", "laplacian", "pca", "weak_texture"):
        assert ESTIMATORS[name](Picture(busy)) < 1.5
    assert estimators.immerkaer(Picture(busy)) > 5  # it sees the whole picture


def test_immerkaer_operator_by_hand() -> None:
    frames = np.zeros((1, 3, 3), np.float32)
    frames[0, 1, 1] = 6
    assert estimators.immerkaer_operator(frames) == pytest.approx(np.array([[[4.0]]]))
    corner = np.zeros((1, 3, 3), np.float32)
    corner[0, 0, 0] = 6
    assert estimators.immerkaer_operator(corner) == pytest.approx(np.array([[[1.0]]]))


def test_block_moments_by_hand() -> None:
    frames = np.random.default_rng(0).random((2, 37, 50), dtype=np.float32) * 255
    mean, deviation = estimators.block_moments(frames)
    assert mean.shape == deviation.shape == (2, 2, 3)
    assert mean[1, 1, 2] == pytest.approx(frames[1, 16:32, 32:48].mean(), rel=1e-4)
    assert deviation[1, 1, 2] == pytest.approx(frames[1, 16:32, 32:48].std(), rel=1e-3)


def test_clipped_parts_say_nothing() -> None:
    frames = noise(4)
    frames[:, :, :128] = 16  # black, without any noise
    assert estimators.flat(Picture(frames)) == pytest.approx(4, rel=0.1)
    assert ESTIMATORS["pca"](Picture(frames)) == pytest.approx(ESTIMATORS["pca"](Picture(noise(4))), rel=0.1)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("size", [(2, 2), (16, 16), (17, 40), (64, 64)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_to_measure_gives_zero(frames: int, size: tuple[int, int], level: int) -> None:
    values = measure(window_of(Block((np.full((frames, *size), level, np.uint8),), PixelFormat.of("gray"))))
    assert set(values) == set(ESTIMATORS) and not any(values.values())


@pytest.mark.parametrize("pix_fmt", ["gray", "yuv420p", "yuv422p10le", "yuv444p12le", "gbrp"])
def test_every_format_gives_the_same(pix_fmt: str) -> None:
    values = measure(window_of(scene_block(3, 192, 160, grain=6.0, pix_fmt=pix_fmt)))
    assert values["temporal_laplacian"] == pytest.approx(6.0, rel=0.25)
    assert all(np.isfinite(value) and type(value) is float for value in values.values())


def test_bars_are_left_out() -> None:
    block = scene_block(3, 192, 160, grain=6.0)
    barred = block.copy()
    for plane, black in zip(barred.planes, (16, 128, 128), strict=True):
        edge = plane.shape[1] // 5
        plane[:, :edge], plane[:, -edge:] = black, black
    with_bars, without = measure(window_of(barred)), measure(window_of(block))
    for name in ESTIMATORS:
        assert with_bars[name] == pytest.approx(without[name], rel=0.25), name


def test_of_large_pictures_the_middle_is_measured() -> None:
    window = window_of(Block((np.full((4, 1080, 1920), 128, np.uint8),), PixelFormat.of("gray")))
    assert estimators.luma_of(window).shape == (3, 720, 1280)
