"""The synthesiser: statistics that can be worked out by hand, exact repetition, and labels by what survives."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import MakeClip

from grainscan import tasks
from grainscan.data.manifest import read_manifest
from grainscan.data.prep import prepare
from grainscan.data.synth import (
    BaseRecipe,
    Effect,
    Generation,
    Scale,
    apply,
    drawing,
    encode,
    fields,
    surviving,
    synthesiser,
    twin,
)
from grainscan.data.synth.defects import DEFECTS
from grainscan.data.synth.grain import KINDS, Grain, amplitude, film_curve, sensor_curve, shot_curve, skewed
from grainscan.data.synth.graininess import LOOKS, Recipe
from grainscan.data.synth.process import PROCESSES
from grainscan.data.synth.stack import Stack, from_block, pool, resample, to_block
from grainscan.data.synth.twins import SCENES
from grainscan.errors import ConfigError, DataError
from grainscan.options import PrepConfig
from grainscan.tasks import SYNTHESISED
from grainscan.video import CODECS, Block, PixelFormat, recode

FORMATS = ("yuv420p", "yuv422p10le", "yuv444p", "yuv420p12le", "gray", "gray10le", "gbrp", "gbrp10le")


def flat(level: float = 120, *, pix_fmt: str = "yuv420p", frames: int = 8, width: int = 96, height: int = 80) -> Block:
    """A block of one gray; level in 8-bit codes."""
    form = PixelFormat.of(pix_fmt)
    unit = 1 << (form.depth - 8)
    planes = []
    for i in range(form.planes):
        chroma = i > 0 and form.layout == "yuv"
        shape = (frames, height, width)
        if chroma:
            shape = (frames, -(-height // (1 << form.sub_h)), -(-width // (1 << form.sub_w)))
        planes.append(np.full(shape, round((128 if chroma else level) * unit), form.dtype))
    return Block(tuple(planes), form)


def moving(frames: int = 8, width: int = 96, height: int = 80, *, pix_fmt: str = "yuv420p") -> Block:
    """A smooth scene that drifts two pixels a frame."""
    block = flat(pix_fmt=pix_fmt, frames=frames, width=width, height=height)
    unit = 1 << (block.format.depth - 8)
    y, x = np.mgrid[:height, :width]
    scene = np.stack([118 + 35 * np.sin((x + 2 * t) / 9) + 25 * np.cos(y / 13) for t in range(frames)])
    brightness = 3 if block.format.layout == "rgb" else 1
    planes = [
        np.round(scene * unit).astype(block.format.dtype) if i < brightness else p for i, p in enumerate(block.planes)
    ]
    return Block(tuple(planes), block.format)


def correlation(field: np.ndarray, dy: int = 0, dx: int = 0, dt: int = 0) -> float:
    """Correlation of a zero-mean field (frames, height, width) with itself, shifted."""
    frames, height, width = field.shape
    first = field[: frames - dt, : height - dy, : width - dx]
    second = field[dt:, dy:, dx:]
    return float(np.mean(first * second) / np.mean(field**2))


def correlation_length(field: np.ndarray) -> float:
    """Distance along the rows at which the correlation has fallen to one half, in pixels."""
    values = [correlation(field, dx=d) for d in range(12)]
    after = next(d for d, value in enumerate(values) if value < 0.5)
    return after - (0.5 - values[after]) / (values[after - 1] - values[after])


def same(one: Block, other: Block) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


# --------------------------------------------------------------------------------------------------------- the fields


@pytest.mark.parametrize("kind", KINDS)
def test_grain_has_the_deviation_asked_for_and_changes_with_every_picture(kind: str) -> None:
    made = apply(flat(), Recipe(seed=1, grain=Grain(kind, 6.0, 1.5, chroma=0.5)))
    assert made.added.std() == pytest.approx(6.0, rel=0.06)
    assert abs(made.added.mean()) < 0.1
    assert abs(correlation(made.added, dt=1)) < 0.05
    for plane in (1, 2):
        chroma = made.affected.planes[plane].astype(float) - made.clean.planes[plane]
        assert chroma.std() == pytest.approx(3.0, rel=0.12)


def test_white_noise_is_white_and_gaussian_grain_correlates_as_its_kernel_says() -> None:
    rng = np.random.default_rng(3)
    white = fields.shaped(rng, (8, 96, 96), np.ones((1, 1), np.float32))
    assert all(abs(correlation(white, dy, dx)) < 0.02 for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2)))
    blurred = fields.shaped(rng, (16, 96, 96), fields.gaussian(96, 96, 3.0))
    width = 3.0 / 2.3548
    for distance in (1, 2, 3):  # a Gaussian kernel of deviation w correlates as exp(-d^2 / 4 w^2)
        assert correlation(blurred, dx=distance) == pytest.approx(np.exp(-(distance**2) / (4 * width**2)), abs=0.03)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 65), (48, 31)])
def test_fields_have_unit_deviation_in_any_size(height: int, width: int) -> None:
    field = fields.shaped(np.random.default_rng(0), (24, height, width), fields.gaussian(height, width, 2.0))
    assert field.shape == (24, height, width)
    assert field.std() == pytest.approx(1.0, rel=0.04)
    assert np.abs(field.mean(axis=(1, 2))).max() < 1e-5


def test_the_frequency_solution_is_the_autoregressive_recursion() -> None:
    lag, coefficients = 2, (0.02, -0.05, 0.1, 0.0, -0.02, -0.1, -0.3, 0.35, 0.05, 0.02, -0.15, 0.6)
    rng = np.random.default_rng(5)
    size, neighbours = 150, fields.neighbours(lag)
    grain = np.pad(rng.standard_normal((size, size)), 8)
    for y in range(8, size + 8):  # the specification's own loop
        for x in range(8, size + 8):
            grain[y, x] += sum(c * grain[y + dy, x + dx] for c, (dy, dx) in zip(coefficients, neighbours, strict=True))
    recursive = grain[None, 24:-8, 24:-8]
    solved = fields.shaped(rng, (8, 128, 128), fields.autoregressive(128, 128, coefficients, lag))
    for dy, dx in ((0, 1), (0, 2), (1, 0), (1, 1), (2, 0)):
        assert correlation(solved, dy, dx) == pytest.approx(correlation(recursive, dy, dx), abs=0.06)


def test_one_autoregressive_coefficient_gives_a_geometric_correlation() -> None:
    transfer = fields.autoregressive(64, 64, (0.0, 0.0, 0.0, 0.6), 1)  # the left neighbour alone
    field = fields.shaped(np.random.default_rng(2), (32, 64, 64), transfer)
    assert [correlation(field, dx=d) for d in (1, 2, 3)] == pytest.approx([0.6, 0.36, 0.216], abs=0.02)
    assert abs(correlation(field, dy=1)) < 0.02
    assert fields.neighbours(3)[:2] == [(-3, -3), (-3, -2)] and len(fields.neighbours(3)) == 24


def test_band_limited_grain_has_no_power_beyond_its_cut_off() -> None:
    field = fields.shaped(np.random.default_rng(2), (4, 64, 64), fields.band(64, 64, 2.0, low=0.5))
    power = np.abs(np.fft.rfft2(field)) ** 2
    y, x = np.abs(np.fft.fftfreq(64))[:, None], np.fft.rfftfreq(64)[None]
    inside = (y <= 0.25) & (x <= 0.25) & ~((y < 0.125) & (x < 0.125))
    assert power[:, ~inside].sum() < 1e-6 * power.sum()


@pytest.mark.parametrize("kind", ["gaussian", "film", "band", "autoregressive"])
def test_grain_coarsens_with_its_size(kind: str) -> None:
    sizes = (1.0, 1.6, 2.4) if kind == "autoregressive" else (1.0, 2.0, 3.0, 4.0)
    block = flat(width=128, height=128)
    lengths = [correlation_length(apply(block, Recipe(seed=4, grain=Grain(kind, 8.0, size))).added) for size in sizes]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 1.5 * lengths[0]


def test_skew_bends_the_distribution_and_keeps_its_deviation() -> None:
    field = np.random.default_rng(0).standard_normal((8, 100, 100)).astype(np.float32)
    bent = skewed(field, 0.5)
    assert bent.std() == pytest.approx(1.0, rel=0.01)
    assert np.mean(bent**3) == pytest.approx(0.5, abs=0.06)


# ------------------------------------------------------------------------------------------------------ amplitude


def test_the_gain_curve_distributes_grain_over_levels() -> None:
    block = flat(60, pix_fmt="yuv420p")
    block.planes[0][:, :, 48:] = 180
    curve = ((0.0, 0.25), (60.0, 0.25), (180.0, 1.0), (255.0, 1.0))
    added = apply(block, Recipe(seed=2, grain=Grain("white", 8.0, gain=curve))).added
    dark, bright = added[:, :, :48].std(), added[:, :, 48:].std()
    assert bright / dark == pytest.approx(4.0, rel=0.05)
    assert added.std() == pytest.approx(8.0, rel=0.05)


def test_gain_curves_follow_their_models() -> None:
    film = dict(film_curve())
    assert max(film.values()) == pytest.approx(0.5, abs=0.01)  # sqrt(u (1 - u)) at u = 1/2
    assert film[0] < 0.5 * film[128] and film[255] < 0.5 * film[128]
    shot = dict(shot_curve())
    assert shot[224] ** 2 / shot[128] ** 2 == pytest.approx((224 - 8) / (128 - 8))
    sensor = dict(sensor_curve(0.02))
    assert sensor[32] > sensor[128] > sensor[224]  # the tone curve lifts noise in the shadows
    linear = (128 / 255) ** 2.2
    slope = linear ** (1 / 2.2 - 1) / 2.2
    assert sensor[128] == pytest.approx(np.sqrt(linear + 0.02) * slope)


def test_a_curve_that_vanishes_everywhere_in_a_picture_adds_little() -> None:
    dark = np.zeros((2, 8, 8), np.float32)
    gain = amplitude(dark, ((0.0, 0.0), (128.0, 1.0), (255.0, 1.0)))
    assert gain.max() == 0


def test_coupled_chroma_follows_luma() -> None:
    grain = Grain("gaussian", 6.0, 2.0, chroma=0.8, coupling=0.9)
    made = apply(flat(pix_fmt="yuv444p"), Recipe(seed=1, grain=grain))
    chroma = made.affected.planes[1].astype(float) - made.clean.planes[1]
    assert np.corrcoef(chroma.ravel(), made.added.ravel())[0, 1] == pytest.approx(0.9, abs=0.03)


# ------------------------------------------------------------------------------------------------ blocks and recipes


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_grain_in_every_sort_of_block(pix_fmt: str) -> None:
    block = flat(pix_fmt=pix_fmt, width=97, height=81)
    made = apply(block, Recipe(seed=1, grain=Grain("film", 5.0, 2.0, chroma=0.4)))
    assert made.affected.format == block.format
    assert [p.shape for p in made.affected.planes] == [p.shape for p in block.planes]
    assert all(p.dtype == block.format.dtype for p in made.affected.planes)
    assert made.added.std() == pytest.approx(5.0, rel=0.06)


@pytest.mark.parametrize("kind", sorted({*SCENES, *DEFECTS, *PROCESSES}))
def test_every_effect_on_every_layout(kind: str) -> None:
    rng = np.random.default_rng(1)
    values = {key: span.draw(rng) for key, span in drawing.VALUES[kind].items()}
    stage = "scene" if kind in SCENES else "defects" if kind in DEFECTS else "process"
    for pix_fmt in ("yuv420p10le", "gray", "gbrp"):
        block = moving(frames=5, width=49, height=37, pix_fmt=pix_fmt)
        kept = block.copy()
        recipe = Recipe(seed=3, **{stage: (Effect(kind, values),)})
        made = apply(block, recipe)
        assert [p.shape for p in made.clean.planes] == [p.shape for p in block.planes]
        assert same(block, kept)
        assert same(made.clean, apply(block, recipe).clean)


def test_the_same_recipe_gives_the_same_pixels_and_another_seed_others() -> None:
    rng = np.random.default_rng(11)
    block = moving(frames=6)
    for _ in range(12):
        recipe = replace(Recipe.draw(rng, width=96, height=80), encode=())
        read = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert read == recipe
        one, other = apply(block, recipe), apply(block, read)
        assert same(one.affected, other.affected) and same(one.clean, other.clean)
        assert not same(one.affected, apply(block, replace(recipe, seed=recipe.seed + 1)).affected)


def test_a_recipe_that_is_not_one_is_refused() -> None:
    record = Recipe(grain=Grain("white", 3.0)).to_dict()
    changes = ({"grain": {"kind": "white"}}, {"scene": [{}]}, {"colour": 1}, {"task": "banding"})
    for broken in ({**record, **change} for change in changes):
        with pytest.raises(DataError):
            Recipe.from_dict(broken)
    with pytest.raises(DataError, match="unknown"):
        apply(flat(), Recipe(defects=(Effect("moths"),)))
    with pytest.raises(DataError, match="unknown"):
        apply(flat(), Recipe(grain=Grain("sand", 3.0)))
    with pytest.raises(DataError, match="wrong values"):
        apply(flat(), Recipe(defects=(Effect("dirt", {"size": 3.0}),)))


def test_draw_covers_every_kind_effect_and_codec_within_what_the_encoders_take() -> None:
    rng = np.random.default_rng(0)
    recipes = [Recipe.draw(rng, width=128, height=128) for _ in range(800)]
    grains = [recipe.grain for recipe in recipes if recipe.grain]
    assert {grain.kind for grain in grains} == set(KINDS)
    effects = {effect.kind for r in recipes for effect in (*r.scene, *r.defects, *r.process)}
    assert effects == {*SCENES, *DEFECTS, *PROCESSES} - {"pan", "gradient"}  # those belong to other artifacts
    generations = [generation for recipe in recipes for generation in recipe.encode]
    assert {generation.codec for generation in generations} == set(CODECS)
    for generation in generations:
        about = CODECS[generation.codec]
        if generation.quality is not None:
            assert min(about.best, about.worst) <= generation.quality <= max(about.best, about.worst)
    assert {len(recipe.encode) for recipe in recipes} == {1, 2, 3}
    assert {grain.lag for grain in grains if grain.kind == "autoregressive"} == {0, 1, 2, 3}
    sigmas = np.array([grain.sigma for grain in grains])
    assert sigmas.min() < 1 and sigmas.max() > 40 and 3 < np.median(sigmas) < 9
    assert min(grain.size for grain in grains) < 0.6 and max(grain.size for grain in grains) > 3.9
    scales = [recipe.scale.factor for recipe in recipes if recipe.scale]
    assert min(scales) < 0.6 and max(scales) > 2


def test_the_tables_fit_the_functions() -> None:
    for kind, function in {**SCENES, **DEFECTS, **PROCESSES}.items():
        wanted = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        assert wanted == set(drawing.VALUES[kind]), kind
    assert sum(look.share for look in LOOKS.values()) == pytest.approx(1)
    assert sum(row[0] for row in drawing.CODECS.values()) == pytest.approx(1)


def test_small_pictures_are_not_enlarged_beyond_their_middle() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        recipe = Recipe.draw(rng, width=40, height=200)
        assert recipe.scale is None or recipe.scale.factor <= 40 / drawing.MIDDLE


def test_every_record_that_names_a_synthesiser_has_one() -> None:
    for task in SYNTHESISED:
        recipe = synthesiser(task)
        assert recipe.task == task and 0 < recipe.negligible < recipe.visible
        drawn = recipe.draw(np.random.default_rng(0), width=96, height=80)
        assert drawn != drawn.clean() == drawn.clean().clean()


def test_other_tasks_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="halos") as caught:
        synthesiser("halos")
    assert caught.value.hint.endswith(", ".join(SYNTHESISED) + ".")


# -------------------------------------------------------------------------------------- scenes, defects, processing


def test_frozen_noise_rests_and_is_no_grain() -> None:
    recipe = Recipe(seed=5, defects=(Effect("frozen", {"sigma": 8.0, "size": 1.0}),))
    pair = twin(flat(), recipe)
    assert pair.affected.planes[0].std() == pytest.approx(8.0, rel=0.06)
    assert all(np.array_equal(pair.affected.planes[0][0], picture) for picture in pair.affected.planes[0])
    assert (pair.strength, pair.label) == (0.0, 0)


def test_interlacing_takes_every_second_line_from_the_next_picture() -> None:
    block = moving(frames=4)
    woven = apply(block, Recipe(scene=(Effect("comb", {"bottom_first": 0.0}),))).clean.planes[0]
    assert np.array_equal(woven[1][1::2], block.planes[0][2][1::2])
    assert np.array_equal(woven[1][0::2], block.planes[0][1][0::2])


def test_fades_arrive_and_stills_rest() -> None:
    values = {"level": 16.0, "depth": 1.0, "rising": 0.0}
    faded = apply(moving(), Recipe(scene=(Effect("fade", values),))).clean
    assert np.array_equal(faded.planes[0][0], moving().planes[0][0]) and np.all(faded.planes[0][-1] == 16)
    rest = apply(moving(), Recipe(scene=(Effect("still"),))).clean
    assert np.all(rest.planes[0] == moving().planes[0][0])


def test_shake_shifts_the_picture_as_a_whole() -> None:
    block = moving(frames=6)
    block.planes[0][...] = block.planes[0][0]
    values = {"amplitude": 3.0, "smoothness": 0.5, "subpixel": 0.0}
    shaken = apply(block, Recipe(seed=2, scene=(Effect("shake", values),))).clean.planes[0]
    inner = block.planes[0][0][20:60, 20:70]
    for picture in shaken:
        matches = (
            np.array_equal(inner, picture[20 + dy : 60 + dy, 20 + dx : 70 + dx])
            for dy in range(-16, 17, 2)
            for dx in range(-16, 17, 2)
        )
        assert any(matches)
    assert not np.array_equal(shaken[0], shaken[1])


def test_dirt_lies_on_the_grain_in_both_branches() -> None:
    dirt = Effect("dirt", {"density": 3.0, "size": 6.0, "opacity": 1.0})
    made = apply(flat(width=128), Recipe(seed=3, grain=Grain("white", 6.0), defects=(dirt,)))
    specks = np.abs(made.clean.planes[0].astype(int) - 120) > 60
    assert 0.001 < specks.mean() < 0.1
    assert (
        np.abs(made.added[specks]).mean() < 0.1 * np.abs(made.added[~specks]).mean()
    )  # soft edges let a little through
    assert correlation(specks.astype(float) - specks.mean(), dt=1) < 0.2


def test_flicker_changes_pictures_as_a_whole_and_scratches_stand_upright() -> None:
    flickering = apply(flat(), Recipe(seed=1, defects=(Effect("flicker", {"depth": 0.05, "unevenness": 0.0}),))).clean
    means = flickering.planes[0].mean(axis=(1, 2))
    assert means.std() == pytest.approx(0.05 * 120, rel=0.6) and flickering.planes[0][0].std() < 0.01
    values = {"number": 4.0, "contrast": 40.0, "width": 1.5}
    scratched = apply(flat(), Recipe(seed=1, defects=(Effect("scratches", values),))).clean.luma8() - 120
    assert correlation(scratched, dy=4) > 0.6 > 3 * correlation(scratched, dx=4)


def test_processing_changes_what_is_left_of_the_grain() -> None:
    base = Recipe(seed=1, grain=Grain("white", 8.0))

    def added(**changes: object) -> np.ndarray:
        return apply(flat(), replace(base, **changes)).added

    def processed(kind: str, **values: float) -> np.ndarray:
        return added(process=(Effect(kind, values),))

    assert processed("sharpen", amount=1.0, radius=1.0).std() > 1.3 * 8
    assert processed("soften", radius=1.0).std() < 0.5 * 8
    assert processed("denoise", threshold=6.0, radius=1.5).std() < 0.8 * 8
    settled = processed("settle", strength=0.8, threshold=20.0)
    assert settled[2:].std() < 0.8 * 8 and correlation(settled[2:], dt=1) > 0.3
    assert processed("grade", contrast=1.25, lift=5.0).std() == pytest.approx(10.0, rel=0.05)
    assert np.array_equal(processed("bleach", saturation=0.0), added())
    held = processed("cadence", hold=1.0)
    repeats = [np.array_equal(held[t], held[t - 1]) for t in range(1, len(held))]
    assert repeats in ([True, False] * 4, [False, True] * 4) or sum(repeats) in (3, 4)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "gbrp"])
def test_bleaching_leaves_gray(pix_fmt: str) -> None:
    block = flat(90, pix_fmt=pix_fmt)
    block.planes[2][...] = 180
    gray = apply(block, Recipe(process=(Effect("bleach", {"saturation": 0.0}),))).clean
    if pix_fmt == "gbrp":
        assert len({int(plane[0, 0, 0]) for plane in gray.planes}) == 1
        assert gray.luma8()[0, 0, 0] == pytest.approx(block.luma8()[0, 0, 0], abs=0.6)
    else:
        assert np.all(gray.planes[2] == 128) and np.all(gray.planes[0] == 90)


def test_scaling_after_grain_makes_it_coarser_or_finer() -> None:
    base = Recipe(seed=1, grain=Grain("gaussian", 8.0, 1.5))
    lengths, deviations = [], []
    for factor in (0.5, 1.0, 2.0):
        scale = None if factor == 1 else Scale(factor)
        made = apply(flat(width=128, height=128), replace(base, scale=scale))
        assert np.all(made.clean.planes[0] == 120)
        lengths.append(correlation_length(made.added))
        deviations.append(made.added.std())
    assert lengths[0] < lengths[1] < lengths[2]
    assert deviations[0] < 0.8 * 8  # a reduction averages grain away


def test_resampling_keeps_constants_and_reproduces_lines() -> None:
    ramp = np.tile(np.arange(32, dtype=np.float32), (1, 4, 1))
    at = np.array([3.25, 8.5, 20.75])
    for taps in (2, 4, 6):
        assert np.allclose(resample(ramp, at, taps, -1)[0, 0], at, atol=0.05)
        assert np.allclose(resample(np.ones((1, 9, 9), np.float32), at / 4, taps, -2), 1, atol=1e-6)
    with pytest.raises(ValueError, match="kernel"):
        resample(ramp, at, 3, -1)


def test_pooling_and_rounding_at_odd_sizes() -> None:
    field = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    assert pool(field, 1, 1)[0].tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]
    block = flat(pix_fmt="yuv420p10le", width=5, height=3)
    assert same(to_block(from_block(block)), block)
    wild = Stack(tuple(np.full_like(p, 1e6) for p in from_block(block).planes), block.format)
    assert to_block(wild).planes[0].max() == 1023


# ----------------------------------------------------------------------------------------------- what survives


def test_surviving_is_the_deviation_of_what_is_left() -> None:
    made = apply(flat(), Recipe(seed=1, grain=Grain("white", 7.0)))
    assert surviving(made.clean, made.affected, made.added) == pytest.approx(made.added.std(), rel=0.03)
    kept = np.random.default_rng(5).random(made.added.shape) < 0.25  # a part lost, the rest whole
    part = Block((np.round(120 + made.added * kept).astype(np.uint8), *made.clean.planes[1:]), made.clean.format)
    assert surviving(made.clean, part, made.added) == pytest.approx((made.added * kept).std(), rel=0.06)
    half = Block((np.round(120 + made.added / 2).astype(np.uint8), *made.clean.planes[1:]), made.clean.format)
    assert surviving(made.clean, half, made.added) == pytest.approx(made.added.std() / 2, rel=0.03)  # all weakened
    other = apply(flat(), Recipe(seed=2, grain=Grain("white", 7.0)))
    assert surviving(made.clean, other.affected, made.added) < 1.0
    assert surviving(made.affected, made.clean, made.added) == 0.0  # grain taken away has not survived
    assert surviving(made.clean, made.affected, np.zeros_like(made.added)) == 0.0


@pytest.mark.parametrize(("codec", "quality"), [("h264", 26), ("hevc", 34), ("mpeg2", 8)])
def test_on_a_flat_picture_all_that_an_encoder_leaves_is_grain(codec: str, quality: int) -> None:
    recipe = Recipe(seed=3, grain=Grain("gaussian", 9.0, size=1.5), encode=(Generation(codec, quality),))
    made = apply(flat(), recipe)
    left = encode(made.affected, recipe.encode)
    strength = surviving(encode(made.clean, recipe.encode), left, made.added)
    assert strength == pytest.approx(left.luma8().std(), rel=0.15)


def test_less_survives_at_lower_quality() -> None:
    block = moving(width=96, height=96)
    strengths = []
    for quality in (17, 23, 29, 35, 43):
        recipe = Recipe(seed=1, grain=Grain("gaussian", 8.0, 1.5), encode=(Generation("h264", quality, speed=2),))
        strengths.append(twin(block, recipe).strength)
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] > 5 and strengths[-1] < Recipe.visible


def test_generations_add_up_and_lossless_ones_change_nothing() -> None:
    block = apply(moving(), Recipe(seed=1, grain=Grain("white", 6.0))).affected
    assert same(recode(block, "ffv1"), block)
    assert same(encode(block, [Generation("ffv1")]), block)
    first, second = Generation("mpeg4", 5, gop=1), Generation("mpeg2", 9)
    once = encode(block, [first])
    twice = encode(block, [first, second])
    assert not same(once, block) and not same(once, twice)
    assert same(twice, encode(once, [second]))


@pytest.mark.parametrize("codec", [name for name, codec in CODECS.items() if codec.best != codec.worst])
@pytest.mark.parametrize(("side", "pix_fmt"), [(64, "yuv420p"), (104, "yuv422p10le")])
def test_encoders_repeat_themselves(codec: str, side: int, pix_fmt: str) -> None:
    about = CODECS[codec]
    scene = moving(frames=4, width=side, height=side, pix_fmt=pix_fmt)
    block = apply(scene, Recipe(seed=1, grain=Grain("white", 6.0))).affected
    chain = [Generation(codec, (about.best + about.worst) // 2)]
    first = encode(block, chain)
    assert all(same(first, encode(block, chain)) for _ in range(4))


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_every_codec_on_an_odd_and_small_block(codec: str) -> None:
    block = moving(frames=3, width=51, height=37)
    quality = None if codec == "ffv1" else CODECS[codec].best
    out = encode(block, [Generation(codec, quality, speed=2)])
    assert [p.shape for p in out.planes] == [p.shape for p in block.planes]
    assert np.abs(out.luma8() - block.luma8()).mean() < 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p", "gray", "gbrp"])
def test_twins_of_other_formats(pix_fmt: str) -> None:
    recipe = Recipe(seed=1, grain=Grain("gaussian", 9.0, 2.0), encode=(Generation("h264", 20, speed=2),))
    pair = twin(moving(frames=4, pix_fmt=pix_fmt), recipe)
    assert pair.label == 1 and 4 < pair.strength < 10
    assert pair.affected.format.name == pix_fmt


def test_twins_differ_in_grain_alone_and_carry_a_label() -> None:
    defects = (Effect("flicker", {"depth": 0.03, "unevenness": 0.3}),)
    recipe = Recipe(seed=1, grain=Grain("white", 6.0), defects=defects, encode=(Generation("mpeg4", 2, gop=1),))
    block = moving()
    pair = twin(block, recipe)
    assert pair.label == 1 and pair.strength == pytest.approx(6.0, rel=0.3)
    assert same(pair.clean, twin(block, recipe.clean()).clean)
    spoiled = twin(block, replace(recipe, encode=(Generation("h264", 43, speed=2),)))
    assert spoiled.label == 0
    none = twin(block, replace(recipe, grain=None))
    assert same(none.clean, none.affected) and (none.strength, none.label) == (0.0, 0)


def test_labels_leave_a_gap() -> None:
    low, high = Recipe.negligible, Recipe.visible
    labels = [Recipe.label_of(value) for value in (0.0, low - 0.01, low, high - 0.01, high, 30.0)]
    assert labels == [0, 0, None, None, 1, 1]


# ------------------------------------------------------------------------------------------------- another artifact


@dataclass(frozen=True)
class Steps(BaseRecipe):
    """Steps as a newcomer would write it: brightness rounded to few levels."""

    task = "posterising"
    visible = 2.0
    negligible = 1.0

    height: float | None = None  # of a step, 8-bit codes

    @classmethod
    def draw(cls, rng: np.random.Generator, *, width: int, height: int) -> Steps:
        setting = drawing.Setting(share=1, scene={"shake": 1}, defects={}, process={"soften": 0.5}, scale=0.5)
        return cls(height=24.0, **drawing.draw_setting(rng, setting, width=width, height=height))

    def clean(self) -> Steps:
        return replace(self, height=None)

    def affect(self, stack: Stack, rng: np.random.Generator) -> Stack:
        return Stack((np.round(stack.planes[0] / self.height) * self.height, *stack.planes[1:]), stack.format)


def test_a_new_artifact_is_a_record_and_a_module(
    tmp_path: Path, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tasks.Task("posterising", unit="codes", synthesiser="steps")
    monkeypatch.setitem(tasks._BY_NAME, "posterising", record)
    monkeypatch.setitem(sys.modules, "grainscan.data.synth.steps", SimpleNamespace(Recipe=Steps))
    make_clip("footage/a.avi", frames=8, width=80, height=80)
    config = PrepConfig((tmp_path / "footage",), tmp_path / "data", clips=1, frames=4, size=64, workers=0)
    prepare(replace(config, synthesize="posterising", workers=0))
    manifest = read_manifest(tmp_path / "data")
    assert manifest is not None
    clean, twin_of_it = manifest["clips"]["a_c00.avi"], manifest["clips"]["a_c00_posterising1.avi"]
    assert clean["labels"] == {"posterising": 0} and twin_of_it["labels"] == {"posterising": 1}
    assert twin_of_it["strength"]["posterising"] > 3
    recipe = Steps.from_dict(twin_of_it["synthesis"])
    assert recipe.height == 24 and Steps.from_dict(clean["synthesis"]) == recipe.clean()
