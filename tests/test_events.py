"""`every`: windows over the whole file, events with their true times, and what they leave unchanged."""

from __future__ import annotations

import importlib
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import MakeBlock, MakeClip
from scan_kit import plain, write_toy_model

from grainscan import Scanner
from grainscan.errors import ConfigError, VideoError
from grainscan.results import fault_of
from grainscan.scan.decode import Job, Piece, read_pieces
from grainscan.scan.events import Span, covered, merged
from grainscan.video import Block, Reader, read_clip, read_windows, write_clip
from grainscan.views.crops import ViewSpec

MEASURED = ("dark_scenes", "black_screen", "frame_drop")
TASKS = ("graininess", "transmission_error")
CERTAIN = {"transmission_error": (1.0, -20.0), "graininess": (1.0, -20.0)}  # what the toy network never finds


def times_of(path: Path, **options: Any) -> list[list[float]]:
    return [[stamp.start for stamp in window.stamps] for window in read_windows(path, windows=4, **options)]


# ------------------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "ffv1"), ("a.mp4", "h264"), ("a.ts", "h264"), ("a.y4m", "")])
def test_every_frame_is_seen_once(make_clip: MakeClip, make_block: MakeBlock, name: str, codec: str) -> None:
    if codec:
        path = make_clip(name, codec=codec, quality=20 if codec == "h264" else None, gop=7, frames=21)
    else:
        path = make_clip("b.avi", frames=21).with_name(name)
        with av.open(str(path), "w", format="yuv4mpegpipe") as container:
            stream: Any = container.add_stream("wrapped_avframe", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            block = make_block(frames=21)
            for number in range(21):
                frame = av.VideoFrame.from_ndarray(
                    np.concatenate([plane[number].reshape(-1, 128) for plane in block.planes]), "yuv420p"
                )
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    found = times_of(path, frames=4, every=0)
    assert [len(each) for each in found] == [4, 4, 4, 4, 4, 1]
    np.testing.assert_allclose(np.concatenate(found), np.arange(21) / 25, atol=1e-3)
    windows = list(read_windows(path, windows=4, frames=4, every=0))
    assert [window.follows for window in windows] == [False, True, True, True, True, True]
    assert [window.frames for window in windows] == [4] * 6  # the last one is filled
    whole = read_clip(path)
    np.testing.assert_array_equal(windows[4].pictures[3][0], whole.planes[0][19])
    np.testing.assert_array_equal(windows[5].pictures[0][0], whole.planes[0][20])


@pytest.mark.parametrize("gop", [1, 5, 12, 100])
@pytest.mark.parametrize("every", [0.4, 1.0])
def test_each_stretch_has_a_window(make_clip: MakeClip, gop: int, every: float) -> None:
    path = make_clip("a.mp4", codec="h264", quality=20, gop=gop, frames=100, width=64, height=64)
    starts = [each[0] for each in times_of(path, frames=4, every=every)]
    assert [int(start / every + 1e-6) for start in starts] == [*range(round(4 / every))]


def test_stretches_shorter_than_a_window_are_all_frames(make_clip: MakeClip) -> None:
    path = make_clip("a.avi", frames=10)
    assert times_of(path, frames=4, every=0.1) == times_of(path, frames=4, every=0)


def test_a_file_that_cannot_seek_is_read_on(make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", codec="h264", quality=20, frames=60, width=64, height=64)
    raw = path.with_name("a.h264")
    with av.open(str(path)) as source, av.open(str(raw), "w", format="h264") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    assert len(times_of(raw, frames=4, every=0.8)) >= 3


def test_no_more_than_a_window_is_read_ahead(make_clip: MakeClip) -> None:
    path = make_clip("a.avi", frames=40)
    with Reader(path) as reader:
        windows = read_windows(reader, windows=4, frames=4, every=0)
        decoded = 0
        frames = reader.frames

        def counted() -> Any:
            nonlocal decoded
            for frame in frames():
                decoded += 1
                yield frame

        reader.frames = counted  # type: ignore[method-assign]
        for number, _ in enumerate(itertools.islice(windows, 5), 1):
            assert decoded == 4 * number


def test_windows_before_and_after_a_change_of_size_are_filled(tmp_path: Path, make_block: MakeBlock) -> None:
    path = tmp_path / "a.ts"
    with path.open("wb") as file:
        for number, width in enumerate((64, 96)):
            part = tmp_path / f"{number}.ts"
            write_clip(part, make_block(frames=10, width=width, height=64), codec="mpeg2", quality=4)
            file.write(part.read_bytes())
    windows = list(read_windows(path, windows=4, frames=4, every=0, short="error"))
    with Reader(path) as reader:
        assert sum(len(window.stamps) for window in windows) == len(list(reader.frames())) >= 19
    assert {window.width for window in windows} == {64, 96}
    assert {window.frames for window in windows} == {4}


def test_a_clip_shorter_than_a_window_follows_the_policy(make_clip: MakeClip) -> None:
    path = make_clip("a.avi", frames=3)
    (window,) = read_windows(path, windows=4, frames=4, every=0)
    assert (window.frames, len(window.stamps)) == (4, 3)
    with pytest.raises(VideoError, match="3 frames"):
        list(read_windows(path, windows=4, frames=4, every=0, short="error"))


@pytest.mark.parametrize("sampling", [{}, {"every": 0.8}, {"every": 0}], ids=str)
def test_frames_on_the_way_to_a_window_are_passed(make_clip: MakeClip, sampling: dict[str, float]) -> None:
    path = make_clip("a.mp4", codec="h264", quality=20, frames=60, gop=100, width=64, height=64)
    alone = list(read_windows(path, windows=4, frames=4, **sampling))
    found = list(read_windows(path, windows=4, frames=4, passed=True, **sampling))
    assert [each.start for each in found if not each.passed] == [each.start for each in alone]
    assert not any(each.passed for each in alone)
    assert [each.follows for each in found] == [False] + [True] * (len(found) - 1)
    assert [each.follows for each in alone[1:]] == [sampling.get("every") == 0] * (len(alone) - 1)
    times = [stamp.start for each in found for stamp in each.stamps]
    np.testing.assert_allclose(times, np.arange(len(times)) / 25, atol=1e-3)  # no frame is missing
    assert len(times) == (60 if sampling else 4 + 3 * 8)  # to the last one, or to the end of the last window
    assert max(each.frames for each in found) == 4


def test_frames_too_few_for_a_last_window_are_passed(make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", codec="h264", quality=20, frames=62, gop=100, width=64, height=64)
    found = list(read_windows(path, windows=4, frames=4, every=0.8, passed=True))
    assert sum(len(each.stamps) for each in found) == 62
    assert (found[-1].passed, found[-1].frames, found[-1].follows) == (True, 2, True)
    assert not any(each.passed for each in read_windows(path, windows=4, frames=4, every=0.8))


def test_windows_at_key_frames_pass_nothing(make_clip: MakeClip) -> None:
    path = make_clip("a.mp4", codec="h264", quality=20, frames=60, gop=12, width=64, height=64)
    assert [each.passed for each in read_windows(path, windows=4, frames=4, passed=True)] == [False] * 4


# ------------------------------------------------------------------------------------------------------------- events


def spans(*values: float) -> list[Span]:
    return [Span(i / 2, (i + 1) / 2, value) for i, value in enumerate(values)]


def test_an_event_starts_at_the_threshold_and_goes_on_a_margin_below_it() -> None:
    assert merged(spans(0.1, 0.4, 0.6, 0.4, 0.9, 0.3, 0.45, 0.2, 0.5), 0.5, 0.15) == [
        Span(1.0, 2.5, 0.9),
        Span(4.0, 4.5, 0.5),
    ]
    assert merged(spans(0.1, 0.49), 0.5) == []
    assert merged([], 0.5) == []


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "toy", tasks=TASKS, measured=MEASURED, calibration=CERTAIN, strength={})


def stretch(make_block: MakeBlock) -> Block:
    """Three seconds in motion; black from 1 to 1.2 s."""
    block = make_block(frames=75, width=192, height=128, speed=2)
    block.planes[0][25:30] = 16
    return block


def test_a_window_stands_for_the_time_around_it() -> None:
    windows = [{"start": start, "end": start + 0.3} for start in (0.5, 1.0, 2.1, 6.0)]
    stretches = covered(windows, 1.0, 6.9)
    assert np.allclose(stretches, [(0.0, 0.9), (0.9, 1.7), (1.7, 3.4), (5.0, 6.9)])  # halfway, at most a second away
    assert np.allclose(covered(windows, 0.0, 6.9), [(each["start"], each["end"]) for each in windows])
    assert np.allclose(covered(windows[:1], 1.0, 0.0), [(0.0, 0.8)])  # of unknown duration
    assert covered([], 1.0, 5.0) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_result_says_where(model: Path, tmp_path: Path, make_block: MakeBlock, workers: int) -> None:
    write_clip(tmp_path / "a.mkv", stretch(make_block), codec="h264", quality=20)
    with Scanner(model, every=0, workers=workers) as scanner:
        result = scanner.predict(tmp_path / "a.mkv")
    (event,) = result["events"]
    assert (event["task"], event["start"], event["end"]) == ("black_screen", 1.0, 1.2)
    assert 0.5 < event["probability"] <= 1
    assert list(result["tasks"]) == [*TASKS, *MEASURED]
    assert [task for task, verdict in result["tasks"].items() if verdict["label"]] == ["black_screen"]
    assert all(set(window) >= {"start", "end", *TASKS, *MEASURED} for window in result["windows"])
    assert max(result["windows"], key=lambda window: window["black_screen"])["start"] == pytest.approx(0.96)
    assert not fault_of(result)
    assert fault_of({**result, "events": [{"task": "black_screen"}]})


def test_workers_change_nothing(model: Path, tmp_path: Path, make_block: MakeBlock) -> None:
    write_clip(tmp_path / "a.mkv", stretch(make_block), codec="h264", quality=20)
    results = []
    for workers in (0, 1):
        with Scanner(model, every=0.5, workers=workers) as scanner:
            results.append(plain(scanner.predict(tmp_path / "a.mkv")))
    assert results[0] == results[1]
    assert len(results[0]["windows"]) == 6


def test_times_are_those_of_presentation(model: Path, tmp_path: Path, make_block: MakeBlock) -> None:
    """At a variable rate, the end of an event is where the next frame is shown."""
    block = stretch(make_block)
    times = np.cumsum([0, *np.random.default_rng(0).integers(20, 90, 74)])  # milliseconds
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = block.width, block.height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, at in enumerate(times):
            planes = [plane[number].reshape(-1, block.width) for plane in block.planes]
            frame = av.VideoFrame.from_ndarray(np.concatenate(planes), "yuv420p")
            frame.pts, frame.time_base = int(at), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with Scanner(model, every=0, workers=0) as scanner:
        (event,) = scanner.predict(path)["events"]
    assert (event["start"], event["end"]) == (times[25] / 1000, times[30] / 1000)


def test_an_event_of_the_network_comes_from_its_windows(tmp_path: Path, make_block: MakeBlock) -> None:
    model = write_toy_model(tmp_path / "bright", tasks=("graininess", "banding"), strength={})
    block = make_block(frames=40, level=(20, 30))
    block.planes[0][12:24] = 220
    write_clip(tmp_path / "a.avi", block)
    with Scanner(model, every=0, workers=0) as scanner:
        result = scanner.predict(tmp_path / "a.avi")
    assert ("graininess", 0.48, 0.96) in [(each["task"], each["start"], each["end"]) for each in result["events"]]
    assert set(result["tasks"]) == {"graininess", "banding"}


@pytest.mark.parametrize("workers", [0, 1])
def test_what_lies_between_two_windows_is_measured(
    model: Path, tmp_path: Path, make_block: MakeBlock, workers: int
) -> None:
    """From one key frame, windows follow one another with gaps: what is decoded there is not left out."""
    block = make_block(frames=40, width=192, height=128, speed=2)
    block.planes[0][5:7] = 16
    write_clip(tmp_path / "a.mkv", block, codec="h264", quality=20, gop=100)
    with Scanner(model, workers=workers) as scanner:
        result = scanner.predict(tmp_path / "a.mkv")
    before, after = result["windows"]
    assert (before["end"], after["start"]) == (0.16, 0.32)  # between them, frames 4 to 7
    assert result["tasks"]["black_screen"]["label"] == 1
    assert before["black_screen"] < 0.5 < after["black_screen"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("black", [25, 38], ids=["of a stretch", "of a window"])
def test_frames_behind_the_last_window_are_measured(
    model: Path, tmp_path: Path, make_block: MakeBlock, workers: int, black: int
) -> None:
    """Windows begin at 0 and 0.76 s, one more at 1.52 s lacks a frame."""
    block = make_block(frames=41, width=192, height=128, speed=2)
    block.planes[0][black:] = 16
    write_clip(tmp_path / "a.mkv", block, codec="h264", quality=20, gop=100)
    with Scanner(model, every=0.76, workers=workers) as scanner:
        result = scanner.predict(tmp_path / "a.mkv")
    first, last = result["windows"]
    assert (first["start"], last["start"], last["end"]) == (0, 0.76, 0.92)
    assert [(each["task"], each["start"], each["end"]) for each in result["events"]] == [
        ("black_screen", black / 25, 1.64)
    ]
    assert first["black_screen"] < 0.5 < last["black_screen"]
    assert result["tasks"]["black_screen"]["label"] == 1


def test_without_every_there_are_no_events(model: Path, make_clip: MakeClip) -> None:
    with Scanner(model, workers=0) as scanner:
        result = scanner.predict(make_clip("a.avi", frames=20))
    assert "events" not in result
    assert list(result["tasks"]) == [*TASKS, *MEASURED]


def test_a_model_without_measured_tasks_measures_nothing(tmp_path: Path, make_clip: MakeClip) -> None:
    model = write_toy_model(tmp_path / "toy")
    with Scanner(model, workers=0, every=0) as scanner:
        assert not scanner.job.measured
        assert scanner.predict(make_clip("a.avi", frames=20))["tasks"].keys() == {"graininess", "banding"}


def test_impossible_values_are_refused(model: Path) -> None:
    for every in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="every"):
            Scanner(model, every=every)
    with pytest.raises(ConfigError, match="exclude"):
        Scanner(model, every=1.0, windows=3)


def test_progress_restarts_the_clock(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip("a.avi", frames=120)
    clock = itertools.count(step=0.1)
    monkeypatch.setattr("grainscan.video.reader.time.monotonic", lambda: next(clock))
    job = Job(ViewSpec(frames=4, size=32, windows=2, crops=3), every=0)
    pieces = [item for item in read_pieces(str(path), job, timeout=6.0) if isinstance(item, Piece)]
    assert sum(1 + len(piece.then) for piece in pieces) == 30
    with pytest.raises(VideoError, match="3"):
        list(read_pieces(str(path), Job(job.view, every=None), timeout=0.3))


def test_hidden_faults_are_found_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short version of `examples/embedded/events.py`: real damage to the stream, drops of three kinds."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples" / "embedded"))
    hiding = importlib.import_module("events")
    model = write_toy_model(tmp_path / "toy", tasks=TASKS, measured=MEASURED, calibration=CERTAIN, strength={})
    counts = {"damage": (4,), "black": (5,), "freeze": (8,), "left out": (1,), "repeated": (1,), "late": (1,)}
    truth = hiding.make(tmp_path / "a.mkv", 20, width=256, height=144, seed=3, counts=counts)
    pairs = list(hiding.compare(truth, hiding.search(tmp_path / "a.mkv", str(model))))
    assert len(truth) == 6
    assert all(None not in pair for pair in pairs), pairs
