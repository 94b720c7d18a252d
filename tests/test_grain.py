"""The character of grain: measured on pictures whose grain is known."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import scene_block
from grain_kit import Array, picture, smoothed, window

from grainscan.data.synth import surviving
from grainscan.grain.character import Character, characterise, width_at_half
from grainscan.grain.curve import CENTRES, fit_curve
from grainscan.grain.describe import Piece, stretches
from grainscan.grain.levels import LEVELS, film_grain_level
from grainscan.grain.sample import Sample, sample
from grainscan.video import Window, recode


def noise(rng: np.random.Generator, luma: Array, size: float = 0.0) -> Array:
    field = rng.standard_normal(luma.shape)
    return smoothed(field, size) if size else field


def measured(*windows: Window) -> Character:
    found = characterise([each for one in windows if (each := sample(one)) is not None])
    assert found is not None
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("motion", [0.0, 2.0, 3.4])
@pytest.mark.parametrize(("sigma", "size"), [(2.0, 0.0), (6.0, 1.5), (15.0, 2.5)])
def test_strength_and_size_over_still_and_moving_texture(
    rng: np.random.Generator, motion: float, sigma: float, size: float
) -> None:
    luma = picture(rng, motion=motion)
    found = measured(window(luma + sigma * noise(rng, luma, size)))
    assert found.strength == pytest.approx(sigma, rel=0.06)
    assert found.interval[0] < sigma < found.interval[1]
    width = max(1.0, size * np.sqrt(2))
    assert found.size == (pytest.approx(width, rel=0.1), pytest.approx(width, rel=0.1))
    assert found.temporal > 0.9


def test_a_picture_without_flat_parts_has_a_wide_interval(rng: np.random.Generator) -> None:
    flat = np.full((8, 192, 256), 120.0)
    restless = flat + 25 * smoothed(rng.standard_normal(flat.shape), 9)  # another texture in every frame
    calm, wild = (measured(window(luma + 3 * noise(rng, luma))) for luma in (flat, restless))
    assert calm.interval[1] / calm.strength < 1.1
    assert wild.interval[1] / wild.strength > 1.2


def test_each_band_of_luma_has_its_own_strength(rng: np.random.Generator) -> None:
    x = np.linspace(30, 220, 320)
    luma = np.broadcast_to(x, (8, 192, 320)).copy()
    sigma = 2 + luma / 40
    found = measured(window(luma + sigma * noise(rng, luma)))
    assert found.bands == (0, 1, 2, 3, 4, 5, 6)
    for band in (1, 2, 3, 4, 5):
        assert found.curves["y"][band] == pytest.approx(2 + CENTRES[band] / 40, rel=0.1)
    assert [band["from"] for band in found.to_dict()["bands"]] == [0, 32, 64, 96, 128, 160, 192]


def test_colour_and_luma_are_told_apart(rng: np.random.Generator) -> None:
    luma = picture(rng, motion=1.0)
    blue, red = (np.full((8, 96, 128), 128.0) for _ in range(2))
    found = measured(window(luma + 4 * noise(rng, luma), (blue + 3 * noise(rng, blue), red)))
    assert found.mean("cb") == pytest.approx(3, rel=0.06)
    assert found.mean("cr") < 0.3
    assert found.to_dict()["chroma"]["cb"] == pytest.approx(3, rel=0.06)


def test_weak_grain_of_a_deep_video(rng: np.random.Generator) -> None:
    luma = picture(rng)
    assert measured(window(luma + 0.5 * noise(rng, luma), depth=10)).strength == pytest.approx(0.5, rel=0.1)


def test_edges_along_a_movement_are_no_pattern_on_the_screen(rng: np.random.Generator) -> None:
    luma = np.full((8, 288, 480), 112.0)
    luma[:, :, 160:] = np.where(np.arange(320) < 160, 170, 205)
    luma[:, ::6, 160:] += 24  # lines, which a movement to the side leaves where they are, beside a plain wall
    luma += 12 * np.sin((np.arange(480) + 3 * np.arange(8)[:, None, None]) / 9)
    assert measured(window(luma + 2 * noise(rng, luma))).temporal > 0.9


@pytest.mark.parametrize(("fixed", "loose", "share"), [(4.0, 0.0, 0.0), (4.0, 4.0, 0.5), (0.0, 4.0, 1.0)])
def test_a_pattern_that_stays_on_the_screen_is_named(
    rng: np.random.Generator, fixed: float, loose: float, share: float
) -> None:
    luma = picture(rng, motion=3.0)
    dirt = fixed * rng.standard_normal(luma.shape[1:])
    found = measured(window(luma + dirt + loose * noise(rng, luma)))
    assert found.temporal == pytest.approx(share, abs=0.15)
    assert found.to_dict()["pattern"] == ("static" if found.temporal < 0.5 else "temporal")


def test_repeated_frames_and_cuts_do_not_count(rng: np.random.Generator) -> None:
    luma = picture(rng)
    grainy = luma + 5 * noise(rng, luma)
    cut = grainy[::-1].copy()
    cut[4:] = 255 - cut[4:]
    for frames in (grainy[[0, 0, 1, 1, 2, 2, 3, 3]], cut):
        assert measured(window(frames)).strength == pytest.approx(5, rel=0.08)


def test_pictures_without_news_and_small_ones(rng: np.random.Generator) -> None:
    still = np.repeat(picture(rng)[:1], 8, axis=0)
    assert sample(window(still)) is None
    assert sample(window(still[:1])) is None
    assert characterise([]) is None
    black = np.full((8, 192, 256), 16.0)
    assert measured(window(black + 2 * noise(rng, black))).bands
    small = np.full((8, 40, 48), 120.0)
    assert measured(window(small + 5 * noise(rng, small))).strength == pytest.approx(5, rel=0.15)


@pytest.mark.parametrize("pix_fmt", ["gray", "gbrp", "yuv444p", "yuv411p", "yuv422p10le"])
def test_every_layout_is_measured(pix_fmt: str) -> None:
    block = scene_block(8, 256, 192, pix_fmt=pix_fmt, grain=5)
    pictures = tuple(tuple(plane[t] for plane in block.planes) for t in range(block.frames))
    found = measured(Window(0, 1, block.format, pictures))
    assert found.strength == pytest.approx(5, rel=0.06)
    assert ("cb" in found.curves) == pix_fmt.startswith("yuv")


def test_samples_travel_as_json(rng: np.random.Generator) -> None:
    luma = picture(rng)
    found = sample(window(luma + 3 * noise(rng, luma)))
    assert found is not None
    values = found.to_dict()
    again = characterise([Sample.from_dict(values)])
    direct = characterise([found])
    assert again is not None and direct is not None
    assert again.strength == pytest.approx(direct.strength, rel=1e-3)
    assert again.size == pytest.approx(direct.size, rel=1e-3)
    wrong: list[tuple[str, object]] = [
        ("level", []), ("level", [float("nan")]), ("shares", [1.0]), ("fixed", "x"), ("variance", {"cb": []}),
    ]  # fmt: skip
    for key, value in wrong:
        with pytest.raises((ValueError, TypeError, LookupError)):
            Sample.from_dict({**values, key: value})


def test_width_at_half_is_one_for_white_noise() -> None:
    assert width_at_half(np.array([1.0, 0.0, 0.0])) == 1
    assert width_at_half(np.array([1.0, 0.75, 0.25])) == pytest.approx(3)
    assert width_at_half(np.ones(4)) == 6


def test_patches_with_moving_texture_do_not_bend_the_curve(rng: np.random.Generator) -> None:
    level = rng.uniform(20, 230, 120)
    truth = 3 + level / 100
    deviation = truth * np.exp(rng.normal(0, 0.04, 120)) + np.where(rng.random(120) < 0.4, rng.uniform(1, 20, 120), 0)
    curve = fit_curve(level, deviation**2, np.ones(120), np.ones(120))
    assert curve.deviation[1:7] == pytest.approx(3 + CENTRES[1:7] / 100, rel=0.07)


def test_what_changes_more_over_two_frames_than_over_one_is_no_grain(rng: np.random.Generator) -> None:
    """Leaves that no compensation follows fill the brighter half of the picture; grain is everywhere the same."""
    luma = np.full((8, 160, 256), 80.0)
    leaves = np.cumsum(rng.normal(0, 6, (8, 160, 128)), axis=0)
    luma[:, :, 128:] = 150 + 20 * smoothed(leaves, 1.5)
    found = sample(window(luma + 4 * noise(rng, luma)))
    assert found is not None
    bright = found.level > 115
    assert np.median(found.leap[~bright]) == pytest.approx(1, abs=0.05)
    assert np.median(found.leap[bright]) > 1.25
    assert characterise([found]).curves["y"][[2, 4]] == pytest.approx(4, rel=0.1)  # type: ignore[union-attr]


def test_stretches_meet_halfway_and_leave_out_clean_windows(rng: np.random.Generator) -> None:
    luma = np.full((8, 128, 160), 120.0)
    samples = [sample(window(luma + sigma * noise(rng, luma))) for sigma in (1, 5, 5.5, 12)]
    pieces = [Piece(4.0 * number, 4.0 * number + 1, each, number > 0) for number, each in enumerate(samples) if each]
    found = stretches(pieces)
    assert [(start, end) for start, end, _ in found] == [(2.5, 10.5), (10.5, float("inf"))]
    assert [part.strength for *_, part in found] == [pytest.approx(5.25, rel=0.06), pytest.approx(12, rel=0.06)]


def test_the_suggested_level_grows_with_strength_and_stays_within_the_encoder(rng: np.random.Generator) -> None:
    luma = np.full((8, 128, 160), 120.0)
    levels = [film_grain_level(measured(window(luma + sigma * noise(rng, luma)))) for sigma in (0.3, 1, 3, 30)]
    assert levels == sorted(levels) and LEVELS[0] <= levels[0] < levels[2] and levels[-1] == LEVELS[1]


def test_what_an_encoder_leaves_is_measured(rng: np.random.Generator) -> None:
    luma = picture(rng, motion=1.5)
    field = 6 * noise(rng, luma, 1.2)
    clean, grainy = (recode(window(each).block(), "h264", 22) for each in (luma, luma + field))
    pictures = tuple(tuple(plane[t] for plane in grainy.planes) for t in range(grainy.frames))
    truth = surviving(clean, grainy, np.asarray(field, np.float32))
    assert truth < 5.8
    assert measured(Window(0, 1, grainy.format, pictures)).strength == pytest.approx(truth, rel=0.08)
