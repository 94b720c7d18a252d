"""Which frames and which crops are looked at: what holds for any picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import property_kit  # noqa: F401 (loads the profile)
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from grainscan.video import PixelFormat, Window, fill_indices
from grainscan.views.crops import ViewSpec, active_area, crop_views, fit, view_boxes

FORMATS = ("yuv420p", "yuv422p10le", "yuv444p", "gray", "gray10le", "gbrp")


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Noise on steps of brightness, with or without black bars and clipped parts, of any size and format."""
    form = PixelFormat.of(draw(st.sampled_from(FORMATS)))
    width, height = draw(st.integers(1, 200)), draw(st.integers(1, 160))
    frames = draw(st.integers(1, 3))
    left, right, top, bottom = (draw(st.integers(0, 40)) for _ in range(4))
    noise = draw(st.sampled_from((0, 1, 20)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = rng.integers(0, 256, (-(-height // 16), -(-width // 16)))
    luma = steps.repeat(16, 0).repeat(16, 1)[:height, :width] + rng.normal(0, noise, (frames, height, width))
    black = 0 if form.layout == "rgb" else 16
    luma[:, :top] = luma[:, height - min(bottom, height) :] = black
    luma[:, :, :left] = luma[:, :, width - min(right, width) :] = black
    unit = 1 << (form.depth - 8)
    planes = [np.clip(np.rint(luma * unit), 0, 256 * unit - 1).astype(form.dtype)]
    for _ in range(1, form.planes):
        planes.append(planes[0] if form.layout == "rgb" else planes[0][:, :: 1 << form.sub_h, :: 1 << form.sub_w])
    return Window(0.0, frames / 25, form, tuple(tuple(plane[t] for plane in planes) for t in range(frames)))


specs = st.builds(
    ViewSpec,
    frames=st.integers(1, 3),
    size=st.sampled_from((8, 16, 32, 64)),
    windows=st.just(1),
    crops=st.integers(1, 16),
    flat=st.floats(0, 1),
)


@given(windows(), specs)
def test_crops_lie_on_even_pixels_within_the_picture(window: Window, spec: ViewSpec) -> None:
    boxes = view_boxes(window, spec)
    assert 1 <= len(boxes) <= spec.crops
    assert len(set(boxes)) == len(boxes)
    if window.width < spec.size or window.height < spec.size:
        assert boxes == [(0, 0)]
        return
    for x, y in boxes:
        assert x % 2 == y % 2 == 0
        assert 0 <= x <= window.width - spec.size
        assert 0 <= y <= window.height - spec.size


@given(windows(), specs)
def test_crops_keep_out_of_black_bars(window: Window, spec: ViewSpec) -> None:
    left, top, width, height = active_area(window)
    assert 0 <= left <= left + width <= window.width
    assert 0 <= top <= top + height <= window.height
    assume(width >= spec.size and height >= spec.size)
    for x, y in view_boxes(window, spec):  # even corners may reach one line into a bar
        assert left - 1 <= x <= left + width - spec.size
        assert top - 1 <= y <= top + height - spec.size


@given(windows(), specs)
def test_the_same_picture_gives_the_same_crops_whatever_was_seen_before(window: Window, spec: ViewSpec) -> None:
    boxes = view_boxes(window, spec)
    copy = Window(7.0, 8.0, window.format, tuple(tuple(p.copy() for p in picture) for picture in window.pictures))
    assert view_boxes(copy, spec) == boxes


@given(windows(), specs)
def test_views_are_pictures_between_0_and_1(window: Window, spec: ViewSpec) -> None:
    views, boxes = crop_views(window, spec)
    assert views.shape == (len(boxes), window.frames, 3, spec.size, spec.size)
    assert views.dtype == np.float32
    assert np.isfinite(views).all()
    assert views.min() >= 0
    assert views.max() <= 1


@given(windows(), st.sampled_from((8, 16, 32, 64, 128)))
def test_a_padded_block_holds_the_picture_and_nothing_new(window: Window, size: int) -> None:
    block = window.block()
    fitted = fit(block, size)
    assert fitted.width >= size
    assert fitted.height >= size
    for before, after in zip(block.planes, fitted.planes, strict=True):
        height, width = before.shape[1:]
        np.testing.assert_array_equal(after[:, :height, :width], before)
        assert set(np.unique(after)) <= set(np.unique(before))


counts = st.integers(1, 60)


@given(counts, counts, st.sampled_from(("mirror", "wrap", "repeat", "error")))
def test_enough_frames_are_taken_as_they_are(available: int, wanted: int, policy: str) -> None:
    assume(available >= wanted)
    assert fill_indices(available, wanted, policy) == list(range(wanted))  # type: ignore[arg-type]


@given(counts, counts, st.sampled_from(("mirror", "wrap", "repeat")))
def test_a_window_is_filled_with_all_frames_that_there_are(available: int, wanted: int, policy: str) -> None:
    assume(available < wanted)
    indices = fill_indices(available, wanted, policy)  # type: ignore[arg-type]
    assert len(indices) == wanted
    assert indices[:available] == list(range(available))
    assert set(indices) == set(range(available))
    steps = {after - before for before, after in pairwise(indices)}
    if policy == "mirror" and available > 1:
        assert steps <= {1, -1}  # never a jump, nor a frame twice in a row
    if policy == "wrap" and available > 1:
        assert steps == {1, 1 - available}
    if policy == "repeat":
        assert set(indices[available:]) == {available - 1}


@given(counts, counts)
def test_missing_frames_are_refused_where_that_is_asked_for(available: int, wanted: int) -> None:
    assume(available < wanted)
    with pytest.raises(ValueError, match=str(available)):
        fill_indices(available, wanted, "error")


@given(specs)
def test_a_specification_survives_json(spec: ViewSpec) -> None:
    assert ViewSpec.from_dict(spec.to_dict()) == spec
