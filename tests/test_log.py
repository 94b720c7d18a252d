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

import corpus
import pytest
from conftest import MakeClip
from scan_kit import plain, write_toy_model

from grainscan.errors import OutputError, UsageError
from grainscan.scan.log import ResultLog, encode
from grainscan.scan.scanner import Scanner


def ok(path: Path | str, **more: Any) -> dict[str, Any]:
    status = Path(path).stat()
    return {
        "schema": 1,
        "path": str(path),
        "status": "ok",
        "model": "toy",
        "tasks": {"graininess": {"label": 1, "probability": 0.9, "threshold": 0.5}},
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


@pytest.mark.parametrize("change", ["size", "mtime", "gone"])
def test_a_file_that_has_changed_is_done_again(output: Path, files: list[str], change: str) -> None:
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
    with ResultLog(output, "s") as log:
        assert log.pending(files[:1]) == files[:1]


def test_results_of_another_model_are_replaced_on_request_only(output: Path, files: list[str]) -> None:
    with ResultLog(output, "s", model="toy") as log:
        for path in files[:2]:
            log.append(ok(path))
        log.append(bad(files[2]))
    before = output.read_bytes()
    with ResultLog(output, "t", model="other") as log:
        with pytest.raises(
            UsageError, match="2 of its results were made with model toy, this scan uses other"
        ) as caught:
            log.pending(files)
        assert "--overwrite" in caught.value.hint
        assert log.pending(files[2:]) == files[2:]  # what failed, or was never judged, is nobody's
    with ResultLog(output, "t", model="toy") as log, pytest.raises(UsageError, match="other options or weights"):
        log.pending(files)
    assert output.read_bytes() == before
    with ResultLog(output, "t", model="other", overwrite=True) as log:
        assert log.pending(files[:1]) == files[:1]
        log.append({**ok(files[0]), "model": "other"})
        log.finish()
    with ResultLog(output, "t", model="other", overwrite=True) as log:  # interrupted: it goes on where it was
        assert log.pending(files) == files[1:]
    assert [row.get("model") for row in lines(output)] == ["other", "toy", None]


def test_a_log_answers_for_the_files_of_this_call(output: Path, files: list[str]) -> None:
    with ResultLog(output, "s") as log:
        log.append(bad(files[3]))
        log.append(ok(files[0]))
        log.finish()
        assert [row["path"] for row in log.rows([files[0], files[1], files[0]])] == files[:1]
        assert [row["path"] for row in log.rows()] == [files[0], files[3]]
    assert len(lines(output)) == 2  # the others stay in the file


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


@pytest.mark.parametrize("torn", [b'{"schema": 1, "path": "x', b'{"schema": 1, "pa\0\0\0\0', b"\0" * 700, b"{"])
@pytest.mark.parametrize("before", [0, 2])
def test_a_torn_last_line_is_cut_off(
    output: Path, files: list[str], torn: bytes, before: int, caplog: pytest.LogCaptureFixture
) -> None:
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
    assert f"line {before + 1} was torn" in caplog.text


def test_a_row_that_lacks_its_line_end_alone_is_kept(output: Path, files: list[str]) -> None:
    with ResultLog(output, "s") as log:
        log.append(ok(files[0]))
    whole = output.read_bytes()
    output.write_bytes(whole[:-1])
    with ResultLog(output, "s") as log:
        assert log.repaired
        log.append(ok(files[1]))
    assert output.read_bytes().startswith(whole)
    assert [row["path"] for row in lines(output)] == files[:2]


@pytest.mark.parametrize(
    "content", [b"dear diary\n", b"dear diary", b'{"a": 1}\n{"b": 2}\n', b"[1]\n", b"\xff\xfe\n\n", b'"text"\n']
)
@pytest.mark.parametrize("before", [0, 2])
def test_what_is_not_a_result_is_left_alone(output: Path, files: list[str], content: bytes, before: int) -> None:
    with ResultLog(output, "s") as log:
        for path in files[:before]:
            log.append(ok(path))
    content = output.read_bytes() + content
    output.write_bytes(content)
    with pytest.raises(OutputError, match=f"line {before + 1} is not a result"):
        ResultLog(output, "s")
    assert output.read_bytes() == content


@pytest.mark.parametrize("broken", corpus.broken_rows(), ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_rows_that_are_none_are_refused_with_their_line(
    output: Path, files: list[str], broken: bytes, last: bool
) -> None:
    row = encode(ok(files[0]))
    output.write_bytes(row + broken + (b"" if last else row))
    with pytest.raises(OutputError, match=r"line 2 is not a result of grainscan: \w+"):
        ResultLog(output, "s")


def test_a_log_that_others_touch_during_a_scan_is_an_error_at_once(output: Path, files: list[str]) -> None:
    def cut() -> None:
        os.truncate(output, 10)

    def replace() -> None:
        output.unlink()
        output.write_text("new\n")

    def move() -> None:
        output.rename(output.with_name("elsewhere"))

    def extend() -> None:
        with output.open("ab") as file:
            file.write(b"{}\n")

    cases = {
        "was deleted or replaced, and 1 result with it": output.unlink,
        "10 bytes instead of": cut,
        "deleted or replaced": replace,
        "was moved": move,
        "changed by another program": extend,
    }
    for message, change in cases.items():
        output.unlink(missing_ok=True)
        with ResultLog(output, "s") as log:
            log.append(ok(files[0]))
            change()
            for attempt in (lambda: log.append(ok(files[1])), log.finish, lambda: list(log.rows())):
                with pytest.raises(OutputError, match=message):
                    attempt()


def test_a_log_behind_a_link_stays_behind_it(output: Path, files: list[str], tmp_path: Path) -> None:
    real = tmp_path / "real.jsonl"
    real.touch(mode=0o600)
    output.symlink_to(real)
    with ResultLog(output, "s") as log:
        log.append(ok(files[1]))
        log.append(ok(files[0]))
        log.finish()
    assert output.is_symlink()
    assert [row["path"] for row in lines(real)] == files[:2]
    assert real.stat().st_mode & 0o777 == 0o600


def test_the_sorted_copy_of_a_killed_scan_is_removed(output: Path, files: list[str]) -> None:
    output.touch()
    (output.parent / f".tmp-{output.stat().st_ino:x}").write_bytes(b"half")
    with ResultLog(output, "s"):
        pass
    assert [path.name for path in output.parent.iterdir()] == [output.name]


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
    with pytest.raises(OutputError, match="Is a directory"):
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


def _killed_and_restarted(folder: Path, model: Path, output: Path, kills: int, seed: int, reach: int) -> int:
    """Run the scan, killing it when its log has grown by up to `reach` bytes, then to its end; the number of kills."""
    rng, killed = random.Random(seed), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, str(model), str(folder), str(output)]
    for _ in range(kills):
        wanted = rng.randint(1, reach) + (output.stat().st_size if output.exists() else 0)
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while process.poll() is None and output.stat().st_size < wanted:
                time.sleep(0.002)
            if process.poll() is None:
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


@pytest.mark.slow
def test_a_scan_that_is_killed_again_and_again_ends_the_same(tmp_path: Path, make_clip: MakeClip, output: Path) -> None:
    folder, model = tmp_path / "library", write_toy_model(tmp_path / "model")
    _library(folder, make_clip("clip.avi", frames=4, width=64, height=48), 120)
    assert _killed_and_restarted(folder, model, output, kills=3, seed=0, reach=8_000) == 3
    _compare_with_an_uninterrupted_scan(folder, model, output)


@pytest.mark.slow
def test_two_thousand_files_and_ten_kills(tmp_path: Path, make_clip: MakeClip, output: Path) -> None:
    folder, model = tmp_path / "library", write_toy_model(tmp_path / "model")
    _library(folder, make_clip("clip.avi", frames=4, width=64, height=48), 2000)
    assert _killed_and_restarted(folder, model, output, kills=10, seed=1, reach=60_000) == 10
    _compare_with_an_uninterrupted_scan(folder, model, output)
