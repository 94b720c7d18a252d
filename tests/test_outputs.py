"""Writing whole files to wherever a user points."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import MakeClip
from scan_kit import write_toy_model

from grainscan.data.prep import prepare
from grainscan.errors import OutputError, UsageError
from grainscan.files import check_folder, check_output, replacing, write_text
from grainscan.options import PrepConfig
from grainscan.report import save


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".xdg")


def test_a_link_stays_and_its_target_gets_the_content(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "real.csv", tmp_path / "link.csv"
    link.symlink_to("far/real.csv")
    write_text(link, "one")  # a dangling link makes its target
    inode = target.stat().st_ino
    write_text(link, "two")
    assert link.is_symlink()
    assert target.read_text() == "two"
    assert target.stat().st_ino != inode  # replaced as a whole, not written over
    assert names(tmp_path) == ["far", "link.csv"]
    assert names(tmp_path / "far") == ["real.csv"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_permissions_and_owner_are_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.csv"
    path.touch()
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    write_text(path, "new")
    after = path.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (mode, before.st_uid, before.st_gid)


def test_a_new_file_gets_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_text(tmp_path / "a.csv", "new")
    assert (tmp_path / "a.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("form", ["json", "csv", "html", "jsonl"])
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path, form: str) -> None:
    pipe, received = tmp_path / f"pipe.{form}", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    save([], pipe, form, tasks=["graininess"])
    reader.join(10)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    save([], tmp_path / "file", form, tasks=["graininess"])
    assert received == [(tmp_path / "file").read_text()]


def test_the_command_line_writes_rows_into_a_pipe(tmp_path: Path, make_clip: MakeClip) -> None:
    pipe, model = tmp_path / "pipe.jsonl", write_toy_model(tmp_path / "model")
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "grainscan", "predict", str(make_clip("a.avi")), "--model", str(model), "-o"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([*command, str(pipe)], env=environment, stderr=subprocess.DEVNULL) as process:
        rows = [json.loads(line) for line in pipe.read_text().splitlines()]
    assert process.returncode == 0
    assert [row["path"] for row in rows] == [str(tmp_path / "a.avi")]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    device = Path("/dev/null")
    if os.geteuid() == 0:  # root could really replace it
        device = tmp_path / "null"
        try:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            device.write_text("")
        except OSError:
            pytest.skip("no devices can be made here")
    before = device.stat()
    for form in ("json", "csv", "html", "jsonl"):
        save([], device, form, tasks=["graininess"])
    write_text(device, "text")
    assert (device.stat().st_ino, device.stat().st_rdev) == (before.st_ino, before.st_rdev)


def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        tmp_path: "Is a directory",
        tmp_path / "none" / "a.csv": "no such folder",
        tmp_path / "file" / "a.csv": "no such folder",
        tmp_path / "loop": "symbolic links",
        tmp_path / "nul\0": "null",
    }
    for path, message in cases.items():
        with pytest.raises(UsageError, match=message) as caught:
            check_output(path)
        assert caught.value.hint
    for path in (tmp_path / "a.csv", tmp_path / "file", Path("/dev/null"), Path("a.csv")):
        check_output(path)
    assert names(tmp_path) == ["file", "loop"]
    monkeypatch.setattr("os.access", lambda path, mode: str(path) != str(tmp_path))
    with pytest.raises(UsageError, match="Permission denied") as caught:
        check_output(tmp_path / "a.csv")
    assert "permission" in caught.value.hint and "space" not in caught.value.hint


def test_a_folder_that_cannot_be_made_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b", tmp_path / "dangling", tmp_path / "dangling" / "a"):
        with pytest.raises(UsageError, match="Not a directory"):
            check_folder(path)
    for path in (tmp_path, tmp_path / "a" / "b", Path("a")):
        check_folder(path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UsageError, match="Permission denied"):
        check_folder(tmp_path / "a" / "b")
    with pytest.raises(UsageError, match="Permission denied"):
        prepare(PrepConfig(sources=(tmp_path / "nothing.avi",), destination=tmp_path / "clips"))


def test_nothing_is_left_behind_by_what_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(OutputError, match="No space left"):
        write_text(Path("/dev/full"), "text")
    assert names(tmp_path) == ["a.csv"]
    assert path.read_text() == "before"
