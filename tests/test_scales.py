"""Views of other scales: where they lie, what they show, and that native views know nothing of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import MakeBlock, scene_block

from grainscan.data.cache import ClipCache
from grainscan.data.dataset import TrainingViews, ValidationViews, read_clips
from grainscan.data.labels import write_labels
from grainscan.model.spec import ONNX_FILE, find_model
from grainscan.model.store import load, save
from grainscan.scan.engine import OnnxEngine
from grainscan.tasks import SCALES
from grainscan.video import write_clip
from grainscan.views.crops import ViewSpec, view_boxes
from grainscan.views.scales import averaged, scales_of, shrunk, views_of

SPEC = ViewSpec(frames=4, size=32, windows=1, crops=6, detail=4, quarter=3, whole=1)


def test_a_window_has_the_views_of_each_scale_and_native_ones_are_as_ever(make_block: MakeBlock) -> None:
    window = make_block(frames=4, width=400, height=300, grain=4).window()
    views = views_of(window, SPEC)
    assert views.rgb.shape == (14, 4, 3, 32, 32) and views.rgb.dtype == np.float32
    assert [int((views.scales == number).sum()) for number in range(len(SCALES))] == [6, 4, 3, 1]
    alone = views_of(window, replace(SPEC, detail=0, quarter=0, whole=0))
    assert views.corners[:6] == alone.corners == view_boxes(window, SPEC)
    np.testing.assert_array_equal(views.rgb[:6], alone.rgb)
    assert len(views_of(window, SPEC, ("quarter",)).rgb) == 3


def test_views_of_structure_lie_on_the_grid_of_the_codecs_and_do_not_overlap() -> None:
    window = scene_block(4, 640, 360).window()
    views = views_of(window, SPEC, ("detail", "quarter"))
    assert all(x % 8 == 0 and y % 8 == 0 for x, y in views.corners)
    detail, quarter = views.corners[:4], views.corners[4:]
    for corners, side in ((detail, 32), (quarter, 128)):
        for i, (x, y) in enumerate(corners):
            assert 0 <= x <= 640 - side and 0 <= y <= 360 - side
            assert all(abs(x - u) >= side or abs(y - v) >= side for u, v in corners[:i])


def test_a_sudden_change_is_looked_at(make_block: MakeBlock) -> None:
    block = make_block(frames=4, width=640, height=512)
    block.planes[0][2, 256:384, 384:512] ^= 0x55  # damage in a quarter of a megapixel of calm
    corners = views_of(block.window(), SPEC, ("quarter",)).corners
    assert any(abs(x - 384) < 64 and abs(y - 256) < 64 for x, y in corners)


def test_averages_are_those_of_the_pixels(make_block: MakeBlock) -> None:
    block = make_block(frames=2, width=128, height=64)
    luma = block.planes[0].astype(np.float64)
    np.testing.assert_allclose(shrunk(block, 4).planes[0], luma.reshape(2, 16, 4, 32, 4).mean((2, 4)), atol=1e-3)
    whole = averaged(block.window(), (0, 0, 128, 64), 8)  # cells of 16 x 8 pixels, of which every sample is read once
    np.testing.assert_allclose(whole.planes[0], luma[:, :, ::2].reshape(2, 8, 8, 8, 8).mean((2, 4)), atol=6)
    assert [plane.shape for plane in whole.planes] == [(2, 8, 8)] * 3


@pytest.mark.parametrize(("width", "height"), [(16, 18), (96, 40), (130, 126)])
def test_pictures_smaller_than_a_view_have_views_of_every_scale(make_block: MakeBlock, width: int, height: int) -> None:
    views = views_of(make_block(frames=4, width=width, height=height).window(), SPEC)
    assert set(views.scales.tolist()) == {0, 1, 2, 3}
    assert np.isfinite(views.rgb).all()


def test_a_task_is_judged_by_the_scales_of_its_record_that_the_model_has() -> None:
    assert scales_of("graininess", SPEC) == ("native",)
    assert scales_of("banding", SPEC) == ("detail", "quarter")
    assert scales_of("vignette", SPEC) == SCALES
    assert scales_of("banding", ViewSpec()) == ("native",)


def test_native_views_give_the_same_with_and_without_the_rest_of_the_network() -> None:
    model = load(find_model("small"))
    views = torch.rand(5, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    scales = torch.tensor([0, 1, 0, 3, 0])
    with torch.no_grad():
        mixed, native = model(views, scales), model(views)
    rows = scales == 0
    torch.testing.assert_close(mixed.logits[rows], native.logits[rows], rtol=0, atol=1e-6)
    assert (mixed.logits[~rows] - native.logits[~rows]).abs().min() > 0


def test_sixteen_bits_in_the_graph_are_the_values_of_the_weights(tmp_path: Path) -> None:
    model = load(find_model("small"))
    save(model, tmp_path / "m", half=True)
    graph = onnx.load(tmp_path / "m" / ONNX_FILE).graph
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 10_000]
    assert large and all(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in large)
    views = np.random.default_rng(0).random((3, 8, 3, 32, 32), np.float32)
    scales = np.array([0, 1, 2])
    found = OnnxEngine(tmp_path / "m")(views, scales)
    with torch.no_grad():
        expected = model(torch.from_numpy(views), torch.from_numpy(scales))
    np.testing.assert_allclose(found.logits, expected.logits.numpy(), atol=1e-4)


def test_bags_hold_the_views_that_judge_a_clip_and_labels_only_where_they_show(tmp_path: Path) -> None:
    for number in range(2):
        write_clip(tmp_path / f"{number}.avi", scene_block(12, 192, 160))
    write_labels(tmp_path, {"0.avi": {"graininess": 0, "banding": 1}, "1.avi": {"graininess": 1, "banding": 0}})
    clips, cache = read_clips(tmp_path), ClipCache(None, SPEC)
    bags = TrainingViews(clips, cache, draws=4, by_clip=True)
    batch = bags.__getitems__([0, 1])
    each = sum(bags.bag.values())
    assert bags.bag == {"native": 4, "detail": 4, "quarter": 4} and len(batch["views"]) == 2 * each
    grain, banding = (clips.tasks.index(task) for task in ("graininess", "banding"))
    seen = torch.isfinite(batch["labels"])
    assert torch.equal(seen[:, grain], batch["scales"] == 0)
    assert torch.equal(seen[:, banding], (batch["scales"] == 1) | (batch["scales"] == 2))
    again = bags.__getitems__([0, 1])
    assert torch.equal(batch["views"], again["views"])
    assert ValidationViews(clips, cache).count == each
