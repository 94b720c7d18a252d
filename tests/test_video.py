"""Reading and writing video: formats, windows, policies, hostile files."""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import MakeBlock, MakeClip

from grainscan.errors import DataError, VideoError
from grainscan.video import (
    CODECS,
    Block,
    PixelFormat,
    Reader,
    fill_indices,
    is_video_name,
    probe,
    read_clip,
    read_windows,
    recode,
    write_clip,
)

LOSSLESS = ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p12le", "gray10le", "gbrp", "gbrp10le"]


@pytest.mark.parametrize("pix_fmt", LOSSLESS)
def test_lossless_clip_comes_back_bit_for_bit(tmp_path: Path, make_block: MakeBlock, pix_fmt: str) -> None:
    block = make_block(pix_fmt=pix_fmt, grain=6, frames=5)
    write_clip(tmp_path / "a.avi", block, fps=Fraction(30000, 1001))
    again = read_clip(tmp_path / "a.avi")
    assert again.format.layout == block.format.layout
    assert again.format.depth == block.format.depth
    for before, after in zip(block.planes, again.planes, strict=True):
        np.testing.assert_array_equal(before, after)


def test_read_clip_takes_the_frames_asked_for(make_clip: MakeClip, make_block: MakeBlock) -> None:
    path = make_clip("a.avi", frames=10, grain=3)
    whole = make_block(frames=10, grain=3)
    part = read_clip(path, start=4, frames=3)
    np.testing.assert_array_equal(part.planes[0], whole.planes[0][4:7])


def test_probe_describes_the_file(tmp_path: Path, make_block: MakeBlock) -> None:
    path = tmp_path / "a.mp4"
    block = make_block(frames=12, width=130, height=98, pix_fmt="yuv420p10le")
    write_clip(path, block, codec="hevc", fps=Fraction(24000, 1001))
    info = probe(path)
    assert (info.container, info.codec, info.width, info.height) == ("mov", "hevc", 130, 98)
    assert info.fps == Fraction(24000, 1001)
    assert info.pix_fmt == "yuv420p10le"
    assert info.duration == pytest.approx(12 * 1001 / 24000, rel=0.01)
    assert info.as_dict()["codec"] == "hevc"


def test_windows_start_at_key_frames_and_hold_consecutive_frames(make_clip: MakeClip, make_block: MakeBlock) -> None:
    path = make_clip("a.mkv", frames=60, codec="h264", quality=10, gop=15, speed=2.0)
    windows = list(read_windows(path, windows=4, frames=8))
    assert [round(window.start * 25) for window in windows] == [0, 15, 30, 45]
    whole = read_clip(path)
    for window in windows:
        start = round(window.start * 25)
        np.testing.assert_array_equal(window.block().planes[0], whole.planes[0][start : start + 8])
        assert window.end == pytest.approx(window.start + 8 / 25, abs=0.002)


def test_windows_of_one_long_gop_follow_one_another(make_clip: MakeClip) -> None:
    path = make_clip("a.mkv", frames=70, codec="h264", quality=20, gop=250)
    starts = [round(window.start * 25) for window in read_windows(path, windows=4, frames=8)]
    assert starts == [0, 16, 32, 48]


def test_windows_of_a_short_gop_do_not_overlap(make_clip: MakeClip) -> None:
    path = make_clip("a.avi", frames=20)  # every frame of FFV1 is a key frame
    windows = list(read_windows(path, windows=4, frames=8))
    starts = [round(window.start * 25) for window in windows]
    assert starts
    assert all(later - earlier >= 8 for earlier, later in itertools.pairwise(starts))


