"""Banding, blurs, aliasing and dark scenes: what they do to pictures, and how what is left of them is labelled."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from grainscan.data.synth import (
    BaseRecipe,
    Effect,
    Generation,
    aliasing,
    apply,
    banding,
    dark_scenes,
    motion_blur,
    optics,
    spatial_blur,
    synthesiser,
    twin,
)
from grainscan.data.synth.stack import from_block
from grainscan.errors import DataError
from grainscan.video import Block, PixelFormat

TASKS = ("banding", "spatial_blur", "motion_blur", "aliasing", "dark_scenes")
FINE, COARSE = (Generation("h264", 18, speed=2),), (Generation("h264", 45, speed=2),)
STRONG: dict[str, BaseRecipe] = {
    "banding": banding.Recipe(step=12.0, shift=0.3),
    "spatial_blur": spatial_blur.Recipe(sigma=3.0),
    "motion_blur": motion_blur.Recipe(length=12.0),
    "aliasing": aliasing.Recipe(factor=3.0),
    "dark_scenes": dark_scenes.Recipe(gain=0.05),
}


def scene(frames: int = 6, width: int = 96, height: int = 80, *, pix_fmt: str = "yuv420p") -> Block:
    """Fine slanted bars on the left, a smooth slope on the right; the bars drift a pixel a frame."""
    form = PixelFormat.of(pix_fmt)
    y, x = np.mgrid[:height, :width]
    slope = 90 + 0.5 * x + 0.3 * y
    bars = 60 * (np.sin((x + 0.35 * y)[None] * 0.8 + np.arange(frames)[:, None, None] * 0.8) > 0)
    bright = slope + np.where(x < width // 2, bars, 0)
    planes = []
    for i in range(form.planes):
        if i and form.layout == "yuv":
            shape = (frames, -(-height // (1 << form.sub_h)), -(-width // (1 << form.sub_w)))
            planes.append(np.full(shape, 120 * form.unit, form.dtype))
        else:
            planes.append(np.round(bright * form.unit).astype(form.dtype))
    return Block(tuple(planes), form)


def same(one: Block, other: Block) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_recipes_are_read_back_and_give_the_same_pixels_in_any_format(task: str) -> None:
    rng = np.random.default_rng(4)
    kind = synthesiser(task)
    for pix_fmt in ("yuv420p", "yuv422p10le", "gray", "gbrp") * 3:
        block = scene(frames=4, width=49, height=37, pix_fmt=pix_fmt)
        kept = block.copy()
        recipe = replace(kind.draw(rng, width=49, height=37), encode=())
        read = kind.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert read == recipe and recipe.clean() == recipe.clean().clean() != recipe
        one, other = apply(block, recipe), apply(block, read)
        assert same(one.affected, other.affected) and same(one.clean, other.clean) and same(block, kept)
        assert [plane.shape for plane in one.affected.planes] == [plane.shape for plane in block.planes]
        assert same(apply(block, recipe.clean()).clean, one.clean)


@pytest.mark.parametrize("task", TASKS)
def test_draw_covers_every_kind_and_the_whole_range(task: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [synthesiser(task).draw(rng, width=384, height=288) for _ in range(300)]
    for recipe in drawn[:60]:
        apply(scene(frames=3, width=48, height=40), recipe)
    spans = {
        "banding": ("step", 4, 20), "spatial_blur": ("sigma", 1, 5), "motion_blur": ("length", 5, 35),
        "aliasing": ("factor", 1.6, 3.8), "dark_scenes": ("gain", 0.04, 0.35),
    }  # fmt: skip
    name, low, high = spans[task]
    values = [getattr(recipe, name) for recipe in drawn]
    assert min(values) < low and max(values) > high
    tables = {"banding": banding.REGIONS, "spatial_blur": spatial_blur.KINDS, "motion_blur": motion_blur.KINDS,
              "aliasing": aliasing.KINDS}  # fmt: skip
    if task in tables:
        field = "region" if task == "banding" else "kind"
        assert {getattr(recipe, field) for recipe in drawn} == set(tables[task])


@pytest.mark.parametrize("task", TASKS)
def test_what_is_strong_and_survives_is_labelled_1_and_what_is_not_there_0(task: str) -> None:
    recipe = replace(STRONG[task], encode=FINE)
    pair = twin(scene(), recipe)
    assert (pair.label, pair.clean_label) == (1, 0)
    assert pair.strength >= recipe.visible
    assert twin(scene(), recipe.clean()).label == 0


@pytest.mark.parametrize("task", ["banding", "spatial_blur", "motion_blur", "aliasing"])
def test_what_the_encoder_undoes_is_not_labelled_1(task: str) -> None:
    weak: dict[str, BaseRecipe] = {
        "banding": banding.Recipe(step=4.0),
        "spatial_blur": spatial_blur.Recipe(sigma=0.6),
        "motion_blur": motion_blur.Recipe(length=1.6),
        "aliasing": aliasing.Recipe(factor=1.2, taps=4),
    }
    rng = np.random.default_rng(2)
    soft = scene()
    luma = np.clip(110 + 0.2 * np.arange(96) + rng.normal(0, 4, (6, 80, 96)), 0, 255).astype(np.uint8)
    noisy = Block((luma, *soft.planes[1:]), soft.format)
    assert apply(noisy, weak[task]).added.std() > 0.7
    pair = twin(noisy, replace(weak[task], encode=COARSE))
    assert pair.label != 1
    assert pair.label == weak[task].undone


def test_unknown_kinds_are_refused() -> None:
    for recipe in (spatial_blur.Recipe(kind="fog", sigma=1.0), motion_blur.Recipe(kind="warp", length=3.0),
                   aliasing.Recipe(kind="moire", factor=2.0), banding.Recipe(region="left", step=8.0)):  # fmt: skip
        with pytest.raises(DataError, match="unknown"):
            apply(scene(), recipe)


def test_banding_leaves_few_levels_where_it_is_asked_for() -> None:
    block = scene()
    levels = np.unique(apply(block, banding.Recipe(step=16.0)).affected.planes[0])
    assert set(np.diff(levels)) == {16}
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8), (2, 64, 256))
    wide = Block((ramp,), PixelFormat.of("gray"))
    for region, inside in (("highlights", ramp > 142), ("shadows", ramp < 88)):
        added = apply(wide, banding.Recipe(step=16.0, region=region)).added
        outside = ramp < 115 if region == "highlights" else ramp > 115
        assert np.all(added[outside] == 0) and np.abs(added[inside]).max() == 8


@pytest.mark.parametrize("step", [4.0, 8.0, 16.0])
def test_the_strength_of_banding_is_the_height_of_the_steps(step: float) -> None:
    ramp = np.broadcast_to(60 + 0.2 * np.arange(320.0), (3, 240, 320))
    form = PixelFormat.of("gray10le")
    block = Block((np.round(ramp * form.unit).astype(form.dtype),), form)
    pair = twin(block, banding.Recipe(step=step))
    assert pair.strength == pytest.approx(step, rel=0.25)


def test_every_blur_keeps_the_mean_and_has_the_deviation_asked_for() -> None:
    point = np.zeros((2, 65, 65), np.uint8)
    point[:, 32, 32] = 255
    block = Block((point,), PixelFormat.of("gray"))
    y, x = np.mgrid[-32:33, -32:33]
    for kind in ("gaussian", "disc", "box"):
        spread = spatial_blur.Recipe(kind=kind, sigma=3.0).affect(from_block(block), np.random.default_rng(0)).planes[0]
        assert spread.sum() == pytest.approx(2 * 255, rel=0.01)
        assert np.sqrt((spread[0] * x**2).sum() / 255) == pytest.approx(3.0, rel=0.1)
        assert np.sqrt((spread[0] * y**2).sum() / 255) == pytest.approx(3.0, rel=0.1)


def test_a_pulled_focus_changes_along_the_clip() -> None:
    recipe = spatial_blur.Recipe(sigma=4.0, pull=0.1, rising=True)
    added = np.abs(apply(scene(frames=8), recipe).added).mean(axis=(1, 2))
    assert added[-1] > 1.5 * added[0]
    backwards = np.abs(apply(scene(frames=8), replace(recipe, rising=False)).added).mean(axis=(1, 2))
    assert backwards[0] > 1.5 * backwards[-1]


def test_motion_blurs_along_its_direction_alone() -> None:
    point = np.zeros((2, 65, 65), np.uint8)
    point[:, 32, 32] = 255
    stack = from_block(Block((point,), PixelFormat.of("gray")))
    y, x = np.mgrid[-32:33, -32:33]
    for angle, along, across in ((0.0, x, y), (np.pi / 2, y, x)):
        recipe = motion_blur.Recipe(length=12.0, angle=angle)
        spread = recipe.affect(stack, np.random.default_rng(0)).planes[0][0]
        assert spread.sum() == pytest.approx(255, rel=0.01)
        assert np.sqrt((spread * along**2).sum() / 255) == pytest.approx(12 / 12**0.5, rel=0.1)
        assert (spread * across**2).sum() / 255 < 0.1


@pytest.mark.parametrize("kind", ["zoom", "turn"])
def test_a_zoom_or_a_turn_leaves_the_middle_sharp(kind: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(60, 180, (2, 96, 96)).astype(np.uint8)
    added = np.abs(apply(Block((noise,), PixelFormat.of("gray")), motion_blur.Recipe(kind=kind, length=10.0)).added)
    assert added[:, 44:52, 44:52].mean() < 0.7 * added[:, :16, :16].mean()


def test_a_panning_camera_moves_in_both_branches() -> None:
    block = scene(frames=5, width=96)
    moved = Effect("pan", {"speed": 4.0, "angle": 0.0, "bend": 0.0, "zoom": 0.0})
    made = apply(block, motion_blur.Recipe(length=6.0, scene=(moved,)))
    clean, still = made.clean.planes[0], block.planes[0]
    middle = 2
    assert np.array_equal(clean[middle], still[middle])
    assert np.array_equal(clean[3][:, :-8], still[3][:, 4:-4])
    drawn = [motion_blur.Recipe.draw(np.random.default_rng(n), width=384, height=288) for n in range(60)]
    pans = [effect for recipe in drawn for effect in recipe.scene if effect.kind == "pan"]
    assert len(pans) > 15 and all(effect.values["speed"] <= 288 / 12 for effect in pans)


def test_blended_pictures_are_means_of_their_neighbours() -> None:
    numbers = np.arange(6, dtype=np.uint8)[:, None, None] * 10 + np.zeros((1, 40, 40), np.uint8)
    block = Block((numbers,), PixelFormat.of("gray"))
    blended = apply(block, motion_blur.Recipe(kind="blend", length=5.0, frames=3)).affected.planes[0][:, 0, 0]
    assert blended.tolist() == [5, 10, 20, 30, 40, 45]


def test_aliasing_keeps_single_pixels() -> None:
    block = scene()
    points = apply(block, aliasing.Recipe(factor=2.0)).affected.planes[0]
    assert np.array_equal(points, np.repeat(np.repeat(block.planes[0][:, ::2, ::2], 2, axis=1), 2, axis=2))
    fields = apply(block, aliasing.Recipe(kind="fields", factor=2.0)).affected.planes[0]
    for picture in range(6):
        kept = block.planes[0][picture, picture % 2 :: 2]
        assert np.array_equal(fields[picture], np.repeat(kept, 2, axis=0))
    smooth = apply(block, aliasing.Recipe(kind="fields", factor=2.0, taps=2)).affected.planes[0]
    for picture in range(6):
        kept, other = slice(picture % 2, None, 2), slice(1 - picture % 2, None, 2)
        assert np.array_equal(smooth[picture, kept], block.planes[0][picture, kept])
        assert not np.array_equal(smooth[picture, other], block.planes[0][picture, other])


def test_aliasing_is_what_no_filter_makes() -> None:
    rng = np.random.default_rng(5)
    luma = ndimage.gaussian_filter(rng.uniform(0, 255, (6, 96, 128)), (0, 0.6, 0.6))
    block = Block((luma.astype(np.uint8),), PixelFormat.of("gray"))
    picture = block.luma8()

    def share(recipe: BaseRecipe) -> float:
        added = apply(block, recipe).added
        return float(optics.unfiltered(added, picture).var() / added.var())

    for blur in (spatial_blur.Recipe(sigma=1.0), spatial_blur.Recipe(sigma=2.5), motion_blur.Recipe(length=4.0)):
        assert share(blur) < 0.03
    assert share(aliasing.Recipe(factor=3.0)) > 0.3
    assert share(aliasing.Recipe(kind="lines", factor=2.5, taps=2)) > 0.2
    shifted = np.roll(picture, 1, axis=2) - picture
    assert np.square(optics.unfiltered(shifted, picture)).mean() < 0.03 * np.square(shifted).mean()


def test_fields_that_an_encoder_merges_are_blur() -> None:
    """What is left of a doubler of lines when both fields are averaged is a blur: no label."""
    still = ndimage.gaussian_filter(np.random.default_rng(5).uniform(0, 255, (96, 128)), 0.6)
    block = Block((np.repeat(still[None].astype(np.uint8), 8, axis=0),), PixelFormat.of("gray"))
    recipe = aliasing.Recipe(kind="fields", factor=2.0, taps=2)
    affected = apply(block, recipe).affected.luma8()
    picture = block.luma8()
    merged = np.repeat((affected[::2] + affected[1::2]) / 2, 2, axis=0)
    added = recipe.of_itself(affected - picture, picture)
    left, kept = (Block((np.round(luma).astype(np.uint8),), block.format) for luma in (merged, affected))
    assert recipe.strength(block, left, added) < recipe.visible < recipe.strength(block, kept, added)


def test_dark_scenes_are_measured_on_the_clip_itself() -> None:
    night = scene()
    night = Block((np.full_like(night.planes[0], 30), *night.planes[1:]), night.format)
    assert twin(night, dark_scenes.Recipe(gain=0.5)).clean_label == 1
    assert twin(scene(), dark_scenes.Recipe(gain=0.9)).label == 0
    lamp = dark_scenes.Recipe(gain=0.04, lamp=0.2)
    lit = twin(scene(), lamp)
    assert lit.label == 1 and lit.affected.planes[0].max() > 90
    black = Block((np.full_like(night.planes[0], 16), *night.planes[1:]), night.format)
    assert dark_scenes.darkness(black) is None and twin(black, dark_scenes.Recipe(gain=0.5)).clean_label is None
    half = Block((np.concatenate([black.planes[0], scene().planes[0]]), *scene(12).planes[1:]), night.format)
    assert dark_scenes.darkness(half) == pytest.approx(dark_scenes.darkness(scene()), abs=0.01)


def test_what_survives_by_less_than_half_counts_for_less() -> None:
    rng = np.random.default_rng(1)
    clean = Block((np.full((4, 96, 96), 120, np.uint8),), PixelFormat.of("gray"))
    added = rng.normal(0, 10, (4, 96, 96)).astype(np.float32)
    whole = Block((np.round(120 + added).astype(np.uint8),), clean.format)
    weak = Block((np.round(120 + 0.3 * added).astype(np.uint8),), clean.format)
    assert optics.remaining(clean, whole, added) == pytest.approx(10, rel=0.1)
    assert optics.remaining(clean, weak, added) < 1
    assert optics.remaining(clean, clean, np.zeros_like(added)) == 0


def test_a_gradient_has_no_steps() -> None:
    flat = Block((np.full((4, 120, 160), 100, np.uint8),), PixelFormat.of("gray"))
    values = {"opacity": 1.0, "low": 60.0, "high": 120.0, "angle": 0.3, "shape": 0.5}
    recipe = banding.Recipe(step=10.0, scene=(Effect("gradient", values),))
    made = apply(flat, recipe)
    assert np.ptp(made.clean.planes[0]) > 40
    assert twin(flat, recipe).label == 1
    assert twin(flat, recipe.clean()).label == 0


def test_steps_without_a_smooth_surface_have_no_label() -> None:
    rng = np.random.default_rng(0)
    rough = Block((rng.integers(40, 200, (4, 96, 96)).astype(np.uint8),), PixelFormat.of("gray"))
    assert twin(rough, banding.Recipe(step=20.0)).label is None
