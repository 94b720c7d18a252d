"""What delivery does to a clip: repeatable, stronger where more is damaged, and labelled by what can be seen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import grainscan
from grainscan.data.synth import (
    Generation,
    apply,
    black_screen,
    blockiness,
    encode,
    frame_drop,
    transmission_error,
    twin,
)
from grainscan.data.synth.black_screen import Black, is_black
from grainscan.data.synth.blockiness import Grid, add_grid, coding_loss
from grainscan.data.synth.frame_drop import Drop, missed, timeline
from grainscan.data.synth.stack import from_block, to_block
from grainscan.data.synth.transmission_error import Scar, add_scar, damaged_share
from grainscan.errors import DataError
from grainscan.video import DAMAGEABLE, Block, Damage, PixelFormat, recode

MODULES = (blockiness, transmission_error, frame_drop, black_screen)
FORMATS = ("yuv420p", "yuv422p10le", "yuv444p", "gray", "gbrp")


def scene(frames: int = 12, width: int = 96, height: int = 80, *, speed: int = 3, pix_fmt: str = "yuv420p") -> Block:
    """Texture that moves `speed` pixels a frame, with some colour."""
    form = PixelFormat.of(pix_fmt)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, : width + speed * frames]
    wide = 120 + 30 * np.sin(x / 7) * np.cos(y / 9) + 20 * np.sin((x + y) / 3) + rng.normal(0, 3, x.shape)
    planes = []
    for i in range(form.planes):
        shown = np.stack([wide[:, speed * t : speed * t + width] for t in range(frames)])
        if i and form.layout == "yuv":
            shown = 128 + (shown[:, :: 1 << form.sub_h, :: 1 << form.sub_w] - 120) / 4
        planes.append(np.round(shown * form.unit).astype(form.dtype))
    return Block(tuple(planes), form)


def same(one: Block, other: Block) -> bool:
    return one.format == other.format and all(map(np.array_equal, one.planes, other.planes))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_a_recipe_survives_json_and_yields_the_same_pixels(module: ModuleType) -> None:
    block = scene()
    for seed in range(3):
        recipe = module.Recipe.draw(np.random.default_rng(seed), width=96, height=80)
        again = module.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
        assert again == recipe
        assert again != recipe.clean()
        assert recipe.clean() == recipe.clean().clean()
        one, other = twin(block, recipe), twin(block, again)
        assert same(one.affected, other.affected)
        assert one.strength == other.strength
        assert one.affected.planes[0].shape == block.planes[0].shape


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_a_clean_recipe_changes_nothing(module: ModuleType) -> None:
    block = scene(4)
    recipe = module.Recipe()
    assert same(recipe.deliver(block, np.random.default_rng(0)), block)
    assert same(apply(block, recipe).affected, block)
    assert twin(block, recipe).label == 0


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_draws_can_mostly_be_carried_out(module: ModuleType) -> None:
    block, labels = scene(), []
    for seed in range(100, 108):
        recipe = module.Recipe.draw(np.random.default_rng(seed), width=96, height=80)
        labels.append(twin(block, recipe).label)
    assert labels.count(1) >= 4


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_every_format_keeps_its_shape(pix_fmt: str) -> None:
    block = scene(5, 70, 66, pix_fmt=pix_fmt)
    rng = np.random.default_rng(1)
    made = [
        blockiness.Recipe(grid=Grid("mosaic", 6, 1)).deliver(block, rng),
        blockiness.Recipe(coarse=Generation("h264", 45)).deliver(block, rng),
        black_screen.Recipe(black=Black(0.4, 0.4, fade=0.2, noise=1)).deliver(block, rng),
        frame_drop.Recipe(drop=Drop("freeze", 0.4)).deliver(block, rng),
        transmission_error.Recipe(coder=Generation("h264", 30), damage=Damage("cut", 0.3)).deliver(block, rng),
        *(
            transmission_error.Recipe(scar=Scar("run", filling, 0.3, 1, 2, 0.3)).deliver(block, rng)
            for filling in transmission_error._FILLINGS
        ),
    ]
    for one in made:
        assert one.format == block.format
        assert [plane.shape for plane in one.planes] == [plane.shape for plane in block.planes]
        assert not same(one, block)


# blockiness


def test_coarser_quantisers_lose_more() -> None:
    block = scene(6, 160, 128)
    for codec, qualities in (("hevc", (22, 32, 42, 51)), ("h264", (22, 32, 42, 51)), ("mjpeg", (2, 8, 31))):
        losses = [coding_loss(block, encode(block, (Generation(codec, quality),))) for quality in qualities]
        assert losses == sorted(losses)
        assert blockiness.Recipe.label_of(losses[0]) == 0
        assert blockiness.Recipe.label_of(losses[-1]) == 1


@pytest.mark.parametrize("kind", ["dct", "mosaic"])
def test_grids_lose_more_the_coarser_they_are(kind: Any) -> None:
    stack = from_block(scene(4))
    amounts = (2, 30, 120) if kind == "dct" else (0.05, 0.4, 1)
    losses = [
        coding_loss(to_block(stack), to_block(add_grid(stack, Grid(kind, 8, amount), np.random.default_rng(0))))
        for amount in amounts
    ]
    assert losses == sorted(losses)
    assert [blockiness.Recipe.label_of(loss) for loss in (losses[0], losses[-1])] == [0, 1]


def test_a_mosaic_shows_the_means_of_its_blocks() -> None:
    block = scene(1, 64, 64)
    made = to_block(add_grid(from_block(block), Grid("mosaic", 8, 1.0), np.random.default_rng(0)))
    luma = made.luma8()[0]
    steps = (np.abs(np.diff(luma, axis=1)).sum(axis=0) > 0).nonzero()[0]
    assert len(steps) == 8
    assert set(np.diff(steps)) == {8}


def test_loss_of_flat_repeated_and_black_pictures() -> None:
    flat = Block(tuple(np.full_like(plane, 90) for plane in scene(6).planes), scene(1).format)
    assert coding_loss(flat, flat) == 0
    brighter = Block(tuple(plane + np.uint8(2) for plane in flat.planes), flat.format)
    assert coding_loss(flat, brighter) == 0  # a level is not a block
    block = scene(10)
    coarse = encode(block, (Generation("hevc", 47),))
    shown = [0, 0, 1, 5, 5, 6, 7, 9, 9, 9]
    repeated = Block(tuple(plane[shown] for plane in coarse.planes), block.format)
    assert coding_loss(block, repeated) == pytest.approx(coding_loss(block, coarse), rel=0.25)
    black = black_screen.blacken(from_block(coarse), Black(0.2, 0.6), np.random.default_rng(0))
    assert coding_loss(block, to_block(black)) == pytest.approx(coding_loss(block, coarse), rel=0.25)
    assert (
        coding_loss(block, to_block(black_screen.blacken(from_block(block), Black(0, 1), np.random.default_rng(0))))
        == 0
    )


def test_torn_pictures_are_not_blocky() -> None:
    block = scene(8, 160, 128)
    scar = Scar("run", "coloured", first=0, frames=8, healed=0, area=0.3)
    torn = to_block(add_scar(from_block(block), scar, np.random.default_rng(0)))
    assert blockiness.Recipe.label_of(coding_loss(block, torn)) == 0


def test_a_shared_coarse_encoder_makes_the_clean_branch_blocky() -> None:
    made = twin(scene(6, 160, 128), blockiness.Recipe(encode=(Generation("hevc", 51),)))
    assert made.label == made.clean_label == 1


# transmission errors


@pytest.mark.parametrize("codec", DAMAGEABLE)
@pytest.mark.parametrize("kind", ["frame", "slice", "tail", "cut", "flip"])
def test_damaged_streams_decode_to_as_many_frames_each_time_the_same(codec: str, kind: Any) -> None:
    block = scene(10, 128, 96, speed=6)
    damage = Damage(kind, first=0.3, frames=4, amount=0.8, seed=2)
    one, other = (recode(block, codec, 24 if codec in ("h264", "hevc") else 4, gop=10, damage=damage) for _ in range(2))
    assert one.frames == block.frames
    assert same(one, other)
    intact = recode(block, codec, 24 if codec in ("h264", "hevc") else 4, gop=10)
    assert damaged_share(intact, one) > 1


def test_frames_that_a_decoder_does_not_return_are_repeated() -> None:
    block = scene(8, 128, 96, speed=6)
    lost = recode(block, "mpeg2", 3, gop=1, damage=Damage("frame", first=0.5, frames=2))
    luma, intact = lost.luma8(), recode(block, "mpeg2", 3, gop=1).luma8()
    assert np.array_equal(luma[4], luma[3])
    assert np.array_equal(luma[5], luma[3])
    assert np.array_equal(luma[[0, 1, 2, 3, 6, 7]], intact[[0, 1, 2, 3, 6, 7]])


def test_nothing_left_to_decode_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing can be decoded"):
        recode(scene(4), "h264", 24, damage=Damage("frame", first=0, frames=4))
    with pytest.raises(DataError, match="cannot be damaged"):
        recode(scene(4), "av1", 40, damage=Damage("cut"))


@pytest.mark.parametrize("values", [{"kind": "spill"}, {"kind": "cut", "amount": 0}, {"kind": "cut", "first": 1}])
def test_damage_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        transmission_error.Recipe.from_dict({"task": "transmission_error", "damage": values})


@pytest.mark.parametrize("filling", list(transmission_error._FILLINGS))
@pytest.mark.parametrize("shape", list(transmission_error._SHAPES))
def test_scars_grow_with_their_area_and_heal_at_a_key_frame(filling: Any, shape: Any) -> None:
    block = scene(12, 128, 128, speed=7)
    stack, shares = from_block(block), []
    for area in (0.05, 0.9):
        scar = Scar(shape, filling, first=0.25, frames=2, healed=3, area=area)
        made = to_block(add_scar(stack, scar, np.random.default_rng(3)))
        shares.append(damaged_share(block, made))
        touched = np.abs(made.luma8() - block.luma8()).max(axis=(1, 2)) > 0
        assert not touched[:3].any()
        assert touched[3:8].all()
        assert not touched[8:].any()
    assert shares[0] < shares[1]
    assert shares[1] > transmission_error.Recipe.visible


def test_an_undamaged_generation_is_no_damage() -> None:
    block = scene(6)
    recipe = transmission_error.Recipe(coder=Generation("h264", 36))
    decoded = recipe.deliver(block, np.random.default_rng(0))
    assert recipe.strength(block, decoded, np.zeros(1, np.float32)) == 0


# dropped frames


def test_timelines() -> None:
    def shown(kind: Any, **values: Any) -> list[int]:
        return [int(number) for number in timeline(Drop(kind, **values), 10)]

    assert shown("skip", first=0.3, count=2) == [0, 1, 2, 3, 6, 7, 8, 9, 8, 7]
    assert shown("freeze", first=0.3, count=2) == [0, 1, 2, 3, 3, 3, 6, 7, 8, 9]
    assert shown("stall", first=0.3, count=2) == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7]
    assert shown("periodic", first=0.1, period=4) == [0, 1, 1, 3, 4, 5, 5, 7, 8, 9]
    assert sum(a == b for a, b in zip(shown("scatter", first=0, count=3), range(10), strict=True)) == 7
    assert list(timeline(Drop("freeze", 0.5), 2)) == [0, 1]
    with pytest.raises(DataError, match="unknown"):
        shown("swap", first=0)


@pytest.mark.parametrize("kind", ["skip", "freeze", "stall", "scatter"])
@pytest.mark.parametrize("late", [True, False])
def test_missing_frames_are_counted_where_something_moves(kind: Any, late: bool) -> None:
    moving, still = scene(16, speed=4), scene(16, speed=0)
    encoders = (Generation("h264", 24),)
    strengths = []
    for count in (1, 3, 5):
        recipe = frame_drop.Recipe(drop=Drop(kind, 0.3, count), late=late, encode=encoders)
        made = twin(moving, recipe)
        strengths.append(made.strength)
        assert made.label == 1
        assert made.clean_label == 0
        assert twin(still, recipe).label is None
    assert strengths == sorted(strengths)
    assert strengths[-1] == 5


def test_repeats_in_the_footage_itself_are_left_open() -> None:
    block = scene(12, speed=4)
    doubled = Block(
        tuple(plane[np.arange(12) // 4 * 4 + np.array([0, 1, 2, 2] * 3)] for plane in block.planes), block.format
    )
    assert frame_drop.Recipe.label_of(frame_drop.Recipe.standing(doubled, doubled)) is None
    assert frame_drop.Recipe.standing(block, block) == 0
    black = to_block(black_screen.blacken(from_block(block), Black(0.2, 0.3), np.random.default_rng(0)))
    assert frame_drop.Recipe.standing(block, black) == 0
    assert missed(block, np.arange(12), unseen=0.1) == 0


# black screens


def test_the_share_of_black_pictures() -> None:
    block = scene(20)
    for length, share in ((0.01, 5), (0.25, 25), (1.0, 100)):
        made = twin(block, black_screen.Recipe(black=Black(0.0, length)))
        assert made.strength == pytest.approx(share)
        assert (made.label, made.clean_label) == (1, 0)


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize(
    "black",
    [Black(0.3, 0.3, level=-16), Black(0.3, 0.3, level=4, noise=1.5), Black(0.3, 0.3, level=4, bars=0.3),
     Black(0.3, 0.3, fade=0.3)],
)  # fmt: skip
def test_nearly_black_is_black_and_half_faded_is_not(black: Black, late: bool) -> None:
    block = scene(10)
    made = twin(block, black_screen.Recipe(black=black, late=late, encode=(Generation("h264", 26),)))
    assert list(np.flatnonzero(is_black(made.affected))) == [3, 4, 5]
    if black.fade:
        means = made.affected.luma8().mean(axis=(1, 2))
        assert means[0] > means[1] > means[2] > means[3]


def test_dark_pictures_with_something_in_them_are_not_black() -> None:
    block = scene(3)
    dim = Block((16 + (block.planes[0] - 16) // 8, *block.planes[1:]), block.format)
    assert not is_black(dim).any()
    full = PixelFormat.of("yuv420p", full_range=True)
    planes = tuple(np.full_like(plane, 0 if i == 0 else 128) for i, plane in enumerate(block.planes))
    assert is_black(Block(planes, full)).all()


# the rooms


def test_only_the_package_video_imports_pyav() -> None:
    root = Path(grainscan.__file__).parent
    users = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if re.search(r"^\s*(?:import|from) av\b", path.read_text(), re.M)
    }
    assert users == {"video"}
