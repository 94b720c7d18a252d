"""The examples that measure training: what they put into clips, whom they choose, and what they report."""

from __future__ import annotations

import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeClip
from rich.console import Console

from grainscan.data.labels import read_labels, write_labels
from grainscan.data.manifest import write_manifest
from grainscan.video import read_clip

EXAMPLES = Path(__file__).parents[1] / "examples"
EMBEDDED = EXAMPLES / "embedded"


@pytest.fixture
def teach(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EMBEDDED))
    return importlib.import_module("teach")


def correlation(field: np.ndarray[Any, Any], axis: int, lag: int) -> float:
    """Of samples `lag` apart along an axis."""
    first = np.take(field, range(field.shape[axis] - lag), axis=axis)
    second = np.take(field, range(lag, field.shape[axis]), axis=axis)
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_tape_noise_lies_along_the_line_and_nowhere_else(teach: Any) -> None:
    tape = teach.Tape(sigma=4.0, length=20.0, level=0.0, dropouts=0.0)
    noise = tape.field((6, 96, 256), np.random.default_rng(0))
    assert noise.std() == pytest.approx(4.0, rel=0.05)
    assert correlation(noise, 2, 5) > 0.7  # a streak
    assert correlation(noise, 2, 60) < 0.2
    assert abs(correlation(noise, 1, 1)) < 0.1  # the next line
    assert abs(correlation(noise, 0, 1)) < 0.1  # the next picture


def test_lines_waver_and_dropouts_have_tails(teach: Any) -> None:
    wavering = teach.Tape(0.0, 20.0, 2.0, 0.0).field((4, 64, 64), np.random.default_rng(1))
    assert np.ptp(wavering, axis=2).max() == 0
    assert wavering[:, :, 0].std() == pytest.approx(2.0, rel=0.2)
    comets = teach.Tape(0.0, 20.0, 0.0, 2.0).field((10, 64, 64), np.random.default_rng(2))
    heads = np.argwhere(comets > 50)
    assert len(heads) > 0
    assert (comets >= 0).all()
    assert (comets > 0).mean() < 0.05


def test_a_pair_is_encoded_alike_and_the_noise_survives(teach: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    scene = make_clip("scene.avi", width=160, height=112, frames=8)
    clean, noisy = teach.pair("scene", scene)
    entries = [teach.make(clip, tmp_path)[clip.name] for clip in (clean, noisy)]
    assert [entry["labels"] for entry in entries] == [{"graininess": 0}, {"graininess": 1}]
    assert {entry["source"] for entry in entries} == {"scene"}
    assert entries[0]["strength"] == {"graininess": 0.0}
    assert entries[1]["strength"]["graininess"] > 1.5
    pictures = [read_clip(tmp_path / clip.name).luma8().astype(float) for clip in (clean, noisy)]
    assert (pictures[1] - pictures[0]).std() > 1.5


def test_forty_scenes_are_taught_half_of_them_noisy(teach: Any, tmp_path: Path) -> None:
    found = [(f"scene{number}", tmp_path / f"{number}.mkv") for number in range(60)]
    chosen = teach.footage(found)
    assert len({clip.source for clip in chosen}) == teach.LABELLED
    assert sum(clip.noisy for clip in chosen) == teach.LABELLED // 2
    assert chosen == teach.footage(found[::-1])


def test_before_and_after_are_compared_on_the_same_clips(
    teach: Any, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"clip{number}.avi" for number in range(9)]
    labels = {name: {"graininess": number % 2} for number, name in enumerate(names[:8])} | {names[8]: {}}
    entries = {name: {"source": name, "labels": labels[name] or {"graininess": None}} for name in names}
    for name in names:
        make_clip(f"set/{name}", width=32, height=32, frames=2)
    write_labels(tmp_path / "set", {name: entry["labels"] for name, entry in entries.items()})
    write_manifest(tmp_path / "set", {"schema": 1, "clips": entries})
    said = {"small": [0.1, 0.9] * 2 + [0.9, 0.1] * 2, "taught": [0.1, 0.9] * 4}
    monkeypatch.setattr(teach, "judged", lambda folder, names, model: said[str(model)][: len(list(names))])
    found = teach.compared(tmp_path / "set", "taught")
    assert found["clips"] == len(read_labels(tmp_path / "set").clips) - 1
    assert (found["before"]["auroc"], found["after"]["auroc"], found["change"]["auroc"]) == (0.5, 1.0, 0.5)
    low, high = found["change"]["ci95"]
    assert low <= 0.5 <= high


def test_clips_are_judged_in_their_order_and_figures_shown(teach: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    names = ["b.avi", "a.avi"]
    for name, grain in zip(names, (0.0, 12.0), strict=True):
        make_clip(name, width=64, height=64, frames=8, grain=grain)
    clean, grainy = teach.judged(tmp_path, names, "small")
    assert clean < grainy
    figure = {"auroc": 0.5, "ci95": [0.25, 0.75]}
    found = {"clips": 8, "scenes": 4, "before": figure, "after": figure, "change": {"auroc": -0.01, "ci95": None}}
    console = Console(record=True, width=140, file=io.StringIO())
    cost = {"seconds": 90.0, "processor_seconds": 120.0}
    teach.show({"tape": {**found, "surviving": 2.5}, "old": found, "training": cost}, console)
    said = console.export_text()
    assert "tape noise (8 of 4)" in said
    assert "0.500 [0.250, 0.750]" in said
    assert "-0.010" in said
    assert "1.5 minutes, 2.0 of processor time" in said


@pytest.mark.slow
def test_the_benchmark_of_training_reports_every_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EMBEDDED))
    benchmark = importlib.import_module("benchmark_training")
    monkeypatch.setattr(benchmark, "CLIPS", 4)
    monkeypatch.setenv("GRAINSCAN_CACHE_DIR", str(tmp_path / "cache"))  # put back afterwards
    output = tmp_path / "training.json"
    flags = ["--steps", "3", "--rounds", "2", "--batch-size", "2", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["benchmark_training.py", *flags])
    benchmark.main()
    assert "train / bare loop" in capsys.readouterr().out
    report = json.loads(output.read_text())
    assert len(report["rounds"]) == 2
    for each in [*report["rounds"], report["median"]]:
        assert min(each["loader"], each["train"], each["bare"]) > 0
    for each in report["rounds"]:
        assert each["ratio"] == pytest.approx(each["train"] / each["bare"])


def test_a_report_takes_the_rows_of_its_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(EMBEDDED))
    monkeypatch.chdir(tmp_path)
    report = importlib.import_module("protocol_report")
    rows = [
        {"path": "here/qp22/a.mp4", "status": "ok"},
        {"path": str(tmp_path / "elsewhere" / "qp22" / "a.mp4"), "status": "ok"},
        {"path": str(tmp_path / "here" / "qp22" / "b.mp4"), "status": "error"},
    ]
    assert report.rows_of(Path("here"), rows) == {"qp22/a.mp4": rows[0]}
