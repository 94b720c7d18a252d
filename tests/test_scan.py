"""From views to verdicts: aggregation by hand, the scanner's rows, its order, and workers that fail."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeClip
from scan_kit import LIES, plain, toy_spec, write_toy_model

from grainscan.errors import ConfigError, ModelError, UsageError, VideoError
from grainscan.options import PredictConfig
from grainscan.scan.engine import Outputs
from grainscan.scan.pooling import aggregate, deciding, parse_thresholds, probability
from grainscan.scan.scanner import Scanner, predict_video

TASK = "graininess"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "model")


def outputs(*logits: float, strength: tuple[float, ...] | None = None) -> Outputs:
    column = np.array(logits, np.float32)[:, None]
    estimates = np.array(strength or [0.0] * len(logits), np.float32)[:, None]
    return Outputs(np.hstack([column, -column]), np.hstack([estimates, estimates]))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# ------------------------------------------------------------------------------------------------------- aggregation


def test_the_lowest_part_counts_and_at_least_one_view() -> None:
    logits = np.array([3, -1, 2, 0], np.float32)
    assert deciding(logits, 0.5, "graininess").tolist() == [1, 3]
    assert deciding(logits, 1.0, "graininess").tolist() == [1, 3, 2, 0]
    assert deciding(logits, 0.01, "graininess").tolist() == [1]


def test_probability_is_the_calibrated_sigmoid_of_the_lowest_mean() -> None:
    spec = toy_spec(aggregation={TASK: 0.5, "banding": 0.5}, calibration={TASK: (2.0, -0.5)})
    logits = np.array([4, -1, 9, 3], np.float32)  # the lowest half: -1 and 3, mean 1
    assert probability(logits, TASK, spec) == pytest.approx(sigmoid(2 * 1 - 0.5))


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extreme_logits_do_not_overflow(logit: float) -> None:
    value = probability(np.array([logit], np.float32), TASK, toy_spec())
    assert value == (1.0 if logit > 0 else 0.0)


def test_aggregate_by_hand() -> None:
    spec = toy_spec(aggregation={TASK: 0.5, "banding": 0.5}, threshold={TASK: 0.6})
    tasks = aggregate(outputs(2, 0, 5, 1, strength=(1, 2, 9, 3)), spec)
    # graininess: the lowest are views 1 and 3: logit 0.5; their log2(1 + strength) are 2 and 3
    assert tasks[TASK] == {
        "label": 1,
        "probability": round(sigmoid(0.5), 6),
        "threshold": 0.6,
        "strength": round(2**2.5 - 1, 3),
    }
    # banding has the opposite logits, the lowest of views 0 and 2, a default threshold and no strength
    assert tasks["banding"] == {"label": 0, "probability": round(sigmoid(-3.5), 6), "threshold": 0.5}


def test_strength_is_never_negative() -> None:
    assert aggregate(outputs(1, strength=(-3,)), toy_spec())[TASK]["strength"] == 0.0


def test_thresholds_decide_the_label_and_their_edge_is_positive() -> None:
    assert aggregate(outputs(0), toy_spec(), {TASK: 0.5})[TASK]["label"] == 1
    row = aggregate(outputs(0), toy_spec(), {TASK: 0.51})[TASK]
    assert (row["label"], row["threshold"]) == (0, 0.51)


def test_thresholds_are_read_from_the_flag() -> None:
    tasks = ("graininess", "banding")
    assert parse_thresholds(None, tasks) == {}
    assert parse_thresholds("0.7", tasks) == {"graininess": 0.7, "banding": 0.7}
    assert parse_thresholds("0.7, banding=.2", tasks) == {"graininess": 0.7, "banding": 0.2}
    for wrong in ("grain=0.5", "graininess=high", "1.5", "banding=-1", "nan"):
        with pytest.raises(UsageError):
            parse_thresholds(wrong, tasks)


# -------------------------------------------------------------------------------------------------------- the scanner


@pytest.mark.parametrize("workers", [0, 2])
def test_a_result_keeps_the_contract(model: Path, make_clip: MakeClip, workers: int) -> None:
    path = make_clip("a.mp4", codec="h264", frames=40, width=96, height=64, gop=20)
    with Scanner(model, workers=workers) as scanner:
        result = next(scanner.scan([path]))
    assert list(result)[:9] == ["schema", "path", "status", "tasks", "windows", "video", "model", "views", "seconds"]
    assert (result["schema"], result["path"], result["status"], result["model"]) == (1, str(path), "ok", "toy")
    assert set(result["tasks"]) == {"graininess", "banding"}
    assert set(result["tasks"][TASK]) == {"label", "probability", "threshold", "strength"}
    assert [set(window) for window in result["windows"]] == [{"start", "end", "timecode", "graininess", "banding"}] * 2
    assert [window["timecode"] for window in result["windows"]] == ["00:00:00:00", "00:00:00:20"]
    assert [window["start"] for window in result["windows"]] == [0.0, 0.8]
    assert result["video"] == {
        "width": 96, "height": 64, "fps": 25.0, "duration": 1.6, "codec": "h264", "pix_fmt": "yuv420p",
    }  # fmt: skip
    assert result["views"] == 6
    assert result["file"] == {"size": path.stat().st_size, "mtime": path.stat().st_mtime}
    assert json.loads(json.dumps(result)) == result


def test_the_verdict_follows_the_pixels(model: Path, make_clip: MakeClip) -> None:
    """The toy model's logit is 8 * mean - 4: bright clips are positive."""
    bright = make_clip("bright.avi", level=(200, 230))
    dark = make_clip("dark.avi", level=(30, 60))
    with Scanner(model) as scanner:
        rows = list(scanner.scan([bright, dark]))
    assert [row["tasks"][TASK]["label"] for row in rows] == [1, 0]
    strength = rows[0]["tasks"][TASK]["strength"]
    assert 2 ** (2 * 0.8) - 1 < strength < 2 ** (2 * 1.0) - 1


