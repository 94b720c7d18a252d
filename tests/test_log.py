"""The log of a scan: nothing is lost, nothing is done twice, and the end is always the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeClip
from scan_kit import plain, write_toy_model

from grainscan.errors import OutputError
from grainscan.scan.log import ResultLog, encode
from grainscan.scan.scanner import Scanner


def ok(path: Path | str, **more: Any) -> dict[str, Any]:
    status = Path(path).stat()
    return {
        "schema": 1,
        "path": str(path),
        "status": "ok",
        "model": "toy",
        "file": {"size": status.st_size, "mtime": status.st_mtime},
        **more,
    }


def bad(path: Path | str) -> dict[str, Any]:
    return {
        "schema": 1,
        "path": str(path),
        "status": "error",
        "error": {"type": "VideoError", "message": "", "hint": ""},
    }


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{letter}.avi" for letter in "abcd"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "scan.jsonl"


@pytest.fixture(autouse=True)
def _folder(output: Path) -> None:
    output.parent.mkdir()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_are_in_the_file_as_soon_as_they_are_appended(output: Path, files: list[str]) -> None:
    with ResultLog(output, "s") as log:
        assert log.pending(files) == files
        log.append(ok(files[0]))
        assert [row["path"] for row in lines(output)] == files[:1]
    assert lines(output)[0]["settings"] == "s"


def test_what_is_done_is_skipped_and_the_rest_is_not(output: Path, files: list[str]) -> None:
    with ResultLog(output, "s") as log:
        for path in files[:2]:
            log.append(ok(path))
        log.append(bad(files[2]))
    with ResultLog(output, "s") as log:
        assert len(log) == 3
        assert log.pending(files) == files[2:]  # what failed is tried again


@pytest.mark.parametrize("change", ["size", "mtime", "settings", "gone"])
def test_another_file_or_model_is_done_again(output: Path, files: list[str], change: str) -> None:
    with ResultLog(output, "s") as log:
        log.append(ok(files[0]))
    path = Path(files[0])
    if change == "size":
        stamp = path.stat().st_mtime_ns
        path.write_bytes(b"longer than before")
        os.utime(path, ns=(stamp, stamp))
    elif change == "mtime":
        os.utime(path, (1, 1))
    elif change == "gone":
        path.unlink()
    with ResultLog(output, "other" if change == "settings" else "s") as log:
        assert log.pending(files[:1]) == files[:1]


def test_a_finished_log_is_sorted_and_names_each_file_once(output: Path, files: list[str]) -> None:
    with ResultLog(output, "s") as log:
        for path in (files[2], files[0], files[3]):
            log.append(ok(path, round=1))
        log.append(bad(files[1]))
        log.append(ok(files[1], round=2))
        assert len(lines(output)) == 5
        log.finish()
        assert [row["path"] for row in lines(output)] == files
        assert [row["path"] for row in log.rows()] == files
        log.append(ok(files[0], round=3))  # and it can still be written to
    assert lines(output)[-1]["round"] == 3
    assert sorted(p.name for p in output.parent.iterdir()) == ["scan.jsonl"]


def test_a_tidy_log_is_not_written_again(output: Path, files: list[str]) -> None:
    with ResultLog(output, "s") as log:
        for path in files:
            log.append(ok(path))
        before = output.stat().st_ino
        log.finish()
    assert output.stat().st_ino == before


@pytest.mark.parametrize(
    "torn", [b'{"schema": 1, "path": "x', b'{"schema": 1, "path": "x", "status": "ok"}', b"\0" * 700, b"{"]
)
@pytest.mark.parametrize("before", [0, 2])
def test_a_torn_last_line_is_cut_off(output: Path, files: list[str], torn: bytes, before: int) -> None:
    with ResultLog(output, "s") as log:
        for path in files[:before]:
            log.append(ok(path))
    whole = output.read_bytes()
    output.write_bytes(whole + torn)
    with ResultLog(output, "s") as log:
        assert log.repaired
        assert output.read_bytes() == whole
        log.append(ok(files[3]))
    assert [row["path"] for row in lines(output)] == [*files[:before], files[3]]


@pytest.mark.parametrize(
    "content", [b"dear diary\n", b"dear diary", b'{"a": 1}\n{"b": 2}\n', b"[1]\n", b"\xff\xfe\n\n", b'"text"\n']
)
def test_a_file_that_is_no_log_is_left_alone(output: Path, content: bytes) -> None:
    output.write_bytes(content)
    with pytest.raises(OutputError, match="not a result"):
        ResultLog(output, "s")
    assert output.read_bytes() == content


def test_damage_in_the_middle_is_not_cut_off(output: Path, files: list[str]) -> None:
    output.write_bytes(encode(ok(files[0])) + b"{garbage\n" + encode(ok(files[1])))
    with pytest.raises(OutputError, match="line 2"):
        ResultLog(output, "s")


def test_a_second_scan_into_the_same_file_is_refused(output: Path) -> None:
    with ResultLog(output, "s"), pytest.raises(OutputError, match="another scan"):
        ResultLog(output, "s")
    with ResultLog(output, "s"):
        pass


def test_the_lock_holds_across_processes_and_after_sorting(output: Path, files: list[str]) -> None:
    program = f"from grainscan.scan.log import ResultLog; ResultLog({str(output)!r}, 's')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with ResultLog(output, "s") as log:
        log.append(ok(files[1]))
        log.append(ok(files[0]))
        log.finish()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert "another scan is writing to it" in done.stderr


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        ResultLog(tmp_path / "nowhere" / "scan.jsonl", "s")
    with pytest.raises(OutputError, match="not a regular file"):
        ResultLog(tmp_path, "s")
    with pytest.raises(OutputError, match="not a regular file"):
        ResultLog("/dev/null", "s")


def test_a_full_disk_is_said(output: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with ResultLog(output, "s") as log, monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(OutputError, match="No space left"):
            log.append(ok(files[0]))


def test_names_of_every_kind_survive(output: Path, tmp_path: Path) -> None:
    paths = sorted(str(tmp_path / name) for name in ("a\nb.avi", "🎬.avi", "ö.avi", os.fsdecode(b"\xff\xe9.avi")))
    for path in paths:
        Path(path).touch()
    with ResultLog(output, "s") as log:
        for path in paths:
            log.append(ok(path))
    assert [row["path"] for row in lines(output)] == paths  # strict UTF-8, one line each
    assert "🎬" in output.read_text(encoding="utf-8")
    with ResultLog(output, "s") as log:
        assert log.pending(paths) == []


# --------------------------------------------------------------------------------------------- killed and restarted

SCRIPT = """
import sys
from grainscan.scan.inputs import collect
from grainscan.scan.log import ResultLog
from grainscan.scan.scanner import Scanner

