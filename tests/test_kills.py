"""Random kills: nothing is lost, nothing is left behind, and what is resumed equals what was never interrupted.

`GRAINSCAN_TEST_KILLS=200 pytest tests/test_kills.py` kills as often as that, a third of it each command.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import scene_block
from scan_kit import plain, write_toy_model
from test_model import tiny

from grainscan.video import write_clip

KILLS = int(os.environ.get("GRAINSCAN_TEST_KILLS", "12")) // 3  # of each command
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")]


@dataclass
class Command:
    """A command that can be repeated after an interruption; `result` is what must be the same in the end."""

    args: list[str]
    output: Path  # in a folder of its own
    result: Callable[[Path], Any]
    again: tuple[str, ...] = ()  # options of a repetition


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for part, count in (("train", 8), ("val", 4)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            block = scene_block(frames=6, width=48, height=48, grain=8.0 * (i % 2), seed=i + len(part))
            write_clip(folder / part / f"{part}{i}.avi", block)
        labels = {f"{part}{i}.avi": i % 2 for i in range(count)}
        (folder / part / "labels.json").write_text(json.dumps(labels))
    return folder


def predict(tmp_path: Path, clips: Path, output: Path) -> Command:
    library = tmp_path / "library"
    if not library.exists():
        library.mkdir()
        data = (clips / "train" / "train1.avi").read_bytes()
        for number in range(150):
            (library / f"{number:03}.avi").write_bytes(data if number % 30 else data[:900])
    model = write_toy_model(tmp_path / "toy")

    def result(path: Path) -> Any:
        return [plain(json.loads(line)) for line in path.read_text().splitlines()]

    args = ["predict", str(library), "--model", str(model), "--workers", "2", "-o", str(output / "scan.jsonl")]
    return Command(args, output / "scan.jsonl", result)


def prep(tmp_path: Path, clips: Path, output: Path) -> Command:
    def result(path: Path) -> Any:
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in path.rglob("*") if p.is_file()}

    args = ["prep", str(clips / "train"), str(output / "clips"), "--size", "32", "--frames", "4", "--clips", "2"]
    return Command(args, output / "clips", result)


def train(tmp_path: Path, clips: Path, output: Path) -> Command:
    from grainscan.model.store import save

    if not (tmp_path / "tiny").exists():
        save(tiny("graininess"), tmp_path / "tiny", onnx=False)

    def result(path: Path) -> Any:
        metrics = json.loads((path / "metrics.json").read_text())
        del metrics["seconds"]
        return metrics, hashlib.sha256((path / "model" / "model.safetensors").read_bytes()).hexdigest()

    args = ["train", str(clips), "--model", str(tmp_path / "tiny"), "--runs", str(output), "--name", "run",
            "--device", "cpu", "--precision", "fp32", "--batch-size", "4", "--max-steps", "8", "--eval-every", "2",
            "--workers", "1"]  # fmt: skip
    return Command(args, output / "run", result, ("--resume", "auto"))


def start(command: Command, temporary: Path, again: bool) -> subprocess.Popen[str]:
    # Loaders make sockets there, and the path of a socket has at most 107 characters: a longer one hangs a training.
    assert len(f"{temporary}/pymp-12345678/listener-12345678") <= 107
    temporary.mkdir(exist_ok=True)
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "grainscan", *command.args, *(command.again if again else ())],
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def is_ready(process: int) -> bool:
    """Whether a process catches SIGTERM, which is so from the first lines of ours on."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def session(leader: int) -> Iterator[int]:
    """Processes of a session that still run."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            yield int(stat.parent.name)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def ends(process: subprocess.Popen[str]) -> bool:
    """Whether the whole session of a process is gone before long."""
    return wait_until(lambda: not [*session(process.pid)], 10)


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".tmp-") or path.suffix in (".tmp", ".old")]


def finish(command: Command, temporary: Path, again: bool) -> float:
    began = time.monotonic()
    process = start(command, temporary, again)
    said = process.communicate(timeout=300)[1]
    assert process.returncode in (0, 1), said  # 1: some files of the library are broken on purpose
    assert "Traceback" not in said
    assert ends(process)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("make", [predict, prep, train], ids=lambda make: make.__name__)
def test_random_kills(tmp_path: Path, clips: Path, make: Callable[[Path, Path, Path], Command]) -> None:
    rng = random.Random(f"{make.__name__}{KILLS}")
    temporary, whole, killed = tmp_path / "t", tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    command = make(tmp_path, clips, whole)
    duration = finish(command, temporary, False)
    usual = {path.name for path in temporary.iterdir()}  # of libraries, however a process ends
    expected = command.result(command.output)
    command = make(tmp_path, clips, killed)
    for number in range(KILLS):
        kind = SIGNALS[number % len(SIGNALS)]
        process = start(command, temporary, command.output.exists())
        assert wait_until(partial(is_ready, process.pid), 60)
        time.sleep(rng.uniform(0, duration))
        if rng.random() < 0.3 and kind != signal.SIGKILL:
            os.killpg(process.pid, kind)  # as a terminal does
        else:
            process.send_signal(kind)
        said = process.communicate(timeout=120)[1]
        code = process.returncode
        if code == -signal.SIGINT:  # Python ends so where native code saw the KeyboardInterrupt: 130 for a shell
            code = 130
        expected_codes = (0, -signal.SIGKILL) if kind == signal.SIGKILL else (0, 130)
        assert code in expected_codes or (code == 1 and make is predict), (kind, code, said)
        assert ("interrupted" in said) == (code == 130), said
        noise = ("Traceback", "Exception ignored", "leaked")
        assert kind == signal.SIGKILL or not any(word in said for word in noise), said
        assert ends(process), [*session(process.pid)]
        if kind != signal.SIGKILL:
            assert leftovers(tmp_path) == []
            assert {path.name for path in temporary.iterdir()} <= usual, (kind, code, said)
        else:
            shutil.rmtree(temporary)  # libraries keep folders there, which a process that is killed outright leaves
        if code == 0 and make is not predict:  # it was done: the next one begins anew
            command = make(tmp_path, clips, killed := tmp_path / f"killed{number}")
            killed.mkdir()
    finish(command, temporary, command.output.exists())
    assert command.result(command.output) == expected
    assert leftovers(killed) == []