def test_workers_and_no_workers_agree_and_keep_the_order(model: Path, make_clip: MakeClip) -> None:
    paths = [make_clip(f"{i}.avi", frames=4 + 9 * (i % 3), seed=i, grain=i) for i in range(9)]
    paths.insert(4, paths[0].parent / "missing.avi")
    with Scanner(model, workers=0, maps=True) as here, Scanner(model, workers=3, maps=True) as there:
        expected = [plain(row) for row in here.scan(paths)]
        assert [plain(row) for row in there.scan(paths)] == expected
        assert [plain(row) for row in there.scan(reversed(paths))] == expected[::-1]  # the pool is used again
    assert [row["path"] for row in expected] == [str(path) for path in paths]
    assert [row["status"] for row in expected].count("error") == 1


def test_a_divided_file_has_the_result_of_a_whole_one(
    model: Path, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grainscan.scan.scanner._LARGE", 0)
    paths = [
        make_clip("many.mkv", frames=80, grain=5, codec="h264", quality=20, gop=10),
        make_clip("one_key.mkv", frames=40, grain=5, codec="h264", quality=20, gop=100),
        make_clip("short.mkv", frames=3),
        make_clip("cut.mkv", frames=60),
    ]
    paths[-1].write_bytes(paths[-1].read_bytes()[:-4000])
    with (
        Scanner(model, workers=1, windows=5, maps=True) as one,
        Scanner(model, workers=3, windows=5, maps=True) as three,
    ):
        assert [three.parts_of(str(paths[0]), count) for count in (1, 2, 9)] == [1, 2, 5]
        for path in paths:
            assert plain(three.predict(path)) == plain(one.predict(path))
        (error,) = three.scan([tmp_path / "missing.mkv"])
        assert error["status"] == "error"
    with Scanner(model, workers=3, every=1) as scanner:
        assert scanner.parts_of(str(paths[0]), 3) == 1  # read on from window to window


def test_an_error_row_keeps_the_contract(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.avi").write_text("not a video")
    with Scanner(model) as scanner:
        row = next(scanner.scan([tmp_path / "text.avi"]))
    assert list(row) == ["schema", "path", "status", "error"]
    assert list(row["error"]) == ["type", "message", "hint"]
    assert row["error"]["type"] == "VideoError"
    assert row["error"]["message"].startswith(str(tmp_path / "text.avi"))
    assert row["error"]["hint"]


def test_maps_tell_where(model: Path, make_clip: MakeClip) -> None:
    path = make_clip("a.avi", frames=4, width=96, height=64)
    with Scanner(model, maps=True) as scanner:
        row = scanner.predict(path)
    assert len(row["map"]) == row["views"]
    assert set(row["map"][0]) == {"window", "x", "y", "size", "graininess", "banding"}
    assert all(0 <= entry["x"] <= 96 - 32 and 0 <= entry["y"] <= 64 - 32 for entry in row["map"])


def test_windows_and_crops_can_be_chosen(model: Path, make_clip: MakeClip) -> None:
    path = make_clip("a.avi", frames=60, width=160, height=128)
    with Scanner(model, windows=3, crops=5) as scanner:
        row = scanner.predict(path)
    assert (len(row["windows"]), row["views"]) == (3, 15)


def test_predict_raises_where_scan_gives_a_row(model: Path, tmp_path: Path) -> None:
    with Scanner(model) as scanner, pytest.raises(VideoError, match="no such file") as caught:
        scanner.predict(tmp_path / "missing.avi")
    assert caught.value.hint


def test_predict_video_gives_class_and_confidence(model: Path, make_clip: MakeClip) -> None:
    path = make_clip("dark.avi", level=(30, 60))
    label, confidence = predict_video(path, model=model)
    assert label == 0
    assert 0.5 < confidence < 1
    assert predict_video(path, model=model, task="banding")[0] == 1
    with pytest.raises(UsageError, match="no task"):
        predict_video(path, model=model, task="dust")


def test_the_options_come_from_the_configuration(model: Path) -> None:
    config = PredictConfig(model=str(model), windows=7, crops=2, timeout=3, max_pixels=100, short="wrap", workers=0)
    scanner = Scanner.from_config(config, maps=True)
    assert (scanner.job.view.windows, scanner.job.view.crops) == (7, 2)
    assert (scanner.job.timeout, scanner.job.max_pixels, scanner.job.short) == (3, 100, "wrap")


def test_wrong_options_are_refused_at_once(model: Path, tmp_path: Path) -> None:
    for wrong in ({"workers": -2}, {"windows": 0}, {"crops": -1}, {"timeout": -1}, {"max_pixels": 0}):
        with pytest.raises(ConfigError):
            Scanner(model, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelError):
        Scanner(tmp_path / "nowhere")


def test_a_broken_model_ends_the_scan_before_it_begins(model: Path, make_clip: MakeClip) -> None:
    path = make_clip("a.avi")
    (model / "model.onnx").write_bytes(b"nothing")
    with Scanner(model) as scanner, pytest.raises(ModelError):
        list(scanner.scan([path]))


def test_a_fault_of_the_model_is_an_error_row(model: Path, make_clip: MakeClip) -> None:
    class Moody:
        lanes, batch, spec = 1, 4, toy_spec()

        def __call__(self, views: np.ndarray[Any, Any], statistics: Any) -> Outputs:
            raise RuntimeError("out of memory")

    paths = [make_clip("a.avi"), make_clip("b.avi")]
    for workers in (0, 2):
        with Scanner(model, workers=workers) as scanner:
            scanner.engine = Moody()  # type: ignore[assignment]
            rows = list(scanner.scan(paths))
        assert [row["status"] for row in rows] == ["error"] * 2
        assert "out of memory" in rows[0]["error"]["message"]


def test_the_fingerprint_names_model_and_options(model: Path) -> None:
    first = Scanner(model).fingerprint
    assert first == Scanner(model, workers=0, timeout=1, device="cpu").fingerprint
    others = {
        Scanner(model, windows=3).fingerprint,
        Scanner(model, maps=True).fingerprint,
        Scanner(model, thresholds={TASK: 0.4}).fingerprint,
        Scanner(write_toy_model(model, aggregation={TASK: 0.5, "banding": 0.5})).fingerprint,
    }
    assert len(others | {first}) == 5


def test_an_abandoned_scan_leaves_no_process(model: Path, make_clip: MakeClip) -> None:
    paths = [make_clip(f"{i}.avi") for i in range(6)]
    with Scanner(model, workers=2) as scanner:
        results = scanner.scan(paths)
        next(results)
        assert scanner._pool is not None
        server = scanner._pool._server.process
        assert server is not None
        results.close()  # type: ignore[attr-defined]
        assert server.poll() is not None
        assert [row["status"] for row in scanner.scan(paths)] == ["ok"] * 6  # and the scanner still works


def test_a_script_without_a_main_guard_can_scan(model: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    """Worker processes must not run the caller's script again, as multiprocessing would."""
    path = make_clip("a.avi")
    script = tmp_path / "script.py"
    script.write_text(
        f"from grainscan import predict_video\nprint(predict_video({str(path)!r}, model={str(model)!r})[0])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() in ("0", "1")
    assert done.stderr == ""


# ------------------------------------------------------------------------------------------------------ bad decoders


@pytest.fixture
def careless(model: Path) -> Iterator[Scanner]:
    with Scanner(model, workers=2, timeout=20, reader="scan_kit:misbehave") as scanner:
        yield scanner


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crash.avi", "crashed (SIGSEGV)"),
        ("late-crash.avi", "crashed (SIGABRT)"),
        ("killed.avi", "was killed"),
        ("exit.avi", "crashed (exit code 7)"),
        ("hungry.avi", "more memory"),
        ("bug.avi", "ZeroDivisionError: of its own"),
        *((f"{name}.avi", "cannot be judged") for name in LIES),
    ],
)
def test_a_lost_worker_costs_one_row(careless: Scanner, make_clip: MakeClip, name: str, message: str) -> None:
    good = [make_clip(f"good{i}.avi", seed=i) for i in range(5)]
    bad = make_clip(name)
    paths = [*good[:2], bad, *good[2:], bad]
    rows = list(careless.scan(paths))
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok", "ok", "ok", "error"]
    error = rows[2]["error"]
    assert error["type"] == "VideoError"
    assert message in error["message"]
    assert name in error["message"]
    assert error["hint"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hang.avi", "deaf.avi"])
def test_a_hanging_decoder_is_ended(
    model: Path, make_clip: MakeClip, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grainscan.workers.pool.GRACE", 1.0)
    paths = [make_clip(name), make_clip("good.avi"), make_clip("good2.avi")]
    with Scanner(model, workers=2, timeout=6, reader="scan_kit:misbehave") as scanner:
        began = time.monotonic()
        rows = list(scanner.scan(paths))
    assert time.monotonic() - began < 120
    assert [row["status"] for row in rows] == ["error", "ok", "ok"]
    assert "not decoded within 6 seconds" in rows[0]["error"]["message"]
    assert "--timeout" in rows[0]["error"]["hint"]


def test_a_worker_cannot_take_the_memory_away_from_the_parent(careless: Scanner, make_clip: MakeClip) -> None:
    paths = [make_clip("shrink.avi", frames=30), make_clip("good.avi")]
    assert [row["status"] for row in careless.scan(paths)] == ["ok", "ok"]


def test_every_worker_may_fail_in_turn(careless: Scanner, make_clip: MakeClip) -> None:
    bad = make_clip("crash.avi")
    assert [row["status"] for row in careless.scan([bad] * 12)] == ["error"] * 12


@pytest.mark.slow
def test_time_that_the_consumer_takes_is_not_the_files(model: Path, make_clip: MakeClip) -> None:
    paths = [make_clip(f"{i}.avi", frames=80) for i in range(4)]
    with Scanner(model, workers=1, windows=8, timeout=4) as scanner:
        rows = []
        for row in scanner.scan(paths):
            rows.append(row)
            if len(rows) == 1:
                time.sleep(5)
    assert [row["status"] for row in rows] == ["ok"] * 4


def test_a_reader_that_cannot_be_imported_is_said_once(model: Path, make_clip: MakeClip) -> None:
    from grainscan.errors import GrainscanError

    with (
        Scanner(model, workers=1, reader="no_such_module:read") as scanner,
        pytest.raises(GrainscanError, match="cannot start"),
    ):
        list(scanner.scan([make_clip("a.avi")]))


@pytest.mark.slow
def test_no_process_outlives_a_killed_parent(model: Path, make_clip: MakeClip, tmp_path: Path) -> None:
    path, marker = make_clip("hang.avi"), tmp_path / "children"
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, threading, time\n"
        "from grainscan.scan.scanner import Scanner\n"
        f"scanner = Scanner({str(model)!r}, workers=1, timeout=300, reader='scan_kit:misbehave')\n"
        f"threading.Thread(target=lambda: list(scanner.scan([{str(path)!r}])), daemon=True).start()\n"
        "time.sleep(0.5)\n"
        "while scanner._pool is None or not scanner._pool.busy: time.sleep(0.05)\n"
        "time.sleep(2)\n"
        f"open({str(marker)!r}, 'w').write(str(scanner._pool._server.process.pid))\n"
        "time.sleep(300)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        _until(lambda: marker.exists() and bool(marker.read_text()))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    server = int(marker.read_text())
    _until(lambda: not _alive(server))


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def _until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_scanning_works_outside_the_main_thread(model: Path, make_clip: MakeClip) -> None:
    path, rows = make_clip("a.avi"), []
    with Scanner(model, workers=1) as scanner:
        thread = threading.Thread(target=lambda: rows.extend(scanner.scan([path])))
        thread.start()
        thread.join()
    assert [row["status"] for row in rows] == ["ok"]
