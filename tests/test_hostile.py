"""Every kind of bad file through the real scanner: no crash, no hang, one row each."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import corpus
import numpy as np
import pytest
from conftest import MakeBlock, MakeClip, scene_block
from scan_kit import plain, write_toy_model

from grainscan.errors import VideoError
from grainscan.scan.decode import Piece
from grainscan.scan.engine import Outputs
from grainscan.scan.inputs import collect
from grainscan.scan.scanner import Scanner, _File
from grainscan.video import Block, Reader, read_windows, write_clip

CONTAINERS = {
    "avi": ("mpeg4", 6),
    "mp4": ("h264", 26),
    "mov": ("mjpeg", 6),
    "mkv": ("hevc", 28),
    "webm": ("vp9", 40),
    "ts": ("h264", 26),
    "mpg": ("mpeg2", 6),
    "nut": ("ffv1", None),
}
EACH = 40  # broken files of a container


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanner]:
    model = write_toy_model(tmp_path_factory.mktemp("toy") / "model")
    with Scanner(model, workers=2, timeout=20) as shared:
        yield shared


def check(row: dict[str, Any], path: Path | str) -> None:
    """One row about this file, which keeps the contract, whatever happened."""
    assert row["path"] == str(path)
    if row["status"] == "ok":
        assert row["views"] > 0
        assert all(0 <= verdict["probability"] <= 1 for verdict in row["tasks"].values())
    else:
        assert row["error"]["type"] == "VideoError"
        assert row["error"]["message"].startswith(str(path))
        assert row["error"]["hint"]
        assert "Traceback" not in row["error"]["message"]


def judged(scanner: Scanner, path: Path) -> dict[str, Any]:
    (row,) = scanner.scan([path])
    check(row, path)
    return row


def refused(scanner: Scanner, path: Path) -> str:
    row = judged(scanner, path)
    assert row["status"] == "error", row
    return str(row["error"]["message"])


# ---------------------------------------------------------------------------------------------------------- a corpus


def _somewhere(data: bytearray, rng: random.Random, most: int) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.randint(1, most))


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def behead(data: bytearray, rng: random.Random) -> None:
    del data[: rng.randint(1, len(data) // 2)]


def blank(data: bytearray, rng: random.Random) -> None:
    start, stop = _somewhere(data, rng, 2000)
    data[start:stop] = bytes(stop - start)


def scramble(data: bytearray, rng: random.Random) -> None:
    start, stop = _somewhere(data, rng, 2000)
    data[start:stop] = rng.randbytes(stop - start)


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 60)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_header(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(min(600, len(data)))] ^= 1 << rng.randrange(8)


def flip_index(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 12)):
        data[-rng.randint(1, min(600, len(data)))] ^= 1 << rng.randrange(8)


def huge_field(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(min(1000, len(data) - 4))
    data[start : start + 4] = rng.choice(
        [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f"]
    )


def remove(data: bytearray, rng: random.Random) -> None:
    start, stop = _somewhere(data, rng, 1500)
    del data[start:stop]


def repeat(data: bytearray, rng: random.Random) -> None:
    start, stop = _somewhere(data, rng, 1500)
    data[start:start] = data[start:stop]


def swap_halves(data: bytearray, rng: random.Random) -> None:
    middle = rng.randint(1, len(data) - 1)
    data[:] = data[middle:] + data[:middle]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    truncate, behead, blank, scramble, flip, flip_header, flip_index, huge_field, remove, repeat, swap_halves,
)  # fmt: skip


def broken_files(folder: Path, container: str, count: int, seed: int) -> list[Path]:
    """`count` broken files, each from a good clip by one to three mutations; the same for the same seed."""
    codec, quality = CONTAINERS[container]
    good = folder / f"good.{container}"
    write_clip(good, scene_block(24, 64, 48, grain=4, seed=seed), codec=codec, quality=quality, gop=8, speed=2)
    rng, paths = random.Random(f"{container}{seed}"), []
    for number in range(count):
        data = bytearray(good.read_bytes())
        mutations = [MUTATIONS[number % len(MUTATIONS)], *rng.choices(MUTATIONS, k=rng.randint(0, 2))]
        for mutate in mutations:
            if len(data) > 8:
                mutate(data, rng)
        paths.append(folder / f"{number:03}-{mutations[0].__name__}.{container}")
        paths[-1].write_bytes(data)
    return [good, *paths]


@pytest.mark.parametrize("container", CONTAINERS)
def test_broken_files_cost_a_row_each(tmp_path: Path, scanner: Scanner, container: str) -> None:
    paths = broken_files(tmp_path, container, EACH, seed=0)
    rows = list(scanner.scan(paths))
    assert len(rows) == EACH + 1
    for row, path in zip(rows, paths, strict=True):
        check(row, path)
    assert rows[0]["status"] == "ok"
    again = list(scanner.scan(paths[::-1]))[::-1]  # whatever a worker has read before
    assert [row["status"] for row in again] == [row["status"] for row in rows]
    assert [row.get("tasks") for row in again] == [row.get("tasks") for row in rows]  # broken or not: the same verdict


@pytest.mark.bench
@pytest.mark.parametrize("container", CONTAINERS)
def test_many_broken_files(tmp_path: Path, scanner: Scanner, container: str) -> None:
    for seed in range(1, 6):
        (tmp_path / str(seed)).mkdir()
        paths = broken_files(tmp_path / str(seed), container, 200, seed=seed)
        for row, path in zip(scanner.scan(paths), paths, strict=True):
            check(row, path)


# -------------------------------------------------------------------------------------------------------- named cases


def test_zero_bytes(tmp_path: Path, scanner: Scanner) -> None:
    path = tmp_path / "empty.avi"
    path.touch()
    refused(scanner, path)


def test_text_and_pictures_with_the_suffix_of_a_video(tmp_path: Path, scanner: Scanner) -> None:
    for content in (
        b"just text\n" * 100,
        b"\x7fELF" + bytes(500),
        b"PK\x03\x04" + bytes(500),
        b"%PDF-1.7\n" + bytes(500),
    ):
        path = tmp_path / "wrong.avi"
        path.write_bytes(content)
        refused(scanner, path)


def test_a_video_under_another_suffix(tmp_path: Path, make_clip: MakeClip, scanner: Scanner) -> None:
    path = make_clip("a.mp4", codec="h264")
    for name in ("a.avi", "a.mkv", "a.bin", "a"):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert judged(scanner, tmp_path / name)["status"] == "ok"


def test_a_truncated_clip_is_judged_by_what_is_left(make_clip: MakeClip, scanner: Scanner) -> None:
    path = make_clip("a.ts", codec="h264", frames=60, gop=10, grain=5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert judged(scanner, path)["status"] == "ok"


def test_an_mp4_without_its_index(make_clip: MakeClip, scanner: Scanner) -> None:
    path = make_clip("a.mp4", codec="h264", frames=30)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])
    refused(scanner, path)


def test_an_avi_without_its_index(make_clip: MakeClip, scanner: Scanner) -> None:
    path = make_clip("a.avi", codec="mpeg4", frames=30, gop=8)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"idx1")])
    assert judged(scanner, path)["status"] == "ok"


def test_a_folder_that_is_named_like_a_video(tmp_path: Path, make_clip: MakeClip, scanner: Scanner) -> None:
    folder = tmp_path / "folder.avi"
    clip = make_clip("folder.avi/inside.avi")
    assert [row["path"] for row in scanner.scan(collect([folder]))] == [str(clip)]
    with pytest.raises(VideoError, match="is a folder"):
        Reader(folder)


def test_audio_only(tmp_path: Path, scanner: Scanner) -> None:
    path = tmp_path / "sound.avi"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    refused(scanner, path)
    other = tmp_path / "sound.mkv"
    with av.open(str(other), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = 8000, 0
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "no video stream" in refused(scanner, other)


def test_no_key_frame_at_the_start(tmp_path: Path, make_clip: MakeClip, scanner: Scanner) -> None:
    source, target = make_clip("a.mkv", codec="h264", frames=40, gop=20), tmp_path / "headless.mkv"
    _remux(source, target, lambda number, packet: number > 0)
    assert judged(scanner, target)["status"] == "ok"  # from the second key frame


def test_no_key_frame_at_all(tmp_path: Path, make_clip: MakeClip, scanner: Scanner) -> None:
    source, target = make_clip("a.mkv", codec="h264", frames=40, gop=20), tmp_path / "keyless.mkv"
    _remux(source, target, lambda number, packet: not packet.is_keyframe)
    judged(scanner, target)


def _remux(source: Path, target: Path, keep: Callable[[int, Any], bool]) -> None:
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for number, packet in enumerate(reading.demux(video=0)):
            if packet.dts is not None and keep(number, packet):
                packet.stream = stream
                writing.mux(packet)


def test_the_picture_changes_its_size(tmp_path: Path, make_clip: MakeClip, scanner: Scanner) -> None:
    parts = [
        make_clip(f"{width}.ts", codec="h264", frames=12, gop=6, width=width, height=height)
        for width, height in ((128, 96), (64, 48), (96, 96))
    ]
    path = tmp_path / "changes.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert judged(scanner, path)["status"] == "ok"


def test_one_frame(make_clip: MakeClip, scanner: Scanner) -> None:
    row = judged(scanner, make_clip("one.avi", frames=1))
    assert row["status"] == "ok"
    assert len(row["windows"]) == 1


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (130, 2), (33, 47)])
def test_tiny_and_odd_pictures(make_clip: MakeClip, scanner: Scanner, size: tuple[int, int]) -> None:
    assert judged(scanner, make_clip("tiny.avi", frames=3, width=size[0], height=size[1]))["status"] == "ok"


def test_eight_k(tmp_path: Path, scanner: Scanner) -> None:
    path = tmp_path / "8k.avi"
    tile = scene_block(1, 128, 80, grain=4)
    write_clip(path, Block(tuple(np.tile(plane, (1, 54, 60)) for plane in tile.planes), tile.format), codec="mjpeg")
    row = judged(scanner, path)
    assert row["status"] == "ok"
    assert (row["video"]["width"], row["video"]["height"]) == (7680, 4320)


def test_encrypted_video(tmp_path: Path, make_block: MakeBlock, scanner: Scanner) -> None:
    path = tmp_path / "drm.mp4"
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "00112233445566778899aabbccddeeff",
        "encryption_kid": "0123456789abcdef0123456789abcdef",
    }
    source = tmp_path / "plain.mp4"
    write_clip(source, make_block(20, grain=4), codec="h264")
    with av.open(str(source)) as reading, av.open(str(path), "w", options=options) as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)
    refused(scanner, path)


def test_a_dangling_link(tmp_path: Path, scanner: Scanner) -> None:
    path = tmp_path / "link.avi"
    path.symlink_to(tmp_path / "nowhere.avi")
    assert "no such file" in refused(scanner, path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(make_clip: MakeClip, scanner: Scanner) -> None:
    path = make_clip("secret.avi")
    path.chmod(0)
    assert "permission denied" in refused(scanner, path)


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path, scanner: Scanner) -> None:
    os.mkfifo(tmp_path / "pipe.avi")
    began = time.monotonic()
    assert "not a regular file" in refused(scanner, tmp_path / "pipe.avi")
    assert "not a regular file" in refused(scanner, Path("/dev/zero"))
    assert time.monotonic() - began < 10


def test_a_file_that_vanishes_before_its_turn(make_clip: MakeClip, scanner: Scanner) -> None:
    paths = [make_clip(f"{number}.avi", frames=20) for number in range(12)]
    rows = scanner.scan(paths)
    first = next(rows)
    paths[-1].unlink()
    rest = list(rows)
    assert [row["status"] for row in [first, *rest]] == ["ok"] * 11 + ["error"]
    assert "no such file" in rest[-1]["error"]["message"]


@pytest.mark.parametrize("shrinks", [False, True])
def test_a_file_that_changes_during_the_scan(make_clip: MakeClip, scanner: Scanner, shrinks: bool) -> None:
    path = make_clip("a.ts", codec="h264", frames=100, gop=10, grain=5, width=320, height=240)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    done = threading.Event()

    def change() -> None:
        position = len(data) // 3
        while not done.is_set() and position < len(data):
            with path.open("r+b" if shrinks else "ab") as file:
                if shrinks:
                    file.truncate(max(0, position - len(data) // 50))
                    position -= len(data) // 50
                    if position <= 0:
                        return
                else:
                    file.write(data[position : position + 4000])
                    position += 4000
            time.sleep(0.002)

    thread = threading.Thread(target=change)
    thread.start()
    rows = list(scanner.scan([path] * 6))
    done.set()
    thread.join()
    for row in rows:
        check(row, path)


# -------------------------------------------------------------------------------------------------- odd, but healthy

DOUBTS = {
    "sixteen_pixels": ["too small"],
    "eighteen_rows": ["too small"],
    "small_gif": ["few colours"],
    "palette": ["few colours"],
    "one_bit": ["few colours"],
    "combs": ["interlaced"],
    "fields": ["interlaced"],
}


@pytest.mark.parametrize("name", [*DOUBTS, "raw_dv", "late_stream", "cover_of_a_video"])
def test_odd_files_are_judged_and_say_what_is_doubtful(tmp_path: Path, scanner: Scanner, name: str) -> None:
    row = judged(scanner, corpus.ODD[name](tmp_path))
    assert row["status"] == "ok", row
    assert row.get("unreliable") == DOUBTS.get(name)
    assert row["video"]["fps"] == 25


def test_ordinary_pictures_raise_no_doubt(tmp_path: Path, scanner: Scanner) -> None:
    moving = tmp_path / "moving.avi"
    write_clip(moving, corpus.texture(16, 192, 128, speed=10))  # the same as `combs`, but progressive
    noisy = tmp_path / "noisy.avi"
    write_clip(noisy, scene_block(16, 192, 128, grain=30))
    lines = corpus.texture(16, 192, 128)
    lines.planes[0][:, ::2] = 40
    still = tmp_path / "lines.avi"
    write_clip(still, lines)
    small = tmp_path / "small.avi"
    write_clip(small, corpus.texture(16, 32, 32))  # as large as a view
    for path in (moving, noisy, still, small):
        assert "unreliable" not in judged(scanner, path)


def test_the_cover_of_a_sound_file_is_no_video(tmp_path: Path, scanner: Scanner) -> None:
    assert "is not a video: it has no video stream" in refused(scanner, corpus.cover_of_sound(tmp_path))


def test_a_stream_that_appears_late_costs_no_frame(tmp_path: Path) -> None:
    path = corpus.late_stream(tmp_path)
    with av.open(str(path)) as container:
        assert len(container.streams) == 1  # the header does not announce the other
    with Reader(path) as reader:
        count = sum(1 for _ in reader.frames())
    assert count % 100 == 0  # each part has a hundred frames; the last are in the decoder at the end


def test_healthy_files_of_other_kinds_are_not_called_damaged(tmp_path: Path, scanner: Scanner) -> None:
    (tmp_path / "notes.mp4").write_text("hello\n")
    for path in [*corpus.sounds_and_pictures(tmp_path), tmp_path / "notes.mp4"]:
        row = judged(scanner, path)
        assert "is not a video" in row["error"]["message"], row
        assert "damaged" not in row["error"]["hint"]


def test_an_empty_file_is_called_empty(tmp_path: Path, scanner: Scanner) -> None:
    (tmp_path / "a.mp4").touch()
    assert judged(scanner, tmp_path / "a.mp4")["error"]["message"].endswith("a.mp4: is empty")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_decoder_that_starts_over_without_end_is_given_up(tmp_path: Path, workers: int) -> None:
    path, began = corpus.edits_without_end(tmp_path), time.monotonic()
    with Scanner(write_toy_model(tmp_path / "model"), workers=workers, timeout=0.02) as scanner:
        assert "was not decoded within 0.02 seconds" in refused(scanner, path)
    assert time.monotonic() - began < 10


def test_a_file_that_is_replaced_while_it_is_read_is_said_to_have_changed(make_clip: MakeClip) -> None:
    path = make_clip("a.h264", codec="h264", frames=30)
    other = path.with_name("other")
    other.write_text("not a video\n" * 1000)
    with Reader(path) as reader:
        next(reader.frames())
        other.replace(path)
        with pytest.raises(VideoError, match="has changed while it was read"):
            list(read_windows(reader, windows=2, frames=8))  # no index: it is opened a second time


def test_a_folder_that_cannot_be_listed_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(VideoError, match="is a folder that cannot be listed"):
        Reader(tmp_path)


def test_hints_name_the_limit_of_pixels_only_where_it_was_exceeded(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip("a.mkv", codec="h264", frames=20, width=256, height=256)
    with pytest.raises(VideoError, match="256x256 exceed the limit of 10000") as caught:
        Reader(path, max_pixels=100 * 100)
    assert "--max-pixels" in caught.value.hint
    sizeless, whole = tmp_path / "sizeless.ts", make_clip("whole.ts", codec="h264", frames=20, gop=20)
    _remux(whole, sizeless, lambda number, packet: not packet.is_keyframe)  # those hold the size
    with Reader(sizeless, max_pixels=10**6) as reader, pytest.raises(VideoError) as caught:
        list(read_windows(reader, windows=1, frames=8))
    assert caught.value.hint
    assert "--max-pixels" not in caught.value.hint


def test_windows_of_equal_start_have_a_fixed_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with Scanner(write_toy_model(tmp_path / "model"), workers=0) as scanner:
        items = [
            (
                Piece(np.empty(0, np.float32), np.zeros(1, np.int64), 1.0, 2.0, [(0, 0)]),
                Outputs(*rng.normal(size=(2, 1, 2)).astype(np.float32)),
            )
            for _ in range(6)
        ]
        rows = []
        for order in (items, items[::-1], items[3:] + items[:3]):
            file = _File("a", 0.0, None, pieces=list(order), video={})
            rows.append(plain(scanner._result(file)))
    assert rows[0] == rows[1] == rows[2]


# ------------------------------------------------------------------------------------------------------ hostile files


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A local server that notes whoever calls."""
    calls: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    try:
                        calls.append(connection.recv(1000))
                    except TimeoutError:
                        calls.append(b"")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], calls
        time.sleep(0.3)
        done.set()
        thread.join()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "hls-map": '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{target}"\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n',
    "hls-key": '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\n{target}\n',
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S" profiles="urn:mpeg:dash:profile:full:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="9"><BaseURL>{target}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{target}\n"
    "m=video 5004 RTP/AVP 96\n",
    "smil": '<smil><body><video src="{target}"/></body></smil>',
    "pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "ram": "{target}\n",
    "asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "imf": '<?xml version="1.0"?><AssetMap><Path>{target}</Path></AssetMap>',
    "rtsp": "RTSPtext\nrtsp://127.0.0.1/{target}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["avi", "m3u8", "mp4"])