def test_the_same_file_gives_the_same_windows(make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", frames=40, codec="h264", quality=25, grain=4)
    first, second = (list(read_windows(path, windows=3, frames=8)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.start == other.start
        for a, b in zip(one.block().planes, other.block().planes, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["raw.h264", "raw.m2v"])
def test_streams_without_an_index_are_read_from_the_start(tmp_path: Path, make_block: MakeBlock, name: str) -> None:
    codec = "h264" if name.endswith("h264") else "mpeg2"
    write_clip(tmp_path / name, make_block(frames=40), codec=codec, quality=20 if codec == "h264" else 4)
    windows = list(read_windows(tmp_path / name, windows=2, frames=8))
    assert len(windows) == 2
    assert windows[0].start < 0.1


def test_transport_stream_yields_windows(tmp_path: Path, make_block: MakeBlock) -> None:
    write_clip(tmp_path / "a.ts", make_block(frames=200), codec="h264", quality=20, gop=25)
    windows = list(read_windows(tmp_path / "a.ts", windows=4, frames=8))
    assert len(windows) >= 3  # without an index a seek may miss the group of pictures that was meant
    assert all(round(window.start * 25) % 25 == 0 for window in windows)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("mirror", [0, 1, 2, 1, 0, 1, 2, 1]), ("wrap", [0, 1, 2, 0, 1, 2, 0, 1]), ("repeat", [0, 1, 2, 2, 2, 2, 2, 2])],
)
def test_short_clip_policies(make_clip: MakeClip, policy: str, expected: list[int]) -> None:
    path = make_clip("a.avi", frames=3, speed=5.0)
    (window,) = read_windows(path, windows=4, frames=8, short=policy)  # type: ignore[arg-type]
    whole = read_clip(path)
    np.testing.assert_array_equal(window.block().planes[0], whole.planes[0][expected])


def test_short_clip_policy_error(make_clip: MakeClip) -> None:
    with pytest.raises(VideoError, match=r"has 3 frames, a window needs 8"):
        list(read_windows(make_clip("a.avi", frames=3), windows=1, frames=8, short="error"))


def test_one_frame_is_enough(make_clip: MakeClip) -> None:
    (window,) = read_windows(make_clip("a.avi", frames=1), windows=4, frames=8)
    assert window.frames == 8
    assert np.ptp(window.block().planes[0], axis=0).max() == 0


def test_fill_indices_of_one_frame() -> None:
    assert fill_indices(1, 4, "mirror") == [0, 0, 0, 0]
    assert fill_indices(5, 4, "error") == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="2 frames where 4"):
        fill_indices(2, 4, "error")


def test_a_window_never_spans_a_change_of_size(tmp_path: Path, make_block: MakeBlock) -> None:
    path = tmp_path / "a.h264"
    small, large = tmp_path / "small.h264", tmp_path / "large.h264"
    write_clip(small, make_block(frames=12, width=96, height=64), codec="h264")
    write_clip(large, make_block(frames=12, width=160, height=96), codec="h264")
    path.write_bytes(small.read_bytes() + large.read_bytes())
    windows = list(read_windows(path, windows=3, frames=8))
    assert [(window.width, window.height) for window in windows] == [(96, 64), (160, 96)]
    for window in windows:
        assert len({picture[0].shape for picture in window.pictures}) == 1


def test_variable_frame_rate(tmp_path: Path, make_block: MakeBlock) -> None:
    path = tmp_path / "vfr.mkv"
    block = make_block(frames=24)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = block.width, block.height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stamp = 0
        for t in range(block.frames):
            frame = av.VideoFrame(block.width, block.height, "yuv420p")
            for plane, source in zip(frame.planes, block.planes, strict=True):
                view = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                view[: source.shape[1], : source.shape[2]] = source[t]
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            stamp += 40 if t % 3 else 120
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    windows = list(read_windows(path, windows=2, frames=8))
    assert windows
    assert all(window.end > window.start for window in windows)


