"""Statistics of the picture: what they see, and how a model is judged and trained by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import MakeBlock, scene_block
from numpy.typing import NDArray
from scipy import ndimage
from test_model import tiny

from grainscan import Scanner
from grainscan.data.cache import ClipCache, DecodedExcerpt
from grainscan.data.dataset import TrainingViews, ValidationViews, read_clips
from grainscan.data.labels import write_labels
from grainscan.model.build import build
from grainscan.model.spec import ONNX_FILE, find_model
from grainscan.model.store import load, save
from grainscan.scan.engine import OnnxEngine
from grainscan.video import Block, write_clip
from grainscan.views.crops import ViewSpec, active_area
from grainscan.views.statistics import COUNT, describe, names


@pytest.fixture(scope="module")
def scene() -> Block:
    return scene_block(frames=8, width=320, height=256, grain=1, seed=5)


def numbers(block: Block) -> dict[str, float]:
    return dict(zip(names(), describe(block.window()).tolist(), strict=True))


def with_luma(block: Block, luma: NDArray[np.floating]) -> Block:
    return Block((np.clip(np.rint(luma), 16, 235).astype(np.uint8), *block.planes[1:]), block.format)


def test_there_are_as_many_as_a_model_is_made_for_each_with_a_name() -> None:
    assert len(names()) == len(set(names())) == COUNT


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p10le", "gbrp", "gray"])
@pytest.mark.parametrize(("width", "height"), [(16, 18), (96, 40), (322, 182)])
def test_they_are_finite_for_every_picture_and_the_same_each_time(
    make_block: MakeBlock, pixels: str, width: int, height: int
) -> None:
    window = make_block(frames=3, width=width, height=height, pix_fmt=pixels).window()
    row = describe(window)
    assert row.shape == (COUNT,) and row.dtype == np.float32 and np.isfinite(row).all()
    np.testing.assert_array_equal(row, describe(window, active_area(window)))


def test_flat_and_single_pictures_have_some_too() -> None:
    flat = Block(tuple(np.full((1, 64 >> s, 64 >> s), 128, np.uint8) for s in (0, 1, 1)), scene_block(1, 64, 64).format)
    assert np.isfinite(describe(flat.window())).all()


def test_blur_makes_edges_wider(scene: Block) -> None:
    blurred = with_luma(scene, ndimage.gaussian_filter(scene.planes[0].astype(np.float32), (0, 2, 2)))
    before, after = numbers(scene), numbers(blurred)
    for axis in "xy":
        assert after[f"slope_{axis}1_peak_weighted"] < before[f"slope_{axis}1_peak_weighted"] - 0.3
    assert after["fall_4_mean"] < before["fall_4_mean"] or after["power_24_mean"] < before["power_24_mean"]


def test_blocks_stand_out_on_the_grid_only(scene: Block) -> None:
    luma = scene.planes[0].astype(np.float32)
    means = luma.reshape(8, 32, 8, 40, 8).mean(axis=(2, 4))
    blocks = with_luma(scene, 0.5 * luma + 0.5 * np.kron(means, np.ones((1, 8, 8))))
    before, after = numbers(scene), numbers(blocks)
    for axis in "xy":
        assert after[f"grid_{axis}_over_others_mean"] > before[f"grid_{axis}_over_others_mean"] + 0.5
        assert after[f"grid_{axis}_half_mean"] < before[f"grid_{axis}_half_mean"] + 0.3


def test_repeated_pixels_and_doubled_lines_show(scene: Block) -> None:
    twice = with_luma(scene, np.repeat(np.repeat(scene.planes[0][:, ::2, ::2], 2, axis=1), 2, axis=2))
    assert numbers(twice)["flat_x_mean"] > 0.45 + numbers(scene)["flat_x_mean"] / 2
    lines = with_luma(scene, np.repeat(scene.planes[0][:, ::2], 2, axis=1))
    assert numbers(lines)["doubled"] > numbers(scene)["doubled"] + 1


def test_few_levels_leave_contours() -> None:
    y, x = np.mgrid[:256, :320]
    ramp = np.broadcast_to(60 + 0.25 * x + 0.1 * y, (8, 256, 320))
    smooth = with_luma(scene_block(8, 320, 256), ramp)
    banded = with_luma(smooth, np.round(ramp / 8) * 8)
    for name in ("contours_x1_mean", "contours_y2_mean"):
        assert numbers(banded)[name] > numbers(smooth)[name] + 1
    assert numbers(banded)["histogram_5"] > numbers(smooth)["histogram_5"]


def test_damage_in_one_frame_shows_in_time(scene: Block) -> None:
    luma = scene.planes[0].copy()
    luma[4, 96:160] = np.roll(luma[4], 90, axis=1)[0:64]
    before, after = numbers(scene), numbers(with_luma(scene, luma))
    for name in ("sudden_99%", "returning_99%", "edges_sudden_99%", "odd_frame"):
        assert after[name] > before[name] + 0.5, name


def test_dark_corners_show(scene: Block) -> None:
    y, x = np.mgrid[-1:1:256j, -1:1:320j]
    dark = with_luma(scene, 16 + (scene.planes[0] - 16.0) * (1 - 0.4 * (x**2 + y**2)))
    assert numbers(dark)["light_corners"] < numbers(scene)["light_corners"] - 0.3


# ----------------------------------------------------------------------------------------------------------- the model


def test_tasks_of_the_picture_are_judged_without_views() -> None:
    model = load(find_model("small"))
    views = torch.rand(3, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = torch.randn(3, COUNT, generator=torch.Generator().manual_seed(1))
    grain = model.spec.tasks.index("graininess")
    others = [i for i, task in enumerate(model.spec.tasks) if not model.spec.by_views(task)]
    assert others and grain not in others
    with torch.no_grad():
        both, alone, dark = model(views, rows), model(None, rows), model(0 * views, -rows)
    assert torch.equal(both.logits[:, others], alone.logits[:, others])
    assert torch.equal(dark.logits[:, grain], model(0 * views, rows).logits[:, grain])
    assert (dark.logits[:, others] != both.logits[:, others]).all()


@pytest.mark.slow
def test_sixteen_bits_in_the_graph_are_the_values_of_the_weights(tmp_path: Path) -> None:
    model = load(find_model("small"))
    save(model, tmp_path / "m", half=True)
    graph = onnx.load(tmp_path / "m" / ONNX_FILE).graph
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 10_000]
    exact = {tensor.name for tensor in large if tensor.data_type != onnx.TensorProto.FLOAT16}
    assert len(large) > 20 and all(name.startswith("picture.scale.") for name in exact)
    assert not any(node.metadata_props for node in graph.node)  # which hold paths
    random = np.random.default_rng(0)
    views, rows = random.random((3, 8, 3, 32, 32), np.float32), random.standard_normal((3, COUNT), np.float32)
    found = OnnxEngine(tmp_path / "m")(views, rows)
    with torch.no_grad():
        expected = model(torch.from_numpy(views), torch.from_numpy(rows))
    np.testing.assert_allclose(found.logits, expected.logits.numpy(), atol=1e-4)


def test_a_model_for_grain_alone_reads_no_statistics() -> None:
    model = build("small", tasks=("graininess",))
    assert model.picture is None and model.spec.statistics == 0
    taught = build("small", tasks=("banding", "vignette"))
    old = load(find_model("small"))
    assert taught.picture is not None and old.picture is not None
    assert torch.equal(taught.picture.scale.knots, old.picture.scale.knots)
    before = old.picture.adapters[str(old.spec.tasks.index("banding"))].down.weight
    assert torch.equal(taught.picture.adapters["0"].down.weight, before)  # type: ignore[union-attr]
    assert set(taught.adapters) == {"1"} and set(taught.picture.adapters) == {"0", "1"}


def test_the_scale_of_the_statistics_comes_from_the_material() -> None:
    model = tiny("graininess", "banding", statistics=COUNT)
    assert model.picture is not None and set(model.picture.adapters) == {"1"}
    rows = 3 + 5 * torch.randn(500, COUNT, generator=torch.Generator().manual_seed(0))
    rows[:, 0] = 7.0
    model.picture.scale.fit(rows)
    torch.testing.assert_close(model.picture.scale.mean, rows.mean(dim=0))
    size, rank = model.picture.scale(rows).split(COUNT, dim=1)
    assert not size[:, 0].any() and (rank[:, 0] == -2).all()  # it never varies, and so says nothing
    deviations = size[:, 1:].std(dim=0)  # 1, but for those beyond 4
    torch.testing.assert_close(deviations, torch.ones(COUNT - 1), atol=0.02, rtol=0)
    order = rows[:, 1:].argsort(dim=0).argsort(dim=0) / 499  # share of the others that have less
    torch.testing.assert_close(rank[:, 1:], 4 * order - 2, atol=0.2, rtol=0)
    far = model(None, rows[:1] + 1e6).logits
    assert torch.equal(far, model(None, rows[:1] + 1e9).logits)  # a stranger picture does not count more


@pytest.mark.slow
def test_every_window_of_a_scan_has_its_own(tmp_path: Path) -> None:
    model = tiny("graininess", "banding", statistics=COUNT)
    model.spec = model.spec.with_(view=ViewSpec(frames=4, size=32, windows=2, crops=2))
    save(model, tmp_path / "m")
    write_clip(tmp_path / "c.avi", scene_block(frames=40, width=160, height=96, grain=2))
    by_worker, here = [], []
    for workers, results in ((1, by_worker), (0, here)):
        with Scanner(tmp_path / "m", workers=workers, maps=True) as scanner:
            results.append(scanner.predict(str(tmp_path / "c.avi")))
    assert by_worker[0]["tasks"] == here[0]["tasks"]
    first, second = (window["banding"] for window in here[0]["windows"])
    assert first != second
    assert all("banding" not in view and "graininess" in view for view in here[0]["map"])
    with Scanner(tmp_path / "m", workers=0, tasks=["banding"], maps=True) as scanner:
        alone = scanner.predict(str(tmp_path / "c.avi"))
    assert alone["tasks"] == {"banding": here[0]["tasks"]["banding"]} and alone["map"] == []
    with Scanner(tmp_path / "m", workers=0, tasks=["graininess"]) as scanner:
        assert not scanner.job.statistics
        assert scanner.predict(str(tmp_path / "c.avi"))["tasks"] == {"graininess": here[0]["tasks"]["graininess"]}


# ------------------------------------------------------------------------------------------------------------ training


def test_clips_in_the_cache_have_those_that_a_scan_would_see(tmp_path: Path) -> None:
    write_clip(tmp_path / "c.avi", scene_block(frames=20, width=96, height=80))
    view = ViewSpec(frames=4, size=32, windows=3, crops=2)
    cache = ClipCache(tmp_path / "cache", view, statistics=True)
    decoded = cache.read(tmp_path / "c.avi")
    assert isinstance(decoded, DecodedExcerpt) and decoded.statistics.shape == (3, COUNT)
    np.testing.assert_array_equal(cache.read(tmp_path / "c.avi").statistics, decoded.statistics)
    starts = (decoded.blocks[0].crop(0, 0, 96, 80, start, 4) for start in (0, 8, 16))
    for row, block in zip(decoded.statistics, starts, strict=True):
        np.testing.assert_array_equal(row, describe(block.window()))
    assert ClipCache(tmp_path / "cache", view).read(tmp_path / "c.avi").statistics.shape == (0, COUNT)


def test_batches_have_views_only_where_they_are_wanted(tmp_path: Path) -> None:
    for number in range(2):
        write_clip(tmp_path / f"{number}.avi", scene_block(12, 96, 80, seed=number))
    write_labels(tmp_path, {"0.avi": {"banding": 1}, "1.avi": {"banding": 0}})
    clips, view = read_clips(tmp_path), ViewSpec(frames=4, size=32)
    caches = [ClipCache(tmp_path / "cache", view, views=on, statistics=True) for on in (True, False)]
    for _ in range(2):  # the second time from the cache
        seen, unseen = (TrainingViews(clips, cache, draws=4).__getitems__([0, 1, 2]) for cache in caches)
        assert seen["views"].shape == (3, 4, 3, 32, 32) and unseen["views"] is None
        assert seen["statistics"].shape == unseen["statistics"].shape == (3, COUNT)
        assert torch.equal(seen["clip"], unseen["clip"])
    judged = ValidationViews(clips, caches[1])
    batch = judged.__getitems__([1])
    assert batch["clip"].tolist() == [1] * judged.count and len(torch.unique(batch["statistics"], dim=0)) > 1


def test_the_specification_names_the_count(tmp_path: Path) -> None:
    save(tiny("graininess", "banding", statistics=COUNT), tmp_path / "m", onnx=False)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["grainscan"]["statistics"] == COUNT