model, folder, output = sys.argv[1:]
with Scanner(model, workers=2) as scanner, ResultLog(output, scanner.fingerprint) as log:
    print("ready", flush=True)
    for row in scanner.scan(log.pending(collect([folder]))):
        log.append(row)
    log.finish()
"""


def _killed_and_restarted(folder: Path, model: Path, output: Path, kills: int, seed: int, patience: float) -> int:
    """Run the scan, killing it at random moments, then to its end; how often it was really killed."""
    rng, killed = random.Random(seed), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, str(model), str(folder), str(output)]
    for _ in range(kills):
        before = output.stat().st_size if output.exists() else 0
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            until = time.monotonic() + 60
            while process.poll() is None and output.stat().st_size == before and time.monotonic() < until:
                time.sleep(0.01)
            try:
                process.wait(rng.uniform(0, patience))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return killed


def _compare_with_an_uninterrupted_scan(folder: Path, model: Path, output: Path) -> None:
    with Scanner(model, workers=2) as scanner, ResultLog(output.with_name("whole.jsonl"), scanner.fingerprint) as log:
        for row in scanner.scan(log.pending(sorted(str(path) for path in folder.iterdir()))):
            log.append(row)
        log.finish()
    expected = [plain(row) for row in lines(output.with_name("whole.jsonl"))]
    assert [plain(row) for row in lines(output)] == expected
    assert len({row["path"] for row in expected}) == len(expected) == len(list(folder.iterdir()))


def _library(folder: Path, clip: Path, count: int) -> None:
    folder.mkdir()
    content = clip.read_bytes()
    for number in range(count):
        (folder / f"{number:04}.avi").write_bytes(content if number % 40 else content[: len(content) // 50])


def test_a_scan_that_is_killed_again_and_again_ends_the_same(tmp_path: Path, make_clip: MakeClip, output: Path) -> None:
    folder, model = tmp_path / "library", write_toy_model(tmp_path / "model")
    _library(folder, make_clip("clip.avi", frames=4, width=64, height=48), 120)
    assert _killed_and_restarted(folder, model, output, kills=3, seed=0, patience=0.1) >= 1
    _compare_with_an_uninterrupted_scan(folder, model, output)


@pytest.mark.slow
def test_two_thousand_files_and_ten_kills(tmp_path: Path, make_clip: MakeClip, output: Path) -> None:
    folder, model = tmp_path / "library", write_toy_model(tmp_path / "model")
    _library(folder, make_clip("clip.avi", frames=4, width=64, height=48), 2000)
    assert _killed_and_restarted(folder, model, output, kills=10, seed=1, patience=0.7) == 10
    _compare_with_an_uninterrupted_scan(folder, model, output)