@pytest.mark.parametrize(("width", "height"), [(131, 97), (33, 17), (66, 50)])
def test_odd_sizes(tmp_path: Path, make_block: MakeBlock, width: int, height: int) -> None:
    write_clip(tmp_path / "a.avi", make_block(frames=8, width=width, height=height))
    (window,) = read_windows(tmp_path / "a.avi", windows=1, frames=8)
    assert (window.width, window.height) == (width, height)
    assert window.block().planes[1].shape[1:] == (-(-height // 2), -(-width // 2))


def test_block_crop_takes_the_matching_chroma(make_block: MakeBlock) -> None:
    block = make_block(frames=4)
    part = block.crop(10, 20, 32, 16, start=1, frames=2)
    np.testing.assert_array_equal(part.planes[0], block.planes[0][1:3, 20:36, 10:42])
    np.testing.assert_array_equal(part.planes[2], block.planes[2][1:3, 10:18, 5:21])


def test_luma8_scales_with_the_depth(make_block: MakeBlock) -> None:
    eight, ten = make_block(pix_fmt="yuv420p"), make_block(pix_fmt="yuv420p10le")
    assert np.abs(eight.luma8() - ten.luma8()).max() <= 0.75


def test_luma8_of_rgb_is_bt709() -> None:
    planes = tuple(np.full((1, 2, 2), value, np.uint8) for value in (100, 50, 200))
    block = Block(planes, PixelFormat.of("gbrp"))
    np.testing.assert_allclose(block.luma8(), 0.2126 * 100 + 0.7152 * 50 + 0.0722 * 200, rtol=1e-6)


@pytest.mark.parametrize("codec", [name for name in CODECS if name not in ("ffv1", "prores")])
def test_recode_loses_more_at_a_worse_quality(make_block: MakeBlock, codec: str) -> None:
    block = make_block(frames=8, grain=8)
    about = CODECS[codec]
    errors = []
    for quality in (about.best, about.worst):
        coded = recode(block, codec, quality, speed=1)
        assert coded.format == block.format
        assert [plane.shape for plane in coded.planes] == [plane.shape for plane in block.planes]
        errors.append(float(np.abs(coded.luma8() - block.luma8()).mean()))
    assert errors[0] < errors[1]
    assert errors[1] < 12, "the picture itself must survive"


@pytest.mark.parametrize("codec", ["ffv1", "prores", "h264", "hevc", "mjpeg"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray", "gbrp", "yuv444p"])
def test_recode_keeps_levels_in_every_format(make_block: MakeBlock, codec: str, pix_fmt: str) -> None:
    block = make_block(frames=4, pix_fmt=pix_fmt)
    coded = recode(block, codec, CODECS[codec].best, speed=1)
    assert [plane.shape for plane in coded.planes] == [plane.shape for plane in block.planes]
    assert abs(float(coded.luma8().mean() - block.luma8().mean())) < 1.0


def test_recode_keeps_full_range_codes(make_block: MakeBlock) -> None:
    block = make_block(frames=4, level=(2.0, 253.0), full_range=True)
    coded = recode(block, "h264", 16)
    assert coded.format.full_range
    assert np.abs(coded.luma8() - block.luma8()).mean() < 2


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray", "gbrp"])
@pytest.mark.parametrize(("matrix", "full_range"), [("bt709", True), ("bt601", False), ("bt2020", True)])
def test_a_clip_says_how_it_is_to_be_read(
    tmp_path: Path, make_block: MakeBlock, suffix: str, pix_fmt: str, matrix: Any, full_range: bool
) -> None:
    block = make_block(frames=3, pix_fmt=pix_fmt)
    form = PixelFormat.of(pix_fmt, matrix=matrix, full_range=full_range)
    path = tmp_path / f"a{suffix}"
    write_clip(path, Block(block.planes, form))
    again = read_clip(path)
    assert again.format.full_range == form.full_range
    assert again.format.matrix == matrix or form.layout == "rgb"
    assert all(np.array_equal(*planes) for planes in zip(again.planes, block.planes, strict=True))


def test_write_clip_leaves_nothing_behind_when_it_fails(tmp_path: Path, make_block: MakeBlock) -> None:
    with pytest.raises(DataError, match="not a codec"):
        write_clip(tmp_path / "a.avi", make_block(), codec="nope")
    with pytest.raises(DataError):
        write_clip(tmp_path / "a.unknown", make_block())
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".xdg")] == []


@pytest.mark.parametrize(
    "content", [b"", b"not a video at all\n" * 50, random.Random(0).randbytes(5000)], ids=["empty", "text", "noise"]
)
def test_what_is_no_video_is_a_video_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.avi"):
        list(read_windows(path, windows=1, frames=8))


def test_missing_unreadable_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VideoError, match="no such file"):
        probe(tmp_path / "none.avi")
    (tmp_path / "folder.avi").mkdir()
    with pytest.raises(VideoError, match="is a folder"):
        probe(tmp_path / "folder.avi")


def test_audio_alone_has_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video stream"):
        probe(path)


def test_a_truncated_file_gives_the_windows_it_still_has(make_clip: MakeClip) -> None:
    path = make_clip("a.mkv", frames=60, codec="h264", quality=15, gop=15, grain=5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    windows = list(read_windows(path, windows=4, frames=8))
    assert 1 <= len(windows) <= 4


def test_frames_above_the_limit_are_refused(make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", frames=2, codec="h264", width=256, height=256)
    with pytest.raises(VideoError, match="exceed the limit"):
        Reader(path, max_pixels=100 * 100)


@pytest.mark.parametrize("name", ["line\nbreak.avi", "grain 🎞.avi", "100%d.avi", "concat:a|b.avi", "http:x.avi"])
def test_unusual_names(make_clip: MakeClip, name: str) -> None:
    assert read_clip(make_clip(name, frames=2)).frames == 2


def test_names_of_invalid_utf8(tmp_path: Path, make_block: MakeBlock) -> None:
    write_clip(tmp_path / "a.avi", make_block(frames=2))
    name = os.fsdecode(os.fsencode(tmp_path) + b"/bad-\xff.avi")
    (tmp_path / "a.avi").rename(name)
    assert read_clip(name).frames == 2


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".avi", ".m3u8", ".mp4"])
def test_playlists_cannot_reach_other_files(tmp_path: Path, make_block: MakeBlock, kind: str, suffix: str) -> None:
    write_clip(tmp_path / "secret.ts", make_block(frames=5), codec="h264")
    playlist = tmp_path / f"list{suffix}"
    playlist.write_text(PLAYLISTS[kind].format(target=tmp_path / "secret.ts"))
    with pytest.raises(VideoError):
        probe(playlist)


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_open_no_connection(tmp_path: Path, kind: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.5)
    connections: list[object] = []

    def accept() -> None:
        try:
            connection, address = listener.accept()
            connections.append(address)
            connection.close()
        except TimeoutError:
            pass

    thread = threading.Thread(target=accept)
    thread.start()
    playlist = tmp_path / "list.avi"
    playlist.write_text(PLAYLISTS[kind].format(target=f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"))
    with pytest.raises(VideoError):
        probe(playlist)
    thread.join()
    listener.close()
    assert connections == []


def test_reader_opens_a_file_again_only_after_reading(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip("a.mp4", frames=5, codec="h264")
    opened: list[Any] = []
    whole = av.open
    monkeypatch.setattr(av, "open", lambda *args, **options: (opened.append(args), whole(*args, **options))[1])
    with Reader(path) as reader:
        for times in (1, 2):
            reader.restart()
            assert len(list(reader.frames())) == 5
            assert len(opened) == times
        reader.seek(0)
        reader.restart()
        assert len(opened) == 3


def test_reader_describes_before_any_frame(make_clip: MakeClip) -> None:
    with Reader(make_clip("a.mp4", frames=5, codec="h264")) as reader:
        assert reader.info.codec == "h264"
        assert len(list(reader.frames())) == 5
        reader.restart()
        assert len(list(reader.frames())) == 5


def test_is_video_name() -> None:
    assert is_video_name("a/B.MKV")
    assert is_video_name(Path("x.264"))
    assert not is_video_name("notes.txt")
    assert not is_video_name("avi")


def test_unknown_pixel_format_is_refused() -> None:
    with pytest.raises(ValueError, match="rgb24"):
        PixelFormat.of("rgb24")


@pytest.mark.parametrize("packed", ["rgb24", "bgra", "yuyv422", "nv12", "p010le", "gray16be", "yuv420p10be"])
def test_packed_and_foreign_formats_become_planar(tmp_path: Path, make_block: MakeBlock, packed: str) -> None:
    from grainscan.video.frames import picture_of

    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), (200, 100, 50), np.uint8), format="rgb24")
    planes, form = picture_of(frame.reformat(format=packed))
    assert planes[0].shape == (48, 64)
    assert form.depth == (8 if packed in ("rgb24", "bgra", "yuyv422", "nv12") else form.depth)
    block = Block(tuple(plane[None] for plane in planes), form)
    expected = {"rgb": 0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50}.get(form.layout)
    if expected is not None:
        assert float(block.luma8().mean()) == pytest.approx(expected, abs=4)
    else:
        assert 90 < float(block.luma8().mean()) < 135


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the scheduler can be asked on Linux alone")
def test_encoding_av1_takes_no_real_time_priority(make_block: MakeBlock) -> None:
    recode(make_block(frames=2), "av1", 40, speed=2)
    policies = {os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir()}
    assert not policies & {os.SCHED_FIFO, os.SCHED_RR}