def test_playlists_open_no_connection_and_no_other_file(
    tmp_path: Path, make_clip: MakeClip, scanner: Scanner, listener: tuple[int, list[bytes]], kind: str, suffix: str
) -> None:
    port, calls = listener
    secret = make_clip("secret.mkv", codec="h264")
    for number, target in enumerate(
        (f"http://127.0.0.1:{port}/x.ts", f"tcp://127.0.0.1:{port}", str(secret), "secret.mkv")
    ):
        path = tmp_path / f"list{number}.{suffix}"
        path.write_text(PLAYLISTS[kind].format(target=target))
        refused(scanner, path)
    assert calls == []


def test_a_movie_whose_data_lie_in_another_file_does_not_open_it(
    tmp_path: Path, make_clip: MakeClip, scanner: Scanner
) -> None:
    secret = make_clip("secret.mov", codec="mpeg4", quality=4)
    movie = tmp_path / "movie.mov"
    movie.write_bytes(referring(secret.read_bytes(), str(secret)))
    with av.open(str(movie), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert next(container.decode(video=0)).width == 128  # the reference works for those who follow it
    row = judged(scanner, movie)
    assert row["status"] == "error", row  # of its own it has only zeros


def referring(movie: bytes, target: str) -> bytes:
    """A QuickTime file with its media data zeroed and an alias to `target`, which has them, as its data reference."""
    path = target.encode()
    alias = bytes(10 + 28 + 12 + 64 + 16) + struct.pack(">HH", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias

    def boxes(data: bytes) -> bytes:
        found, at = b"", 0
        while at < len(data):
            size, name = struct.unpack_from(">I4s", data, at)
            body = data[at + 8 : at + size]
            if name == b"mdat":
                body = bytes(len(body))
            elif name == b"dref":
                body = struct.pack(">II", 0, 1) + entry
            elif name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                body = boxes(body)
            found += struct.pack(">I4s", 8 + len(body), name) + body
            at += size
        return found

    assert movie.index(b"mdat") < movie.index(b"moov")  # so that no offset moves
    return boxes(movie)


@pytest.mark.parametrize(
    "name", ["concat:a.avi|b.avi", "http:__x.avi", "subfile,,start,0,end,0,,:a.avi", "pipe:0.avi", "%03d.avi"]
)
def test_names_are_not_taken_for_protocols(tmp_path: Path, make_clip: MakeClip, scanner: Scanner, name: str) -> None:
    clip = make_clip("clip.avi")
    (tmp_path / name).write_bytes(clip.read_bytes())
    assert judged(scanner, tmp_path / name)["status"] == "ok"
    (tmp_path / name).unlink()
    assert "no such file" in refused(scanner, tmp_path / name)


def test_a_decompression_bomb_is_refused_before_it_is_opened(tmp_path: Path, scanner: Scanner) -> None:
    path = tmp_path / "bomb.gif"
    screen = struct.pack("<6sHHBBB", b"GIF89a", 65535, 65535, 0x80, 0, 0) + bytes(6)
    picture = struct.pack("<BHHHHB", 0x2C, 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    path.write_bytes(screen + picture)
    began = time.monotonic()
    refused(scanner, path)
    assert time.monotonic() - began < 10


def test_the_limit_of_the_frame_size_is_the_users(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip("a.avi", width=96, height=64)
    model = write_toy_model(tmp_path / "model")
    with Scanner(model, workers=1, max_pixels=96 * 64) as scanner:
        assert judged(scanner, path)["status"] == "ok"
    with Scanner(model, workers=1, max_pixels=96 * 64 - 1) as scanner:
        assert "exceed" in refused(scanner, path)


def test_a_variable_frame_rate_and_no_duration(tmp_path: Path, scanner: Scanner, make_block: MakeBlock) -> None:
    path = tmp_path / "raw.h264"
    write_clip(tmp_path / "a.mkv", make_block(30, grain=3), codec="h264", gop=10, fps=Fraction(24000, 1001))
    with av.open(str(tmp_path / "a.mkv")) as reading, av.open(str(path), "w", format="h264") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)
    assert judged(scanner, path)["status"] == "ok"
