"""From labelled clips to batches: what is known of a clip, what is kept of it, and which view a draw shows."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scene_block

from grainscan.data import cache as cache_module
from grainscan.data.cache import ClipCache, DecodedExcerpt, StoredExcerpt, decode, default_directory, frame_bytes
from grainscan.data.dataset import (
    ClipSet,
    Cut,
    TrainingViews,
    ValidationViews,
    class_weights,
    cut_block,
    grid_cuts,
    random_cut,
    read_clips,
    render,
)
from grainscan.data.labels import write_labels
from grainscan.errors import DataError, UsageError, VideoError
from grainscan.tasks import AUGMENTATIONS, Task
from grainscan.video import Block, PixelFormat, write_clip
from grainscan.views.colour import to_rgb
from grainscan.views.crops import ViewSpec

VIEW = ViewSpec(frames=4, size=32, windows=2, crops=3)


def write_clips(
    folder: Path, blocks: dict[str, Block], labels: object, manifest: dict[str, object] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, block in blocks.items():
        write_clip(folder / name, block)
    (folder / "labels.json").write_text(json.dumps(labels))
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps({"schema": 1, "clips": manifest}))
    return folder


def plain_clips(folder: Path, count: int = 4, **scene: object) -> ClipSet:
    """Clips whose names tell their labels: every second one is grainy."""
    options = {"frames": 8, "width": 64, "height": 48, **scene}
    blocks = {f"{i}.avi": scene_block(seed=i, grain=6.0 * (i % 2), **options) for i in range(count)}  # type: ignore[arg-type]
    return read_clips(write_clips(folder, blocks, {f"{i}.avi": i % 2 for i in range(count)}))


# ------------------------------------------------------------------------------------------------ labels


def test_labels_strengths_and_sources_stand_side_by_side(tmp_path: Path) -> None:
    block = scene_block(frames=2, width=32, height=32)
    names = ["a.avi", "b.avi", "c.avi", "d.avi", "e.avi"]
    labels = {
        "a.avi": {"graininess": 1, "banding": 0},
        "b.avi": {"graininess": 0, "banding": None},
        "c.avi": {"banding": 1},
        "d.avi": {"motion_blur": 1},
        "e.avi": {"graininess": None},
    }
    manifest = {"a.avi": {"source": "reel", "strength": {"graininess": 3.0}}, "b.avi": {"source": "reel"}}
    manifest["e.avi"] = {"source": "reel", "strength": {"graininess": 1.0}}
    folder = write_clips(tmp_path, dict.fromkeys(names, block), labels, manifest)
    clips = read_clips(folder, ["graininess", "banding"])
    assert clips.names == ("a.avi", "b.avi", "c.avi", "e.avi")  # d.avi says nothing of these tasks
    nan = np.nan
    np.testing.assert_array_equal(clips.labels, np.array([[1, 0], [0, nan], [nan, 1], [nan, nan]], np.float32))
    # log2(1 + 3); pristine clips are 0 where the task has strengths; banding has none.
    np.testing.assert_array_equal(clips.strength, np.array([[2, nan], [0, nan], [nan, nan], [1, nan]], np.float32))
    assert clips.sources == ("reel", "reel", "c.avi", "reel")
    assert clips.counts().tolist() == [[1, 1], [1, 1]]
    assert read_clips(folder).tasks == ("graininess", "banding", "motion_blur")
    with pytest.raises(UsageError, match="aliasing"):
        read_clips(folder, ["aliasing"])
    assert np.isnan(read_clips(folder, ["graininess", "aliasing"], partly=True).labels[:, 1]).all()


def test_a_folder_without_known_labels_is_an_error(tmp_path: Path) -> None:
    folder = write_clips(tmp_path, {"a.avi": scene_block(frames=2)}, {"a.avi": None})
    with pytest.raises((DataError, UsageError)):
        read_clips(folder, ["graininess"])


def test_class_weights_by_hand() -> None:
    nan = np.nan
    labels = np.array([[1, 0], [0, 0], [0, nan], [0, 1]], dtype=np.float32)
    # First task: 1 of label 1, 3 of label 0; second: 1 of label 1, 2 of label 0.
    raw = np.array([(1 + 1 / 2) / 2, (1 / 3 + 1 / 2) / 2, 1 / 3, (1 / 3 + 1) / 2])
    np.testing.assert_allclose(class_weights(labels), raw / raw.sum())
    # A clip of unknown label counts as the mean of the others.
    unknown = class_weights(np.array([[1], [0], [0], [nan]], dtype=np.float32))
    np.testing.assert_allclose(unknown, np.array([1, 1 / 2, 1 / 2, 2 / 3]) / (8 / 3))
    alone = class_weights(np.array([[1], [0], [0], [0]], dtype=np.float32))
    np.testing.assert_allclose(alone, [1 / 2, 1 / 6, 1 / 6, 1 / 6])


# ------------------------------------------------------------------------------------------------ the cache


def fill(cache: ClipCache, *paths: Path, workers: int = 0) -> dict[str, str]:
    """The faults by name."""
    done = dict(cache.fill(paths, workers=workers))
    assert set(done) == set(paths)
    return {path.name: error.message for path, error in done.items() if error is not None}


def test_a_short_clip_is_kept_whole_and_bit_exact(tmp_path: Path) -> None:
    block = scene_block(frames=5, width=50, height=34, pix_fmt="yuv420p10le", grain=3)
    write_clip(tmp_path / "a.mkv", block)
    cache = ClipCache(tmp_path / "cache", VIEW)
    fresh = cache.read(tmp_path / "a.mkv")
    stored = cache.read(tmp_path / "a.mkv")
    assert isinstance(stored, StoredExcerpt) and not isinstance(fresh, StoredExcerpt)
    assert stored.shapes == fresh.shapes == ((5, 34, 50),) and stored.format == block.format
    for excerpt in (fresh, stored):
        part = excerpt.block(0, 1, 3)
        for plane, original in zip(part.planes, block.planes, strict=True):
            np.testing.assert_array_equal(plane, original[1:4])
    assert stored.block(0, 3, 9).frames == 2


def test_a_long_clip_is_sampled_within_the_budget(tmp_path: Path) -> None:
    block = scene_block(frames=40, width=256, height=192, grain=2)
    write_clip(tmp_path / "a.avi", block)
    budget = 500_000  # the clip has 2.9 million bytes
    blocks = decode(tmp_path / "a.avi", VIEW, budget=budget).blocks
    assert len(blocks) > 1
    assert sum(b.frames * frame_bytes(b.format, b.height, b.width) for b in blocks) <= budget
    for part in blocks:  # longer and larger than a view, and found in the clip pixel for pixel
        assert part.frames == VIEW.frames + 8 and part.width == part.height == 2 * VIEW.size
        row = part.planes[0][0, 0].tobytes()
        assert any(row in picture.tobytes() for picture in block.planes[0])


def test_black_bars_are_left_out(tmp_path: Path) -> None:
    block = scene_block(frames=4, width=64, height=64, level=(80, 160))
    for plane, black, rows in zip(block.planes, (16, 128, 128), (12, 6, 6), strict=True):
        plane[:, :rows] = black
    write_clip(tmp_path / "a.avi", block)
    assert ClipCache(None, VIEW).read(tmp_path / "a.avi").shapes == ((4, 52, 64),)


def test_an_edited_clip_is_another_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_clip(path, scene_block(seed=1))
    first = ClipCache(tmp_path / "cache", VIEW).read(path).block(0, 0, 1).planes[0]
    write_clip(path, scene_block(seed=2))
    os.utime(path, (1, 1))
    cache = ClipCache(tmp_path / "cache", VIEW)
    assert not np.array_equal(first, cache.read(path).block(0, 0, 1).planes[0])
    other = ClipCache(tmp_path / "cache", ViewSpec(frames=2, size=16))
    assert other._file(path) != cache._file(path)


def test_a_damaged_excerpt_is_decoded_again(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.avi", scene_block())
    cache = ClipCache(tmp_path / "cache", VIEW)
    fill(cache, tmp_path / "a.avi")
    file = Path(cache._file(tmp_path / "a.avi"))
    whole = file.read_bytes()
    cache.read(tmp_path / "a.avi")
    file.unlink()  # by another training, while this one knows where its planes were
    write_labels(tmp_path, {"a.avi": {"graininess": 0}})
    batch = TrainingViews(read_clips(tmp_path), cache, draws=1)[0]
    assert batch["views"].shape[:2] == (1, 4) and file.read_bytes() == whole
    cache.forget(tmp_path / "a.avi")
    for damaged in (b"", whole[:-1], b"not json\n", b'{"format": {}, "shapes": []}\n'):
        file.write_bytes(damaged)
        assert cache.read(tmp_path / "a.avi").block(0, 0, 8).frames == 8
        cache.forget(tmp_path / "a.avi")
        assert file.read_bytes() == whole


def test_the_limit_makes_room_by_age_and_holds(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.avi" for i in range(4)]
    for i, path in enumerate(paths):
        write_clip(path, scene_block(seed=i))
    unlimited, now = ClipCache(tmp_path / "cache", VIEW), time.time() - 100
    for i, path in enumerate(paths[:3]):
        fill(unlimited, path)
        os.utime(unlimited._file(path), (now + i, now + i))
    size = Path(unlimited._file(paths[0])).stat().st_size
    limited = ClipCache(tmp_path / "cache", VIEW, limit=2 * size + 1)
    limited.read(paths[3])  # the oldest makes room; one more fits
    there = [Path(limited._file(path)).is_file() for path in paths]
    assert there == [False, True, True, True]
    limited.read(paths[0])  # beyond the limit: decoded, not kept
    assert not Path(limited._file(paths[0])).is_file()


def test_the_disk_keeps_its_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{i}.avi" for i in range(2)]
    for i, path in enumerate(paths):
        write_clip(path, scene_block(seed=i))
    cache = ClipCache(tmp_path / "cache", VIEW)
    fill(cache, paths[0])
    assert Path(cache._file(paths[0])).is_file() and not cache.full
    monkeypatch.setattr(cache_module, "RESERVE", 1 << 62)
    cache = ClipCache(tmp_path / "cache", VIEW)
    fill(cache, paths[1])
    assert cache.full
    assert not list((tmp_path / "cache").rglob("*.planes"))  # the disk is wanted back, and nothing is added
    assert cache.read(paths[1]).shapes == decode(paths[1], VIEW).shapes


def test_a_disk_that_fills_up_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, blocks: list[Block]) -> None:
        path.write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    write_clip(tmp_path / "a.avi", scene_block())
    monkeypatch.setattr(StoredExcerpt, "write", full)
    cache = ClipCache(tmp_path / "cache", VIEW)
    fill(cache, tmp_path / "a.avi")
    assert cache.full
    assert cache.read(tmp_path / "a.avi").shapes == ((8, 96, 128),)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_processes_that_fill_the_cache_together_keep_its_limit(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.avi" for i in range(8)]
    for i, path in enumerate(paths):
        write_clip(path, scene_block(seed=i))
    whole = ClipCache(tmp_path / "whole", VIEW)
    assert fill(whole, *paths, workers=2) == {}
    size = Path(whole._file(paths[0])).stat().st_size
    for path in paths:  # the same as decoded here
        stored, here = whole.read(path), decode(path, VIEW)
        assert isinstance(stored, StoredExcerpt)
        for plane, same in zip(stored.block(0, 0, 8).planes, here.block(0, 0, 8).planes, strict=True):
            np.testing.assert_array_equal(plane, same)
    limited = ClipCache(tmp_path / "limited", VIEW, limit=3 * size - 1)
    assert fill(limited, *paths, workers=2) == {} and limited.full
    assert 3 <= len(list((tmp_path / "limited").rglob("*.planes"))) <= 3 + 1  # each worker may add a last one
    assert fill(whole, *paths, workers=2) == {}  # and now nothing is left to do


@pytest.mark.parametrize("cached", [True, False])
def test_a_clip_that_ends_its_decoder_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setattr(cache_module, "_STORE", "worker_kit:crashing_store")
    names = ("a.avi", "crash.avi", "hungry.avi", "b.avi", "broken.avi")
    for name in names:
        write_clip(tmp_path / name, scene_block())
    (tmp_path / "broken.avi").write_bytes(b"no video")
    cache = ClipCache(tmp_path / "cache" if cached else None, VIEW)
    faults = fill(cache, *(tmp_path / name for name in names), workers=2)
    assert set(faults) == {"crash.avi", "hungry.avi", "broken.avi"}
    assert "crashed (SIGSEGV)" in faults["crash.avi"] and "more memory" in faults["hungry.avi"]
    assert len(list((tmp_path / "cache").rglob("*.planes"))) == (2 if cached else 0)


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.avi", scene_block())
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cannot be written") as caught:
        fill(ClipCache(tmp_path / "cache", VIEW), tmp_path / "a.avi")
    assert "GRAINSCAN_CACHE_DIR" in caught.value.hint and "--no-cache" in caught.value.hint


def test_what_no_training_has_used_for_a_month_goes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.avi" for i in range(3)]
    for i, path in enumerate(paths):
        write_clip(path, scene_block(seed=i))
    cache = ClipCache(tmp_path / "cache", VIEW)
    now = time.time()
    for path, days in zip(paths, (31, 29), strict=False):
        fill(cache, path)
        os.utime(cache._file(path), (now - days * 86_400, now - days * 86_400))
    left = Path(cache._file(paths[0])).with_name(".tmp-of-a-killed-process.planes")
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    fill(ClipCache(tmp_path / "cache", VIEW), paths[2])
    assert not left.exists()
    assert [Path(cache._file(path)).is_file() for path in paths] == [False, True, True]


def test_undecodable_clips_are_video_errors(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_bytes(b"no video")
    for cache in (ClipCache(tmp_path / "cache", VIEW), ClipCache(None, VIEW)):
        with pytest.raises(VideoError):
            cache.read(tmp_path / "a.avi")


def test_the_cache_has_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_directory() == tmp_path / ".xdg" / "cache" / "grainscan" / "clips"
    monkeypatch.setenv("GRAINSCAN_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert default_directory() == tmp_path / "elsewhere"


# ------------------------------------------------------------------------------------------------ cuts


def excerpt_of(tmp_path: Path, block: Block) -> StoredExcerpt:
    StoredExcerpt.write(tmp_path / "x.planes", DecodedExcerpt([block]))
    return StoredExcerpt(str(tmp_path / "x.planes"))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p", "gray", "gbrp"])
def test_a_cut_is_the_clip_s_own_pixels(tmp_path: Path, pix_fmt: str) -> None:
    block = scene_block(frames=7, width=60, height=44, pix_fmt=pix_fmt, grain=5)
    excerpt = excerpt_of(tmp_path, block)
    cut = Cut(patch=0, start=2, x=12, y=8)
    found = render([cut_block(excerpt, cut, VIEW)], [cut], VIEW)[0]
    np.testing.assert_array_equal(found, to_rgb(block)[2:6, :, 8:40, 12:44])
    turned = Cut(patch=0, start=2, x=12, y=8, reverse=True, mirror=True, flip=True)
    np.testing.assert_array_equal(
        render([cut_block(excerpt, turned, VIEW)], [turned], VIEW)[0], found[::-1, :, ::-1, ::-1]
    )


def test_brightness_and_colour_are_linear_and_stay_in_range(tmp_path: Path) -> None:
    excerpt = excerpt_of(tmp_path, scene_block(frames=4, width=32, height=32))
    plain = Cut(0, 0, 0, 0)
    bright = Cut(0, 0, 0, 0, gain=(1.1, 1.0, 0.9), offset=0.02)
    blocks = [cut_block(excerpt, plain, VIEW)] * 2
    before, after = render(blocks, [plain, bright], VIEW)
    expected = np.clip(before * np.array([1.1, 1.0, 0.9], np.float32)[:, None, None] + np.float32(0.02), 0, 1)
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_small_and_short_clips_are_mirrored(tmp_path: Path) -> None:
    block = scene_block(frames=3, width=20, height=18)
    excerpt = excerpt_of(tmp_path, block)
    cut = random_cut(excerpt, VIEW, np.random.default_rng(0))
    view = cut_block(excerpt, cut, VIEW)
    assert (view.frames, view.height, view.width) == (4, 32, 32)
    luma = block.planes[0]
    np.testing.assert_array_equal(view.planes[0][:, :18, :20], luma[[0, 1, 2, 1]])
    np.testing.assert_array_equal(view.planes[0][0, :18, 20:32], luma[0, :, :7:-1])


def test_random_cuts_reach_every_corner_and_stay_inside(tmp_path: Path) -> None:
    excerpt = excerpt_of(tmp_path, scene_block(frames=6, width=36, height=40))
    cuts = [random_cut(excerpt, VIEW, np.random.default_rng(i), augment=AUGMENTATIONS) for i in range(400)]
    assert {cut.start for cut in cuts} == {0, 1, 2}
    assert {cut.x for cut in cuts} == {0, 2, 4} and {cut.y for cut in cuts} == {0, 2, 4, 6, 8}
    for name in ("reverse", "mirror", "flip"):
        assert 0.4 < np.mean([getattr(cut, name) for cut in cuts]) < 0.6
    gains = np.array([cut.gain for cut in cuts])
    assert 0.87 < gains.min() < 0.9 and 1.1 < gains.max() < 1.14  # little: grain is scaled with the picture


def test_validation_cuts_are_spread_and_always_the_same(tmp_path: Path) -> None:
    excerpt = excerpt_of(tmp_path, scene_block(frames=16, width=128, height=96))
    cuts = grid_cuts(excerpt, VIEW, 4)
    assert cuts == grid_cuts(excerpt, VIEW, 4)
    assert len({cut.start for cut in cuts}) == 4 and len({(cut.x, cut.y) for cut in cuts}) == 4
    assert all(cut.x <= 96 and cut.y <= 64 and cut.start <= 12 for cut in cuts)


# ------------------------------------------------------------------------------------------------ draws


def test_every_pass_shows_every_clip_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    data = TrainingViews(plain_clips(tmp_path, 6), ClipCache(None, VIEW), draws=60, seed=3)
    passes = [[data.clip_of(6 * turn + place) for place in range(6)] for turn in range(10)]
    assert all(sorted(turn) == list(range(6)) for turn in passes)
    assert len({tuple(turn) for turn in passes}) > 5
    again = TrainingViews(data.clips, data.cache, draws=60, seed=3)
    assert [again.clip_of(draw) for draw in range(60)] == [clip for turn in passes for clip in turn]
    other = TrainingViews(data.clips, data.cache, draws=60, seed=4)
    assert [other.clip_of(draw) for draw in range(60)] != [clip for turn in passes for clip in turn]


def test_balanced_draws_show_both_classes_equally_often(tmp_path: Path) -> None:
    labels = np.zeros((50, 1), np.float32)
    labels[:5] = 1
    clips = ClipSet(
        tmp_path, ("graininess",), tuple(map(str, range(50))), tmp_path, ("",) * 50, labels, labels * np.nan
    )
    data = TrainingViews(clips, ClipCache(None, VIEW), draws=5000, balanced=True)
    shown = np.array([data.clip_of(draw) for draw in range(5000)])
    assert np.mean(shown < 5) == pytest.approx(0.5, abs=0.03)
    assert len(set(shown)) == 50


def test_a_draw_is_the_same_view_in_every_batch_and_process(tmp_path: Path) -> None:
    clips = plain_clips(tmp_path / "data")
    data = TrainingViews(clips, ClipCache(tmp_path / "cache", VIEW), draws=16)
    whole = data.__getitems__(range(8))
    assert whole["views"].shape == (8, 4, 3, 32, 32) and whole["views"].dtype == torch.float32
    assert whole["views"].min() >= 0 and whole["views"].max() <= 1
    assert whole["labels"][:, 0].tolist() == [clips.labels[i, 0] for i in whole["clip"].tolist()]
    import pickle

    other = pickle.loads(pickle.dumps(data))  # what a loader process gets
    for draw in range(8):
        torch.testing.assert_close(other[draw]["views"][0], whole["views"][draw], rtol=0, atol=0)
    assert not torch.equal(data[0]["views"], data[8]["views"])


def test_views_of_several_formats_share_a_batch(tmp_path: Path) -> None:
    blocks = {
        "a.mkv": scene_block(frames=4, width=32, height=32),
        "b.mkv": scene_block(frames=4, width=32, height=32, pix_fmt="yuv422p10le"),
        "c.mkv": scene_block(frames=4, width=32, height=32, pix_fmt="gray"),
    }
    clips = read_clips(write_clips(tmp_path, blocks, {"a.mkv": 0, "b.mkv": 1, "c.mkv": 0}))
    data = TrainingViews(clips, ClipCache(None, VIEW), draws=6, augment=False)
    batch = data.__getitems__(range(6))
    for draw, clip in enumerate(batch["clip"].tolist()):
        np.testing.assert_array_equal(batch["views"][draw], to_rgb(blocks[clips.names[clip]]))


def test_validation_shows_all_views_of_a_clip_one_after_another(tmp_path: Path) -> None:
    clips = plain_clips(tmp_path / "data")
    data = ValidationViews(clips, ClipCache(tmp_path / "cache", VIEW), count=3)
    assert len(data) == 4
    batch = data.__getitems__([2, 0])
    assert batch["clip"].tolist() == [2, 2, 2, 0, 0, 0]
    torch.testing.assert_close(batch["views"][3:], data[0]["views"], rtol=0, atol=0)
    torch.testing.assert_close(batch["views"], data.__getitems__([2, 0])["views"], rtol=0, atol=0)


def test_large_views_are_fewer(tmp_path: Path) -> None:
    clips = plain_clips(tmp_path / "data", 1)
    counts = [
        ValidationViews(clips, ClipCache(None, ViewSpec(frames=frames, size=size))).count
        for frames, size in ((8, 64), (16, 112), (32, 224))
    ]
    assert counts == [4, 1, 1]


def test_a_large_data_set_is_indexed_in_seconds_and_little_memory(tmp_path: Path) -> None:
    """20,000 clips: the draws need their labels and names, nothing else."""
    import time
    import tracemalloc

    count = 20_000
    names = tuple(f"{i:06d}.avi" for i in range(count))
    labels = (np.arange(count) % 2).astype(np.float32)[:, None]
    tracemalloc.start()
    begun = time.process_time()
    clips = ClipSet(tmp_path, ("graininess",), names, tmp_path, names, labels, labels)
    data = TrainingViews(clips, ClipCache(tmp_path / "cache", VIEW), draws=10 * count)
    assert len({data.clip_of(draw) for draw in range(0, 10 * count, 997)}) > 150
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
    assert time.process_time() - begun < 5


def test_gray_and_rgb_sizes() -> None:
    assert frame_bytes(PixelFormat.of("gray"), 3, 5) == 15
    assert frame_bytes(PixelFormat.of("gbrp10le"), 3, 5) == 90
    assert frame_bytes(PixelFormat.of("yuv420p"), 3, 5) == 15 + 2 * 6


def test_an_augmentation_is_left_out_only_where_it_could_forge_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = {
        "still": Task("still", augmentations=AUGMENTATIONS - {"reverse"}),
        "dim": Task("dim", augmentations=AUGMENTATIONS - {"light"}),
    }
    monkeypatch.setattr("grainscan.tasks._BY_NAME", records)
    labels = np.array([[1, np.nan], [np.nan, 0], [0, 1]], np.float32)
    names = ("a", "b", "c")
    clips = ClipSet(tmp_path, ("still", "dim"), names, tmp_path, names, labels, np.full_like(labels, np.nan))
    data = TrainingViews(clips, ClipCache(None, ViewSpec()), draws=3)
    assert data.augmentations(0) == AUGMENTATIONS - {"reverse"}
    assert data.augmentations(1) == AUGMENTATIONS - {"light"}
    assert data.augmentations(2) == AUGMENTATIONS - {"reverse", "light"}
    plain = TrainingViews(clips, ClipCache(None, ViewSpec()), draws=3, augment=False)
    assert plain.augmentations(2) == frozenset()
