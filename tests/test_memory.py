"""Memory: files that need little are judged, files that need too much are one clear row, in whatever order they come.

The files are small kin of those in `corpus`, and the limit is lower: what 8K does to 1.5 GB, HD does to 200 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import scene_block
from corpus import ODD, compressed_header, encoded, gif
from scan_kit import plain, write_toy_model
from typer.testing import CliRunner

from grainscan.cli.app import app
from grainscan.errors import ConfigError
from grainscan.options import PredictConfig, ScanConfig
from grainscan.scan.scanner import Scanner
from grainscan.video import write_clip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")

TOO_MUCH = {"references.mkv", "large.gif", "header.mov"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    write_clip(folder / "hd.mkv", scene_block(20, 1920, 1080), codec="h264", gop=10, speed=2)
    write_clip(folder / "small.avi", scene_block())
    return [
        encoded(folder / "references.mkv", 2560, 1440, 22, "yuv420p10le", 16),  # pictures of 11 MB
        gif(folder / "large.gif", 3840, 2160, 10),  # pictures of 25 MB, and of 33 MB before conversion
        gif(folder / "medium.gif", 1280, 720, 10),
        compressed_header(folder / "header.mov", 0x40000000),
        folder / "hd.mkv",
        folder / "small.avi",
    ]


PROGRAM = """
import json, sys
from grainscan import Scanner

model, workers, memory, *paths = sys.argv[1:]
with Scanner(model, workers=int(workers), memory=float(memory), windows=6) as scanner:
    for row in scanner.scan(2 * paths):
        print(json.dumps(row))
"""


def scan(model: Path, paths: list[Path], workers: int, memory: float = ScanConfig.memory) -> list[dict[str, Any]]:
    """The rows of the files, each twice, from a process that has no memory left over from making them."""
    command = [sys.executable, "-c", PROGRAM, str(model), str(workers), str(memory), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_the_verdict_is_the_same_in_every_order_and_number_of_workers(model: Path, files: list[Path]) -> None:
    verdicts: dict[str, set[str]] = {path.name: set() for path in files}
    for workers in (0, 1, 2):
        for order in (1, -1):
            rows = scan(model, files[::order], workers, 0.2)
            assert len(rows) == 2 * len(files)
            for row in rows:
                verdicts[Path(row["path"]).name].add(repr(plain(row)))
    for name, seen in verdicts.items():
        (row,) = seen  # one verdict
        assert ("needs more memory than a worker may use (0.2 GB)" in row) == (name in TOO_MUCH), row
        assert ("--memory" in row) == (name in TOO_MUCH)


@pytest.mark.slow
def test_more_memory_can_be_allowed(model: Path, files: list[Path]) -> None:
    with Scanner(model, workers=2, memory=1.0) as scanner:
        rows = {Path(row["path"]).name: row for row in scanner.scan(files)}
    assert {name for name, row in rows.items() if row["status"] == "error"} == {"header.mov"}


@pytest.mark.slow
def test_a_part_of_a_file_is_no_verdict(model: Path, files: list[Path]) -> None:
    """The first windows of a file may fit; what was said of them is not the verdict on the file."""
    with Scanner(model, workers=1, memory=0.2, windows=6) as scanner:
        (row,) = scanner.scan(files[:1])
    assert row["status"] == "error" and "tasks" not in row


def test_a_limit_that_leaves_no_room_is_refused(model: Path, files: list[Path]) -> None:
    for memory in (0.0, 0.1, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="memory is"):
            Scanner(model, memory=memory)
    config = PredictConfig(model=str(model), memory=0.7)
    assert Scanner.from_config(config).job.memory == 0.7e9
    result = CliRunner().invoke(app, ["predict", str(files[-1]), "--model", str(model), "--memory", "0.1"])
    assert result.exit_code == 2 and "memory is 0.1 GB" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("hevc_8k_16_references", "ok"),
        ("hevc_8k_16_references_10_bits", "error"),
        ("gif_8k", "ok"),
        ("huge_compressed_header", "error"),
    ],
)
def test_the_default_limit(model: Path, tmp_path: Path, name: str, status: str) -> None:
    path = ODD[name](tmp_path)
    for workers in (0, 1):
        row, again = scan(model, [path], workers)
        assert plain(row) == plain(again)
        assert row["status"] == status, row
        if status == "error":
            assert "needs more memory than a worker may use (1.5 GB)" in row["error"]["message"]
