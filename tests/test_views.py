"""Colour by hand calculation, crops, bars, padding."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import MakeBlock

from grainscan.video import Block, PixelFormat, Window
from grainscan.video.planes import one_in
from grainscan.views.colour import to_rgb
from grainscan.views.crops import ViewSpec, active_area, crop_views, fit, view_boxes


def window_of(block: Block) -> Window:
    pictures = tuple(tuple(plane[t] for plane in block.planes) for t in range(block.frames))
    return Window(0.0, block.frames / 25, block.format, pictures)


def flat(form: PixelFormat, *codes: int, side: int = 4) -> Block:
    planes = []
    for i, code in enumerate(codes):
        shift = (form.sub_h, form.sub_w) if i and form.layout == "yuv" else (0, 0)
        planes.append(np.full((1, side >> shift[0], side >> shift[1]), code, form.dtype))
    return Block(tuple(planes), form)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p12le"])
def test_colour_agrees_with_the_definition(matrix: str, full_range: bool, pix_fmt: str) -> None:
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[matrix]
    red, green, blue = 0.7, 0.4, 0.2
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    form = PixelFormat.of(pix_fmt, matrix=matrix, full_range=full_range)  # type: ignore[arg-type]
    unit, top = 1 << (form.depth - 8), (1 << form.depth) - 1
    if full_range:
        codes = [luma * top, cb * top + 128 * unit, cr * top + 128 * unit]
    else:
        codes = [(219 * luma + 16) * unit, (224 * cb + 128) * unit, (224 * cr + 128) * unit]
    rgb = to_rgb(flat(form, *(round(code) for code in codes)))
    np.testing.assert_allclose(rgb[0, :, 1, 1], [red, green, blue], atol=1.2 / (255 * unit) * 2)


def test_gray_and_rgb() -> None:
    np.testing.assert_allclose(to_rgb(flat(PixelFormat.of("gray"), 126))[0, :, 0, 0], (126 - 16) / 219, rtol=1e-6)
    rgb = to_rgb(flat(PixelFormat.of("gbrp10le"), 1023, 512, 0))
    np.testing.assert_allclose(rgb[0, :, 0, 0], [1, 512 / 1023, 0], rtol=1e-6)


def test_ten_bits_stay_ten_bits() -> None:
    form = PixelFormat.of("yuv420p10le")
    near = [to_rgb(flat(form, code, 512, 512))[0, 0, 0, 0] for code in (500, 501)]
    assert near[1] - near[0] == pytest.approx(1 / (219 * 4), rel=1e-4)


def test_rgb_stays_between_0_and_1() -> None:
    rgb = to_rgb(flat(PixelFormat.of("yuv420p"), 255, 255, 255))
    assert rgb.max() <= 1
    assert to_rgb(flat(PixelFormat.of("yuv420p"), 0, 0, 0)).min() >= 0


def test_views_are_the_native_pixels_at_their_boxes(make_block: MakeBlock) -> None:
    block = make_block(frames=4, width=256, height=192, grain=5)
    spec = ViewSpec(frames=4, size=64, windows=1, crops=6)
    views, boxes = crop_views(window_of(block), spec)
    assert views.shape == (6, 4, 3, 64, 64)
    assert views.dtype == np.float32
    assert len(set(boxes)) == 6
    whole = to_rgb(block)
    for view, (x, y) in zip(views, boxes, strict=True):
        assert x % 2 == y % 2 == 0
        np.testing.assert_allclose(view, whole[:, :, y : y + 64, x : x + 64], atol=1e-6)


def test_views_are_the_same_each_time(make_block: MakeBlock) -> None:
    block = make_block(frames=8, width=200, height=150, grain=5)
    spec = ViewSpec()
    first, second = crop_views(window_of(block), spec), crop_views(window_of(block), spec)
    assert first[1] == second[1]
    np.testing.assert_array_equal(first[0], second[0])


def test_half_of_the_crops_are_the_flattest_of_each_level_of_brightness(make_block: MakeBlock) -> None:
    block = make_block(frames=2, width=512, height=256)
    luma = block.planes[0]
    luma[:] = np.repeat((60, 100, 140, 180), 64)[:, None]  # the right half is flat, the left half full of structure
    luma[:, :, :256] += np.where(np.indices((256, 256))[1] // 8 % 2, 30, 226).astype(np.uint8)  # 30 up, 30 down
    boxes = view_boxes(window_of(block), ViewSpec(frames=2, size=64, windows=1, crops=8))
    assert sorted(y // 64 for _, y in boxes[:4]) == [0, 1, 2, 3]
    assert all(x >= 256 for x, _ in boxes[:4])
    assert any(x < 256 for x, _ in boxes[4:])


def test_grain_does_not_hide_flatness(make_block: MakeBlock) -> None:
    rng = np.random.default_rng(0)
    luma = np.full((2, 256, 512), 120.0)
    luma[:, :, 256:] += rng.normal(0, 12, (2, 256, 256))  # heavy grain on a flat ground
    luma[:, :, :256] += 30 * np.sin(np.arange(256) / 10)[:, None]  # structure without grain
    block = Block((np.rint(luma).astype(np.uint8),), PixelFormat.of("gray"))
    boxes = view_boxes(window_of(block), ViewSpec(frames=2, size=64, windows=1, crops=8))
    assert all(x >= 192 for x, _ in boxes[:4])


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gbrp"])
def test_black_bars_are_left_out(make_block: MakeBlock, pix_fmt: str) -> None:
    block = make_block(frames=3, width=320, height=240, pix_fmt=pix_fmt)
    unit = 1 << (block.format.depth - 8)
    for plane in block.planes if block.format.layout == "rgb" else block.planes[:1]:
        plane[:, :40] = plane[:, 210:] = (0 if block.format.layout == "rgb" else 16) * unit
    area = dict(zip(("x", "y", "width", "height"), active_area(window_of(block)), strict=True))
    assert area == {"x": 0, "y": 40, "width": 320, "height": 170}
    boxes = view_boxes(window_of(block), ViewSpec(frames=3, size=64, windows=1, crops=12))
    assert all(y >= 40 and y + 64 <= 210 for _, y in boxes)


def test_a_dark_picture_is_not_all_bar() -> None:
    block = Block((np.full((2, 128, 128), 16, np.uint8),), PixelFormat.of("gray"))
    block.planes[0][:, 60:70, 60:70] = 90
    assert active_area(window_of(block)) == (0, 0, 128, 128)
    assert view_boxes(window_of(block), ViewSpec(frames=2, size=64, windows=1, crops=4))


def test_clipped_crops_are_passed_over(make_block: MakeBlock) -> None:
    block = make_block(frames=2, width=256, height=64)
    block.planes[0][:, :, :128] = 235
    boxes = view_boxes(window_of(block), ViewSpec(frames=2, size=64, windows=1, crops=2))
    assert all(x >= 64 for x, _ in boxes)


def test_wholly_clipped_pictures_still_give_views() -> None:
    block = Block((np.full((2, 64, 128), 235, np.uint8),), PixelFormat.of("gray"))
    assert len(view_boxes(window_of(block), ViewSpec(frames=2, size=64, windows=1, crops=2))) == 2


@pytest.mark.parametrize(("width", "height"), [(40, 30), (63, 200), (33, 17), (64, 20)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "gray", "gbrp"])
def test_small_pictures_are_mirrored(make_block: MakeBlock, width: int, height: int, pix_fmt: str) -> None:
    block = make_block(frames=2, width=width, height=height, pix_fmt=pix_fmt)
    views, boxes = crop_views(window_of(block), ViewSpec(frames=2, size=64, windows=1, crops=4))
    assert boxes == [(0, 0)]
    assert views.shape == (1, 2, 3, 64, 64)
    seen = to_rgb(block)
    w, h = min(64, width), min(64, height)
    np.testing.assert_allclose(views[0, :, :, :h, :w], seen[:, :, :h, :w], atol=1e-6)
    if width < 64:
        np.testing.assert_allclose(views[0, :, 0, :h, width], views[0, :, 0, :h, width - 1], atol=0.05)


def test_fit_leaves_large_blocks_alone(make_block: MakeBlock) -> None:
    block = make_block(width=80, height=70)
    assert fit(block, 64) is block


def test_a_picture_with_room_for_few_crops_gives_few(make_block: MakeBlock) -> None:
    boxes = view_boxes(window_of(make_block(width=100, height=70)), ViewSpec(crops=12))
    assert boxes == [(0, 0), (36, 0)]


def test_spec_round_trip() -> None:
    spec = ViewSpec(frames=4, size=32, windows=2, crops=3)
    assert ViewSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("apart", [1, 2, 3, 4, 8])
def test_one_in_so_many_samples(dtype: type[np.unsignedinteger], apart: int) -> None:
    plane = np.random.default_rng(apart).integers(0, 1 << 8 * np.dtype(dtype).itemsize, (6, 60), dtype)
    for rows in (plane[::2, : 7 * apart], plane[:, 1 : 1 + 2 * apart], plane.T[:, : 6 // apart * apart]):
        assert np.array_equal(one_in(apart, rows), rows[:, ::apart])
        assert one_in(apart, rows).dtype == dtype
